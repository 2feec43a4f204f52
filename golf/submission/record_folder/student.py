"""The one-sided test of a claimed gain: Welch's against values, Student's against one published mean.

Values enter, a probability leaves, with nothing but arithmetic: seed studies have more tests, but what checks a folder
must run where the trainer runs. Lower values are better.
Source: Welch, Biometrika 34 (1947); Student, Biometrika 6 (1908); the continued fraction of the incomplete beta
function, Abramowitz and Stegun 26.5.8, evaluated by Lentz's method.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from golf.config.rules import P_CLAIM, P_LOOSE

_SMALLEST = 1e-300
_MOST_TERMS = 100_000


@dataclass(frozen=True)
class GainTest:
    """By how much values are better than others, and how likely so much is when the gain is only the margin."""

    gain: float
    test: str
    p: float | None
    """None where the values show no spread to judge by."""

    @property
    def shown(self) -> bool:
        """Whether the gain is shown at the level of a claim."""
        return self.p is not None and self.p < P_CLAIM

    def evidence(self) -> dict[str, Any]:
        """The test as a finding tells it, both levels answered."""
        loose = self.p is not None and self.p < P_LOOSE
        return {"test": self.test, "p": self.p, "p_below_0.01": self.shown, "p_below_0.25": loose}


def gain_test(values: Sequence[float], previous: Sequence[float], margin: float) -> GainTest:
    """The test that mean(previous) - mean(values) exceeds `margin`.

    Args: previous: values of several seeds, or one published mean, which is taken as exact.
    Raises: ValueError for no values on a side.
    """
    if not values or not previous:
        raise ValueError(f"values are needed on both sides, got {len(values)} and {len(previous)}")
    test = "Welch" if len(previous) > 1 else "one-sample t"
    gain = _mean(previous) - _mean(values)
    part = _error(values)
    base = _error(previous) if len(previous) > 1 else 0.0
    if part is None or base is None or part + base == 0.0:
        return GainTest(gain, test, None)
    share = part / (part + base)
    freedom = 1.0 / (share**2 / (len(values) - 1) + (1.0 - share) ** 2 / max(1, len(previous) - 1))
    return GainTest(gain, test, t_tail((gain - margin) / math.sqrt(part + base), freedom))


def t_tail(statistic: float, freedom: float) -> float:
    """The probability that Student's t with `freedom` degrees of freedom is above `statistic`."""
    tail = 0.5 * _beta_share(freedom / 2, 0.5, freedom / (freedom + statistic * statistic))
    return tail if statistic >= 0 else 1.0 - tail


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _error(values: Sequence[float]) -> float | None:
    """The squared standard error of the mean, exactly 0 for equal values; None for a single value."""
    if len(values) == 1:
        return None
    mean = _mean(values)
    squares = 0.0 if min(values) == max(values) else math.fsum((value - mean) ** 2 for value in values)
    return squares / (len(values) - 1) / len(values)


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1.0 - _beta_share(b, a, 1.0 - x)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    value, up, down = 1.0, 1.0, 0.0
    for term in range(_MOST_TERMS):
        m = term // 2
        if term == 0:
            part = 1.0
        elif term % 2 == 0:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        down = 1.0 / (1.0 + part * down or _SMALLEST)
        up = 1.0 + part / up or _SMALLEST
        value *= up * down
        if abs(up * down - 1.0) < 1e-15:
            break
    return math.exp(front) * (value - 1.0) / a
