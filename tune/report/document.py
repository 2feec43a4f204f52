"""The document of a sweep or seed study, and its files below the storage folder.

report.html is one file that opens offline; report.md has its figures beside it. Every number comes from the ledger, and
the same ledger gives the same files.
"""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from golf.runtime.files import write_bytes
from tune.records.entries import TrialEntry
from tune.records.layout import REPORT_FORMATS, Storage
from tune.report.canvas import svg_file
from tune.report.data import ReportData, Results
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.groups import groups_of
from tune.report.page import Document, html_of, markdown_of
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

HTML, MARKDOWN = REPORT_FORMATS
PROGRAM = "python -m tune report"
_DIGITS = 12
"""Shown digits of a digest."""
_MAX_LINES = 20
"""Numbers of damaged lines in a warning, at most."""


def document_of(data: ReportData, results: Results, baseline: Results | None, command: str) -> Document:
    """Returns the report before it is written as HTML or Markdown.

    Args: command: the command line that makes it again.
    """
    tables_after = {
        "bytes": [] if results.is_study else [front_table(results)],
        "seeds": [seeds_table(results)],
    }
    parts: list[Table | Text | FigureSpec] = [overview_table(results), *verdict_parts(results.verdict)]
    for spec in figure_specs_of(results, baseline, data.series):
        parts += [spec, *(table for table in tables_after.get(spec.name, []) if table.rows)]
    parts += [*tables_of(results), *([damage_table(data.damaged)] if data.damaged else [])]
    kind = "Seed study" if results.is_study else "Sweep"
    return Document(
        title=f"{kind} {results.name}",
        warnings=(*mixtures(results.trials), *outdated(results), *_losses(data)),
        parts=tuple(parts),
        source=f"Made from {data.path}: {results.num_entries} of its {data.num_entries} entries are of this name "
        f"(SHA-256: {results.digest}). All numbers are in them or computed from them. Made by:",
        command=command,
    )


def mixtures(entries: Sequence[TrialEntry]) -> list[str]:
    """Returns warnings of what must be the same for BPB to be comparable, and is not."""
    warnings = []
    for values, what in (
        ({entry.data for entry in entries}, "datasets"),
        ({entry.code for entry in entries}, "versions of the code"),
    ):
        if len(values) > 1:
            shown = ", ".join(sorted(value[:_DIGITS] for value in values))
            warnings.append(f"The trials ran on {len(values)} different {what} ({shown}): compare their BPB with care.")
    return warnings


def outdated(results: Results) -> list[str]:
    """Returns a warning where the verdict judged other runs than the ledger now holds under this name."""
    summary = None if results.verdict is None else results.verdict.verdict.bpb
    means = [group.mean_bpb for group in groups_of(results) if group.seeds]
    if summary is None or not means or any(math.isclose(mean, summary.mean, abs_tol=1e-9) for mean in means):
        return []
    return [
        f"The verdict is of other runs than those shown: its mean is {summary.mean:.5f} BPB, theirs {means[0]:.5f}."
    ]


def _losses(data: ReportData) -> list[str]:
    """Returns warnings of what the ledger held once and this report lacks."""
    warnings = []
    if data.damaged:
        lines = ", ".join(str(line.line_number) for line in data.damaged[:_MAX_LINES])
        more = ", ..." if len(data.damaged) > _MAX_LINES else ""
        warnings.append(f"Lines of the ledger that are damaged and not in this report: {lines}{more}.")
    if data.unread_series:
        reason = next(iter(data.unread_series.values()))
        warnings.append(f"Curves of {len(data.unread_series)} trials could not be read and are not drawn: {reason}.")
    return warnings


def write_report(
    storage: Storage, name: str, baseline: str | None = None, formats: Sequence[str] = REPORT_FORMATS
) -> list[Path]:
    """Writes the report of the sweep or study `name`; each file appears whole.

    Args:
        storage: its root may be relative.
        name: of the sweep or study.
        baseline: a trial, sweep or study to compare with.
        formats: some of REPORT_FORMATS.

    Returns: the files, the report first.

    Raises:
        ValueError: for a name that the ledger does not have.
        OSError: when the ledger cannot be read or a file cannot be written.
    """
    data = ReportData(storage.ledger)
    results = data.results(name)
    options = ["--storage", str(storage.root), *(["--baseline", baseline] if baseline is not None else [])]
    # A name that begins with a dash would be taken for an option.
    command = f"{PROGRAM} {shlex.join([*options, '--', name] if name.startswith('-') else [name, *options])}"
    document = document_of(data, results, data.baseline_of(results, baseline), command)
    directory, written = storage.report(name), []
    if HTML in formats:
        written.append(directory / "report.html")
        write_bytes(written[-1], html_of(document).encode())
    if MARKDOWN in formats:
        pictures = {
            directory / f"{part.name}.svg": part.svg
            for part in document.parts
            if isinstance(part, FigureSpec) and part.svg is not None
        }
        for path, svg in pictures.items():
            write_bytes(path, svg_file(svg))
        # The page comes last, so that it never names a figure that is not there yet.
        write_bytes(directory / "report.md", markdown_of(document).encode())
        written += [directory / "report.md", *pictures]
    return written
