"""Training curves by optimiser step.

Losses at equal steps cannot be compared across schedules once a warmdown has started, so its start is marked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    Style,
    count_axis,
    legend,
    limits,
    new_figure,
    stacked,
    style,
)
from tune.report.text import clean, signed
from tune.study.bootstrap import PairedDifference

MAX_OTHERS = 40
"""Trainings that are drawn beside the labelled ones, at most."""
SMOOTHING_SHARE = 40
"""A running mean covers one part in `SMOOTHING_SHARE` of a training's steps."""
_MAX_POINTS = 200
"""Points of a smoothed line, about: more cannot be seen and make the page slow."""
_OTHER: Style = {"color": GREY, "linewidth": 0.5}


@dataclass(frozen=True)
class Training:
    """One training."""

    label: str | None
    """Label in the figure; None for one of many."""
    loss: Floats
    """Step, ascending, and training loss in nats per token, (num_points, 2)."""
    validation: Floats
    """Step and BPB of every validation during training, (num_points, 2)."""
    warmdown_start: int | None = None
    """Step at which the learning rate starts to fall."""


def smoothed(points: Floats) -> Floats:
    """Returns the running mean at the steps that have all its points around them, so that no end is bent.

    Args: points: step and value, (num_points, 2).
    """
    span = span_of(len(points))
    means = np.convolve(points[:, 1], np.full(span, 1.0 / span), mode="valid")
    every = max(1, len(means) // _MAX_POINTS)
    # Counted from the end, so that the last mean is always shown.
    chosen = np.arange(len(means) - 1, -1, -every)[::-1]
    return np.column_stack([points[chosen + span // 2, 0], means[chosen]])


def span_of(num_points: int) -> int:
    """Returns the number of points of a running mean: odd, and 1 where there are few points."""
    return 2 * (num_points // SMOOTHING_SHARE // 2) + 1


@style()
def draw_trainings(trainings: Sequence[Training]) -> Figure:
    """Draws training loss by step, raw and smoothed, and below it validation BPB where there is one.

    Args: trainings: one or more with at least one point each; the labelled ones first, at most two.
    """
    validation = np.concatenate([training.validation for training in trainings])
    figure = new_figure(5.6 if len(validation) else 3.8)
    panels = stacked(figure, (3, 2) if len(validation) else (1,))
    for number, training in reversed(list(enumerate(trainings))):
        line = LINES[number] if training.label else _OTHER
        _draw_loss(panels[0], training, line)
        if len(training.validation):
            marker = "o" if training.label and len(training.validation) <= 30 else None
            panels[1].plot(*training.validation.T, marker=marker, markersize=3.5, **line)
    panels[0].set_ylabel("training loss (nats per token)")
    panels[0].set_ylim(*_loss_limits(trainings))
    if len(validation):
        panels[1].set_ylabel("validation BPB\n(plain windows)")
        settled = validation[:, 0] >= SETTLED_SHARE * validation[:, 0].max()
        panels[1].set_ylim(*limits(validation[settled, 1]))
    panels[-1].set_xlabel("optimiser step")
    panels[-1].set_xlim(left=0)
    count_axis(panels[-1])
    _describe(panels[0], trainings)
    legend(figure, 2)
    return figure


def _draw_loss(axes: Axes, training: Training, line: Style) -> None:
    """Draws the smoothed loss, the raw one behind it where it has a label, and the start of the warmdown."""
    if training.label and span_of(len(training.loss)) > 1:
        axes.plot(*training.loss.T, color=line["color"], linewidth=0.5, alpha=0.3)
    x, y = smoothed(training.loss).T
    axes.plot(x, y, marker="o" if len(x) == 1 else None, **line)
    start = training.warmdown_start
    if start is not None and x[0] <= start <= x[-1]:
        size = 8.0 if training.label else 3.0
        height = np.interp(start, x, y)
        axes.plot(start, height, "D", markersize=size, markerfacecolor="white", color=line["color"], zorder=3)


def _describe(axes: Axes, trainings: Sequence[Training]) -> None:
    """Adds the entries of the legend, in reading order."""
    for number, training in enumerate(trainings):
        if training.label:
            last = f" (validation {training.validation[-1, 1]:.4f} BPB)" if len(training.validation) else ""
            axes.plot([], label=f"{clean(training.label, 30)}{last}", **LINES[number])
    if any(training.label is None for training in trainings):
        axes.plot([], label="other trials", **_OTHER)
    if any(training.warmdown_start is not None for training in trainings):
        axes.plot([], "D", color=GREY, markerfacecolor="white", label="warmdown starts")


def _loss_limits(trainings: Sequence[Training]) -> tuple[float, float]:
    """Returns limits that leave out the first steps, which fall from the logarithm of the vocabulary's size."""
    shown: list[float] = []
    for training in trainings:
        means = smoothed(training.loss)[:, 1]
        shown += [float(means[int(SETTLED_SHARE * (len(means) - 1))]), float(means.min())]
        if training.label:
            shown.append(float(np.quantile(training.loss[:, 1], 0.01)))
    return limits(shown, 0.05)


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
