"""Figures of a search: BPB against bytes, BPB by every searched field, and the importance of the fields.

A trial without a BPB is shown by how it ended and never left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tune.report.canvas import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    Floats,
    count_axis,
    legend,
    limits,
    new_figure,
    stacked,
    style,
)
from tune.report.text import clean
from tune.search.importance import CHANCE_LEVEL, Importance

_ROW = 0.24
"""Inches of a row with one line of text."""
_MAX_CHOICES = 8
"""Different numbers of a field up to which each has a row of its own."""
_MAX_ROWS = 24
"""Choices of a field that are named, at most; of more, evenly spaced ones are."""
_BEST_SHARE = 0.1
"""Share of the finished trials that is highlighted."""
_LEAST_FOR_MEDIAN = 3
"""Finished trials of a choice from which on its median is drawn."""
_WHISKERS = 4.0
"""BPB more than so many interquartile ranges above the upper quartile would press all others into a corner."""

_FINISHED: dict[str, Any] = {
    **{"linestyle": "", "marker": "o", "markersize": 3.5},
    **{"color": LIGHT, "markeredgecolor": GREY, "markeredgewidth": 0.4},
}
_BEST: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4, "color": BLUE}


@dataclass(frozen=True, kw_only=True)
class SizedTrial:
    """A trial with an artifact."""

    artifact_bytes: int
    bpb: float | None
    status: str
    """How the trial ended, in words."""


@dataclass(frozen=True, kw_only=True)
class SearchedTrial:
    """A trial with its searched fields."""

    point: Mapping[str, Any]
    bpb: float | None
    status: str
    """How the trial ended, in words."""


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the (bytes, BPB) that no other point beats or equals in both, by bytes.

    Of equal points it is the first.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (*points[index], index)):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front


def _largest_shown(bpb: Sequence[float] | Floats) -> float:
    """Returns the largest BPB that is no far outlier."""
    return float(boxplot_stats(bpb, whis=_WHISKERS)[0]["whishi"])


@style()
def draw_sizes(trials: Sequence[SizedTrial], caps: Sequence[int], with_front: bool) -> Figure:
    """Draws BPB against artifact bytes, the Pareto front and the caps; below it the bytes of trials without BPB.

    Args: trials: one or more; with_front: whether the trials compete; seeds of one configuration do not.
    """
    done = [(trial.artifact_bytes, trial.bpb) for trial in trials if trial.bpb is not None]
    stopped: dict[str, list[int]] = {}
    for trial in trials:
        if trial.bpb is None:
            stopped.setdefault(trial.status, []).append(trial.artifact_bytes)
    heights = [3.3] * bool(done) + [_ROW * len(stopped)] * bool(stopped)
    figure = new_figure(sum(heights) + 1.0)
    panels = stacked(figure, heights)
    if done:
        _draw_done(panels[0], done, max(caps, default=0), with_front)
    if stopped:
        panels[-1].eventplot(list(stopped.values()), lineoffsets=range(len(stopped)), linelengths=0.6, color=INK)
        titles = [f"{clean(status, 24)} ({len(sizes):,})" for status, sizes in stopped.items()]
        panels[-1].set_yticks(range(len(stopped)), titles)
        panels[-1].tick_params(axis="y", length=0)
        panels[-1].set_ylim(len(stopped) - 0.5, -0.5)
    for number, cap in enumerate(caps):
        for axes in panels:
            label = f"cap {cap:,} bytes" if axes is panels[0] else None
            axes.axvline(cap, color=INK, linewidth=1.2, linestyle=("--", ":", "-.")[number % 3], label=label)
    panels[-1].set_xlim(*limits([*(trial.artifact_bytes for trial in trials), *caps], 0.06))
    count_axis(panels[-1])
    panels[-1].set_xlabel("artifact, code and model (bytes)")
    legend(figure)
    return figure


def _draw_done(axes: Axes, points: Sequence[tuple[float, float]], cap: int, with_front: bool) -> None:
    """Draws the finished trials and their front, which goes on to the largest cap."""
    top = _largest_shown([bpb for _, bpb in points])
    shown = [point for point in points if point[1] <= top]
    axes.set_ylim(*limits([bpb for _, bpb in shown], 0.12))
    dots: dict[str, Any] = {"color": GREY, "markersize": 4} if with_front else {"color": BLUE, "markersize": 6}
    axes.plot(*zip(*shown, strict=True), "o", markeredgecolor="white", markeredgewidth=0.4, **dots)
    if with_front:
        front = [shown[index] for index in front_of(shown)]
        x, y = zip(*front, (max(cap, front[-1][0]), front[-1][1]), strict=True)
        label = f"Pareto front, best {y[-1]:.4f} BPB"
        every = list(range(len(front)))
        axes.plot(x, y, "o-", drawstyle="steps-post", color=BLUE, markersize=5, markevery=every, label=label)
    far = [point for point in points if point[1] > top]
    if far:
        label = f"{len(far)} above, up to {max(bpb for _, bpb in far):.4g} BPB"
        sizes = [size for size, _ in far]
        axes.plot(
            sizes, [1] * len(far), "^", color=ORANGE, clip_on=False, transform=axes.get_xaxis_transform(), label=label
        )
    axes.set_ylabel("BPB (bits per byte), lower is better")


@dataclass(frozen=True)
class _FieldAxis:
    """Where the values of a field are drawn."""

    positions: Floats
    """Position of every trial's value, (num_trials,)."""
    choices: tuple[str, ...] = ()
    """Text of the values in rows 0, 1, ...; empty for a field of many numbers, whose position is the number."""

    @property
    def height(self) -> float:
        """Inches."""
        return 0.3 + _ROW * (min(max(2, len(self.choices)), _MAX_ROWS) if self.choices else 4)


