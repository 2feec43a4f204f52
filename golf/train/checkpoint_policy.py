"""When the state of a long stage is saved: at the interval that costs least, given the measured cost of a save.

With C seconds a save and a failure every M seconds, saving every sqrt(2 C M) seconds loses least to saves and lost work
together. Only the rank that writes decides, since the clocks of ranks differ.
Source: Young 1974, "A first order approximation to the optimum checkpoint interval"; Daly 2006, whose further terms
matter only where C is near M.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from golf.runtime.results import CheckpointCost

FIRST_SAVE_SECONDS = 2.0
"""Seconds of work before the first save, which measures the cost of a save."""
MTBF_HOURS = 2.0
"""Chosen for spot machines, each of which can end a run on several. Erring is cheap, because the interval goes with the
root: where failures are ten times rarer, a save of one second costs 0.9 % of the time instead of 0.5 %."""


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """How often the state of a training or evaluation is saved."""

    seconds: float | None = None
    """A fixed interval, 0: after every step or chunk; None: chosen from the measured cost."""
    mtbf_hours: float = MTBF_HOURS
    """Mean time between failures of all the machines of a run together; above 0."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise ValueError(f"CheckpointPolicy.seconds must be None or at least 0 and finite, got {self.seconds}")
        if not 0 < self.mtbf_hours < math.inf:
            raise ValueError(f"CheckpointPolicy.mtbf_hours must be above 0 and finite, got {self.mtbf_hours}")

    def interval_seconds(self, save_seconds: float) -> float:
        """Returns the seconds of work between two saves that take `save_seconds` each."""
        return math.sqrt(2 * save_seconds * 3600 * self.mtbf_hours) if self.seconds is None else self.seconds


BY_COST = CheckpointPolicy()
"""The default: chosen from the measured cost."""


class CheckpointTimer:
    """Times the saves of one stage by one process."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy, self.count, self.spent_seconds, self.ended = policy, 0, 0.0, time.perf_counter()

    @property
    def mean_seconds(self) -> float | None:
        """Mean seconds of one save; None before the first."""
        return self.spent_seconds / self.count if self.count else None

    @property
    def interval_seconds(self) -> float:
        """Seconds of work until the next save."""
        if self.policy.seconds is None and not self.count:
            return FIRST_SAVE_SECONDS
        return self.policy.interval_seconds(self.mean_seconds or 0.0)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.perf_counter() - self.ended >= self.interval_seconds

    def save(self, write: Callable[[], None]) -> None:
        """Saves by calling `write`, and measures it."""
        started = time.perf_counter()
        write()
        self.ended = time.perf_counter()
        self.spent_seconds += self.ended - started
        self.count += 1

    @property
    def cost(self) -> CheckpointCost:
        """What the saves so far cost."""
        interval = self.interval_seconds if self.count else None
        return CheckpointCost(saves=self.count, save_seconds=self.mean_seconds, save_interval_seconds=interval)
