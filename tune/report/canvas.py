"""Style of a report's figures, and figures as SVG.

Matplotlib lays the figures out (`layout="constrained"`). Names come from users, so text is never parsed as a formula.
Two hues, of Okabe and Ito (2008), which people with colour blindness tell apart; line styles and markers differ too, so
that a black-and-white print stays readable. Everything that is drawn has a contrast of at least 3 : 1 to the paper
(WCAG 2.2, criterion 1.4.11).
"""

import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

WIDTH = 5.8
"""Width of a figure in inches: its text is legible where two are side by side on a page, and on a phone."""
BLUE, ORANGE, INK, GREY = "#0072B2", "#D55E00", "black", "0.5"
Style = dict[str, Any]
"""Keyword arguments of matplotlib's drawing functions."""
LINES: tuple[Style, ...] = (
    {"color": BLUE, "linestyle": "-", "linewidth": 1.5},
    {"color": ORANGE, "linestyle": "--", "linewidth": 1.3},
)
"""Line style of what the figure is about, and of what it is compared with."""
SETTLED_SHARE = 0.1
"""First part of a curve that does not decide which range an axis shows."""
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "path.simplify_threshold": 1.0,  # pixels: a curve of 20,000 noisy points takes 44 KB instead of 239 KB
}
Floats = NDArray[np.float64]
Drawn = tuple[Figure | None, str]
"""A figure and its caption, or none and the reason."""
_TIPS = "tips:"
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_PLACES, _LONG = {"d", "x", "y"}, re.compile(r"-?\d+\.\d{3,}")
"""Attributes with places, in points, and a number that is finer than a hundredth of one."""
_SHAPES = (f"{{{_SVG}}}use", f"{{{_SVG}}}path")


@contextmanager
def style() -> Iterator[None]:
    """Applies the settings of a report's figures, also as a decorator; matplotlib's own are restored afterwards.

    A letter that the measuring font lacks is no fault: the reader's program draws the text with its own fonts.
    """
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s)Glyph.*missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="(?s).*font does not support", category=UserWarning)
        yield


def new_figure(height: float) -> Figure:
    """Returns an empty figure of `height` inches whose parts make room for each other."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def stacked(figure: Figure, heights: Iterable[float]) -> list[Axes]:
    """Returns axes above each other with a common x axis; `heights` are in any unit."""
    ratios = list(heights)
    return list(figure.subplots(len(ratios), sharex=True, squeeze=False, height_ratios=ratios)[:, 0])


def add_tips(artist: Artist, texts: Sequence[str]) -> None:
    """Gives every marker or bar of an artist a text that shows when a pointer rests on it.

    Args: artist: markers without a line, or a collection; texts: one for each of its points, in order.
    """
    artist.set_gid(_TIPS + json.dumps(list(texts)))


def legend(figure: Figure, num_columns: int = 3) -> None:
    """Adds a legend of everything that has a label, above the axes, where it can hide nothing."""
    figure.legend(loc="outside upper left", ncols=num_columns)


def count_axis(axes: Axes) -> None:
    """Ticks of an x axis at whole numbers, such as steps or bytes."""
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def limits(values: Iterable[float], margin: float = 0.08) -> tuple[float, float]:
    """Returns axis limits around all values, with a share of free space on both sides; never empty."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    space = (high - low) * margin or max(abs(high) * 0.01, 1e-3)
    return low - space, high + space


@style()
def svg_of(figure: Figure) -> str:
    """Returns the figure as an SVG element: text as text, without metadata, the same for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(file.getvalue())
    for group in root.iter(f"{{{_SVG}}}g"):
        if group.get("id", "").startswith(_TIPS):
            _write_tips(group)
        _share_looks([shape for shape in group if shape.tag in _SHAPES], group)
    for shape in (shape for tag in _SHAPES for shape in root.iter(tag)):
        for name in _PLACES & set(shape.keys()):
            shape.attrib[name] = _LONG.sub(lambda number: f"{float(number.group()):.2f}", shape.attrib[name])
    return ElementTree.tostring(root, "unicode").strip()


def _write_tips(group: ElementTree.Element) -> None:
    """Replaces the texts in the id of an artist's group by a title of each of its shapes."""
    texts = json.loads(group.attrib.pop("id").removeprefix(_TIPS))
    defined = {shape for part in group.iter(f"{{{_SVG}}}defs") for shape in part.iter()}
    shapes = [shape for shape in group.iter() if shape.tag in _SHAPES and shape not in defined]
    assert len(shapes) == len(texts), f"{len(texts)} texts for {len(shapes)} shapes"
    for shape, text in zip(shapes, texts, strict=True):
        ElementTree.SubElement(shape, f"{{{_SVG}}}title").text = text


def _share_looks(shapes: Sequence[ElementTree.Element], group: ElementTree.Element) -> None:
    """Moves what several shapes all say of their looks to their group: a page of many trials is a third smaller."""
    for name in ("style", "clip-path"):
        looks = {shape.get(name) for shape in shapes}
        if len(shapes) > 1 and len(looks) == 1 and None not in looks and group.get(name) is None:
            group.set(name, str(looks.pop()))
            for shape in shapes:
                del shape.attrib[name]


def svg_file(svg: str) -> bytes:
    """Returns an SVG element as the content of a file."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}\n'.encode()


def inline(svg: str, name: str, title: str) -> str:
    """Returns an SVG element for a page with several: with ids of its own, and a title for screen readers.

    Args: name: prefix of the ids, different for every figure of the page.
    """

    def prefixed(tag: re.Match[str]) -> str:
        # Text never holds a "<", so that this matches tags only.
        changed = re.sub(r'(\sid="|\shref="#|:href="#|url\(#)', rf"\g<1>{name}-", tag.group())
        return re.sub(r"^<svg ", f'<svg role="img" aria-label="{escape(title)}" ', changed)

    return re.sub(r"<[^!?/][^>]*>", prefixed, svg)
