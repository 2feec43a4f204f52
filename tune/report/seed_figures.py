"""Figures of seeds with their intervals, and of an artifact's bytes.

Plain values enter, figures leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune.report.canvas import (
    GREY,
    INK,
    SMALL,
    clean,
    length_of,
    limits,
    number_axis,
    panel,
    sheet,
    signed,
    styled,
    write,
)
from tune.study.stats import Summary

MOST_ROWS = 12
"""Configurations in one figure."""
_TITLE_LETTERS = 40


@dataclass(frozen=True)
class SeedRow:
    """One configuration under its seeds."""

    title: str
    seeds: Sequence[float]
    """BPB of every seed."""
    repeats: Sequence[float]
    """BPB of a seed run again."""
    summary: Summary
    num_lacking: int = 0
    """Runs that ended without a result."""


@dataclass(frozen=True)
class Mark:
    """A line at a BPB, with its words."""

    bpb: float
    words: str


@styled
def draw_seeds(rows: Sequence[SeedRow], marks: Sequence[Mark]) -> Figure:
    """A dot for every seed, the mean, and its interval; repeats are hollow.

    Args: rows: one or more.
    """
    each, top = 0.62, 0.2 + 0.17 * len(marks)
    figure = sheet(0.55 + each * len(rows) + top)
    axes = panel(figure, 0.25, 0.55, 0.25, top)
    values = [bpb for row in rows for bpb in row.seeds] + [bpb for row in rows for bpb in row.repeats]
    values += [edge for row in rows for edge in (row.summary.interval or ())] + [mark.bpb for mark in marks]
    axes.set_xlim(*limits(values, 0.06))
    axes.set_ylim(len(rows) - 0.35, -0.65)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    for place, mark in enumerate(marks):
        axes.axvline(mark.bpb, color=INK, linewidth=1.0, linestyle=(0, (5, 2)) if place == 0 else (0, (1, 1.5)))
        low, high = axes.get_xlim()
        right = mark.bpb > (low + high) / 2
        words = f"{mark.words} {mark.bpb:.4f}"
        offset = (-3.0 if right else 3.0, 6.0 + 12.0 * (len(marks) - 1 - place))
        write(axes, words, (mark.bpb, 1.0), offset, "right" if right else "left", frame="x")
    axes.set_xlabel("BPB (bits per byte), lower is better")
    number_axis(axes, "x", 7)
    return figure


def _draw_row(axes: Axes, place: int, row: SeedRow) -> None:
    """Title above, dots and interval on one line below it."""
    summary, line = row.summary, place + 0.12
    if summary.interval is not None:
        axes.plot(summary.interval, [line] * 2, color=INK, linewidth=1.1)
        axes.plot(summary.interval, [line] * 2, "|", color=INK, markersize=8)
    axes.plot([summary.mean] * 2, [line - 0.2, line + 0.2], color=INK, linewidth=2.4, solid_capstyle="butt")
    axes.plot(
        row.seeds,
        [line] * len(row.seeds),
        "o",
        markersize=6.5,
        color=INK,
        markerfacecolor="0.6",
        zorder=3,
    )
    axes.plot(row.repeats, [line] * len(row.repeats), "o", markersize=6.5, color=INK, markerfacecolor="white", zorder=4)
    words = f"mean {summary.mean:.4f}"
    if summary.interval is None:
        words += ", one seed"
    else:
        half = (summary.interval[1] - summary.interval[0]) / 2
        words += f" \u00b1 {half:.4f} ({summary.level:.0%}), {summary.num_values} seeds"
    words += f", {row.num_lacking} without a result" if row.num_lacking else ""
    write(axes, clean(row.title, _TITLE_LETTERS), (0, place - 0.33), (0, 0), frame="y", weight="bold", behind=True)
    write(axes, words, (1, place - 0.33), (0, 0), "right", frame="y", behind=True)


@dataclass(frozen=True)
class GroupBytes:
    """A tensor group's bytes in the artifact."""

    name: str
    packed: float
    entropy: float
    """Order-0 entropy of its codes; 0 for what has no codes."""


@styled
def draw_bytes(groups: Sequence[GroupBytes], code_bytes: float | None, room: float | None) -> Figure:
    """A bar for every tensor group, a mark at the entropy of its codes; then the code and the room to the cap.

    Args: groups: one or more; room: negative over the cap.
    """
    rows: list[tuple[str, float, float]] = [(group.name, group.packed, group.entropy) for group in groups]
    rows += [("code", code_bytes, 0.0)] if code_bytes is not None else []
    extra = [] if room is None else [("room to the cap" if room >= 0 else "over the cap", abs(room))]
    names = [clean(name, 30) for name, _, _ in rows] + [name for name, _ in extra]
    left = max(length_of(name, SMALL) for name in names) + 0.2
    figure = sheet(0.62 + 0.32 * len(names))
    axes = panel(figure, left, 0.52, 1.95, 0.08)
    largest = max([packed for _, packed, _ in rows] + [entropy for _, _, entropy in rows])
    axes.set_xlim(0, 1.04 * max(largest, 1.0))
    for place, (_, packed, entropy) in enumerate(rows):
        is_code = code_bytes is not None and place == len(groups)
        axes.barh(place, packed, height=0.58, color="white" if is_code else "0.78", edgecolor=INK, linewidth=0.8)
        words = f"{packed:,.0f}"
        if entropy > 0:
            axes.vlines(entropy, place - 0.4, place + 0.4, color=INK, linewidth=2.2)
            words += f"  {signed(100 * (packed / entropy - 1), 1)} %"
        write(axes, words, (max(packed, entropy), place), (6.0, 0.0))
    for place, (_, size) in enumerate(extra, start=len(rows)):
        # Room may be far larger than any group: it is cut at the edge then, and its number says how much it is.
        shown = min(size, axes.get_xlim()[1])
        axes.barh(
            place, shown, height=0.58, fill=False, edgecolor=GREY, linewidth=0.8, linestyle=(0, (3, 2)), hatch=None
        )
        more = " (bar cut)" if shown < size else ""
        write(axes, f"{size:,.0f}{more}", (shown, place), (6.0, 0.0))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    number_axis(axes, "x", 5, ",.0f")
    axes.set_xlabel("bytes in the artifact; upright mark: order-0 entropy of the codes")
    return figure
