"""Lossless compressors by name: bytes to bytes and back, with the exact size known beforehand.

A codec that is not installed is an error, never replaced by another: a silent fallback from zstd to zlib
made published artifacts larger than the cap. Decompression never produces more than it was told to expect.
"""

import lzma
import zlib
from typing import Any

try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None  # type: ignore[assignment]

LZMA_MEMORY = 128 << 20
"""Bytes that unpacking xz may use for its dictionary; level 9 needs about 65 MiB."""
BARE_DICTIONARY = 1 << 20
"""Bytes of the dictionary of "lzma2": in floats there is nothing to find further away."""
_DAMAGED = (lzma.LZMAError, zlib.error) if zstandard is None else (lzma.LZMAError, zlib.error, zstandard.ZstdError)


class CodecError(ValueError):
    """A codec is missing, or data is not what it was said to be."""


def compress(data: bytes, codec: str, level: int | None = None) -> bytes:
    """`data` compressed by "zstd", "lzma" (an xz file), "zlib", or "lzma2" (a bare stream for tables of bytes).

    Args: level: None is the strongest.

    zstd is tried at level 1 as well and the smaller kept: on codes near their entropy the matches that level 22
    finds can cost more than they save (3.41 MB against 3.14 MB seen on one payload of 5-bit codes).
    """
    if level is None:
        level = 22 if codec == "zstd" else 9
    if codec == "zstd":
        need_zstandard()
        tried = [zstandard.ZstdCompressor(level=tried_level).compress(data) for tried_level in sorted({level, 1})]
        return min(tried, key=len)
    if codec == "lzma":
        return lzma.compress(data, check=lzma.CHECK_NONE, preset=level)
    if codec == "zlib":
        return zlib.compress(data, level)
    if codec == "lzma2":
        return lzma.compress(data, lzma.FORMAT_RAW, filters=_bare(level))
    raise CodecError(f'unknown codec "{codec}" (known: lzma, lzma2, zlib, zstd)')


def _bare(level: int) -> list[dict[str, Any]]:
    """The filter of "lzma2": no byte of a table has to do with its neighbour's lower bits or its place."""
    return [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": BARE_DICTIONARY, "lc": 0, "lp": 0, "pb": 0}]


def need_zstandard() -> None:
    """Raise CodecError unless zstandard is installed."""
    if zstandard is None:
        raise CodecError("codec zstd needs the package zstandard, which is not installed: pip install zstandard")


def decompress(data: bytes, codec: str, raw_bytes: int) -> bytes:
    """The `raw_bytes` bytes that were compressed.

    Raises: CodecError when the data is damaged, of another size, or followed by more.
    """
    if codec == "zstd":
        need_zstandard()
    try:
        if codec == "zstd":
            # The frame says its size: compared before anything is allocated, then enforced by the library.
            ended = zstandard.get_frame_parameters(data).content_size == raw_bytes
            raw = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False) if ended else b""
        else:
            unpacker: Any = zlib.decompressobj()
            if codec == "lzma":
                unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY)
            elif codec == "lzma2":
                unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_bare(0))
            raw = unpacker.decompress(data, raw_bytes + 1)
            ended = unpacker.eof and not unpacker.unused_data
    except _DAMAGED as error:
        raise CodecError(f"damaged {codec} data ({error})") from error
    if not ended or len(raw) != raw_bytes:
        raise CodecError(f"{codec} data must unpack to exactly {raw_bytes} bytes, and nothing may follow")
    return raw
