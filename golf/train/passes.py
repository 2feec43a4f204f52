"""What the training loop needs of a configuration on a device: the ids of every pass, and the model to run them on."""

import torch
from torch import nn

from golf.config import MICRO_BATCHES, BatchConfig, RunConfig
from golf.data.batches import read_batch
from golf.data.shards import TokenStream
from golf.dist import Group
from golf.model.device import compile_model
from golf.model.gepa import GEPA
from golf.plan import make_plan
from golf.train.loop import Batches, add_gradients


def training_batches(batch: BatchConfig, stream: TokenStream, group: Group) -> Batches:
    """The micro-batches of this rank."""
    return lambda step, number: read_batch(stream, batch, step, number, group.rank, group.world_size)


def ready_to_train(model: GEPA, config: RunConfig, group: Group) -> nn.Module:
    """The model for forward passes; a compiled one has seen synthetic tokens, both with and without QAT.

    Raises: OutOfMemory when a slice of a step does not fit.
    """
    forward = compile_model(model, config.compile, group.device)
    if forward is model:
        return model
    length = config.batch.sequence_length
    rows = config.batch.slice_tokens // length
    tokens_BT = torch.arange(rows * length, device=group.device).view(rows, length) % config.model.vocab_size
    # Of gradients that are never cleared, a state that was read back must keep the stored ones.
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters() if p.grad is not None]
    for qat in (False, True) if any(row.qat for row in make_plan(config.schedule)) else (False,):
        add_gradients(forward, tokens_BT, tokens_BT, qat, MICRO_BATCHES)
    for gradient, before in gradients:
        gradient.copy_(before)
    return forward
