"""Figures of single runs, with what each shows in words: training curves, the ladder, the validation stream.

Losses at equal steps cannot be compared across schedules once a warmdown has started, so its start is marked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT
from tune.records.entries import TrialEntry
from tune.report.canvas import (
    BLUE,
    GREY,
    INK,
    LINES,
    SETTLED_SHARE,
    Drawn,
    Floats,
    Style,
    count_axis,
    legend,
    limits,
    new_figure,
    stacked,
    style,
)
from tune.report.data import ReadSeries, Results, Subject, ladder_of, paired_entries
from tune.report.text import clean, signed
from tune.study.bootstrap import MIN_CHUNKS, STREAM_CLAIM, PairedDifference, paired_bootstrap

RUNG_NAMES = {LIVE: "live", AVERAGED: "EMA", QUANTISED: "quantised", SLIDING: "sliding", TTT: "TTT"}
"""Names of the rungs in tables and figures."""
_MAX_MARKERS = 500
"""Single chunks that are drawn, at most about; more cannot be seen."""
Ladder = Mapping[str, float]
"""BPB by rung, in order."""
MAX_OTHERS = 40
"""Trainings that are drawn beside the labelled ones, at most."""
SMOOTHING_SHARE = 40
"""A running mean covers one part in `SMOOTHING_SHARE` of a training's steps."""
_MAX_POINTS = 200
"""Points of a smoothed line, about: more cannot be seen and make the page slow."""
_NO_POINTS: Floats = np.empty((0, 3))
_RAW = "0.55"
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
        panels[1].set_ylabel("validation BPB\n(during training)")
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
        axes.plot(*training.loss.T, color=_RAW, linewidth=0.4, zorder=1)
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
        axes.set_title(clean(title, 20), fontweight="bold")
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
    names = [RUNG_NAMES.get(name, clean(name, 16)) for name in ladder]
    axes.set_xticks(places, ["\n" * (number % 2) + name for number, name in enumerate(names)])
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
    axes.plot(chunks, single, ".", color=_RAW, markersize=3, markevery=every, zorder=1)
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


def ladder_figure(subjects: Sequence[Subject]) -> Drawn:
    """Draws the ladder as a waterfall."""
    ladders = {_heading(subject): ladder_of(subject.entries) for subject in subjects}
    ladders = {title: ladder for title, ladder in ladders.items() if len(ladder) > 1}
    if not ladders:
        return None, "no trial here was evaluated on two rungs of a ladder."
    caption = "What each stage adds to the BPB (dark) or takes from it (white), measured from the stage before."
    if any(QUANTISED in ladder for ladder in ladders.values()):
        caption += " From the quantised rung on, the artifact is measured that was read back from the disk."
    caption += "".join(f" {_heading(subject)}: {clean(subject.label, 200)}." for subject in subjects)
    caption += " Means over the seeds." if any(len(subject.entries) > 1 for subject in subjects) else ""
    return draw_ladders(ladders), caption


