"""Figures of a search, with what each shows in words: its history, every searched field, and which of them matter.

Trials that were stopped early have a partial score, of the first chunks of the validation stream. It compares with its
like only, so that it has panels of its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from tune.records.entries import TrialEntry
from tune.report.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    Drawn,
    Style,
    add_tips,
    legend,
    limits,
    new_figure,
    style,
)
from tune.report.data import STATE_NAMES, PartialScore, Results, loss_of, score_label, score_of, varying_fields
from tune.report.run_figures import RUNG_NAMES
from tune.report.text import clean
from tune.report.trial_figures import ROW, largest_shown, tip_of
from tune.search.importance import CHANCE_LEVEL, MIN_TRIALS, TOP_SHARE, Importance, field_importances

_MAX_CHOICES = 8
"""Different numbers of a field up to which each has a row of its own."""
_MAX_NAMED = 24
"""Choices of a field that are named, at most; of more, evenly spaced ones are."""
_BEST_SHARE = 0.1
"""Share of the finished trials that is highlighted."""
_LEAST_FOR_MEDIAN = 3
"""Finished trials of a choice from which on its median is drawn."""
_HOUR = 3600.0
_FINISHED: Style = {"color": "white", "markeredgecolor": GREY, "markeredgewidth": 0.7, "markersize": 3.5}
_BEST: Style = {"color": BLUE, "markersize": 4}
_STOPPED: Style = {"color": "white", "markeredgecolor": INK, "markeredgewidth": 0.7, "markersize": 4}
"""A trial that was stopped early, at its partial score."""


@style()
def draw_history(results: Results) -> Figure:
    """Draws scores in the order in which trials ended, and by the time; below them the partial scores."""
    trials = sorted(results.trials, key=lambda entry: (entry.ended, entry.trial))
    begin = min(entry.started for entry in trials)
    span = max(entry.ended for entry in trials) - begin
    unit, seconds = ("hours", _HOUR) if span > 2 * _HOUR else ("minutes", 60.0)
    times = np.array([(entry.ended - begin) / seconds for entry in trials])
    partial = {score.entry.identity: score.value for score in results.partial}
    done = np.array([entry.done for entry in trials])
    has_partial = np.array([entry.identity in partial for entry in trials])
    heights = [2.4] * bool(done.any()) + [1.5] * bool(partial)
    figure = new_figure(sum(heights) + 1.0)
    grid = figure.subplots(len(heights), 2, sharex="col", sharey="row", squeeze=False, height_ratios=heights)
    for column, x in zip(grid.T, (np.arange(1.0, len(trials) + 1), times), strict=True):
        if done.any():
            _draw_best_so_far(column[0], x, trials)
        if partial:
            stopped = has_partial & ~done
            for chosen, marker, look in ((has_partial & done, "o", _FINISHED), (stopped, "v", _STOPPED)):
                y = [partial[trial.identity] for trial, is_chosen in zip(trials, chosen, strict=True) if is_chosen]
                texts = [tip_of(trial) for trial, is_chosen in zip(trials, chosen, strict=True) if is_chosen]
                _points(column[-1], x[chosen], y, texts, marker, look)
            column[-1].set_ylim(*limits(_shown(np.array(list(partial.values())))))
    grid[-1][0].set_xlabel("trials, as they ended")
    grid[-1][0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[-1][1].set_xlabel(f"{unit} since the first start")
    if done.any():
        grid[0][0].set_ylabel(score_label(results.trials).replace(", ", ",\n"))
        grid[0][0].plot([], color=ORANGE, label="best so far")
        grid[0][0].plot([], "o", label="finished", **_BEST)
    if partial:
        grid[-1][0].set_ylabel(f"{_partial_label(results.partial)}\n")
        if (has_partial & done).any():
            grid[-1][0].plot([], "o", label="went on", **_FINISHED)
        grid[-1][0].plot([], "v", label="stopped early", **_STOPPED)
    if done.any() and not done.all():
        grid[0][0].plot([], "x", color=GREY, markersize=4, label="without a score")
    legend(figure)
    return figure


def _draw_best_so_far(axes: Axes, x: Any, trials: Sequence[TrialEntry]) -> None:
    """Draws the finished trials with the best until each of them; at the lower edge those without any score."""
    done = np.array([entry.done for entry in trials])
    scores = np.array([score_of(entry) for entry in trials if entry.done])
    losses = np.array([loss_of(entry) for entry in trials if entry.done])
    shown = _within(scores, losses)
    best = scores[np.maximum.accumulate(np.where(losses == np.minimum.accumulate(losses), np.arange(len(losses)), 0))]
    ends = np.append(x[done], x[-1])
    axes.plot(ends, np.append(best, best[-1]), color=ORANGE, drawstyle="steps-post", linewidth=1.3)
    _points(axes, x[done], shown, [tip_of(entry) for entry in trials if entry.done], "o", _BEST)
    axes.set_ylim(*limits(shown, 0.12))
    others = x[[not entry.done for entry in trials]]
    axes.plot(others, np.full(len(others), 0.03), "x", color=GREY, markersize=3.5, transform=axes.get_xaxis_transform())


def _points(axes: Axes, x: Any, y: Any, texts: Sequence[str], marker: str, look: Style) -> None:
    """Draws markers with a text each."""
    (points,) = axes.plot(x, y, marker, **look)
    add_tips(points, texts)


def _partial_label(partial: Sequence[PartialScore]) -> str:
    name = partial[0].name
    if partial[0].entry.screening:
        return f"{RUNG_NAMES.get(name, clean(name, 16))} BPB,\nfirst chunks"
    return clean(name, 40).replace(" at step ", ",\nat step ")


def _shown(losses: Any) -> Any:
    """Returns losses of which far outliers are taken down to the largest other one."""
    return np.minimum(losses, largest_shown(losses))


def _within(scores: Any, losses: Any) -> Any:
    """Returns scores of which those far worse than all others are moved to the worst other one."""
    return _shown(scores) if (losses == scores).all() else -_shown(losses)


@style()
def draw_search(results: Results, fields: Sequence[str]) -> Figure:
    """Draws scores by the value of every field, one panel a field; then partial scores, and how the others ended.

    Args: fields: searched fields with more than one value.
    """
    trials = results.trials
    partial = {score.entry.identity: score.value for score in results.partial if not score.entry.done}
    done = np.array([entry.done for entry in trials])
    stopped = np.array([entry.identity in partial for entry in trials])
    others = ~done & ~stopped
    states = [state for state in STATE_NAMES if any(e.state == state for e, o in zip(trials, others, strict=True) if o)]
    columns = [_rows_of([entry.parameters.get(field) for entry in trials]) for field in fields]
    heights = [0.3 + ROW * min(max(len(choices) or 4, 2), _MAX_NAMED) for _, choices in columns]
    widths = [4.0] * bool(done.any()) + [2.0] * bool(partial) + [0.4 * len(states)] * bool(states)
    figure = new_figure(sum(heights) + 1.5)
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
    ends = np.array([states.index(e.state) for e, o in zip(trials, others, strict=True) if o]) + jitter[1][others]
    texts = np.array([tip_of(entry) for entry in trials], dtype=object)
    scores = np.array([score_of(entry) for entry in trials if entry.done])
    losses = np.array([loss_of(entry) for entry in trials if entry.done])
    values = _shown(np.array([partial[e.identity] for e in trials if e.identity in partial])) if partial else []
    for row, field, (positions, choices) in zip(grid, fields, columns, strict=True):
        y, panels = positions + jitter[0] if choices else positions, list(row)
        if done.any():
            axes = panels.pop(0)
            _draw_scores(axes, scores, losses, y[done], texts[done])
            for place in np.unique(positions[done]) if choices else ():
                alike = scores[positions[done] == place]
                if len(alike) >= _LEAST_FOR_MEDIAN:
                    axes.vlines(np.median(alike), place - 0.4, place + 0.4, color=ORANGE, linewidth=2.0)
        if partial:
            _points(panels[0], values, y[stopped], texts[stopped], "v", _STOPPED)
            panels.pop(0).set_xlim(*limits(values))
        if states:
            panels[0].plot(ends, y[others], "x", color=GREY, markersize=3, markeredgewidth=0.7)
        _name_rows(row[0], field, positions, choices)
    if states:
        grid[-1][-1].set_xlim(-0.5, len(states) - 0.5)
        grid[-1][-1].set_xticks(range(len(states)), [STATE_NAMES[state] for state in states], rotation=90)
    if partial:
        axes = grid[-1][int(done.any())]
        axes.set_xlabel(_partial_label(results.partial))
        axes.xaxis.set_major_locator(MaxNLocator(2))
        grid[0][0].plot([], "v", label="stopped early, at its partial score", **_STOPPED)
    if done.any():
        grid[-1][0].set_xlabel(score_label(trials))
        grid[0][0].plot([], "o", label=f"best {_BEST_SHARE:.0%}", **_BEST)
        grid[0][0].plot([], "o", label="other finished trials", **_FINISHED)
        grid[0][0].plot([], "|", color=ORANGE, markersize=10, markeredgewidth=2.0, label="median of a choice")
    if done.any() or partial:
        legend(figure, 2)
    return figure


def _rows_of(values: Sequence[Any]) -> tuple[Any, list[str]]:
    """Returns the position of every value, and the texts of positions 0, 1, ...; none for a field of many numbers."""
    different = {repr(value): value for value in values}
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in different.values())
    if is_number and len(different) > _MAX_CHOICES:
        return np.array(values, dtype=np.float64), []
    rows = sorted(different, key=different.__getitem__) if is_number else sorted(different)
    texts = [f"{value:g}" if isinstance(value, float) else clean(value, 24) for value in map(different.get, rows)]
    return np.array([rows.index(repr(value)) for value in values], dtype=np.float64), texts


def _name_rows(axes: Axes, field: str, positions: Any, choices: Sequence[str]) -> None:
    """Names the field and its choices."""
    axes.set_title(clean(field, 30))
    if choices:
        every = math.ceil(len(choices) / _MAX_NAMED)
        axes.set_ylim(-0.5, len(choices) - 0.5)
        axes.set_yticks(range(0, len(choices), every), choices[::every])
    elif positions.min() > 0 and positions.max() / positions.min() > 30:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_scores(axes: Axes, scores: Any, losses: Any, y: Any, texts: Any) -> None:
    """Draws the finished trials, the best of them highlighted; far outliers are at the edge."""
    best = losses <= np.quantile(losses, _BEST_SHARE, method="lower")
    shown = _within(scores, losses)
    for chosen, look in ((~best, _FINISHED), (best, _BEST)):
        _points(axes, shown[chosen], y[chosen], texts[chosen], "o", look)
    axes.set_xlim(*limits(shown))


@style()
def draw_importance(importances: Sequence[Importance]) -> Figure:
    """Draws a bar for every field's share, and a mark at what it has by chance.

    Args: importances: one or more, the most important first.
    """
    figure = new_figure(0.8 + 0.3 * len(importances))
    axes = figure.add_subplot()
    places = np.arange(len(importances))
    shares, chances = 100 * np.array([(item.share, item.chance) for item in importances]).T
    axes.barh(places, shares, height=0.55, color=BLUE)
    axes.vlines(chances, places - 0.4, places + 0.4, color=INK, linewidth=2.0)
    ends = axes.barh(places, np.maximum(shares, chances), fill=False, linewidth=0)
    axes.bar_label(ends, [f"{share:.0f} %" for share in shares], padding=4, fontsize=8)
    axes.set_yticks(places, [clean(item.field, 40) for item in importances])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(f"importance (%); upright mark: by chance {CHANCE_LEVEL:.0%} end below it")
    return figure


def history_figure(results: Results) -> Drawn:
    """Draws how the search went on."""
    if not any(entry.done for entry in results.trials) and not results.partial:
        return None, "no trial here has a score, not even of its first chunks."
    caption = "Left: by trial, in the order in which they ended; right: by the time at which they ended."
    if results.partial:
        caption += (
            " Below: scores of a first part, by which trials are screened; they compare with each other only, not "
            "with the scores above."
        )
    if results.partial and not any(score.entry.done for score in results.partial):
        caption += " Those of the trials that went on are not in the ledger."
    return draw_history(results), f"{caption} Scores far worse than all others are drawn at the edge."


def search_figure(results: Results) -> Drawn:
    """Draws scores by the value of every searched field."""
    fields = varying_fields(results.trials)
    if not fields:
        return None, "no searched field has more than one value here."
    return draw_search(results, fields), (
        "Each dot is a finished trial, one panel a field. Triangles: trials that were stopped early, at their partial "
        "scores. Crosses: trials without any score, by how they ended. Marks of one choice are spread in height to be "
        "seen. Scores far worse than all others are drawn at the edge."
    )


def importance_figure(results: Results) -> Drawn:
    """Draws how much the searched fields matter."""
    finished = results.ranked
    stopped = [score for score in results.partial if not score.entry.done]
    # A script's curve may be of the metric that counts, of which more may be better; a rung's score is BPB.
    sign = (
        -1
        if any(
            e.objective and e.objective.maximize and s.name.startswith(f"{e.unit} ") for e in finished for s in stopped
        )
        else 1
    )
    losses, values = [loss_of(entry) for entry in finished], sorted(sign * score.value for score in stopped)
    ranks = [float(losses.index(loss)) for loss in losses]
    ranks += [float(len(losses) + values.index(sign * score.value)) for score in stopped]
    entries = [*finished, *(score.entry for score in stopped)]
    importances = field_importances([entry.parameters for entry in entries], ranks)
    if not importances:
        few = f"{len(entries)} trial{' has' if len(entries) == 1 else 's have'} a score, full or partial: too few"
        why = few if len(entries) < MIN_TRIALS else "nothing differs among the trials with a score"
        return None, f"{why}; it takes {MIN_TRIALS} of which fields and scores differ."
    partial = f" {len(stopped)} of them were stopped early and rank behind the others, by their partial scores."
    return draw_importance(importances), (
        f"PED-ANOVA: how far the best {TOP_SHARE:.0%} of {len(entries)} trials differ from all of them in each field."
        f"{partial if stopped else ''} A bar that ends before its mark can be chance: with the scores dealt to the "
        f"trials at random, {CHANCE_LEVEL:.0%} of the bars end before it. Trials without a score have no part in this."
    )
