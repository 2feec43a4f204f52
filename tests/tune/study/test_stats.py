"""Statistics of seeds against scipy, direct integration and brute force; parts of the noise by simulation."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from golf.submission.study import Gain
from tune.study.stats import (
    cap_probability,
    holm,
    noise_split,
    one_sample_gain,
    paired_by_seed,
    summarise,
    welch_gain,
)

VALUES = st.lists(st.integers(-1000, 1000).map(lambda value: 1.2 + value / 2**14), min_size=2, max_size=8)
"""Scores on a binary grid: differences are exact or far above rounding."""


def figures(result: Any) -> list[float]:
    """Returns all numbers of a result."""
    flat: list[Any] = []
    for item in msgspec.structs.astuple(result):
        flat += item if isinstance(item, tuple) else [item]
    return [item for item in flat if item is not None]


def test_summary_against_scipy() -> None:
    """Fault: n for n - 1, a normal for a t quantile, a one-sided for a two-sided level."""
    values = [1.2231, 1.2245, 1.2219, 1.2228]
    got = summarise(values, 0.9)
    assert got.standard_error is not None
    assert got.standard_deviation == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert got.standard_error == pytest.approx(stats.sem(values), rel=1e-12)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert got.interval == pytest.approx((expected.low, expected.high), rel=1e-12)


@given(candidate=VALUES, baseline=VALUES, margin=st.sampled_from([0.0, 0.003, -0.01]))
def test_welch_against_scipy(candidate: list[float], baseline: list[float], margin: float) -> None:
    """Fault: the wrong tail, a margin with the wrong sign, degrees of freedom of the pooled test."""
    got = welch_gain(candidate, baseline, margin, 0.9)
    assert got.gain == pytest.approx(np.mean(baseline) - np.mean(candidate), abs=1e-12)
    if len(set(candidate)) == 1 and len(set(baseline)) == 1:
        assert (got.p, got.interval, got.statistic, got.degrees_of_freedom) == (None,) * 4
        return
    moved = [value + margin for value in candidate]
    if len(set(candidate)) > 1 and len(set(baseline)) > 1:  # scipy warns of a side without spread
        expected = stats.ttest_ind(baseline, moved, equal_var=False, alternative="greater")
        two_sided = stats.ttest_ind(baseline, candidate, equal_var=False).confidence_interval(0.9)
        assert got.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert got.degrees_of_freedom == pytest.approx(expected.df, rel=1e-9)
        assert got.interval == pytest.approx((two_sided.low, two_sided.high), rel=1e-9, abs=1e-13)
    else:  # all the spread is on one side: its own t test
        spread, constant = (candidate, baseline[0]) if len(set(candidate)) > 1 else (baseline, candidate[0])
        side = "less" if spread is candidate else "greater"
        null = constant - margin if spread is candidate else constant + margin
        assert got.p == pytest.approx(stats.ttest_1samp(spread, null, alternative=side).pvalue, rel=1e-6)


def test_one_sample_p_by_direct_integration() -> None:
    """Fault: both our code and scipy's wrapper in the wrong tail: the density of t is integrated here."""
    values = [1.2231, 1.2245, 1.2219]
    statistic = (1.2300 - 0.003 - np.mean(values)) / (np.std(values, ddof=1) / math.sqrt(3))

    area, _ = integrate.quad(lambda x: (2 + x * x) ** -1.5, statistic, math.inf)
    assert one_sample_gain(values, 1.23, 0.003).p == pytest.approx(area, rel=1e-8)


@given(candidate=VALUES, baseline=VALUES, data=st.data())
def test_gain_is_equivariant(candidate: list[float], baseline: list[float], data: st.DataObject) -> None:
    """Fault: a verdict that depends on the unit, on a common shift, or on the order of the seeds."""
    got = welch_gain(candidate, baseline, 0.003)
    mixed = data.draw(st.permutations(candidate)), data.draw(st.permutations(baseline))
    assert welch_gain(*mixed, 0.003) == got
    doubled = welch_gain([4.0 * value for value in candidate], [4.0 * value for value in baseline], 0.012)
    assert figures(doubled) == pytest.approx(figures(got.scaled(4.0)), rel=1e-9, abs=1e-12)
    shifted = welch_gain([value + 1.0 for value in candidate], [value + 1.0 for value in baseline], 0.003)
    assert figures(shifted) == pytest.approx(figures(got), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "result",
    [
        summarise([1.3]),
        welch_gain([1.3], [1.4, 1.5]),
        welch_gain([1.3, 1.2], [1.4]),
        welch_gain([0.1] * 3, [1.1] * 3),
        one_sample_gain([1.3], 1.4),
        one_sample_gain([0.1] * 3, 1.4),
        cap_probability([15_999_000], 16_000_000),
        cap_probability([15_999_000] * 3, 16_000_000),
        noise_split([0.1] * 3, [0.1] * 3),
    ],
)
def test_nothing_is_claimed_without_spread(result: Any) -> None:
    """Fault: nan, a p of 0, or a certainty of 100 %; the mean of three 0.1 is not 0.1, which passes for a spread."""
    assert all(math.isfinite(figure) for figure in figures(result))
    assert getattr(result, "p", None) is None
    assert getattr(result, "probability", None) is None
    assert getattr(result, "share_interval", None) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_refuses_what_is_no_sample(values: Sequence[float]) -> None:
    """Fault: the nan of a diverged run spreads into a verdict."""
    for call in (summarise, lambda bad: welch_gain([1.0, 2.0], bad), lambda bad: one_sample_gain(bad, 1.0)):
        with pytest.raises(ValueError, match="finite"):
            call(values)


