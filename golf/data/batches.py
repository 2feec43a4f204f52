"""The tokens of each optimiser step: a pure function of the step, whatever the number of processes.

A step always consists of the same 8 slices of the cyclic stream, distributed over micro-batches and ranks. Each slice
reads one token more than it trains on, because every target needs the token before it; slices do not overlap.
"""

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
    tokens = torch.from_numpy(stream.read(start, batch.slice_tokens + 1))
    return tokens[:-1].view(-1, batch.sequence_length), tokens[1:].view(-1, batch.sequence_length)
