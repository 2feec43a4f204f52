"""The expected order of points against scores that are a sum of their fields' parts."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.tune.entries import entry_of
from tune.records.entries import ScreeningScore, TrialEntry, TrialState
from tune.search.additive_model import AdditiveModel
from tune.search.search import Search, SearchConfig
from tune.search.space import Point, Trial

SPACE: dict[str, list[Any]] = {"lr": [0.1, 0.2, 0.3], "split": ["a", "b"], "layers": [[1], [1, 2]]}
PARTS = {0.1: 0.0, 0.2: -0.3, 0.3: 0.4, "a": 0.05, "b": 0.0, "[1]": 0.0, "[1, 2]": -0.01}


def loss(point: Point) -> float:
    """A sum of what each value adds."""
    return 2 + sum(PARTS[str(value) if isinstance(value, list) else value] for value in point.values())


def trial_of(point: Point) -> Trial:
    """A trial of a point."""
    return Trial(trial=str(point), parameters=point, name=str(point), config={})


def ended(point: Point, *, screened: bool) -> TrialEntry:
    """An entry with the loss of its first chunks, shifted, and where it was not stopped its score."""
    entry = entry_of(trial_of(point), TrialState.SCREENED if screened else TrialState.DONE)
    first = ScreeningScore(name="sliding", bpb=loss(point) + 0.7, seconds=1.0, rank="")
    return msgspec.structs.replace(entry, screening=(first,), bpb=None if screened else loss(point))


POINTS = [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_additive_scores(seed: int) -> None:
    """Fault: scores of first chunks and final ones are mixed, so that stopped trials seem worse or better than they
    are."""
    source, model = random.Random(seed), AdditiveModel()
    for point in POINTS:
        model.learn(ended(point, screened=source.random() < 0.5 and loss(point) > 1.8))
    best = min(POINTS, key=lambda point: model.expected(trial_of(point)))
    assert best["lr"] == 0.2
    assert best == min(POINTS, key=loss)
    assert max(POINTS, key=lambda point: model.expected(trial_of(point)))["lr"] == 0.3


def test_a_good_value_that_came_with_bad_ones() -> None:
    """Fault: by the mean of its trials a rate seems bad that only short trainings had, as a screened sweep has it."""
    model = AdditiveModel()
    seen = {(90, 0.005): 2.70, (70, 0.005): 2.80, (70, 0.02): 2.78}
    for (steps, lr), score in seen.items():
        for split in ("a", "b"):
            point = {"steps": steps, "lr": lr, "split": split}
            entry = entry_of(trial_of(point), TrialState.SCREENED)
            first = ScreeningScore(name="ttt", bpb=score, seconds=1.0, rank="")
            model.learn(msgspec.structs.replace(entry, screening=(first,), bpb=None))
    assert model.expected(trial_of({"steps": 90, "lr": 0.02})) < model.expected(trial_of({"steps": 90, "lr": 0.005}))


def test_nothing_is_expected_of_nothing() -> None:
    """Fault: unknown values raise, or are preferred to values that scored well."""
    model = AdditiveModel()
    assert model.expected(trial_of({"lr": 0.1})) == 0
    model.learn(ended(POINTS[0], screened=False))
    model.learn(ended({**POINTS[0], "lr": 0.2}, screened=False))
    assert (
        model.expected(trial_of({"lr": 0.2}))
        < model.expected(trial_of({"lr": 0.9}))
        < model.expected(trial_of({"lr": 0.1}))
    )


class Anything:
    """An order to which all trials are alike."""

    def choose(self, trials: list[Trial], loss: Callable[[Trial], float] = lambda trial: 0.0) -> Trial | None:
        """The one of the least loss."""
        return min(trials, key=loss, default=None)

    def start(self, trial: Trial) -> None:
        """Does nothing."""

    def end(self, trial: str, stored: list[str]) -> None:
        """Does nothing."""


def test_a_grid_turns_to_the_promising_points() -> None:
    """Fault: a grid is screened against its first trials, whatever they are; or a point is left out or given twice."""
    search = Search(SearchConfig(spaces=(dict(SPACE),), strategy="grid"), trial_of)
    search.order_by(Anything())  # type: ignore[arg-type]
    given = list[Point]()
    while (trial := search.ask()) is not None:
        given.append(trial.parameters)
        search.tell(ended(trial.parameters, screened=False))
    assert sorted(map(str, given)) == sorted(map(str, POINTS))
    places = [place for place, point in enumerate(given) if point["lr"] == 0.3]
    assert sum(places) / len(places) > (len(POINTS) - 1) / 2
    assert given.index(min(POINTS, key=loss)) < len(POINTS) / 2
