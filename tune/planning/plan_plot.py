"""Draws the tree of a sweep's trainings to a file, without a screen.

Black on white, so that nothing depends on colour. The same tree gives the same bytes, and matplotlib's settings stay
as they are.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
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


def draw_tree(trees: Sequence[Node], names: Mapping[str, str], path: Path) -> None:
    """Draws the trees, optimiser steps from left to right, and writes the picture.

    Args: names: names of the trials by the ids in the trees; path: its suffix is the format: .svg or .png.
    Raises: ValueError for another suffix.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a picture is .svg or .png, got {path.name}")
    placed = _Placed()
    for tree in trees:
        placed.add(tree)
    num_rows = len(placed.leaves)
    rows_per_label = max(1.0, num_rows / MAX_LABELS)
    figure = Figure(figsize=(11.0, 0.9 + _ROW_POINTS / 72 * max(num_rows / rows_per_label, 4)), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, placed, names, rows_per_label)
    axes.set_ylim(max(num_rows, 4) - 0.3, -0.8)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("optimiser step")
    axes.spines[["left", "right", "top"]].set_visible(False)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tree"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


@dataclass(frozen=True)
class _Placed:
    """Nodes with their places in the picture; rows are counted from above."""

    bars: list[tuple[Node, float, float]] = field(default_factory=list)
    """Nodes, their rows, and the rows between the first and the last of what follows."""
    forks: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, first and last row of the lines between a node and what follows."""
    leaves: list[tuple[int, list[str]]] = field(default_factory=list)
    """By row the step and the trials whose training ends there."""

    def add(self, node: Node) -> float:
        """Places a node and all below it; returns its row, the middle of what follows."""
        rows = []
        going_on = {name for child in node.children for name in child.trials}
        ends = [name for name in node.trials if name not in going_on]
        if ends:
            rows.append(float(len(self.leaves)))
            self.leaves.append((node.end, ends))
        rows += [self.add(child) for child in node.children]
        row = (rows[0] + rows[-1]) / 2
        self.bars.append((node, row, rows[-1] - rows[0] or 1.0))
        if len(rows) > 1:
            self.forks.append((node.end, rows[0], rows[-1]))
        return row


def _draw(axes: Axes, placed: _Placed, names: Mapping[str, str], rows_per_label: float) -> None:
    """Draws a thick line for a node's steps, with how many trials share it, a thin one to what follows, and a dot with
    a label where trainings end; the labels' ids in an SVG are leaf-0, leaf-1, ..."""
    row_points, last = _ROW_POINTS / rows_per_label, max((step for step, _ in placed.leaves), default=1)
    for node, row, space in placed.bars:
        axes.hlines(row, node.begin, node.end, color="black", linewidth=min(2.5, row_points / 2))
        if node.end - node.begin > _COUNTED_SHARE * last and space >= rows_per_label:
            text = f"{len(node.trials)} trial{'s' if len(node.trials) != 1 else ''}"
            axes.annotate(text, ((node.begin + node.end) / 2, row), (0.0, 5.5), fontsize=6.4, ha="center", **_TEXT)
    for step, above, below in placed.forks:
        axes.vlines(step, above, below, color="black", linewidth=0.8)
    count = min(len(placed.leaves), MAX_LABELS)
    labelled = {number * len(placed.leaves) // count for number in range(count)}
    for row, (step, ends) in enumerate(placed.leaves):
        axes.plot(step, row, "o", color="black", markersize=min(3.0, row_points), clip_on=False)
        if row in labelled:
            text = label_of([names[name] for name in ends])
            axes.annotate(text, (step, row), (5.0, 0.0), gid=f"leaf-{row}", fontsize=8, ha="left", **_TEXT)
    axes.set_xlim(0, last)


def label_of(names: Sequence[str]) -> str:
    """Returns one line for the trials of one training: the name of a single one, else the words that all share."""
    split = [name.split() for name in names]
    shared = [words[0] for words in zip(*split, strict=False) if len(set(words)) == 1]
    text = textwrap.shorten(" ".join(shared) or names[0], _LABEL_LETTERS, placeholder="...")
    if len(names) == 1:
        return text
    return f"{text} ({len(names)} trials)" if shared else f"{text}, {len(names) - 1} more"
