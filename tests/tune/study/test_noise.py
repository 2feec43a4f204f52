"""The ledger's own noise and the seeds that a gain needs."""

import numpy as np
import pytest

from tests.tune.study.test_runs import entry, study_entries
from tune.study.noise import LEVELS, TARGETS, needed, pooled
from tune.study.sequential_test import power


def test_pooled_over_configurations_and_nothing_twice() -> None:
    """Fault: differences between configurations taken for noise, a value counted in two sweeps, a repeat as a seed."""
    one, two = [1.2, 1.203, 1.2011], [1.5, 1.504]
    entries = study_entries("a", one) + study_entries("b", two, set={"schedule.steps": 8000})
    entries += [entry("again", 0, 1.2), entry("a", 0, 1.7, repeat=1), entry("a", 9, None), entry("lone", 1, 9.0)]
    entries[-1]["code"] = "other"
    entries.append(entry("c", 3, 2.0) | {"preset": "another"})
    noise = pooled(entries, "tiny")
    assert noise is not None
    squares = np.var(one, ddof=1) * 2 + np.var(two, ddof=1) * 1
    assert noise.sd_bpb == pytest.approx(np.sqrt(squares / 3), rel=1e-9)
    assert noise.degrees_of_freedom == 3
    assert pooled(entries, "another") is None


def test_the_table_holds_what_power_says() -> None:
    """Fault: a level, target or baseline in another one's cell."""
    table = needed(0.0007, 0.003, [0.0065], num_baseline=5)
    (one,) = table
    for (level, baseline), numbers in one.num_seeds.items():
        assert level in LEVELS
        for target, num in zip(TARGETS, numbers, strict=True):
            assert num is not None
            assert power(0.0065, 0.0007, 0.003, level, num, baseline) >= target
            assert num == 2 or power(0.0065, 0.0007, 0.003, level, num - 1, baseline) < target
    assert len(one.num_seeds) == 6
    assert all(row.gain_bpb > 0.003 for row in needed(0.0007, 0.003))
    with pytest.raises(ValueError, match="not above the margin"):
        needed(0.0007, 0.003, [0.003])
    with pytest.raises(ValueError, match="above 0"):
        needed(0.0, 0.003)
