"""`python -m tune ledger`, run as a person runs it, and what commands say of a damaged ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from golf.submission.study import StudyVerdict, Summary
from tests.commands import tool
from tests.tune.entries import entry_of
from tune.cli.ledger import listing
from tune.records.entries import ArtifactSize, Failure, FailureKind, Series, TrialEntry, VerdictEntry
from tune.records.ledger import Ledger
from tune.search.space import Trial

main = tool("ledger")
report = tool("report")

ROOT = Path(__file__).parents[3]


def entry(number: int, state: str = "done", **fields: object) -> TrialEntry:
    """A trial's entry."""
    trial = Trial(trial=f"{number:012x}", parameters={"lr": 0.1}, name=f"lr={number}", config={"lr": 0.1})
    size = ArtifactSize(model_bytes=1_000_000, code_bytes=50_000, cap_bytes=16_000_000)
    return entry_of(trial, state, **{"sweep": "night", "bpb": 1 / 3, "size": size, **fields})


def killed(number: int) -> TrialEntry:
    """The entry of a trial that failed."""
    failure = Failure(kind=FailureKind.KILLED, message="its machine was lost")
    return entry(number, "failed", bpb=None, size=None, failure=failure, reason=str(failure))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three trials of two sweeps and a verdict."""
    path, series = (
        tmp_path / "ledger.jsonl",
        Series({"loss": [[0, 1.0, 2.0], [1, 2.0, 1.0]]}, {"ttt": [[9.0, 4, 8]] * 2}),
    )
    Ledger(path).append(killed(0xABC1))
    Ledger(path).append(entry(0xABC1), series)
    Ledger(path).append(entry(0xABC2, sweep="day"), series)
    bpb = Summary(num_values=3, mean=1.25, level=0.95)
    Ledger(path).append(VerdictEntry(study="three", verdict=StudyVerdict(track="record", seeds=(1, 2, 3), bpb=bpb)))
    return path


def test_the_module_is_a_command(ledger: Path) -> None:
    """Fault: `python -m tune ledger` does nothing, warns, or shows a table without the entries."""
    command = [sys.executable, "-W", "error", "-m", "tune", "ledger", "show", "--ledger", str(ledger)]
    width = os.environ | {"COLUMNS": "140"}  # readline, which pytest imports, sets another one for child processes
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=width)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert ["its machine was lost" in line for line in lines] == [False, True, False, False, False]
    assert "1.2500" in lines[4]


def test_filters(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a filter lets others through, or hides what it should show."""
    for arguments, num_shown in (
        (["--sweep", "day"], 1),
        (["--kind", "verdict"], 1),
        (["--kind", "trial"], 3),
        (["--state", "failed"], 1),
        (["--sweep", "three"], 1),
        (["--sweep", "day", "--state", "failed"], 0),
    ):
        assert main(["show", "--ledger", str(ledger), *arguments]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + num_shown, arguments
    with pytest.raises(SystemExit):
        main(["show", "--ledger", str(ledger), "--state", "finished"])


def test_one_entry_in_full(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an earlier entry of a retried trial is shown, a part of it, or one of several that fit."""
    assert main(["show", "--ledger", str(ledger), "00000000abc1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert msgspec.convert(shown, TrialEntry) == Ledger(ledger).trials()[1]
    assert main(["show", "--ledger", str(ledger), "three"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["bpb"]["mean"] == 1.25
    for identity, message in (("00000000abc", "00000000abc2"), ("ffff", "ffff")):
        assert main(["show", "--ledger", str(ledger), identity]) == 2
        assert message in capsys.readouterr().err


def test_damaged_lines_are_reported(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a table that lacks a trial looks complete."""
    lines = ledger.read_bytes().splitlines()
    ledger.write_bytes(b"\n".join([lines[0], lines[1][:-9], *lines[2:]]) + b"\n")
    for arguments in (["show"], ["export", "--to", str(tmp_path / "t.json")]):
        assert main([*arguments, "--ledger", str(ledger)]) == 1
        assert "line 2" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2


@pytest.mark.long
def test_other_commands_say_what_they_could_not_read(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: "no such sweep" where its lines are damaged."""
    ledger.write_bytes(ledger.read_bytes().replace(b'"sweep":"night"', b'"sweep":"other"'))
    assert report(["night", "--storage", str(tmp_path), "--no-mlflow"]) == 2
    errors = capsys.readouterr().err
    assert "2 of 4 lines are not readable and are left out: lines 1-2" in errors
    assert "2 of its lines are damaged, see above" in errors
    assert not (tmp_path / "reports").exists()
    compare = [sys.executable, str(ROOT / "run_seeds.py"), "--compare", "night", "other", "--storage", str(tmp_path)]
    result = subprocess.run(compare, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert "2 of 4 lines are not readable and are left out: lines 1-2" in result.stderr


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


def test_an_export_names_a_missing_series_file(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a table of curves without those of a trial looks complete, or ends in a traceback."""
    (series,) = (ledger.parent / "series").iterdir()
    series.unlink()
    assert main(["export", "--ledger", str(ledger), "--to", str(tmp_path / "t.csv"), "--curves"]) == 2
    assert str(series) in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_lines_fit_the_terminal(ledger: Path) -> None:
    """Fault: a long name wraps every line of the table, or hides the scores."""
    entries = [*Ledger(ledger).records(), entry(9, name="n" * 300, sweep="s" * 80)]
    for width in (80, 140):
        lines = listing(entries, width)
        assert max(map(len, lines)) == width
        assert all("0.3333" in line for line in (lines[2], lines[3], lines[5]))
    assert "1,050,000" in listing(entries, 80)[2]
