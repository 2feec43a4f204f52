"""`golf-sweep ui`: MLflow's pages of a storage folder."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.commands import tool
from tests.tune.made_ledger import made_study, made_sweep, write_ledger
from tune.tracking.addresses import default_uri

ROOT = Path(__file__).parents[3]
ui = tool("ui")


def test_what_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a server for a folder or a sweep that is not there, or a message that does not help on."""
    assert ui(["--storage", str(tmp_path)]) == 2
    assert "name another folder with --storage" in capsys.readouterr().err
    write_ledger(tmp_path / "ledger.jsonl", made_sweep("night", 2))
    assert ui(["nihgt", "--storage", str(tmp_path)]) == 2
    assert 'did you mean "night"?' in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_lives_as_long_as_the_command(number: signal.Signals, tmp_path: Path) -> None:
    """Fault: MLflow lacks what the ledger has, another sweep is shown, or the server outlives the command."""
    write_ledger(tmp_path / "ledger.jsonl", [*made_sweep("night", 2), *made_study("seeds", [1, 2])])
    command = [sys.executable, "-m", "tune", "ui", "night", "--storage", str(tmp_path), "--no-browser"]
    shown = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert shown.stdout is not None
        lines = []
        for line in shown.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        (page,) = (line.split()[-1] for line in lines if line.startswith("in a browser: "))
        address, _, place = page.partition("/#/")
        assert place.endswith("/runs?workflowType=machine_learning&viewStateShareKey=night")
        query = json.dumps({"experiment_ids": [place.split("/")[1]], "filter": "tags.sweep = 'night'"}).encode()
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/runs/search", query, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["runs"]) == 3
        shown.send_signal(number)
        assert shown.wait(30) == 0
    finally:
        shown.kill()
        shown.communicate()
    deadline = time.monotonic() + 10
    uri = default_uri(tmp_path).encode()
    while serving := [path for path in Path("/proc").glob("[0-9]*/cmdline") if uri in _text(path)]:
        assert time.monotonic() < deadline, serving
        time.sleep(0.1)


def _text(path: Path) -> bytes:
    """A file of a process, empty once that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
