"""Sliding-window scoring: the negative log-likelihood (NLL) of every token, summed per chunk of the stream.

Every token is scored exactly once, by its window in `golf.evaluate.windows`. Windows are shared over the ranks;
sums are float64. The model's weights are never changed here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.config.config import ScoreConfig
from golf.data.dataset import Dataset
from golf.evaluate.windows import Window, make_windows, windows_by_chunk
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup


@dataclass(frozen=True)
class ChunkScore:
    """Sums over the scored tokens of one chunk of the stream."""

    nll_nats: float
    """Sum of the negative log-likelihoods, float64."""
    num_tokens: int
    """Scored tokens."""
    num_bytes: int
    """Bytes of text of the scored tokens."""


@dataclass(frozen=True)
class Scored:
    """The scored chunks of a stream, in order."""

    chunks: tuple[ChunkScore, ...]

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> Self:
        """Returns chunks from nats, tokens and bytes of each, as results hold them."""
        return cls(tuple(ChunkScore(float(nats), int(tokens), int(size)) for nats, tokens, size in rows))

    @property
    def bpb(self) -> float:
        """Bits per byte: (NLL / ln 2) / bytes."""
        nats = math.fsum(chunk.nll_nats for chunk in self.chunks)
        return nats / math.log(2) / sum(chunk.num_bytes for chunk in self.chunks)

    @property
    def nats_per_token(self) -> float:
        """Mean negative log-likelihood."""
        nats = math.fsum(chunk.nll_nats for chunk in self.chunks)
        return nats / sum(chunk.num_tokens for chunk in self.chunks)


@dataclass(frozen=True)
class Stream:
    """The tokens to score and the bytes of each target."""

    tokens: Tensor
    """Ids, int64 (N + 1,), best on the device that scores them."""
    target_bytes: np.ndarray
    """Bytes of text of each target, int64 (N,)."""

    @property
    def num_targets(self) -> int:
        """N, the number of targets."""
        return len(self.tokens) - 1


def validation_stream(dataset: Dataset, group: ProcessGroup) -> Stream:
    """Returns the validation tokens on the group's device and the bytes of each target."""
    tokens = torch.from_numpy(dataset.validation.astype("int64")).to(group.device)
    return Stream(tokens, dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]))


TokenSink = Callable[[int, Tensor], None]
"""(first target, float64 NLLs of it and those after): receives every scored token, for proofs and tests."""


def score_windows(
    forward: nn.Module,
    stream: Stream,
    windows: Sequence[Window],
    config: ScoreConfig,
    group: ProcessGroup,
    sink: TokenSink | None,
) -> float:
    """Returns the sum of the NLLs (nats) of the windows' scored targets over all ranks; this rank computes its share.

    Only scored positions go through the last block and to logits. Nothing waits for the device before the end.
    """
    total = torch.zeros((), dtype=torch.float64, device=group.device)
    own_windows, rows = windows[group.rank :: group.world_size], windows_per_pass(config, group.device)
    for batch in make_batches(own_windows, rows):
        length = batch.windows[0].end - batch.windows[0].start
        x_BT, y_BS, counted_BS = cut_windows(stream.tokens, batch, length)
        # A shape of its own for one pass is not worth compiling; the module that was compiled is `_orig_mod`.
        model = getattr(forward, "_orig_mod", forward) if batch.lone else forward
        nll_BS = token_nll(model, x_BT.to(group.device), y_BS.to(group.device))
        total += torch.where(counted_BS.to(group.device), nll_BS, 0.0).sum()
        if sink is not None:
            for window, nll_S in zip(batch.windows, nll_BS, strict=False):
                sink(window.first_scored, nll_S[: window.end - window.first_scored])
    return float(group.sum(total))


