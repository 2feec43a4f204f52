"""The one-sided test of a claimed gain: Welch's against values, Student's against one published mean.

Lower values are better. SciPy has the distribution, but importing `scipy.special` takes 0.5 s, which is more than
the rest of the check.
Source: Welch, Biometrika 34 (1947); Student, Biometrika 6 (1908); the quadrature is that of Takahasi and Mori (1974).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from golf.compliance.points import Evidence
from golf.config.rules import P_CLAIM, P_LOOSE

_REACH = 3.5
"""Where the quadrature ends: an angle is within 1e-22 of the ends of its range there."""


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

    def evidence(self) -> Evidence:
        """Returns the test as evidence, with the answers at both levels."""
        loose = self.p is not None and self.p < P_LOOSE
        return {"test": self.test, "p": self.p, "p_below_0.01": self.shown, "p_below_0.25": loose}


def gain_test(values: Sequence[float], previous: Sequence[float], margin: float) -> GainTest:
    """Tests whether mean(previous) - mean(values) exceeds `margin`.

    Args:
        values: of several seeds.
        previous: values of several seeds, or one published mean, which is taken as exact.
        margin: in the same unit.

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
    """Returns the probability that Student's t with `freedom` degrees of freedom, 1 or more, is above `statistic`.

    With t = sqrt(freedom) * cot(angle) it is the integral of sin(angle)^(freedom - 1) from 0 to the statistic's angle
    over that from 0 to pi; double exponential quadrature keeps its relative accuracy far out in the tail.
    """
    end, nodes = math.atan2(math.sqrt(freedom), statistic), math.ceil(100 + 9 * math.sqrt(freedom))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    total = 0.0
    for node in range(-nodes, nodes + 1):
        stretched = math.pi / 2 * math.sinh(_REACH * node / nodes)
        angle = end / (1.0 + math.exp(-2.0 * stretched))
        slope = math.cosh(_REACH * node / nodes) / math.cosh(stretched) ** 2
        total += slope * math.sin(angle) ** (freedom - 1.0)
    return min(1.0, scale * end * math.pi / 4 * _REACH / nodes * total)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _error(values: Sequence[float]) -> float | None:
    """Returns the squared standard error of the mean, exactly 0 for equal values; None for a single value."""
    if len(values) == 1:
        return None
    mean = _mean(values)
    squares = 0.0 if min(values) == max(values) else math.fsum((value - mean) ** 2 for value in values)
    return squares / (len(values) - 1) / len(values)
