"""The document of a sweep or seed study, and its files below the storage folder.

report.html is one file that opens offline; report.md has its figures beside it. Every number comes from the ledger, and
the same ledger gives the same files. Both are filled from templates that escape every value by default, since names
come from users. The HTML asks for nothing from anywhere: no script, font, style sheet or picture.
"""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from golf.runtime.files import write_bytes
from tune.records.layout import REPORT_FORMATS, Storage
from tune.report.canvas import inline, svg_file
from tune.report.data import ReportData, Results, groups_of
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.tables import (
    Table,
    Text,
    damage_table,
    front_table,
    overview_table,
    seeds_table,
    tables_of,
    verdict_parts,
)
from tune.report.text import clean, clean_lines

HTML, MARKDOWN = REPORT_FORMATS
PROGRAM = "python -m tune report"
_DIGITS = 12
"""Shown digits of a digest."""
_MAX_LINES = 20
"""Numbers of damaged lines in a warning, at most."""


def write_report(
    storage: Storage, name: str, baseline: str | None = None, formats: Sequence[str] = REPORT_FORMATS
) -> list[Path]:
    """Writes the report of the sweep or study `name`; each file appears whole.

    Args: storage: its root may be relative; name: of the sweep or study; baseline: a trial, sweep or study to compare
        with; formats: some of REPORT_FORMATS.
    Returns: the files, the report first.
    Raises: ValueError for a name that the ledger does not have; OSError when the ledger cannot be read or a file cannot
        be written.
    """
    data = ReportData(storage.ledger)
    results = data.results(name)
    options = ["--storage", str(storage.root), *(["--baseline", baseline] if baseline is not None else [])]
    # A name that begins with a dash would be taken for an option.
    words = [*options, "--", name] if name.startswith("-") else [name, *options]
    parts = _parts_of(data, results, data.baseline_of(results, baseline))
    document = {
        "title": f"{'Seed study' if results.is_study else 'Sweep'} {results.name}",
        "warnings": _warnings_of(data, results),
        "parts": parts,
        "source": f"Made from {data.path}: {results.num_entries} of its {data.num_entries} entries are of this name "
        f"(SHA-256: {results.digest}). All numbers are in them or computed from them. Made by:",
        "command": f"{PROGRAM} {shlex.join(words)}",
    }
    directory, written = storage.report(name), []
    if HTML in formats:
        written.append(directory / "report.html")
        write_bytes(written[-1], _html_of(document).encode())
    if MARKDOWN in formats:
        drawn = {f"{part.name}.svg": part.svg for part in parts if isinstance(part, FigureSpec)}
        pictures = {directory / file: svg for file, svg in drawn.items() if svg is not None}
        for path, svg in pictures.items():
            write_bytes(path, svg_file(svg))
        # The page comes last, so that it never names a figure that is not there yet.
        write_bytes(directory / "report.md", _markdown_of(document).encode())
        written += [directory / "report.md", *pictures]
    return written


def _parts_of(data: ReportData, results: Results, baseline: Results | None) -> list[Table | Text | FigureSpec]:
    """Returns tables, texts and figures in reading order."""
    tables_after = {"bytes": [] if results.is_study else [front_table(results)], "seeds": [seeds_table(results)]}
    parts: list[Table | Text | FigureSpec] = [overview_table(results), *verdict_parts(results.verdict)]
    for spec in figure_specs_of(results, baseline, data.series):
        parts += [spec, *(table for table in tables_after.get(spec.name, []) if table.rows)]
    return [*parts, *tables_of(results), *([damage_table(data.damaged)] if data.damaged else [])]


def _warnings_of(data: ReportData, results: Results) -> list[str]:
    """Returns what a reader has to know first: what makes scores incomparable, and what the report lacks."""
    warnings = []
    for values, what in (
        ({entry.data for entry in results.trials}, "datasets"),
        ({entry.code for entry in results.trials}, "versions of the code"),
    ):
        if len(values) > 1:
            shown = ", ".join(sorted(value[:_DIGITS] for value in values))
            warnings.append(
                f"The trials ran on {len(values)} different {what} ({shown}): compare their scores with care."
            )
    summary = None if results.verdict is None else results.verdict.verdict.bpb
    means = [group.mean_score for group in groups_of(results) if group.seeds]
    if summary is not None and means and not any(math.isclose(mean, summary.mean, abs_tol=1e-9) for mean in means):
        judged = f"its mean is {summary.mean:.5f} {results.unit}, theirs {means[0]:.5f}"
        warnings.append(f"The verdict is of other runs than those shown: {judged}.")
    if data.damaged:
        lines = ", ".join(str(line.line_number) for line in data.damaged[:_MAX_LINES])
        more = ", ..." if len(data.damaged) > _MAX_LINES else ""
        warnings.append(f"Lines of the ledger that are damaged and not in this report: {lines}{more}.")
    if data.unread_series:
        reason = next(iter(data.unread_series.values()))
        warnings.append(f"Curves of {len(data.unread_series)} trials could not be read and are not drawn: {reason}.")
    return warnings


def _html_of(document: dict[str, Any]) -> str:
    environment = _environment(clean, autoescape=True)
    environment.filters["svg"] = lambda spec: Markup(inline(spec.svg, spec.name, spec.title))
    environment.filters["lines"] = lambda text: escape(clean_lines(text))
    return environment.get_template("report.html").render(document=document)


def _markdown_of(document: dict[str, Any]) -> str:
    environment = _environment(_markdown_text, autoescape=False)
    environment.filters["fenced"] = lambda text: Markup(_fenced(text))
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


def _fenced(text: str) -> str:
    """Returns a Markdown block of lines, whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{clean_lines(text)}\n{fence}"


def _markdown_text(text: object) -> str:
    """Returns one line of Markdown in which no letter of `text` is markup."""
    return re.sub(r"([\\`*_\[\]|$~#!])", r"\\\1", str(escape(clean(text))).replace("&#34;", '"').replace("&#39;", "'"))
