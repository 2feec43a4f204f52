"""Shards against an independent reading of the layout, damaged files and a plain cyclic list."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.data.shards import read_shard, token_stream, write_shard


def packed(tokens: list[int], magic: int = 20240520, version: int = 1, count: int | None = None) -> bytes:
    """A shard's bytes, made with struct alone."""
    count = len(tokens) if count is None else count
    return struct.pack("<256i", magic, version, count, *[0] * 253) + struct.pack(f"<{len(tokens)}H", *tokens)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=300))
def test_layout_is_the_competitions(tmp_path_factory: pytest.TempPathFactory, tokens: list[int]) -> None:
    """Catches a wrong header size, byte order or token type, in the writer or the reader."""
    path = tmp_path_factory.mktemp("shard") / "a.bin"
    write_shard(path, np.array(tokens, np.uint16))
    assert path.read_bytes() == packed(tokens)
    assert read_shard(path).tolist() == tokens


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "header"),
        (packed([1, 2, 3])[:1000], "header"),
        (packed([1, 2, 3])[:-1], "token count 3"),
        (packed([1, 2, 3])[:-2], "token count 3"),
        (packed([1, 2, 3]) + b"\0", "token count 3"),
        (packed([1, 2, 3]) + b"\0\0", "token count 3"),
        (packed([]), "token count 0"),
        (packed([1], count=-1), "token count -1"),
        (packed([1], magic=0x20240520), "magic"),
        (packed([1], version=2), "version is 2"),
        (b"<html>" + b" " * 2000, "magic"),
    ],
)
def test_damaged_shard_is_refused(tmp_path: Path, content: bytes, field: str) -> None:
    """Catches a truncated, overlong, empty or foreign file being read as tokens."""
    path = tmp_path / "fineweb_train_000007.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=field) as caught:
        read_shard(path)
    assert str(path) in str(caught.value)
    assert "again" in str(caught.value)


def test_view_cannot_write_into_the_file(tmp_path: Path) -> None:
    """Catches a map opened for writing, through which training could change its own data."""
    write_shard(tmp_path / "a.bin", np.arange(5, dtype=np.uint16))
    with pytest.raises(ValueError, match="read-only"):
        read_shard(tmp_path / "a.bin")[0] = 9


@pytest.mark.parametrize(
    "tokens", [np.zeros(0, np.uint16), np.zeros(3, np.int64), np.zeros(3, ">u2"), np.zeros((2, 2), np.uint16)]
)
def test_only_tokens_are_written(tmp_path: Path, tokens: np.ndarray) -> None:
    """Catches ids silently cut to 16 bits, and an empty shard that no reader accepts."""
    with pytest.raises(ValueError, match="uint16"):
        write_shard(tmp_path / "a.bin", tokens)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), start=st.integers(0, 10**12), count=st.integers(0, 60)
)
def test_stream_is_the_cyclic_concatenation(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], start: int, count: int
) -> None:
    """Catches a token lost or doubled at a shard's border or at the wrap, and shards read in argument order."""
    folder, flat = tmp_path_factory.mktemp("stream"), np.arange(sum(sizes), dtype=np.uint16)
    paths = [folder / f"x_train_{index:06d}.bin" for index in range(len(sizes))]
    for path, part in zip(paths, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
        write_shard(path, part)
    stream = token_stream(paths[::-1])
    assert stream.num_tokens == flat.size
    assert stream.read(start, count).tolist() == [(start + offset) % flat.size for offset in range(count)]


def test_foreign_id_names_its_shard(tmp_path: Path) -> None:
    """Catches an id outside the vocabulary reaching the embedding, where it is an opaque device error."""
    for index, tokens in enumerate(([1, 2, 3], [4, 1024, 5])):
        write_shard(tmp_path / f"x_train_{index}.bin", np.array(tokens, np.uint16))
    stream = token_stream(list(tmp_path.iterdir()), vocab_size=1024)
    assert stream.read(0, 4).tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"x_train_1\.bin: token id 1024"):
        stream.read(0, 5)
