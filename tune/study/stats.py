"""Statistics of seeds: plain values in, frozen results out.

Lower is better everywhere, and a gain is baseline minus candidate. Values carry any unit (BPB, nats per token); the
margin has the same one. Each function names its assumption and its source. Where the values cannot carry a figure (one
seed, no spread at all) the figure is None: never nan, never a guess. Nothing here reads, writes, prints or draws from a
global random state.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.stats import chi2, f, t

Interval = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """A sample in a few figures."""

    num_values: int
    mean: float
    standard_deviation: float | None
    """Of the sample, with n - 1; None for one value."""
    standard_error: float | None
    """Of the mean; None for one value."""
    interval: Interval | None
    """Of the mean, two-sided; None for one value."""
    level: float
    """Of the interval."""


@dataclass(frozen=True)
class Gain:
    """By how much a candidate is better, and how sure it is that this exceeds the margin."""

    gain: float
    """Baseline minus candidate."""
    margin: float
    interval: Interval | None
    """Of the gain, two-sided; None like `p`."""
    level: float
    """Of the interval."""
    degrees_of_freedom: float | None
    statistic: float | None
    p: float | None
    """One-sided, of "the gain is at most the margin"; None where the values show no spread to judge by."""

    def scaled(self, factor: float) -> "Gain":
        """The same gain in another unit, `factor` > 0 of it to one of this (p is the same in both)."""
        interval = None if self.interval is None else (self.interval[0] * factor, self.interval[1] * factor)
        return replace(self, gain=self.gain * factor, margin=self.margin * factor, interval=interval)


@dataclass(frozen=True)
class CapRisk:
    """How close artifacts come to the cap."""

    largest_bytes: int
    margin_bytes: int
    """Cap minus the largest; negative when it is over."""
    probability: float | None
    """That a further seed exceeds the cap; None for one seed or equal sizes."""


@dataclass(frozen=True)
class NoiseSplit:
    """The noise of one seed run again, beside the noise of other seeds."""

    repeat_sd: float
    """Same seed, run again."""
    repeat_interval: Interval
    seeds_sd: float
    """From seed to seed; the same-seed noise is in it."""
    seeds_interval: Interval
    seed_only_sd: float
    """What the seed itself adds: root of the difference of the two variances, 0 where that is negative."""
    repeat_share: float | None
    """Same-seed variance as a part of the seed-to-seed variance, above 1 by chance only; None if the latter is 0."""
    share_interval: Interval | None
    level: float


def summarise(values: Sequence[float], level: float = 0.95) -> Summary:
    """Mean, spread and t interval of a sample.

    Assumes independent draws from one normal distribution. Source: Student, Biometrika 6 (1908).

    Args: values: one or more; level: of the interval.
    Raises: ValueError for no values, or one that is not finite.
    """
    mean, variance = _moments(values)
    if variance is None:
        return Summary(1, mean, None, None, None, level)
    error = math.sqrt(variance / len(values))
    interval = _around(mean, error, len(values) - 1, level)
    return Summary(len(values), mean, math.sqrt(variance), error, interval, level)


def welch_gain(candidate: Sequence[float], baseline: Sequence[float], margin: float = 0.0, level: float = 0.95) -> Gain:
    """One-sided Welch test that mean(baseline) - mean(candidate) exceeds `margin`.

    Assumes two independent normal samples; their variances may differ. With 3 seeds against 10 the size at p < 0.01 is
    0.016 at equal noise, up to 0.02 against a quieter baseline. Source: Welch, Biometrika 34 (1947), with the
    degrees of freedom of Satterthwaite (1946).

    Returns: the gain; test and interval are None when one side has a single value or neither side has any spread.
    Raises: ValueError for an empty side, or a value that is not finite.
    """
    (mean, variance), (base_mean, base_variance) = _moments(candidate), _moments(baseline)
    gain = base_mean - mean
    if variance is None or base_variance is None or variance + base_variance == 0.0:
        return Gain(gain, margin, None, level, None, None, None)
    part, base_part = variance / len(candidate), base_variance / len(baseline)
    share = part / (part + base_part)
    freedom = 1.0 / (share**2 / (len(candidate) - 1) + (1.0 - share) ** 2 / (len(baseline) - 1))
    return _student(gain, math.sqrt(part + base_part), freedom, margin, level)


def one_sample_gain(
    candidate: Sequence[float], published_mean: float, margin: float = 0.0, level: float = 0.95
) -> Gain:
    """One-sided t test that `published_mean` - mean(candidate) exceeds `margin`.

    Assumes independent normal values, and takes the published mean as exact: its own noise is ignored, so that p is
    too small by as much as that figure is uncertain. Use `welch_gain` where its seeds are known. Source: Student, as
    for `summarise`.

    Returns: the gain; test and interval are None for a single value or values without spread.
    Raises: ValueError for no values, or one that is not finite.
    """
    mean, variance = _moments(candidate)
    if not variance:
        return Gain(published_mean - mean, margin, None, level, None, None, None)
    error = math.sqrt(variance / len(candidate))
    return _student(published_mean - mean, error, len(candidate) - 1, margin, level)


def paired_by_seed(
    candidate: Mapping[int, float], baseline: Mapping[int, float], margin: float = 0.0, level: float = 0.95
) -> Gain:
    """Paired one-sided t test on baseline minus candidate, seed by seed.

    Assumes independent normal differences. Pairing helps only where a seed moves both the same way; two configurations
    that draw different random numbers from one seed are as good as unpaired. Source: Student (1908).

    Args: candidate, baseline: value by seed.
    Raises: ValueError naming the seeds that are on one side only: none may be left out silently.
    """
    alone = sorted(set(candidate) ^ set(baseline))
    if alone:
        raise ValueError(f"seeds {alone} ran on one side only: run them on the other, or compare unpaired")
    return one_sample_gain([candidate[seed] - baseline[seed] for seed in candidate], 0.0, margin, level)


def cap_probability(artifact_bytes: Sequence[int], cap: int) -> CapRisk:
    """Margin to the cap, and the probability that a further seed's artifact is larger than the cap.

    Assumes independent normal sizes: a further one lies at mean + sd * sqrt(1 + 1/n) * t with n - 1 degrees of freedom.
    Three sizes cannot show a heavy tail: take it as a lower bound where the codec jumps. Source: prediction interval
    of Fisher (1935); Hahn and Meeker, Statistical Intervals (1991), section 4.7.

    Args: artifact_bytes: one per seed; cap: in bytes.
    Raises: ValueError for no sizes.
    """
    mean, variance = _moments(artifact_bytes)
    largest, num = max(artifact_bytes), len(artifact_bytes)
    if not variance:
        return CapRisk(largest, cap - largest, None)
    spread = math.sqrt(variance * (1.0 + 1.0 / num))
    return CapRisk(largest, cap - largest, float(t.sf((cap - mean) / spread, num - 1)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p values adjusted for being many; those below alpha are significant together, the error of any one at alpha.

    Assumes valid p values, nothing about their dependence. Source: Holm, Scand. J. Statist. 6 (1979).

    Returns: adjusted values in the order given.
    Raises: ValueError for a p outside [0, 1].
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p values must be in [0, 1], got {list(p_values)}")
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return tuple(adjusted)


def noise_split(by_seed: Sequence[float], repeats: Sequence[float], level: float = 0.95) -> NoiseSplit:
    """Noise of one seed run again, beside the noise from seed to seed, and what is left for the seed itself.

    Assumes value = mean + seed effect + repeat noise, both normal and independent, the repeat noise alike for all
    seeds. Then the variance over seeds, each run once, is the sum of both, and their difference estimates the seed's
    part. Intervals of the deviations by chi-square, of the share by F. With fewer than ten values on a side they are
    wide. Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 3.

    Args: by_seed: one value for each of several seeds; repeats: values of one seed, none of them also in `by_seed`.
    Raises: ValueError with fewer than two values on a side.
    """
    (_, over_seeds), (_, over_repeats) = _moments(by_seed), _moments(repeats)
    if over_seeds is None or over_repeats is None:
        raise ValueError(f"two or more values on each side are needed, got {len(by_seed)} and {len(repeats)}")
    share = over_repeats / over_seeds if over_seeds else None
    share_interval = None
    if share is not None:
        quantiles = f.ppf([(1.0 + level) / 2.0, (1.0 - level) / 2.0], len(repeats) - 1, len(by_seed) - 1)
        share_interval = (share / float(quantiles[0]), share / float(quantiles[1]))
    return NoiseSplit(
        repeat_sd=math.sqrt(over_repeats),
        repeat_interval=_sd_interval(over_repeats, len(repeats), level),
        seeds_sd=math.sqrt(over_seeds),
        seeds_interval=_sd_interval(over_seeds, len(by_seed), level),
        seed_only_sd=math.sqrt(max(0.0, over_seeds - over_repeats)),
        repeat_share=share,
        share_interval=share_interval,
        level=level,
    )


def _moments(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample variance, exactly 0 for equal values and None for one; the order of values does not matter."""
    if len(values) == 0 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"one or more finite values are needed, got {list(values)}")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    # The mean of equal values is rounded, which would pass for a spread.
    squares = 0.0 if min(values) == max(values) else math.fsum((value - mean) ** 2 for value in values)
    return mean, squares / (len(values) - 1)


def _around(centre: float, error: float, freedom: float, level: float) -> Interval:
    """The two-sided t interval."""
    half = error * float(t.ppf((1.0 + level) / 2.0, freedom))
    return centre - half, centre + half


def _student(gain: float, error: float, freedom: float, margin: float, level: float) -> Gain:
    """The one-sided t test of a gain whose standard error is positive."""
    statistic = (gain - margin) / error
    p = float(t.sf(statistic, freedom))
    return Gain(gain, margin, _around(gain, error, freedom, level), level, freedom, statistic, p)


def _sd_interval(variance: float, num: int, level: float) -> Interval:
    """The chi-square interval of a standard deviation, from the variance of `num` normal values."""
    low, high = chi2.isf([(1.0 - level) / 2.0, (1.0 + level) / 2.0], num - 1)
    return math.sqrt((num - 1) * variance / float(low)), math.sqrt((num - 1) * variance / float(high))
