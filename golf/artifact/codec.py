"""Lossless compressors by name: bytes to bytes and back, with the exact size known beforehand.

A codec that is not installed is an error, never replaced by another: a silent fallback from zstd to zlib
made published artifacts larger than the cap. Decompression never produces more than it was told to expect.
"""

import lzma
import zlib

try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None  # type: ignore[assignment]

_LZMA_FORMAT = lzma.FORMAT_XZ
_DAMAGED = (lzma.LZMAError, zlib.error) if zstandard is None else (lzma.LZMAError, zlib.error, zstandard.ZstdError)


class CodecError(ValueError):
    """A codec is missing, or data is not what it was said to be."""


def compress(data: bytes, codec: str, level: int) -> bytes:
    """`data` compressed by "zstd", "lzma" or "zlib"."""
    if codec == "zstd":
        need_zstandard()
        return zstandard.ZstdCompressor(level=level).compress(data)
    if codec == "lzma":
        return lzma.compress(data, _LZMA_FORMAT, preset=level)
    return zlib.compress(data, level)


def need_zstandard() -> None:
    """Raise CodecError unless zstandard is installed."""
    if zstandard is None:
        raise CodecError("codec zstd needs the package zstandard, which is not installed: pip install zstandard")


def decompress(data: bytes, codec: str, raw_bytes: int) -> bytes:
    """The `raw_bytes` bytes that were compressed.

    Raises: CodecError when the data is damaged or of another size.
    """
    try:
        if codec == "zstd":
            need_zstandard()
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                raw = reader.read(raw_bytes + 1)
        elif codec == "lzma":
            raw = lzma.LZMADecompressor(_LZMA_FORMAT).decompress(data, raw_bytes + 1)
        else:
            raw = zlib.decompressobj().decompress(data, raw_bytes + 1)
    except _DAMAGED as error:
        raise CodecError(f"damaged {codec} data ({error})") from error
    if len(raw) != raw_bytes:
        raise CodecError(f"{codec} data must unpack to {raw_bytes} bytes, got {len(raw)} or more")
    return raw
