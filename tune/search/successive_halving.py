"""Whether a trial continues after the first chunks of the stream: it is compared with the others on the same chunks.

Successive halving without waiting: a trial is ranked among those that came so far, and early ones continue. Loss at
equal optimiser steps is never compared: it means nothing across schedules. Source: asynchronous successive halving, Li
et al. 2020; here the rungs are stages of the evaluation.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Chunks = Sequence[tuple[float, int, int]]
"""(NLL in nats, tokens, bytes) of the first chunks, in order."""
LEAST_CHUNKS = 2
"""Fewer have no standard error."""


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """How trials are screened."""

    fraction: float = 0.1
    """Share of the stream's chunks; above 0, at most 0.5."""
    top: float = 0.5
    """Share of the trials that continue from each rung; above 0, at most 1."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 0.5:
            raise ValueError(f"SuccessiveHalving.fraction must be above 0 and at most 0.5, got {self.fraction}")
        if not 0 < self.top <= 1:
            raise ValueError(f"SuccessiveHalving.top must be above 0 and at most 1, got {self.top}")

    def num_chunks(self, stream_chunks: int) -> int | None:
        """Returns the number of chunks to screen on of a whole stream's; None where that is more than half of it."""
        num = max(LEAST_CHUNKS, math.ceil(self.fraction * stream_chunks))
        return num if num <= stream_chunks / 2 else None


@dataclass(frozen=True)
class ScreeningRank:
    """A trial's rank among those that were screened on the same chunks."""

    rank: int
    """1 is the best."""
    num_trials: int
    """Itself included."""
    best: str
    """The best of the others; itself where there is none."""
    difference_bpb: float
    """Bits per byte above the best other on these chunks; below 0 when better."""
    standard_error_bpb: float
    """Standard error of that difference, from the chunk by chunk differences."""
    promoted: bool
    """Whether the trial continues."""

    def __str__(self) -> str:
        if self.num_trials == 1:
            return "the first to come"
        difference = f"{self.difference_bpb:+.4f} +- {self.standard_error_bpb:.4f} BPB against {self.best}"
        return f"rank {self.rank} of {self.num_trials}, {difference}"


def screening_rank(trial: str, screened: Mapping[str, Chunks], screening: SuccessiveHalving) -> ScreeningRank:
    """Returns the rank of `trial` among all in `screened` (by name) that have the same chunks.

    Assumes that chunks differ independently, which understates the error where neighbours resemble each other.
    """
    own = screened[trial]
    sizes = [chunk[1:] for chunk in own]
    rivals = {name: chunks for name, chunks in screened.items() if [chunk[1:] for chunk in chunks] == sizes}
    totals = {name: math.fsum(chunk[0] for chunk in chunks) for name, chunks in rivals.items()}
    rank = 1 + sum(total < totals[trial] for total in totals.values())
    others = {name: total for name, total in totals.items() if name != trial}
    best = min(others, key=others.__getitem__, default=trial)
    differences = [a[0] - b[0] for a, b in zip(own, rivals[best], strict=True)]
    bits = 1 / math.log(2) / sum(chunk[2] for chunk in own)
    error = math.sqrt(len(differences)) * statistics.stdev(differences) if len(differences) > 1 else 0.0
    promoted = rank <= math.ceil(screening.top * len(totals))
    return ScreeningRank(rank, len(totals), best, math.fsum(differences) * bits, error * bits, promoted)


def promoted_share(num_trials: int, top: float) -> float:
    """Returns the expected share of trials that are in the top share of those that came so far, themselves included."""
    return sum(min(n, math.ceil(top * n)) / n for n in range(1, num_trials + 1)) / max(num_trials, 1)
