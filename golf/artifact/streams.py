"""Compressed streams that the standard library undoes: how each begins, and its decompressor.

For files that others have written; the codecs of our own artifacts are in `golf.artifact.codec`.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_LZMA_MEMORY = 256 << 20
"""Bytes that unpacking lzma may take beside its output."""
_LZMA2_DICTIONARY = 64 << 20


class StreamError(ValueError):
    """A stream is damaged or cut off."""


class StreamTooLargeError(ValueError):
    """A stream unpacks to more than is allowed."""


class Inflater(Protocol):
    """What the standard library's decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class StreamFormat:
    """A format of compressed streams."""

    name: str
    matches: Callable[[bytes], bool]
    """Returns whether data may be such a stream, from its first bytes."""
    start: Callable[[], Inflater]
    """Returns a fresh decompressor."""


def inflate(data: bytes, stream: StreamFormat, largest_bytes: int) -> bytes:
    """Returns what a stream holds; what follows its end is ignored.

    Raises: StreamError when it is damaged or cut off; StreamTooLargeError when it holds more than `largest_bytes`,
        before more than that is allocated.
    """
    inflater = stream.start()
    try:
        raw = inflater.decompress(data, largest_bytes + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError) as error:
        raise StreamError(f"compressed with {stream.name}, and damaged ({error})") from error
    if len(raw) > largest_bytes:
        raise StreamTooLargeError(f"it unpacks to more than {largest_bytes} bytes")
    if not inflater.eof:
        raise StreamError(f"compressed with {stream.name}, and cut off before its end: get it again")
    return raw


def _is_zlib(data: bytes) -> bool:
    """Returns whether zlib's two bytes begin the data; one file of a thousand has them by chance, so it must unpack,
    too.
    """
    known = len(data) > 2 and data[0] & 15 == 8 and data[0] >> 4 <= 7 and not data[1] & 32
    if not known or int.from_bytes(data[:2]) % 31 or data[8:9] == b"{":
        return False
    try:
        return bool(data[0] == 0x78 or zlib.decompressobj().decompress(data[:256], 1 << 16) is not None)
    except zlib.error:
        return False


def _is_lzma_alone(data: bytes) -> bool:
    size = int.from_bytes(data[5:13], "little")
    return data[:1] == b"\x5d" and data[1:3] == b"\0\0" and len(data) > 13 and (size == 2**64 - 1 or size < 1 << 40)


def _is_lzma2(data: bytes) -> bool:
    """Returns whether raw LZMA2 may begin so: a chunk that resets all, stored or compressed."""
    return data[:1] == b"\x01" or (len(data) > 6 and data[0] >= 0xE0 and data[5] < 225)


MARKED_STREAMS = (
    StreamFormat("gzip", lambda data: data[:3] == b"\x1f\x8b\x08", lambda: zlib.decompressobj(31)),
    StreamFormat(
        "lzma (xz)",
        lambda data: data[:6] == b"\xfd7zXZ\0",
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY),
    ),
    StreamFormat("lzma", _is_lzma_alone, lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_MEMORY)),
    StreamFormat("bzip2", lambda data: data[:3] == b"BZh" and data[4:10] == b"1AY&SY", bz2.BZ2Decompressor),
    StreamFormat("zlib", _is_zlib, zlib.decompressobj),
)
"""Formats with a mark at their beginning: the first that matches is the one."""
RAW_LZMA2 = StreamFormat(
    "raw LZMA2",
    _is_lzma2,
    lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": _LZMA2_DICTIONARY}]),
)
RAW_DEFLATE = StreamFormat("raw deflate", bool, lambda: zlib.decompressobj(-15))
UNMARKED_STREAMS = (RAW_LZMA2, RAW_DEFLATE)
"""Formats without a mark: a match is a guess, and the stream must unpack without an error."""
