"""Configurations compared on one validation stream, run by run and seed by seed.

A block bootstrap over the stream's chunks estimates the difference of two trained models; only several seeds on each
side are a test of the configurations. Chunks that differ in tokens or bytes are refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from golf.submission.study import Gain
from tune.records.ledger import Ledger
from tune.study.baseline import check_same_chunks, differences
from tune.study.bootstrap import PairedDifference, paired_bootstrap
from tune.study.runs import Stream, Study, counted_rung, stream_of, study_of
from tune.study.stats import holm, paired_by_seed, welch_gain

_SAME_STREAM = 1e-3
"""Relative difference of nats per BPB up to which two rounded scores may be of one stream."""


@dataclass(frozen=True)
class Pair:
    """Two runs on one stream."""

    seeds: str
    """The seed, or "42 against 7" where they differ, or "mean of 3"."""
    difference: PairedDifference
    """Positive where the candidate is better."""


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """A candidate against the baseline."""

    candidate: str
    baseline: str
    unit: str = "BPB"
    """What the scores are: "BPB", or the name of a metric."""
    has_chunks: bool = True
    """Whether both kept chunk sums; where they did not, their scores alone are compared."""
    pairs: tuple[Pair, ...]
    gain_nats: Gain | None
    """Gain of the configuration, by seed; None with a single seed on a side."""
    gain_bpb: Gain | None
    """The same in the unit of the scores."""
    test: str
    """Which test that is, and why."""
    p_holm: float | None = None
    """p adjusted for all candidates compared; None without a test or with one candidate."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    """A finished run with its chunk sums."""

    rung: str
    """The rung whose score counts."""
    stream: Stream
    nats: NDArray[np.float64]
    """[num_chunks] sums of NLL."""


@dataclass(frozen=True)
class _Side:
    """A study with the finished run of each seed."""

    study: Study
    runs: Mapping[int, _Run]
    """Empty where no chunk sums were kept."""


def compare(names: Sequence[str], ledger: Ledger, margin_nats: float = 0.0) -> list[PairedComparison]:
    """Compares every configuration or run after the first with the first.

    Args: names: as for `tune.study.runs.named`; ledger: where they are looked up; margin_nats: that the test of a gain
        has to exceed, in nats per token.
    Raises: ValueError for fewer than two names, one that nothing has, a mixture, no finished run, or other chunks.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"two or more different names are compared, the first is the baseline; got {' '.join(names)}")
    baseline, *candidates = (_side(name, ledger) for name in names)
    comparisons = [_against(candidate, baseline, margin_nats) for candidate in candidates]
    p_values = {
        n: one.gain_nats.p for n, one in enumerate(comparisons) if one.gain_nats and one.gain_nats.p is not None
    }
    if len(comparisons) > 1:
        for number, p_holm in zip(p_values, holm(list(p_values.values())), strict=True):
            comparisons[number] = replace(comparisons[number], p_holm=p_holm)
    return comparisons


def _side(name: str, ledger: Ledger) -> _Side:
    """Returns the study of a name with its runs' chunk sums."""
    study = study_of(name, ledger)
    runs: dict[int, _Run] = {}
    named_itself = study.entries if len(study.entries) == 1 else ()  # such as a repeat
    for entry in study.counted or named_itself:
        series, rung = ledger.series(entry), counted_rung(entry)
        stream = stream_of(entry, series) if entry.done else None
        if entry.seed is not None and rung is not None and stream is not None:
            runs[entry.seed] = _Run(rung, stream, series.chunks[rung][:, 0])
    if not runs and not study.counted:
        states = ", ".join(f"seed {entry.seed} {entry.state}" for entry in study.entries)
        raise ValueError(f'"{name}" has no finished run to compare; its runs: {states}')
    return _Side(study, runs)


