"""Figures of time, with what each shows in words: when trials ran side by side, and scores against their seconds."""

import heapq
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from golf.config.rules import RECORD, TRACK_SECONDS
from tune.records.entries import TrialEntry
from tune.report.canvas import BLUE, INK, ORANGE, Drawn, Style, add_tips, legend, limits, new_figure, style
from tune.report.data import Results, loss_of, score_label, score_of
from tune.report.text import clean
from tune.report.trial_figures import largest_shown, tip_of
from tune.study.runs import evaluation_seconds, training_seconds

_TRAINING = ("train", "run")
"""Stages that train; a script's only stage does all."""
_CORNERS = ((0.0, -0.31), (0.0, 0.31), (1.0, 0.31), (1.0, -0.31))
"""Corners of a bar: share of its width, lanes below its middle."""
_MAX_LANES = 64
"""Lanes that are drawn, at most."""


def lanes_of(trials: Sequence[TrialEntry]) -> list[int]:
    """Returns a lane for every trial so that no two overlap in one: the first that is free at its start.

    Args: trials: in the order of their starts.
    """
    lanes: list[int] = []
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for entry in trials:
        while busy and busy[0][0] <= entry.started:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lanes.append(heapq.heappop(free) if free else len(busy))
        heapq.heappush(busy, (max(entry.ended, entry.started), lanes[-1]))
    return lanes


def shared_stages(entry: TrialEntry) -> list[str]:
    """Returns the stages of which the trial took all or a part from the store."""
    return [name for name, alone in entry.seconds.items() if entry.computed.get(name, 0.0) < alone - 1e-6]


@style()
def draw_timeline(trials: Sequence[TrialEntry]) -> Figure:
    """Draws a bar from start to end of every trial, its stages in it, one lane for what never ran at the same time.

    Args: trials: one or more, in the order of their starts.
    """
    begin, end = trials[0].started, max(entry.ended for entry in trials)
    unit, seconds = ("hours", 3600.0) if end - begin > 7200 else ("minutes", 60.0)
    lanes = lanes_of(trials)
    num_lanes = max(lanes) + 1
    figure = new_figure(1.4 + min(0.3 * num_lanes, 5.0))
    axes = figure.add_subplot()
    texts = [_tip_of(entry) for entry in trials]
    starts = np.array([(entry.started - begin) / seconds for entry in trials])
    walls = np.array([max(entry.ended - entry.started, 0.0) / seconds for entry in trials])
    training = np.array([sum(entry.computed.get(name, 0.0) for name in _TRAINING) / seconds for entry in trials])
    computed = np.array([entry.computed_seconds / seconds for entry in trials])
    training = np.minimum(training, walls)
    other = np.minimum(computed - np.minimum(computed, training), walls - training)
    places = np.array(lanes, dtype=np.float64)
    for left, width, color, label in (
        (starts, training, BLUE, "training"),
        (starts + training, other, ORANGE, "packing, scoring"),
        (starts + training + other, walls - training - other, "white", "starting, waiting"),
    ):
        seen = np.flatnonzero(width > 0)
        corners = np.stack([np.stack([left + a * width, places + b], -1)[seen] for a, b in _CORNERS], axis=1)
        bars = PolyCollection(list(corners), facecolors=color, edgecolors=INK, linewidths=0.3, label=label)
        add_tips(axes.add_collection(bars), [texts[number] for number in seen])
    for chosen, marker, label in (
        ([bool(shared_stages(entry)) for entry in trials], "D", "took stages from the store"),
        ([not entry.done for entry in trials], "x", "without a score"),
    ):
        at = starts if marker == "D" else starts + walls
        look: Style = {"color": INK, "markersize": 4.0, "markerfacecolor": "white"}
        axes.plot(at[chosen], places[chosen], marker, clip_on=False, label=label if any(chosen) else None, **look)
    every = 1 + num_lanes // 16
    axes.set_yticks(range(0, num_lanes, every), [str(lane + 1) for lane in range(0, num_lanes, every)])
    axes.set_ylim(num_lanes - 0.5, -0.5)
    axes.set_xlim(*limits([0.0, (end - begin) / seconds], 0.01))
    axes.set_ylabel("lane")
    axes.set_xlabel(f"{unit} since the first start")
    legend(figure)
    return figure


