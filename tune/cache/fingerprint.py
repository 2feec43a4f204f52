"""The key of a stage's output: one SHA-256 of all that its bits depend on.

That is the stage's name, its arguments, its parents' keys (and through them everything above) and the source that
computes it. Arguments are JSON values in one form: keys sorted, floats by `repr`, which is exact. Numbers of different
types have different keys (1 and 1.0, 0.0 and -0.0), because the type can reach the bits, and a value without a stable
form is refused; `golf.config.config.from_plain` gives every number the type of its field. Where a stage runs is in its
record, not in its key.
"""

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

KEY_VERSION = 1
"""Part of every key; raised when the form of keys changes, so that no old key is mistaken for a new one."""
ROOT = Path(__file__).resolve().parents[2]
"""The directory that holds the packages `golf` and `tune`."""
_KEY = re.compile("[0-9a-f]{64}")
_MARK = "module "
_MODULE = re.compile(rf"{_MARK}([\w.]+)")
"""A module's absolute name in the text of a syntax tree."""


def stage_key(stage: str, arguments: Any, parents: Sequence[str], source: str) -> str:
    """Returns the key of a stage's output: 64 hexadecimal digits.

    Args: stage: its name; arguments: JSON values, all that its bits depend on besides; parents: keys of what it reads,
        in the order in which it reads them; source: `source_digest` of the modules that compute it.
    Raises: TypeError or ValueError naming the path of a value without a stable form; ValueError for a parent that is no
        key.
    """
    for parent in parents:
        check_key(parent)
    content = {"version": KEY_VERSION, "stage": stage, "arguments": arguments}
    return hashlib.sha256(canonical({**content, "parents": list(parents), "source": source})).hexdigest()


def check_key(key: str) -> str:
    """Returns `key`. Raises: ValueError unless it is 64 lower-case hexadecimal digits."""
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise ValueError(f"a key has 64 hexadecimal digits (SHA-256), got {key!r}")
    return key


def canonical(value: Any) -> bytes:
    """Returns `value` as JSON in the one form that equal values share: keys sorted, no spaces, ASCII, exact floats.

    Raises: TypeError or ValueError naming the path of the first value that has no such form.
    """
    try:
        _check(value, "")
    except RecursionError as error:
        raise ValueError("the value is nested too deeply or contains itself") from error
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _check(value: Any, path: str) -> None:
    # Exact types: a subclass (an enum member, a NumPy float) may print otherwise in the next version of its library.
    if type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"key {name!r} at {path or 'the top'} is of type {type(name).__name__}; use a string")
            _check(item, f"{path}.{name}" if path else name)
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
    elif type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{path or 'the value'} is {value!r}; only finite numbers have a stable form")
    elif value is not None and type(value) not in (str, int, bool):
        raise TypeError(
            f"{path or 'the value'} is of type {type(value).__name__}, which has no stable form; "
            "use text, a number, true, false, null, a list or an object"
        )


def source_digest(modules: Sequence[str], root: Path = ROOT) -> str:
    """Returns a digest of the code of `modules` and of all that they import from their own packages or from `golf`.

    Only a change of code changes it: it is made from syntax trees without comments, docstrings and other lone strings.
    Imports are followed wherever they are in a file; imports by name at run time are not seen. An import counts as the
    imported module's code, so that a module that is only moved changes no digest. A package's `__init__` counts, but
    not a `__version__` in it, which a release changes and no bit depends on.

    Args: modules: full dotted names, in any order; root: the directory that holds the packages.
    Returns: 64 hexadecimal digits; another version of Python may give others.
    Raises: ValueError naming a module that does not exist; SyntaxError.
    """
    names = module_closure(modules, root)
    texts = {name: _parsed(_path(name, root).read_bytes())[0] for name in names}
    empty = ast.dump(ast.Module([], []))
    digests = {name: hashlib.sha256(_MODULE.sub("", text).encode()).hexdigest() for name, text in texts.items()}
    code = sorted(
        _MODULE.sub(lambda match: digests.get(match[1], match[1]), text) for text in texts.values() if text != empty
    )
    return hashlib.sha256(canonical(code)).hexdigest()


def module_closure(modules: Sequence[str], root: Path = ROOT) -> list[str]:
    """Returns `modules`, their packages and all that they import from the same packages or from `golf`, sorted."""
    packages = {"golf", *(name.split(".")[0] for name in modules)}
    closure: set[str] = set()
    waiting = [(name, "asked for") for name in modules]
    while waiting:
        name, reason = waiting.pop()
        if name in closure:
            continue
        path = _path(name, root)
        if not path.is_file():
            raise ValueError(f"module {name} ({reason}) is not in {root}")
        closure.add(name)
        waiting += [(package, f"package of {name}") for package in _packages(name)]
        for base, attributes in _imported(path, name):
            if base.split(".")[0] in packages:
                inner = [f"{base}.{attribute}" for attribute in attributes]
                submodules = [module for module in inner if _path(module, root).is_file()]
                waiting += [(module, f"imported by {name}") for module in (base, *submodules)]
    return sorted(closure)


def _path(module: str, root: Path) -> Path:
    """Returns the file of a module or package."""
    stem = root.joinpath(*module.split("."))
    package = stem / "__init__.py"
    return package if package.is_file() else stem.with_suffix(".py")


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imported(path: Path, module: str) -> Iterator[tuple[str, list[str]]]:
    """Yields (module, names taken from it) for every import in a file, relative ones resolved."""
    parts = module.split(".")
    if path.name != "__init__.py":
        parts.pop()
    for level, base, names in _parsed(path.read_bytes())[1]:
        package = parts[: len(parts) - level + 1] if level else []
        yield ".".join([*package, *([base] if base else [])]), names


@lru_cache(maxsize=512)
def _parsed(source: bytes) -> tuple[str, list[tuple[int, str, list[str]]]]:
    """Returns the code in `source` as the text of its syntax tree, and its imports: (level, module, names).

    What does not run is left out of the text, and absolute names of imported modules are marked in it.
    """
    tree = ast.parse(source)
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", [alias.name for alias in node.names]))
            node.module = f"{_MARK}{node.module}" if not node.level else node.module
        elif isinstance(node, ast.Import):
            imports += [(0, alias.name, []) for alias in node.names]
            for alias in node.names:
                alias.name = f"{_MARK}{alias.name}"
        for part in ("body", "orelse", "finalbody"):
            statements = getattr(node, part, None)
            if isinstance(statements, list):
                setattr(node, part, [statement for statement in statements if not _is_text(statement)])
    tree.body = [statement for statement in tree.body if not _is_version(statement)]
    return ast.dump(tree), imports


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_version(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]
