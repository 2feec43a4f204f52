"""Noise from seed to seed as the ledger shows it, and how many seeds a gain needs.

Ledger entries enter, a pooled standard deviation with its degrees of freedom leaves, and a table of numbers of seeds.
Values of one configuration count once however many sweeps hold them, and repeats of a seed are no seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from golf.config.rules import P_CLAIM, P_LOOSE
from tune.records.queries import latest, trials_of
from tune.study.runs import Entry, configuration_of, repeat_of, run_of, seed_of, stream_of
from tune.study.sequential_test import PUBLISHED_SEED_SD, Baseline, seeds_needed
from tune.study.stats import summarise

FINEWEB_BYTES_PER_TOKEN = 151_080_891 / 62_021_846
"""Of the competition's validation stream, with its tokenizer of 1,024 pieces."""
TARGETS = (0.8, 0.95)
"""Probabilities of showing the gain."""
LEVELS = (P_CLAIM, P_LOOSE)
_GAINS = (1.2, 1.5, 2.0, 3.0, 5.0)
"""Gains of the table where none is asked for, in margins; without a margin in standard deviations."""


@dataclass(frozen=True)
class Noise:
    """How far values of different seeds lie apart."""

    sd_bpb: float
    degrees_of_freedom: int | None
    """None for a figure that is given."""
    source: str
    """Where it comes from, in words."""


@dataclass(frozen=True)
class Needed:
    """Seeds that one gain needs."""

    gain_bpb: float
    num_seeds: dict[tuple[float, Baseline], tuple[int | None, ...]]
    """(level, baseline) -> seeds for each of TARGETS; None: more than 100."""


PUBLISHED = Noise(PUBLISHED_SEED_SD, None, "the median of 284 published triples")


def pooled(entries: Sequence[Entry], preset: str) -> Noise | None:
    """The standard deviation pooled over all configurations of a preset with two or more finished seeds.

    Assumes that they share one variance. Only runs of the same code, data, device and versions are put together.
    Source: Snedecor and Cochran, Statistical Methods, section 6.7 (pooled variance).

    Returns: None when no configuration has two seeds.
    """
    by_configuration: dict[tuple[object, ...], dict[int, Entry]] = {}
    for entry in latest(entries):
        done = run_of(entry).bpb is not None and not repeat_of(entry)
        if done and entry.get("preset") == preset:
            device, versions = (entry.get("tags") or {}).get("device"), str(entry.get("environment"))
            key = (configuration_of(entry), entry.get("code"), entry.get("data"), device, versions)
            by_configuration.setdefault(key, {}).setdefault(seed_of(entry), entry)
    groups = [list(group.values()) for group in by_configuration.values() if len(group) > 1]
    if not groups:
        return None
    squares = freedom = 0.0
    for group in groups:
        values = [float(entry["metrics"]["bpb"]) for entry in group]
        squares += (summarise(values).standard_deviation or 0.0) ** 2 * (len(values) - 1)
        freedom += len(values) - 1
    words = f"{len(groups)} configuration{'s' if len(groups) > 1 else ''} of {preset} in the ledger"
    return Noise(math.sqrt(squares / freedom), int(freedom), words)


def ledger_nats_per_bpb(entries: Sequence[Entry], preset: str) -> float | None:
    """Nats per token that are 1 BPB on the stream that a preset was scored on last; None before any was."""
    streams = [stream_of(entry) for entry in trials_of(entries) if entry.get("preset") == preset]
    return next((stream.nats_per_bpb for stream in reversed(streams) if stream is not None), None)


def needed(
    sd_bpb: float, margin_bpb: float, gains_bpb: Sequence[float] = (), num_baseline: int | None = None
) -> list[Needed]:
    """Seeds that each gain needs, against as many baseline seeds, one published mean, or `num_baseline` seeds.

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
    baselines: list[Baseline] = ["equal", "published", *([] if num_baseline is None else [num_baseline])]
    table = []
    for gain in gains_bpb or [(margin_bpb if margin_bpb > 0 else sd_bpb) * factor for factor in _GAINS]:
        cells = {
            (level, baseline): tuple(
                seeds_needed(gain, sd_bpb, margin_bpb, level, target, baseline) for target in TARGETS
            )
            for level in LEVELS
            for baseline in baselines
        }
        table.append(Needed(gain, cells))
    return table
