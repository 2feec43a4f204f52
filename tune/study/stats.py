"""Statistics of seeds: the mean, tests of a gain, the risk of the cap, the parts of the noise.

Lower is better everywhere, and a gain is baseline minus candidate. Values may have any unit (BPB, nats per token); the
margin has the same one, `level` is the confidence level of intervals. Each function names its assumption and its
source, and raises ValueError for an empty sample or a value that is not finite. Where the values cannot carry a figure
(one seed, no spread at all) the figure is None, never nan and never a guess.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.stats import chi2, f, t

from golf.submission.study import CapRisk, Gain, Interval, NoiseSplit, Summary


def summarise(values: Sequence[float], level: float = 0.95) -> Summary:
    """Returns mean, spread and t interval of a sample.

    Assumes independent draws from one normal distribution. Source: Student, Biometrika 6 (1908).
    """
    mean, variance = _moments(values)
    if variance is None:
        return Summary(num_values=1, mean=mean, level=level)
    error = math.sqrt(variance / len(values))
    return Summary(
        num_values=len(values),
        mean=mean,
        standard_deviation=math.sqrt(variance),
        standard_error=error,
        interval=_t_interval(mean, error, len(values) - 1, level),
        level=level,
    )


def welch_gain(candidate: Sequence[float], baseline: Sequence[float], margin: float = 0.0, level: float = 0.95) -> Gain:
    """Returns the one-sided Welch test that mean(baseline) - mean(candidate) exceeds `margin`.

    Assumes two independent normal samples; their variances may differ. With 3 seeds against 10 the size at p < 0.01 is
    0.016 at equal noise, up to 0.02 against a quieter baseline. `scipy.stats.ttest_ind` is the same test without a
    margin, and warns where one side has no spread. Test and interval are None when one side has a single value or
    neither side has any spread. Source: Welch, Biometrika 34 (1947), with the degrees of freedom of Satterthwaite
    (1946).
    """
    (mean, variance), (base_mean, base_variance) = _moments(candidate), _moments(baseline)
    gain = base_mean - mean
    if variance is None or base_variance is None or variance + base_variance == 0.0:
        return Gain(gain=gain, margin=margin, level=level)
    part, base_part = variance / len(candidate), base_variance / len(baseline)
    share = part / (part + base_part)
    freedom = 1.0 / (share**2 / (len(candidate) - 1) + (1.0 - share) ** 2 / (len(baseline) - 1))
    return _t_test(gain, math.sqrt(part + base_part), freedom, margin, level)


def one_sample_gain(
    candidate: Sequence[float], published_mean: float, margin: float = 0.0, level: float = 0.95
) -> Gain:
    """Returns the one-sided t test that `published_mean` - mean(candidate) exceeds `margin`.

    Assumes independent normal values, and takes the published mean as exact: its own noise is ignored, so that p is
    too small by as much as that figure is uncertain. Use `welch_gain` where its seeds are known. Test and interval are
    None for a single value or values without spread. Source: Student, as for `summarise`.
    """
    mean, variance = _moments(candidate)
    gain = published_mean - mean
    if not variance:
        return Gain(gain=gain, margin=margin, level=level)
    return _t_test(gain, math.sqrt(variance / len(candidate)), len(candidate) - 1, margin, level)


def paired_by_seed(
    candidate: Mapping[int, float], baseline: Mapping[int, float], margin: float = 0.0, level: float = 0.95
) -> Gain:
    """Returns the paired one-sided t test on baseline minus candidate, seed by seed.

    Assumes independent normal differences. Pairing helps only where a seed moves both the same way; two configurations
    that draw different random numbers from one seed are as good as unpaired. Source: Student (1908).

    Raises: ValueError naming the seeds that are on one side only: none may be left out silently.
    """
    alone = sorted(set(candidate) ^ set(baseline))
    if alone:
        raise ValueError(f"seeds {alone} ran on one side only: run them on the other, or compare unpaired")
    return one_sample_gain([candidate[seed] - baseline[seed] for seed in candidate], 0.0, margin, level)


def cap_probability(artifact_bytes: Sequence[int], cap: int) -> CapRisk:
    """Returns the margin to the cap, and the probability that a further seed's artifact is larger than the cap.

    Assumes independent normal sizes: a further one lies at mean + sd * sqrt(1 + 1/n) * t with n - 1 degrees of freedom.
    Three sizes cannot show a heavy tail: take it as a lower bound where the codec jumps. Source: prediction interval
    of Fisher (1935); Hahn and Meeker, Statistical Intervals (1991), section 4.7.
    """
    mean, variance = _moments(artifact_bytes)
    largest, num, probability = max(artifact_bytes), len(artifact_bytes), None
    if variance:
        probability = float(t.sf((cap - mean) / math.sqrt(variance * (1.0 + 1.0 / num)), num - 1))
    return CapRisk(largest_bytes=largest, margin_bytes=cap - largest, probability=probability)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns p values adjusted for being many, in the order given.

    Those below alpha are significant together: the probability of any error is at most alpha. Assumes valid p values,
    nothing about their dependence. Source: Holm, Scand. J. Statist. 6 (1979).

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
    """Returns the noise of one seed run again, the noise from seed to seed, and what is left for the seed itself.

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
    share, share_interval = None, None
    if over_seeds:
        share = over_repeats / over_seeds
        low, high = f.interval(level, len(repeats) - 1, len(by_seed) - 1)
        share_interval = (share / float(high), share / float(low))
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
    """Returns mean and sample variance, None for one value; both are exact sums, rounded once.

    So the variance of equal values is exactly 0, which a rounded mean would hide, and the order does not matter.
    """
    if len(values) == 0 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"one or more finite values are needed, got {list(values)}")
    return statistics.fmean(values), float(statistics.variance(values)) if len(values) > 1 else None


def _t_interval(centre: float, error: float, freedom: float, level: float) -> Interval:
    """Returns the two-sided t interval around a figure with this standard error."""
    half = error * float(t.ppf((1.0 + level) / 2.0, freedom))
    return centre - half, centre + half


def _t_test(gain: float, error: float, freedom: float, margin: float, level: float) -> Gain:
    """Returns the one-sided t test of a gain with a positive standard error."""
    statistic = (gain - margin) / error
    return Gain(
        gain=gain,
        margin=margin,
        interval=_t_interval(gain, error, freedom, level),
        level=level,
        degrees_of_freedom=freedom,
        statistic=statistic,
        p=float(t.sf(statistic, freedom)),
    )


def _sd_interval(variance: float, num: int, level: float) -> Interval:
    """Returns the chi-square interval of a standard deviation, from the variance of `num` normal values."""
    low, high = chi2.interval(level, num - 1)
    return math.sqrt((num - 1) * variance / float(high)), math.sqrt((num - 1) * variance / float(low))