def _against(candidate: _Side, baseline: _Side, margin_nats: float) -> PairedComparison:
    """Compares one candidate with the baseline."""
    has_chunks = bool(candidate.runs and baseline.runs)
    if has_chunks:
        stream = next(iter(candidate.runs.values())).stream
        factor = stream.nats_per_bpb
        for side in (candidate, baseline):
            for run in side.runs.values():
                check_same_chunks(candidate.study.name, stream, side.study.name, run.stream)
    else:
        factor = _same_factor(candidate.study, baseline.study)
    gain, test = _by_seed(candidate.study, baseline.study, margin_nats / factor)
    return PairedComparison(
        candidate=candidate.study.name,
        baseline=baseline.study.name,
        unit=candidate.study.unit,
        has_chunks=has_chunks,
        pairs=tuple(_pairs(candidate.runs, baseline.runs)) if has_chunks else (),
        gain_nats=None if gain is None else gain.scaled(factor),
        gain_bpb=gain,
        test=test,
        notes=tuple(_notes(candidate, baseline)),
    )


def _same_factor(candidate: Study, baseline: Study) -> float:
    """Returns the nats per token that are one unit of the scores. Raises: ValueError where the two differ in it."""
    own, other = candidate.nats_per_bpb, baseline.nats_per_bpb
    if candidate.unit != baseline.unit:
        raise ValueError(f'"{candidate.name}" is scored in {candidate.unit}, "{baseline.name}" in {baseline.unit}')
    if own is None or other is None:
        raise ValueError(f'"{candidate.name}" and "{baseline.name}" do not both say their nats per token')
    if not math.isclose(own, other, rel_tol=_SAME_STREAM):
        raise ValueError(
            f'"{candidate.name}" and "{baseline.name}" are not scored on the same validation stream: 1 BPB is '
            f"{own:.5f} nats per token against {other:.5f}"
        )
    return own


def _notes(candidate: _Side, baseline: _Side) -> list[str]:
    """Returns what a reader of the comparison has to know."""
    differ = differences(candidate.study, baseline.study)
    notes = [f"{candidate.study.name} differs from {baseline.study.name} in {', '.join(differ)}"] if differ else []
    for study in (candidate.study, baseline.study):
        notes += [f"seed {row.seed} of {study.name} does not count: {row.state}" for row in study.rows if not row.done]
    rungs = {run.rung for side in (candidate, baseline) for run in side.runs.values()}
    return notes + ([f"the figures are of different rungs: {' and '.join(sorted(rungs))}"] if len(rungs) > 1 else [])


def _pairs(runs: Mapping[int, _Run], others: Mapping[int, _Run]) -> list[Pair]:
    """Returns the common seeds one by one and their mean; of single runs these two whatever their seeds."""
    couples = {str(seed): (run.nats, others[seed].nats) for seed, run in sorted(runs.items()) if seed in others}
    if len(couples) > 1:
        mean, other_mean = (np.mean(side, axis=0) for side in zip(*couples.values(), strict=True))
        couples[f"mean of {len(couples)}"] = mean, other_mean
    elif not couples and len(runs) == len(others) == 1:
        (seed, run), (other_seed, other) = *runs.items(), *others.items()
        couples[f"{seed} against {other_seed}"] = run.nats, other.nats
    stream = next(iter(runs.values())).stream
    return [
        Pair(seeds, paired_bootstrap(nats, other_nats, stream.num_bytes, stream.tokens))
        for seeds, (nats, other_nats) in couples.items()
    ]


def _by_seed(candidate: Study, baseline: Study, margin: float) -> tuple[Gain | None, str]:
    """Returns the test of the configurations in BPB, and which it is: paired where both ran the same seeds."""
    values, others = ({s: study.sign * v for s, v in study.values.items()} for study in (candidate, baseline))
    alone = sorted(set(values) ^ set(others))
    if min(len(values), len(others)) < 2:
        return None, "none: one seed says nothing of the configurations; run several of each"
    if not alone:
        return paired_by_seed(values, others, margin), f"paired t test of {len(values)} seeds"
    reason = f"seeds {', '.join(map(str, alone))} ran on one side only"
    return welch_gain(list(values.values()), list(others.values()), margin), f"Welch's test, unpaired because {reason}"
