"""The rows of a README's tables: means, deviations and sums of what a study's record holds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class LadderRow:
    """A rung over the seeds that are done."""

    name: str
    measured: str
    bpb: float
    deviation: float | None
    """Standard deviation of `bpb`; None for one seed."""
    change: float | None
    """BPB minus that of the rung before it."""
    nats: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """A part of a curve over the seeds."""

    position: str
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class CurveTable:
    """A curve in rows."""

    title: str
    unit: str
    value: str
    rows: tuple[CurveRow, ...]


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
        mean = statistics.fmean(scores)
        row = LadderRow(
            name=name,
            measured=RUNGS[name],
            bpb=mean,
            deviation=statistics.stdev(scores) if len(scores) > 1 else None,
            change=mean - rows[-1].bpb if rows else None,
            nats=statistics.fmean(rung.nats_per_token for rung in rungs),
            seconds=statistics.fmean(rung.seconds for rung in rungs),
        )
        rows.append(row)
    return rows


def curve_tables(study: StudyRecord) -> list[CurveTable]:
    """Returns the loss by spans of steps, validation by step, and the running BPB of TTT by chunk."""
    tables = (
        CurveTable(
            title="Training loss in nats per token, mean over the seeds and the steps of a row",
            unit="steps",
            value="mean loss",
            rows=_loss_rows(study),
        ),
        CurveTable(
            title="BPB of the validation stream during training, plain windows of live weights",
            unit="after step",
            value="mean BPB",
            rows=_point_rows(study, "validation_bpb"),
        ),
        CurveTable(
            title="BPB of the stream up to a chunk, with TTT running",
            unit="chunks",
            value="mean BPB",
            # After the last chunk it is the result, which has its own place.
            rows=_point_rows(study, f"{TTT}_bpb", offset=1, without_last=True),
        ),
    )
    return [table for table in tables if table.rows]


def _loss_rows(study: StudyRecord) -> tuple[CurveRow, ...]:
    """Returns means over spans of steps, each seed's own first."""
    curves = [curve for run in study.done if (curve := run.curves.get("train_loss"))]
    steps = study.config.schedule.steps
    spans = min(_SPANS, steps)
    rows = []
    for span in range(spans):
        start, end = steps * span // spans, steps * (span + 1) // spans
        inside = [[point.value for point in curve if start <= point.step < end] for curve in curves]
        means = [statistics.fmean(values) for values in inside if values]
        if means:
            rows.append(_row(f"{start:,} to {end - 1:,}", means))
    return tuple(rows)


def _point_rows(study: StudyRecord, name: str, offset: int = 0, without_last: bool = False) -> tuple[CurveRow, ...]:
    """Returns points that all seeds have, evenly chosen where they are many, the last always.

    Args:
        study: a finished study.
        name: the curve.
        offset: added to the steps that are shown.
        without_last: whether the last point is left out.
    """
    curves = [{point.step: point.value for point in run.curves.get(name, ())} for run in study.done]
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    common = common[:-1] if without_last else common
    num = min(_POINTS, len(common))
    chosen = [common[(len(common) * (row + 1)) // num - 1] for row in range(num)]
    return tuple(_row(f"{step + offset:,}", [curve[step] for curve in curves]) for step in chosen)


def _row(position: str, values: Sequence[float]) -> CurveRow:
    return CurveRow(position=position, mean=statistics.fmean(values), lowest=min(values), highest=max(values))


def byte_groups(study: StudyRecord) -> dict[str, Mapping[str, float]]:
    """Returns where the model's bytes go by tensor group, mean over the seeds."""
    runs = [run.byte_groups for run in study.done if run.byte_groups]
    columns = ("elements", "raw_bytes", "entropy_bytes", "packed_bytes")
    return {
        group: {column: statistics.fmean(run.get(group, {}).get(column, 0.0) for run in runs) for column in columns}
        for group in dict.fromkeys(group for run in runs for group in run)
    }
