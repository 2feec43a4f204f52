"""The counted code: one self-contained `train_gpt.py` made from the modules that train and score.

The modules' top-level statements are joined in import order; their names are unique, so that no meaning changes.
python-minifier then shortens what only people read. The same configuration makes the same bytes, whatever
its seed: the seeds of a study ran one file, which takes the seed as an argument.
"""

import ast
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, to_plain

try:
    import python_minifier
except ModuleNotFoundError:
    python_minifier = None  # type: ignore[assignment]

COUNTED = (
    "golf.runtime.errors",
    "golf.runtime.files",
    "golf.runtime.tensors",
    "golf.config.config",
    "golf.config.identity",
    "golf.config.schedule",
    "golf.runtime.process_group",
    "golf.runtime.results",
    "golf.data.shards",
    "golf.data.batches",
    "golf.data.token_bytes",
    "golf.data.dataset",
    "golf.model.layers",
    "golf.model.gepa",
    "golf.model.compile",
    "golf.train.muon",
    "golf.train.param_groups",
    "golf.train.train_state",
    "golf.train.oom",
    "golf.train.loop",
    "golf.train.microbatching",
    "golf.train.checkpoint_policy",
    "golf.train.run_log",
    "golf.train.hooks",
    "golf.train.train_log",
    "golf.artifact.codec",
    "golf.artifact.rans",
    "golf.artifact.entropy_model",
    "golf.artifact.quantizer",
    "golf.artifact.gptq",
    "golf.artifact.container",
    "golf.artifact.pack",
    "golf.artifact.calibration",
    "golf.evaluate.windows",
    "golf.evaluate.sliding",
    "golf.evaluate.ttt",
    "golf.evaluate.chunk_checkpoint",
    "golf.pipeline.run_directory",
    "golf.pipeline.identity",
    "golf.pipeline.stage_context",
    "golf.pipeline.train_stage",
    "golf.pipeline.pack_stage",
    "golf.pipeline.evaluation",
    "golf.pipeline.stages",
    "golf.pipeline.standalone",
)
"""The modules in import order."""


def bundle(config: RunConfig, modules: tuple[str, ...] = COUNTED, minified: bool = True) -> str:
    """Returns the source of `train_gpt.py` for `config`, its seed left out.

    Args: minified: as it is shipped and counted; False: as it is before, for readers.
    Raises: ValueError when two modules share a top-level name or one imports from a later or uncounted one, or when
        python-minifier is missing: the size would be another.
    """
    plain = _differences(to_plain(replace(config, seed=RunConfig().seed)), to_plain(RunConfig()))
    settings = f"CONFIG={plain!r}"
    main = 'if __name__=="__main__":main(CONFIG)' if "golf.pipeline.standalone" in modules else ""
    return "\n".join([_joined(modules, minified), settings, main]).rstrip() + "\n"


def counted_code(config: RunConfig) -> bytes:
    """Returns the counted code as it is shipped."""
    return bundle(config).encode()


def code_bytes(config: RunConfig) -> int:
    """Returns the size of the counted code."""
    return len(counted_code(config))


@cache
def _joined(modules: tuple[str, ...], minified: bool) -> str:
    """Returns the modules as one."""
    if python_minifier is None:
        raise ValueError("making the counted code needs python-minifier: pip install python-minifier==3.4.0")
    imports: dict[str, str] = {}
    statements: list[ast.stmt] = []
    owners: dict[str, str] = {}
    for position, module in enumerate(modules):
        tree = ast.parse(_source(module))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("golf"):
                _check_import(node, module, modules[:position])
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for name, source, line in _bound(node, module):
                    if owners.setdefault(name, source) != source:
                        raise ValueError(f"top-level name {name} is in {owners[name]} and {module}; rename one")
                    imports[line] = name
            elif not _is_text(node):
                for name in _defined(node):
                    if owners.setdefault(name, module) != module:
                        raise ValueError(f"top-level name {name} is in {owners[name]} and {module}; rename one")
                statements.append(node)
    body = _reached(statements, not minified) if "golf.pipeline.standalone" in modules else statements
    used = {name for node in body for name in _names(node, not minified)}
    needed = sorted(line for line, name in imports.items() if name in used)
    joined = "\n".join([*needed, *(ast.unparse(node) for node in body)])
    if not minified:
        return joined
    public = [name for name in owners if not name.startswith("_")]
    return str(
        python_minifier.minify(joined, remove_literal_statements=True, rename_globals=True, preserve_globals=public)
    )


def _reached(statements: list[ast.stmt], annotations: bool) -> list[ast.stmt]:
    """Returns the statements without the definitions that `main` never reaches."""
    reached, names = [node for node in statements if not _defined(node) or "main" in _defined(node)], set[str]()
    while True:
        names |= {name for node in reached for name in _names(node, annotations)}
        more = [node for node in statements if node not in reached and names.intersection(_defined(node))]
        if not more:
            return [node for node in statements if node in reached]
        reached += more


def _names(node: ast.AST, annotations: bool, parent: ast.AST | None = None) -> Iterator[str]:
    """Yields the names that a statement uses; without `annotations`, not those that python-minifier removes."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        removed = field == "returns" or (field == "annotation" and not isinstance(parent, ast.ClassDef))
        if annotations or not removed:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _names(child, annotations, node)


def _source(module: str) -> str:
    root = Path(__file__).resolve().parents[2]
    return root.joinpath(*module.split(".")).with_suffix(".py").read_text()


def _check_import(node: ast.ImportFrom, module: str, earlier: tuple[str, ...]) -> None:
    if node.module not in earlier or any(alias.asname for alias in node.names):
        raise ValueError(f"{module} line {node.lineno}: import from {node.module} must be of an earlier counted module")


def _bound(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[tuple[str, str, str]]:
    """Yields each name that an external import binds, what it stands for, and an import of it alone."""
    for alias in node.names:
        top, imported = alias.name.split(".")[0], f"{alias.name} as {alias.asname}" if alias.asname else alias.name
        if isinstance(node, ast.ImportFrom):
            line = f"from {node.module} import {imported}"
            yield alias.asname or alias.name, f"{node.module}.{alias.name}", line
        elif top == "golf":
            raise ValueError(f'{module} line {node.lineno}: write "from {alias.name} import ..." for modules of golf')
        else:
            yield alias.asname or top, alias.name if alias.asname else top, f"import {imported}"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Try):  # an import with its fallback
        parts = [*node.body, *(part for handler in node.handlers for part in handler.body)]
        return [name for part in parts for name in _defined(part)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _differences(plain: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of `plain` that `base` does not already have."""
    differing = {}
    for name, value in plain.items():
        if isinstance(value, dict) and isinstance(base[name], dict):
            value = _differences(value, base[name])  # noqa: PLW2901
            if value:
                differing[name] = value
        elif value != base[name]:
            differing[name] = value
    return differing
