"""The ledger as tables: what is read back, by other readers than those who wrote it, is what the ledger holds."""

import csv as plain_csv
import json
import struct
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pyarrow import csv, parquet

from tests.tune.made_ledger import made_sweep, made_trial, write_ledger
from tune.records.entries import ArtifactSize, TrialEntry
from tune.records.export import FIRST_COLUMNS, chunk_table, curve_table, table_of, trial_table, write_table
from tune.records.ledger import Ledger

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NESTED = st.recursive(st.none() | FLOATS | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
COLUMNS = {
    "whole": (st.integers(-(2**63), 2**63 - 1), pyarrow.int64()),
    "real": (FLOATS, pyarrow.float64()),
    "text": (TEXT, pyarrow.string()),
    "flag": (st.booleans(), pyarrow.bool_()),
    "list": (st.lists(NESTED, max_size=3), pyarrow.string()),
    'a "name",\nof two lines': (TEXT, pyarrow.string()),
}
"""Values of a column, and its type in a file."""
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (values, _) in COLUMNS.items()}), min_size=1, max_size=6
)
Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """Returns the rows of a file, by pyarrow's readers and the types in `COLUMNS`; lists from their JSON text."""
    if path.suffix == ".json":
        rows: Rows = json.loads(path.read_text())
        return rows
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
    else:
        types = {name: kind for name, (_, kind) in COLUMNS.items()}
        convert = csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        )
        table = csv.read_csv(path, csv.ReadOptions(), csv.ParseOptions(newlines_in_values=True), convert)
    return [{**row, "list": None if row["list"] is None else json.loads(row["list"])} for row in table.to_pylist()]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
@settings(max_examples=60)
@given(rows=ROWS)
def test_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: Rows) -> None:
    """Fault: a float loses bits, None becomes "" or 0, a comma, quote or line break ends a cell, a list is cut."""
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    write_table(table_of({name: [row[name] for row in rows] for name in COLUMNS}), path)
    found = read(path)
    typed = [[{name: (type(value), value) for name, value in row.items()} for row in part] for part in (found, rows)]
    assert typed[0] == typed[1]


