"""Legal score-first test-time training (TTT): each chunk is scored, then trained on, never the other way.

The model's weights change in place. No token influences weights before it was scored; the last chunk is not trained on.
Source: the competition's issue #1017 for the rules, PR #598 for the settings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from golf.config.config import ScoreConfig, TTTConfig
from golf.evaluate.sliding import ChunkScore, Scored, Stream, TokenSink, chunk_score, score_windows
from golf.evaluate.windows import make_windows, windows_by_chunk
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import load_optimizer, optimizer_tensors


@dataclass(frozen=True)
class TTTState:
    """The scores so far and what is needed to continue after the last of them."""

    scored: Scored
    weights: Mapping[str, Tensor]
    """All weights after the last update."""
    optimizer: Mapping[str, Tensor]
    """The optimiser's tensors: the momentum is carried over the chunks."""


def chunk_lr(config: TTTConfig, chunk: int, num_chunks: int) -> float:
    """Returns the learning rate: a cosine from `lr` at chunk 0 to 0 at the last, after an optional linear warm-up."""
    cosine = config.lr * 0.5 * (1.0 + math.cos(math.pi * chunk / max(num_chunks - 1, 1)))
    warmup_chunks = int(config.warmup_fraction * num_chunks)
    return cosine * min(1.0, (chunk + 1) / warmup_chunks) if warmup_chunks else cosine


