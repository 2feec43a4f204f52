"""The checklist: 25 points of the competition's rules, and the result on each, as a table or as JSON.

A result holds numbers, so that readers can judge for themselves, and words for what failed, for remarks and for why a
point does not apply. Nothing is examined here.
Source: openai/parameter-golf, its README and issues #140, #402, #677, #1017, #1719 and #2127.
"""

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

PASSED, REMARK, FAILED, NOT_APPLICABLE = "passed", "remark", "failed", "n/a"
"""States of a point. A remark holds by the letter only: said elsewhere, a rounding, or accepted for the whole board."""
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
Evidence = dict[str, Any]
"""Measured values by name, as JSON holds them."""
ONLY_RUNNING = "only running shows it, and somebody else's code is not run"
"""Why a point does not apply to a folder that is only read."""
_WIDTH = 96
_MOST_CAUSES = 8
"""Lines of one point at the end of a table; the others are counted."""


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong, or worth a remark."""

    text: str
    """What is the case, with the file that it is about."""
    remedy: str = ""
    """What to do."""
    level: str = FAILED
    """FAILED or REMARK."""

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True, kw_only=True)
class PointResult:
    """The result on one point of the rules."""

    point: int
    """Number of the point, a key of POINTS."""
    section: str = ""
    """Section of the point; filled from POINTS."""
    title: str = ""
    """What the point asks for; filled from POINTS."""
    state: str
    """PASSED, REMARK, FAILED or NOT_APPLICABLE."""
    evidence: Evidence = field(default_factory=dict)
    """Measured values by name."""
    why: str = ""
    """What failed and its remedy, or why the point does not apply."""
    causes: tuple[Cause, ...] = ()
    """The reasons that `why` joins, one by one; empty unless the state is FAILED or REMARK."""

    def __post_init__(self) -> None:
        if self.point not in POINTS:
            raise ValueError(f"point must be from 1 to {len(POINTS)}, got {self.point}")
        section, title = POINTS[self.point]
        object.__setattr__(self, "section", section)
        object.__setattr__(self, "title", title)


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The results on all points, and how many points are in each state."""

    passed: int
    remarks: int
    failed: int
    not_applicable: int
    points: tuple[PointResult, ...]
    """One for each point, in order."""
    error: str | None = None
    """Why the check was not completed; None when it was."""

    @property
    def failed_points(self) -> tuple[int, ...]:
        """The numbers of the points that failed."""
        return tuple(failures(self.points))


def passed(point: int, evidence: Evidence) -> PointResult:
    """Returns a point that holds."""
    return PointResult(point=point, state=PASSED, evidence=evidence)


def failed(point: int, why: str, evidence: Evidence | None = None) -> PointResult:
    """Returns a point that does not hold, for one reason."""
    return PointResult(point=point, state=FAILED, evidence=evidence or {}, why=why, causes=(Cause(why),))


def not_applicable(point: int, why: str, evidence: Evidence | None = None) -> PointResult:
    """Returns a point that was not judged, and the reason."""
    return PointResult(point=point, state=NOT_APPLICABLE, evidence=evidence or {}, why=why)


def judged(point: int, holds: bool, evidence: Evidence, why: str = "") -> PointResult:
    """Returns a point that passed where it `holds`, else one that failed because of `why`."""
    return passed(point, evidence) if holds else failed(point, why, evidence)


def weighed(point: int, evidence: Evidence, causes: Sequence[Cause]) -> PointResult:
    """Returns a point in the worst state of its causes; without any it passed."""
    state = worst_of([cause.level for cause in causes] or [PASSED])
    why = "; ".join(map(str, causes))
    return PointResult(point=point, state=state, evidence=evidence, why=why, causes=tuple(causes))


def rows_of(results: Iterable[PointResult], default: str = "nothing here to examine") -> list[PointResult]:
    """Returns one result for each point, in order: the worst state of several, all their evidence and reasons.

    Args:
        results: any number for each point.
        default: why a point without a result does not apply.
    """
    by_point: dict[int, list[PointResult]] = {}
    for result in results:
        by_point.setdefault(result.point, []).append(result)
    return [_merged(by_point[point]) if point in by_point else not_applicable(point, default) for point in POINTS]


def _merged(results: Sequence[PointResult]) -> PointResult:
    state = worst(results)
    evidence: Evidence = {}
    for result in results:
        evidence |= result.evidence
    return PointResult(
        point=results[0].point,
        state=state,
        evidence=evidence,
        why="; ".join(result.why for result in results if result.state == state and result.why),
        causes=tuple(cause for result in results for cause in result.causes),
    )


def worst(results: Iterable[PointResult]) -> str:
    """Returns the state that decides between several results: a failure, else a remark, else what passed."""
    return worst_of([result.state for result in results])


def worst_of(states: Collection[str]) -> str:
    """Returns the state that decides between several."""
    return next(state for state in (FAILED, REMARK, PASSED, NOT_APPLICABLE) if state in states)


