"""`python -m tune ledger`: the ledger's entries on a terminal, and its tables as files.

It only reads. A damaged line is reported and makes the exit status 1: what was shown or written is then not all that
was recorded.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from tune.cli.tables import Column, format_table, shortened, terminal_width
from tune.records.entries import Record, ScreeningEntry, TrialEntry, VerdictEntry, latest, trials_of, unit_of
from tune.records.export import Table, chunk_table, curve_table, trial_table, write_table
from tune.records.ledger import Ledger

_SWEEP_CHARACTERS = 24
_TABLES: dict[str, Callable[[Sequence[TrialEntry], Ledger], Table]] = {
    "trials": lambda entries, ledger: trial_table(entries),
    "curves": lambda entries, ledger: curve_table(entries, ledger.series),
    "chunks": lambda entries, ledger: chunk_table(entries, ledger.series),
}


def ledger_command(parsed: argparse.Namespace) -> int:
    """Shows or exports. Returns: 1 when a line is damaged. Raises: ValueError, OSError when it cannot be done."""
    if not parsed.ledger.is_file():
        raise FileNotFoundError(f"there is no ledger at {parsed.ledger}; give --ledger PATH")
    ledger = Ledger(parsed.ledger)
    act = show_command if parsed.action == "show" else export_command
    act(ledger, [record for record in ledger.records() if _is_wanted(record, parsed)], parsed)
    damage = [f"{parsed.ledger}, line {n.line_number} is damaged: {n.reason}: {n.text}" for n in ledger.damaged]
    for line in (*ledger.damage, *damage):
        print(line, file=sys.stderr)
    return 1 if damage else 0


def show_command(ledger: Ledger, records: Sequence[Record], parsed: argparse.Namespace) -> None:
    """Prints the records as a table, or one of them in full."""
    if parsed.id is not None:
        text = msgspec.json.encode(find_record(records, parsed.id))
        print(msgspec.json.format(text, indent=1).decode())
        return
    shown = [record for record in records if parsed.kind in (None, _kind(record))]
    print("\n".join(listing(shown, terminal_width())))


def export_command(ledger: Ledger, records: Sequence[Record], parsed: argparse.Namespace) -> None:
    """Writes one of the tables."""
    entries = latest(records)
    table = _TABLES[parsed.table](entries, ledger)
    write_table(table, parsed.to, parsed.force)
    print(f"{parsed.to}: {table.num_rows:,} rows of {len(entries):,} trials")


def find_record(records: Sequence[Record], identity: str) -> Record:
    """Returns the last entry of the trial whose id begins so, or the last one of the seed study of that name.

    Raises: ValueError when there is none, or when trials of several ids or sweeps begin so.
    """
    trials = [entry for entry in latest(records) if entry.trial.startswith(identity)]
    if len(trials) > 1:
        names = ", ".join(f"{entry.trial} of {entry.sweep}" for entry in trials)
        raise ValueError(f'"{identity}" may be {names}; give more characters or --sweep')
    studies = [record for record in records if not isinstance(record, TrialEntry) and _sweep(record) == identity]
    if not trials and not studies:
        raise ValueError(f'the ledger has no trial that begins with "{identity}" and no study of that name')
    return trials[0] if trials else studies[-1]


@dataclass(frozen=True)
class _Row:
    """A record in words."""

    time: str
    kind: str
    sweep: str
    trial: str = ""
    state: str = ""
    score: str = ""
    artifact_bytes: str = ""
    name: str = ""


def listing(records: Sequence[Record], width: int) -> list[str]:
    """Returns the records as lines of at most `width` characters, in the order of the ledger."""
    rows = [_row(record) for record in records]
    columns = [
        Column("time", [row.time for row in rows], 2, "left"),
        Column("trial", [row.trial for row in rows], align="left"),
        Column("state", [row.state for row in rows], align="left"),
        Column(unit_of(trials_of(records)), [row.score for row in rows]),
        Column("bytes", [row.artifact_bytes for row in rows], 4),
        Column("kind", [row.kind for row in rows], 1, "left"),
        Column("sweep", [shortened(row.sweep, _SWEEP_CHARACTERS) for row in rows], 3, "left"),
        Column("name and reason", [row.name for row in rows], align="left"),
    ]
    return format_table(columns, width)


def _row(record: Record) -> _Row:
    """Returns a record in words; of a verdict, the mean of its seeds."""
    row = _Row(time=record.time[:16].replace("T", " "), kind=_kind(record), sweep=_sweep(record))
    if isinstance(record, TrialEntry):
        score = "" if record.score is None else f"{record.score:.4f}"
        size = "" if record.artifact_bytes is None else f"{record.artifact_bytes:,}"
        name = f"{record.name}: {record.reason}" if record.reason else record.name
        return _Row(row.time, row.kind, row.sweep, record.trial, record.state, score, size, name)
    if isinstance(record, VerdictEntry) and record.verdict.bpb is not None:
        return _Row(row.time, row.kind, row.sweep, score=f"{record.verdict.bpb.mean:.4f}")
    return row


def _kind(record: Record) -> str:
    return str(record.__struct_config__.tag)


def _sweep(record: Record) -> str:
    """Returns the sweep or seed study that a record belongs to; scores for screening do not name theirs."""
    if isinstance(record, ScreeningEntry):
        return ""
    return record.sweep if isinstance(record, TrialEntry) else record.study


def _is_wanted(record: Record, parsed: argparse.Namespace) -> bool:
    state = record.state if isinstance(record, TrialEntry) else None
    return parsed.sweep in (None, _sweep(record)) and parsed.state in (None, state)