def stream_figure(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> Drawn:
    """Draws the running BPB along the validation stream, and the paired difference of two runs."""
    entries = paired_entries(subjects)
    sums = [_chunk_sums(entry, read_series) for entry in entries]
    if not entries or not len(sums[0]):
        return None, "no finished trial here has sums by chunk of the validation stream."
    rung, paired = entries[0].rungs[-1].name, None
    caption = f"Running BPB of the score that counts ({RUNG_NAMES.get(rung, rung)})."
    if rung == TTT:
        caption += " Every token is scored before the model is trained on it."
    if len(sums) == 2 and sums[0].shape == sums[1].shape and np.array_equal(sums[0][:, 1:], sums[1][:, 1:]):
        paired = paired_bootstrap(sums[0][:, 0], sums[1][:, 0], sums[0][:, 2], sums[0][:, 1])
        caption += _paired_caption(paired, len(sums[0]))
    elif len(sums) == 2:
        caption += f" The {subjects[1].role} was not scored over the same chunks: there is no paired difference."
    elif results.is_study:
        caption += " Seeds of one configuration are not compared; --baseline names something to compare with."
    else:
        caption += " There is no second finished trial to compare with."
    labels = [_run_label(subject, entry) for subject, entry in zip(subjects, entries, strict=True)]
    runs = {label: chunks[:, 0] for label, chunks in zip(labels, sums if paired else sums[:1], strict=False)}
    return draw_stream(runs, sums[0][:, 2], paired), caption


def _chunk_sums(entry: TrialEntry, read_series: ReadSeries) -> Floats:
    """Returns NLL in nats, tokens and bytes by chunk of the rung that counts, (num_chunks, 3); empty without any."""
    return read_series(entry).chunks.get(entry.rungs[-1].name, _NO_POINTS) if entry.rungs else _NO_POINTS


def _paired_caption(paired: PairedDifference, num_chunks: int) -> str:
    """Returns what the lower panel shows and can claim."""
    caption = " Below: running difference to the dashed run, above 0 where the first is better; dots: single chunks."
    if paired.bpb_interval is None:
        return f"{caption} {num_chunks} chunks are too few for a block bootstrap (at least {MIN_CHUNKS}): no interval."
    block = f"{paired.block_chunks} chunk{'s' if paired.block_chunks > 1 else ''} a block"
    return f"{caption} At the end: its {paired.level:.0%} interval by a block bootstrap ({block}). {STREAM_CLAIM}"


def training_figure(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> Drawn:
    """Draws the training curves."""
    shown, has_more = trainings_of(results, subjects, read_series)
    if not shown:
        return None, "no trial here has a training curve."
    caption = f"Training loss by step: raw (grey, thin), and the running mean over 1/{SMOOTHING_SHARE} of the steps."
    if any(training.label is None for training in shown):
        caption += f" Grey lines: {f'{MAX_OTHERS} of the next best trials' if has_more else 'all others'}."
    caption += " Trials that share a training are one line."
    if any(training.warmdown_start is not None for training in shown):
        caption += " Losses at equal steps compare only before the first warmdown starts."
    if not any(len(training.validation) for training in shown):
        caption += " No validation was run during training."
    return draw_trainings(shown), caption


def trainings_of(results: Results, subjects: Sequence[Subject], read_series: ReadSeries) -> tuple[list[Training], bool]:
    """Returns different trainings, those of the subjects first and with their names, and whether there may be more."""
    pairs = list(zip(subjects, paired_entries(subjects), strict=True))
    labels = {entry.identity: _run_label(subject, entry) for subject, entry in pairs}
    others = [entry for entry in results.ordered if entry.identity not in labels]
    trainings: dict[bytes, Training] = {}
    for entry in [*(entry for _, entry in pairs), *others]:
        if sum(training.label is None for training in trainings.values()) == MAX_OTHERS:
            return list(trainings.values()), True
        curves, label = read_series(entry).curves, labels.get(entry.identity)
        loss = curves.get("train_loss", _NO_POINTS)[:, [0, 2]]
        key = loss.tobytes()
        if key in trainings and label is not None:
            trainings[key] = replace(trainings[key], label=f"{trainings[key].label} and {label}")
        elif len(loss) and key not in trainings:
            validation = curves.get("validation_bpb", _NO_POINTS)[:, [0, 2]]
            trainings[key] = Training(label, loss, validation, _warmdown_start(entry))
    return list(trainings.values()), False


def _warmdown_start(entry: TrialEntry) -> int | None:
    """Returns the step at which the learning rate starts to fall; None where the configuration has no such field."""
    schedule = entry.config.get("schedule")
    start = schedule.get("warmdown_start") if isinstance(schedule, dict) else None
    return start if isinstance(start, int) else None


def _heading(subject: Subject) -> str:
    return subject.role[:1].upper() + subject.role[1:]


def _run_label(subject: Subject, entry: TrialEntry) -> str:
    """Returns the label of a single run of the subject."""
    if len(subject.entries) == 1:
        return subject.role
    return f"{'baseline, ' if subject.role.startswith('baseline') else ''}seed {entry.seed}"
