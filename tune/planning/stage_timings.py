"""Seconds that a stage takes, by what finished trials took.

Ledger entries enter, seconds of a step, of packing or of a rung leave: the median of trials alike in all that the time
depends on, on as many workers of the same kind. Never a guess: where nothing alike was seen they are None.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import median
from types import MappingProxyType
from typing import Any

from golf.runtime.results import TTT, digest

TRAIN, PACK = "train", "pack"
SECONDS = "_seconds"
"""Behind a stage's name: the metric of its seconds."""
NOTHING: Mapping[str, float] = MappingProxyType({})


class StageTimings:
    """Seconds of stages by what finished trials took: the median of those alike in all that the time depends on."""

    def __init__(
        self,
        entries: Iterable[Mapping[str, Any]],
        data: str,
        world: Mapping[str, Any],
        step_seconds: float | None = None,
        stage_seconds: Mapping[str, float] = NOTHING,
    ) -> None:
        """Args: entries: the ledger's, of any sweep; data: the dataset's digest; world: what of the machines changes
        bits: "ranks", "cpus" each, "device"; step_seconds: of one optimiser step, instead of what entries say;
        stage_seconds: of "pack" or a rung, likewise.

        Raises: ValueError when seconds that are given are not finite or below 0.
        """
        given = {**stage_seconds} | ({} if step_seconds is None else {TRAIN: step_seconds})
        for name, seconds in given.items():
            if not 0 <= seconds < math.inf:
                what = "an optimiser step" if name == TRAIN else f"stage {name}"
                raise ValueError(f"seconds of {what} must be finite and not below 0, got {seconds}")
        self._given, self._data, self._world = given, data, world
        self._seen: dict[tuple[str, str], list[float]] = {}
        for entry in entries:
            self.learn(entry)

    def learn(self, entry: Mapping[str, Any]) -> None:
        """Take the seconds of a trial's ledger entry, those of rungs only on the same validation stream."""
        if not _same_machines(entry, self._world):
            return
        plain, same_data = entry["config"], entry.get("data") == self._data
        for metric, value in entry["metrics"].items():
            stage = metric.removesuffix(SECONDS)
            if stage == metric or not 0 <= value < math.inf or not (same_data or stage in (TRAIN, PACK)):
                continue
            seconds = value / plain["schedule"]["steps"] if stage == TRAIN else value
            for kind in _kinds(stage, plain):
                self._seen.setdefault((stage, kind), []).append(seconds)

    def step(self, plain: Mapping[str, Any]) -> float | None:
        """Seconds of an optimiser step of this configuration."""
        return self.stage(TRAIN, plain)

    def stage(self, name: str, plain: Mapping[str, Any]) -> float | None:
        """Seconds of "pack" or a rung of this configuration."""
        if name in self._given:
            return self._given[name]
        seen = (self._seen.get((name, kind)) for kind in _kinds(name, plain))
        return next((median(seconds) for seconds in seen if seconds), None)


def _kinds(stage: str, plain: Mapping[str, Any]) -> list[str]:
    """What configurations must have in common for their times to be taken for each other's, the closest first."""
    if stage == TRAIN:
        return [digest(plain["model"], plain["batch"])]
    if stage == PACK:
        return [digest(plain["model"], plain["quant"]), digest(plain["model"])]
    close = [digest(plain["model"], plain["score"], plain["ttt"])] if stage.startswith(TTT) else []
    return [*close, digest(plain["model"], plain["score"])]


def _same_machines(entry: Mapping[str, Any], world: Mapping[str, Any]) -> bool:
    """Whether the entry's trial ran on as many workers of the same kind, as far as it says."""
    tags = entry.get("tags", {})
    device = tags.get("device")
    if device is None:
        return True
    if tags.get("ranks") is not None:  # lost nodes on the way: no time of these machines
        return False
    on_cpus = device.endswith("thread(s)")
    return bool(device.startswith(f"{world['ranks']} x ") and on_cpus == (world["device"] == "cpu"))