def test_paired_by_seed() -> None:
    """Fault: pairs made by position, or the shared part of the noise left in."""
    candidate, baseline = {42: 1.20, 7: 1.31, 9: 1.25}, {7: 1.33, 9: 1.262, 42: 1.218}
    pairs = [[candidate[seed] for seed in candidate], [baseline[seed] for seed in candidate]]
    expected = stats.ttest_rel(pairs[1], pairs[0], alternative="greater")
    got = paired_by_seed(candidate, baseline)
    assert got.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert got.gain == pytest.approx(np.mean(pairs[1]) - np.mean(pairs[0]), rel=1e-9)
    two_sided = stats.ttest_rel(pairs[1], pairs[0]).confidence_interval(0.95)
    assert got.interval == pytest.approx((two_sided.low, two_sided.high), rel=1e-9)


def test_paired_by_seed_leaves_none_out() -> None:
    """Fault: a bad seed disappears because the other side did not run it."""
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        paired_by_seed({1: 1.0, 2: 1.0, 3: 9.0}, {1: 1.0, 2: 1.1, 4: 1.0})


def test_cap_probability_by_direct_integration() -> None:
    """Fault: the spread of the mean taken for that of a further seed; a normal tail at n = 3."""
    sizes, cap = [15_990_000, 15_981_000, 15_997_500], 16_000_000
    reach = (cap - np.mean(sizes)) / math.sqrt(np.var(sizes, ddof=1) * (1 + 1 / 3))
    # A standard normal over the root of an independent chi-square with 2 degrees of freedom, over 2.
    area, _ = integrate.quad(lambda u: stats.norm.sf(reach * math.sqrt(u / 2)) * math.exp(-u / 2) / 2, 0, math.inf)
    got = cap_probability(sizes, cap)
    assert got.probability == pytest.approx(area, rel=1e-7)
    assert (got.largest_bytes, got.margin_bytes) == (15_997_500, 2_500)
    assert cap_probability(sizes, 15_990_000).margin_bytes == -7_500


@given(st.lists(st.floats(0.0, 1.0), max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values: list[float]) -> None:
    """Fault: factors in the wrong order, values not made monotone. Reference: every intersection by Bonferroni."""
    indices = range(len(p_values))
    subsets = [chosen for size in range(1, 7) for chosen in itertools.combinations(indices, size)]
    expected = [
        max(min(1.0, len(chosen) * min(p_values[each] for each in chosen)) for chosen in subsets if index in chosen)
        for index in indices
    ]
    assert holm(p_values) == pytest.approx(expected, rel=1e-12)


def test_holm_refuses_what_is_no_probability() -> None:
    """Fault: nan sorted anywhere."""
    for bad in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            holm([0.1, bad])


@pytest.mark.long
@pytest.mark.parametrize(("repeat_sd", "seed_sd"), [(0.5, 1.0), (1.0, 0.0)])
def test_noise_split_finds_the_components(repeat_sd: float, seed_sd: float) -> None:
    """Fault: components swapped or added, intervals of sd, share that do not cover, negative variances."""
    rounds, generator = 1500, np.random.default_rng(5)
    total = math.hypot(repeat_sd, seed_sd)
    by_seed = generator.normal(1.0, total, (rounds, 10)).tolist()
    repeats = generator.normal(2.0, repeat_sd, (rounds, 2)).tolist()
    splits = [noise_split(one, two, 0.9) for one, two in zip(by_seed, repeats, strict=True)]
    truths = {"repeat_interval": repeat_sd, "seeds_interval": total, "share_interval": (repeat_sd / total) ** 2}
    for name, truth in truths.items():
        hits = sum(getattr(split, name)[0] <= truth <= getattr(split, name)[1] for split in splits)
        assert hits / rounds == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / rounds)), name
    raw = np.array([split.seeds_sd**2 - split.repeat_sd**2 for split in splits])
    assert abs(raw.mean() - seed_sd**2) < 4 * raw.std() / math.sqrt(rounds)
    parts = np.array([split.seed_only_sd for split in splits])
    assert parts == pytest.approx(np.sqrt(np.maximum(raw, 0.0)), abs=1e-6)


@settings(max_examples=50)
@given(VALUES)
def test_one_sample_is_the_limit_of_welch(values: list[float]) -> None:
    """Fault: the two tests disagree on sign, margin or unit: a baseline of hardly any noise is a published mean."""
    if len(set(values)) == 1:
        return
    one: Gain = one_sample_gain(values, 1.25, 0.003)
    two = welch_gain(values, [1.25 - 1e-9, 1.25 + 1e-9], 0.003)
    assert figures(two) == pytest.approx(figures(one), rel=1e-3, abs=1e-6)
