"""Codecs: round trips, damage, and small files that promise large ones."""

import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.artifact import codec as codec_module
from golf.artifact.codec import CodecError, compress, decompress

CODECS = ["zstd", "lzma2"]


@settings(max_examples=30)
@given(st.binary(max_size=3000), st.sampled_from(CODECS), st.integers(1, 9))
def test_round_trip(data: bytes, codec: str, level: int) -> None:
    """Catches lost bytes, the empty payload, and packing that differs from call to call."""
    packed = compress(data, codec, level)
    assert packed == compress(data, codec, level)
    assert decompress(packed, codec, len(data)) == data


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("wrong", [0, 1, 999, 1001, 10**9])
def test_size_must_be_exact(codec: str, wrong: int) -> None:
    """Catches a result shorter or longer than promised."""
    with pytest.raises(CodecError):
        decompress(compress(bytes(1000), codec, 3), codec, wrong)


@pytest.mark.parametrize("codec", CODECS)
def test_damage(codec: str) -> None:
    """Catches errors of a compressor that escape under another type, and bytes after the end that are ignored."""
    data = random.Random(1).randbytes(500) * 3
    packed = compress(data, codec, 5)
    for bad in (packed + b"x", packed[:-1], packed[: len(packed) // 2], b"", b"x" * 50, packed + packed):
        with pytest.raises(CodecError):
            decompress(bad, codec, len(data))


@pytest.mark.parametrize("codec", CODECS)
def test_bomb_allocates_little(codec: str) -> None:
    """Catches unpacking everything before the size is compared."""
    packed = compress(bytes(64 * 2**20), codec, 1)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decompress(packed, codec, 1000)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_zstd_without_a_size_is_refused() -> None:
    """Catches a frame of unknown size that would be unpacked without a bound."""
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(CodecError):
        decompress(packed, "zstd", 1000)


def test_missing_and_unknown_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a silent fallback."""
    packed = compress(b"abc", "zstd", 3)
    monkeypatch.setattr(codec_module, "zstandard", None)
    with pytest.raises(CodecError, match="pip install zstandard"):
        compress(b"abc", "zstd", 3)
    with pytest.raises(CodecError, match="pip install zstandard"):
        decompress(packed, "zstd", 3)
    with pytest.raises(CodecError, match="unknown"):
        compress(b"abc", "gzip", 3)
