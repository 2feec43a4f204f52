"""The paper that figures are drawn on: sheets, panels, text that stays clear of other text, and the SVG in the end.

Sizes are in inches, so that a figure's size follows from what it holds. Text is text, black on white; names come from
users, so nothing in a text is ever a formula, and characters that no XML can hold are replaced. Matplotlib's
settings are left as they were found.
"""

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

WIDTH = 7.2
"""Inches of a sheet: a printed page between its margins."""
TEXT, SMALL = 9.0, 8.0
"""Points."""
INK, GREY, FAINT = "black", "0.45", "0.78"
MOST_POINTS = 500
"""Of a line; more cannot be seen."""
_POINTS = 72.0
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "hatch.linewidth": 0.6,
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]")
"""What no XML can hold, and what turns the direction of the text around it."""
Floats = NDArray[np.float64]
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for a report's figures; a letter that its font lacks is the reader's font's affair."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s)Glyph.*missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="(?s).*font does not support", category=UserWarning)
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A drawing function that runs under `style`."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return inside


def clean(text: object, letters: int | None = None) -> str:
    """`text` in one line without control characters, cut in the middle to at most `letters`."""
    line = " ".join(_CONTROL.sub("\ufffd", re.sub(r"[\t\r\n]+", " ", str(text))).split(" ")).strip()
    if letters is None or len(line) <= letters:
        return line
    tail = (letters - 1) // 3
    return f"{line[: letters - 1 - tail]}\u2026{line[len(line) - tail :]}"


def clean_lines(text: str) -> str:
    """Several lines without control characters, their spaces as they are."""
    return "\n".join(_CONTROL.sub("\ufffd", line).rstrip() for line in text.splitlines())


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, a minus as long as the plus."""
    return f"{value:+,.{digits}f}".replace("-", "\u2212")


def sheet(height: float, width: float = WIDTH) -> Figure:
    """An empty figure."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panel(figure: Figure, left: float, bottom: float, right: float, top: float, share: Axes | None = None) -> Axes:
    """Axes with these margins to the sheet's edges, in inches; `share`: whose x axis they have."""
    width, height = figure.get_size_inches()
    place = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(place, sharex=share)


def length_of(text: str, size: float = TEXT, bold: bool = False) -> float:
    """Inches that a text takes."""
    figure = sheet(1.0)
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    width, _, _ = figure.canvas.get_renderer().get_text_width_height_descent(text, font, False)  # type: ignore[attr-defined]
    return float(width) / figure.dpi


def write(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    offset: tuple[float, float] = (0.0, 0.0),
    horizontal: str = "left",
    vertical: str = "center",
    size: float = SMALL,
    color: str = INK,
    frame: str = "data",
    weight: str = "normal",
    behind: bool = False,
) -> Text:
    """Text at `offset` points from a point in data or in axes fractions ("axes fraction", or per x axis).

    Args: behind: whether white paper is laid under the text.
    """
    return axes.annotate(
        text,
        point,
        offset,
        xycoords=axes.get_xaxis_transform() if frame == "x" else axes.get_yaxis_transform() if frame == "y" else frame,
        textcoords="offset points",
        horizontalalignment=horizontal,
        verticalalignment=vertical,
        fontsize=size,
        fontweight=weight,
        color=color,
        annotation_clip=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8} if behind else None,
        zorder=5,
    )


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str]], size: float = SMALL) -> None:
    """Write the texts at the axes' right edge, each as near to its line's end as the others allow; a dotted line leads
    there from an end that is far away.

    Args: ends: (x, y, text) of the lines' ends.
    """
    gap = 1.3 * size / _POINTS * axes.figure.dpi
    pixels = [float(axes.transData.transform((x, y))[1]) for x, y, _ in ends]
    box = axes.get_window_extent()
    places = spread([min(max(pixel, box.y0), box.y1) for pixel in pixels], gap)
    for (x, y, text), place in zip(ends, places, strict=True):
        start = axes.transData.transform((x, y))
        up = (place - start[1]) * _POINTS / axes.figure.dpi
        along = (box.x1 - start[0]) * _POINTS / axes.figure.dpi
        if along > 12.0:
            edge = axes.transData.inverted().transform((box.x1, place))
            axes.plot([x, edge[0]], [y, edge[1]], color=GREY, linewidth=0.7, linestyle=(0, (1, 2)), clip_on=False)
        write(axes, text, (x, y), (along + 6.0, up), size=size)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """`places`, in their order, moved as little as needed to be at least `gap` apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    blocks: list[list[float]] = []
    for index in order:
        blocks.append([places[index], 1.0])
        # A block stands around the mean of where its members want to be.
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            upper, lower = blocks.pop(), blocks.pop()
            count = upper[1] + lower[1]
            blocks.append([(upper[0] * upper[1] + lower[0] * lower[1]) / count, count])
    moved = [_bottom(block, gap) + gap * number for block in blocks for number in range(int(block[1]))]
    result = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        result[index] = place
    return result


def _bottom(block: Sequence[float], gap: float) -> float:
    return block[0] - gap * (block[1] - 1) / 2


def _top(block: Sequence[float], gap: float) -> float:
    return block[0] + gap * (block[1] - 1) / 2


def number_axis(axes: Axes, which: str, most: int, form: str | None = None, whole: bool = False) -> None:
    """At most so many round ticks on the x or y axis.

    Args: form: of the numbers, e.g. ",.0f".
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=whole))
    if form is not None:
        axis.set_major_formatter(FuncFormatter(lambda value, _: format(value, form).replace("-", "\u2212")))
    else:
        axis.set_major_formatter(ScalarFormatter(useOffset=False))


def limits(values: Sequence[float], around: float = 0.08) -> tuple[float, float]:
    """Limits that hold all values, with a share of free space on both sides; never empty."""
    low, high = min(values), max(values)
    space = (high - low) * around or max(abs(high) * 0.01, 1e-3)
    return low - space, high + space


def fence(values: Sequence[float]) -> float:
    """Above this a value is far from the rest: it would press all others into a corner of the picture."""
    ordered = sorted(values)
    if len(ordered) < 4:
        return ordered[-1]
    quarter, half, upper = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    edge = upper + 4.0 * max(upper - quarter, half - ordered[0])
    return max(value for value in ordered if value <= edge)


def thinned(x: Floats, y: Floats, most: int = MOST_POINTS) -> tuple[Floats, Floats]:
    """At most so many of a line's points, evenly spaced, the last among them."""
    if len(x) <= most:
        return x, y
    places = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[places], y[places]


@styled
def svg_of(figure: Figure) -> str:
    """The figure as an SVG element: text as text, no dates, no addresses but XML's own names."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue().decode()
    text = re.sub(r"(?s)<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :])
    return text.strip()


def svg_file(svg: str) -> bytes:
    """An SVG element as a file."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}\n'.encode()


def inline(svg: str, name: str, title: str) -> str:
    """An SVG element to stand in a page beside others: its ids are its own, and a reader that cannot see is told it.

    Args: name: letters that no other figure of the page begins its ids with.
    """

    def own(tag: re.Match[str]) -> str:
        # Text never holds a "<", so that this sees tags only.
        changed = re.sub(r'(\sid="|\shref="#|:href="#|url\(#)', rf"\g<1>{name}-", tag.group())
        return re.sub(r"^<svg ", f'<svg role="img" aria-label="{escape(title)}" ', changed)

    return re.sub(r"<[^!?/][^>]*>", own, svg)
