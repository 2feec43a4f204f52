"""Markdown from values: text that stays text, tables, blocks.

Names and notes come from users: nothing of them becomes markup, and nothing of them breaks a table or a block.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

Row = Sequence[str]
"""Cells, in Markdown already."""


def plain(text: str) -> str:
    """A text that any reader shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]|$~#!@])", r"\\\1", escape(one_line(text), quote=False))


def one_line(text: str) -> str:
    """A text without line ends, control characters and marks that turn its direction."""
    shown = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs") else sign for sign in text)
    return " ".join(shown.split())


def block(text: str, language: str = "") -> str:
    """A text as a fenced block."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def table(titles: Row, rows: Iterable[Row], left: Sequence[int] = (0,)) -> str:
    """A table; columns in `left` to the left, the others to the right, as numbers are read."""
    marks = ["---" if column in left else "---:" for column in range(len(titles))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, marks, *rows))


def items(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def number(value: float | None, digits: int = 5) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    """A count with its thousands apart."""
    return "-" if value is None else f"{value:,.0f}"
