"""Tables of text that fit a terminal: the least important columns are left out before a line is cut."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tabulate import tabulate

_GAP = 2
"""Spaces between columns."""
_NO_TERMINAL = 10_000
"""Characters of a line where there is no terminal: a file or a pipe has room for all columns."""
_LAST_WIDTH = 24
"""Characters of the last column, a name, for which other columns are left out; the rest of it may be cut."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    cells: Sequence[str]
    importance: int = 0
    """Columns with the least are left out first; 0 is for what no table does without."""
    align: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """Characters of its widest cell."""
        return max(map(len, (self.title, *self.cells)))


def terminal_width() -> int:
    """Returns the characters of a line of this process's terminal."""
    return shutil.get_terminal_size((_NO_TERMINAL, 24)).columns


def format_table(columns: Sequence[Column], width: int) -> list[str]:
    """Returns a table as lines of at most `width` characters.

    Columns without any text are left out, then the least important ones until the rest fits, of the last column its
    beginning. Then lines are cut at their ends.
    """
    shown = [column for column in columns if not column.importance or any(column.cells)]
    while (optional := [column for column in shown if column.importance]) and _needed(shown) > width:
        shown.remove(min(optional, key=lambda column: column.importance))
    rows = zip(*((column.title, *column.cells) for column in shown), strict=True)
    aligned = [column.align for column in shown]
    text = tabulate(rows, tablefmt="plain", colalign=aligned, disable_numparse=True)
    return [shortened(line.rstrip(), width) for line in text.splitlines()]


def _needed(columns: Sequence[Column]) -> int:
    *before, last = columns
    return sum(column.width + _GAP for column in before) + min(last.width, _LAST_WIDTH)


def shortened(text: str, length: int) -> str:
    """Returns a text of at most `length` characters, with "..." where its end was cut."""
    return text if len(text) <= length else f"{text[: max(length - 3, 0)]}..."
