"""The table of a sweep's trials at its end, and what became of them, in words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf.cli.terminal import python_line
from tune.cli.progress import counted
from tune.cli.tables import Column, format_table, terminal_width
from tune.records.entries import FailureKind, TrialEntry, TrialState, unit_of
from tune.records.layout import Storage
from tune.records.text import duration
from tune.search.space import value_text

_SHOWN_REASONS = 5
_REASON_CHARACTERS = 200
_LARGE_SCORE = 1000.0
_ORDER = {TrialState.DONE: 0, TrialState.SCREENED: 1, TrialState.INFEASIBLE: 2, TrialState.FAILED: 3}


def score_text(entry: TrialEntry) -> str:
    """Returns the score of a finished trial with its unit."""
    return f"{_score_cell(entry)} {entry.unit}"


def table(entries: Sequence[TrialEntry], root: Path = Path(), width: int | None = None) -> str:
    """Returns all trials as a table, the best first, those over the cap and failed ones last.

    Args:
        entries: of the trials.
        root: of the storage.
        width: characters of a line; None: those of the terminal.
    """
    ordered = sorted(entries, key=lambda entry: (_ORDER[entry.state], _loss(entry), entry.name))
    rungs = list(dict.fromkeys(rung.name for entry in ordered for rung in entry.rungs))[:-1]
    columns = [
        Column("trial", [short_id(entry.trial) for entry in ordered], align="left"),
        Column("state", [entry.state.word for entry in ordered], align="left"),
        Column(unit_of(entries), [_score_cell(entry) for entry in ordered]),
        *(Column(name, [_rung_text(entry, name) for entry in ordered], 3 + n) for n, name in enumerate(rungs)),
        Column("bytes", [_text(entry.artifact_bytes, ",d") for entry in ordered], 50),
        Column("to the cap", [_margin_text(entry) for entry in ordered], 60),
        Column("alone s", [_text(entry.total_seconds or None, ".0f") for entry in ordered], 2),
        Column("now s", [_text(entry.computed_seconds if entry.seconds else None, ".0f") for entry in ordered], 1),
        *_settings(ordered),
    ]
    lines = format_table(columns, width or terminal_width())
    alone, now = (sum(entry.total_seconds for entry in entries), sum(entry.computed_seconds for entry in entries))
    if now < alone:
        lines.append(f"computed in {duration(now)} what would take {duration(alone)} without sharing")
    reasons = [line for entry in ordered for line in _reason_lines(entry, Storage(root))]
    return "\n".join(lines + (["", "why:", *reasons] if reasons else []))


def _settings(ordered: Sequence[TrialEntry]) -> list[Column]:
    """Returns a column for each searched field, those of few values the first to be left out, the widest one last."""
    fields = list(dict.fromkeys(field for entry in ordered for field in entry.parameters))
    if not fields or not all(entry.parameters for entry in ordered):
        return [Column("settings", [entry.name for entry in ordered], align="left")]
    cells = {
        field: [value_text(e.parameters[field]) if field in e.parameters else "" for e in ordered] for field in fields
    }
    columns = [Column(field, values, 10 + min(len(set(values)), 20)) for field, values in cells.items()]
    widest = max(columns, key=lambda column: max(map(len, column.cells)))
    columns.remove(widest)
    return [*columns, replace(widest, importance=0, align="left")]


def short_id(trial: str) -> str:
    """Returns the beginning of a trial's id, which every command takes for it."""
    return trial[:6]


def _reason_lines(entry: TrialEntry, storage: Storage) -> list[str]:
    """Why a trial has no result, and where its log is."""
    if entry.state not in (TrialState.FAILED, TrialState.SCREENED):
        return []
    log = storage.files(entry).get("log")
    return [f"{short_id(entry.trial)}  {entry.reason}", *([f"{'':6s}  log: {log}"] if log else [])]


@dataclass(frozen=True)
class Ending:
    """What became of all trials, in words and as an exit status."""

    text: str
    """Empty where there is nothing to say beside the best trial."""
    status: int
    """1 when no trial has a result and some have failed; else 0."""


def ending_of(entries: Sequence[TrialEntry], root: Path, what: str = "trial") -> Ending:
    """Returns how a sweep or study ended, apart from its best trial: failures counted by kind, and where to read more.

    Args:
        entries: of its trials.
        root: of the storage.
        what: the word for one of them.
    """
    failed = [entry for entry in entries if entry.state == TrialState.FAILED]
    others = counted([entry for entry in entries if entry.state != TrialState.FAILED], caps=True)
    any_done = any(entry.done for entry in entries)
    plural = f"{len(entries)} {what}{'s' if len(entries) != 1 else ''}"
    if not failed:
        text = f"none of {plural} gave a score: {', '.join(others)}"
        return Ending(text if entries and not any_done else "", 0)
    reasons = f"{_reasons(failed)}\n  more: {_where_to_read(failed, Storage(root))}"
    if any_done:
        return Ending(f"warning: {len(failed)} of {plural} failed: {reasons}", 0)
    if others:
        return Ending(f"none of {plural} gave a score: {', '.join(others)}, {len(failed)} failed: {reasons}", 1)
    return Ending(f"{'all ' if len(entries) > 1 else ''}{plural} failed: {reasons}", 1)


def _reasons(failed: Sequence[TrialEntry]) -> str:
    """Reasons of failures with their counts, the most frequent first; those of a known kind are counted together."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in failed:
        reason, kind = str(entry.reason), entry.failure.kind if entry.failure else FailureKind.ERROR
        same = re.sub(r"\d+(\.\d+)?", "N", reason) if kind == FailureKind.ERROR else str(kind)
        counts[same] += 1
        first.setdefault(same, reason)
    most_common = counts.most_common(_SHOWN_REASONS)
    shown = [f"{count} x {first[same][:_REASON_CHARACTERS]}" for same, count in most_common]
    rest = counts.total() - sum(count for _, count in most_common)
    return "; ".join(shown + ([f"{rest} for other reasons"] if rest else []))


def _where_to_read(failed: Sequence[TrialEntry], storage: Storage) -> str:
    ledger, sweep = str(storage.ledger), failed[0].sweep
    show = python_line("tune", "ledger", "show", "--ledger", ledger, "--sweep", sweep, "--state", TrialState.FAILED)
    logs = [path for entry in failed if (path := storage.files(entry).get("log"))]
    return f"{logs[0]} and {show}" if logs else show


def _score_cell(entry: TrialEntry) -> str:
    """Returns a score with the decimals that differ between trials; a large one of another metric with six digits."""
    return _text(entry.score, ".4f" if abs(entry.score or 0.0) < _LARGE_SCORE else ",.6g")


def _loss(entry: TrialEntry) -> float:
    return 0.0 if entry.loss is None else entry.loss


def _margin_text(entry: TrialEntry) -> str:
    return _text(None if entry.size is None else entry.size.margin_bytes, "+,d")


def _rung_text(entry: TrialEntry, name: str) -> str:
    rung = entry.rung(name)
    return _text(None if rung is None else rung.bpb, ".4f")


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
