"""What a trial's score will be, by the trials that share values with it: each field adds its part.

Good enough to begin with the promising trials, against which the others are then screened; it decides nothing else.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from tune.records.entries import TrialEntry
from tune.search.space import Point, Trial

_FINAL = ""
"""The place of the final score beside the names of rungs on whose first chunks trials are screened."""
_MEAN = ("", "")
"""The column of the mean, beside those of values."""
_DECIMALS = 6
"""Of what a value adds: what is beyond them is rounding, and must not decide."""
_RIDGE = 1.0
"""Pulls the part of a value towards 0 as one trial does that is like the mean."""


class _Fit:
    """A ridge regression of losses on values, one column each: values that come together are told apart."""

    def __init__(self) -> None:
        self._columns = {_MEAN: 0}
        self._gram, self._moment = np.zeros((1, 1)), np.zeros(1)
        self._parts: dict[tuple[str, str], float] = {}
        """Value -> what it adds; empty until it is asked for."""

    def learn(self, keys: list[tuple[str, str]], loss: float) -> None:
        columns = [self._columns.setdefault(key, len(self._columns)) for key in (_MEAN, *keys)]
        added = len(self._columns) - len(self._moment)
        self._gram, self._moment = np.pad(self._gram, (0, added)), np.pad(self._moment, (0, added))
        self._gram[np.ix_(columns, columns)] += 1.0
        self._moment[columns] += loss
        self._parts = {}

    def added(self, keys: Iterable[tuple[str, str]]) -> float:
        """Returns what values add together; one that no trial had adds 0."""
        if not self._parts:
            ridge = np.full(len(self._moment), _RIDGE)
            ridge[0] = 1e-9
            solution = np.linalg.solve(self._gram + np.diag(ridge), self._moment)
            self._parts = dict(zip(self._columns, solution.round(_DECIMALS).tolist(), strict=True))
        return sum(self._parts.get(key, 0.0) for key in keys)


class AdditiveModel:
    """Expected losses of trials, from the scores and partial scores of finished trials."""

    def __init__(self) -> None:
        self._fits: dict[str, _Fit] = {}
        """By the place of the scores."""
        self._keys_of: dict[str, list[tuple[str, str]]] = {}
        """Trial that was asked about -> the keys of its values."""

    def learn(self, entry: TrialEntry) -> None:
        """Takes in the scores of a finished trial: those of its first chunks, which all trials have, else the final."""
        losses = entry.first_scores
        if not losses and entry.done and entry.loss is not None:
            losses[_FINAL] = entry.loss
        for place, loss in losses.items():
            self._fits.setdefault(place, _Fit()).learn(_keys(entry.parameters), loss)

    def expected(self, trial: Trial) -> float:
        """Returns how much higher than that of all trials a trial's loss is expected to be, lower when negative."""
        if trial.trial not in self._keys_of:
            self._keys_of[trial.trial] = _keys(trial.parameters)
        return sum(fit.added(self._keys_of[trial.trial]) for fit in self._fits.values())


def _keys(point: Point) -> list[tuple[str, str]]:
    return [(field, _text(value)) for field, value in point.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
