"""Figures of seeds with their intervals, and of an artifact's bytes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from golf.submission.study import Summary
from tune.records.entries import TrialEntry
from tune.report.canvas import BLUE, GREY, INK, ORANGE, count_axis, legend, new_figure, style
from tune.report.data import score_of
from tune.report.groups import Group
from tune.report.text import clean, signed
from tune.study.stats import summarise

MAX_ROWS = 12
"""Configurations in one figure, at most."""


@style()
def draw_seeds(groups: Sequence[Group], marks: Sequence[tuple[float, str]]) -> Figure:
    """Draws a dot for every seed, the mean and its interval; repeats are hollow.

    Args:
        groups: one or more, each with one seed or more.
        marks: BPB of lines through all groups, with their labels; at most two.
    """
    figure = new_figure(1.0 + 0.5 * len(groups))
    axes = figure.add_subplot()
    labels = []
    for row, group in enumerate(groups):
        seeds, repeats = ([score_of(entry) for entry in entries] for entries in (group.seeds, group.repeats))
        summary = summarise(seeds)
        if summary.interval is not None:
            axes.plot(summary.interval, [row] * 2, "|-", color=INK, linewidth=1.1, markersize=8)
        axes.vlines(summary.mean, row - 0.25, row + 0.25, color=INK, linewidth=2.4)
        axes.plot(seeds, [row] * len(seeds), "o", color=BLUE, zorder=3)
        axes.plot(repeats, [row] * len(repeats), "o", color=BLUE, markerfacecolor="white", zorder=4)
        unfinished = f",\n{len(group.unfinished)} without a result" if group.unfinished else ""
        labels.append(f"{clean(group.name, 36)}\n{_describe(summary)}{unfinished}")
    for (bpb, label), linestyle in zip(marks, ("--", ":"), strict=False):
        axes.axvline(bpb, color=ORANGE, linewidth=1.2, linestyle=linestyle, label=f"{label} {bpb:.4f}")
    axes.set_yticks(range(len(groups)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("BPB (bits per byte), lower is better")
    if marks:
        legend(figure)
    return figure


def _describe(summary: Summary) -> str:
    if summary.interval is None:
        return f"mean {summary.mean:.4f}, one seed"
    half = (summary.interval[1] - summary.interval[0]) / 2
    return f"mean {summary.mean:.4f} \u00b1 {half:.4f} ({summary.level:.0%}), {summary.num_values} seeds"


@style()
def draw_bytes(entry: TrialEntry) -> Figure:
    """Draws a bar for every tensor group, a mark at the entropy of its codes; then the code and the room to the cap.

    Args: entry: a trial with `byte_groups`.
    """
    columns = entry.byte_groups.items()
    rows = [(name, column.get("packed_bytes", 0.0), column.get("entropy_bytes", 0.0)) for name, column in columns]
    rows.sort(key=lambda row: (row[0] == "header", -row[1]))
    colors = [BLUE] * len(rows) + [GREY] * bool(entry.size)
    rows += [("code", float(entry.size.code_bytes), 0.0)] if entry.size else []
    names, places = [clean(name, 30) for name, _, _ in rows], np.arange(len(rows))
    packed, entropy = np.array([(size, codes) for _, size, codes in rows]).T
    figure = new_figure(0.8 + 0.32 * (len(rows) + 1))
    axes = figure.add_subplot()
    axes.barh(places, packed, height=0.58, color=colors, alpha=0.6)
    coded = entropy > 0
    axes.vlines(entropy[coded], places[coded] - 0.4, places[coded] + 0.4, color=INK, linewidth=2.2)
    more = [f"  {signed(100 * (size / codes - 1), 1)} %" if codes else "" for _, size, codes in rows]
    labels = [f"{size:,.0f}{percent}" for size, percent in zip(packed, more, strict=True)]
    longest = np.maximum(packed, entropy)
    axes.bar_label(axes.barh(places, longest, fill=False, linewidth=0), labels, padding=5)
    if entry.size and entry.cap_bytes is not None:
        # The room may be far larger than any group: its bar is cut then, and its number says how much it is.
        room = entry.cap_bytes - entry.size.artifact_bytes
        shown = min(abs(room), 1.04 * max(longest.max(), 1.0))
        bar = axes.barh(len(rows), shown, height=0.58, fill=False, edgecolor=GREY, linestyle="--")
        axes.bar_label(bar, [f"{abs(room):,}{' (bar cut)' if shown < abs(room) else ''}"], padding=5)
        names.append("room to the cap" if room >= 0 else "over the cap")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    count_axis(axes)
    axes.set_xlabel("bytes in the artifact; upright mark: order-0 entropy of the codes")
    return figure
