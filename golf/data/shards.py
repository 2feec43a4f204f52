"""Shards: files of tokens in the competition's layout, alone and joined into one endless stream.

A shard is 256 little-endian int32 header words (magic, version, token count, zeros), then that many
little-endian uint16 tokens. Shards are mapped into memory, not loaded. A file that is not exactly what its header says
is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golf.runtime.files import write_whole

SHARD_HEADER_WORDS = 256
"""int32 words before the tokens."""
SHARD_MAGIC = 20240520
"""First header word."""
SHARD_VERSION = 1
"""Second header word."""

Tokens = npt.NDArray[np.uint16]
"""Token ids as stored in a shard, shape (tokens,)."""


def write_shard(path: Path, tokens: Tokens) -> None:
    """Writes `tokens` (uint16, shape (tokens,), at least one) to `path` as a shard, whole.

    Raises: ValueError when the tokens are of another type, shape or number; OSError when the disk refuses.
    """
    if tokens.dtype != np.uint16 or tokens.ndim != 1 or not 0 < tokens.size < 2**31:
        got = f"{tokens.dtype} of shape {tokens.shape}"
        raise ValueError(f"{path}: a shard holds 1 to 2**31 - 1 uint16 tokens in one dimension, got {got}")
    header = np.zeros(SHARD_HEADER_WORDS, "<i4")
    header[:3] = SHARD_MAGIC, SHARD_VERSION, tokens.size
    write_whole(path, lambda file: file.write(header.tobytes() + tokens.astype("<u2", copy=False).tobytes()))


def read_shard(path: Path) -> Tokens:
    """Returns the tokens of the shard at `path`: a read-only memory-mapped view, uint16, shape (tokens,).

    Raises: FileNotFoundError; ValueError naming the file, the field, the value and the remedy when the header is
        wrong or the file is shorter or longer than it says.
    """
    remedy = "; delete the file and prepare or download it again"
    size, head = path.stat().st_size, 4 * SHARD_HEADER_WORDS
    if size < head:
        raise ValueError(f"{path}: {size} bytes are too few for the {head}-byte header of a shard{remedy}")
    magic, version, count = (int(word) for word in np.fromfile(path, "<i4", 3))
    if magic != SHARD_MAGIC:
        raise ValueError(f"{path}: magic is {magic}, not {SHARD_MAGIC}; this is not a token shard{remedy}")
    if version != SHARD_VERSION:
        raise ValueError(f"{path}: version is {version}, only {SHARD_VERSION} can be read{remedy}")
    if count < 1 or size != head + 2 * count:
        wanted = f"{head + 2 * count} bytes" if count > 0 else "at least one token"
        raise ValueError(f"{path}: token count {count} needs {wanted}, the file has {size} bytes{remedy}")
    return np.memmap(path, "<u2", "r", head, (count,))


@dataclass(frozen=True, eq=False)
class TokenStream:
    """Shards joined in order into one cyclic stream of tokens."""

    paths: tuple[Path, ...]
    """The shards' files."""
    shards: tuple[Tokens, ...]
    """Their views."""
    ends: npt.NDArray[Any]
    """End of each shard in the stream, int64, shape (shards,)."""
    vocab_size: int
    """Every id that is read must be below it."""

    @property
    def num_tokens(self) -> int:
        """Tokens of one cycle."""
        return int(self.ends[-1])

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Returns a copy of `count` tokens from position `start` (modulo the cycle) on: int64, shape (count,).

        Raises: ValueError naming the shard that holds an id outside the vocabulary.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start and count must be at least 0, got {start} and {count}")
        tokens, filled = np.empty(count, np.int64), 0
        while filled < count:
            position = (start + filled) % self.num_tokens
            index = int(np.searchsorted(self.ends, position, "right"))
            part = self.shards[index][position - int(self.ends[index]) :][: count - filled]
            check_ids(self.paths[index], part, self.vocab_size)
            tokens[filled : filled + part.size] = part
            filled += part.size
        return tokens


def token_stream(paths: Sequence[Path], vocab_size: int = 2**16) -> TokenStream:
    """Returns the stream over the shards at `paths`, in the order of their file names.

    Raises: FileNotFoundError; ValueError on no path or a damaged shard (see `read_shard`).
    """
    if not paths:
        raise ValueError("a token stream needs at least one shard, got none")
    ordered = tuple(sorted(paths, key=lambda path: (path.name, path)))
    shards = tuple(read_shard(path) for path in ordered)
    return TokenStream(ordered, shards, np.cumsum([shard.size for shard in shards], dtype=np.int64), vocab_size)


def check_ids(path: Path, tokens: Tokens, vocab_size: int) -> None:
    """Raises ValueError naming `path` when one of its `tokens` (uint16, not empty) is not below `vocab_size`."""
    if tokens.max() >= vocab_size:
        raise ValueError(
            f"{path}: token id {tokens.max()} is outside the tokenizer's vocabulary of {vocab_size}; "
            "the shard was made with another tokenizer, or is damaged: prepare or download the dataset again"
        )
