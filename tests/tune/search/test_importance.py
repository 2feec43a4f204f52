"""Importance of the searched fields, on toys of which the answer is known."""

import random

import numpy as np
import pytest

from tune.search.importance import MIN_TRIALS, field_importances


def trials(num: int, effect: float, seed: int) -> tuple[list[dict[str, object]], list[float]]:
    """Returns points of three fields and their BPB, which field "a" moves by `effect` a step and the others do not."""
    generator = random.Random(seed)
    points: list[dict[str, object]] = [
        {"a": generator.choice([1, 2, 3]), "b": generator.choice(["x", "y"]), "c": generator.choice([None, [1], True])}
        for _ in range(num)
    ]
    return points, [effect * int(str(point["a"])) + generator.gauss(0, 1) for point in points]


@pytest.mark.parametrize("seed", range(3))
def test_a_field_that_matters_and_two_that_do_not(seed: int) -> None:
    """Fault: fields mixed up, the worst trials taken for the best, shares that do not sum to 1."""
    importances = {item.field: item for item in field_importances(*trials(80, 3.0, seed))}
    assert next(iter(importances)) == "a"
    assert importances["a"].share > 0.8
    assert importances["a"].share > importances["a"].chance
    assert all(importances[field].share < 0.1 for field in "bc")
    assert sum(item.share for item in importances.values()) == pytest.approx(1.0)


def test_only_the_best_trials_count() -> None:
    """Fault: a field that separates the middle from the worst passes for one that makes trials good."""
    generator = random.Random(0)
    points = [{"best": n < 20, "worst": n >= 60, "none": generator.choice("xy")} for n in range(80)]
    importances = field_importances(points, [float(n) for n in range(80)])
    assert importances[0].field == "best"
    assert importances[0].share > 2 * next(item.share for item in importances if item.field == "worst")


@pytest.mark.long
def test_chance_is_calibrated_where_nothing_matters() -> None:
    """Fault: a mark that noise passes much more often than one time in twenty."""
    passed = [item.share > item.chance for seed in range(8) for item in field_importances(*trials(40, 0.0, seed))]
    assert len(passed) == 24
    assert np.mean(passed) < 0.2


def test_too_little_to_tell() -> None:
    """Fault: a picture of noise from a handful of trials; a division by zero; a field that never varied."""
    points, bpb = trials(MIN_TRIALS, 3.0, 2)
    assert field_importances([], []) == ()
    assert field_importances(points[1:], bpb[1:]) == ()
    assert field_importances(points, [1.0] * len(bpb)) == ()
    assert field_importances([{"a": 1}] * len(bpb), bpb) == ()
    assert {item.field for item in field_importances([{**point, "same": 7} for point in points], bpb)} == {
        "a",
        "b",
        "c",
    }
