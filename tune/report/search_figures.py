"""Figures of a search: bytes against BPB, the searched fields side by side, and what they matter.

Plain values enter, figures leave. Black on white; a trial without a BPB is shown where it ended, never left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune.report.canvas import (
    FAINT,
    GREY,
    INK,
    SMALL,
    TEXT,
    WIDTH,
    clean,
    fence,
    length_of,
    limits,
    number_axis,
    panel,
    sheet,
    styled,
    write,
)
from tune.search.importance import CHANCE_LEVEL, Importance

ROW = 0.24
"""Inches of a row."""
MOST_NUMBERED = 12
"""Points of the front that get a number; of more, evenly spaced ones."""
_MOST_RINGS = 40
"""Trials in one row that are drawn as rings; more as thin strokes."""
_MOST_CHOICES = 8
"""Different numbers of a field up to which each has its own place on the axis."""
_LEAST_APART = 1.02
"""Inches between the axes of fields, whose names stand below them."""
_DARK_SHARE = 0.1
"""Finished trials that are drawn dark."""


@dataclass(frozen=True)
class Sized:
    """A trial with its artifact's size."""

    size: int
    bpb: float | None
    status: str
    """For trials without BPB: the words that stand before their row."""
    label: str | None = None
    """Beside a dot of a figure without a front."""


@dataclass(frozen=True)
class ParallelLine:
    """A trial's way through the searched fields."""

    point: Mapping[str, Any]
    bpb: float | None
    status: str
    """Where a way without BPB ends."""


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (bytes, BPB) that no other beats or equals in both, by bytes; of equal ones the first."""
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda place: (*points[place], place)):
        if not found or points[index][1] < points[found[-1]][1]:
            found.append(index)
    return found


def numbered(front: Sequence[int]) -> list[int]:
    """The places of the front that get a number, evenly spaced, the ends among them."""
    if len(front) <= MOST_NUMBERED:
        return list(front)
    return [front[round(step * (len(front) - 1) / (MOST_NUMBERED - 1))] for step in range(MOST_NUMBERED)]


@styled
def draw_sizes(trials: Sequence[Sized], caps: Sequence[int], with_front: bool) -> Figure:
    """BPB against artifact bytes, the front, the caps; below it, the bytes of trials that have no BPB.

    Args: trials: one or more; with_front: whether the trials compete; seeds of one configuration do not.
    """
    done = [trial for trial in trials if trial.bpb is not None]
    rows = sorted({trial.status for trial in trials if trial.bpb is None}, reverse=True)
    counts = {row: sum(trial.bpb is None and trial.status == row for trial in trials) for row in rows}
    titles = {row: f"{clean(row, 24)} ({counts[row]:,})" for row in rows}
    left = max([0.75, *(length_of(title, SMALL) + 0.15 for title in titles.values())])
    bottom, height = 0.55 + ROW * len(rows) + 0.08 * bool(rows), 3.3 if done else 0.35
    figure = sheet(bottom + height + 0.35)
    axes = panel(figure, left, bottom, 0.3, 0.35)
    low, high = limits([*(trial.size for trial in trials), *caps], 0.06)
    axes.set_xlim(low, high)
    if done:
        _draw_done(axes, done, max(caps, default=high), with_front)
    else:
        axes.set_yticks([])
        axes.tick_params(bottom=False)
        axes.spines[["left", "bottom"]].set_visible(False)
    last = axes
    if rows:
        axes.tick_params(labelbottom=False)
        last = panel(figure, left, 0.55, 0.3, height + 0.35 + 0.08, share=axes)
        last.set_ylim(len(rows) - 0.5, -0.5)
        last.set_yticks(range(len(rows)), [titles[row] for row in rows])
        last.tick_params(axis="y", length=0)
        for place, row in enumerate(rows):
            sizes = [trial.size for trial in trials if trial.bpb is None and trial.status == row]
            form: dict[str, Any] = (
                {"marker": "o", "markersize": 5} if len(sizes) <= _MOST_RINGS else {"marker": "|", "markersize": 9}
            )
            last.plot(
                sizes, [place] * len(sizes), linestyle="", markerfacecolor="none", color=INK, clip_on=False, **form
            )
    _draw_caps([axes, last] if rows else [axes], caps)
    number_axis(last, "x", 6, ",.0f")
    last.set_xlabel("artifact, code and model (bytes)")
    return figure


def _draw_done(axes: Axes, done: Sequence[Sized], cap: float, with_front: bool) -> None:
    """The finished trials and their front."""
    points = [(float(trial.size), trial.bpb) for trial in done if trial.bpb is not None]
    top = fence([bpb for _, bpb in points])
    far = [(size, bpb) for size, bpb in points if bpb > top]
    axes.set_ylim(*limits([bpb for _, bpb in points if bpb <= top], 0.12))
    if with_front:
        _draw_front(axes, [point for point in points if point[1] <= top], cap)
    else:
        axes.plot(*_columns(points), "o", markersize=6, color=INK, markerfacecolor="0.6")
        for trial in done:
            write(axes, clean(trial.label or "", 24), (trial.size, trial.bpb or 0.0), (7.0, 0.0))
    if far:
        axes.plot(
            [size for size, _ in far],
            [1.0] * len(far),
            "^",
            color=INK,
            markerfacecolor="none",
            clip_on=False,
            transform=axes.get_xaxis_transform(),
        )
        write(
            axes,
            f"\u25b3 {len(far)} above, up to {max(bpb for _, bpb in far):.4g}",
            (0.0, 1.0),
            (4.0, 10.0),
            frame="axes fraction",
        )
    axes.set_ylabel("BPB (bits per byte), lower is better")
    number_axis(axes, "y", 7)


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]], cap: float) -> None:
    """The points, and the line that no other trial is below and to the left of."""
    front = front_of(points)
    rest = [point for place, point in enumerate(points) if place not in set(front)]
    axes.plot(*_columns(rest), "o", markersize=4, color=GREY, markeredgecolor="white", markeredgewidth=0.4)
    steps = [points[place] for place in front]
    # Whatever larger cap there were, the best would still be had.
    right = (max(cap, steps[-1][0]), steps[-1][1])
    axes.step(*_columns([*steps, right]), where="post", color=INK, linewidth=1.0)
    axes.plot(*_columns(steps), "o", markersize=5.5, color=INK)
    taken: list[tuple[float, float]] = []
    for place in sorted(numbered(front), key=lambda place: points[place][1]):
        pixel = axes.transData.transform(points[place])
        if all(abs(pixel[0] - x) > 22 or abs(pixel[1] - y) > 14 for x, y in taken):
            taken.append((float(pixel[0]), float(pixel[1])))
            number = str(front.index(place) + 1)
            # Nothing lies below and to the left of the front.
            if place == front[-1]:
                write(axes, f"{number}: {points[place][1]:.4f}", points[place], (0.0, -10.0), size=TEXT, weight="bold")
            else:
                write(axes, number, points[place], (-4.0, -6.0), "right", size=TEXT)


def _draw_caps(panels: Sequence[Axes], caps: Sequence[int]) -> None:
    """A line through all panels for every cap, its words at the top of the first."""
    for place, cap in enumerate(caps):
        for axes in panels:
            axes.axvline(cap, color=INK, linewidth=1.2, linestyle=(0, (5, 2)))
        low, high = panels[0].get_xlim()
        side = "right" if cap > (low + high) / 2 else "left"
        offset = (-4.0 if side == "right" else 4.0, -6.0 - 11.0 * place)
        if len(panels[0].get_yticks()):
            write(panels[0], f"cap {cap:,} bytes", (cap, 1.0), (offset[0], offset[1] + 16), side, frame="x")
        else:
            write(panels[0], f"cap {cap:,} bytes", (cap, 0.5), (offset[0], -11.0 * place), side, frame="x")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


@dataclass(frozen=True)
class _Scale:
    """Where values stand on an upright axis from 0 to 1."""

    ticks: tuple[tuple[float, str], ...]
    places: Mapping[str, float]
    """By the value's repr."""
    gap: float
    """Between neighbouring places; 0 where they are continuous."""


