"""Command lines whose output nobody reads any more, and paths as a person types them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from golf.cli.terminal import expand_paths, expanded, python_line, quiet_when_closed
from tests.tune.made_ledger import made_sweep, write_ledger

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["-m", "golf", "fields"],
        ["-m", "golf", "nosuch"],
        ["-m", "tune", "ledger", "show", "--ledger", "{here}/ledger.jsonl"],
        ["-m", "tune", "report", "s", "--storage", "{here}", "--no-mlflow"],
        ["-m", "tune", "mirror", "copy", "{here}", "{here}/copy"],
        ["run_sweep.py", "--help"],
        ["run_seeds.py", "--power", "demo", "--storage", "{here}"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_quietly(words: list[str], tmp_path: Path) -> None:
    """Fault: `| head -1` ends with "error: Broken pipe", or with Python's complaint about its last flush."""
    write_ledger(tmp_path / "ledger.jsonl", made_sweep("s", 3))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, *(word.format(here=tmp_path) for word in words)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writing)
    if "nosuch" in words:
        assert done.returncode == 2
        assert "invalid choice: 'nosuch'" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_another_broken_pipe_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a connection that broke passes for a reader that has seen enough."""

    @quiet_when_closed
    def main() -> int:
        raise BrokenPipeError(32, "the database hung up")

    assert main() == 2
    assert "the database hung up" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: --out=~/x, which the shell leaves as it is, makes a folder called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = argparse.Namespace(out=Path("~/x"), text=[Path("~/y"), Path("z")], name="~", data=None)
    assert vars(expand_paths(parsed)) == {
        "out": tmp_path / "x",
        "text": [tmp_path / "y", Path("z")],
        "name": "~",
        "data": None,
    }
    assert expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")


def test_a_printed_command_runs_as_typed(tmp_path: Path) -> None:
    """Fault: a folder with a space or a quote ends the command where it stands."""
    path = tmp_path / "it's a $HOME; x"
    line = python_line("timeit", "-n1", "-r1", f"open({str(path)!r}, 'w')")
    subprocess.run(line, shell=True, check=True, capture_output=True)
    assert path.exists()
