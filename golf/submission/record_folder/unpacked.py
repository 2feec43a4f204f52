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
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "b85decode": base64.b85decode,
    "a85decode": base64.a85decode,
    "b64decode": base64.b64decode,
    "standard_b64decode": base64.b64decode,
    "urlsafe_b64decode": base64.urlsafe_b64decode,
    "b32decode": base64.b32decode,
    "b16decode": base64.b16decode,
    "decodebytes": base64.decodebytes,
    "unhexlify": binascii.unhexlify,
    "a2b_base64": binascii.a2b_base64,
    "a2b_hex": binascii.unhexlify,
    "fromhex": lambda data: bytes.fromhex(data.decode()),
}


class Unknown(ValueError):
    """A value that the text alone does not determine."""


def decompress(data: bytes, most: int = MOST_BYTES) -> bytes:
    """Returns the content of a zlib, gzip, raw deflate, xz, lzma, raw LZMA2 or bzip2 stream.

    Raises: Unknown when it is none of them or damaged; StreamTooLargeError when it holds more than `most` bytes.
    """
    marked = [stream for stream in MARKED_STREAMS if stream.matches(data)]
    for stream in marked[:1] or UNMARKED_STREAMS:
        try:
            content = inflate(data, stream, most)
        except StreamError:
            continue
        if content:
            return content
    raise Unknown("no stream of zlib, gzip, xz, LZMA2 or bzip2")


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
        left, right = _value(node.left, names, depth + 1), _value(node.right, names, depth + 1)
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        return _bytes(left) + _bytes(right)
    if isinstance(node, ast.Call):
        return _called(node, names, depth)
    raise Unknown(type(node).__name__)


def _called(node: ast.Call, names: Mapping[str, ast.expr], depth: int) -> bytes | str:
    """Returns the value of a call of a decoder, a decompressor or a method of text."""
    function = _function(node.func, names)
    arguments = [*node.args]
    if function in _DECODERS and arguments:
        return _DECODERS[function](_bytes(_value(arguments[0], names, depth + 1)))
    if function in ("decompress", "decompressobj") and arguments:
        return decompress(_bytes(_value(arguments[0], names, depth + 1)))
    if function in ("compile", "bytes", "str", "bytearray", "memoryview") and arguments:
        return _value(arguments[0], names, depth + 1)
    if isinstance(node.func, ast.Attribute) and function in ("decode", "encode", "strip", "replace", "join"):
        owner = _value(node.func.value, names, depth + 1)
        if function == "decode":
            return owner if isinstance(owner, str) else owner.decode()
        if function == "encode":
            return _bytes(owner)
        if function == "strip" and not arguments:
            return owner.strip()
        if function == "replace" and len(arguments) == 2:
            old, new = (_value(argument, names, depth + 1) for argument in arguments)
            return _bytes(owner).replace(_bytes(old), _bytes(new))
        if function == "join" and arguments and isinstance(arguments[0], (ast.List, ast.Tuple)):
            return _bytes(owner).join(_bytes(_value(part, names, depth + 1)) for part in arguments[0].elts)
    raise Unknown(function)


def _function(node: ast.expr, names: Mapping[str, ast.expr]) -> str:
    """Returns the last part of a function's name, under the name that it was imported by."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        bound = names.get(node.id)
        return bound.id if isinstance(bound, ast.Name) else bound.attr if isinstance(bound, ast.Attribute) else node.id
    return ""


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value
