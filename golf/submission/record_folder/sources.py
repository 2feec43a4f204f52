"""What is seen of somebody else's Python file without running it: imports, files that it opens, code it executes.

The text is parsed, never compiled or imported. Code that is packed in the file is unpacked as data and read like the
rest.
"""

import ast
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from golf.submission.record_folder.unpacked import MOST_LAYERS, executed_code

ALWAYS_THERE = {
    *("torch", "triton", "numpy", "sentencepiece", "huggingface_hub", "tqdm", "datasets", "tiktoken", "kernels"),
    *("setuptools", "typing_extensions"),
}
"""Imports that the competition's own environment has (requirements.txt of openai/parameter-golf; triton is torch's)."""
_DISTRIBUTIONS = {
    **{"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow", "cv2": "opencv-python", "google": "protobuf"},
    **{"flash_attn_interface": "flash_attn_3", "flash_attn": "flash_attn"},
}
"""Distributions of modules whose name is another."""
_ALSO_CALLED = {
    "flash-attn-3": ("flash-attn", "flash attention", "flashattention", "flash-attention", "fa3", "flash_attn"),
    "flash-attn": ("flash attention", "flashattention", "flash-attention", "flash_attn"),
    "zstandard": ("zstd",),
}
"""Other names that people give a distribution in prose."""
_READERS = {
    *("open", "load", "read_text", "read_bytes", "from_file", "fromfile", "memmap", "Load", "SentencePieceProcessor")
}
_ASKERS = {"exists", "isfile", "is_file", "isdir", "is_dir"}
_WRITERS = {"save", "write_text", "write_bytes", "savez", "dump"}
_ELSEWHERE = ("data/", "./data/", "logs/", "./logs/", "/", "~", "..", "http")
"""Beginnings of paths that a record folder need not hold."""
_MADE_BY_RUNNING = re.compile(r"final_model|\.(?:pt|pth|ptz|log|tmp|ckpt)$|checkpoint")
"""Files that a training writes."""
CODE_ENDINGS = (
    *(".py", ".pyx", ".pyc", ".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hpp", ".s", ".rs", ".so", ".ptx"),
    *(".cubin", ".sh", ".js", ".pl", ".lua", ".jl", ".whl", ".zip"),
)
"""Endings of files that are code when the script names them."""
_COMMANDS = {
    *("gcc", "g++", "cc", "c++", "clang", "clang++", "nvcc", "hipcc", "rustc", "make", "python", "python3"),
    *("bash", "sh"),
}
_NEWER_PYTHONS = tuple(f"python3.{minor}" for minor in range(20, sys.version_info.minor, -1))
_SYNTAX_OF_3_12 = re.compile(rb"^\s*(?:type \w+\s*[\[=]|(?:async )?def \w+\[|class \w+\[)", re.MULTILINE)
"""Type parameters and aliases (PEP 695)."""


@dataclass(frozen=True)
class Source:
    """What is seen of a file, together with the code that it unpacks and executes."""

    error: str = ""
    """Why it is no Python; imports are then only looked for line by line."""
    newer_python: str = ""
    """The version of Python that reads it, where the one that runs here does not; else empty."""
    imports: frozenset[str] = frozenset()
    """Top-level modules that it cannot do without."""
    optional: frozenset[str] = frozenset()
    """Modules whose absence it catches, or that it imports under a condition."""
    conditional: frozenset[str] = frozenset()
    """The optional ones under a condition."""
    opened: frozenset[str] = frozenset()
    """Relative paths that it reads and does not write, where they are written out in the code."""
    named: frozenset[str] = frozenset()
    """Names of files of code in its literals, which it may execute, compile or load."""
    packed: bool = False
    """Whether it executes code that it unpacks."""
    layers: tuple[bytes, ...] = ()
    """The texts that it unpacks and executes."""


def read_source(data: bytes) -> Source:
    """Returns what is seen of a Python file, together with the code that it unpacks and executes."""
    whole = _read_layer(data)
    layers = list(whole.layers)
    for layer in layers:  # which grows by what each layer unpacks
        inner = _read_layer(layer)
        imports = whole.imports | inner.imports
        whole = Source(
            error=whole.error,
            newer_python=max(whole.newer_python, inner.newer_python),
            imports=imports,
            optional=(whole.optional | inner.optional) - imports,
            conditional=(whole.conditional | inner.conditional) - imports,
            opened=whole.opened | inner.opened,
            named=whole.named | inner.named,
            packed=whole.packed or inner.packed,
            layers=whole.layers,
        )
        layers += inner.layers[: MOST_LAYERS - len(layers)]
    return replace(whole, layers=tuple(layers))


