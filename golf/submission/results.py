"""The rows of a README's tables: means, deviations and sums of what a study's record holds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT, RungResult
from golf.submission.study import StudyRecord, Summary

RUNGS = {
    LIVE: "last weights, plain windows",
    AVERAGED: "averaged weights",
    QUANTISED: "artifact read back from the disk",
    SLIDING: "the same in sliding windows",
    TTT: "the same with score-first TTT",
}
"""What each rung of the ladder measures."""
_SPANS = 10
"""Most rows of the table of losses."""
_POINTS = 20
"""Most rows of the other curves' tables."""


class LadderRow(NamedTuple):
    """A rung over the seeds that are done."""

    name: str
    rungs: list[RungResult]
    bpb: float
    """Mean over the seeds."""
    deviation: float | None
    """Standard deviation of the BPB; None for one seed."""
    change: float | None
    """Mean BPB minus that of the rung before it."""


class CurveTable(NamedTuple):
    """A curve in rows."""

    title: str
    unit: str
    """What the rows are counted in."""
    value: str
    rows: list[tuple[str, list[float]]]
    """Parts of the curve, with the value of each seed."""


def decimals(deviation: float | None) -> int:
    """Returns the decimals of a figure: its deviation's first digit, one more after a leading 1; 4 without any."""
    if not deviation:
        return 4 if deviation is None else 6
    first = -math.floor(math.log10(deviation))
    return min(6, max(3, first + (deviation * 10**first < 2)))


def measured(summary: Summary) -> str:
    """Returns a mean and its deviation, with the decimals that the deviation allows."""
    deviation = summary.standard_deviation
    digits = decimals(deviation)
    return f"{summary.mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def ladder_rows(study: StudyRecord) -> list[LadderRow]:
    """Returns the rungs from below."""
    by_name: dict[str, list[RungResult]] = {}
    for run in study.done:
        for rung in run.ladder:
            by_name.setdefault(rung.name, []).append(rung)
    rows: list[LadderRow] = []
    for name, rungs in by_name.items():
        scores = [rung.bpb for rung in rungs]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None
        rows.append(LadderRow(name, rungs, mean, deviation, change=mean - rows[-1].bpb if rows else None))
    return rows


def curve_tables(study: StudyRecord) -> list[CurveTable]:
    """Returns the loss by spans of steps, validation by step, and the running BPB of TTT by chunk."""
    tables = (
        CurveTable(
            "Training loss in nats per token, mean over the seeds and the steps of a row",
            "steps",
            "mean loss",
            _loss_rows(study),
        ),
        CurveTable(
            "BPB of the validation stream during training, plain windows of live weights",
            "after step",
            "mean BPB",
            _point_rows(_common_points(study, "validation_bpb")),
        ),
        CurveTable(
            "BPB of the stream up to a chunk, with TTT running",
            "chunks",
            "mean BPB",
            # After the last chunk it is the result, which has its own place.
            _point_rows([(chunk + 1, values) for chunk, values in _common_points(study, f"{TTT}_bpb")[:-1]]),
        ),
    )
    return [table for table in tables if table.rows]


def _loss_rows(study: StudyRecord) -> list[tuple[str, list[float]]]:
    """Returns means over spans of steps, each seed's own."""
    curves = [curve for run in study.done if (curve := run.curves.get("train_loss"))]
    steps = study.config.schedule.steps
    spans = min(_SPANS, steps)
    rows = []
    for span in range(spans):
        start, end = steps * span // spans, steps * (span + 1) // spans
        inside = [[point.value for point in curve if start <= point.step < end] for curve in curves]
        rows.append((f"{start:,} to {end - 1:,}", [statistics.fmean(values) for values in inside if values]))
    return [row for row in rows if row[1]]


def _common_points(study: StudyRecord, name: str) -> list[tuple[int, list[float]]]:
    """Returns the points of a curve that all seeds have: step, and the value of each seed."""
    curves = [{point.step: point.value for point in run.curves.get(name, ())} for run in study.done]
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    return [(step, [curve[step] for curve in curves]) for step in common]


def _point_rows(points: Sequence[tuple[int, list[float]]]) -> list[tuple[str, list[float]]]:
    """Returns points, evenly chosen where they are many, the last always."""
    num = min(_POINTS, len(points))
    chosen = [points[(len(points) * (row + 1)) // num - 1] for row in range(num)]
    return [(f"{step:,}", values) for step, values in chosen]


def byte_groups(study: StudyRecord) -> dict[str, Mapping[str, float]]:
    """Returns where the model's bytes go by tensor group, mean over the seeds."""
    runs = [run.byte_groups for run in study.done if run.byte_groups]
    columns = ("elements", "raw_bytes", "entropy_bytes", "packed_bytes")
    return {
        group: {column: statistics.fmean(run.get(group, {}).get(column, 0.0) for run in runs) for column in columns}
        for group in dict.fromkeys(group for run in runs for group in run)
    }
