"""Training curves, aligned by the optimiser's step.

Plain values enter, a figure leaves. Loss at equal steps means nothing across schedules, so that the starts of the
warmdowns are marked: only before them are curves alike in kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tune.report.canvas import (
    FAINT,
    GREY,
    INK,
    SMALL,
    clean,
    label_ends,
    length_of,
    limits,
    number_axis,
    panel,
    sheet,
    styled,
    thinned,
    write,
)

Floats = NDArray[np.float64]
Line = tuple[Floats, Floats]
"""(x, y)."""
MOST_OTHERS = 40
"""Trainings beside those that are named."""
SPANS = 40
"""The running mean is over one so-many-th of the steps."""
_MOST_POINTS = 400
_MOST_FAINT_POINTS = 100
"""Of a line that is one among many."""
_SKIPPED_SHARE = 0.1
"""First part of the training that does not decide how far the axis reaches."""


@dataclass(frozen=True)
class Training:
    """One training."""

    label: str | None
    """What it is to the reader; None for one of many."""
    steps: Floats
    """(num_points,) optimiser steps, ascending."""
    loss_nats: Floats
    """(num_points,) training loss per token."""
    validation: Sequence[tuple[float, float]]
    """(step, BPB)."""
    warmdown_start: int | None


def smoothed(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The running mean over an odd number of points, at the steps that have them all around: no end is bent."""
    span = span_of(len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return steps[span // 2 : len(steps) - span // 2], (sums[span:] - sums[:-span]) / span


def span_of(num_points: int) -> int:
    """Points under one running mean: 1 where they are few."""
    return 2 * (num_points // SPANS // 2) + 1


@styled
def draw_trainings(trainings: Sequence[Training]) -> Figure:
    """Training loss by step, raw and smoothed, and below it validation BPB where there is one.

    Args: trainings: one or more with one point or more each, the most interesting first.
    """
    has_validation = any(training.validation for training in trainings)
    height = 5.4 if has_validation else 3.6
    below = 2.35 if has_validation else 0.5
    figure = sheet(height)
    texts = [_last_words(training) for training in trainings if training.label]
    right = max([0.3, *(length_of(text, SMALL) + 0.2 for text in texts)])
    axes = panel(figure, 0.85, below, right, 0.35)
    last = max(float(training.steps[-1]) for training in trainings)
    axes.set_xlim(0, max(last, 1.0))
    lines = [smoothed(training.steps, training.loss_nats) for training in trainings]
    _limit(axes, trainings, lines)
    for place, (training, line) in reversed(list(enumerate(zip(trainings, lines, strict=True)))):
        _draw_training(axes, training, line, place)
    named = [(training, line) for training, line in zip(trainings, lines, strict=True) if training.label]
    label_ends(axes, [(float(x[-1]), float(y[-1]), clean(training.label, 30)) for training, (x, y) in named])
    axes.set_ylabel("training loss (nats per token)")
    number_axis(axes, "y", 6)
    if any(training.warmdown_start is not None for training in trainings):
        write(axes, "\u25c7 warmdown starts", (1, 1), (0, 12), "right", frame="axes fraction")
    if has_validation:
        axes.tick_params(labelbottom=False)
        lower = panel(figure, 0.85, 0.5, right, height - below + 0.15, share=axes)
        _draw_validation(lower, trainings)
        axes = lower
    axes.set_xlabel("optimiser step (steps)")
    number_axis(axes, "x", 7, ",.0f", whole=True)
    return figure


def _limit(axes: Axes, trainings: Sequence[Training], lines: Sequence[Line]) -> None:
    """An axis that ends where training has got going: the first steps fall from ln(vocabulary)."""
    shown = []
    for training, (_, means) in zip(trainings, lines, strict=True):
        settled = min(int(_SKIPPED_SHARE * len(means)), len(means) - 1)
        shown += [float(means[settled]), float(means.min())]
        if training.label:
            shown.append(float(np.quantile(training.loss_nats[settled:], 0.01)))
    axes.set_ylim(*limits(shown, 0.05))


def _draw_training(axes: Axes, training: Training, line: Line, place: int) -> None:
    """Raw faint and smoothed dark for a named one; a grey line for one of many."""
    named = training.label is not None
    if named and span_of(len(training.steps)) > 1:
        axes.plot(
            *extremes(training.steps, training.loss_nats),
            color=FAINT if place == 0 else "0.88",
            linewidth=0.6,
            zorder=1,
        )
    x, y = thinned(*line, _MOST_POINTS if named else _MOST_FAINT_POINTS)
    dash = (0, (4, 2)) if named and place else "-"
    width = (1.6 if place == 0 else 1.1) if named else 0.5
    alone = "o" if len(x) == 1 else None
    axes.plot(
        x, y, color=INK if named else GREY, linewidth=width, linestyle=dash, zorder=3 if named else 2, marker=alone
    )
    start = training.warmdown_start
    if start is not None and training.steps[0] <= start <= training.steps[-1]:
        height = float(np.interp(start, *line))
        size = 7.0 if named else 4.0
        axes.plot(
            [start], [height], "D", markersize=size, markerfacecolor="white", color=INK if named else GREY, zorder=4
        )


def _draw_validation(axes: Axes, trainings: Sequence[Training]) -> None:
    """Validation BPB by step."""
    points = [point for training in trainings for point in training.validation]
    late = [bpb for step, bpb in points if step >= _SKIPPED_SHARE * max(step for step, _ in points)]
    axes.set_ylim(*limits(late))
    ends = []
    for place, training in reversed(list(enumerate(trainings))):
        if not training.validation:
            continue
        named = training.label is not None
        x, y = zip(*training.validation, strict=True)
        dash = (0, (4, 2)) if named and place else "-"
        color, width, marker = (INK, 1.2, "o" if len(x) <= 30 else None) if named else (GREY, 0.5, None)
        axes.plot(x, y, color=color, linewidth=width, linestyle=dash, marker=marker, markersize=3.5)
        if named:
            ends.append((float(x[-1]), float(y[-1]), _last_words(training)))
    label_ends(axes, ends)
    axes.set_ylabel("validation BPB\n(plain windows)")
    number_axis(axes, "y", 5)


def _last_words(training: Training) -> str:
    """A named training's label, with its last validation where it has one."""
    label = clean(training.label, 30)
    return f"{label} {training.validation[-1][1]:.4f}" if training.validation else label


def extremes(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points, or of many the least and the greatest of each short span: as wide as the noise is."""
    if len(x) <= 2 * _MOST_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), _MOST_POINTS)
    places = [place for part in parts for place in sorted({int(part[y[part].argmin()]), int(part[y[part].argmax()])})]
    return x[places], y[places]