def syntax_error(data: bytes) -> str:
    """Returns why the Python that runs here cannot parse a text; empty where it can."""
    try:
        _parsed(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        return f"{text[:100] or type(error).__name__}{line}"
    return ""


def _parsed(data: bytes) -> ast.Module:
    with warnings.catch_warnings(action="ignore"):  # of its escapes
        return ast.parse(data)


def _read_layer(data: bytes) -> Source:
    error = syntax_error(data)
    if error:
        newer = newer_python(data, error)
        imports = frozenset(re.findall(r"^(?:import|from)[ \t]+([A-Za-z_]\w*)", data.decode("utf-8", "replace"), re.M))
        return Source(error="" if newer else error, newer_python=newer, imports=imports if newer else frozenset())
    tree = _parsed(data)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return replace(
        _imports(tree),
        opened=frozenset(_opened(calls)),
        named=frozenset(_named(tree)),
        packed=any(isinstance(call.func, ast.Name) and call.func.id == "exec" for call in calls),
        layers=tuple(executed_code(tree))[:MOST_LAYERS],
    )


def newer_python(data: bytes, error: str) -> str:
    """Returns the version of Python, newer than the one that runs here, that parses a text: "3.12", or "" for none.

    The newest installed interpreter parses the text, and only that. Without one it counts whether the error is of a
    kind that a newer version cured.
    """
    if "f-string" not in error and _SYNTAX_OF_3_12.search(data) is None:  # PEP 701: the same quotes inside
        return ""
    for name in _NEWER_PYTHONS:
        path = shutil.which(name)
        if path is None:
            continue
        parse = "import ast, sys; ast.parse(sys.stdin.buffer.read()); print('parsed')"
        try:
            done = subprocess.run(
                [path, "-I", "-S", "-c", parse], input=data, capture_output=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if b"parsed" in done.stdout:
            return name.removeprefix("python")
        if b"SyntaxError" in done.stderr or b"IndentationError" in done.stderr:
            return ""
    return "3.12" if sys.version_info < (3, 12) else ""


def _imports(tree: ast.Module) -> Source:
    """Returns the modules that it needs, those that it can do without, and which of these are under a condition."""
    caught = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(_catches_import(handler) for handler in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    conditions = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) for inner in ast.walk(node)}
    needed, optional, conditional = set[str](), set[str](), set[str]()
    for node in ast.walk(tree):
        (optional if id(node) in caught else conditional if id(node) in conditions else needed).update(_imported(node))
    return Source(
        imports=frozenset(needed),
        optional=frozenset((optional | conditional) - needed),
        conditional=frozenset(conditional - needed),
    )


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.split(".")[0]}
    if isinstance(node, ast.ImportFrom):  # `from . import name`
        return {alias.name for alias in node.names}
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = _function(node)
        if function in ("__import__", "import_module", "run_module") and isinstance(node.args[0].value, str):
            return {node.args[0].value.split(".")[0]} - {""}
    return set()


def _function(call: ast.Call) -> str:
    """Returns the last part of the name that is called; empty where it is none."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _catches_import(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    return handler.type is None or bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})


def _opened(calls: Iterable[ast.Call]) -> set[str]:
    """Returns relative paths in the code that are read and nowhere written."""
    read, written = set[str](), set[str]()
    for call in calls:
        function = _function(call)
        paths = {path for path in map(_path_in, _path_arguments(call)) if path}
        arguments = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [str(argument.value) for argument in arguments if isinstance(argument, ast.Constant)]
        writes = function in _WRITERS or (function == "open" and any(set(mode) & set("wax+") for mode in modes))
        if writes or function in _ASKERS:  # after asking it goes on without the file
            written |= paths
        elif function in _READERS:
            read |= paths
    return {path for path in read - written if not path.startswith(_ELSEWHERE) and not _MADE_BY_RUNNING.search(path)}


def _path_arguments(call: ast.Call) -> list[ast.expr]:
    """Returns what of a call may be a path: its arguments, and what its method is called on."""
    owner = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    names = ("file", "path", "filename", "model_file", "fname")
    named = [keyword.value for keyword in call.keywords if keyword.arg in names]
    return [*call.args[:2], *named, *owner]


def _path_in(node: ast.expr) -> str:
    """Returns the path that is written out in an argument, also within Path(...) or open(...); empty without one."""
    if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in ("Path", "open"):
        node = node.args[0]
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return ""
    path = PurePosixPath(node.value)
    return str(path) if path.suffix and re.fullmatch(r"[\w./-]{1,100}", node.value) else ""


def _named(tree: ast.Module) -> Iterator[str]:
    """Yields the last parts of paths to code in its literals: a literal that is a path, or a command's arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= 500:
            words = node.value.split()
            if len(words) == 1 or (words and words[0].rsplit("/", 1)[-1] in _COMMANDS):
                yield from (name for word in words if (name := word.rsplit("/", 1)[-1]).endswith(CODE_ENDINGS))


def missing_requirements(source: Source, requirements: str, beside: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns imports that nothing provides: those that it needs, and those whose absence it catches.

    Args:
        source: of the file.
        requirements: requirements.txt; what its comments name counts too, for not all packages are on an index.
        beside: modules in the same folder.
    """
    provided = ALWAYS_THERE | sys.stdlib_module_names | set(beside) | {"__future__"}

    def absent(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if name not in provided and not is_named(name, requirements))

    return absent(source.imports), absent(source.optional)


def is_named(module: str, text: str) -> bool:
    """Returns whether a text names the distribution of a module, by one of its names."""
    distribution = _canonical(_DISTRIBUTIONS.get(module, module))
    names = {_canonical(name) for name in (module, distribution, *_ALSO_CALLED.get(distribution, ()))}
    any_name = "|".join(map(re.escape, names))
    return re.search(rf"(?<![a-z0-9-])(?:{any_name})(?![a-z0-9]|-[a-z])", _canonical(text)) is not None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def reachable(first: str, sources: Mapping[str, Source]) -> list[str]:
    """Returns `first` and the modules beside it that it imports or executes, directly or through others."""
    modules = [first]
    for name in modules:
        wanted = sources[name].imports | sources[name].optional
        wanted |= {file.removesuffix(".py") for file in sources[name].named if file.endswith(".py")}
        modules += sorted(other for other in sources if other in wanted and other not in modules)
    return modules
