"""The checklist: 25 points of the competition's rules, and what was found on each.

Findings enter, one row per point leaves, as a table or as JSON. A finding holds numbers, so that a reader can judge
for themselves; words are for what failed and for what a point does not apply to. Nothing is examined here.
Source: openai/parameter-golf, its README and issues #140, #402, #677, #1017, #1719 and #2127.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "n/a"
POINTS: dict[int, tuple[str, str]] = {
    1: ("package", "one new folder records/<track>/<date>_<name>"),
    2: ("package", "README, submission.json, a log per seed, train_gpt.py that runs there"),
    3: ("package", "model + code <= 16,000,000 bytes for each seed"),
    4: ("package", "artifact decoded from the disk, its bytes counted again"),
    5: ("package", "code of the logs is the shipped file"),
    6: ("package", "submission.json agrees with the logs"),
    7: ("package", "at least 3 seeds of one code, configuration, environment, data"),
    8: ("budget", "training <= 600 s, calibration included"),
    9: ("budget", "evaluation <= 600 s"),
    10: ("budget", "hardware named"),
    11: ("budget", "no network at evaluation"),
    12: ("data", "training shards named and counted, no document shared with validation"),
    13: ("data", "validation's hash and number of tokens"),
    14: ("data", "headers and sizes of shards"),
    15: ("metric", "bytes per token equal the decoded text's"),
    16: ("metric", "each target scored exactly once"),
    17: ("metric", "probabilities sum to 1"),
    18: ("metric", "a later token changes no earlier score"),
    19: ("metric", "trained only on what was scored; not on the last chunk"),
    20: ("metric", "no validation token reaches training before its score"),
    21: ("metric", "warm-up and compile passes see synthetic tokens"),
    22: ("method", "every switch changes what it should"),
    23: ("method", "BPB of the artifact read back equals the reported one"),
    24: ("statistics", "gain over the previous best > 0.005 nats, one-sided Welch test"),
    25: ("statistics", "all runs of the configuration are listed"),
}
"""Section and title of each point."""
_TOLD = 96


@dataclass(frozen=True)
class Finding:
    """What was found on one point."""

    point: int
    state: str
    """PASSED, FAILED or NOT_APPLICABLE."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Measured values by name, JSON."""
    why: str = ""
    """What failed and its remedy, or why the point does not apply."""


def judged(point: int, holds: bool, evidence: Mapping[str, Any], why: str = "") -> Finding:
    """PASSED where it `holds`, else FAILED with the reason."""
    return Finding(point, PASSED, evidence) if holds else Finding(point, FAILED, evidence, why)


def rows_of(findings: Iterable[Finding], default: str = "nothing here to examine") -> list[Finding]:
    """One finding for each point, in order: the worst state of several, all their evidence and reasons.

    Args: default: why a point without a finding does not apply.
    """
    found = list(findings)
    return [_together(point, [one for one in found if one.point == point], default) for point in POINTS]


def _together(point: int, found: Sequence[Finding], default: str) -> Finding:
    if not found:
        return Finding(point, NOT_APPLICABLE, {}, default)
    state = worst(found)
    evidence: dict[str, Any] = {}
    for one in found:
        evidence |= one.evidence
    return Finding(point, state, evidence, "; ".join(one.why for one in found if one.state == state and one.why))


def worst(found: Collection[Finding]) -> str:
    """The state that decides between several findings on a point: a failure, else what passed."""
    return next(state for state in (FAILED, PASSED, NOT_APPLICABLE) if any(one.state == state for one in found))


def failures(rows: Iterable[Finding]) -> list[int]:
    """The points that failed."""
    return [row.point for row in rows if row.state == FAILED]


def to_json(rows: Sequence[Finding]) -> dict[str, Any]:
    """{"passed", "failed", "not_applicable" (numbers of points), "points": [{...}]}."""
    counts = {state: sum(row.state == state for row in rows) for state in (PASSED, FAILED, NOT_APPLICABLE)}
    points = [
        {"point": row.point, "section": POINTS[row.point][0], "title": POINTS[row.point][1], "state": row.state}
        | {"evidence": _finite(row.evidence), "why": row.why}
        for row in rows
    ]
    return {"passed": counts[PASSED], "failed": counts[FAILED], "not_applicable": counts[NOT_APPLICABLE]} | {
        "points": points
    }


def _finite(value: Any) -> Any:
    """Evidence as JSON has it: None for what is no number."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def brief(told: Mapping[str, Any]) -> str:
    """A check in one line, from `to_json`."""
    if "error" in told:
        return f"not checked: {told['error']}"
    failed = [str(row["point"]) for row in told["points"] if row["state"] == FAILED]
    named = f" (point {', '.join(failed)})" if failed else ""
    return f"{told['passed']} passed, {told['failed']} failed{named}, {told['not_applicable']} not applicable"


def table_lines(rows: Sequence[Finding]) -> list[str]:
    """The table for a terminal: a line for each point with its evidence, and last the counts."""
    lines, section = [], ""
    for row in rows:
        if POINTS[row.point][0] != section:
            section = POINTS[row.point][0]
            lines.append(section)
        lines.append(
            f"  {row.point:2d} {row.state.upper() if row.state == FAILED else row.state:6s}  {POINTS[row.point][1]}"
        )
        told = ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in row.evidence.items())
        lines += [f"             {part}" for part in _wrapped([told, row.why])]
    return [*lines, brief(to_json(rows))]


def _wrapped(texts: Iterable[str]) -> list[str]:
    """Texts in lines of at most _TOLD characters, broken at spaces."""
    lines = []
    for text in texts:
        line = ""
        for word in text.split():
            if line and len(line) + 1 + len(word) > _TOLD:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines += [line] if line else []
    return lines


def shown(value: Any) -> str:
    """A value of evidence for reading."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return "not a number" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, Mapping):
        parts = [
            f"{name} ({shown(one)})" if isinstance(one, Mapping) else f"{name}={shown(one)}"
            for name, one in value.items()
        ]
        return " ".join(parts) or "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(shown, value)) or "none"
    return str(value)
