"""Seconds that stages take, by what finished trials took: never a guess, None where nothing alike was seen.

Where nothing was, seconds published for other machines can stand in; whoever passes them says so.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from types import MappingProxyType

from tune.records.entries import Config, TrialEntry, WorldShape
from tune.workloads.base import StageWork, Workload

TRAIN = "train"
"""The stage whose unit of work is one optimiser step."""
NONE_GIVEN: Mapping[str, float] = MappingProxyType({})
Published = Callable[[Config, str, float | None], float | None]
"""(configuration, stage, units): the seconds elsewhere, as `StageTimings.seconds`."""


def none_published(config: Config, stage: str, units: float | None) -> float | None:
    """Returns that nothing is known from elsewhere."""
    return None


class StageTimings:
    """Seconds of stages: the median of finished trials that are alike in all that the time depends on."""

    def __init__(
        self,
        workload: Workload,
        entries: Iterable[TrialEntry] = (),
        given: Mapping[str, float] = NONE_GIVEN,
        published: Published = none_published,
    ) -> None:
        """Learns from the ledger.

        Args: workload: says which stages are alike, on which data and machines; entries: of trials of any sweep; given:
            stage -> seconds for a unit of its work, instead of what entries show; published: where neither says it.
        Raises: ValueError when seconds that are given are not finite or below 0.
        """
        for name, seconds in given.items():
            if not 0 <= seconds < math.inf:
                what = "an optimiser step" if name == TRAIN else f"stage {name}"
                raise ValueError(f"seconds of {what} must be finite and not below 0, got {seconds}")
        self._workload, self._given = workload, dict(given)
        self._published = published
        self._seen: dict[tuple[str, str], list[float]] = {}
        for entry in entries:
            self.learn(entry)

    def learn(self, entry: TrialEntry) -> None:
        """Learns the seconds of a finished trial, where it ran the same workload on as many machines of this kind."""
        if entry.workload != self._workload.name or not _same_machines(entry, self._workload.world):
            return
        for stage, seconds in entry.seconds.items():
            work = self._workload.stage_work(entry.config, stage)
            if work.needs_same_data and entry.data != self._workload.data:
                continue
            for key in work.keys:
                self._seen.setdefault((stage, key), []).append(seconds / work.units)

    def seconds(self, config: Config, stage: str, units: float | None = None) -> float | None:
        """Returns the seconds of a stage of this configuration; None: unknown.

        Args: config: the configuration, as JSON values; stage: its name in `TrialEntry.seconds`; units: units of its
            work; None: all of them.
        """
        work = self._workload.stage_work(config, stage)
        rate = self._given.get(stage, self._rate_seen(stage, work))
        if rate is None:
            return self._published(config, stage, units)
        return rate * (work.units if units is None else units)

    def is_own(self, config: Config, stage: str) -> bool:
        """Returns whether a stage's seconds were given or seen, not published."""
        return stage in self._given or self._rate_seen(stage, self._workload.stage_work(config, stage)) is not None

    def _rate_seen(self, stage: str, work: StageWork) -> float | None:
        seen = (self._seen.get((stage, key)) for key in work.keys)
        return next((median(rates) for rates in seen if rates), None)


def _same_machines(entry: TrialEntry, world: WorldShape) -> bool:
    """Whether the entry's trial ran on as many devices of the same kind, all of them to the end."""
    device = entry.device
    return device is None or (
        entry.world_history is None and (device.count, device.kind) == (world.ranks, world.device)
    )