def _field_axis(values: Sequence[Any]) -> _FieldAxis:
    """Returns a row for every choice, numbers in ascending order; a continuous axis for many different numbers."""
    known = {repr(value): value for value in values}
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known.values())
    if is_number and len(known) > _MAX_CHOICES:
        return _FieldAxis(np.array(values, dtype=np.float64))
    rows = sorted(known, key=known.__getitem__) if is_number else sorted(known)
    choices = tuple(f"{known[row]:g}" if isinstance(known[row], float) else clean(known[row], 24) for row in rows)
    return _FieldAxis(np.array([rows.index(repr(value)) for value in values], dtype=np.float64), choices)


@style()
def draw_search(trials: Sequence[SearchedTrial], fields: Sequence[str]) -> Figure:
    """Draws BPB by the value of every field, one panel a field, and beside it how trials without BPB ended.

    Args: trials: one or more; fields: those that vary.
    """
    statuses = list(dict.fromkeys(trial.status for trial in trials if trial.bpb is None))
    bpb = np.array([np.nan if trial.bpb is None else trial.bpb for trial in trials])
    ends = np.array([statuses.index(trial.status) if trial.bpb is None else np.nan for trial in trials])
    field_axes = [_field_axis([trial.point.get(field) for trial in trials]) for field in fields]
    heights = [axis.height for axis in field_axes]
    widths = [4.0] * bool(np.isfinite(bpb).any()) + [0.4 * len(statuses)] * bool(statuses)
    figure = new_figure(sum(heights) + 1.4)
    grid = figure.subplots(
        nrows=len(fields),
        ncols=len(widths),
        sharex="col",
        sharey="row",
        squeeze=False,
        height_ratios=heights,
        width_ratios=widths,
    )
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, (2, len(trials)))
    for row, field, axis in zip(grid, fields, field_axes, strict=True):
        heights_of = axis.positions + (jitter[0] if axis.choices else 0.0)
        _set_field(row[0], field, axis)
        if statuses:
            row[-1].plot(ends + jitter[1], heights_of, "x", color=GREY, markersize=3, markeredgewidth=0.7)
        if np.isfinite(bpb).any():
            _draw_bpb(row[0], bpb, heights_of, axis)
    if statuses:
        grid[-1][-1].set_xlim(-0.5, len(statuses) - 0.5)
        grid[-1][-1].set_xticks(range(len(statuses)), [clean(status, 24) for status in statuses], rotation=90)
    if np.isfinite(bpb).any():
        grid[-1][0].set_xlabel("BPB (bits per byte), lower is better")
        grid[0][0].plot([], label=f"best {_BEST_SHARE:.0%}", **_BEST)
        grid[0][0].plot([], label="other finished trials", **_FINISHED)
        grid[0][0].plot([], "|", color=ORANGE, markersize=10, markeredgewidth=2.0, label="median of a choice")
        legend(figure)
    return figure


def _set_field(axes: Axes, field: str, axis: _FieldAxis) -> None:
    """Names the field and its choices."""
    axes.set_title(clean(field, 40))
    if axis.choices:
        axes.set_ylim(-0.5, len(axis.choices) - 0.5)
        every = math.ceil(len(axis.choices) / _MAX_ROWS)
        axes.set_yticks(range(0, len(axis.choices), every), axis.choices[::every])
    elif axis.positions.min() > 0 and axis.positions.max() / axis.positions.min() > 30:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_bpb(axes: Axes, bpb: Floats, heights: Floats, axis: _FieldAxis) -> None:
    """Draws the finished trials, the best of them highlighted, and the median of every choice."""
    done = np.isfinite(bpb)
    top = _largest_shown(bpb[done])
    best = done & (bpb <= np.nanquantile(bpb, _BEST_SHARE, method="lower"))
    for is_shown, marker in ((done & ~best, _FINISHED), (best, _BEST)):
        axes.plot(np.minimum(bpb[is_shown], top), heights[is_shown], **marker)
    axes.set_xlim(*limits(np.minimum(bpb[done], top)))
    if axis.choices:
        for row in range(len(axis.choices)):
            of_choice = bpb[(axis.positions == row) & done]
            if len(of_choice) >= _LEAST_FOR_MEDIAN:
                axes.vlines(min(np.median(of_choice), top), row - 0.4, row + 0.4, color=ORANGE, linewidth=2.0)


@style()
def draw_importance(importances: Sequence[Importance]) -> Figure:
    """Draws a bar for every field's share, and a mark at what it has by chance.

    Args: importances: one or more, the most important first.
    """
    figure = new_figure(0.8 + 0.3 * len(importances))
    axes = figure.add_subplot()
    places = np.arange(len(importances))
    shares = 100 * np.array([item.share for item in importances])
    chances = 100 * np.array([item.chance for item in importances])
    axes.barh(places, shares, height=0.55, color=BLUE, alpha=0.6)
    axes.vlines(chances, places - 0.4, places + 0.4, color=INK, linewidth=2.0)
    ends = axes.barh(places, np.maximum(shares, chances), fill=False, linewidth=0)
    axes.bar_label(ends, [f"{share:.0f} %" for share in shares], padding=4, fontsize=8)
    axes.set_yticks(places, [clean(item.field, 40) for item in importances])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(f"importance (% of all fields'); upright mark: by chance {CHANCE_LEVEL:.0%} end below it")
    return figure
