"""Figures of single runs beside each other: the ladder, and test-time training along the stream.

Plain values enter, figures leave. Black on white: what is looked at is black, what it is compared with is dashed.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT
from tune.report.canvas import (
    FAINT,
    GREY,
    INK,
    SMALL,
    TEXT,
    WIDTH,
    clean,
    label_ends,
    length_of,
    limits,
    number_axis,
    panel,
    sheet,
    signed,
    styled,
    thinned,
    write,
)
from tune.study.bootstrap import PairedDifference

RUNG_NAMES = {LIVE: "live", AVERAGED: "EMA", QUANTISED: "quantised", SLIDING: "sliding", TTT: "TTT"}
"""Rungs as people call them."""
Floats = NDArray[np.float64]
_SUBTITLE_LINES = 3
_LETTER = 0.075
"""Inches that a small letter takes at most on average."""
_SKIPPED_SHARE = 0.1
"""First part of a running mean that does not decide how far the axis reaches."""


@dataclass(frozen=True)
class Ladder:
    """BPB by rung, in order."""

    title: str
    subtitle: str
    rungs: Mapping[str, float]


def steps_of(ladder: Ladder) -> list[tuple[str, float, float]]:
    """(rung, from, to) of every rung after the first; each begins where the one before ended."""
    names, values = list(ladder.rungs), list(ladder.rungs.values())
    return list(zip(names[1:], values, values[1:], strict=False))


@styled
def draw_ladders(ladders: Sequence[Ladder]) -> Figure:
    """A waterfall for every ladder, side by side on one scale.

    Args: ladders: one or two, each with two rungs or more.
    """
    free = 0.8
    each = (WIDTH - free - 0.15 - free * (len(ladders) - 1)) / len(ladders)
    subtitles = [_wrapped(ladder.subtitle, int(each / _LETTER)) for ladder in ladders]
    above = 0.4 + 0.155 * max(subtitle.count("\n") + 1 for subtitle in subtitles)
    figure = sheet(0.35 + 3.1 + above)
    for number, (ladder, subtitle, edges) in enumerate(zip(ladders, subtitles, _scales(ladders), strict=True)):
        left = free + number * (each + free)
        axes = panel(figure, left, 0.35, WIDTH - left - each, above)
        axes.set_ylim(*edges)
        _draw_ladder(axes, ladder)
        number_axis(axes, "y", 7)
        if number == 0:
            axes.set_ylabel("BPB (bits per byte)")
        write(axes, subtitle, (0, 1), (0, 8), frame="axes fraction", vertical="bottom")
        up = 14.0 + 11.0 * (subtitle.count("\n") + 1)
        write(axes, clean(ladder.title, 40), (0, 1), (0, up), frame="axes fraction", size=TEXT, weight="bold")
    return figure


def _wrapped(text: str, letters: int) -> str:
    """At most so many lines of so many letters."""
    return "\n".join(textwrap.wrap(clean(text), letters, max_lines=_SUBTITLE_LINES, placeholder=" \u2026"))


def _scales(ladders: Sequence[Ladder]) -> list[tuple[float, float]]:
    """One scale for all; where they are far apart, scales of equal length, so that bars of equal height are equal."""
    spans = [limits(list(ladder.rungs.values()), 0.17) for ladder in ladders]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    longest = max(high - low for low, high in spans)
    if high - low <= 2.0 * longest:
        return [(low, high)] * len(spans)
    return [((low + high - longest) / 2, (low + high + longest) / 2) for low, high in spans]


def _draw_ladder(axes: Axes, ladder: Ladder) -> None:
    """Levels at both ends, a bar for every change: dark where BPB rises, white where it falls."""
    names, values = list(ladder.rungs), list(ladder.rungs.values())
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.set_xticks(range(len(names)), [RUNG_NAMES.get(name, name) for name in names])
    axes.tick_params(axis="x", length=0)
    axes.plot([-0.35, 0.35], [values[0]] * 2, color=INK, linewidth=2.2, solid_capstyle="butt")
    write(axes, f"{values[0]:.4f}", (0, values[0]), (0, 7), "center")
    for place, (_, before, after) in enumerate(steps_of(ladder), start=1):
        rises = after > before
        color = "0.35" if rises else "white"
        axes.bar(place, after - before, 0.62, before, color=color, edgecolor=INK, linewidth=0.9)
        axes.plot([place - 1 + 0.33, place - 0.31], [before] * 2, color=GREY, linewidth=0.7)
        # A fall is labelled below, beside the rise before it, but for the last, below which its level is said.
        below = not rises and place < len(names) - 1
        edge = min(before, after) if below else max(before, after)
        write(axes, signed(after - before), (place, edge), (0, -8 if below else 7), "center")
    last = len(names) - 1
    axes.plot([last - 0.31, last + 0.35], [values[-1]] * 2, color=INK, linewidth=2.2, solid_capstyle="butt")
    write(axes, f"{values[-1]:.4f}", (last, min(values[-1], values[-2])), (0, -8), "center", weight="bold")


@dataclass(frozen=True)
class StreamRun:
    """One model on the validation stream."""

    label: str
    nats: Floats
    """(num_chunks,) sums of NLL."""


@styled
def draw_stream(runs: Sequence[StreamRun], num_bytes: Floats, paired: PairedDifference | None) -> Figure:
    """Running BPB by chunk of one or two runs; below it, with two, their running difference.

    Args: runs: the candidate first; num_bytes: (num_chunks,) of text; paired: of the whole stream, candidate against
        the second, where there is one.
    """
    two = len(runs) == 2 and paired is not None
    figure = sheet(5.3 if two else 3.0)
    below = 2.65 if two else 0.5
    lines = [np.cumsum(run.nats) / np.cumsum(num_bytes) / math.log(2) for run in runs]
    words = [f"{clean(run.label, 30)} {line[-1]:.4f}" for run, line in zip(runs, lines, strict=True)]
    right = max(1.6, *(length_of(text, SMALL) + 0.2 for text in words))
    axes = panel(figure, 0.95, below, right, 0.15)
    chunks = np.arange(1, len(num_bytes) + 1, dtype=np.float64)
    axes.set_xlim(1 if len(chunks) > 1 else 0.5, max(len(chunks), 1.5))
    settled = int(_SKIPPED_SHARE * len(chunks))
    axes.set_ylim(*limits(np.concatenate([line[settled:] for line in lines]).tolist()))
    for place, line in reversed(list(enumerate(lines))):
        x, y = thinned(chunks, line)
        dash = "-" if place == 0 else (0, (4, 2))
        axes.plot(
            x, y, color=INK, linewidth=1.5 if place == 0 else 1.0, linestyle=dash, marker=_marker(chunks), markersize=3
        )
    label_ends(axes, [(float(chunks[-1]), float(line[-1]), text) for line, text in zip(lines, words, strict=True)])
    axes.set_ylabel("running BPB (bits per byte)")
    number_axis(axes, "y", 6)
    if two and paired is not None:
        axes.tick_params(labelbottom=False)
        lower = panel(figure, 0.95, 0.5, right, 5.3 - 2.45, share=axes)
        _draw_difference(lower, chunks, runs[1].nats - runs[0].nats, num_bytes, paired)
        axes = lower
    axes.set_xlabel("chunk of the validation stream (chunks scored)")
    number_axis(axes, "x", 7, ",.0f", whole=True)
    return figure


def _draw_difference(axes: Axes, chunks: Floats, nats: Floats, num_bytes: Floats, paired: PairedDifference) -> None:
    """Every chunk's difference, the running one, and the interval of the last at its end."""
    running = np.cumsum(nats) / np.cumsum(num_bytes) / math.log(2)
    single = nats / np.maximum(num_bytes, 1.0) / math.log(2)
    settled = int(_SKIPPED_SHARE * len(chunks))
    shown = [*running[settled:].tolist(), 0.0, *(paired.bpb_interval or ())]
    low, high = np.quantile(single, [0.02, 0.98]).tolist()
    axes.set_ylim(*limits([*shown, low, high]))
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    x, y = thinned(chunks, single)
    axes.plot(x, y, ".", color=FAINT, markersize=3.5)
    x, y = thinned(chunks, running)
    axes.plot(x, y, color=INK, linewidth=1.5, marker=_marker(chunks), markersize=3)
    end, last = float(chunks[-1]), float(running[-1])
    # The interval stands beside the last chunk, in axes that end there.
    if paired.bpb_interval is not None:
        low, high = paired.bpb_interval
        beside = axes.transData + ScaledTranslation(7.0 / 72, 0, axes.figure.dpi_scale_trans)
        axes.plot(
            [end, end], [low, high], "_-", color=INK, linewidth=1.2, markersize=7, transform=beside, clip_on=False
        )
        axes.plot([end], [last], "o", color=INK, markersize=4, transform=beside, clip_on=False)
    text = f"{signed(paired.bpb)} BPB"
    write(axes, text, (end, last), (16.0, 5.5), weight="bold")
    inner = "no interval" if paired.bpb_interval is None else " to ".join(map(signed, paired.bpb_interval))
    write(axes, inner, (end, last), (16.0, -5.5))
    axes.set_ylabel("BPB saved against\nthe dashed run")
    number_axis(axes, "y", 6)


def _marker(chunks: Floats) -> str | None:
    return "o" if len(chunks) <= 25 else None
