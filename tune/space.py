"""What a sweep searches: dotted fields of a configuration with their choices, and the trials made of them.

A preset and a strategy enter, an ordered list of trials leaves: the same arguments give the same trials with
the same ids, which is what lets an interrupted sweep go on. "split" stands for a named quantisation split.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.config import RunConfig, nearest, override_all, to_plain
from golf.presets import find_split
from golf.record import digest

Space = Mapping[str, Sequence[Any]]
SPLIT = "split"

SPACES: dict[str, Space] = {
    "demo": {
        "schedule.steps": [40, 60],
        "schedule.warmdown_start": [20],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int8"],
        "adapt.lr": [0.01],
        "adapt.epochs": [2],
    },
    "pr598": {
        "schedule.steps": [7000, 9000],
        "schedule.warmdown_start": [3500, 5000],
        SPLIT: ["mixed-int6-int8", "pure-int6"],
        "adapt.lr": [0.001, 0.002, 0.004],
        "adapt.epochs": [3, 10],
    },
}


@dataclass(frozen=True)
class Trial:
    """One point of the search."""

    trial: str
    """12 hex digits of the digest of the configuration and the data."""
    parameters: dict[str, Any]
    """The searched fields' values."""
    config: RunConfig
    """The whole configuration."""

    @property
    def name(self) -> str:
        """Short and readable: what varies, first."""
        return " ".join(f"{field.rsplit('.', 1)[-1]}={value}" for field, value in self.parameters.items())


def make_config(base: RunConfig, parameters: Mapping[str, Any]) -> RunConfig:
    """`base` with the searched fields set; ValueError naming a wrong field or value."""
    values = {field: value for field, value in parameters.items() if field != SPLIT}
    if SPLIT in parameters:
        quant = to_plain(find_split(parameters[SPLIT]))
        kept = ("float_elements", "control_dtype", "other_dtype", "codec", "level")
        values["quant"] = quant | {field: getattr(base.quant, field) for field in kept}
    return override_all(base, values)


def make_trials(
    base: RunConfig, space: Space, search: str, num_trials: int | None, seed: int, data: str
) -> list[Trial]:
    """The trials of a sweep, each once, invalid combinations (warmdown after the last step) left out.

    Args: search: "grid" or "random"; num_trials: how many at most; data: the dataset's digest.
    """
    if search not in ("grid", "random"):
        raise ValueError(f'unknown search "{search}"{nearest(search, ("grid", "random"))}')
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    if search == "random":
        random.Random(seed).shuffle(points)
    trials: dict[str, Trial] = {}
    for point in points:
        if point.get("schedule.warmdown_start", 0) >= point.get("schedule.steps", base.schedule.steps):
            continue
        config = make_config(base, point)
        trial = digest(to_plain(config), data)[:12]
        trials.setdefault(trial, Trial(trial, point, config))
    return list(trials.values())[:num_trials]
