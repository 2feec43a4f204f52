"""When a sweep ends by itself: hours or dollars are used up, or a score is good enough.

Hours and GPU-hours are counted over all starts of a sweep, in a file of its folder, so that the same command with a
larger limit continues.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from golf.runtime.files import write_bytes
from tune.records.entries import Objective, TrialEntry

_WRITE_SECONDS = 10.0
"""Between two writes of what is used: as much is not counted after a kill."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends a sweep before its last trial; None: nothing."""

    max_hours: float | None = None
    """Hours of all its starts together, with or without a trial running."""
    max_dollars: float | None = None
    """Price of the GPU-hours that its trials held; the time of GPUs that no trial holds is not known here."""
    dollars_per_gpu_hour: float | None = None
    """A trial on CPUs is priced as if each of its processes held a GPU."""
    stop_at: float | None = None
    """Score of a trial that is good enough."""

    def __post_init__(self) -> None:
        if self.max_dollars is not None and self.dollars_per_gpu_hour is None:
            raise ValueError("--max-dollars needs the price of a GPU: --dollars-per-gpu-hour D")


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Stop:
    """Why no further trial starts."""

    reason: str
    remedy: str
    """How to continue."""
    ends_running: bool
    """Whether running trials save their state and end, too."""


@dataclass(frozen=True)
class Ended:
    """How a sweep ended."""

    stop: Stop | None = None
    """Why before its last trial; None where it did not."""
    num_stopped: int = 0
    """Trials that were stopped with their state saved."""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep has used in all its starts."""

    hours: float = 0.0
    gpu_hours: float = 0.0


def read_used(path: Path) -> Used:
    """Returns what a file says of the hours used; nothing where there is none. Raises: ValueError naming the file."""
    if not path.exists():
        return Used()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Used)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}; delete it to count the sweep's hours from 0") from error


class LimitWatch:
    """Counts what a sweep uses, and says when it has to stop."""

    def __init__(
        self,
        limits: Limits,
        file: Path,
        gpus_per_trial: float,
        objective: Objective | None = None,
        known: Iterable[TrialEntry] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins with what earlier starts used.

        Args:
            limits: of the sweep.
            file: where what is used is kept.
            gpus_per_trial: GPUs that one trial holds; for CPUs its processes.
            objective: the metric that counts; None: bits per byte.
            known: entries of earlier starts.
            clock: in seconds.
        """
        self.limits, self.file, self.gpus_per_trial, self.objective = limits, file, gpus_per_trial, objective
        self.used = read_used(file)
        self.stop: Stop | None = None
        self.interrupted = False
        """Whether the user ended the sweep."""
        self._clock, self._last, self._written = clock, clock(), -math.inf
        for entry in known:
            self.learn(entry)
        self.check(0)

    def check(self, num_running: int) -> Stop | None:
        """Counts the time since the last call. Returns: why the sweep has to stop. Args: num_running: trials."""
        now = self._clock()
        hours, self._last = (now - self._last) / 3600, now
        gpu_hours = hours * num_running * self.gpus_per_trial
        self.used = Used(hours=self.used.hours + hours, gpu_hours=self.used.gpu_hours + gpu_hours)
        if now - self._written > _WRITE_SECONDS:
            self.write()
        if self.stop is None or not self.stop.ends_running:
            self.stop = self._reached() or self.stop
        return self.stop

    def interrupt(self) -> None:
        """Ends the sweep by the user's wish: running trials save their state."""
        self.interrupted = True
        self.stop = Stop("Ctrl-C", "the same command continues", ends_running=True)

    def learn(self, entry: TrialEntry) -> None:
        """Takes a trial's end."""
        limit, score, loss = self.limits.stop_at, entry.score, entry.loss
        if self.stop is None and limit is not None and score is not None and loss is not None:
            maximize = self.objective is not None and self.objective.maximize
            if loss <= (-limit if maximize else limit):
                reason = f"{entry.name} has {score:.4f} {entry.unit}, which --stop-at {limit:g} asks for"
                better = "larger" if maximize else "smaller"
                self.stop = Stop(reason, f"the same command with a {better} --stop-at continues", ends_running=False)

    def write(self) -> None:
        """Keeps what is used."""
        self._written = self._clock()
        write_bytes(self.file, msgspec.json.encode(self.used))

    def _reached(self) -> Stop | None:
        limits, used = self.limits, self.used
        if limits.max_hours is not None and used.hours >= limits.max_hours:
            reason = f"the {limits.max_hours:g} h of --max-hours are used ({used.hours:.2f} h in all starts)"
            return Stop(reason, "the same command with a larger --max-hours continues", ends_running=True)
        if limits.max_dollars is not None and limits.dollars_per_gpu_hour is not None:
            dollars = used.gpu_hours * limits.dollars_per_gpu_hour
            if dollars >= limits.max_dollars:
                counted = f"{used.gpu_hours:.2f} GPU-hours of trials, {dollars:,.2f} dollars"
                reason = f"the {limits.max_dollars:g} dollars of --max-dollars are used ({counted} in all starts)"
                return Stop(reason, "the same command with a larger --max-dollars continues", ends_running=True)
        return None
