"""A verdict on a seed study as the values of its parent run in MLflow; the seeds' numbers are in their own runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from golf.compliance.points import brief
from golf.submission.study import Gain, StudyVerdict, Summary
from tune.records.entries import PlanEntry, Record, TrialEntry, TrialState, VerdictEntry
from tune.search.space import Point
from tune.tracking.metric_names import MARGIN, NATS, SCORE
from tune.tracking.run_fields import BREAK, NOTE, STUDY, describe_size, origin_of, parameters_of, text_of


def study_names(records: Iterable[Record]) -> set[str]:
    """Returns the names of the seed studies that have a plan or a verdict among the records."""
    return {record.study for record in records if isinstance(record, (PlanEntry, VerdictEntry))}


def study_metrics(verdict: StudyVerdict) -> dict[str, float]:
    """Returns the statistics by MLflow's names, such as `bpb/mean`; an interval is two, `_low` and `_high`."""
    comparison = verdict.comparison
    groups: Mapping[str, msgspec.Struct | None] = {
        SCORE: verdict.bpb,
        NATS: verdict.nats,
        "noise_bpb": verdict.noise_bpb,
        "gain_bpb": comparison and comparison.gain_bpb,
        "gain_nats": comparison and comparison.gain_nats,
    }
    values: dict[str, float | None] = {}
    for group, statistics in groups.items():
        for name, value in {} if statistics is None else msgspec.structs.asdict(statistics).items():
            if isinstance(value, tuple):
                values |= {f"{group}/{name}_{end}": part for end, part in zip(("low", "high"), value, strict=True)}
            else:
                values[f"{group}/{name}"] = value
    values[f"{NATS}/per_bpb"] = verdict.nats_per_bpb
    if verdict.cap is not None:
        cap = verdict.cap
        values |= {"bytes/largest": cap.largest_bytes, MARGIN: cap.margin_bytes, "bytes/over_cap_p": cap.probability}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def study_tags(entry: VerdictEntry, trials: Sequence[TrialEntry]) -> dict[str, str]:
    """Returns what people filter by - the study, what its runs share, whether the claim holds - and the description."""
    verdict, comparison = entry.verdict, entry.verdict.comparison
    named = {
        **verdict.facts,
        "track": verdict.track,
        "holds": None if verdict.holds is None else str(verdict.holds).lower(),
        "baseline": comparison and comparison.baseline,
        "decision": comparison and comparison.sequential and comparison.sequential.decision,
        "check": verdict.check and brief(verdict.check),
        "preset": trials[-1].preset if trials else None,
    }
    fixed = {"kind": STUDY, "study": entry.study, "sweep": entry.study, "state": TrialState.DONE.word}
    fixed |= origin_of(trials[-1].tags) if trials else {}
    return {name: str(value) for name, value in named.items() if value is not None} | fixed | {NOTE: describe(verdict)}


def describe(verdict: StudyVerdict) -> str:
    """Returns a verdict in a few lines of Markdown: the scores, the gain if any, and all that forbids a claim."""
    lines = [f"Seed study of {len(verdict.seeds)} seeds" if verdict.seeds else "Seed study"]
    if verdict.bpb is not None:
        lines[0] += f": **{verdict.bpb.mean:.4f} BPB**{_spread(verdict.bpb)}"
    if verdict.comparison is not None:
        lines.append(_gain(verdict.comparison.baseline, verdict.comparison.gain_bpb))
    if verdict.holds is not None:
        lines.append(f"The claim {'**holds**' if verdict.holds else 'does **not** hold'}.")
    if verdict.cap is not None:
        size = f"Largest artifact {describe_size(verdict.cap.largest_bytes, verdict.cap.margin_bytes)}"
        chance = verdict.cap.probability
        lines.append(size + ("" if chance is None else f"; a further seed exceeds it with probability {chance:.2g}"))
    remarks = [f"- Forbids a claim: {fault}" for fault in verdict.faults] + [f"- {note}" for note in verdict.notes]
    return BREAK.join(lines) + ("\n\n" + "\n".join(remarks) if remarks else "")


def time_written(entry: TrialEntry | VerdictEntry) -> float | None:
    """Returns the unix seconds at which the ledger wrote an entry; None before that."""
    return datetime.fromisoformat(entry.time).timestamp() if entry.time else None


def shared_parameters(trials: Sequence[TrialEntry]) -> Point:
    """Returns the parameters that all runs of a study or sweep have in common."""
    if not trials:
        return {}
    first, *others = [parameters_of(trial, trial.preset, trial.workload) for trial in trials]
    return {
        name: value
        for name, value in first.items()
        if all(name in other and text_of(other[name]) == text_of(value) for other in others)
    }


def _spread(summary: Summary) -> str:
    text = "" if summary.standard_deviation is None else f", standard deviation {summary.standard_deviation:.4f}"
    if summary.interval is not None:
        low, high = summary.interval
        text += f", {100 * summary.level:g} % interval {low:.4f} to {high:.4f}"
    return text


def _gain(baseline: str, gain: Gain) -> str:
    text = f"Gain over {baseline}: **{gain.gain:+.4f} BPB**"
    if gain.interval is not None:
        text += f", {100 * gain.level:g} % interval {gain.interval[0]:+.4f} to {gain.interval[1]:+.4f}"
    return text + ("" if gain.p is None else f"; p = {gain.p:.3g} for a gain of more than {gain.margin:.4f} BPB")
