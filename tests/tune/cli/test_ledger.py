"""`python -m tune ledger`, run as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.records.test_export import entry
from tune.cli.ledger import listing, main
from tune.records.ledger import Ledger

ROOT = Path(__file__).parents[3]


def unstamped(trial: int, **changes: object) -> dict[str, object]:
    """An entry as a sweep appends it."""
    return {name: value for name, value in entry(trial, **changes).items() if name != "time"}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three trials of two sweeps and a verdict."""
    path = tmp_path / "ledger.jsonl"
    book = Ledger(path)
    book.append(unstamped(0xABC1, status="failed", metrics={}, cause="killed"))
    book.append(unstamped(0xABC1))
    book.append(unstamped(0xABC2, sweep="day"))
    book.append({"kind": "seeds", "study": "three", "bpb": {"mean": 1.25}})
    return path


def test_the_module_is_a_command(ledger: Path) -> None:
    """Fault: `python -m tune ledger` does nothing, warns, or shows a table without the entries."""
    command = [sys.executable, "-W", "error", "-m", "tune", "ledger", "show", "--ledger", str(ledger)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert ["killed" in line for line in lines] == [False, True, False, False, False]
    assert "1.2500" in lines[4]


def test_filters(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a filter lets others through, or hides what it should show."""
    for arguments, shown in (
        (["--sweep", "day"], 1),
        (["--kind", "seeds"], 1),
        (["--kind", "trial"], 3),
        (["--status", "failed"], 1),
        (["--sweep", "three"], 1),
        (["--sweep", "day", "--status", "failed"], 0),
    ):
        assert main(["show", "--ledger", str(ledger), *arguments]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + shown, arguments


def test_one_entry_whole(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an earlier entry of a retried trial is shown, a part of it, or one of several that fit."""
    assert main(["show", "--ledger", str(ledger), "00000000abc1"]) == 0
    assert json.loads(capsys.readouterr().out) == Ledger(ledger).entries()[1]
    assert main(["show", "--ledger", str(ledger), "three"]) == 0
    assert json.loads(capsys.readouterr().out)["bpb"] == {"mean": 1.25}
    for identity, said in (("00000000abc", "00000000abc2"), ("ffff", "ffff")):
        assert main(["show", "--ledger", str(ledger), identity]) == 2
        assert said in capsys.readouterr().err


def test_damaged_lines_are_told(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a table that lacks a trial looks complete."""
    lines = ledger.read_bytes().splitlines()
    ledger.write_bytes(b"\n".join([lines[0], lines[1][:-9], *lines[2:]]) + b"\n")
    for arguments in (["show"], ["export", "--to", str(tmp_path / "t.json")]):
        assert main([*arguments, "--ledger", str(ledger)]) == 1
        assert "line 2" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2


def test_exports(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an export ignores its filter, takes the wrong table, or overwrites a file."""
    target = tmp_path / "t.json"
    for arguments, rows in (([], 2), (["--sweep", "day"], 1), (["--curves"], 4), (["--chunks", "--sweep", "day"], 2)):
        assert main(["export", "--ledger", str(ledger), "--to", str(target), "--force", *arguments]) == 0
        assert len(json.loads(target.read_text())) == rows, arguments
    before = target.read_bytes()
    assert main(["export", "--ledger", str(ledger), "--to", str(target)]) == 2
    assert main(["export", "--ledger", str(tmp_path / "no.jsonl"), "--to", str(tmp_path / "no.csv")]) == 2
    assert target.read_bytes() == before
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_lines_fit_the_terminal(ledger: Path) -> None:
    """Fault: a long name wraps every line of the table."""
    entries = [*Ledger(ledger).entries(), entry(9, name="n" * 300, sweep="s" * 80)]
    lines = listing(entries, 80)
    assert max(map(len, lines)) == 80
    assert all("0.3333" in line[:80] for line in lines[2:4])
