"""Figures of seeds with their intervals, and of an artifact's bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golf.submission.study import Summary
from tune.report.canvas import BLUE, GREY, INK, ORANGE, count_axis, legend, new_figure, style
from tune.report.text import clean, signed

MAX_ROWS = 12
"""Configurations in one figure, at most."""


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """One configuration under its seeds."""

    title: str
    seeds: Sequence[float]
    """BPB of every seed."""
    repeats: Sequence[float]
    """BPB of seeds that were run again."""
    summary: Summary
    num_unfinished: int = 0
    """Runs that ended without a result."""


@dataclass(frozen=True)
class Mark:
    """A labelled line at a BPB."""

    bpb: float
    label: str


@style()
def draw_seeds(rows: Sequence[SeedRow], marks: Sequence[Mark]) -> Figure:
    """Draws a dot for every seed, the mean and its interval; repeats are hollow.

    Args: rows: one or more.
    """
    figure = new_figure(1.0 + 0.5 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    for mark, linestyle in zip(marks, ("--", ":"), strict=False):
        axes.axvline(mark.bpb, color=ORANGE, linewidth=1.2, linestyle=linestyle, label=f"{mark.label} {mark.bpb:.4f}")
    axes.set_yticks(range(len(rows)), map(_describe, rows))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("BPB (bits per byte), lower is better")
    if marks:
        legend(figure)
    return figure


def _draw_row(axes: Axes, place: int, row: SeedRow) -> None:
    """Draws dots, mean and interval on one line."""
    if row.summary.interval is not None:
        axes.plot(row.summary.interval, [place] * 2, "|-", color=INK, linewidth=1.1, markersize=8)
    axes.vlines(row.summary.mean, place - 0.25, place + 0.25, color=INK, linewidth=2.4)
    axes.plot(row.seeds, [place] * len(row.seeds), "o", color=BLUE, zorder=3)
    axes.plot(row.repeats, [place] * len(row.repeats), "o", color=BLUE, markerfacecolor="white", zorder=4)


def _describe(row: SeedRow) -> str:
    """Returns the title, and below it mean, interval and number of seeds."""
    summary = row.summary
    text = f"{clean(row.title, 36)}\nmean {summary.mean:.4f}"
    if summary.interval is None:
        text += ", one seed"
    else:
        half = (summary.interval[1] - summary.interval[0]) / 2
        text += f" \u00b1 {half:.4f} ({summary.level:.0%}), {summary.num_values} seeds"
    return text + (f",\n{row.num_unfinished} without a result" if row.num_unfinished else "")


@dataclass(frozen=True, kw_only=True)
class GroupBytes:
    """Bytes of a tensor group in the artifact."""

    name: str
    packed: float
    entropy: float
    """Order-0 entropy of its codes; 0 for a group without codes."""


@style()
def draw_bytes(groups: Sequence[GroupBytes], code_bytes: float | None, room: float | None) -> Figure:
    """Draws a bar for every tensor group, a mark at the entropy of its codes; then the code and the room to the cap.

    Args: groups: one or more; room: bytes below the cap, negative above it.
    """
    rows = [*groups, *([] if code_bytes is None else [GroupBytes(name="code", packed=code_bytes, entropy=0.0)])]
    names, places = [clean(row.name, 30) for row in rows], np.arange(len(rows))
    packed, entropy = np.array([row.packed for row in rows]), np.array([row.entropy for row in rows])
    figure = new_figure(0.8 + 0.32 * (len(rows) + (room is not None)))
    axes = figure.add_subplot()
    axes.barh(places, packed, height=0.58, color=[*[BLUE] * len(groups), GREY][: len(rows)], alpha=0.6)
    axes.vlines(entropy[entropy > 0], places[entropy > 0] - 0.4, places[entropy > 0] + 0.4, color=INK, linewidth=2.2)
    longest = np.maximum(packed, entropy)
    axes.bar_label(axes.barh(places, longest, fill=False, linewidth=0), list(map(_bytes_label, rows)), padding=5)
    if room is not None:
        # The room may be far larger than any group: its bar is cut then, and its number says how much it is.
        shown = min(abs(room), 1.04 * max(longest.max(), 1.0))
        bar = axes.barh(len(rows), shown, height=0.58, fill=False, edgecolor=GREY, linestyle="--")
        axes.bar_label(bar, [f"{abs(room):,.0f}{' (bar cut)' if shown < abs(room) else ''}"], padding=5)
        names.append("room to the cap" if room >= 0 else "over the cap")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    count_axis(axes)
    axes.set_xlabel("bytes in the artifact; upright mark: order-0 entropy of the codes")
    return figure


def _bytes_label(row: GroupBytes) -> str:
    """Returns the bytes, and their difference to the entropy where there is one."""
    return f"{row.packed:,.0f}" + (f"  {signed(100 * (row.packed / row.entropy - 1), 1)} %" if row.entropy > 0 else "")
