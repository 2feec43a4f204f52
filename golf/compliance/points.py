"""The checklist: 25 points of the competition's rules, and what was found on each, as a table or as JSON.

A finding holds numbers, so that readers can judge for themselves; words are for what failed, for remarks and for why a
point does not apply. Nothing is examined here.
Source: openai/parameter-golf, its README and issues #140, #402, #677, #1017, #1719 and #2127.
"""

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

PASSED, REMARK, FAILED, NOT_APPLICABLE = "passed", "remark", "failed", "n/a"
"""States of a point. A remark holds by the letter only: told elsewhere, a rounding, or accepted for the whole board."""
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
ONLY_RUNNING = "only running shows it, and somebody else's code is not run"
"""Why a point does not apply to a folder that is only read."""
_WIDTH = 96
_MOST_CAUSES = 8
"""Lines of one point at the end of a table; the others are counted."""


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong, or worth a remark.

    Attributes:
        text: what is the case, with the file that it is about.
        remedy: what to do.
        level: FAILED or REMARK.
    """

    text: str
    remedy: str = ""
    level: str = FAILED

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True)
class Finding:
    """What was found on one point."""

    point: int
    state: str
    """PASSED, REMARK, FAILED or NOT_APPLICABLE."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Measured values by name, JSON."""
    why: str = ""
    """What failed and its remedy, or why the point does not apply."""
    causes: tuple[Cause, ...] = ()
    """What `why` is made of, one by one, where they are told apart."""

    def listed(self) -> tuple[Cause, ...]:
        """The causes one by one; `why` as one where they are not told apart."""
        return self.causes or ((Cause(self.why, level=self.state),) if self.state in (FAILED, REMARK) else ())


def judged(point: int, holds: bool, evidence: Mapping[str, Any], why: str = "") -> Finding:
    """PASSED where it `holds`, else FAILED with the reason."""
    return Finding(point, PASSED, evidence) if holds else Finding(point, FAILED, evidence, why)


def weighed(point: int, evidence: Mapping[str, Any], causes: Sequence[Cause]) -> Finding:
    """PASSED without a cause, else the state of the worst."""
    state = worst_of([cause.level for cause in causes] or [PASSED])
    return Finding(point, state, evidence, "; ".join(map(str, causes)), tuple(causes))


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
    causes = tuple(cause for one in found for cause in one.listed())
    return Finding(
        point, state, evidence, "; ".join(one.why for one in found if one.state == state and one.why), causes
    )


def worst(found: Collection[Finding]) -> str:
    """The state that decides between several findings on a point: a failure, else a remark, else what passed."""
    return worst_of([one.state for one in found])


def worst_of(states: Collection[str]) -> str:
    """The state that decides between several."""
    return next(state for state in (FAILED, REMARK, PASSED, NOT_APPLICABLE) if state in states)


def failures(rows: Iterable[Finding]) -> list[int]:
    """The points that failed."""
    return [row.point for row in rows if row.state == FAILED]


def strictly(rows: Iterable[Finding]) -> list[Finding]:
    """The findings with every remark taken for a failure."""
    return [
        replace(row, state=FAILED, causes=tuple(replace(cause, level=FAILED) for cause in row.listed()))
        if row.state in (REMARK, FAILED)
        else row
        for row in rows
    ]


def to_json(rows: Sequence[Finding]) -> dict[str, Any]:
    """{"passed", "remarks", "failed", "not_applicable" (numbers of points), "points": [{...}]}."""
    names = {"passed": PASSED, "remarks": REMARK, "failed": FAILED, "not_applicable": NOT_APPLICABLE}
    counts = {name: sum(row.state == state for row in rows) for name, state in names.items()}
    return {**counts, "points": [_row_json(row) for row in rows]}


def _row_json(row: Finding) -> dict[str, Any]:
    section, title = POINTS[row.point]
    causes = [{"level": cause.level, "text": cause.text, "remedy": cause.remedy} for cause in row.listed()]
    return {"point": row.point, "section": section, "title": title, "state": row.state} | {
        "evidence": _finite(row.evidence),
        "why": row.why,
        "causes": causes,
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
    remarks = told.get("remarks", 0)
    noted = f"{remarks} with a remark, " if remarks else ""
    return f"{told['passed']} passed, {noted}{told['failed']} failed{named}, {told['not_applicable']} not applicable"


def table_lines(rows: Sequence[Finding]) -> list[str]:
    """The table for a terminal: a line for each point with its evidence, then remarks and failures, last the counts."""
    unseen = [row.point for row in rows if row.state == NOT_APPLICABLE and row.why == ONLY_RUNNING]
    lines, section = [], ""
    for row in rows:
        if row.point in unseen:
            continue
        if POINTS[row.point][0] != section:
            section = POINTS[row.point][0]
            lines.append(section)
        state = row.state.upper() if row.state in (FAILED, REMARK) else row.state
        lines.append(f"  {row.point:2d} {state:6s}  {POINTS[row.point][1]}")
        known = {name.replace("_", " "): value for name, value in row.evidence.items() if value is not None}
        told = ", ".join(f"{name} {shown(value)}" for name, value in known.items())
        lines += _wrapped([told, row.why if row.state == NOT_APPLICABLE else ""], 13)
    if unseen:
        lines += _wrapped(
            [f"points {_ranges(unseen)} n/a: only running shows them, and somebody else's code is not run"], 2
        )
    for level, title in ((REMARK, "remarks"), (FAILED, "failures")):
        told_so = [line for row in rows if row.state in (FAILED, REMARK) for line in _cause_lines(row, level)]
        lines += [title, *told_so] if told_so else []
    return [*lines, brief(to_json(rows))]


def _cause_lines(row: Finding, level: str) -> list[str]:
    """The causes of a point on one level, one each; many are counted."""
    causes = [cause for cause in row.listed() if cause.level == level]
    lines = []
    for at, cause in enumerate(causes[:_MOST_CAUSES]):
        head = f"  {row.point:2d}  " if at == 0 else " " * 6
        first, *more = _wrapped([str(cause)], 0) or [""]
        lines += [head + first, *(f"{'':8s}{line}" for line in more)]
    return lines + ([f"      and {len(causes) - _MOST_CAUSES} more"] if len(causes) > _MOST_CAUSES else [])


def _ranges(points: Sequence[int]) -> str:
    """Numbers in words, neighbours together: "11, 14 to 23"."""
    parts: list[list[int]] = []
    for point in points:
        if parts and parts[-1][-1] == point - 1:
            parts[-1].append(point)
        else:
            parts.append([point])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def _wrapped(texts: Iterable[str], indent: int) -> list[str]:
    """Texts in lines of at most _WIDTH characters, broken at spaces."""
    wrap = textwrap.TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [" " * indent + line for text in texts for line in wrap.wrap(text)]


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
