"""How many seeds: power before spending, and a decision after each seed that stays valid under repeated looks.

Gains, noise and values are in any one unit, lower values being better. The sequential test is a group-sequential one:
alpha is spent in proportion to information (Lan and DeMets, Biometrika 70, 1983; the linear member of Kim and DeMets,
1987), the nominal level of each look comes from the exact joint law of repeated t statistics (Jennison and Turnbull,
Biometrika 78, 1991), and each look compares its p value with that level (Pocock, Biometrika 64, 1977). A test for
unlimited looks (an e-process) was the alternative: at 3 to 10 seeds, alpha 0.01, 6 baseline seeds and a true gain 2 sd
above the margin it decides 0.49 of the time, this one 0.66. The plan must not be changed after values were seen.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import roots_jacobi, stdtr
from scipy.stats import nct, t

from golf.submission.study import Decision, Gain, Look, SequentialResult
from tune.study.stats import one_sample_gain, summarise, welch_gain

PUBLISHED_SEED_SD = 0.00068
"""BPB; median of the 3-seed standard deviations of 284 published triples (three quarters are below 0.0011)."""
MOST_SEEDS = 100
"""Seeds beyond which nobody would go."""
NO_GAIN_ALPHA = 0.05
"""Probability of denying a gain that is there."""

BaselineSize = int | Literal["equal", "published"]
"""What a candidate is compared with: this many seeds, as many as its own, or one published mean taken as exact."""

_NODES = 64
"""Nodes of the quadrature over the ratio of two sample variances."""
_BINS = 400
"""Bins of the null law's grid; with more, levels of 0.001 move by less than 1 %."""
_Tail = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Probability that an angle is above each of the given ones."""


def power(
    gain: float, sd: float, margin: float, alpha: float, num_seeds: int, baseline: BaselineSize = "equal"
) -> float:
    """Returns the probability that the one-sided test of "the gain exceeds the margin" gives p < alpha.

    Assumes normal values with the same true standard deviation on both sides. Against seeds this is the power of
    Welch's test, the noncentral t averaged over the ratio of the two sample variances, on which its degrees of freedom
    depend; against a published mean the noncentral t itself. Source: Johnson, Kotz and Balakrishnan, Continuous
    Univariate Distributions 2 (1995), chapter 31.

    Args: gain: true gain; sd: true deviation from seed to seed (`PUBLISHED_SEED_SD` where nothing better is known);
        margin: that the gain has to exceed; alpha: level of the test; num_seeds: seeds of the candidate, two or more;
        baseline: seeds of the baseline.
    Raises: ValueError for fewer than two seeds on a side, sd not above 0, or alpha outside (0, 0.5).
    """
    others = num_seeds if baseline == "equal" else baseline
    if num_seeds < 2 or (isinstance(others, int) and others < 2):
        raise ValueError(f"two or more seeds are needed on each side, got {num_seeds} and {others}")
    if not sd > 0.0 or not 0.0 < alpha < 0.5:
        raise ValueError(f"sd must be above 0 and alpha in (0, 0.5), got {sd} and {alpha}")
    excess = (gain - margin) / sd
    if isinstance(others, str):
        freedom = num_seeds - 1
        return float(nct.sf(t.isf(alpha, freedom), freedom, excess * math.sqrt(num_seeds)))
    one, two = num_seeds - 1, others - 1
    nodes, weights = roots_jacobi(_NODES, two / 2 - 1, one / 2 - 1)
    share = (1.0 + nodes) / 2.0  # the candidate's share in the sum of squares is Beta(one / 2, two / 2)
    part, other = share / (one * num_seeds), (1.0 - share) / (two * others)
    critical = t.isf(alpha, (part + other) ** 2 / (part**2 / one + other**2 / two))
    variance = 1.0 / num_seeds + 1.0 / others
    pooled = critical * np.sqrt((part + other) * (one + two) / variance)
    return float(weights @ nct.sf(pooled, one + two, excess / math.sqrt(variance)) / weights.sum())


def seeds_needed(
    gain: float, sd: float, margin: float, alpha: float, target: float, baseline: BaselineSize = "equal"
) -> int | None:
    """Returns the smallest number of candidate seeds, two or more, with which `power` reaches `target` in (0, 1).

    None when MOST_SEEDS are not enough: a gain near the margin, or a baseline of too few seeds. Assumptions, source,
    arguments and errors are those of `power`.
    """
    if not 0.0 < target < 1.0:
        raise ValueError(f"target must be in (0, 1), got {target}")
    enough = (num for num in range(2, MOST_SEEDS + 1) if power(gain, sd, margin, alpha, num, baseline) >= target)
    return next(enough, None)


def sequential_decision(
    candidate: Sequence[float],
    baseline: Sequence[float] | float,
    margin: float,
    alpha: float = 0.01,
    looks: Sequence[int] = range(3, 11),
    no_gain_alpha: float = NO_GAIN_ALPHA,
) -> SequentialResult:
    """Decides after each look whether the gain exceeds the margin, is below it, or more seeds are needed.

    Whatever the number of looks, a gain is claimed with probability at most `alpha` where there is none above the
    margin, and denied with at most `no_gain_alpha` where there is one. Neither bound relies on stopping at the other.
    Assumes normal values with equal variances, seeds taken in an order fixed beforehand, and a baseline, margin and
    plan of looks that stay as they are. Against a published mean the error is exactly alpha then. Against seeds a claim
    needs both the pooled t test, for which the levels are exact, and Welch's at the same level, which bounds the damage
    of unequal variances: with 3 to 10 baseline seeds and alpha 0.01 the error was 0.005 to 0.007 at equal deviations,
    up to 0.012 at a ratio of 1.5 and 0.021 at 3, no more than that of a single Welch test there. Sources: see the
    module.

    Args: candidate: values in the order of the plan; those after the last due look are not used; baseline: values, or
        one published mean taken as exact; margin: that the gain has to exceed; alpha: largest probability of a false
        claim; looks: numbers of candidate seeds at which to look; the last is the maximum; no_gain_alpha: largest
        probability of a false denial.
    Raises: ValueError for a plan that is not increasing from two or more, a baseline of a single seed's value, or an
        alpha outside (0, 0.5).
    """
    plan = tuple(looks)
    num_baseline = None if isinstance(baseline, (int, float)) else len(baseline)
    gain_levels = nominal_levels(num_baseline, plan, alpha)
    no_gain_levels = nominal_levels(num_baseline, plan, no_gain_alpha)
    made: list[Look] = []
    for num_seeds, gain_level, no_gain_level in zip(plan, gain_levels, no_gain_levels, strict=True):
        if num_seeds > len(candidate):
            return SequentialResult(decision=Decision.CONTINUE, looks=tuple(made), next_look=num_seeds)
        gain, p_values = _compare(candidate[:num_seeds], baseline, margin)
        look = Look(
            num_seeds=num_seeds,
            gain=gain,
            p_gain=max(p_values, default=None),
            gain_level=gain_level,
            p_no_gain=max((1.0 - p for p in p_values), default=None),
            no_gain_level=no_gain_level,
        )
        made.append(look)
        if look.p_gain is not None and look.p_gain <= gain_level:
            return SequentialResult(decision=Decision.GAIN, looks=tuple(made))
        if look.p_no_gain is not None and look.p_no_gain <= no_gain_level:
            return SequentialResult(decision=Decision.NO_GAIN, looks=tuple(made))
    return SequentialResult(decision=Decision.UNDECIDED, looks=tuple(made))


@lru_cache(maxsize=256)
def nominal_levels(num_baseline: int | None, looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Returns the level for the p value of each look, so that a first p below its level has probability `alpha` in all.

    Look k spends alpha * (I_k - I_(k-1)) / I_last, with I = 1 / (1/candidates + 1/baseline). Under the null the t
    statistics of growing samples are a Markov chain: with R the statistic over the root of all squares, a further value
    turns R into (a R + b w) / sqrt(1 + w^2), a^2 = 1 - b^2 = I_old / I_new, and w is a t variable independent of the
    past. That chain is followed on a grid of the angle whose sine is R. Source: Jennison and Turnbull (1991).

    Args: num_baseline: seeds of the baseline, two or more; None for a mean taken as exact; looks: numbers of candidate
        seeds; alpha: to be spent in all.
    Raises: ValueError as `sequential_decision`.
    """
    if not looks or looks[0] < 2 or list(looks) != sorted(set(looks)):
        raise ValueError(f"looks must be increasing numbers of seeds from 2 on, got {looks}")
    if num_baseline is not None and num_baseline < 2:
        raise ValueError("one baseline seed shows no spread: run more, or give its value as a published mean")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha must be in (0, 0.5), got {alpha}")
    edges = np.linspace(-math.pi / 2, math.pi / 2, _BINS + 1)
    sines = np.sin((edges[1:] + edges[:-1]) / 2)
    levels: list[float] = []
    spent = 0.0
    tail_of: _Tail = _t_tail(_freedom(looks[0], num_baseline))
    for num_seeds in range(looks[0], looks[-1] + 1):
        tail = tail_of(edges)
        information, freedom = _information(num_seeds, num_baseline), _freedom(num_seeds, num_baseline)
        if num_seeds in looks:
            due = alpha * information / _information(looks[-1], num_baseline) - spent
            spent += due
            bound = _angle_above(tail_of, due)
            levels.append(float(_t_tail(freedom)(np.array([bound]))[0]))
            tail = np.where(edges < bound, np.maximum(tail - due, 0.0), 0.0)
        shared = information / _information(num_seeds + 1, num_baseline)
        tail_of = _step(-np.diff(tail), sines, shared, freedom + 1)
    return tuple(levels)


