"""The one-sided test of a claimed gain: Welch's against values, Student's against one published mean.

Lower values are better.
Source: Welch, Biometrika 34 (1947); Student, Biometrika 6 (1908).
"""

import importlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from golf.compliance.points import Evidence
from golf.config.rules import P_CLAIM, P_LOOSE


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
    gain = statistics.fmean(previous) - statistics.fmean(values)
    # Squared standard errors of the means, exactly 0 for equal values.
    part = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    base = statistics.variance(previous) / len(previous) if len(previous) > 1 else 0.0
    if len(values) == 1 or part + base == 0.0:
        return GainTest(gain, test, None)
    share = part / (part + base)
    freedom = 1.0 / (share**2 / (len(values) - 1) + (1.0 - share) ** 2 / max(1, len(previous) - 1))
    # SciPy is imported only here: most folders are checked without a baseline, in less time than that takes.
    stdtr = importlib.import_module("scipy.special").stdtr
    return GainTest(gain, test, float(stdtr(freedom, (margin - gain) / math.sqrt(part + base))))
