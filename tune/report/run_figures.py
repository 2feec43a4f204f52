"""Figures of single runs beside each other: the ladder, and test-time training along the validation stream."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT
from tune.report.canvas import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    LINES,
    SETTLED_SHARE,
    Floats,
    count_axis,
    legend,
    limits,
    new_figure,
    stacked,
    style,
)
from tune.report.text import clean, signed
from tune.study.bootstrap import PairedDifference

RUNG_NAMES = {LIVE: "live", AVERAGED: "EMA", QUANTISED: "quantised", SLIDING: "sliding", TTT: "TTT"}
"""Names of the rungs in tables and figures."""
_MAX_MARKERS = 500
"""Single chunks that are drawn, at most about; more cannot be seen."""


Ladder = Mapping[str, float]
"""BPB by rung, in order."""


@style()
def draw_ladders(ladders: Mapping[str, Ladder]) -> Figure:
    """Draws a waterfall for every ladder, side by side on scales of equal length.

    Args: ladders: one or two by their titles, each with at least two rungs.
    """
    figure = new_figure(3.8)
    panels = figure.subplots(1, len(ladders), squeeze=False)[0]
    scales = _scales(list(ladders.values()))
    for axes, (title, ladder), edges in zip(panels, ladders.items(), scales, strict=True):
        axes.set_ylim(*edges)
        axes.set_title(clean(title, 24), fontweight="bold")
        _draw_ladder(axes, ladder)
    panels[0].set_ylabel("BPB (bits per byte)")
    return figure


def _scales(ladders: Sequence[Ladder]) -> list[tuple[float, float]]:
    """Returns one scale for all; where they are far apart, scales of equal length, so that bars can be compared."""
    spans = [limits(ladder.values(), 0.17) for ladder in ladders]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    longest = max(high - low for low, high in spans)
    if high - low <= 2.0 * longest:
        return [(low, high)] * len(spans)
    return [((low + high - longest) / 2, (low + high + longest) / 2) for low, high in spans]


def _draw_ladder(axes: Axes, ladder: Ladder) -> None:
    """Draws a bar for every change, dark where BPB rises and white where it falls, and names the first and last BPB."""
    values = np.array(list(ladder.values()))
    changes = np.diff(values, prepend=values[0])
    places = np.arange(len(values))
    colors = ["0.35" if change > 0 else "white" for change in changes]
    bars = axes.bar(places, changes, 0.62, values - changes, color=colors, edgecolor=INK, linewidth=0.9)
    labels = [f"{values[0]:.4f}", *map(signed, changes[1:])]
    labels[-1] += f"\n= {values[-1]:.4f}"
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.hlines(values[:-1], places[:-1] + 0.31, places[1:] - 0.31, color=GREY, linewidth=0.7)
    axes.set_xticks(places, [RUNG_NAMES.get(name, name) for name in ladder])
    axes.tick_params(axis="x", length=0)


@style()
def draw_stream(runs: Mapping[str, Floats], num_bytes: Floats, paired: PairedDifference | None) -> Figure:
    """Draws running BPB by chunk of one or two runs; below it the running difference of two.

    Args:
        runs: summed negative log-likelihood in nats by chunk, (num_chunks,), by label; the candidate first.
        num_bytes: bytes of text by chunk, (num_chunks,).
        paired: difference over all chunks, candidate against the second run; None for a single run.
    """
    figure = new_figure(3.2 if paired is None else 5.4)
    panels = stacked(figure, (1,) if paired is None else (1, 1))
    chunks = np.arange(1, len(num_bytes) + 1, dtype=np.float64)
    settled = int(SETTLED_SHARE * len(chunks))
    means = [_running_bpb(nats, num_bytes) for nats in runs.values()]
    marker = "o" if len(chunks) <= 25 else None
    for label, mean, line in zip(runs, means, LINES, strict=False):
        text = f"{clean(label, 30)}, at the end {mean[-1]:.4f}"
        panels[0].plot(chunks, mean, marker=marker, markersize=3, label=text, **line)
    panels[0].set_ylim(*limits(np.concatenate([mean[settled:] for mean in means])))
    panels[0].set_ylabel("running BPB (bits per byte)")
    if paired is not None:
        candidate, other = runs.values()
        _draw_difference(panels[1], chunks, other - candidate, num_bytes, paired)
    panels[-1].set_xlabel("chunk of the validation stream")
    count_axis(panels[-1])
    legend(figure, 2)
    return figure


def _running_bpb(nats: Floats, num_bytes: Floats) -> Floats:
    """Returns bits per byte of all chunks up to each one."""
    running: Floats = np.cumsum(nats) / np.cumsum(num_bytes) / math.log(2)
    return running


def _draw_difference(axes: Axes, chunks: Floats, nats: Floats, num_bytes: Floats, paired: PairedDifference) -> None:
    """Draws every chunk's difference, the running one, and the interval of the last one."""
    running = _running_bpb(nats, num_bytes)
    single = nats / np.maximum(num_bytes, 1.0) / math.log(2)
    settled = int(SETTLED_SHARE * len(chunks))
    interval = paired.bpb_interval
    axes.set_ylim(*limits([*running[settled:], 0.0, *np.quantile(single, [0.02, 0.98]), *(interval or ())]))
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    every = max(1, len(chunks) // _MAX_MARKERS)
    axes.plot(chunks, single, ".", color=LIGHT, markersize=3.5, markevery=every, zorder=1)
    axes.plot(chunks, running, color=BLUE, linewidth=1.5, marker="o" if len(chunks) <= 25 else None, markersize=3)
    title = f"{signed(paired.bpb)} BPB, "
    if interval is None:
        title += "no interval"
    else:
        axes.vlines(chunks[-1], *interval, color=INK, linewidth=1.5)
        axes.plot([chunks[-1]] * 2, interval, "_", color=INK, markersize=8)
        title += f"{paired.level:.0%} interval {signed(interval[0])} to {signed(interval[1])}"
    axes.set_title(title)
    axes.set_ylabel("BPB saved against\nthe dashed run")
