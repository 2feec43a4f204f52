"""The ledger as tables for other programs: one row a trial, or one a point of a curve or a chunk of the stream.

Ledger entries enter; rows of plain values leave, or a CSV, JSON or Parquet file of them. Every value is the ledger's:
floats keep their 64 bits, nothing is rounded, averaged or left out. What no cell can hold is JSON text: a list, and in
Parquet a column of values of several types. Source of the CSV form: RFC 4180, all text quoted, so that "" and nothing
differ.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from golf.runtime.files import write_whole
from tune.records.ledger import STAMPS
from tune.records.queries import latest

Row = dict[str, Any]
FORMATS = (".csv", ".json", ".parquet")
"""Suffixes of the files that can be written."""
TRIAL_COLUMNS = ("sweep", "trial", "name", "status", "cause", "preset")
CURVE_COLUMNS = ("sweep", "trial", "curve", "step", "time", "value")
CHUNK_COLUMNS = ("sweep", "trial", "rung", "chunk", "nats", "tokens", "bytes")
"""First columns, or all of them."""
_GROUPS = ("metrics", "parameters", "config", "tags")
"""Groups of a trial's columns that come first; names are as in the entry, dotted."""
_APART = ("kind", "curves", "chunks", *STAMPS)
"""What a row of a trial leaves out: other tables hold it, or it says nothing of the trial."""
_EXACT = 1 << 53
"""Whole numbers up to here are exact as floats."""


def trial_rows(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a trial, with a column for every figure, parameter, field of the configuration and tag: `metrics.bpb`."""
    flat = [dict(_leaves({k: v for k, v in entry.items() if k not in _APART}, "")) for entry in latest(entries)]
    names = dict.fromkeys(name for row in flat for name in row)
    grouped = [name for group in _GROUPS for name in names if name.startswith(f"{group}.")]
    columns = dict.fromkeys((*TRIAL_COLUMNS, *grouped, *names))
    return [{name: row.get(name) for name in columns} for row in flat]


def curve_rows(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a point of every curve; time in unix seconds."""
    return [
        dict(zip(CURVE_COLUMNS, (entry.get("sweep"), entry.get("trial"), curve, *point), strict=True))
        for entry in latest(entries)
        for curve, points in (entry.get("curves") or {}).items()
        for point in points
    ]


def chunk_rows(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a chunk of the validation stream and rung: its summed nats, tokens and bytes of text."""
    return [
        dict(zip(CHUNK_COLUMNS, (entry.get("sweep"), entry.get("trial"), rung, place, *sums), strict=True))
        for entry in latest(entries)
        for rung, chunks in (entry.get("chunks") or {}).items()
        for place, sums in enumerate(chunks)
    ]


def write_table(rows: Sequence[Row], columns: Sequence[str], path: Path, force: bool = False) -> None:
    """Write the rows whole, in the format that the suffix of `path` names.

    Args: columns: the header where there are no rows; force: whether a file that is there is replaced.
    Raises: ValueError for another suffix; FileExistsError.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} must end in one of {', '.join(FORMATS)}")
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already; --force replaces it")
    names = list(rows[0]) if rows else list(columns)
    if path.suffix == ".parquet":
        write_whole(path, lambda file: _write_parquet(rows, names, file))
    else:
        text = _csv(rows, names) if path.suffix == ".csv" else json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item


def _csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    text = io.StringIO()
    for cells in (names, *([row[name] for name in names] for row in rows)):
        text.write(",".join(map(_csv_cell, cells)) + "\r\n")
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    """Nothing for None; numbers as Python writes them, which reads back to the same bits."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return '"' + text.replace('"', '""') + '"'


def _write_parquet(rows: Sequence[Row], names: Sequence[str], file: BinaryIO) -> None:
    columns = {name: _column([row[name] for row in rows]) for name in names}
    parquet.write_table(pyarrow.table(columns), file)


def _column(values: Sequence[Any]) -> Any:
    """The values in the narrowest type that holds them all exactly; as JSON text where none does."""
    kinds = {type(value) for value in values if value is not None}
    whole = [value for value in values if type(value) is int]
    if kinds <= {str}:
        return pyarrow.array(values, pyarrow.string())
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in whole):
        return pyarrow.array(values, pyarrow.int64())
    if kinds <= {int, float} and all(abs(value) <= _EXACT for value in whole):
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    return pyarrow.array([None if v is None else json.dumps(v, ensure_ascii=False) for v in values], pyarrow.string())