def _compare(
    candidate: Sequence[float], baseline: Sequence[float] | float, margin: float
) -> tuple[Gain, tuple[float, ...]]:
    """Returns the gain at one look, and the p values that a decision has to satisfy together; none without spread."""
    if isinstance(baseline, (int, float)):
        gain = one_sample_gain(candidate, baseline, margin)
        return gain, () if gain.p is None else (gain.p,)
    gain = welch_gain(candidate, baseline, margin)
    if gain.p is None:
        return gain, ()
    squares = sum((summarise(side).standard_deviation or 0.0) ** 2 * (len(side) - 1) for side in (candidate, baseline))
    freedom = _freedom(len(candidate), len(baseline))
    error = math.sqrt(squares / freedom / _information(len(candidate), len(baseline)))
    return gain, (gain.p, float(t.sf((gain.gain - margin) / error, freedom)))


def _information(num_seeds: int, num_baseline: int | None) -> float:
    """Returns one over the variance of the gain, at a deviation of 1."""
    return float(num_seeds) if num_baseline is None else 1.0 / (1.0 / num_seeds + 1.0 / num_baseline)


def _freedom(num_seeds: int, num_baseline: int | None) -> int:
    """Returns the degrees of freedom of the t statistic."""
    return num_seeds - 1 if num_baseline is None else num_seeds + num_baseline - 2