def windows_per_pass(config: ScoreConfig, device: torch.device) -> int:
    """Returns `config.batch_windows`, or as many as suit the device: on a CPU, activations should stay in its cache."""
    positions = 131_072 if device.type == "cuda" else 2048
    return config.batch_windows or max(1, positions // config.sequence_length)


@dataclass(frozen=True)
class Batch:
    """Windows of one forward pass, one every `step` tokens."""

    windows: Sequence[Window]
    rows: int
    """Windows of the pass; those beyond `windows` are padding and count nothing."""
    step: int
    lone: bool
    """Whether no other pass has this shape."""


def make_batches(windows: Sequence[Window], rows: int) -> Iterator[Batch]:
    """Yields the windows in passes of `rows`; the stream's first, which scores other positions than the next, alone,
    and its last where that is shorter: the rotary base depends on the length."""
    for _, alike in groupby(
        windows, key=lambda window: (window.first_scored - window.start, window.end - window.start)
    ):
        members = list(alike)
        lone = len(members) == 1
        step = 1 if lone else members[1].start - members[0].start
        for first in range(0, len(members), rows):
            yield Batch(members[first : first + rows], 1 if lone else rows, step, lone)


@torch.no_grad()
def token_nll(forward: nn.Module, x_BT: Tensor, y_BS: Tensor) -> Tensor:
    """Returns the NLL of each target in nats, float64 (B, S)."""
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=x_BT.device.type == "cuda"):
        return forward(x_BT, y_BS, reduction="none").double()


def cut_windows(tokens: Tensor, batch: Batch, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns inputs (rows, length), targets (rows, S), both int64, and which targets count, bool.

    Rows that count nothing are padded with zeros: no token beyond the windows is read. Overlapping rows are views of
    the same tokens.
    """
    first, rows, step = batch.windows[0], batch.rows, batch.step
    offset, reach = first.first_scored - first.start, step * (rows - 1) + length + 1
    span = tokens[first.start : batch.windows[-1].end + 1]
    span = F.pad(span, (0, reach - len(span)))
    x_BT, y_BS = span[:-1].unfold(0, length, step), span[1 + offset :].unfold(0, length - offset, step)
    counts = [window.end - window.first_scored for window in batch.windows] + [0] * (rows - len(batch.windows))
    scored_S = torch.arange(length - offset, device=tokens.device)
    return x_BT, y_BS, scored_S < torch.tensor(counts, device=tokens.device)[:, None]


def chunk_score(stream: Stream, windows: Sequence[Window], number: int, nll_nats: float) -> ChunkScore:
    """Returns a chunk's sums over its windows' scored targets; raises Diverged unless `nll_nats` is finite."""
    if not math.isfinite(nll_nats):
        raise Diverged(f"chunk {number}: loss {nll_nats}")
    num_bytes = sum(int(stream.target_bytes[w.first_scored : w.end].sum()) for w in windows)
    return ChunkScore(nll_nats, sum(w.end - w.first_scored for w in windows), num_bytes)


def score(
    forward: nn.Module,
    stream: Stream,
    config: ScoreConfig,
    group: ProcessGroup,
    *,
    plain: bool = False,
    start: Sequence[ChunkScore] = (),
    stop_after: int | None = None,
    sink: TokenSink | None = None,
    after_chunk: Callable[[int, ChunkScore], None] | None = None,
    on_chunk_boundary: Callable[[], None] | None = None,
) -> Scored:
    """Scores the stream chunk by chunk.

    Args: forward: a GEPA, compiled or not; plain: windows without overlap instead of `config.stride`; start: the first
        chunks' sums of an earlier call; stop_after: number of chunks after which to stop, all by default; sink:
        receives every NLL of this rank; after_chunk: called with each chunk's number and sums; on_chunk_boundary:
        called between two chunks, on all ranks.
    Raises: Diverged naming the chunk whose loss is not finite, on all ranks alike.
    """
    stride = config.sequence_length if plain else config.stride
    windows = make_windows(stream.num_targets, config.sequence_length, stride)
    members = windows_by_chunk(windows, config.chunk_tokens)[:stop_after]
    chunks = list(start)
    for number in range(len(chunks), len(members)):
        nats = score_windows(forward, stream, members[number], config, group, sink)
        chunks.append(chunk_score(stream, members[number], number, nats))
        if after_chunk is not None:
            after_chunk(number, chunks[-1])
        if on_chunk_boundary is not None and number + 1 < len(members):
            on_chunk_boundary()
    return Scored(tuple(chunks))
