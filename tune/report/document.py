"""The document of a sweep or seed study, and its files below the storage folder.

report.html is one file that opens offline; report.md is its short form, which pastes into a pull request; every figure
is also a file. Every number comes from the ledger, and the same ledger gives the same files. Both are filled from
templates that escape every value by default, since names come from users. The HTML asks for nothing from anywhere: no
font, style sheet or picture, and of scripts a browser runs only the one that sorts its tables.
"""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from golf.runtime.files import write_bytes
from tune.records.layout import REPORT_FORMATS, Storage
from tune.report.canvas import inline, svg_file
from tune.report.data import ReportData, Results, groups_of
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.headline import Headline, command_of, headline_of
from tune.report.tables import (
    Table,
    Text,
    best_trials_table,
    causes_table,
    damage_table,
    environment_table,
    overview_table,
    seeds_table,
    tables_of,
    verdict_parts,
)
from tune.report.text import clean, clean_lines

HTML, MARKDOWN, FIGURES = REPORT_FORMATS
PROGRAM = "python -m tune report"
_DIGITS = 12
"""Shown digits of a digest."""
_MAX_LINES = 20
"""Numbers of damaged lines in a warning, at most."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What both forms show, in reading order."""

    title: str
    warnings: tuple[str, ...]
    headline: Headline
    front: tuple[Table | Text, ...]
    """Overview and verdict."""
    figures: tuple[FigureSpec, ...]
    """Those that are drawn."""
    tables: tuple[Table, ...]
    short_tables: tuple[Table, ...]
    """Those of the short form."""
    not_drawn: tuple[tuple[str, str], ...]
    """Title and reason of every figure that there are no numbers for."""
    source: str
    command: str


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
    document = _document_of(data, storage.root, name, baseline)
    directory, written = storage.report(name), []
    if HTML in formats:
        written.append(directory / "report.html")
        write_bytes(written[-1], _html_of(document).encode())
    if MARKDOWN in formats:
        written.append(directory / "report.md")
        write_bytes(written[-1], _markdown_of(document).encode())
    for spec in document.figures if FIGURES in formats else ():
        assert spec.svg is not None
        written.append(directory / f"{spec.name}.svg")
        write_bytes(written[-1], svg_file(spec.svg))
    return written


def _document_of(data: ReportData, root: Path, name: str, baseline: str | None) -> Document:
    results = data.results(name)
    options = ["--storage", str(root), *(["--baseline", baseline] if baseline is not None else [])]
    specs = figure_specs_of(results, data.baseline_of(results, baseline), data.series)
    studies = data.studies_of(results.ranked[0]) if results.ranked and not results.is_study else []
    verdict = verdict_parts(results.verdict)
    tables = [*tables_of(results), *(part for part in verdict if isinstance(part, Table))]
    tables = [*tables, *([damage_table(data.damaged)] if data.damaged else [])]
    overview = overview_table(results)
    short = [overview, best_trials_table(results), seeds_table(results), causes_table(results.ordered)]
    return Document(
        title=f"{'Seed study' if results.is_study else 'Sweep'} {results.name}",
        warnings=tuple(_warnings_of(data, results)),
        headline=headline_of(results, studies, root),
        front=(overview, *(part for part in verdict if isinstance(part, Text))),
        figures=tuple(spec for spec in specs if spec.figure is not None),
        tables=tuple(tables),
        short_tables=tuple(table for table in [*short, environment_table(results.trials)] if table.rows),
        not_drawn=tuple((spec.title, spec.caption) for spec in specs if spec.figure is None),
        source=f"Made from {data.path}: {results.num_entries} of its {data.num_entries} entries are of this name "
        f"(SHA-256: {results.digest}). All numbers are in them or computed from them. Made by:",
        command=command_of(PROGRAM, name, options),
    )


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


def _html_of(document: Document) -> str:
    environment = _environment(clean, autoescape=True)
    environment.filters["svg"] = lambda spec: Markup(inline(spec.svg, spec.name, spec.title))
    environment.filters["lines"] = lambda text: escape(clean_lines(text))
    # A heading breaks behind a dot or an underscore rather than anywhere in a word.
    environment.filters["breakable"] = lambda text: Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(clean(text)))))
    script = files("tune.report").joinpath("templates/sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(document=document, script=Markup(script), digest=digest)


def _markdown_of(document: Document) -> str:
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
    return environment


def _fenced(text: str) -> str:
    """Returns a Markdown block of lines, whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{clean_lines(text)}\n{fence}"


def _markdown_text(text: object) -> str:
    """Returns one line of Markdown in which no letter of `text` is markup."""
    return re.sub(r"([\\`*_\[\]|$~#!])", r"\\\1", str(escape(clean(text))).replace("&#34;", '"').replace("&#39;", "'"))
