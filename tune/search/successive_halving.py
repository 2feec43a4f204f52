"""Whether a trial continues after the first chunks of the stream: it is compared with the others on the same chunks.

Successive halving without waiting: a trial is ranked among those that came so far, and early ones continue. Those that
continue are compared again on twice as many chunks, as long as that is at most half of the stream. Loss at equal
optimiser steps is never compared: it means nothing across schedules. Source: asynchronous successive halving, Li et al.
2020; here the rungs are stages of the evaluation.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Chunks = Sequence[tuple[float, int, int]]
"""(NLL in nats, tokens, bytes) of the first chunks, in order."""
LEAST_CHUNKS = 2
"""Fewer have no standard error."""
LEAST_TRIALS = 4
"""Trials on the same chunks or at the same step, itself included, before one is stopped."""
_ID_CHARACTERS = 6


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """How trials are screened."""

    fraction: float = 0.1
    """Share of the stream's chunks after which trials are first compared; above 0, at most 0.5."""
    top: float = 0.5
    """Share of the trials that continue from each rung; above 0, at most 1."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 0.5:
            raise ValueError(f"SuccessiveHalving.fraction must be above 0 and at most 0.5, got {self.fraction}")
        if not 0 < self.top <= 1:
            raise ValueError(f"SuccessiveHalving.top must be above 0 and at most 1, got {self.top}")

    def chunk_counts(self, stream_chunks: int) -> tuple[int, ...]:
        """Returns the numbers of first chunks to screen on of a whole stream's, each twice the one before.

        None is more than half of the stream; where the first would be, there is none.
        """
        counts, count = list[int](), max(LEAST_CHUNKS, math.ceil(self.fraction * stream_chunks))
        while count <= stream_chunks / 2:
            counts.append(count)
            count *= 2
        return tuple(counts)


@dataclass(frozen=True)
class ScreeningRank:
    """A trial's rank among those that were screened on the same chunks."""

    rank: int
    """1 is the best."""
    num_trials: int
    """Itself included."""
    against: str
    """The trial that it is compared with: the last that goes on where it comes after that, else the best of the others;
    itself where there is none."""
    difference_bpb: float
    """Bits per byte above that one on these chunks; below 0 when better."""
    standard_error_bpb: float
    """Standard error of that difference, from the chunk by chunk differences."""
    promoted: bool
    """Whether the trial continues."""

    def __str__(self) -> str:
        if self.num_trials == 1:
            return "the first to come"
        side = "behind" if self.difference_bpb > 0 else "ahead of"
        difference = (
            f"{abs(self.difference_bpb):.4f} +- {self.standard_error_bpb:.4f} BPB {side} {short_id(self.against)}"
        )
        return f"{ordinal(self.rank)} of {self.num_trials}, {difference}"


def screening_rank(trial: str, screened: Mapping[str, Chunks], screening: SuccessiveHalving) -> ScreeningRank:
    """Returns the rank of `trial` among all in `screened` (by name) that have the same chunks.

    A trial below the top share continues all the same where it is not more than one standard error behind the last of
    them. Assumes that chunks differ independently, which understates the error where neighbours resemble each other.
    """
    own = screened[trial]
    sizes = [chunk[1:] for chunk in own]
    rivals = {name: chunks for name, chunks in screened.items() if [chunk[1:] for chunk in chunks] == sizes}
    totals = {name: math.fsum(chunk[0] for chunk in chunks) for name, chunks in rivals.items()}
    rank = 1 + sum(total < totals[trial] for total in totals.values())
    ordered = sorted((name for name in totals if name != trial), key=totals.__getitem__)
    among_top = is_among_top(rank, len(totals), screening.top)
    place = 0 if among_top else num_going_on(len(totals), screening.top) - 1
    against = ordered[place] if ordered else trial
    differences = [a[0] - b[0] for a, b in zip(own, rivals[against], strict=True)]
    bits = 1 / math.log(2) / sum(chunk[2] for chunk in own)
    error = math.sqrt(len(differences)) * statistics.stdev(differences) if len(differences) > 1 else 0.0
    difference = math.fsum(differences)
    promoted = among_top or difference <= error
    return ScreeningRank(rank, len(totals), against, difference * bits, error * bits, promoted)


def num_going_on(num_trials: int, top: float) -> int:
    """Returns how many of so many trials are in the top share; all of fewer than LEAST_TRIALS."""
    return num_trials if num_trials < LEAST_TRIALS else math.ceil(top * num_trials - 1e-9)


def is_among_top(rank: int, num_trials: int, top: float) -> bool:
    """Returns whether a trial goes on by its rank among those that came so far, itself included."""
    return rank <= num_going_on(num_trials, top)


def stopped_text(where: str, top: float, option: str) -> str:
    """Returns why a trial was stopped early. Args: where: its rank, on what; top: share; option: that runs all."""
    return f"stopped early: {where} (top {100 * top:g} % go on; {option} runs all)"


def ordinal(number: int) -> str:
    """Returns 1st, 2nd, 3rd, 4th, ..."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def short_id(trial: str) -> str:
    """Returns the first characters of a trial's id."""
    return trial[:_ID_CHARACTERS]


def promoted_share(num_trials: int, top: float) -> float:
    """Returns the expected share of trials that are in the top share of those that came so far, themselves included.

    Trials that go on because the difference is within its error come on top of that.
    """
    return sum(min(n, num_going_on(n, top)) / n for n in range(1, num_trials + 1)) / max(num_trials, 1)
