"""What can be seen in somebody else's Python file without running it: what it imports, and which files it opens.

The bytes of a file enter, a `Source` leaves. The text is parsed, never compiled or imported; code that is packed in the
file (unpacked and executed when it runs) is not looked into, and said so.
"""

import ast
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

ALWAYS_THERE = {
    *("torch", "triton", "numpy", "sentencepiece", "huggingface_hub", "tqdm", "datasets", "tiktoken", "kernels"),
    *("setuptools", "typing_extensions"),
}
"""Imports that the competition's own environment has (requirements.txt of openai/parameter-golf; triton is torch's)."""
_DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "flash_attn_interface": "flash_attn_3",
    "PIL": "pillow",
    "python_minifier": "python-minifier",
    "google": "protobuf",
}
"""What brings a module whose name is another."""
_READERS = {"open", "load", "read_text", "read_bytes", "from_file", "fromfile", "memmap", "Load"}
_WRITERS = {"save", "write_text", "write_bytes", "savez", "dump"}
_ELSEWHERE = ("data/", "./data/", "logs/", "./logs/", "/", "~", "..", "http")
"""Beginnings of paths that a record folder need not hold."""


@dataclass(frozen=True)
class Source:
    """A parsed file."""

    error: str = ""
    """Why it is no Python; nothing else is known then."""
    imports: frozenset[str] = frozenset()
    """Top names that it cannot do without."""
    optional: frozenset[str] = frozenset()
    """Those whose absence it catches."""
    opened: frozenset[str] = frozenset()
    """Relative paths that it reads and does not write, where they are written out in the code."""
    packed: bool = False
    """Whether it executes code that it unpacks."""


def read_source(data: bytes) -> Source:
    """The facts of a Python file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of its escapes
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return Source(error=f"{str(error)[:100] or type(error).__name__}{line}")
    caught = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(_catches_import(handler) for handler in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    needed, optional = set[str](), set[str]()
    for node in ast.walk(tree):
        (optional if id(node) in caught else needed).update(_imported(node))
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    packed = any(isinstance(node.func, ast.Name) and node.func.id == "exec" for node in called)
    return Source("", frozenset(needed), frozenset(optional - needed), frozenset(_opened(called)), packed)


def missing_requirements(source: Source, requirements: str, beside: Iterable[str]) -> tuple[list[str], list[str]]:
    """Imports that neither Python, the competition's environment, `requirements` nor modules `beside` it bring.

    Returns: those that it needs, and those whose absence it catches.
    """
    lines = (line.strip(" \t#") for line in requirements.splitlines())  # a comment may say how a package is installed
    listed = {_canonical(re.split(r"[\s=<>!~\[;@]", line)[0]) for line in lines}
    there = ALWAYS_THERE | sys.stdlib_module_names | set(beside) | {"__future__"}

    def absent(names: Iterable[str]) -> list[str]:
        brought = (name for name in names if name not in there)
        return sorted(name for name in brought if not {_canonical(name), _distribution(name)} & listed)

    return absent(source.imports), absent(source.optional)


def _distribution(name: str) -> str:
    return _canonical(_DISTRIBUTIONS.get(name, name))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return {node.module.split(".")[0]}
    return set()


def _catches_import(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    return handler.type is None or bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})


def _opened(calls: Iterable[ast.Call]) -> set[str]:
    """Relative paths in the code that are read and nowhere written."""
    read, written = set[str](), set[str]()
    for call in calls:
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        paths = {path for path in map(_path_in, _places(call)) if path}
        modes = [one.value for one in [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "mode")]
                 if isinstance(one, ast.Constant) and isinstance(one.value, str)]  # fmt: skip
        if function in _WRITERS or (function == "open" and any(set(mode) & set("wax+") for mode in modes)):
            written |= paths
        elif function in _READERS:
            read |= paths
    return {path for path in read - written if not path.startswith(_ELSEWHERE)}


def _places(call: ast.Call) -> list[ast.expr]:
    """Where a call may have its path: its arguments, and what its method is called on."""
    owner = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return [*call.args[:2], *owner]


def _path_in(node: ast.expr) -> str:
    """The path that is written out in an argument, also within Path(...) or open(...)."""
    if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in ("Path", "open"):
        node = node.args[0]
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return ""
    path = PurePosixPath(node.value)
    return str(path) if path.suffix and re.fullmatch(r"[\w./-]{1,100}", node.value) else ""


def reachable(first: str, sources: Mapping[str, Source]) -> list[str]:
    """The modules that `first` imports from those beside it, and what these import, in the order found."""
    found = [first]
    for name in found:
        wanted = sources[name].imports | sources[name].optional
        found += sorted(other for other in sources if other in wanted and other not in found)
    return found