def failures(rows: Iterable[PointResult]) -> list[int]:
    """Returns the numbers of the points that failed."""
    return [row.point for row in rows if row.state == FAILED]


def strictly(rows: Iterable[PointResult]) -> list[PointResult]:
    """Returns the results with every remark counted as a failure."""
    return [
        replace(row, state=FAILED, causes=tuple(replace(cause, level=FAILED) for cause in row.causes))
        if row.state in (REMARK, FAILED)
        else row
        for row in rows
    ]


def summary_of(rows: Sequence[PointResult], error: str | None = None) -> CheckResult:
    """Returns the results with their counts; evidence that is no finite number becomes None."""
    states = [row.state for row in rows]
    return CheckResult(
        passed=states.count(PASSED),
        remarks=states.count(REMARK),
        failed=states.count(FAILED),
        not_applicable=states.count(NOT_APPLICABLE),
        points=tuple(replace(row, evidence=_json_value(row.evidence)) for row in rows),
        error=error,
    )


def _json_value(value: Any) -> Any:
    """Returns evidence as JSON holds it: names as text, lists, None instead of what is no finite number."""
    if isinstance(value, Mapping):
        return {str(name): _json_value(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_to_plain(check: CheckResult) -> dict[str, Any]:
    """Returns a check as JSON values."""
    values: dict[str, Any] = msgspec.to_builtins(check)
    return values


def check_from_plain(values: Any) -> CheckResult:
    """Returns a check from JSON values.

    Raises: ValueError naming the path of the first wrong field.
    """
    return msgspec.convert(values, CheckResult)


def brief(check: CheckResult) -> str:
    """Returns a check in one line."""
    if check.error is not None:
        return f"not checked: {check.error}"
    numbers = ", ".join(map(str, check.failed_points))
    failed_text = f"{check.failed} failed" + (f" (point {numbers})" if numbers else "")
    remarks = f"{check.remarks} with a remark, " if check.remarks else ""
    return f"{check.passed} passed, {remarks}{failed_text}, {check.not_applicable} not applicable"


def table_lines(rows: Sequence[PointResult]) -> list[str]:
    """Returns the table for a terminal: each point with its evidence, then remarks and failures, last the counts."""
    unseen = [row.point for row in rows if row.state == NOT_APPLICABLE and row.why == ONLY_RUNNING]
    lines, section = [], ""
    for row in rows:
        if row.point in unseen:
            continue
        if row.section != section:
            section = row.section
            lines.append(section)
        state = row.state.upper() if row.state in (FAILED, REMARK) else row.state
        lines.append(f"  {row.point:2d} {state:6s}  {row.title}")
        known = {name.replace("_", " "): value for name, value in row.evidence.items() if value is not None}
        evidence = ", ".join(f"{name} {shown(value)}" for name, value in known.items())
        lines += _wrapped([evidence, row.why if row.state == NOT_APPLICABLE else ""], 13)
    if unseen:
        lines += _wrapped(
            [f"points {_ranges(unseen)} n/a: only running shows them, and somebody else's code is not run"], 2
        )
    for level, title in ((REMARK, "remarks"), (FAILED, "failures")):
        causes = [line for row in rows for line in _cause_lines(row, level)]
        lines += [title, *causes] if causes else []
    return [*lines, brief(summary_of(rows))]


def _cause_lines(row: PointResult, level: str) -> list[str]:
    """Returns the causes of a point on one level, each on its own lines; beyond _MOST_CAUSES they are counted."""
    causes = [cause for cause in row.causes if cause.level == level]
    lines = []
    for number, cause in enumerate(causes[:_MOST_CAUSES]):
        head = f"  {row.point:2d}  " if number == 0 else " " * 6
        first, *more = _wrapped([str(cause)], 0) or [""]
        lines += [head + first, *(f"{'':8s}{line}" for line in more)]
    return lines + ([f"      and {len(causes) - _MOST_CAUSES} more"] if len(causes) > _MOST_CAUSES else [])


def _ranges(points: Sequence[int]) -> str:
    """Returns numbers as text, neighbours together: "11, 14 to 23"."""
    parts: list[list[int]] = []
    for point in points:
        if parts and parts[-1][-1] == point - 1:
            parts[-1].append(point)
        else:
            parts.append([point])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def _wrapped(texts: Iterable[str], indent: int) -> list[str]:
    """Returns texts in lines of at most _WIDTH characters, broken at spaces."""
    wrap = textwrap.TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [" " * indent + line for text in texts for line in wrap.wrap(text)]


def shown(value: Any) -> str:
    """Returns a value of evidence for reading."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return "not a number" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, Mapping):
        parts = [
            f"{name} ({shown(part)})" if isinstance(part, Mapping) else f"{name}={shown(part)}"
            for name, part in value.items()
        ]
        return " ".join(parts) or "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(shown, value)) or "none"
    return str(value)
