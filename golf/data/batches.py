"""The tokens of each optimiser step: a pure function of the step, whatever the number of processes.

A step always consists of the same 8 slices, distributed over micro-batches and ranks. In the order of the stream each
slice reads one token more than it trains on, because every target needs the token before it; slices do not overlap. In
shuffled order a slice is made of whole sequences: each pass over the shards cuts every shard at a phase of its own and
draws all sequences in a new order (openai/parameter-golf PR #1493, there with a seed for each rank).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from golf.config.config import MICRO_BATCHES, BatchConfig
from golf.data.shards import TokenStream


def slice_start(batch: BatchConfig, step: int, micro_batch: int, rank: int, world_size: int) -> int:
    """Returns the position in the endless stream of the first token of `rank`'s micro-batch `micro_batch` of `step`.

    Args: step: 0-based; micro_batch: from 0 to below 8 / world_size.
    Raises: ValueError when the world size does not divide 8 or an index is out of range.
    """
    if world_size < 1 or MICRO_BATCHES % world_size:
        raise ValueError(f"world size must be 1, 2, 4 or 8 (it divides {MICRO_BATCHES} slices), got {world_size}")
    per_rank = MICRO_BATCHES // world_size
    if not (step >= 0 and 0 <= micro_batch < per_rank and 0 <= rank < world_size):
        got = f"step {step}, micro-batch {micro_batch}, rank {rank}"
        raise ValueError(f"world size {world_size} has {per_rank} micro-batches, steps count from 0; got {got}")
    index = micro_batch * world_size + rank
    return (MICRO_BATCHES * step + index) * (batch.slice_tokens + 1)


def read_batch(
    stream: TokenStream, batch: BatchConfig, step: int, micro_batch: int, rank: int, world_size: int
) -> tuple[Tensor, Tensor]:
    """Returns inputs and targets of one micro-batch on one rank: int64, each (sequences, sequence_length).

    Raises: ValueError as `slice_start` and `TokenStream.read`.
    """
    start = slice_start(batch, step, micro_batch, rank, world_size)
    if batch.order == "shuffled":
        rows = batch.slice_tokens // batch.sequence_length
        first = start // (batch.slice_tokens + 1) * rows
        starts = sequence_starts(stream, batch, first, rows)
        tokens_BT = torch.stack([torch.from_numpy(stream.read(s, batch.sequence_length + 1)) for s in starts])
        return tokens_BT[:, :-1], tokens_BT[:, 1:]
    tokens = torch.from_numpy(stream.read(start, batch.slice_tokens + 1))
    return tokens[:-1].view(-1, batch.sequence_length), tokens[1:].view(-1, batch.sequence_length)


def sequence_starts(stream: TokenStream, batch: BatchConfig, first: int, count: int) -> list[int]:
    """Returns where in the stream `count` sequences in shuffled order begin, from number `first` on."""
    sizes, starts, number, before = tuple(len(shard) for shard in stream.shards), list[int](), 0, 0
    while len(starts) < count:
        order = _pass_order(sizes, batch.sequence_length, batch.data_seed, number)
        begin = max(first + len(starts) - before, 0)
        starts += order[begin : begin + count - len(starts)].tolist()
        number, before = number + 1, before + len(order)
    return starts


@lru_cache(maxsize=2)
def _pass_order(sizes: Sequence[int], length: int, seed: int, number: int) -> Tensor:
    """Returns where the sequences of one pass over the shards begin, int64 (sequences,).

    Raises: ValueError when no shard holds a whole sequence.
    """
    generator = torch.Generator().manual_seed((seed << 31) + number)
    phases = torch.randint(length, (len(sizes),), generator=generator).tolist()
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    parts = [
        torch.arange(end - size + min(phase, max(size - 1 - length, 0)), end - length, length)
        for size, end, phase in zip(sizes, ends, phases, strict=True)
        if size > length
    ]
    if not parts:
        raise ValueError(f"no shard holds a sequence of {length} tokens and the one after it")
    starts = torch.cat(parts)
    return starts[torch.randperm(len(starts), generator=generator)]
