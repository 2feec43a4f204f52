"""Legal score-first test-time training (TTT): each chunk is scored, then trained on, never the other way.

A model read back from its artifact and the validation stream enter, one score per chunk leaves; the model's
weights change in place. No token influences weights before it was scored; the last chunk is not trained on.
Source: the competition's issue #1017 for the rules, PR #598 for the settings.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from golf.config import AdaptConfig, ScoreConfig
from golf.dist import Group
from golf.model.gepa import GEPA
from golf.score.sliding import ChunkScore, Scored, Stream, TokenSink, chunk_score, score_windows
from golf.score.windows import make_windows, windows_by_chunk
from golf.tensors import load_optimizer, optimizer_tensors


@dataclass(frozen=True)
class Adapted:
    """The scores so far and what is needed to go on after the last of them."""

    scored: Scored
    weights: Mapping[str, Tensor]
    """All weights after the last update."""
    optimizer: Mapping[str, Tensor]
    """The optimiser's tensors: the momentum is carried over the chunks."""


def chunk_lr(config: AdaptConfig, chunk: int, num_chunks: int) -> float:
    """Cosine from `lr` at chunk 0 to 0 at the last, after an optional linear warm-up."""
    cosine = config.lr * 0.5 * (1.0 + math.cos(math.pi * chunk / max(num_chunks - 1, 1)))
    warmup_chunks = int(config.warmup_fraction * num_chunks)
    return cosine * min(1.0, (chunk + 1) / warmup_chunks) if warmup_chunks else cosine


def trainable_parameters(model: GEPA, frozen_blocks: int) -> list[nn.Parameter]:
    """All parameters but those of the first `frozen_blocks` blocks; gradients are switched accordingly."""
    frozen = {id(p) for block in list(model.blocks)[:frozen_blocks] for p in block.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return [p for p in model.parameters() if p.requires_grad]


def adapt(
    model: GEPA,
    stream: Stream,
    score_config: ScoreConfig,
    config: AdaptConfig,
    group: Group,
    *,
    start: Adapted | None = None,
    stop_after: int | None = None,
    sink: TokenSink | None = None,
    after_chunk: Callable[[int, ChunkScore], None] | None = None,
    border: Callable[[Callable[[], Adapted]], None] | None = None,
) -> Adapted:
    """Score and train the stream chunk by chunk.

    Args: start: where an earlier call stopped; stop_after: number of chunks after which to stop, all by default;
        sink: sees every NLL of this rank; after_chunk: called with each chunk's number and sums, before it is trained
        on; border: called between two chunks, on all ranks, with what gives the state to go on from.
    Returns: the scores of all chunks so far, and the state after the last of them.
    """
    windows = make_windows(stream.num_targets, score_config.sequence_length, score_config.stride)
    chunks = windows_by_chunk(windows, score_config.chunk_tokens, stream.num_targets)
    parameters = trainable_parameters(model, config.frozen_blocks)
    optimizer = make_adapt_optimizer(parameters, config)
    done: list[ChunkScore] = []
    if start is not None:
        model.load_state_dict(dict(start.weights))
        load_optimizer(optimizer, start.optimizer)
        done = list(start.scored.chunks)

    def reached() -> Adapted:
        return Adapted(Scored(tuple(done)), model.state_dict(), optimizer_tensors(optimizer.state_dict()))

    end = len(chunks) if stop_after is None else min(stop_after, len(chunks))
    for number in range(len(done), end):
        nats = score_windows(model, stream, chunks[number], score_config, group, sink)
        done.append(chunk_score(stream, chunks[number], nats))
        if after_chunk is not None:
            after_chunk(number, done[-1])
        if number < len(chunks) - 1:
            for settings in optimizer.param_groups:
                settings["lr"] = chunk_lr(config, number, len(chunks))
            train_chunk(model, parameters, optimizer, stream, number, score_config, config, group)
        if border is not None and number + 1 < end:
            border(reached)
    last = reached()
    return replace(last, weights={name: tensor.detach().clone() for name, tensor in last.weights.items()})


def make_adapt_optimizer(parameters: list[nn.Parameter], config: AdaptConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW without weight decay."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)


def train_chunk(
    model: GEPA,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    stream: Stream,
    chunk: int,
    score_config: ScoreConfig,
    config: AdaptConfig,
    group: Group,
) -> None:
    """`epochs` passes over the chunk's whole, non-overlapping sequences, all of whose targets were scored."""
    length = score_config.sequence_length
    begin = chunk * score_config.chunk_tokens
    end = min(begin + score_config.chunk_tokens, stream.num_targets)
    starts = range(begin, end - length + 1, length)
    for _ in range(config.epochs):
        for first in range(0, len(starts), config.batch_sequences):
            batch = starts[first : first + config.batch_sequences]
            gradients = batch_gradients(model, parameters, stream, batch, length, config.qat, group)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def batch_gradients(
    model: GEPA, parameters: list[nn.Parameter], stream: Stream, starts: range, length: int, qat: bool, group: Group
) -> Iterator[Tensor]:
    """The gradient of the mean loss over all sequences of the batch, whoever computed them, per parameter."""
    mine = starts[group.rank :: group.world_size]
    flat = torch.zeros(sum(p.numel() for p in parameters), device=group.device)
    parts = [
        part.view(p.shape) for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True)
    ]
    if len(mine):
        x_BT = torch.stack([stream.tokens[s : s + length] for s in mine]).to(group.device)
        y_BT = torch.stack([stream.tokens[s + 1 : s + 1 + length] for s in mine]).to(group.device)
        with torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda"):
            loss = model(x_BT, y_BT, qat=qat)
        for part, gradient in zip(parts, torch.autograd.grad(loss, parameters), strict=True):
            part.copy_(gradient * (len(mine) / len(starts)))
    group.sum(flat)
    return iter(parts)
