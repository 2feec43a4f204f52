"""A report as one HTML file that opens offline, or as Markdown with its figures beside it.

A document of texts, tables and figures enters, text leaves; the same document gives the same text. Names come from
users: nothing of a text becomes markup. The HTML asks for nothing from anywhere: no script, font, style or picture.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tune.report.canvas import inline
from tune.report.figure_specs import FigureSpec
from tune.report.tables import Table, Text
from tune.report.text import clean, clean_lines


@dataclass(frozen=True)
class Document:
    """A report before it is printed."""

    title: str
    warnings: tuple[str, ...]
    """What a reader has to know before any figure."""
    parts: tuple[Table | Text | FigureSpec, ...]
    """In reading order."""
    source: tuple[str, ...]
    """What the report was made from, in sentences."""
    command: str
    """Makes it again."""


_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #000; background: #fff;
  max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; }
p { margin: 0.5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.warning { border: 2px solid #000; padding: 0.4rem 0.8rem; font-weight: 600; }
.words, .missing { font-size: 0.875rem; color: #333; }
.scroll { overflow-x: auto; }
figure { margin: 0.5rem 0 0; }
figure svg { display: block; width: 100%; min-width: 34rem; max-width: 50rem; height: auto; }
figcaption { font-size: 0.875rem; color: #333; max-width: 46rem; margin-top: 0.4rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 0.8125rem; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid #ccc; }
th { border-bottom: 1.5px solid #000; font-weight: 600; white-space: nowrap; }
td { max-width: 26rem; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.short { white-space: nowrap; }
td.long { min-width: 15rem; }
summary { cursor: pointer; font-size: 0.875rem; }
pre { font-size: 0.8125rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@page { margin: 14mm; }
@media print {
  body { margin: 0; max-width: none; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
  figure svg { min-width: 0; }
  .scroll { overflow: visible; }
  figure svg { max-width: 16cm; }
  table { font-size: 6.5pt; }
  th, td { padding-right: 0.45rem; }
  th { white-space: normal; }
  td.long { min-width: 6rem; }
}
"""
_SHORT = 24
"""Letters up to which a cell is not broken into lines."""


def html_of(document: Document) -> str:
    """The document as one HTML file."""
    return "\n".join(_html_lines(document)) + "\n"


def _html_lines(document: Document) -> Iterator[str]:
    title = _safe(document.title)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    # Whatever slipped through, a browser is told to load and run nothing.
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    for warning in document.warnings:
        yield f'<p class="warning">{_safe(warning)}</p>'
    for part in document.parts:
        match part:
            case Table():
                yield from _html_table(part)
            case Text():
                yield f"<h2>{_safe(part.title)}</h2>\n<pre>{escape(clean_lines(part.text))}</pre>"
            case FigureSpec():
                yield from _html_exhibit(part)
    yield "<h2>Source</h2>"
    for sentence in document.source:
        yield f"<p>{_safe(sentence)}</p>"
    yield f"<pre>{_safe(document.command)}</pre>\n</body>\n</html>"


def _html_exhibit(exhibit: FigureSpec) -> Iterator[str]:
    yield f"<h2>{_safe(exhibit.title)}</h2>"
    if exhibit.svg is None:
        yield f'<p class="missing">Not drawn: {_safe(exhibit.words)}</p>'
        return
    yield f'<figure id="{exhibit.name}">\n<div class="scroll">'
    yield inline(exhibit.svg, exhibit.name, exhibit.title)
    yield f"</div>\n<figcaption>{_safe(exhibit.words)}</figcaption>\n</figure>"


def _html_table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"<h2>{_safe(table.title)}</h2>"
    if table.folded:
        yield f"<details>\n<summary>{len(table.rows)} rows</summary>"
    yield '<div class="scroll">\n<table>'
    if any(table.columns):
        cells = (f"<th{_class(table, n, '')}>{_safe(column)}</th>" for n, column in enumerate(table.columns))
        yield f"<thead><tr>{''.join(cells)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        cells = (f"<td{_class(table, n, cell)}>{_safe(cell)}</td>" for n, cell in enumerate(row))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody>\n</table>\n</div>"
    if table.folded:
        yield "</details>"
    if table.words:
        yield f'<p class="words">{_safe(table.words)}</p>'


def _class(table: Table, column: int, cell: str) -> str:
    if column in table.numbers:
        return ' class="n"'
    return "" if not cell else ' class="short"' if len(cell) <= _SHORT else ' class="long"'


def _safe(text: str) -> str:
    return escape(clean(text))


def markdown_of(document: Document) -> str:
    """The document as Markdown; its figures are `<name>.svg` beside it."""
    blocks = [f"# {_plain(document.title)}"]
    blocks += [f"**{_plain(warning)}**" for warning in document.warnings]
    for part in document.parts:
        match part:
            case Table():
                blocks += _markdown_table(part)
            case Text():
                blocks += [f"## {_plain(part.title)}", _fenced(part.text)]
            case FigureSpec():
                blocks += _markdown_exhibit(part)
    blocks += ["## Source", *(_plain(sentence) for sentence in document.source)]
    blocks.append(_fenced(document.command))
    return "\n\n".join(blocks) + "\n"


def _fenced(text: str) -> str:
    """A block of lines; a fence longer than any run of backticks in it cannot be closed by it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{clean_lines(text)}\n{fence}"


def _markdown_exhibit(exhibit: FigureSpec) -> list[str]:
    heading = f"## {_plain(exhibit.title)}"
    if exhibit.figure is None:
        return [heading, f"Not drawn: {_plain(exhibit.words)}"]
    return [heading, f"![{_plain(exhibit.title)}]({exhibit.name}.svg)", _plain(exhibit.words)]


def _markdown_table(table: Table) -> list[str]:
    marks = ["---:" if n in table.numbers else "---" for n in range(len(table.columns))]
    lines = [_markdown_row(table.columns), f"| {' | '.join(marks)} |", *map(_markdown_row, table.rows)]
    blocks = [f"## {_plain(table.title)}"] if table.title else []
    blocks.append("\n".join(lines))
    return blocks + ([_plain(table.words)] if table.words else [])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Text of which no letter is markup."""
    return re.sub(r"([\\`*_\[\]|$~#!])", r"\\\1", escape(clean(text), quote=False))
