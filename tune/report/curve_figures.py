"""Training curves by optimiser step.

Losses at equal steps cannot be compared across schedules once a warmdown has started, so its start is marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune.report.canvas import (
    GREY,
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
from tune.report.text import clean

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
