"""`python -m tune ledger`: the ledger's entries on a terminal, and its tables as files.

Arguments enter; text and files leave. It only reads the ledger. A damaged line is told and makes the exit status 1:
what was shown or written is then not all that was recorded.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.cli.options import Parser
from golf.cli.terminal import expand_paths, quiet_when_closed
from tune.records.export import (
    CHUNK_COLUMNS,
    CURVE_COLUMNS,
    FORMATS,
    TRIAL_COLUMNS,
    Row,
    chunk_rows,
    curve_rows,
    trial_rows,
    write_table,
)
from tune.records.ledger import Ledger
from tune.records.queries import latest

EXAMPLES = """
examples:
  python -m tune ledger show --sweep demo --status done
  python -m tune ledger show 472a4a
  python -m tune ledger export --to trials.parquet
  python -m tune ledger export --curves --to curves.csv
"""
_WIDTH = 120
"""Characters of a line where there is no terminal."""
_TABLES: dict[str, tuple[Callable[[Sequence[Mapping[str, Any]]], list[Row]], tuple[str, ...]]] = {
    "trials": (trial_rows, TRIAL_COLUMNS),
    "curves": (curve_rows, CURVE_COLUMNS),
    "chunks": (chunk_rows, CHUNK_COLUMNS),
}
"""What a table is made by, and its columns without rows."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    about = "Show or export the ledger, the record of every trial and seed study."
    parser = Parser("python -m tune ledger", description=about, epilog=EXAMPLES, formatter_class=form)
    shared = Parser(add_help=False)
    shared.add_argument(
        "--ledger", type=Path, default=Path("storage/ledger.jsonl"), metavar="PATH", help="(%(default)s)"
    )
    shared.add_argument("--sweep", help="only this sweep or seed study")
    shared.add_argument("--status", help="only trials with it: done, infeasible, screened or failed")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    show = commands.add_parser("show", parents=[shared], help="list the entries, or print one whole")
    show.add_argument("id", nargs="?", metavar="ID", help="a trial or its first characters, or a seed study")
    show.add_argument("--kind", help="only entries of a kind: trial, seeds, screened, ...")
    show.set_defaults(command=show_command)
    export = commands.add_parser("export", parents=[shared], help="write the trials as a table")
    export.add_argument("--to", type=Path, required=True, metavar="FILE", help=f"ends in {', '.join(FORMATS)}")
    what = export.add_mutually_exclusive_group()
    for name, text in (("curves", "one row a point of a curve"), ("chunks", "one row a chunk of the stream and rung")):
        what.add_argument(f"--{name}", dest="table", action="store_const", const=name, default="trials", help=text)
    export.add_argument("--force", action="store_true", help="replace the file")
    export.set_defaults(command=export_command)
    return expand_paths(parser.parse_args(arguments))


def show_command(entries: list[dict[str, Any]], parsed: argparse.Namespace) -> None:
    """Print the entries as a table, or one of them whole."""
    if parsed.id is not None:
        print(json.dumps(one(entries, parsed.id), indent=1, ensure_ascii=False))
        return
    shown = [entry for entry in entries if parsed.kind in (None, entry.get("kind"))]
    print("\n".join(listing(shown, shutil.get_terminal_size((_WIDTH, 24)).columns)))


def export_command(entries: list[dict[str, Any]], parsed: argparse.Namespace) -> None:
    """Write one of the tables."""
    make, columns = _TABLES[parsed.table]
    rows = make(entries)
    write_table(rows, columns, parsed.to, parsed.force)
    print(f"{parsed.to}: {len(rows):,} rows of {len(latest(entries)):,} trials")


def one(entries: Sequence[Mapping[str, Any]], identity: str) -> Mapping[str, Any]:
    """The last entry of the trial whose id begins so, or of the seed study of that name.

    Raises: ValueError when there is none, or when trials of several ids or sweeps begin so.
    """
    trials = [entry for entry in latest(entries) if str(entry.get("trial", "")).startswith(identity)]
    studies = [entry for entry in entries if entry.get("study") == identity and entry.get("kind") != "trial"]
    found = trials or studies[-1:]
    if not found:
        raise ValueError(f'the ledger has no trial that begins with "{identity}" and no study of that name')
    if len(found) > 1:
        names = ", ".join(f"{entry.get('trial')} of {entry.get('sweep')}" for entry in found)
        raise ValueError(f'"{identity}" may be {names}; give more characters or --sweep')
    return found[0]


def listing(entries: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """The entries as lines of at most `width` characters, in the order of the ledger."""
    rows = [("time", "trial", "status", "BPB", "bytes", "kind", "sweep", "name or cause"), *map(_cells, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.rjust(room) if place in (3, 4) else cell.ljust(room)
            for place, (cell, room) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(_short("  ".join(padded).rstrip(), width))
    return lines


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """One entry in words; of a seed study's verdict, the mean."""
    metrics, summary = entry.get("metrics") or {}, entry.get("bpb")
    bpb = summary.get("mean") if isinstance(summary, Mapping) else metrics.get("bpb")
    size = metrics.get("artifact_bytes")
    return (
        str(entry.get("time", ""))[:16].replace("T", " "),
        str(entry.get("trial") or ""),
        str(entry.get("status") or ""),
        "" if bpb is None else f"{bpb:.4f}",
        "" if size is None else f"{int(size):,}",
        str(entry.get("kind", "")),
        str(entry.get("sweep") or entry.get("study") or ""),
        str(entry.get("name") or entry.get("cause") or ""),
    )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _wanted(entry: Mapping[str, Any], parsed: argparse.Namespace) -> bool:
    return parsed.sweep in (None, entry.get("sweep"), entry.get("study")) and (
        parsed.status is None or entry.get("status") == parsed.status
    )


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: exit status 1 when a line is damaged, 2 with one line when the command cannot be done."""
    parsed = parse(arguments)
    try:
        if not parsed.ledger.is_file():
            raise FileNotFoundError(f"there is no ledger at {parsed.ledger}; give --ledger PATH")
        ledger = Ledger(parsed.ledger)
        entries = [entry for entry in ledger.entries() if _wanted(entry, parsed)]
        parsed.command(entries, parsed)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*(line for line in ledger.told), sep="\n", end="\n" if ledger.told else "", file=sys.stderr)
    for line in ledger.damaged:
        print(f"{parsed.ledger}, line {line.line_number} is damaged: {line.reason}: {line.text}", file=sys.stderr)
    return 1 if ledger.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
