"""The test of a gain, against scipy and against the statistics of seed studies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from golf.submission.record_folder.student import gain_test
from tune.study.stats import one_sample_gain, welch_gain

VALUES = st.lists(st.integers(18_000, 20_000).map(lambda ticks: ticks / 10_000), min_size=2, max_size=8, unique=True)


@given(VALUES, VALUES, st.floats(-0.01, 0.02))
def test_it_is_the_test_of_seed_studies(values: list[float], previous: list[float], margin: float) -> None:
    """Fault: sides exchanged, the margin on the wrong side, other degrees of freedom."""
    for here, there in (
        (gain_test(values, previous, margin), welch_gain(values, previous, margin)),
        (gain_test(values, previous[:1], margin), one_sample_gain(values, previous[0], margin)),
    ):
        assert here.gain == pytest.approx(there.gain, abs=1e-12)
        assert here.p == pytest.approx(there.p, abs=1e-6)
    whole = ttest_ind(previous, [value + margin for value in values], equal_var=False, alternative="greater")
    assert gain_test(values, previous, margin).p == pytest.approx(float(whole.pvalue), abs=1e-5)


def test_no_spread_gives_no_probability() -> None:
    """Fault: one seed, or equal ones, show a gain with certainty."""
    assert gain_test([1.9], [2.0, 2.1], 0.0).p is None
    assert gain_test([1.9], [2.0], 0.0).p is None
    assert gain_test([1.9, 1.9], [2.0], 0.0).p is None
    assert gain_test([1.9, 1.9, 1.9], [2.0, 2.0], 0.0).p is None
    assert (one := gain_test([1.9, 1.9], [2.0, 2.1], 0.0).p) is not None
    assert not math.isnan(one)
    with pytest.raises(ValueError, match="both sides"):
        gain_test([], [1.0], 0.0)