def _tip_of(entry: TrialEntry) -> str:
    return clean(f"{tip_of(entry)}, {entry.computed_seconds:,.1f} of {entry.total_seconds:,.1f} s computed", 160)


@style()
def draw_seconds(panels: Sequence[tuple[str, Sequence[tuple[float, TrialEntry]]]]) -> Figure:
    """Draws scores against seconds, and the seconds that the record track allows.

    Args: panels: label of the axis, and seconds with their finished trial, one or more; one or two panels.
    """
    figure = new_figure(3.4)
    limit = TRACK_SECONDS[RECORD]
    assert limit is not None
    for axes, (label, points) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        entries = [entry for _, entry in points]
        losses = np.array([loss_of(entry) for entry in entries])
        shown = np.array([score_of(entry) for entry in entries])
        top = largest_shown(losses)
        shown = np.where(losses > top, shown[losses == top][0], shown)
        seconds = np.array([second for second, _ in points])
        (dots,) = axes.plot(seconds, shown, "o", color=BLUE, markersize=4)
        add_tips(dots, [f"{tip_of(entry)}, {second:,.1f} s" for second, entry in points])
        axes.axvline(limit, color=ORANGE, linestyle="--", linewidth=1.3, label=f"{limit:,.0f} s")
        axes.set_ylim(*limits(shown, 0.12))
        _log_seconds(axes, [*seconds, limit])
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel(score_label(entries))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left")
    return figure


def _log_seconds(axes: Axes, seconds: Sequence[float]) -> None:
    """Makes a logarithmic axis with a few plain numbers."""
    axes.set_xscale("log")
    low, high = min(seconds) / 1.4, max(seconds) * 1.4
    axes.set_xlim(low, high)
    marks = [mark for mark in (a * 10.0**b for b in range(-3, 7) for a in (1, 3)) if low <= mark <= high]
    axes.set_xticks(marks[:: 1 + len(marks) // 5], [f"{mark:g}" for mark in marks[:: 1 + len(marks) // 5]])
    axes.xaxis.set_minor_formatter(NullFormatter())


def timeline_figure(results: Results) -> Drawn:
    """Draws when the trials ran."""
    trials = sorted(results.trials, key=lambda entry: (entry.started, entry.ended, entry.trial))
    if not trials:
        return None, "no trial is in the ledger."
    lanes = lanes_of(trials)
    caption = (
        "One bar a trial, from start to end. The ledger holds how long each stage took, not when: its bars are drawn "
        "from the start on, one after another. It does not hold which machine ran a trial: a lane is what never ran at "
        "the same time."
    )
    if max(lanes) >= _MAX_LANES:
        trials = [entry for entry, lane in zip(trials, lanes, strict=True) if lane < _MAX_LANES]
        caption += f" {len(lanes) - len(trials)} trials beyond {_MAX_LANES} lanes are not drawn."
    shared = sum(bool(shared_stages(entry)) for entry in trials)
    if shared:
        caption += f" {shared} of {len(results.trials)} took all or a part of a stage from the store (diamonds)."
    return draw_timeline(trials), caption


def seconds_figure(results: Results) -> Drawn:
    """Draws scores against seconds of training and of the evaluation that counts."""
    parts = (("training (s)", training_seconds), ("evaluation that counts (s)", evaluation_seconds))
    panels = []
    for label, seconds_of in parts:
        points = [(seconds_of(entry), entry) for entry in results.ranked]
        known = [(seconds, entry) for seconds, entry in points if seconds is not None and seconds > 0]
        panels += [(label, known)] if known else []
    if not panels and any(entry.total_seconds > 0 for entry in results.ranked):
        whole = [(entry.total_seconds, entry) for entry in results.ranked if entry.total_seconds > 0]
        panels = [("whole run (s)", whole)]
    if not panels:
        return None, "no finished trial here says how long it took."
    devices = sorted({"unknown" if entry.device is None else str(entry.device) for entry in results.ranked})
    return draw_seconds(panels), (
        f"Seconds of each part as if the trial had computed all of it, on {clean('; '.join(devices), 120)}. Dashed: "
        "the seconds that the record track allows for each, on 8 x H100."
    )
