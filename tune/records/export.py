"""The ledger as tables for other programs: one row a trial, a point of a curve, or a chunk of the validation stream.

Every value is the ledger's: floats keep their 64 bits, nothing is rounded or averaged. Tables are Arrow's; a value that
no column type holds, such as a list, is JSON text. In CSV (RFC 4180 with line feeds) texts are quoted and numbers are
not, so that "" and no value differ.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
import pyarrow
from pyarrow import csv, parquet

from golf.runtime.files import write_whole
from tune.records.entries import Series, TrialEntry
from tune.records.layout import TABLE_FORMATS
from tune.records.text import flat

FIRST_COLUMNS = (
    *("sweep", "trial", "name", "state", "reason", "preset", "workload", "bpb", "nats_per_token"),
    *("artifact_bytes", "total_seconds", "computed_seconds"),
)
"""First columns of the trials' table; the others are the fields of the entries, with dotted names."""
_GROUPS = ("rungs", "screening", "size", "seconds", "metrics", "parameters", "config", "tags")
"""Groups of columns that come next."""
_LEFT_OUT = ("kind", "series", "time", "ledger_version")
"""Fields that say nothing of a trial: its curves and chunks are tables of their own."""
_JSON = {"format": "json"}
"""Metadata of a column whose texts are JSON."""
_EXACT = 1 << 53
"""Whole numbers up to here are exact as floats."""
Table: TypeAlias = pyarrow.Table
ReadSeries = Callable[[TrialEntry], Series]


def trial_table(entries: Sequence[TrialEntry]) -> Table:
    """Returns one row a trial, with a column for every number, parameter, field of the configuration and tag."""
    rows = [_row(entry) for entry in entries]
    names = dict.fromkeys(name for row in rows for name in row)
    grouped = [name for group in _GROUPS for name in names if name.startswith(f"{group}.")]
    columns = list(dict.fromkeys((*FIRST_COLUMNS, *grouped, *names)))
    return table_of({name: [row.get(name) for row in rows] for name in columns})


def _row(entry: TrialEntry) -> dict[str, Any]:
    """Returns the cells of a trial by column; the rungs' by their names, such as rungs.ttt.bpb."""
    values = msgspec.to_builtins(entry)
    fields = {name: value for name, value in values.items() if name not in _LEFT_OUT and value is not None}
    for group in ("rungs", "screening"):
        fields[group] = {score.pop("name"): score for score in fields[group]}
    fields["artifact_bytes"] = entry.artifact_bytes
    fields["total_seconds"] = entry.total_seconds if entry.seconds else None
    fields["computed_seconds"] = entry.computed_seconds if entry.seconds else None
    return flat(fields)


def curve_table(entries: Iterable[TrialEntry], read_series: ReadSeries) -> Table:
    """Returns one row a point of every curve; time in unix seconds."""
    curves = ((entry, name, rows) for entry in entries for name, rows in read_series(entry).curves.items())
    return _long_table("curve", {"step": int, "time": float, "value": float}, curves)


def chunk_table(entries: Iterable[TrialEntry], read_series: ReadSeries) -> Table:
    """Returns one row a chunk of the validation stream and rung: summed nats, tokens and bytes of its text."""
    chunks = (
        (entry, name, np.column_stack([np.arange(len(rows)), rows]))
        for entry in entries
        for name, rows in read_series(entry).chunks.items()
    )
    return _long_table("rung", {"chunk": int, "nats": float, "tokens": int, "bytes": int}, chunks)


def _long_table(name_column: str, columns: Mapping[str, type], parts: Iterable[tuple[TrialEntry, str, Any]]) -> Table:
    """Returns the rows of all parts, each beside its trial and its name.

    Args: name_column: title of the column with the names; columns: titles and types of the arrays' columns; parts:
        (trial, name, float64 [num_rows, num_columns]).
    """
    types = [pyarrow.int64() if kind is int else pyarrow.float64() for kind in columns.values()]
    schema = pyarrow.schema(
        [(name, pyarrow.string()) for name in ("sweep", "trial", name_column)] + list(zip(columns, types, strict=True))
    )
    batches = []
    for entry, name, rows in parts:
        texts = [pyarrow.repeat(pyarrow.scalar(text), len(rows)) for text in (entry.sweep, entry.trial, name)]
        numbers = [pyarrow.array(rows[:, index]).cast(kind) for index, kind in enumerate(types)]
        batches.append(pyarrow.record_batch([*texts, *numbers], schema=schema))
    return pyarrow.Table.from_batches(batches, schema=schema)


def table_of(columns: Mapping[str, Sequence[Any]]) -> Table:
    """Returns JSON values as a table, each column in the narrowest type that holds all its values exactly."""
    arrays, fields = [], []
    for name, values in columns.items():
        array, metadata = _array(values), None
        if array is None:
            texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            array, metadata = pyarrow.array(texts, pyarrow.string()), _JSON
        arrays.append(array)
        fields.append(pyarrow.field(name, array.type, metadata=metadata))
    return pyarrow.table(arrays, schema=pyarrow.schema(fields))


def _array(values: Sequence[Any]) -> Any:
    """Returns the values as an array of one plain type; None where there is no such type."""
    kinds = {type(value) for value in values if value is not None}
    integers = [value for value in values if type(value) is int]
    if kinds <= {str}:
        return pyarrow.array(values, pyarrow.string())
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in integers):
        return pyarrow.array(values, pyarrow.int64())
    if kinds <= {int, float} and all(abs(value) <= _EXACT for value in integers):
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    return None


def _write_json(table: Table, file: BinaryIO) -> None:
    rows = table.to_pylist()
    names = [field.name for field in table.schema if field.metadata]
    for row in rows:
        row.update({name: json.loads(row[name]) for name in names if row[name] is not None})
    file.write((json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())


_WRITERS: Mapping[str, Callable[[Table, BinaryIO], None]] = {
    ".csv": csv.write_csv,
    ".json": _write_json,
    ".parquet": parquet.write_table,
}


def write_table(table: Table, path: Path, force: bool = False) -> None:
    """Writes a table, whole, in the format that the suffix of `path` names.

    Args: table: of this module; path: the file; force: whether a file that is there is replaced.
    Raises: ValueError for another suffix; FileExistsError without `force`.
    """
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path} must end in one of {', '.join(TABLE_FORMATS)}")
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already; --force replaces it")
    write_whole(path, lambda file: _WRITERS[path.suffix](table, file))