def _t_tail(freedom: int) -> _Tail:
    """Returns the tail of the angle of a t statistic."""

    def above(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return stdtr(freedom, -math.sqrt(freedom) * np.tan(_inside(angles)))

    return above


def _step(mass: NDArray[np.float64], sines: NDArray[np.float64], shared: float, freedom: int) -> _Tail:
    """Returns the tail of the next angle, from the masses at sines of the last one.

    With w = tan(phi), a R + b w over sqrt(1 + w^2) is rho cos(phi - phi_0): above s between two values of phi.

    Args: mass: [num_bins] probability of each bin; sines: [num_bins] sine in the middle of each bin; shared: a^2, the
        share of the information that the last statistic has; freedom: degrees of freedom of w.
    """
    x, b = math.sqrt(shared) * sines[:, None], math.sqrt(1.0 - shared)
    rho, centre = np.hypot(x, b), np.arctan2(b, x)

    def below(phi: NDArray[np.float64]) -> NDArray[np.float64]:
        return stdtr(freedom, math.sqrt(freedom) * np.tan(_inside(phi)))

    def above(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        half = np.arccos(np.clip(np.sin(angles)[None] / rho, -1.0, 1.0))
        return mass @ (below(centre + half) - below(centre - half))

    return above


def _inside(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns angles just short of a right one, where the tangent is finite and its sign is safe."""
    return np.clip(angles, -math.pi / 2 + 1e-12, math.pi / 2 - 1e-12)


def _angle_above(tail: _Tail, probability: float) -> float:
    """Returns the angle above which the probability is the given one."""
    return float(brentq(lambda angle: float(tail(np.array([angle]))[0]) - probability, -1.57, 1.57, xtol=1e-12))
