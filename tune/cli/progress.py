"""How far a sweep is: what runs, what ended, what is best and how long the rest takes."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from tune.records.entries import TrialEntry, TrialState
from tune.search.space import Point, Trial

DescribeProgress = Callable[[Trial, str, int], tuple[str, float]]
"""(trial, curve, step) -> (what the trial is doing, in words; the fraction of it that is done)."""
_LEAST_FRACTION = 0.02
"""Of a trial, from which on its own pace says how long it still takes."""


class RunningTrial(msgspec.Struct, kw_only=True):
    """A trial that runs."""

    name: str
    parameters: Point = {}
    started: float
    """Unix seconds; of this start."""
    stage: str = "starting"
    fraction: float = 0.0
    """Of the trial that is done, 0 where it is not known."""
    first: tuple[float, float] | None = None
    """(unix seconds, fraction) of the first point of this start: a trial may have gone on from a saved state."""
    score: tuple[str, float] | None = None
    """Curve and value of its last point."""

    def seconds_left(self, now: float) -> float | None:
        """Returns the seconds that it still takes by its own pace; None before there is one."""
        if self.first is None:
            return None
        seconds, done = now - self.first[0], self.fraction - self.first[1]
        return seconds * (1 - self.fraction) / done if done > _LEAST_FRACTION else None


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
        self.running[trial.trial] = RunningTrial(name=trial.name, parameters=trial.parameters, started=time.time())

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Notes how far a trial is."""
        if trial.trial not in self.running:
            self.begin(trial)
        running = self.running[trial.trial]
        running.stage, running.fraction = self.describe_progress(trial, curve, step)
        running.first = running.first or (time.time(), running.fraction)
        running.score = curve, value

    def end(self, entry: TrialEntry) -> None:
        """Notes the end of a trial."""
        running = self.running.pop(entry.trial, None)
        if running is not None:
            self.trial_seconds.append(time.time() - running.started)
        self.entries[entry.trial] = entry

    def best(self) -> TrialEntry | None:
        """Returns the best trial so far."""
        return best_of(list(self.entries.values()))

    def seconds_left(self) -> float | None:
        """Returns wall-clock seconds to the end, by the trials seen so far; None before there is anything to go by."""
        now = time.time()
        paced = [(now - running.started, running.seconds_left(now)) for running in self.running.values()]
        seconds = self.trial_seconds or [spent + left for spent, left in paced if left is not None]
        if not seconds:
            return None
        mean = sum(seconds) / len(seconds)
        waiting = self.num_trials - len(self.entries) - len(self.running)
        rest = [max(mean - spent, 0.05 * mean) if left is None else left for spent, left in paced]
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
