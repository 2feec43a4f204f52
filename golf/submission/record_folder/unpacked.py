"""Code that a Python file unpacks and executes, unpacked as data: nothing of it is run.

`exec(lzma.decompress(base64.b85decode("...")))` and its relatives are followed through the syntax tree: literals, names
that are bound to them once, and the decoders and decompressors of the standard library. Everything else stays unknown.
"""

import ast
import base64
import binascii
from collections.abc import Callable, Iterator, Mapping

from golf.artifact.streams import MARKED_STREAMS, UNMARKED_STREAMS, StreamError, inflate

MOST_BYTES = 8 << 20
"""Most bytes that code may unpack to."""
MOST_LAYERS = 8


class Unknown(ValueError):
    """A value that the text alone does not determine."""


def decompress(data: bytes) -> bytes:
    """Returns the content of a zlib, gzip, raw deflate, xz, lzma, raw LZMA2 or bzip2 stream.

    Raises: Unknown when it is none of them or damaged; StreamTooLargeError when it holds more than MOST_BYTES.
    """
    marked = [stream for stream in MARKED_STREAMS if stream.matches(data)]
    for stream in marked[:1] or UNMARKED_STREAMS:
        try:
            content = inflate(data, stream, MOST_BYTES)
        except StreamError:
            continue
        if content:
            return content
    raise Unknown("no stream of zlib, gzip, xz, LZMA2 or bzip2")


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    **{name: getattr(base64, name) for name in ("b85decode", "a85decode", "b64decode", "standard_b64decode")},
    **{name: getattr(base64, name) for name in ("urlsafe_b64decode", "b32decode", "b16decode", "decodebytes")},
    **{name: getattr(binascii, name) for name in ("unhexlify", "a2b_base64", "a2b_hex")},
    "fromhex": lambda data: bytes.fromhex(data.decode()),
    "decompress": decompress,
    "decompressobj": decompress,
}
"""Decoders and decompressors by the names that they are called by."""


def executed_code(tree: ast.Module) -> Iterator[bytes]:
    """Yields the code that a file's `exec` and `eval` calls unpack, one layer deep; what stays unknown is left out."""
    names = dict(_bound(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval"):
            if not node.args or isinstance(node.args[0], ast.Constant):
                continue
            try:
                value = _value(node.args[0], names, 0)
            except (Unknown, ValueError, RecursionError, MemoryError):
                continue
            yield value.encode() if isinstance(value, str) else value


def _bound(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Returns names that are assigned once, with their expressions."""
    targets: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            targets.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:  # `from lzma import decompress as d`
                targets.setdefault(alias.asname or alias.name, []).append(ast.Name(alias.name))
    return ((name, values[0]) for name, values in targets.items() if len(values) == 1)


def _value(node: ast.expr, names: Mapping[str, ast.expr], depth: int) -> bytes | str:
    """Returns the value of an expression. Raises: Unknown where the text alone does not determine it."""
    if depth > 40:
        raise Unknown("too deep")
    if isinstance(node, ast.Constant) and isinstance(node.value, (bytes, str)):
        return node.value
    if isinstance(node, ast.Name) and node.id in names and names[node.id] is not node:
        return _value(names[node.id], names, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _bytes(_value(node.left, names, depth + 1)) + _bytes(_value(node.right, names, depth + 1))
    if isinstance(node, ast.Call):
        return _called(node, names, depth)
    raise Unknown(type(node).__name__)


def _called(node: ast.Call, names: Mapping[str, ast.expr], depth: int) -> bytes | str:
    """Returns the value of a call of a decoder, a decompressor or a method of text."""
    function, arguments = _function(node.func, names), node.args

    def value(argument: ast.expr) -> bytes:
        return _bytes(_value(argument, names, depth + 1))

    if arguments and function in _DECODERS:
        return _DECODERS[function](value(arguments[0]))
    if arguments and function in ("compile", "bytes", "str", "bytearray", "memoryview"):
        return _value(arguments[0], names, depth + 1)
    if isinstance(node.func, ast.Attribute):
        if function == "decode":
            return value(node.func.value).decode()
        if function == "encode":
            return value(node.func.value)
        if function == "strip" and not arguments:
            return _value(node.func.value, names, depth + 1).strip()
        if function == "replace" and len(arguments) == 2:
            return value(node.func.value).replace(value(arguments[0]), value(arguments[1]))
        if function == "join" and arguments and isinstance(arguments[0], (ast.List, ast.Tuple)):
            return value(node.func.value).join(value(part) for part in arguments[0].elts)
    raise Unknown(function)


def _function(node: ast.expr, names: Mapping[str, ast.expr]) -> str:
    """Returns the last part of a function's name, under the name that it was imported by."""
    bound = names.get(node.id, node) if isinstance(node, ast.Name) else node
    if isinstance(bound, ast.Attribute):
        return bound.attr
    return bound.id if isinstance(bound, ast.Name) else getattr(node, "id", "")


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value
