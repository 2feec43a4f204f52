"""Illegal evaluators: each breaks one rule of the competition, as submissions have done, and is legal otherwise.

They have the signature of `golf.evaluate.ttt.score_with_ttt`.
"""

import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from golf.config.config import ScoreConfig, TTTConfig
from golf.evaluate.sliding import ChunkScore, Scored, Stream
from golf.evaluate.ttt import ChunkTrainer, TTTState, score_with_ttt, trainable_parameters
from golf.evaluate.windows import Window, make_windows, windows_by_chunk
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup

Sink = Callable[[int, Tensor], None]


def ignore(first: int, nll: Tensor) -> None:
    """A sink that nobody looks into."""


def put(nll: Tensor, first: int, part: Tensor) -> None:
    """A sink that keeps the NLLs in a tensor."""
    nll[first : first + len(part)] = part


class Loop:
    """The parts of an evaluator, to be put together wrongly."""

    def __init__(
        self,
        model: GEPA,
        stream: Stream,
        score: ScoreConfig,
        config: TTTConfig,
        group: ProcessGroup,
        *,
        start: TTTState | None = None,
        stop_after: int | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.model, self.stream, self.score_config, self.sink = model, stream, score, sink or ignore
        windows = make_windows(stream.num_targets, score.sequence_length, score.stride)
        self.members = windows_by_chunk(windows, score.chunk_tokens)
        self.trainer = ChunkTrainer(trainable_parameters(model, config.frozen_blocks), model, config, group)
        self.lr, self.done = config.lr, list[ChunkScore]()
        if start is not None:
            model.load_state_dict(dict(start.weights))
            self.done = list(start.scored.chunks)
        self.end = len(self.members) if stop_after is None else min(stop_after, len(self.members))

    @property
    def last(self) -> int:
        """Number of the stream's last chunk."""
        return len(self.members) - 1

    @torch.no_grad()
    def nll_of(self, window: Window) -> Tensor:
        """NLLs of a window's scored targets."""
        tokens = self.stream.tokens[window.start : window.end + 1]
        nll = F.cross_entropy(self.model.logits(tokens[None, :-1])[0], tokens[1:], reduction="none")
        return nll.double()[window.first_scored - window.start :]

    def take(self, number: int, nll_of: Callable[[Window], Tensor] | None = None) -> None:
        """Score a chunk, by `nll_of` instead of the model's own NLLs where it is given."""
        nats = 0.0
        for window in self.members[number]:
            nll = (nll_of or self.nll_of)(window)
            self.sink(window.first_scored, nll)
            nats += float(nll.sum())
        self.keep(number, nats)

    def keep(self, number: int, nats: float) -> None:
        """Count a chunk's sum."""
        first, end = self.members[number][0].first_scored, self.members[number][-1].end
        self.done.append(ChunkScore(nats, end - first, int(self.stream.target_bytes[first:end].sum())))

    def train(self, number: int, beyond: int = 0) -> None:
        """Train on a chunk, and on so many tokens beyond its border."""
        first = number * self.score_config.chunk_tokens
        tokens = self.stream.tokens[first : first + self.score_config.chunk_tokens + beyond + 1]
        self.trainer.train(tokens, self.score_config.sequence_length, self.lr)

    def result(self) -> TTTState:
        """What an evaluator returns."""
        weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return TTTState(Scored(tuple(self.done)), weights, {})


def trains_before_scoring(*args: Any, **how: Any) -> TTTState:
    """Trains on a chunk, then scores it."""
    loop = Loop(*args, **how)
    for number in range(len(loop.done), loop.end):
        loop.train(number)
        loop.take(number)
    return loop.result()


def keeps_the_best_of_two_passes(*args: Any, **how: Any) -> TTTState:
    """Goes through the stream twice, training all the way, and keeps the smaller sum of each chunk."""
    sink, stop_after = how.pop("sink", None) or ignore, how.pop("stop_after", None)
    passes = []
    loop = Loop(*args)
    nll = torch.zeros(2, loop.stream.num_targets, dtype=torch.float64)
    for turn in range(2):
        loop.done, loop.sink = [], partial(put, nll[turn])
        for number in range(len(loop.members)):
            loop.take(number)
            loop.train(number)
        passes.append(loop.done)
    loop.done = []
    for number, (one, two) in enumerate(zip(*passes, strict=True)):
        best = one if one.nll_nats < two.nll_nats else two
        loop.done.append(best)
        first, end = loop.members[number][0].first_scored, loop.members[number][-1].end
        sink(first, nll[int(best is two), first:end])
    loop.done = loop.done[:stop_after]
    return loop.result()


def keeps_the_best_of_two_strides(*args: Any, **how: Any) -> TTTState:
    """Scores every token in a wide and in a narrow context and keeps the smaller NLL."""
    loop = Loop(*args, **how)

    def best(window: Window) -> Tensor:
        near = replace(window, start=max(window.start, window.first_scored - 4))
        return torch.minimum(loop.nll_of(window), loop.nll_of(near))

    for number in range(len(loop.done), loop.end):
        loop.take(number, best)
    return loop.result()


def scores_the_tail_twice(*args: Any, **how: Any) -> TTTState:
    """Counts the last window once more."""
    loop = Loop(*args, **how)
    for number in range(len(loop.done), loop.end):
        loop.take(number)
        if number == loop.last:
            window = loop.members[number][-1]
            nll, chunk = loop.nll_of(window), loop.done[-1]
            loop.sink(window.first_scored, nll)
            size = int(loop.stream.target_bytes[window.first_scored : window.end].sum())
            loop.done[-1] = ChunkScore(
                chunk.nll_nats + float(nll.sum()), chunk.num_tokens + len(nll), chunk.num_bytes + size
            )
        else:
            loop.train(number)
    return loop.result()


def _with_history(*args: Any, mix: Callable[[Tensor, Tensor], Tensor], **how: Any) -> TTTState:
    """Legal but for `mix`: probabilities and how often (previous, target) stood before, to probabilities."""
    loop = Loop(*args, **how)

    def mixed(window: Window) -> Tensor:
        tokens = loop.stream.tokens
        nll = loop.nll_of(window)
        for at, target in enumerate(range(window.first_scored, window.end)):
            pairs = torch.stack([tokens[:target], tokens[1 : target + 1]])
            follows = pairs[0] == tokens[target]
            seen = (follows & (pairs[1] == tokens[target + 1])).sum() / follows.sum().clamp(min=1)
            nll[at] = -mix((-nll[at]).exp(), seen.double()).log()
        return nll

    for number in range(len(loop.done), loop.end):
        loop.take(number, mixed)
        if number < loop.last:
            loop.train(number)
    return loop.result()


def target_in_the_cache_key(*args: Any, **how: Any) -> TTTState:
    """Looks up (previous token, target) in a cache of what it has seen: a hit raises the target's probability."""
    return _with_history(*args, mix=lambda p, seen: 0.5 * p + 0.5 if seen > 0 else p, **how)


def unnormalised_mixture(*args: Any, **how: Any) -> TTTState:
    """Adds the share of an n-gram to the model's probability without taking from it."""
    return _with_history(*args, mix=lambda p, seen: p + 0.2 * seen, **how)


def optimises_a_delta_on_scored_tokens(*args: Any, **how: Any) -> TTTState:
    """Fits a vector on the logits to the very tokens of the window that it then scores."""
    loop = Loop(*args, **how)

    def fitted(window: Window) -> Tensor:
        tokens = loop.stream.tokens[window.start : window.end + 1]
        with torch.no_grad():
            logits = loop.model.logits(tokens[None, :-1])[0]
        delta = torch.zeros(logits.shape[1], requires_grad=True)
        optimizer = torch.optim.AdamW([delta], lr=0.05)
        scored = slice(window.first_scored - window.start, None)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy((logits + delta)[scored], tokens[1:][scored]).backward()
            optimizer.step()
        nll = F.cross_entropy((logits + delta.detach())[scored], tokens[1:][scored], reduction="none")
        return nll.double()

    for number in range(len(loop.done), loop.end):
        loop.take(number, fitted)
    return loop.result()


def peeks_across_the_border(*args: Any, **how: Any) -> TTTState:
    """Trains on up to two sequences more than were scored."""
    loop = Loop(*args, **how)
    for number in range(len(loop.done), loop.end):
        loop.take(number)
        if number < loop.last:
            loop.train(number, beyond=2 * loop.score_config.sequence_length)
    return loop.result()


def trains_on_the_last_chunk(*args: Any, **how: Any) -> TTTState:
    """Goes on training when there is nothing left to score."""
    loop = Loop(*args, **how)
    for number in range(len(loop.done), loop.end):
        loop.take(number)
        loop.train(number)
    return loop.result()


def leaves_out_the_hardest(*args: Any, **how: Any) -> TTTState:
    """Does not count the worst token of each window."""
    loop = Loop(*args, **how)

    def without_worst(window: Window) -> Tensor:
        nll = loop.nll_of(window)
        return nll.where(nll < nll.max(), 0.0)

    for number in range(len(loop.done), loop.end):
        loop.take(number, without_worst)
        if number < loop.last:
            loop.train(number)
    return loop.result()


def reports_smaller_sums(*args: Any, **how: Any) -> TTTState:
    """Scores truly, and tells 1 % less."""
    state = score_with_ttt(*args, **how)
    chunks = tuple(replace(chunk, nll_nats=0.99 * chunk.nll_nats) for chunk in state.scored.chunks)
    return replace(state, scored=Scored(chunks))


def asks_the_network(*args: Any, **how: Any) -> TTTState:
    """Opens a connection during evaluation."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect(("127.0.0.1", 9))
    return score_with_ttt(*args, **how)
