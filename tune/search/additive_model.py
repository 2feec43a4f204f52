"""What a trial's score will be, by the trials that share values with it: each field adds its part.

Good enough to begin with the promising trials, against which the others are then screened; it decides nothing else.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tune.records.entries import TrialEntry
from tune.search.space import Point

_FINAL = ""
"""The place of the final score beside the names of rungs on whose first chunks trials are screened."""


@dataclass
class _Mean:
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count, self.total = self.count + 1, self.total + value

    @property
    def value(self) -> float:
        return self.total / self.count


class AdditiveModel:
    """Expected losses of points, from the scores and partial scores of finished trials."""

    def __init__(self) -> None:
        self._all: dict[str, _Mean] = defaultdict(_Mean)
        self._of_value: dict[tuple[str, str], dict[str, _Mean]] = defaultdict(lambda: defaultdict(_Mean))
        self._effects: dict[tuple[str, str], float] = {}

    def learn(self, entry: TrialEntry) -> None:
        """Takes in the scores of a finished trial: those of its first chunks, which all trials have, else the final."""
        losses = {score.name: score.bpb for score in entry.screening}
        if not losses and entry.done and entry.loss is not None:
            losses[_FINAL] = entry.loss
        for place, loss in losses.items():
            self._all[place].add(loss)
            for key in _keys(entry.parameters):
                self._of_value[key][place].add(loss)
        self._effects.clear()

    def expected(self, point: Point) -> float:
        """Returns how much higher than that of all trials a point's loss is expected to be, lower when negative."""
        return sum(map(self._effect, _keys(point)))

    def _effect(self, key: tuple[str, str]) -> float:
        """Returns what one value adds; pulled towards 0 where few trials had it."""
        if key not in self._effects:
            seen = self._of_value.get(key, {})
            parts = [
                (mean.value - self._all[place].value) * mean.count / (mean.count + 1) for place, mean in seen.items()
            ]
            self._effects[key] = sum(parts)
        return self._effects[key]


def _keys(point: Point) -> list[tuple[str, str]]:
    return [(field, _text(value)) for field, value in point.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
