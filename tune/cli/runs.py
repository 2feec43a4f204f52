"""Trials that a command has to run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tune.cluster.limits import NO_LIMITS, Limits
from tune.records.entries import TrialEntry, WorldShape
from tune.search.search import Search
from tune.workloads.base import Workload


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Trials to be run under one name."""

    name: str
    search: Search
    make_workload: Callable[[WorldShape], Workload]
    """Makes what they run, for the machines of one trial."""
    known: Sequence[TrialEntry]
    """Entries of earlier starts that stay."""
    what: str = "sweep"
    """The kind of thing that is run, for the screen."""
    headline: str = ""
    """More about it, for the screen."""
    share: bool = True
    """Whether stages are shared through the store."""
    keep_screened: bool = True
    """Whether trials that were screened out stay so."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every entry."""
    limits: Limits = NO_LIMITS
    """What ends them before the last trial."""
