"""Draws the tree of a sweep's trainings to a file, without a screen.

Black on white, so that nothing depends on colour. The same tree gives the same bytes, and matplotlib's settings stay
as they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune.cache.prefix_tree import Node

MAX_LABELS = 60
"""Trainings that are named, at most; of more, evenly spaced ones are."""
_ROW_POINTS = 17.0
"""Height of a row with one label."""
_LABEL_LETTERS = 64
_COUNTED_SHARE = 0.08
"""Share of all steps from which on a bar is long enough for its number of trials."""

_TEXT: dict[str, Any] = {"textcoords": "offset points", "va": "center", "parse_math": False}
"""Labels beside a point; dollar signs are dollar signs."""


@dataclass(frozen=True)
class _Bar:
    """A node of a tree with its place in the picture; rows are counted from above."""

    node: Node
    ends: tuple[str, ...]
    """Trials whose training ends with this node."""
    end_row: float
    """Row of their label."""
    branch_rows: tuple[float, ...]
    """Rows of what follows: the label and the node's children."""

    @property
    def row(self) -> float:
        """Row of the node: the middle of what follows."""
        return (self.branch_rows[0] + self.branch_rows[-1]) / 2


def draw_tree(trees: Sequence[Node], names: Mapping[str, str], path: Path) -> None:
    """Draws the trees, optimiser steps from left to right, and writes the picture.

    Args:
        names: names of the trials by the ids in the trees.
        path: its suffix is the format: .svg or .png.

    Raises:
        ValueError: for another suffix.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a picture is .svg or .png, got {path.name}")
    bars = list(_bars(trees))
    leaves = [bar for bar in bars if bar.ends]
    rows_per_label = max(1.0, len(leaves) / MAX_LABELS)
    figure = Figure(figsize=(11.0, 0.9 + _ROW_POINTS / 72 * max(len(leaves) / rows_per_label, 4)), layout="constrained")
    axes = figure.add_subplot()
    _draw_lines(axes, bars, _ROW_POINTS / rows_per_label)
    _label_leaves(axes, leaves, names)
    _label_counts(axes, bars, rows_per_label)
    axes.set_xlim(0, max((bar.node.end for bar in bars), default=1))
    axes.set_ylim(max(len(leaves), 4) - 0.3, -0.8)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("optimiser step")
    axes.spines[["left", "right", "top"]].set_visible(False)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tree"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(trees: Sequence[Node]) -> Iterator[_Bar]:
    """Returns all nodes, parents first; every end of trainings takes the next row."""
    next_row = 0

    def placed(node: Node) -> list[_Bar]:
        nonlocal next_row
        going_on = {name for child in node.children for name in child.trials}
        ends = tuple(name for name in node.trials if name not in going_on)
        end_row = float(next_row)
        next_row += bool(ends)
        children = [placed(child) for child in node.children]
        branch_rows = ([end_row] if ends else []) + [bars[0].row for bars in children]
        return [_Bar(node, ends, end_row, tuple(branch_rows)), *(bar for bars in children for bar in bars)]

    for tree in trees:
        yield from placed(tree)


def _draw_lines(axes: Axes, bars: Sequence[_Bar], row_points: float) -> None:
    """Draws a thick line for the steps of a node, a thin one to what follows, and a dot where trainings end."""
    begins, ends = [bar.node.begin for bar in bars], [bar.node.end for bar in bars]
    axes.hlines([bar.row for bar in bars], begins, ends, color="black", linewidth=min(2.5, row_points / 2))
    forks = [bar for bar in bars if len(bar.branch_rows) > 1]
    above, below = [bar.branch_rows[0] for bar in forks], [bar.branch_rows[-1] for bar in forks]
    axes.vlines([bar.node.end for bar in forks], above, below, color="black", linewidth=0.8)
    dots = [(bar.node.end, bar.end_row) for bar in bars if bar.ends]
    axes.plot(*np.reshape(dots, (-1, 2)).T, "o", color="black", markersize=min(3.0, row_points), clip_on=False)


def _label_leaves(axes: Axes, leaves: Sequence[_Bar], names: Mapping[str, str]) -> None:
    """Names the trials beside the end of their training; the labels' ids in an SVG are leaf-0, leaf-1, ..."""
    count = min(len(leaves), MAX_LABELS)
    for index in (number * len(leaves) // count for number in range(count)):
        bar = leaves[index]
        text = label_of([names[name] for name in bar.ends])
        point = bar.node.end, bar.end_row
        axes.annotate(text, point, (5.0, 0.0), gid=f"leaf-{index}", fontsize=8, ha="left", **_TEXT)


def _label_counts(axes: Axes, bars: Sequence[_Bar], rows_per_label: float) -> None:
    """Writes above every bar with enough space how many trials share it."""
    last = max((bar.node.end for bar in bars), default=1)
    for bar in bars:
        node, rows = bar.node, bar.branch_rows[-1] - bar.branch_rows[0] or 1.0
        if node.end - node.begin > _COUNTED_SHARE * last and rows >= rows_per_label:
            text = f"{len(node.trials)} trial{'s' if len(node.trials) != 1 else ''}"
            axes.annotate(text, ((node.begin + node.end) / 2, bar.row), (0.0, 5.5), fontsize=6.4, ha="center", **_TEXT)


def label_of(names: Sequence[str]) -> str:
    """Returns one line for the trials of one training: the name of a single one, else the words that all share."""
    if len(names) == 1:
        return _shortened(names[0])
    split = [name.split() for name in names]
    shared = [words[0] for words in zip(*split, strict=False) if len(set(words)) == 1]
    if not shared:
        return f"{_shortened(names[0])}, {len(names) - 1} more"
    return f"{_shortened(' '.join(shared))} ({len(names)} trials)"


def _shortened(text: str) -> str:
    return text if len(text) <= _LABEL_LETTERS else f"{text[: _LABEL_LETTERS - 3]}..."
