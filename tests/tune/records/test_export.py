"""The ledger as tables: what is read back, by other readers than those who wrote it, is what the ledger holds."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from tune.records.export import CURVE_COLUMNS, TRIAL_COLUMNS, Row, chunk_rows, curve_rows, trial_rows, write_table

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NESTED = st.recursive(st.none() | FLOATS | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
COLUMNS = {
    "whole": (st.integers(-(2**63), 2**63 - 1), pyarrow.int64()),
    "real": (FLOATS, pyarrow.float64()),
    "text": (TEXT, pyarrow.string()),
    "flag": (st.booleans(), pyarrow.bool_()),
    "list": (st.lists(NESTED, max_size=3), pyarrow.string()),
}
"""Values of a column, and its type in a file."""
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (values, _) in COLUMNS.items()}), min_size=1, max_size=6
)


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """A trial's entry."""
    return {
        "kind": "trial",
        "sweep": "night",
        "trial": f"{number:012x}",
        "status": "done",
        "cause": None,
        "parameters": {"seed": number},
        "config": {"model": {"layers": [1, 2], "off": None}},
        "metrics": {"bpb": 1 / 3},
        "tags": {"device": "cpu"},
        "curves": {"train_loss": [[0, 1.5, 0.1], [1, 2.5, 0.2]]},
        "chunks": {"ttt": [[10.5, 4, 9], [11.5, 3, 8]]},
        "time": "2026-01-01T00:00:00Z",
        **changes,
    }


def read(path: Path) -> list[Row]:
    """The rows of a file, by pyarrow's readers and the types in `COLUMNS`; lists from their JSON text."""
    if path.suffix == ".json":
        found: list[Row] = json.loads(path.read_text())
        return found
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
    else:
        types = {name: kind for name, (_, kind) in COLUMNS.items()}
        convert = csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        )
        table = csv.read_csv(path, csv.ReadOptions(), csv.ParseOptions(newlines_in_values=True), convert)
    rows = table.to_pylist()
    return [{**row, "list": None if row["list"] is None else json.loads(row["list"])} for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Row]) -> None:
    """Fault: a float loses bits, None becomes "" or 0, a comma, quote or line break ends a cell, a list is cut."""
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    write_table(rows, (), path)
    found = read(path)
    assert found == rows
    types = [[{name: type(value) for name, value in row.items()} for row in table] for table in (found, rows)]
    assert types[0] == types[1]


def test_a_column_of_several_types_loses_nothing(tmp_path: Path) -> None:
    """Fault: 1 and "1", or a whole number beyond a float's 53 bits, become the same in Parquet."""
    rows: list[Row] = [
        {"a": 1, "b": 2**53 + 1, "c": 1},
        {"a": "1", "b": 0.5, "c": 0.5},
        {"a": None, "b": None, "c": None},
    ]
    write_table(rows, (), tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    for name in ("a", "b"):
        assert [None if text is None else json.loads(text) for text in table[name]] == [row[name] for row in rows]
    assert table["c"] == [1.0, 0.5, None]


def test_a_trial_is_one_row_of_its_last_entry() -> None:
    """Fault: a retried trial stands there twice or with its first outcome; a field is lost; other kinds slip in."""
    first = entry(1, status="failed", metrics={})
    other = entry(1, sweep="day", metrics={"nats": 2.0})
    rows = trial_rows([first, {"kind": "screened", "trial": "x"}, other, entry(1)])
    assert [(row["sweep"], row["status"]) for row in rows] == [("night", "done"), ("day", "done")]
    assert rows[0] == {
        **{"sweep": "night", "trial": f"{1:012x}", "name": None, "status": "done", "cause": None, "preset": None},
        **{"metrics.bpb": 1 / 3, "metrics.nats": None, "parameters.seed": 1},
        **{"config.model.layers": [1, 2], "config.model.off": None, "tags.device": "cpu"},
    }
    assert list(rows[0]) == list(rows[1])


def test_curves_and_chunks_are_long_tables() -> None:
    """Fault: a point or chunk is lost, or stands by the wrong trial or step."""
    points = curve_rows([entry(1), entry(2, curves={})])
    assert [(row["step"], row["time"], row["value"]) for row in points] == [(0, 1.5, 0.1), (1, 2.5, 0.2)]
    assert {(row["sweep"], row["trial"], row["curve"]) for row in points} == {("night", f"{1:012x}", "train_loss")}
    chunks = chunk_rows([entry(3)])
    assert [(row["rung"], row["chunk"], row["nats"], row["tokens"], row["bytes"]) for row in chunks] == [
        ("ttt", 0, 10.5, 4, 9),
        ("ttt", 1, 11.5, 3, 8),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_no_trials_make_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    """Fault: an empty ledger makes a file that no reader takes."""
    path = tmp_path / f"t{suffix}"
    write_table([], TRIAL_COLUMNS, path)
    if suffix == ".json":
        assert json.loads(path.read_text()) == []
    else:
        table = parquet.read_table(path) if suffix == ".parquet" else csv.read_csv(path)
        assert (table.num_rows, tuple(table.column_names)) == (0, TRIAL_COLUMNS)


def test_a_file_is_replaced_only_when_told(tmp_path: Path) -> None:
    """Fault: an export overwrites somebody's file, or leaves half of one when it cannot be made."""
    path = tmp_path / "t.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        write_table([], CURVE_COLUMNS, path)
    assert path.read_text() == "mine"
    with pytest.raises(UnicodeEncodeError):
        write_table([{"a": "\ud800"}], (), path, force=True)
    assert path.read_text() == "mine"
    write_table([{"a": 1}], (), path, force=True)
    assert path.read_text() == '"a"\n1\n'
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(ValueError, match="parquet"):
        write_table([], (), tmp_path / "t.xlsx")
