"""How often the statistics err: simulated seeds with a known truth against what the tests and intervals promise.

Draws normal values with a known gain and counts: claims where there is no gain above the margin, claims where there is
one, and intervals that hold the truth. Prints tables and, at the end, one JSON object.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from golf.config.rules import P_CLAIM, P_LOOSE
from tune.study.bootstrap import paired_bootstrap
from tune.study.sequential_test import nominal_levels, power
from tune.study.stats import cap_probability, summarise

Values = NDArray[np.float64]
LOOKS = tuple(range(3, 11))
"""Of `run_seeds.py --until-decided` by default."""
PAIRS = ((3, 3, 1.0), (3, 6, 1.0), (3, 10, 1.0), (5, 5, 1.0), (3, 3, 3.0), (10, 10, 3.0))
"""Seeds, baseline seeds, deviation of the seeds over that of the baseline."""


def seeds(generator: np.random.Generator, rounds: int, num: int, deviation: float = 1.0) -> Values:
    """(rounds, num) values of studies without a gain."""
    return generator.normal(0.0, deviation, (rounds, num))


def one_sided(candidate: Values, baseline: Values, equal_variances: bool = False) -> Values:
    """p of "the candidate is not lower", one a round."""
    found = ttest_ind(candidate, baseline, axis=1, equal_var=equal_variances, alternative="less")
    return np.asarray(found.pvalue)


def welch_sizes(generator: np.random.Generator, rounds: int) -> dict[str, tuple[float, float]]:
    """Claims at both levels where the gain is just the margin."""
    found = {}
    for num, others, ratio in PAIRS:
        p = one_sided(seeds(generator, rounds, num, ratio), seeds(generator, rounds, others))
        found[f"{num} against {others} seeds, deviations {ratio:g} to 1"] = (
            float((p < P_CLAIM).mean()),
            float((p < P_LOOSE).mean()),
        )
    return found


def sequential_claims(generator: np.random.Generator, rounds: int, others: int, gain: float) -> float:
    """Rate of claims within all looks of a plan, for a true gain in deviations above the margin."""
    candidate, baseline = seeds(generator, rounds, LOOKS[-1]) - gain, seeds(generator, rounds, others)
    claimed = np.zeros(rounds, dtype=bool)
    for num, level in zip(LOOKS, nominal_levels(others, LOOKS, P_CLAIM), strict=True):
        p = [one_sided(candidate[:, :num], baseline, equal_variances=equal) for equal in (False, True)]
        claimed |= np.maximum(*p) <= level
    return float(claimed.mean())


def repeated_welch(generator: np.random.Generator, rounds: int, others: int) -> float:
    """The same looks with a plain test at each: what the plan guards against."""
    candidate, baseline = seeds(generator, rounds, LOOKS[-1]), seeds(generator, rounds, others)
    p = np.stack([one_sided(candidate[:, :num], baseline) for num in LOOKS])
    return float((p.min(axis=0) < P_CLAIM).mean())


def mean_coverage(generator: np.random.Generator, rounds: int, num: int) -> float:
    """How often the interval of the mean holds it."""
    intervals = (summarise(list(values)).interval for values in seeds(generator, rounds, num))
    return sum(interval is not None and interval[0] <= 0.0 <= interval[1] for interval in intervals) / rounds


def cap_calibration(generator: np.random.Generator, rounds: int, num: int) -> tuple[float, float]:
    """Mean probability told of a further artifact over the cap, and how often it was."""
    sizes = np.round(generator.normal(15_950_000.0, 40_000.0, (rounds, num + 1))).astype(int)
    told = [cap_probability([int(size) for size in row[:num]], 16_000_000).probability for row in sizes]
    return float(np.mean([p for p in told if p is not None])), float((sizes[:, num] > 16_000_000).mean())


def bootstrap_coverage(generator: np.random.Generator, rounds: int, correlation: float, num_chunks: int = 800) -> float:
    """How often the interval of a paired difference holds it, on streams of correlated chunks."""
    held, ones = 0, np.ones(num_chunks)
    for _ in range(rounds):
        noise = generator.normal(0.0, 1.0, num_chunks)
        series = np.empty(num_chunks)
        series[0] = noise[0]
        for chunk in range(1, num_chunks):
            series[chunk] = correlation * series[chunk - 1] + math.sqrt(1 - correlation**2) * noise[chunk]
        interval = paired_bootstrap(ones * 0.0, series, ones, ones, replicates=500, seed=1).nats_interval
        held += interval is not None and interval[0] <= 0.0 <= interval[1]
    return held / rounds


def main(arguments: Sequence[str]) -> int:
    """Run the simulations."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--rounds", type=int, default=40_000, help="simulated studies of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (%(default)s)")
    parsed = parser.parse_args(arguments)
    rounds, generator = parsed.rounds, np.random.default_rng(parsed.seed)
    print(f"{rounds:,} rounds; Monte Carlo error of a rate of 0.01: {math.sqrt(0.01 * 0.99 / rounds):.4f}")
    print("\nclaims of one Welch test where the gain is just the margin: p < 0.01, p < 0.25")
    sizes = welch_sizes(generator, rounds)
    for name, (claim, loose) in sizes.items():
        print(f"  {name:44s} {claim:.4f}  {loose:.4f}")
    print("\nclaims within the looks at 3 to 10 seeds: the plan of --until-decided, and plain Welch tests at 0.01 each")
    planned = {others: sequential_claims(generator, rounds, others, 0.0) for others in (3, 6, 10)}
    for others, rate in planned.items():
        print(f"  against {others:2d} seeds {rate:24.4f}  {repeated_welch(generator, rounds, others):.4f}")
    print("\npower of one test at p < 0.01, of equal seeds on both sides: computed, simulated")
    powers = {}
    for num, gain in ((3, 3.0), (3, 6.0), (5, 3.0), (10, 2.0)):
        p = one_sided(seeds(generator, rounds, num) - gain, seeds(generator, rounds, num))
        powers[f"{num} seeds, {gain:g} deviations"] = (power(gain, 1.0, 0.0, P_CLAIM, num), float((p < P_CLAIM).mean()))
    for name, (computed, simulated) in powers.items():
        print(f"  {name:44s} {computed:.4f}  {simulated:.4f}")
    few = max(rounds // 10, 1)
    print("\nintervals of 95 % that hold the truth")
    coverage = {num: mean_coverage(generator, few, num) for num in (3, 5, 10)}
    for num, rate in coverage.items():
        print(f"  mean of {num:2d} seeds {rate:38.4f}")
    streams = {
        correlation: bootstrap_coverage(generator, max(rounds // 100, 1), correlation) for correlation in (0, 0.6)
    }
    for correlation, rate in streams.items():
        print(f"  difference on 800 chunks, correlation {correlation:3g} {rate:13.4f}")
    told, seen = cap_calibration(generator, few, 3)
    print(f"\na fourth artifact over the cap: told {told:.4f}, seen {seen:.4f}")
    result = {"welch_claims": {name: claim for name, (claim, _) in sizes.items()}, "planned_claims": planned}
    result |= {"largest_power_error": max(abs(a - b) for a, b in powers.values()), "mean_coverage": coverage}
    print(json.dumps(result | {"stream_coverage": streams, "cap_told": told, "cap_seen": seen}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
