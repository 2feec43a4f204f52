"""A report as one HTML file that opens offline, or as Markdown with its figures beside it.

Both are filled from templates that escape every value by default, since names come from users. The HTML asks for
nothing from anywhere: no script, font, style sheet or picture. The same document gives the same text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tune.report.canvas import inline
from tune.report.figure_specs import FigureSpec
from tune.report.tables import Table, Text
from tune.report.text import clean, clean_lines


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report before it is written as HTML or Markdown."""

    title: str
    warnings: tuple[str, ...]
    """What a reader has to know before any figure."""
    parts: tuple[Table | Text | FigureSpec, ...]
    """In reading order."""
    source: str
    """What the report was made from."""
    command: str
    """The command line that makes it again."""


def html_of(document: Document) -> str:
    """Returns the document as one HTML file."""
    environment = _environment(clean, autoescape=True)
    environment.filters["svg"] = lambda spec: Markup(inline(spec.svg, spec.name, spec.title))
    environment.filters["lines"] = lambda text: escape(clean_lines(text))
    return environment.get_template("report.html").render(document=document)


def markdown_of(document: Document) -> str:
    """Returns the document as Markdown; its figures are `<name>.svg` beside it."""
    environment = _environment(markdown_text, autoescape=False)
    environment.filters["fenced"] = lambda text: Markup(fenced(text))
    return environment.get_template("report.md").render(document=document)


def _environment(make_safe: Callable[[object], str], autoescape: bool) -> Environment:
    """Returns templates that pass every value through `make_safe`, unless a filter has marked it as markup."""
    environment = Environment(
        loader=PackageLoader("tune.report"),
        autoescape=autoescape,
        finalize=lambda value: value if isinstance(value, Markup) else make_safe(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["figure"] = lambda part: isinstance(part, FigureSpec)
    return environment


def fenced(text: str) -> str:
    """Returns a Markdown block of lines, whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{clean_lines(text)}\n{fence}"


def markdown_text(text: object) -> str:
    """Returns one line of Markdown in which no letter of `text` is markup."""
    return re.sub(r"([\\`*_\[\]|$~#!])", r"\\\1", str(escape(clean(text))).replace("&#34;", '"').replace("&#39;", "'"))
