"""How the caller of a long stage follows it, decides how often it is saved, and stops it."""

from collections.abc import Callable
from dataclasses import dataclass

from golf.train.checkpoint_policy import BY_COST, CheckpointPolicy
from golf.train.loop import PreemptionCheck, never
from golf.train.run_log import LogSink, discard_line

Event = Callable[[str, int, float], None]
"""(curve, step or chunk, value): called on every rank with each new point of a curve."""


def discard_point(curve: str, step: int, value: float) -> None:
    """The event of a caller that follows no curve."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a stage calls while it runs, on every rank, and how often it saves its state."""

    event: Event = discard_point
    """Receives each new point of a curve."""
    log: LogSink = discard_line
    """Receives the lines of the run's log, from the first on, also those of results that are read back."""
    checkpoint_policy: CheckpointPolicy = BY_COST
    """How often the state is saved."""
    preemption: PreemptionCheck = never
    """Asked at every step or chunk; once it is true on any rank, the state is saved and all ranks raise Preempted."""


NO_HOOKS = Hooks()
"""The default: nobody follows or stops the stage."""
