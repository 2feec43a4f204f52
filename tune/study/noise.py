"""Noise from seed to seed as the ledger shows it, and how many seeds a gain needs.

Values of one configuration count once however many sweeps hold them, and repeats of a seed are no seeds.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from golf.config.rules import P_CLAIM, P_LOOSE, SP1024_BYTES, SP1024_TOKENS
from tune.records.entries import TrialEntry, latest
from tune.study.conditions import facts_of, same_configuration_key
from tune.study.runs import nats_per_bpb
from tune.study.sequential_test import PUBLISHED_SEED_SD, BaselineSize, seeds_needed
from tune.study.stats import summarise

FINEWEB_BYTES_PER_TOKEN = SP1024_BYTES / SP1024_TOKENS
"""Bytes per token of the competition's validation stream, with its tokenizer of 1,024 pieces."""
TARGETS = (0.8, 0.95)
"""Probabilities of showing the gain."""
LEVELS = (P_CLAIM, P_LOOSE)
"""Levels of the test."""
_GAINS = (1.2, 1.5, 2.0, 3.0, 5.0)
"""Gains of the table where none is asked for, in margins; without a margin in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far values of different seeds lie apart."""

    sd_bpb: float
    """Standard deviation from seed to seed."""
    degrees_of_freedom: int | None = None
    """None for a figure that is given."""
    source: str
    """Where it comes from."""


SeedsNeeded = dict[tuple[float, BaselineSize], tuple[int | None, ...]]
"""(level, baseline) -> seeds for each of TARGETS; None: more than MOST_SEEDS."""
PUBLISHED = Noise(sd_bpb=PUBLISHED_SEED_SD, source="the median of 284 published triples")


def pooled_noise(trials: Sequence[TrialEntry], preset: str) -> Noise | None:
    """Returns the standard deviation pooled over all configurations of a preset with two or more finished seeds.

    Assumes that they share one variance. Only runs of the same code, data, device and versions are put together.
    Source: Snedecor and Cochran, Statistical Methods, section 6.7 (pooled variance).

    Returns: None when no configuration has two seeds.
    """
    groups: dict[Hashable, dict[int, float]] = {}
    for entry in latest(trials):
        if (
            entry.done
            and not entry.repeat
            and entry.preset == preset
            and entry.seed is not None
            and entry.bpb is not None
            and entry.objective is None
        ):
            key = (same_configuration_key(entry), *sorted(facts_of(entry).items()))
            groups.setdefault(key, {}).setdefault(entry.seed, entry.bpb)
    samples = [list(group.values()) for group in groups.values() if len(group) > 1]
    if not samples:
        return None
    squares = sum((summarise(values).standard_deviation or 0.0) ** 2 * (len(values) - 1) for values in samples)
    freedom = sum(len(values) - 1 for values in samples)
    source = f"{len(samples)} configuration{'s' if len(samples) > 1 else ''} of {preset} in the ledger"
    return Noise(sd_bpb=math.sqrt(squares / freedom), degrees_of_freedom=freedom, source=source)


def latest_nats_per_bpb(trials: Sequence[TrialEntry], preset: str) -> float | None:
    """Returns the nats per token that are 1 BPB on the stream that a preset was scored on last; None before any was."""
    factors = [nats_per_bpb(entry) for entry in trials if entry.preset == preset]
    return next((factor for factor in reversed(factors) if factor is not None), None)


def seeds_table(
    sd_bpb: float, margin_bpb: float, gains_bpb: Sequence[float] = (), num_baseline: int | None = None
) -> dict[float, SeedsNeeded]:
    """Returns the seeds that each gain in BPB needs, against as many baseline seeds, a published mean, `num_baseline`.

    Assumptions and source as for `tune.study.sequential_test.power`.

    Raises: ValueError for noise that is not above 0, or a gain that is not above the margin.
    """
    if not sd_bpb > 0.0:
        raise ValueError(f"the noise must be above 0 to plan by, got {sd_bpb} BPB; give --noise-bpb")
    for gain in gains_bpb:
        if gain <= margin_bpb:
            raise ValueError(
                f"a gain of {gain:.5f} BPB is not above the margin of {margin_bpb:.5f} BPB, so that no number of seeds "
                "can show it; give a larger gain or a smaller --margin-nats"
            )
    baselines: list[BaselineSize] = ["equal", "published", *([] if num_baseline is None else [num_baseline])]
    gains = gains_bpb or [(margin_bpb if margin_bpb > 0 else sd_bpb) * factor for factor in _GAINS]
    return {
        gain: {
            (level, baseline): tuple(
                seeds_needed(gain, sd_bpb, margin_bpb, level, target, baseline) for target in TARGETS
            )
            for level in LEVELS
            for baseline in baselines
        }
        for gain in gains
    }
