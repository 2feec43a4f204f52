"""The database of MLflow, made by a process that is killed."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune.tracking.addresses import sqlite_uri
from tune.tracking.connection import connect

SECONDS = 60.0
FEW = 8
"""Tables of some fifty."""


def tables(file: Path) -> int:
    """The number of tables in a file; 0 of one that is no database or is being written."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0)) as opened:
            return int(opened.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.long
def test_a_kill_while_the_tables_are_made(tmp_path: Path) -> None:
    """Fault: half a database is left, and no later start shows its runs."""
    database = tmp_path / "mlflow.db"
    uri = sqlite_uri(database)
    code = f"from tune.tracking.connection import connect; connect({uri!r})"
    process, until = subprocess.Popen([sys.executable, "-c", code]), time.monotonic() + SECONDS
    while max(map(tables, tmp_path.glob("mlflow.db*")), default=0) < FEW and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -9
    client = connect(uri)
    assert client.get_experiment(client.create_experiment("after")).name == "after"
    assert database.exists()
