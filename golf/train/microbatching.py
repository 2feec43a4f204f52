"""The token ids of every pass, and the model to run them on, for a configuration on a device.

A pass computes one micro-batch, or several that are small: the mean of their means is the mean over all of them.
"""

import torch
from torch import Tensor, nn

from golf.config.config import MICRO_BATCHES, BatchConfig, RunConfig
from golf.config.schedule import make_plan
from golf.data.batches import read_batch
from golf.data.shards import TokenStream
from golf.model.compile import compile_model
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Batches, add_gradients

POSITIONS_TOGETHER = 2048
"""Most positions of a pass of several micro-batches: with fewer, calling the model takes longer than its arithmetic."""


def passes_per_step(batch: BatchConfig, group: ProcessGroup) -> int:
    """Returns the passes of a step over all ranks, each of the micro-batches that fit POSITIONS_TOGETHER, or of one."""
    per_rank, fitting = MICRO_BATCHES // group.world_size, POSITIONS_TOGETHER // batch.slice_tokens
    return MICRO_BATCHES // max(n for n in range(1, per_rank + 1) if per_rank % n == 0 and n <= max(1, fitting))


def training_passes(batch: BatchConfig, stream: TokenStream, group: ProcessGroup) -> tuple[Batches, int]:
    """Returns the ids and targets of this rank's passes, and the passes of a step over all ranks."""

    def read(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        return read_batch(stream, batch, step, micro_batch, group.rank, group.world_size)

    return in_passes(read, batch, group)


def in_passes(micro_batches: Batches, batch: BatchConfig, group: ProcessGroup) -> tuple[Batches, int]:
    """Returns this rank's micro-batches in passes, and the passes of a step over all ranks."""
    passes = passes_per_step(batch, group)
    count = MICRO_BATCHES // passes

    def read(step: int, number: int) -> tuple[Tensor, Tensor]:
        parts = [micro_batches(step, count * number + index) for index in range(count)]
        x_BT, y_BT = (torch.cat(ids) for ids in zip(*parts, strict=True))
        return x_BT, y_BT

    return read, passes


def ready_to_train(model: GEPA, config: RunConfig, group: ProcessGroup, say_what_fits: bool = True) -> nn.Module:
    """Returns the model for forward passes; a compiled one has run synthetic tokens in each way that the plan needs.

    Raises: OutOfMemory when a slice of a step does not fit; unless `say_what_fits`, torch's own error.
    """
    forward = compile_model(model, config.compile, group.device)
    if forward is model:
        return model
    length, passes = config.batch.sequence_length, passes_per_step(config.batch, group)
    rows = config.batch.tokens_per_step // passes // length
    tokens_BT = torch.arange(rows * length, device=group.device).view(rows, length) % config.model.vocab_size
    # Of gradients that are never cleared, a state that was read back must keep the stored ones.
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters() if p.grad is not None]
    for row in {(row.qat, row.looped): row for row in make_plan(config.schedule)}.values():
        add_gradients(forward, tokens_BT, tokens_BT, row, passes, say_what_fits)
    for gradient, before in gradients:
        gradient.copy_(before)
    return forward
