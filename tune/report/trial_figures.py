"""Figures of many trials, with what each shows in words: bytes, seeds, and where an artifact's bytes go.

A trial without a score is shown by how it ended and never left out.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from golf.submission.study import Summary
from tune.records.entries import TrialEntry, unit_of
from tune.report.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    Drawn,
    Style,
    add_tips,
    count_axis,
    legend,
    limits,
    new_figure,
    stacked,
    style,
)
from tune.report.data import (
    STATE_NAMES,
    Group,
    Results,
    groups_of,
    loss_of,
    name_of,
    score_label,
    score_of,
)
from tune.report.text import clean, signed
from tune.study.stats import summarise

MAXROWS = 12
"""Configurations in one figure, at most."""
ROW = 0.24
"""Inches of a row with one line of text."""
_WHISKERS = 4.0
"""Losses more than so many interquartile ranges above the upper quartile would press all others into a corner."""


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the (bytes, loss) that no other point beats or equals in both, by bytes.

    Of equal points it is the first.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (*points[index], index)):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front


def largest_shown(losses: Iterable[float]) -> float:
    """Returns the largest loss that is no far outlier."""
    return float(boxplot_stats(list(losses), whis=_WHISKERS)[0]["whishi"])


def tip_of(entry: TrialEntry) -> str:
    """Returns what a pointer that rests on a trial shows."""
    partial = [f"{score.bpb:.4f} on the first chunks" for score in entry.screening[-1:] if not entry.done]
    value = f"{score_of(entry):.4f} {entry.unit}" if entry.done else ", ".join([STATE_NAMES[entry.state], *partial])
    return clean(f"{entry.trial[:12]}: {value}", 80)


@style()
def draw_sizes(trials: Sequence[TrialEntry], caps: Sequence[int], with_front: bool) -> Figure:
    """Draws scores against artifact bytes, the Pareto front and the caps; below it the bytes of trials without a score.

    Args: trials: one or more, each with an artifact; caps: byte caps; with_front: whether the trials compete; seeds of
        one configuration do not.
    """
    sizes = np.array([entry.artifact_bytes for entry in trials])
    done = [entry for entry in trials if entry.done]
    stopped = [state for state in STATE_NAMES if any(entry.state == state and not entry.done for entry in trials)]
    heights = [3.3] * bool(done) + [ROW * len(stopped)] * bool(stopped)
    figure = new_figure(sum(heights) + 1.0)
    panels = stacked(figure, heights)
    if done:
        _draw_done(panels[0], done, max(caps, default=0), with_front)
    if stopped:
        rows = [sizes[[entry.state == state and not entry.done for entry in trials]] for state in stopped]
        titles = [f"{STATE_NAMES[state]} ({len(row):,})" for state, row in zip(stopped, rows, strict=True)]
        panels[-1].eventplot(rows, lineoffsets=range(len(rows)), linelengths=0.6, color=INK)
        panels[-1].set_yticks(range(len(rows)), titles)
        panels[-1].tick_params(axis="y", length=0)
        panels[-1].set_ylim(len(rows) - 0.5, -0.5)
    for number, cap in enumerate(caps):
        for axes in panels:
            label = f"cap {cap:,} bytes" if axes is panels[0] else None
            axes.axvline(cap, color=INK, linewidth=1.2, linestyle=("--", ":", "-.")[number % 3], label=label)
    panels[-1].set_xlim(*limits([*sizes, *caps], 0.06))
    count_axis(panels[-1])
    panels[-1].set_xlabel("artifact, code and model (bytes)")
    legend(figure)
    return figure


def _draw_done(axes: Axes, done: Sequence[TrialEntry], cap: int, with_front: bool) -> None:
    """Draws the finished trials and their front, which goes on to the largest cap."""
    points = [(float(entry.artifact_bytes or 0), loss_of(entry)) for entry in done]
    top = largest_shown(loss for _, loss in points)
    shown, far = [p for p in points if p[1] <= top], [p for p in points if p[1] > top]
    sign = -1.0 if done[0].objective is not None and done[0].objective.maximize else 1.0
    axes.set_ylim(*limits([sign * loss for _, loss in shown], 0.12))
    dots: Style = {"color": GREY, "markersize": 4} if with_front else {"color": BLUE, "markersize": 6}
    at = [(size, sign * loss) for size, loss in shown]
    (markers,) = axes.plot(*zip(*at, strict=True), "o", markeredgecolor="white", markeredgewidth=0.4, **dots)
    near = [entry for entry in done if loss_of(entry) <= top]
    add_tips(markers, [f"{tip_of(entry)}, {entry.artifact_bytes:,} bytes" for entry in near])
    if with_front:
        front = [at[index] for index in front_of(shown)]
        x, y = zip(*front, (max(cap, front[-1][0]), front[-1][1]), strict=True)
        every, label = list(range(len(front))), f"Pareto front, best {y[-1]:.4f} {unit_of(done)}"
        axes.plot(x, y, "o-", drawstyle="steps-post", color=BLUE, markersize=5, markevery=every, label=label)
    if far:
        worst = sign * max(loss for _, loss in far)
        label = f"{len(far)} {'above' if sign > 0 else 'below'}, to {worst:.4g} {unit_of(done)}"
        at_top: Style = {"clip_on": False, "transform": axes.get_xaxis_transform(), "label": label}
        edge, marker = (1, "^") if sign > 0 else (0, "v")
        axes.plot([size for size, _ in far], [edge] * len(far), marker, color=ORANGE, **at_top)
    axes.set_ylabel(score_label(done))


@style()
def draw_seeds(groups: Sequence[Group], marks: Sequence[tuple[float, str]]) -> Figure:
    """Draws a dot for every seed, the mean and its interval; repeats are hollow.

    Args: groups: one or more, each with one seed or more; marks: scores of lines through all groups, with their
        labels; at most two.
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
        (dots,) = axes.plot(seeds, [row] * len(seeds), "o", color=BLUE, zorder=3)
        add_tips(dots, [f"seed {entry.seed}: {score_of(entry):.5f} {entry.unit}" for entry in group.seeds])
        axes.plot(repeats, [row] * len(repeats), "o", color=BLUE, markerfacecolor="white", zorder=4)
        unfinished = f",\n{len(group.unfinished)} without a result" if group.unfinished else ""
        labels.append(f"{clean(group.name, 28)}\n{_describe(summary)}{unfinished}")
    for (bpb, label), linestyle in zip(marks, ("--", ":"), strict=False):
        axes.axvline(bpb, color=ORANGE, linewidth=1.2, linestyle=linestyle, label=f"{label} {bpb:.4f}")
    axes.set_yticks(range(len(groups)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(score_label([entry for group in groups for entry in (*group.seeds, *group.repeats)]))
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
    axes.barh(places, packed, height=0.58, color=colors)
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


def bytes_figure(results: Results) -> Drawn:
    """Draws scores against bytes."""
    sized = [entry for entry in results.trials if entry.size is not None]
    if not sized:
        return None, "no trial here has an artifact."
    caption = "Each dot is a trial that was evaluated in full."
    if not results.is_study and results.ranked:
        caption += " The line is the Pareto front: no other trial is both smaller and better. The table below lists it."
    if not all(entry.done for entry in sized):
        caption += " The rows below the dots are trials that have bytes and no score."
    if len(sized) < len(results.trials):
        caption += f" Without an artifact and not shown: {len(results.trials) - len(sized)}."
    return draw_sizes(sized, results.caps, not results.is_study), caption


def seeds_figure(results: Results, baseline: Results | None) -> Drawn:
    """Draws seeds with intervals, and the baseline and margin of a study's verdict."""
    several = [group for group in groups_of(results) if len(group.seeds) > 1]
    if not several:
        return None, "no configuration has finished under more than one seed."
    shown = several[:MAXROWS]
    if baseline is not None and baseline.name != results.name:
        shown = [*several[: MAXROWS - 1], *(group for group in groups_of(baseline)[:1] if group.seeds)]
    caption = (
        "Each dot is a seed, the upright bar their mean, the line the 95 % t interval of the mean, which assumes "
        "independent normal values."
    )
    if any(group.repeats for group in shown):
        caption += " Hollow: the same seed run again, not in the mean."
    if len(several) > MAXROWS:
        caption += f" The best of {len(several)} configurations with several seeds."
    marks, comparison = [], None if results.verdict is None else results.verdict.verdict.comparison
    if comparison is not None and comparison.values:
        mean, margin = summarise(comparison.values).mean, comparison.gain_bpb.margin
        marks = [(mean, f"baseline {clean(comparison.baseline, 40)}")]
        marks += [(mean - margin, "less the margin")] if margin else []
    return draw_seeds(shown, marks), caption


def artifact_figure(results: Results) -> Drawn:
    """Draws where the bytes of the best trial's artifact go."""
    entry = next((entry for entry in results.ordered if entry.byte_groups), None)
    if entry is None:
        return None, "no trial here says where its artifact's bytes go."
    caption = f"{clean(name_of(entry), 120)} ({entry.trial}, {STATE_NAMES[entry.state]})."
    if entry.size is not None and entry.cap_bytes is not None:
        caption += f" {entry.size.artifact_bytes:,} of {entry.cap_bytes:,} bytes."
    return draw_bytes(entry), (
        f"{caption} Percentages: packed bytes against the order-0 entropy of the group's codes. Packed bytes hold the "
        "scales too, and are shares of the compressed whole; they fall below the entropy where the codec finds order "
        "between codes."
    )
