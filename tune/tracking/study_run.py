"""A seed study's verdict as the values of its parent run: metrics, tags, shared parameters, the verdict in words.

A ledger entry of kind "seeds" and the entries of its trials enter, plain values leave. It reads whatever numbers a
verdict holds, so that a new statistic shows without a change here. The runs' own figures stay with the runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from golf.compliance.points import brief
from tune.records.ledger import STAMPS
from tune.records.text import flat
from tune.study.verdict import TEXT, VERDICT
from tune.tracking.run_fields import BREAK, NOTE, parameters_of, room_of, text_of
from tune.workloads.gepa.outcome import CHECK

_LISTED = {
    *(
        "kind",
        "study",
        "preset",
        "facts",
        "rows",
        "repeats",
        "others",
        "missing",
        "sequential",
        "faults",
        "notes",
        "check",
    ),
    TEXT,
}
"""Fields of a verdict that are no figures of its own."""


def studies_in(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the seed studies that have a plan or a verdict among the entries."""
    return {str(entry["study"]) for entry in entries if entry.get("kind") != "trial" and entry.get("study")}


def figures_of(verdict: Mapping[str, Any]) -> dict[str, float]:
    """Every finite number of the verdict by its dotted name; an interval is two: `.low` and `.high`."""
    figures: dict[str, float] = {}
    for name, value in flat(_own(verdict)).items():
        if isinstance(value, (list, tuple)):
            parts = [(f"{name}.{end}", part) for end, part in zip(("low", "high"), value, strict=False)]
            numbers = parts if name.split(".")[-1].endswith("interval") else []
        else:
            numbers = [(name, value)]
        figures |= {key: float(part) for key, part in numbers if _is_number(part)}
    return figures


def study_tags(verdict: Mapping[str, Any]) -> dict[str, str]:
    """What people filter by: the study, what its runs share, and the verdict's yes and no."""
    study = str(verdict.get("study", ""))
    facts = {name: str(value) for name, value in (verdict.get("facts") or {}).items() if isinstance(value, str)}
    words = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in _own(verdict).items()
        if isinstance(value, (bool, str))
    }
    preset = {"preset": str(verdict["preset"])} if verdict.get("preset") else {}
    tags = {**facts, **words, **preset, "kind": VERDICT, "study": study, "sweep": study, "status": "done"}
    against = (verdict.get("baseline") or {}).get("name")
    tags |= {CHECK: brief(verdict[CHECK])} if verdict.get(CHECK) else {}
    return {**tags, **({"baseline": str(against)} if against else {}), NOTE: study_words(verdict)}


def study_words(verdict: Mapping[str, Any]) -> str:
    """The verdict in a few lines of Markdown: what was measured, whether a gain stands, and all that forbids it."""
    rows, bpb, cap = verdict.get("rows") or [], verdict.get("bpb") or {}, verdict.get("cap") or {}
    lines = [f"Seed study of {len(rows)} seeds" if rows else "Seed study"]
    if "mean" in bpb:
        lines[0] += f": **{bpb['mean']:.4f} BPB**" + _spread(bpb)
    lines += _gain(verdict)
    if "largest_bytes" in cap:
        chance = cap.get("probability")
        size = f"Largest artifact {room_of(cap['largest_bytes'], cap.get('margin_bytes'))}"
        lines.append(size + ("" if chance is None else f"; a further seed exceeds it with probability {chance:.2g}"))
    remarks = [f"- Forbids a claim: {fault}" for fault in verdict.get("faults") or []]
    remarks += [f"- {note}" for note in verdict.get("notes") or []]
    return BREAK.join(lines) + ("\n\n" + "\n".join(remarks) if remarks else "")


def spoken_of(verdict: Mapping[str, Any]) -> float | None:
    """Unix seconds at which the ledger took the verdict; None before it did."""
    time = verdict.get("time")
    return None if time is None else datetime.fromisoformat(str(time)).timestamp()


def shared_parameters(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that all runs of a study have in common."""
    if not trials:
        return {}
    first, *others = [parameters_of(trial) for trial in trials]
    return {
        name: value
        for name, value in first.items()
        if all(name in other and text_of(other[name]) == text_of(value) for other in others)
    }


def _own(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in verdict.items() if name not in _LISTED.union(STAMPS)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _spread(summary: Mapping[str, Any]) -> str:
    """Deviation and interval, where there are any."""
    deviation, interval = summary.get("standard_deviation"), summary.get("interval")
    words = "" if deviation is None else f", standard deviation {deviation:.4f}"
    if interval:
        words += f", {100 * summary.get('level', 0.95):g} % interval {interval[0]:.4f} to {interval[1]:.4f}"
    return words


def _gain(verdict: Mapping[str, Any]) -> list[str]:
    """The test against the baseline."""
    gain, baseline = verdict.get("gain_bpb") or {}, verdict.get("baseline") or {}
    if "gain" not in gain:
        return []
    line = f"Gain over {baseline.get('name', 'the baseline')}: **{gain['gain']:+.4f} BPB**"
    if gain.get("interval"):
        low, high = gain["interval"]
        line += f", {100 * gain.get('level', 0.95):g} % interval {low:+.4f} to {high:+.4f}"
    if gain.get("p") is not None:
        line += f"; p = {gain['p']:.3g} for a gain of more than {gain.get('margin', 0.0):.4f} BPB"
    holds = verdict.get("holds")
    return [line, *([] if holds is None else [f"The claim {'**holds**' if holds else 'does **not** hold'}."])]
