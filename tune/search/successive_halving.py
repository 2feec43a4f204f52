"""Whether a trial goes on after the first chunks of the stream: compared with the others on the very same chunks.

Sums of chunks enter, a standing leaves; pure. Successive halving without waiting: a trial is judged against those that
came so far, and early ones go on. Loss at equal optimiser steps is never compared: it means nothing across schedules.
Source: asynchronous successive halving, Li et al. 2020; here the rungs are stages of the evaluation.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from golf.config.config import RunConfig
from golf.runtime.results import SLIDING

Chunks = Sequence[Sequence[float]]
"""(NLL in nats, tokens, bytes) of the first chunks, in order."""
STRIDE_ERROR = "bpb_stride_error"
"""A trial's metric: the score by the ranking stride above the exact one, on the same chunks."""
LEAST_CHUNKS = 2
"""Fewer have no standard error."""


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """How trials are screened."""

    fraction: float = 0.1
    """Share of the stream's chunks; above 0, at most 0.5."""
    top: float = 0.5
    """Share of the trials that go on from each rung; above 0, at most 1."""
    stride: int | None = None
    """Of the sliding windows that rank trials, to pay less for those that stop; None: the configuration's own, whose
    scores the trials that go on use again. Never of a final figure."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 0.5:
            raise ValueError(f"Screening.fraction must be above 0 and at most 0.5, got {self.fraction}")
        if not 0 < self.top <= 1:
            raise ValueError(f"Screening.top must be above 0 and at most 1, got {self.top}")

    def ranked_by(self, config: RunConfig, rung: str) -> RunConfig:
        """The configuration that a rung's first chunks are scored with."""
        if self.stride is None or rung != SLIDING:
            return config
        return replace(config, score=replace(config.score, stride=self.stride))

    def num_chunks(self, of: int) -> int | None:
        """Chunks to screen on of a stream of `of`; None where that would be more than half of it."""
        wanted = max(LEAST_CHUNKS, math.ceil(self.fraction * of))
        return wanted if wanted <= of / 2 else None


def first_chunks_of(screening: SuccessiveHalving | None, config: RunConfig, num_targets: int) -> int | None:
    """Chunks of a stream of `num_targets` tokens to screen a configuration on; None: it is not screened."""
    return None if screening is None else screening.num_chunks(math.ceil(num_targets / config.score.chunk_tokens))


@dataclass(frozen=True)
class ScreeningRank:
    """A trial among those that were screened on the same chunks."""

    place: int
    """1 is the best."""
    num_trials: int
    """Itself included."""
    best: str
    """The best of the others; itself where there is none."""
    difference_bpb: float
    """Bits per byte above the best other on these chunks; below 0 when better."""
    standard_error_bpb: float
    """Of that difference, from the chunk by chunk differences."""
    promoted: bool
    """Whether it goes on."""

    def __str__(self) -> str:
        if self.num_trials == 1:
            return "the first to come"
        difference = f"{self.difference_bpb:+.4f} +- {self.standard_error_bpb:.4f} BPB against {self.best}"
        return f"place {self.place} of {self.num_trials}, {difference}"


def screening_rank(trial: str, screened: Mapping[str, Chunks], screening: SuccessiveHalving) -> ScreeningRank:
    """The standing of `trial` among all in `screened` (by name) that have the same chunks.

    Assumes that chunks differ independently, which understates the error where neighbours resemble each other.
    """
    mine = screened[trial]
    sizes = [list(chunk[1:]) for chunk in mine]
    rivals = {name: chunks for name, chunks in screened.items() if [list(c[1:]) for c in chunks] == sizes}
    totals = {name: math.fsum(chunk[0] for chunk in chunks) for name, chunks in rivals.items()}
    place = 1 + sum(total < totals[trial] for total in totals.values())
    others = {name: total for name, total in totals.items() if name != trial}
    best = min(others, key=others.__getitem__, default=trial)
    differences = [a[0] - b[0] for a, b in zip(mine, rivals[best], strict=True)]
    bits = 1 / math.log(2) / sum(chunk[2] for chunk in mine)
    error = math.sqrt(len(differences)) * statistics.stdev(differences) if len(differences) > 1 else 0.0
    promoted = place <= math.ceil(screening.top * len(totals))
    return ScreeningRank(place, len(totals), best, math.fsum(differences) * bits, error * bits, promoted)


def stride_error(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """In words, how far the scores of a ranking stride were from the exact ones; None where none was used.

    Args: entries: of trials, some of which were scored both ways on the same chunks.
    """
    errors = [entry["metrics"][STRIDE_ERROR] for entry in entries if STRIDE_ERROR in entry["metrics"]]
    if not errors:
        return None
    told = (
        f"ranked by a stride of its own: {statistics.fmean(errors):+.4f} BPB against the exact score of the same chunks"
    )
    if len(errors) == 1:
        return f"{told}, of the one trial that went on"
    spread = max(errors) - min(errors)
    return f"{told}, mean of {len(errors)} trials; {spread:.4f} between two of them at most: that can turn a ranking"