@settings(max_examples=60)
@given(values=st.lists(FLOATS, min_size=1))
def test_csv_is_exact_for_any_reader(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    """Fault: numbers with as many digits as pyarrow's own reader needs and too few for others; a lost minus of 0."""
    path = tmp_path_factory.mktemp("table") / "t.csv"
    write_table(table_of({"x": values, "text": ["a,\n"] * len(values)}), path)
    with path.open(newline="") as file:
        rows = list(plain_csv.reader(file))
    assert rows[0] == ["x", "text"]
    assert [struct.pack("d", float(cell)) for cell, _ in rows[1:]] == [struct.pack("d", value) for value in values]
    assert {text for _, text in rows[1:]} == {"a,\n"}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_column_of_several_types_loses_nothing(tmp_path: Path, suffix: str) -> None:
    """Fault: 1 and "1", or a whole number beyond a float's 53 bits, become the same."""
    columns: dict[str, list[Any]] = {"a": [1, "1", None], "b": [2**53 + 1, 0.5, None], "c": [1, 0.5, None]}
    path = tmp_path / f"t{suffix}"
    write_table(table_of(columns), path)
    if suffix == ".csv":
        with path.open(newline="") as file:
            rows = [{name: cell or None for name, cell in row.items()} for row in plain_csv.DictReader(file)]
    else:
        rows = json.loads(path.read_text()) if suffix == ".json" else parquet.read_table(path).to_pylist()
    for name in "ab":
        cells = [row[name] for row in rows]
        values = cells if suffix == ".json" else [None if cell is None else json.loads(cell) for cell in cells]
        assert [(type(value), value) for value in values] == [(type(value), value) for value in columns[name]]
    assert [row["c"] and float(row["c"]) for row in rows] == [1.0, 0.5, None]


def test_a_trial_is_one_row() -> None:
    """Fault: a field is lost or in another trial's row; a workload without sizes gets some."""
    done, _ = made_trial("night", 1, "done", {"ttt.lr": 0.01, "split": "int5-mlp"})
    failed, _ = made_trial("day", 2, "failed", {"seed": 7})
    first, second = trial_table([done, replace(failed, metrics={"accuracy": 0.5})]).to_pylist()
    assert list(first)[: len(FIRST_COLUMNS)] == list(FIRST_COLUMNS)
    assert isinstance(done.size, ArtifactSize)
    expected = {
        **{"sweep": "night", "trial": done.trial, "state": "done", "reason": None, "bpb": done.bpb},
        **{"artifact_bytes": done.artifact_bytes, "size.cap_bytes": 430_000, "total_seconds": done.total_seconds},
        **{"rungs.quantised.bpb": done.rungs[2].bpb, "seconds.train": 40.0, "parameters.ttt.lr": 0.01},
        **{"config.quant.split": "int5-mlp", "device.name": "made up", "metrics.accuracy": None, "failure.kind": None},
    }
    assert {name: first[name] for name in expected} == expected
    assert (second["state"], second["failure.kind"], second["metrics.accuracy"]) == ("failed", "diverged", 0.5)
    assert (second["artifact_bytes"], second["total_seconds"], second["rungs.quantised.bpb"]) == (None, None, None)


def test_curves_and_chunks_are_long_tables(tmp_path: Path) -> None:
    """Fault: a point or chunk is lost, or is beside the wrong trial, step or curve."""
    records = made_sweep("s", 3, ("done", "failed"), num_chunks=4)
    ledger = Ledger(write_ledger(tmp_path / "ledger.jsonl", records))
    entries: list[TrialEntry] = ledger.latest("s")
    points, chunks = curve_table(entries, ledger.series).to_pylist(), chunk_table(entries, ledger.series).to_pylist()
    for entry, series in records:
        for name, curve in series.curves.items():
            rows = [row for row in points if (row["trial"], row["curve"]) == (entry.trial, name)]
            assert [[row["step"], row["time"], row["value"]] for row in rows] == curve.tolist()
        for name, sums in series.chunks.items():
            rows = [row for row in chunks if (row["trial"], row["rung"]) == (entry.trial, name)]
            assert [row["chunk"] for row in rows] == [0, 1, 2, 3]
            assert [[row["nats"], row["tokens"], row["bytes"]] for row in rows] == sums.tolist()
    assert len(points) == sum(len(curve) for _, series in records for curve in series.curves.values())
    assert len(chunks) == sum(len(sums) for _, series in records for sums in series.chunks.values())
    assert {type(row["bytes"]) for row in chunks} == {type(row["step"]) for row in points} == {int}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_no_trials_make_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    """Fault: an empty ledger makes a file that no reader takes."""
    for number, table in enumerate([trial_table([]), chunk_table([], Ledger(tmp_path / "none").series)]):
        path = tmp_path / f"{number}{suffix}"
        write_table(table, path)
        if suffix == ".json":
            assert json.loads(path.read_text()) == []
        else:
            found = parquet.read_table(path) if suffix == ".parquet" else csv.read_csv(path)
            assert (found.num_rows, found.column_names) == (0, table.column_names)


def test_a_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    """Fault: an export overwrites somebody's file, or leaves half of one when it cannot be made."""
    path, table = tmp_path / "t.csv", table_of({"a": [1]})
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        write_table(table, path)
    with pytest.raises(UnicodeEncodeError):
        write_table(table_of({"a": ["\ud800"]}), path, force=True)
    assert path.read_text() == "mine"
    write_table(table, path, force=True)
    assert path.read_text() == '"a"\n1\n'
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(ValueError, match="parquet"):
        write_table(table, tmp_path / "t.xlsx")