def _scale(values: Sequence[Any]) -> _Scale:
    """Ascending numbers and words at even distances; many numbers by their size, or its logarithm."""
    known = {repr(value): value for value in values}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known.values())
    ordered = sorted(known, key=lambda text: known[text]) if numbers else sorted(known)
    if numbers and len(known) > _MOST_CHOICES:
        lowest, highest = float(known[ordered[0]]), float(known[ordered[-1]])
        logarithmic = lowest > 0 and highest / lowest > 30

        def place(value: float) -> float:
            change = math.log if logarithmic else float
            return (change(value) - change(lowest)) / (change(highest) - change(lowest))

        marks = [known[ordered[round(share * (len(ordered) - 1))]] for share in (0, 0.5, 1)]
        ticks = tuple((place(mark), f"{mark:.4g}") for mark in marks)
        return _Scale(ticks, {text: place(known[text]) for text in ordered}, 0.0)
    count = len(ordered)
    even = {text: (number + 0.5) / count for number, text in enumerate(ordered)}
    ticks = tuple((even[text], _choice(known[text])) for text in ordered)
    return _Scale(ticks if count <= 24 else ticks[:: math.ceil(count / 24)], even, 1.0 / count)


def _choice(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else clean(value, 16)


@styled
def draw_parallel_lines(parallel_lines: Sequence[ParallelLine], fields: Sequence[str]) -> Figure:
    """Parallel coordinates: every field an axis, BPB the last; the best trials dark.

    Args: ways: one or more; fields: those that vary.
    """
    last = len(fields)
    done = sorted((way for way in parallel_lines if way.bpb is not None), key=lambda way: way.bpb or 0.0)
    stopped = list(dict.fromkeys(way.status for way in parallel_lines if way.bpb is None))
    scales = [_scale([way.point.get(field) for way in parallel_lines]) for field in fields]
    left, *others = (max(length_of(text, SMALL) for _, text in scale.ticks) for scale in scales)
    left, apart = max(0.45, left + 0.15), max([_LEAST_APART, *(length + 0.15 for length in others)])
    figure = sheet(4.2, max(WIDTH, left + apart * last + 0.95))
    axes = panel(figure, left, 0.62, 0.95, 0.15)
    axes.set_xlim(0, last)
    room = 0.09 * len(stopped)
    top = fence([way.bpb or 0.0 for way in done]) if done else 1.0
    low = done[0].bpb or 0.0 if done else 0.0
    ends = {status: 1.0 - 0.09 * place for place, status in enumerate(stopped)}

    def end_of(way: ParallelLine) -> float:
        if way.bpb is None:
            return ends[way.status]
        share = (min(way.bpb, top) - low) / (top - low) if top > low else 0.0
        return 0.02 + share * (0.94 - room)

    dark = max(1, math.ceil(_DARK_SHARE * len(done)))
    ranks = [*(way for way in parallel_lines if way.bpb is None), *reversed(done)]
    for number, way in enumerate(ranks):
        shift = 0.6 * (0.5 - (number + 0.5) / len(ranks))
        heights = [
            scale.places[repr(way.point.get(field))] + shift * scale.gap
            for scale, field in zip(scales, fields, strict=True)
        ]
        is_dark = number >= len(ranks) - dark and way.bpb is not None
        line: dict[str, Any] = (
            {"color": INK, "linewidth": 1.6, "zorder": 3} if is_dark else {"color": GREY, "linewidth": 0.6}
        )
        if way.bpb is None:
            line = {"color": FAINT, "linewidth": 0.6, "linestyle": (0, (3, 2)), "zorder": 1}
        axes.plot(range(last + 1), [*heights, end_of(way)], clip_on=False, **line)
    _draw_scales(axes, scales, fields)
    _draw_end(axes, last, done, ends, low, top, end_of)
    return figure


def _draw_scales(axes: Axes, scales: Sequence[_Scale], fields: Sequence[str]) -> None:
    """The upright axes with their choices, and the fields' names below."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.vlines(range(len(fields) + 1), 0, 1, color=INK, linewidth=0.8, clip_on=False)
    for place, scale in enumerate(scales):
        for height, text in scale.ticks:
            write(axes, text, (place, height), (-3.0, 0.0), "right", behind=True)
    axes.set_xticks(range(len(fields) + 1), [*map(broken, fields), "BPB"])
    axes.tick_params(axis="x", length=0)


def _draw_end(
    axes: Axes, last: int, done: Sequence[ParallelLine], ends: Mapping[str, float], low: float, top: float, end_of: Any
) -> None:
    """The last axis: BPB, and above it where trials without one ended."""
    marks = sorted({low, (low + top) / 2, top}) if done else []
    for mark in marks:
        worst = done[-1].bpb or 0.0
        text = f"{mark:.4f}" + ("+" if mark == top and worst > top else "")
        write(axes, text, (last, end_of(ParallelLine({}, mark, ""))), (4.0, 0.0))
    for status, height in ends.items():
        write(axes, clean(status, 14), (last, height), (4.0, 0.0), color=INK)


def broken(field: str) -> str:
    """A field's name in lines of about 13 letters, broken after dots and underscores."""
    lines = [""]
    for part in clean(field, 40).replace(".", ".\n").replace("_", "_\n").split("\n"):
        for start in range(0, len(part), 14):
            piece = part[start : start + 14]
            if len(lines[-1]) + len(piece) > 14:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


@styled
def draw_importance(found: Sequence[Importance]) -> Figure:
    """A bar for every field's share, and a mark at what it has by chance.

    Args: found: one or more.
    """
    names = [clean(one.field, 40) for one in found]
    left = max(length_of(name, SMALL) for name in names) + 0.2
    figure = sheet(0.62 + 0.3 * len(found) + 0.1)
    axes = panel(figure, left, 0.52, 0.6, 0.1)
    places = range(len(found))
    axes.barh(places, [100 * one.share for one in found], height=0.55, color="0.72", edgecolor=INK, linewidth=0.8)
    axes.vlines(
        [100 * one.chance for one in found],
        [p - 0.4 for p in places],
        [p + 0.4 for p in places],
        color=INK,
        linewidth=2.0,
    )
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlim(0, max(100 * max(one.share, one.chance) for one in found) * 1.05)
    for place, one in enumerate(found):
        write(axes, f"{100 * one.share:.0f} %", (100 * max(one.share, one.chance), place), (5.0, 0.0))
    number_axis(axes, "x", 6, ",.0f")
    axes.set_xlabel(f"importance (% of all fields'); upright mark: by chance {CHANCE_LEVEL:.0%} end below it")
    return figure
