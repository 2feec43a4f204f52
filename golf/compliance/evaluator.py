"""Evaluators as the proofs run them, and the short evaluation that they are run on."""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from golf.config.config import RunConfig, ScoreConfig, TTTConfig
from golf.evaluate.sliding import Stream, TokenSink, score
from golf.evaluate.ttt import TTTState, score_with_ttt
from golf.model.compile import compile_model
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup

NO_TRAINING = TTTConfig(epochs=0)
"""Settings of an evaluation without test-time training."""


Evaluator = Callable[..., TTTState]
"""Scores a stream; arguments as of `golf.evaluate.ttt.score_with_ttt`."""


def sliding(
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
) -> TTTState:
    """Scores by sliding windows, as an evaluator; `config` is not used."""
    begun = () if start is None else start.scored.chunks
    scored = score(forward or model, stream, score_config, group, start=begun, stop_after=stop_after, sink=sink)
    return TTTState(scored, {}, {})


def configured_evaluator(config: RunConfig, device: torch.device, compiled: bool) -> Evaluator:
    """Returns the evaluator of a configuration: with test-time training, or by sliding windows alone.

    Args:
        config: of the run.
        device: of the models that it is called with.
        compiled: whether a model is compiled, once, where the configuration says so.
    """
    forward_of = cache(partial(compile_model, choice=config.compile if compiled else False, device=device))
    score_stream: Evaluator = sliding if config.ttt is None else score_with_ttt

    def evaluate(model: GEPA, *settings: Any, **options: Any) -> TTTState:
        return score_stream(model, *settings, forward=forward_of(model), **options)

    return evaluate


class ModelCopy:
    """A copy of a model, to be evaluated many times, each time with the weights that the model has now."""

    def __init__(self, model: GEPA) -> None:
        self._model = copy.deepcopy(model)
        self._weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @property
    def fresh(self) -> GEPA:
        """The copy with its first weights, without gradients."""
        self._model.load_state_dict(self._weights)
        self._model.zero_grad(set_to_none=True)
        return self._model.requires_grad_(True)


@dataclass(frozen=True)
class Probe:
    """A short evaluation, long enough to have every kind of border."""

    stream: Stream
    score: ScoreConfig
    ttt: TTTConfig
    group: ProcessGroup

    def run(
        self,
        evaluate: Evaluator,
        model: ModelCopy,
        tokens: Tensor,
        start: TTTState | None = None,
        stop_after: int | None = None,
    ) -> Tensor:
        """Returns the NLL of each target of `tokens`, float64 (N,); NaN where there is none.

        Args:
            tokens: instead of the stream's, int64 (N + 1,).
            stop_after: number of chunks after which to stop.
        """
        nll = torch.full((self.stream.num_targets,), torch.nan, dtype=torch.float64)

        def sink(first: int, values: Tensor) -> None:
            nll[first : first + len(values)] = values.detach().cpu().nan_to_num(nan=math.inf)

        stream = replace(self.stream, tokens=tokens)
        with repeatable():
            evaluate(
                model.fresh, stream, self.score, self.ttt, self.group, start=start, stop_after=stop_after, sink=sink
            )
        return nll


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Uses deterministic kernels within the block, wherever there are some."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")  # `use_deterministic_algorithms` does the same and imports the compiler
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            yield
    finally:
        torch.set_deterministic_debug_mode(before)


def make_probe(
    stream: Stream, score: ScoreConfig, ttt: TTTConfig | None, group: ProcessGroup, small: bool
) -> Probe | None:
    """Returns the first two chunks and a half of a stream; None when it is too short for three chunks.

    Args:
        stream: of validation.
        score: the run's settings.
        ttt: the run's settings.
        group: one process.
        small: chunks of two windows, wide strides and at most 2 epochs, so that it takes seconds on any machine.
    """
    training = NO_TRAINING if ttt is None else ttt
    if small:
        length = score.sequence_length
        score = replace(score, stride=max(score.stride, length // 4), chunk_tokens=2 * length)
        training = replace(training, epochs=min(training.epochs, 2))
    targets = 2 * score.chunk_tokens + score.chunk_tokens // 2
    if stream.num_targets <= 2 * score.chunk_tokens + score.sequence_length:
        return None
    return Probe(Stream(stream.tokens[: targets + 1], stream.target_bytes[:targets]), score, training, group)
