"""The ledger's own noise and the seeds that a gain needs."""

import numpy as np
import pytest

from tests.tune.study.made_runs import made_run, made_runs
from tune.study.noise import LEVELS, TARGETS, pooled_noise, seeds_table
from tune.study.sequential_test import power


def test_pooled_over_configurations_and_nothing_twice() -> None:
    """Fault: differences between configurations taken for noise, a value counted in two sweeps, a repeat as a seed."""
    one, two = [1.2, 1.203, 1.2011], [1.5, 1.504]
    runs = made_runs("a", one) + made_runs("b", two, fields={"schedule.steps": 8000})
    runs += [made_run("again", 0, 1.2), made_run("a", 0, 1.7, repeat=1), made_run("a", 9, None)]
    runs += [made_run("lone", 1, 9.0, code="other"), made_run("c", 3, 2.0, preset="another")]
    trials = [entry for entry, _ in runs]
    noise = pooled_noise(trials, "tiny")
    assert noise is not None
    squares = np.var(one, ddof=1) * 2 + np.var(two, ddof=1) * 1
    assert noise.sd_bpb == pytest.approx(np.sqrt(squares / 3), rel=1e-9)
    assert noise.degrees_of_freedom == 3
    assert pooled_noise(trials, "another") is None


def test_the_table_holds_what_power_says() -> None:
    """Fault: a level, target or baseline in another one's cell."""
    table = seeds_table(0.0007, 0.003, [0.0065], num_baseline=5)
    assert list(table) == [0.0065]
    for (level, baseline), numbers in table[0.0065].items():
        assert level in LEVELS
        for target, num in zip(TARGETS, numbers, strict=True):
            assert num is not None
            assert power(0.0065, 0.0007, 0.003, level, num, baseline) >= target
            assert num == 2 or power(0.0065, 0.0007, 0.003, level, num - 1, baseline) < target
    assert len(table[0.0065]) == 6
    assert min(seeds_table(0.0007, 0.003)) > 0.003
    with pytest.raises(ValueError, match="not above the margin"):
        seeds_table(0.0007, 0.003, [0.003])
    with pytest.raises(ValueError, match="above 0"):
        seeds_table(0.0, 0.003)
