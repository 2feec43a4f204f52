"""Sliding-window scoring: tokens in, negative log-likelihood per chunk of the stream out.

Every token is scored exactly once, by the window that `windows.py` says. Windows are shared over the ranks;
sums are float64. The model's weights are never changed here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golf.config import ScoreConfig
from golf.dist import Group
from golf.model.gepa import GEPA
from golf.score.windows import Window, make_windows, windows_by_chunk


@dataclass(frozen=True)
class ChunkScore:
    """What was scored in one chunk of the stream."""

    nll_nats: float
    """Sum of the negative log-likelihoods, float64."""
    num_tokens: int
    """Scored tokens."""
    num_bytes: int
    """Bytes of text of the scored tokens."""


@dataclass(frozen=True)
class Scored:
    """The chunks of a stream in order."""

    chunks: tuple[ChunkScore, ...]

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
    """Ids, int64 (N + 1,), on the CPU."""
    target_bytes: np.ndarray
    """Bytes of text of each target, int64 (N,)."""

    @property
    def num_targets(self) -> int:
        """N."""
        return len(self.tokens) - 1


TokenSink = Callable[[int, Tensor], None]
"""(first target, float64 NLLs of it and those after): sees every scored token, for proofs and tests."""


def score_windows(
    model: GEPA, stream: Stream, windows: Sequence[Window], config: ScoreConfig, group: Group, sink: TokenSink | None
) -> float:
    """Sum of the NLLs (nats) of the windows' scored targets over all ranks; this rank computes its share.

    Every forward pass has the same shape: the last batch is filled up with empty windows and a window at the
    stream's end with padding, which a causal model's earlier positions cannot see.
    """
    total = torch.zeros((), dtype=torch.float64, device=group.device)
    mine = windows[group.rank :: group.world_size]
    for first in range(0, len(mine), config.batch_windows):
        batch = mine[first : first + config.batch_windows]
        x_BT, y_BT, scored_BT = cut_windows(stream.tokens, batch, config.batch_windows, config.sequence_length)
        nll_BT = token_nll(model, x_BT.to(group.device), y_BT.to(group.device))
        total += (nll_BT * scored_BT.to(group.device)).sum()
        if sink is not None:
            for row, window in enumerate(batch):
                sink(window.first_scored, nll_BT[row, window.first_scored - window.start : window.end - window.start])
    return float(group.sum(total))


@torch.no_grad()
def token_nll(model: GEPA, x_BT: Tensor, y_BT: Tensor) -> Tensor:
    """NLL of each target in nats, float64 (B, T)."""
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=x_BT.device.type == "cuda"):
        return model(x_BT, y_BT, reduction="none").double()


def cut_windows(tokens: Tensor, batch: Sequence[Window], rows: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets (int64) and the mask of scored targets (bool), all (rows, length), zero where empty."""
    x_BT = torch.zeros(rows, length, dtype=torch.int64)
    y_BT, scored_BT = torch.zeros_like(x_BT), torch.zeros(rows, length, dtype=torch.bool)
    for row, window in enumerate(batch):
        width = window.end - window.start
        x_BT[row, :width] = tokens[window.start : window.end]
        y_BT[row, :width] = tokens[window.start + 1 : window.end + 1]
        scored_BT[row, window.first_scored - window.start : width] = True
    return x_BT, y_BT, scored_BT


def chunk_score(stream: Stream, windows: Sequence[Window], nll_nats: float) -> ChunkScore:
    """A chunk's sums, with the tokens and bytes of its windows' scored targets."""
    num_bytes = sum(int(stream.target_bytes[w.first_scored : w.end].sum()) for w in windows)
    return ChunkScore(nll_nats, sum(w.end - w.first_scored for w in windows), num_bytes)


def score(
    model: GEPA,
    stream: Stream,
    config: ScoreConfig,
    group: Group,
    *,
    plain: bool = False,
    start: Sequence[ChunkScore] = (),
    stop_after: int | None = None,
    sink: TokenSink | None = None,
    after_chunk: Callable[[int, ChunkScore], None] | None = None,
    border: Callable[[], None] | None = None,
) -> Scored:
    """Score the stream chunk by chunk.

    Args: plain: windows without overlap instead of `config.stride`; start: the first chunks' sums of an earlier call;
        stop_after: number of chunks after which to stop, all by default; sink: sees every NLL of this rank;
        after_chunk: called with each chunk's number and sums; border: called between two chunks, on all ranks.
    """
    stride = config.sequence_length if plain else config.stride
    windows = make_windows(stream.num_targets, config.sequence_length, stride)
    members = windows_by_chunk(windows, config.chunk_tokens, stream.num_targets)[:stop_after]
    chunks = list(start)
    for number in range(len(chunks), len(members)):
        nats = score_windows(model, stream, members[number], config, group, sink)
        chunks.append(chunk_score(stream, members[number], nats))
        if after_chunk is not None:
            after_chunk(number, chunks[-1])
        if border is not None and number + 1 < len(members):
            border()
    return Scored(tuple(chunks))
