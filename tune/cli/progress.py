"""How far a sweep is: what runs, what ended, what is best and how long the rest takes."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tune.records.entries import TrialEntry, TrialState
from tune.search.space import Trial

DescribeProgress = Callable[[Trial, str, int], tuple[str, float]]
"""(trial, curve, step) -> (what the trial is doing, in words; the fraction of it that is done)."""
_LEAST_FRACTION = 0.1
"""Fraction of a trial from which on its own pace says more than the mean of others."""


@dataclass
class RunningTrial:
    """A trial that is running."""

    trial: Trial
    started: float
    """By the monotonic clock."""
    stage: str = "starting"
    fraction: float = 0.0
    """Of the whole trial that is done, 0 to 1."""
    score: tuple[str, float] | None = None
    """Curve and value of its last point."""

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    def seconds_left(self, mean: float) -> float:
        """Returns the seconds that it still takes: by its own progress, before that by the mean of all."""
        if self.fraction > _LEAST_FRACTION:
            return self.seconds * (1 / self.fraction - 1)
        return max(mean - self.seconds, 0.05 * mean)


class SweepProgress:
    """The state of a running sweep."""

    def __init__(
        self, num_trials: int, concurrent: int, known: Sequence[TrialEntry], describe_progress: DescribeProgress
    ) -> None:
        """Begins with what earlier starts left.

        Args:
            num_trials: of the whole sweep.
            concurrent: trials at a time.
            known: entries of earlier starts.
            describe_progress: of the workload.
        """
        self.num_trials, self.concurrent, self.describe_progress = num_trials, concurrent, describe_progress
        self.started_at = time.monotonic()
        self.entries = {entry.trial: entry for entry in known}
        self.running: dict[str, RunningTrial] = {}
        self.trial_seconds: list[float] = []
        """Wall-clock seconds of the trials that ended since this start."""

    def begin(self, trial: Trial) -> None:
        """Notes that a trial began."""
        self.running[trial.trial] = RunningTrial(trial, time.monotonic())

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Notes how far a trial is."""
        running = self.running.setdefault(trial.trial, RunningTrial(trial, time.monotonic()))
        running.stage, running.fraction = self.describe_progress(trial, curve, step)
        running.score = curve, value

    def end(self, entry: TrialEntry) -> None:
        """Notes the end of a trial."""
        running = self.running.pop(entry.trial, None)
        if running is not None:
            self.trial_seconds.append(running.seconds)
        self.entries[entry.trial] = entry

    def best(self) -> TrialEntry | None:
        """Returns the best trial so far."""
        return best_of(list(self.entries.values()))

    def seconds_left(self) -> float | None:
        """Returns wall-clock seconds to the end, by the trials seen so far; None before there is anything to go by."""
        seconds = list(self.trial_seconds)
        if not seconds:
            paced = [running for running in self.running.values() if running.fraction > _LEAST_FRACTION]
            seconds = [running.seconds / running.fraction for running in paced]
        if not seconds:
            return None
        mean = sum(seconds) / len(seconds)
        waiting = self.num_trials - len(self.entries) - len(self.running)
        rest = [running.seconds_left(mean) for running in self.running.values()]
        return max([*rest, (sum(rest) + mean * waiting) / max(self.concurrent, 1)], default=0.0)


def best_of(entries: Sequence[TrialEntry]) -> TrialEntry | None:
    """Returns the feasible entry with the best score."""
    return min((entry for entry in entries if entry.done), key=lambda entry: entry.loss or 0.0, default=None)


def counted(entries: Sequence[TrialEntry], caps: bool = False) -> list[str]:
    """Returns the numbers of the trials in each state but "finished", in words. Args: caps: whether caps are named."""
    counts = Counter(entry.state for entry in entries)
    sizes = {entry.size.cap_bytes for entry in entries if entry.state == TrialState.INFEASIBLE and entry.size}
    over = TrialState.INFEASIBLE.word
    over += f" of {', '.join(f'{size:,}' for size in sorted(sizes))} bytes" if caps and sizes else ""
    if any(entry.violations for entry in entries):
        over = "out of bounds"
    named = {state: state.word for state in (TrialState.INFEASIBLE, TrialState.SCREENED, TrialState.FAILED)}
    named[TrialState.INFEASIBLE] = over
    return [f"{counts[state]} {text}" for state, text in named.items() if counts[state]]
