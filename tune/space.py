"""What a sweep searches: dotted fields of a configuration with their choices, and the points made of them.

A preset and a space enter, trials leave: the same point is always the same trial with the same id, which is what
lets an interrupted sweep go on. "split" stands for a named quantisation split, "repeat" for the number of a run that
is done again: from 1 on it has an id of its own, and nobody else's results may stand for it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.config import RunConfig, override_all, to_plain
from golf.presets import PRESETS, with_split
from golf.record import digest

Space = Mapping[str, Sequence[Any]]
"""Dotted field -> its choices."""
Point = Mapping[str, Any]
"""Dotted field -> one choice."""
SPLIT = "split"
REPEAT = "repeat"
SEED = "seed"

SPACES: dict[str, Space] = {
    "demo": {
        "schedule.steps": [130, 200],
        "schedule.warmdown_start": [30, 60],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "adapt.lr": [0.005, 0.01],
        "adapt.epochs": [1, 2],
    },
    "pr598": {
        "schedule.steps": [7000, 9000],
        "schedule.warmdown_start": [3500, 5000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "adapt.lr": [0.001, 0.002, 0.004],
        "adapt.epochs": [3, 10],
    },
    "pr668": {
        "schedule.steps": [20_000, 30_000],
        "schedule.warmdown_start": [8000, 12_000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["pure-int6", "mixed-int6-int8"],
        "adapt.lr": [0.001, 0.002, 0.004],
        "adapt.epochs": [3, 10],
    },
}
"""By preset; the other presets take pr598's."""


@dataclass(frozen=True)
class Trial:
    """One point of the search."""

    trial: str
    """12 hex digits of the digest of the configuration and the data."""
    parameters: Point
    """The searched fields' values."""
    config: RunConfig
    """The whole configuration."""

    @property
    def name(self) -> str:
        """Short and readable; words stand for themselves."""
        parts = self.parameters.items()
        return " ".join(value if isinstance(value, str) else f"{_short(field)}={value}" for field, value in parts)


def _short(field: str) -> str:
    """The field's last name; TTT's keep their part, because "lr" alone would mislead."""
    part, _, last = field.rpartition(".")
    return f"ttt_{last}" if part == "adapt" else last


def space_of(preset: str, changes: Space) -> Space:
    """The preset's space with the choices in `changes` instead of its own; these alone for what is no preset.

    Raises: ValueError when nothing would be searched.
    """
    if preset not in PRESETS and not changes:
        raise ValueError("a configuration file has no space of its own; give --space FIELD=A,B,...")
    return {**(SPACES.get(preset, SPACES["pr598"]) if preset in PRESETS else {}), **changes}


def points_of(space: Space) -> Iterator[Point]:
    """Every combination, the last field changing fastest."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def make_trial(base: RunConfig, point: Point, data: str) -> Trial:
    """`base` with the point's fields set.

    Args: data: the dataset's digest.
    Raises: ValueError naming a wrong field or value, also of a combination.
    """
    values = {field: value for field, value in point.items() if field not in (SPLIT, REPEAT)}
    config = override_all(with_split(base, point[SPLIT]) if SPLIT in point else base, values)
    repeat = point.get(REPEAT, 0)
    if type(repeat) is not int or repeat < 0:
        raise ValueError(f"{REPEAT} must be a whole number from 0 on, got {repeat!r}")
    again = [{REPEAT: repeat}] if repeat else []
    return Trial(digest(to_plain(config), data, *again)[:12], dict(point), config)


def check_space(base: RunConfig, space: Space) -> None:
    """Raise ValueError naming the field unless every choice is valid in some combination."""
    for field, choices in space.items():
        if not choices:
            raise ValueError(f"{field} has no choices; give at least one, e.g. --space {field}=VALUE")
        for choice in choices:
            _check_choice(base, space, field, choice)


def _check_choice(base: RunConfig, space: Space, field: str, choice: Any) -> None:
    problem: ValueError | None = None
    for point in points_of({**space, field: [choice]}):
        try:
            make_trial(base, point, "")
            return
        except ValueError as error:
            problem = problem or error
    raise ValueError(f"{field}={choice} is valid in no combination: {problem}")
