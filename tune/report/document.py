"""The document of a sweep or seed study, and its files.

A name and the ledger enter, files leave, below the storage folder: report.html, which is one file and opens offline,
and report.md with its figures beside it. No number comes from anywhere but the ledger, and the same ledger gives the
same files.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from golf.runtime.files import write_bytes
from tune.records.layout import Storage
from tune.report.canvas import svg_file
from tune.report.data import Book, Results
from tune.report.figure_specs import FigureSpec, figure_specs_of
from tune.report.page import Document, html_of, markdown_of
from tune.report.tables import (
    Table,
    Text,
    damage_table,
    front_table,
    mixtures,
    outdated,
    overview_table,
    seeds_table,
    tables_of,
    verdict_parts,
)

HTML, MARKDOWN = "html", "md"
FORMATS = (HTML, MARKDOWN)
PROGRAM = "python -m tune report"


def document_of(book: Book, results: Results, baseline: Results | None, command: str) -> Document:
    """The report before it is printed.

    Args: command: what makes it again.
    """
    warnings = [*mixtures(results.trials), *outdated(results)]
    if book.damaged:
        lines = ", ".join(str(line.line_number) for line in book.damaged[:20])
        more = ", ..." if len(book.damaged) > 20 else ""
        warnings.append(f"Lines of the ledger that are damaged and not in this report: {lines}{more}.")
    beside = {
        "bytes": [] if results.is_study else [front_table(results)],
        "seeds": [seeds_table(results)],
    }
    parts: list[Table | Text | FigureSpec] = [overview_table(results), *verdict_parts(results.verdict)]
    for exhibit in figure_specs_of(results, baseline):
        parts += [exhibit, *(table for table in beside.get(exhibit.name, []) if table.rows)]
    damage = damage_table(book.damaged)
    parts += [*tables_of(results), *([damage] if damage.rows else [])]
    source = (
        f"Made from {book.path}, of which {results.num_entries} entries of {book.num_entries} are of this name "
        f"(SHA-256 of theirs: {results.digest}). All figures are in them or computed from them. Made by:",
    )
    kind = "Seed study" if results.is_study else "Sweep"
    return Document(f"{kind} {results.name}", tuple(warnings), tuple(parts), source, command)


def write_report(
    storage: Storage, name: str, baseline: str | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write the report of the sweep or study `name`; each file appears whole.

    Args: storage: `root` may be relative; baseline: a trial, sweep or study to compare with; formats: some of FORMATS.
    Returns: the files, the report first.
    Raises: ValueError for a name that the ledger does not have; OSError.
    """
    book = Book(storage.ledger)
    results = book.results(name)
    beside = book.baseline_of(results, baseline)
    words = [name, "--storage", str(storage.root), *(["--baseline", baseline] if baseline is not None else [])]
    # A name that begins with a dash would be taken for an option.
    command = f"{PROGRAM} {shlex.join([*words[1:], '--', name] if name.startswith('-') else words)}"
    document = document_of(book, results, beside, command)
    folder, written = storage.report(name), []
    if HTML in formats:
        written.append(folder / "report.html")
        write_bytes(written[-1], html_of(document).encode())
    if MARKDOWN in formats:
        exhibits = [part for part in document.parts if isinstance(part, FigureSpec)]
        pictures = [(folder / f"{one.name}.svg", one.svg) for one in exhibits if one.svg is not None]
        for path, svg in pictures:
            write_bytes(path, svg_file(svg))
        # The page comes last, so that it never names a figure that is not there yet.
        write_bytes(folder / "report.md", markdown_of(document).encode())
        written += [folder / "report.md", *(path for path, _ in pictures)]
    return written
