"""Markdown from templates: whatever a template inserts stays text, unless it is Markdown already (`Markup`).

Names and notes come from users: nothing in them becomes markup, and nothing in them breaks a table or a block.
"""

import re
import unicodedata
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def one_line(text: str) -> str:
    """Returns a text without line ends, control characters and marks that turn its direction."""
    shown = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs") else sign for sign in text)
    return " ".join(shown.split())


def plain(value: Any) -> Markup:
    """Returns a value as Markdown that any reader shows as it is, on one line; Markdown is left alone."""
    if isinstance(value, Markup):
        return value
    return Markup(re.sub(r"([\\`*_\[\]|$~#!@])", r"\\\1", escape(one_line(str(value)), quote=False)))


def block(text: str, language: str = "") -> Markup:
    """Returns a text as a fenced block."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}{language}\n{text.rstrip()}\n{ticks}")


def number(value: float | None, digits: int = 5) -> str:
    """Returns a figure with so many decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int) -> str:
    """Returns a figure with its sign, or nothing where there is none."""
    return "" if value is None else f"{value:+.{digits}f}"


def thousands(value: float | None) -> str:
    """Returns a count with its thousands apart."""
    return "-" if value is None else f"{value:,.0f}"


ENVIRONMENT = Environment(
    loader=PackageLoader("golf.submission"),
    autoescape=True,
    finalize=plain,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters |= {"block": block, "number": number, "signed": signed, "thousands": thousands}
