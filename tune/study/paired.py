"""Configurations compared on one validation stream, run by run and seed by seed.

Ledger entries enter, frozen comparisons leave. A block bootstrap over the stream's chunks gives the difference of two
trained models; only several seeds on each side give a test of the configurations. Chunks that differ in tokens or
bytes are refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tune.records.queries import trials_of
from tune.study.baseline import check_same_chunks, differences, values_by_seed
from tune.study.bootstrap import PairedDifference, paired_bootstrap
from tune.study.runs import Entry, Stream, Study, group, named, repeat_of, rung_of, seed_of, stream_of
from tune.study.stats import Gain, holm, paired_by_seed, welch_gain


@dataclass(frozen=True)
class Pair:
    """Two runs on one stream."""

    seeds: str
    """The seed, or "42 against 7" where they differ, or "mean of 3"."""
    difference: PairedDifference
    """Positive where the candidate is better."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline."""

    candidate: str
    baseline: str
    pairs: tuple[Pair, ...]
    gain_nats: Gain | None
    """Of the configurations, by seed; None with a single seed on a side."""
    gain_bpb: Gain | None
    test: str
    """Which test that is, and why."""
    p_holm: float | None
    """p adjusted for all candidates compared; None without a test or with one candidate."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    study: Study
    runs: dict[int, Entry]
    """The finished run of each seed."""


def compare(words: Sequence[str], entries: Sequence[Entry], margin_nats: float = 0.0) -> list[Comparison]:
    """Every configuration or run after the first against the first.

    Args: words: names as for `tune.study.runs.named`; entries: the whole ledger; margin_nats: that the test of a gain
        has to exceed, per token.
    Raises: ValueError for fewer than two names, one that nothing has, a mixture, no finished run, or other chunks.
    """
    if len(words) < 2 or len(set(words)) < len(words):
        raise ValueError(f"two or more different names are compared, the first is the baseline; got {' '.join(words)}")
    baseline, *candidates = (_side(word, entries) for word in words)
    found = [_against(candidate, baseline, margin_nats) for candidate in candidates]
    tested = [n for n, one in enumerate(found) if one.gain_nats is not None and one.gain_nats.p is not None]
    if len(found) > 1:
        adjusted = holm([found[n].gain_nats.p for n in tested])  # type: ignore[union-attr,misc]
        for n, p in zip(tested, adjusted, strict=True):
            found[n] = replace(found[n], p_holm=p)
    return found


def _side(word: str, entries: Sequence[Entry]) -> _Side:
    mine = named(word, entries)
    study = group(word, mine, trials_of(entries))
    runs = {seed_of(entry): entry for entry in mine if stream_of(entry) is not None and not repeat_of(entry)}
    if not runs and len(mine) == 1 and stream_of(mine[0]) is not None:
        runs = {seed_of(mine[0]): mine[0]}  # a repeat that was named itself
    if not runs:
        raise ValueError(f'"{word}" has no finished run to compare; its runs: {_statuses(study)}')
    return _Side(study, runs)


def _statuses(study: Study) -> str:
    return ", ".join(f"seed {run.seed} {run.status}" for run in (*study.rows, *study.repeats))


def _against(candidate: _Side, baseline: _Side, margin_nats: float) -> Comparison:
    """One candidate against the baseline."""
    stream = _stream(next(iter(candidate.runs.values())))
    for side in (candidate, baseline):
        for run in side.runs.values():
            check_same_chunks(candidate.study.name, stream, side.study.name, _stream(run))
    gain, test = _by_seed(candidate.study, baseline.study, margin_nats / stream.nats_per_bpb)
    differ = differences(candidate.study, baseline.study)
    notes = [f"{candidate.study.name} differs from {baseline.study.name} in {', '.join(differ)}"] if differ else []
    for study in (candidate.study, baseline.study):
        notes += [f"seed {row.seed} of {study.name} does not count: {row.status}" for row in study.rows if not row.bpb]
    rungs = {rung_of(run) for side in (candidate, baseline) for run in side.runs.values()}
    notes += [f"the figures are of different rungs: {' and '.join(sorted(map(str, rungs)))}"] if len(rungs) > 1 else []
    return Comparison(
        candidate=candidate.study.name,
        baseline=baseline.study.name,
        pairs=tuple(_pairs(candidate.runs, baseline.runs, stream)),
        gain_nats=None if gain is None else gain.scaled(stream.nats_per_bpb),
        gain_bpb=gain,
        test=test,
        p_holm=None,
        notes=tuple(notes),
    )


def _pairs(runs: Mapping[int, Entry], others: Mapping[int, Entry], stream: Stream) -> list[Pair]:
    """The common seeds one by one and their mean; of single runs these two whatever their seeds."""
    common = [seed for seed in runs if seed in others]
    if not common and len(runs) == len(others) == 1:
        (seed, run), (other_seed, other) = *runs.items(), *others.items()
        return [Pair(f"{seed} against {other_seed}", _bootstrap(_nats(run), _nats(other), stream))]
    pairs = [Pair(str(seed), _bootstrap(_nats(runs[seed]), _nats(others[seed]), stream)) for seed in sorted(common)]
    if len(common) > 1:
        mean, other_mean = (np.mean([_nats(side[seed]) for seed in common], axis=0) for side in (runs, others))
        pairs.append(Pair(f"mean of {len(common)}", _bootstrap(mean, other_mean, stream)))
    return pairs


def _by_seed(candidate: Study, baseline: Study, margin: float) -> tuple[Gain | None, str]:
    """The test of the configurations in BPB, and which it is: paired where both ran the same seeds."""
    values, others = values_by_seed(candidate), values_by_seed(baseline)
    alone = sorted(set(values) ^ set(others))
    if min(len(values), len(others)) < 2:
        return None, "none: one seed says nothing of the configurations; run several of each"
    if not alone:
        return paired_by_seed(values, others, margin), f"paired t test of {len(values)} seeds"
    reason = f"seeds {', '.join(map(str, alone))} ran on one side only"
    return welch_gain(list(values.values()), list(others.values()), margin), f"Welch's test, unpaired because {reason}"


def _stream(entry: Entry) -> Stream:
    stream = stream_of(entry)
    assert stream is not None, entry.get("trial")
    return stream


def _nats(entry: Entry) -> NDArray[np.float64]:
    """Sums of NLL by chunk of the rung that counts."""
    return np.array([chunk[0] for chunk in entry["chunks"][rung_of(entry)]], dtype=np.float64)


def _bootstrap(nats: NDArray[np.float64], other: NDArray[np.float64], stream: Stream) -> PairedDifference:
    return paired_bootstrap(nats, other, stream.num_bytes, stream.tokens)