def trainable_parameters(model: GEPA, frozen_blocks: int) -> list[nn.Parameter]:
    """Returns all parameters but those of the first `frozen_blocks` blocks, and switches gradients accordingly."""
    frozen = {id(p) for block in list(model.blocks)[:frozen_blocks] for p in block.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return [p for p in model.parameters() if p.requires_grad]


def score_with_ttt(
    model: GEPA,
    stream: Stream,
    score_config: ScoreConfig,
    config: TTTConfig,
    group: ProcessGroup,
    *,
    forward: nn.Module | None = None,
    start: TTTState | None = None,
    stop_after: int | None = None,
    sink: TokenSink | None = None,
    after_chunk: Callable[[int, ChunkScore], None] | None = None,
    on_chunk_boundary: Callable[[Callable[[], TTTState]], None] | None = None,
) -> TTTState:
    """Scores and trains the stream chunk by chunk.

    Args: forward: the compiled model where there is one; start: where an earlier call stopped; stop_after: number of
        chunks after which to stop, all by default; sink: receives every NLL of this rank; after_chunk: called with each
        chunk's number and sums, before it is trained on; on_chunk_boundary: called between two chunks, on all ranks,
        with a function that returns the state to continue from.
    Returns: the scores of all chunks so far, and the state after the last of them.
    Raises: Diverged naming the chunk whose loss is not finite, on all ranks alike.
    """
    forward = model if forward is None else forward
    trainer = ChunkTrainer(trainable_parameters(model, config.frozen_blocks), forward, config, group)
    done: list[ChunkScore] = []
    if start is not None:
        model.load_state_dict(dict(start.weights))
        load_optimizer(trainer.optimizer, start.optimizer)
        done = list(start.scored.chunks)

    def reached(scored: Scored) -> TTTState:
        return TTTState(scored, model.state_dict(), optimizer_tensors(trainer.optimizer.state_dict()))

    def on_boundary(scored: Scored) -> None:
        if on_chunk_boundary is not None:
            on_chunk_boundary(partial(reached, scored))

    scored = score_and_train(
        trainer,
        stream,
        score_config,
        config,
        group,
        done=done,
        stop_after=stop_after,
        sink=sink,
        after_chunk=after_chunk,
        on_chunk_boundary=on_boundary,
    )
    last = reached(scored)
    return replace(last, weights={name: tensor.detach().clone() for name, tensor in last.weights.items()})


def score_and_train(
    trainer: "ChunkTrainer",
    stream: Stream,
    score_config: ScoreConfig,
    config: TTTConfig,
    group: ProcessGroup,
    *,
    done: Sequence[ChunkScore] = (),
    stop_after: int | None = None,
    sink: TokenSink | None = None,
    after_chunk: Callable[[int, ChunkScore], None] | None = None,
    on_chunk_boundary: Callable[[Scored], None] | None = None,
) -> Scored:
    """Scores each chunk, then trains on it; see `score_with_ttt`.

    Args: trainer: of the model that is scored, as it is after the chunks that are `done`; on_chunk_boundary: receives
        the scores so far.
    """
    windows = make_windows(stream.num_targets, score_config.sequence_length, score_config.stride)
    chunks = windows_by_chunk(windows, score_config.chunk_tokens)
    # The schedule's, as published: also a last one counts that begins within the last window and scores nothing.
    num_chunks = -(-stream.num_targets // score_config.chunk_tokens)
    scores = list(done)
    end = len(chunks) if stop_after is None else min(stop_after, len(chunks))
    for number in range(len(scores), end):
        nats = score_windows(trainer.forward, stream, chunks[number], score_config, group, sink)
        scores.append(chunk_score(stream, chunks[number], number, nats))
        if after_chunk is not None:
            after_chunk(number, scores[-1])
        if number + 1 < len(chunks):
            first = number * score_config.chunk_tokens
            tokens = stream.tokens[first : first + score_config.chunk_tokens + 1]
            trainer.train(tokens, score_config.sequence_length, chunk_lr(config, number, num_chunks))
        if on_chunk_boundary is not None and number + 1 < end:
            on_chunk_boundary(Scored(tuple(scores)))
    return Scored(tuple(scores))


class ChunkTrainer:
    """The trained parameters, their gradients in one buffer, and the optimiser, whose momentum outlives a chunk."""

    def __init__(
        self, parameters: list[nn.Parameter], forward: nn.Module, config: TTTConfig, group: ProcessGroup
    ) -> None:
        self.parameters, self.forward, self.config, self.group = parameters, forward, config, group
        self.optimizer = make_ttt_optimizer(parameters, config)
        sizes = [parameter.numel() for parameter in parameters]
        self.summed = torch.zeros(sum(sizes), device=group.device)
        self.gradients = [part.view(p.shape) for p, part in zip(parameters, self.summed.split(sizes), strict=True)]

    def train(self, tokens: Tensor, length: int, lr: float) -> None:
        """Trains `epochs` passes over a chunk's full, non-overlapping sequences.

        Args: tokens: of the chunk and the one after it, int64 (N + 1,), all of whose targets were scored.
        """
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        sequences = (len(tokens) - 1) // length
        x_NT, y_NT = (part[: sequences * length].view(-1, length) for part in (tokens[:-1], tokens[1:]))
        for _ in range(self.config.epochs):
            for batch in zip(*(part.split(self.config.batch_sequences) for part in (x_NT, y_NT)), strict=True):
                self._add_gradients(*batch)
                torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _add_gradients(self, x_BT: Tensor, y_BT: Tensor) -> None:
        """Computes the gradient of the mean loss over all sequences of the batch, summed over the ranks."""
        device, own_rows = self.group.device, slice(self.group.rank, None, self.group.world_size)
        self.summed.zero_()
        share = sequences_per_pass(x_BT.shape[1], device) or len(x_BT)
        for x, y in zip(*(ids_BT[own_rows].split(share) for ids_BT in (x_BT, y_BT)), strict=True):
            if len(x):
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = self.forward(x.to(device), y.to(device), qat=self.config.qat)
                (loss * (len(x) / len(x_BT))).backward()
        self.group.sum(self.summed)


def sequences_per_pass(length: int, device: torch.device) -> int | None:
    """Returns the sequences of one forward and backward pass: on a CPU few enough for its cache, else None for all."""
    return max(1, 4096 // length) if device.type == "cpu" else None


def make_ttt_optimizer(parameters: list[nn.Parameter], config: TTTConfig) -> torch.optim.Optimizer:
    """Returns SGD with momentum, or AdamW without weight decay."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)
