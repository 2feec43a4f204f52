"""What the searched fields matter."""

import random

import numpy as np

from tune.search.importance import MIN_TRIALS, importance


def trials(num: int, effect: float, seed: int) -> tuple[list[dict[str, object]], list[float]]:
    """Points of three fields, of which the first moves the BPB by `effect` a step."""
    dice = random.Random(seed)
    points: list[dict[str, object]] = [
        {"a": dice.choice([1, 2, 3]), "b": dice.choice(["x", "y"]), "c": dice.choice([None, [1], True])}
        for _ in range(num)
    ]
    return points, [effect * int(str(point["a"])) + dice.gauss(0, 1) for point in points]


def test_the_field_that_matters_comes_first() -> None:
    """Fault: fields mixed up, a maximised BPB, shares that are no shares."""
    found = importance(*trials(80, 3.0, 1))
    assert found[0].field == "a"
    assert found[0].share > found[0].chance
    assert abs(sum(one.share for one in found) - 1) < 1e-9


def test_chance_is_calibrated_where_nothing_matters() -> None:
    """Fault: a mark that noise passes much more often than one time in twenty."""
    passed = [one.share > one.chance for seed in range(8) for one in importance(*trials(40, 0.0, seed))]
    assert len(passed) == 24
    assert np.mean(passed) < 0.2


def test_too_little_gives_nothing() -> None:
    """Fault: a picture of noise from a handful of trials; a division by zero; a field that never varied."""
    points, bpb = trials(MIN_TRIALS, 3.0, 2)
    assert importance(points[1:], bpb[1:]) == ()
    assert importance(points, [1.0] * len(bpb)) == ()
    assert importance([{"a": 1}] * len(bpb), bpb) == ()
    assert {one.field for one in importance([{**point, "same": 7} for point in points], bpb)} <= {"a", "b", "c"}
