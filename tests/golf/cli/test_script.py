"""`golf script inspect`, run as a person runs it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from golf.cli.main import main
from tests.golf.scripts.made import KINDS, SCRIPT, packed

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = b"""
import torch
world_size = int(os.environ.get("WORLD_SIZE", "1"))
if 8 % world_size != 0:
    raise ValueError("no")
print(f"step:{1}/{2} val_loss:{3} val_bpb:{4}")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that would tell that it ran."""
    path = tmp_path / "train_gpt.py"
    path.write_bytes(SCRIPT + TORCHRUN + b"open('ran', 'w').close()\n")
    return path


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints."""
    assert main(["script", "inspect", *words]) == 0
    return capsys.readouterr().out


def test_all_settings_and_what_is_to_be_known(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a setting is left out, a line is wider than a terminal, or the script is run."""
    monkeypatch.chdir(script.parent)
    text = shown(capsys, "train_gpt.py")
    assert all(f"  {name} " in text for name in KINDS)
    assert "WORLD_SIZE " not in text, "torchrun sets it"
    assert max(map(len, text.splitlines())) <= 80
    for words in ("STEPS", "divides 8: 1, 2, 4, 8", "val_bpb:X", "SEED does not reach", "MAX_WALLCLOCK_SECONDS=0"):
        assert words in text
    assert not Path("ran").exists()


def test_one_json_object(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: the object lacks what the table shows."""
    report = json.loads(shown(capsys, str(script), "--json", "--nproc", "4"))
    kinds = {found["name"]: found["type"] for found in report["variables"]}
    assert kinds == {**KINDS, "WORLD_SIZE": "int"}
    assert report["needs"]["world_size_divides"] == 8
    assert {found["name"]: found["patchable"] for found in report["constants"]}["STEPS"]


def test_a_packed_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a packed script looks empty, or its constants look as if they could be patched."""
    (tmp_path / "p.py").write_bytes(packed(SCRIPT, "lzma"))
    text = shown(capsys, str(tmp_path / "p.py"))
    assert all(f"  {name} " in text for name in KINDS)
    assert text.count("(not patched)") == len(json.loads(shown(capsys, str(tmp_path / "p.py"), "--json"))["constants"])
    assert "constants in packed code cannot be patched" in text


def test_a_script_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a script without score and seed is shown as if all were well, or its texts reach the terminal."""
    (tmp_path / "c.py").write_text("SEED = 3\nA = '\x1b[2J'\nLONG = '" + "x" * 300 + "'\n")
    text = shown(capsys, str(tmp_path / "c.py"))
    assert "--metric" in text
    assert "it reads no SEED: runs differ by chance only; it has SEED" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines()[1:])) <= 80  # the first has the file's path


@pytest.mark.parametrize(
    ("name", "content", "words", "error"),
    [
        ("gone.py", None, [], "there is no file or folder"),
        ("bad.py", b"def f(:\n", [], "bad.py: it is no Python"),
        ("big.py", b"#" * (9 << 20), [], "more than the 8,388,608"),
        ("ok.py", SCRIPT + TORCHRUN, ["--nproc", "3"], "--nproc 3 must be one of 1, 2, 4, 8"),
        ("one.py", b"print(1)\n", ["--nproc", "2"], "does not read what torchrun sets"),
        (".", None, [], "is no file"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    words: list[str],
    error: str,
) -> None:
    """Fault: a traceback, or an error that does not name the file."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["script", "inspect", str(tmp_path / name), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert error in lines[0]
    assert str(tmp_path) in lines[0]


@pytest.mark.parametrize("words", [["--help"], ["script", "--help"], ["script", "inspect", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Fault: help takes seconds because a parser imports PyTorch."""
    seconds = []
    for _ in range(3):  # other work on the machine may slow one of them
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "golf", *words], cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert b"script" in done.stdout
    assert min(seconds) < 0.7
