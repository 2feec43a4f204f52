"""Code that a Python file unpacks and executes, unpacked as data: nothing of it is run.

`exec(lzma.decompress(base64.b85decode("...")))` and its relatives are followed through the syntax tree: literals, names
that are bound to them once, and the decoders and decompressors of the standard library. Everything else stays unknown.
"""

import ast
import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping

MOST_BYTES = 8 << 20
"""To which code may unpack."""
MOST_LAYERS = 8
_LZMA2 = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
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
    """A value that the text alone does not tell."""


def decompress(data: bytes, most: int = MOST_BYTES) -> bytes:
    """The content of a zlib, gzip, raw deflate, xz, lzma, raw LZMA2 or bz2 stream.

    Raises: Unknown when it is none of them, is damaged, or holds more than `most` bytes.
    """
    if data.startswith((b"\xfd7zXZ\x00", b"\x5d\x00")):
        kinds: list[Callable[[], bytes]] = [lambda: lzma.LZMADecompressor().decompress(data, most + 1)]
    elif data.startswith(b"BZh"):
        kinds = [lambda: bz2.BZ2Decompressor().decompress(data, most + 1)]
    elif data.startswith(b"\x1f\x8b") or (len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0):
        kinds = [lambda: zlib.decompressobj(47).decompress(data, most + 1)]
    else:
        kinds = [
            lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA2).decompress(data, most + 1),
            lambda: zlib.decompressobj(-15).decompress(data, most + 1),
        ]
    for kind in kinds:
        try:
            found = kind()
        except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError):
            continue
        if len(found) > most:
            raise Unknown(f"it unpacks to more than {most:,} bytes")
        if found:
            return found
    raise Unknown("no stream of zlib, gzip, xz, LZMA2 or bz2")


def executed_code(tree: ast.Module) -> Iterator[bytes]:
    """The code that a file's `exec` and `eval` calls unpack, one layer deep; what cannot be told is left out."""
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
    """Names that are assigned once, with their expressions."""
    targets: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            targets.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:  # `from lzma import decompress as d`
                targets.setdefault(alias.asname or alias.name, []).append(ast.Name(alias.name))
    return ((name, values[0]) for name, values in targets.items() if len(values) == 1)


def _value(node: ast.expr, names: Mapping[str, ast.expr], depth: int) -> bytes | str:
    """What an expression gives, where the text alone tells it."""
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
    """What a call of a decoder, a decompressor or a method of text gives."""
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
            old, new = (_value(one, names, depth + 1) for one in arguments)
            return _bytes(owner).replace(_bytes(old), _bytes(new))
        if function == "join" and arguments and isinstance(arguments[0], (ast.List, ast.Tuple)):
            return _bytes(owner).join(_bytes(_value(one, names, depth + 1)) for one in arguments[0].elts)
    raise Unknown(function)


def _function(node: ast.expr, names: Mapping[str, ast.expr]) -> str:
    """The last part of a function's name, under the name that it was imported by."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        bound = names.get(node.id)
        return bound.id if isinstance(bound, ast.Name) else bound.attr if isinstance(bound, ast.Attribute) else node.id
    return ""


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value
