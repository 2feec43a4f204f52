"""What an evaluator does, seen from outside while it runs: tokens read, optimiser steps, scores, connections.

The evaluator is not asked: hooks see the token ids that the embedding reads, and their content identifies where in the
stream they are. What went through the model, with gradients or without, counts as used by the optimiser's next step.
"""

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from golf.model.gepa import GEPA

_GRAM = 8
"""Tokens by which a position in the stream is looked up."""


class Watch:
    """What one evaluation did."""

    def __init__(self, tokens: Tensor) -> None:
        """Args: tokens: of the stream, int64 (N + 1,)."""
        self._tokens = tokens.cpu().numpy()
        self._starts: dict[bytes, list[int]] = {}
        for start in range(len(tokens) - _GRAM + 1):
            self._starts.setdefault(self._tokens[start : start + _GRAM].tobytes(), []).append(start)
        self.nll = torch.full((len(tokens) - 1,), torch.nan, dtype=torch.float64)
        """The last score of each target in nats, (N,)."""
        self.times_scored = np.zeros(len(tokens) - 1, np.int64)
        """How often each target got a score, (N,)."""
        self.read = np.zeros(len(tokens) - 1, bool)
        """Targets that went through the model as tokens, (N,)."""
        self.trained = np.zeros(len(tokens) - 1, bool)
        """Targets that were in a pass with gradients, (N,)."""
        self.too_early = np.zeros(len(tokens) - 1, bool)
        """Targets without a score in a pass with gradients, or read when an optimiser stepped, (N,)."""
        self.before_first_score = 0
        """Optimiser steps before any target had a score."""
        self.steps = 0
        """Optimiser steps."""
        self.reads: Counter[tuple[int, int]] = Counter()
        """(start, length) of the rows that went through the model without gradients."""
        self.unknown_rows = 0
        """Rows that are not of the stream."""
        self.unknown_trained = 0
        """Unknown rows that went through with gradients."""
        self.connections: list[str] = []
        """Network addresses that this thread connected to."""

    def sink(self, first: int, nll: Tensor) -> None:
        """Records the scores of the targets from `first` on, as an evaluator reports them."""
        part = slice(first, first + len(nll))
        self.nll[part] = nll.detach().cpu()
        self.times_scored[part] += 1

    @property
    def read_twice(self) -> int:
        """Rows that were read for scoring again after they had been."""
        return sum(times - 1 for times in self.reads.values())

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Records token ids that the embedding reads."""
        for row in inputs[0].detach().reshape(-1, inputs[0].shape[-1]).cpu().numpy():
            parts = self._parts_of_stream(row)
            self.unknown_rows += not parts
            self.unknown_trained += not parts and torch.is_grad_enabled()
            for start, length in parts:
                # A token at position p of the stream is the target p - 1; a pass with gradients has its own targets.
                self.read[max(0, start - 1) : start + length - 1] = True
                if torch.is_grad_enabled():
                    part = slice(start, start + length)
                    self.trained[part] = True
                    self.too_early[part] |= self.times_scored[part] == 0
                else:
                    self.reads[start, length] += 1

    def _parts_of_stream(self, row: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """Returns (start in the stream, length) of every part of `row` in the stream, at least 8 tokens long.

        From several positions that match equally far the first is taken, which accuses a training of the least.
        """
        parts, at = [], 0
        while at + _GRAM <= len(row):
            starts = self._starts.get(row[at : at + _GRAM].tobytes(), [])
            if not starts:
                at += 1
                continue
            length, start = max((self._same(row[at:], start), -start) for start in starts)
            parts.append((-start, length))
            at += length
        return parts

    def _same(self, row: npt.NDArray[np.int64], start: int) -> int:
        """Returns for how many tokens `row` equals the stream from `start` on."""
        here = self._tokens[start : start + len(row)]
        differ = np.nonzero(here != row[: len(here)])[0]
        return int(differ[0]) if len(differ) else len(here)

    def step(self, optimizer: Optimizer, *_: Any) -> None:
        """Records a step of an optimiser."""
        self.steps += 1
        self.too_early |= self.read & (self.times_scored == 0)
        self.before_first_score += not self.times_scored.any()


@contextlib.contextmanager
def watching(model: GEPA, tokens: Tensor) -> Iterator[Watch]:
    """Records what happens to `model` inside the block.

    Args:
        model: watched.
        tokens: of the stream, int64 (N + 1,).
    """
    watch = Watch(tokens)
    # Where nothing is compiled, a second of imports is saved.
    enter = torch.compiler.disable(watch.enter) if "torch._dynamo" in sys.modules else watch.enter
    hooks = [model.token_embedding.register_forward_pre_hook(enter), register_optimizer_step_pre_hook(watch.step)]
    _listen()
    _WATCHES[threading.get_ident()] = watch.connections
    try:
        yield watch
    finally:
        del _WATCHES[threading.get_ident()]
        for hook in hooks:
            hook.remove()


_WATCHES: dict[int, list[str]] = {}
"""Connections by watched thread: an audit hook cannot be removed."""


@cache
def _listen() -> None:
    """Records every connection that Python opens, from now on."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo") and _WATCHES:
        seen = _WATCHES.get(threading.get_ident())
        if seen is not None:
            seen.append(str(arguments[1] if event != "socket.getaddrinfo" else arguments[0]))
