"""Pictures of a sweep, drawn to a file without a screen.

Trees of trainings enter, an SVG or PNG leaves. Black on white, so that nothing depends on colour. Must compute nothing
that is recorded anywhere, and must leave matplotlib's settings as it found them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tune.cache.prefix_tree import Node

MAX_LABELS = 60
"""Labels of trainings at most; of more, evenly spaced ones are named."""
_ROW_POINTS = 17.0
_TEXT_POINTS = 8.0
_LABEL_LETTERS = 64


@dataclass(frozen=True)
class _Bar:
    """A run of steps at its place."""

    begin: int
    end: int
    row: float
    """From above."""
    joints: tuple[float, ...]
    """Rows of what follows."""
    num_trials: int
    ends: tuple[str, ...]
    """Who ends here."""
    end_row: float
    """Where that is said."""


def draw_tree(trees: Sequence[Node], names: Mapping[str, str], path: Path) -> None:
    """Draw the trees, optimiser steps from left to right, and write the picture.

    Args: names: the trials' names by the ids in the trees; path: its suffix says what is written: .svg or .png.
    Raises: ValueError for another suffix.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a picture is .svg or .png, got {path.name}")
    bars = list(_bars(trees))
    leaves = [bar for bar in bars if bar.ends]
    height = 0.9 + _ROW_POINTS / 72 * max(min(len(leaves), MAX_LABELS), 4)
    figure = Figure(figsize=(11.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    last = max((bar.end for bar in bars), default=1)
    _draw_lines(axes, bars, _ROW_POINTS * min(1.0, MAX_LABELS / max(len(leaves), 1)))
    _label(axes, leaves, names)
    rows_of_text = max(1.0, len(leaves) / MAX_LABELS)
    for bar in bars:
        if bar.end - bar.begin > 0.08 * last and (bar.joints[-1] - bar.joints[0] or 1.0) >= rows_of_text:
            _say_trials(axes, bar)
    _finish(axes, last, len(leaves))
    # Text as text, and the same bytes for the same tree.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tree"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(trees: Sequence[Node]) -> Iterator[_Bar]:
    """All nodes, each at the middle of the rows below it; every end of trainings takes the next row."""
    next_row = 0

    def place(node: Node) -> list[_Bar]:
        nonlocal next_row
        below = {name for child in node.children for name in child.trials}
        ends = tuple(name for name in node.trials if name not in below)
        end_row = float(next_row)
        next_row += bool(ends)
        inner = [place(child) for child in node.children]
        joints = ([end_row] if ends else []) + [bars[0].row for bars in inner]
        row = (joints[0] + joints[-1]) / 2
        own = _Bar(node.begin, node.end, row, tuple(joints), len(node.trials), ends, end_row)
        return [own, *(bar for bars in inner for bar in bars)]

    for tree in trees:
        yield from place(tree)


def _draw_lines(axes: Axes, bars: Sequence[_Bar], row_points: float) -> None:
    """A thick line for the steps, a thin one to what follows, a dot where trials end."""
    forks = [bar for bar in bars if len(bar.joints) > 1]
    ends = [bar for bar in bars if bar.ends]
    begins, tips = [bar.begin for bar in bars], [bar.end for bar in bars]
    axes.hlines([bar.row for bar in bars], begins, tips, color="black", linewidth=min(2.5, 0.5 * row_points))
    above, below = [bar.joints[0] for bar in forks], [bar.joints[-1] for bar in forks]
    axes.vlines([bar.end for bar in forks], above, below, color="black", linewidth=0.8)
    (dots,) = axes.plot([bar.end for bar in ends], [bar.end_row for bar in ends], "o", color="black", clip_on=False)
    dots.set_markersize(min(3.0, row_points))


def _label(axes: Axes, leaves: Sequence[_Bar], names: Mapping[str, str]) -> None:
    """Say who ends where: to the right of the end, or of a longer bar's end in the same row."""
    count = min(len(leaves), MAX_LABELS)
    chosen = {position * len(leaves) // count for position in range(count)}
    for position in sorted(chosen):
        bar = leaves[position]
        text = label_of([names[name] for name in bar.ends])
        _write(axes, text, (bar.end, bar.end_row), (5.0, 0.0), f"leaf-{position}", _TEXT_POINTS, "left")


def _write(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    points_off: tuple[float, float],
    identity: str,
    size: float,
    align: str,
) -> None:
    """Text beside a point of the axes, found by `identity` in an SVG; dollar signs are dollar signs."""
    axes.annotate(
        text,
        point,
        points_off,
        textcoords="offset points",
        horizontalalignment=align,
        verticalalignment="center",
        fontsize=size,
        gid=identity,
        parse_math=False,
    )


def label_of(names: Sequence[str]) -> str:
    """One line for the trials of one training: the name of a single one, else the words that all share."""
    if len(names) == 1:
        return _short(names[0])
    split = [name.split() for name in names]
    shared = [words[0] for words in zip(*split, strict=False) if len(set(words)) == 1]
    return (
        f"{_short(' '.join(shared))} ({len(names)} trials)" if shared else f"{_short(names[0])}, {len(names) - 1} more"
    )


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_LETTERS else text[: _LABEL_LETTERS - 3] + "..."


def _say_trials(axes: Axes, bar: _Bar) -> None:
    """Above a bar: how many trials go through it."""
    text = f"{bar.num_trials} trial" + ("s" if bar.num_trials != 1 else "")
    middle = (bar.begin + bar.end) / 2
    _write(axes, text, (middle, bar.row), (0.0, 5.5), f"bar-{bar.begin}-{bar.row:g}", 0.8 * _TEXT_POINTS, "center")


def _finish(axes: Axes, last: int, num_rows: int) -> None:
    """Axis, limits and label."""
    axes.set_xlim(0, last)
    axes.set_ylim(max(num_rows, 4) - 0.3, -0.8)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.set_xlabel("optimiser step (steps)")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
