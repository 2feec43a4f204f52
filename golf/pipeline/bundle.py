"""The counted code: one self-contained `train_gpt.py` made from the modules that train and score.

The modules' top-level statements are joined in import order; their names are unique, so that no meaning changes. What
the configuration does not use is left out, python-minifier shortens what only people read, and the file holds the rest
packed. The same configuration makes the same bytes, whatever its seed: the seeds of a study ran one file, which takes
the seed as an argument.
"""

import ast
import base64
import lzma
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from golf.config.config import RunConfig, from_plain, to_plain
from golf.pipeline.parameters import with_short_parameters
from golf.pipeline.specialise import reached, specialise
from golf.pipeline.syntax import defined, is_text, used, without_field_types, without_nested_quotes, without_texts
from golf.pipeline.template import Template, numbered
from golf.pipeline.unchecked import without_checks

try:
    import python_minifier
except ModuleNotFoundError:
    python_minifier = None  # type: ignore[assignment]

COUNTED = (
    "golf.runtime.errors",
    "golf.runtime.files",
    "golf.runtime.tensors",
    "golf.config.config",
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
    "golf.train.run_log",
    "golf.artifact.codec",
    "golf.artifact.rans",
    "golf.artifact.entropy_model",
    "golf.artifact.quantizer",
    "golf.artifact.correction",
    "golf.artifact.gptq",
    "golf.artifact.container",
    "golf.artifact.pack",
    "golf.artifact.calibration",
    "golf.evaluate.windows",
    "golf.evaluate.sliding",
    "golf.evaluate.ttt",
    "golf.pipeline.standalone",
)
"""The modules in import order."""


UNCHECKED = ("golf.config.", "golf.artifact.", "golf.model.", "golf.runtime.tensors")
"""Modules whose checks are left out: of a configuration, which is checked here, and of files that the program itself
wrote."""
ROOTS = ("main", "build_model")
"""Names of the shipped file that others use, beside CONFIG."""
PACKING = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20, "lc": 3, "lp": 0, "pb": 0, "mode": lzma.MODE_NORMAL} | {
    "nice_len": 273,
    "mf": lzma.MF_BT4,
    "depth": 1000,
}
"""Of raw LZMA2, every choice named; of lc, lp and pb the best for this text."""


def bundle(config: RunConfig, modules: tuple[str, ...] = COUNTED, minified: bool = True) -> str:
    """Returns the source that `train_gpt.py` unpacks and runs for `config`, its seed left out.

    Args: minified: as it is packed; False: all of it, as it was written, for its size alone.
    Raises: ValueError when two modules share a top-level name or one imports from a later or uncounted one, or when
        python-minifier is missing: the size would be another.
    """
    plain = to_plain(replace(config, seed=RunConfig().seed))
    same, whole = from_plain(RunConfig, plain), "golf.pipeline.standalone" in modules
    main = 'if __name__=="__main__":main(CONFIG)' if whole else ""
    program = _program(modules, same) if whole and minified else _library(modules, minified)
    return "\n".join([program, f"CONFIG={plain!r}", main]).rstrip() + "\n"


def packed(source: str) -> bytes:
    """Returns a Python file that unpacks `source` and runs it; tracebacks name its lines in the unpacked text.

    The same text gives the same bytes with the same liblzma. Its encoder has not changed its choices for years, but
    does not promise it.
    """
    squeezed = lzma.compress(source.encode(), lzma.FORMAT_RAW, filters=[PACKING])
    text = base64.b85encode(squeezed).decode()  # on a line of its own, which no traceback shows
    unpacked = 'lzma.decompress(base64.b85decode(s),3,None,[{"id":33}])'
    return f'import base64,lzma\ns="{text}"\nexec(compile({unpacked},"train_gpt.py","exec"))\n'.encode()


@lru_cache(maxsize=32)
def counted_code(config: RunConfig) -> bytes:
    """Returns the counted code as it is shipped."""
    return packed(bundle(config))


def code_bytes(config: RunConfig) -> int:
    """Returns the size of the counted code."""
    return len(counted_code(config))


def _program(modules: tuple[str, ...], config: RunConfig) -> str:
    """Returns the minified program of `config`; that of an earlier one that it shares is filled in."""
    found = next((each for each in _templates.setdefault(modules, []) if each.serves(config)), None)
    if found is None:
        own = numbered(config)
        found = Template(_joined(modules, True, own), own)
        _templates[modules].append(found)
    return found.filled(config, _written)


_templates: dict[tuple[str, ...], list[Template]] = {}
"""Programs that were made by this process, by their modules."""


@cache
def _written(number: int | float) -> str:
    """Returns the shortest literal of a number."""
    text = str(python_minifier.minify(f"x={number!r}")).strip().removeprefix("x=")
    return f"({text})" if number < 0 else text


@cache
def _library(modules: tuple[str, ...], minified: bool) -> str:
    """Returns the modules as one, of which nothing depends on a configuration."""
    return _joined(modules, minified, RunConfig())


def _joined(modules: tuple[str, ...], minified: bool, config: RunConfig) -> str:
    """Returns the modules as one; a whole program that is minified has only what `config` uses."""
    if python_minifier is None:
        raise ValueError("making the counted code needs python-minifier: pip install python-minifier==3.4.0")
    imports: dict[str, str] = {}
    body: list[ast.stmt] = []
    owners: dict[str, str] = {}
    whole = "golf.pipeline.standalone" in modules
    for position, module in enumerate(modules):
        statements = []
        for node in ast.parse(_source(module)).body:
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("golf"):
                _check_import(node, module, modules[:position])
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for name, source, line in _bound(node, module):
                    if owners.setdefault(name, source) != source:
                        raise ValueError(f"top-level name {name} is in {owners[name]} and {module}; rename one")
                    imports[line] = name
            elif not is_text(node):
                for name in defined(node):
                    if owners.setdefault(name, module) != module:
                        raise ValueError(f"top-level name {name} is in {owners[name]} and {module}; rename one")
                statements.append(node)
        statements = without_texts(statements) if minified else statements
        unchecked = whole and minified and module.startswith(UNCHECKED)
        body += without_checks(statements) if unchecked else statements
    if whole:
        body = specialise(body, config, ROOTS) if minified else reached(body, ROOTS, annotations=True)
    if whole and minified:
        body = reached(without_field_types(body), ROOTS)
    used_names = {name for node in body for name in used(node, not minified)}
    needed = sorted(line for line, name in imports.items() if name in used_names)
    if whole and minified:
        body = without_nested_quotes(with_short_parameters(body))
    joined = "\n".join([*needed, *(ast.unparse(ast.fix_missing_locations(node)) for node in body)])
    if not minified:
        return joined
    kept = ROOTS if whole else [name for name in owners if not name.startswith("_")]
    return str(
        python_minifier.minify(
            joined,
            remove_literal_statements=True,
            rename_globals=True,
            preserve_globals=[*kept, "CONFIG"],
            hoist_literals=False,  # which makes the text shorter and the packed form longer
        )
    )


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
