"""Ledgers that an editor, git, a power cut or a kill went over: what is whole is read, the rest is told."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune.made_ledger import made_sweep, write_ledger
from tune.cache.backend import open_storage
from tune.cli.mirror import LEDGER, copy, fetch
from tune.cli.report import main as report
from tune.records.ledger import Ledger, encode
from tune.records.layout import Storage
from tune.records.reading import damage_told, ranges, read_lines

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A sweep of three trials and an entry with a letter beyond ASCII."""
    path = tmp_path / "ledger.jsonl"
    write_ledger(path, made_sweep("s", 3))
    Ledger(path).append({"kind": "note", "text": "é {\n}", "small": 1e-05})
    return path


def pretty(data: bytes, indent: int | None = 1, ascii_only: bool = True) -> bytes:
    """As a formatter writes it."""
    values = [json.loads(line) for line in data.splitlines()]
    return "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in values).encode() + b"\n"


def in_an_array(data: bytes) -> bytes:
    """As one JSON value."""
    return json.dumps([json.loads(line) for line in data.splitlines()], indent=4).encode()


MENDED: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "byte order mark and CRLF": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "spaces at the ends": lambda data: data.replace(b"\n", b"  \t\n"),
    "re-indented": pretty,
    "re-indented, tabs and CRLF": lambda data: pretty(data).replace(b"\n ", b"\n\t").replace(b"\n", b"\r\n"),
    "spaces after commas": lambda data: pretty(data, None),
    "letters unescaped": lambda data: pretty(data, 2, ascii_only=False),
    "an array": in_an_array,
    "trials twice": lambda data: data + b"".join(data.splitlines(keepends=True)[:3]),
}


@pytest.mark.parametrize("change", MENDED.values(), ids=MENDED)
def test_another_form_is_mended(ledger: Path, change: Callable[[bytes], bytes]) -> None:
    """Fault: a ledger that an editor or git saved in another form is silently empty, and all is run again."""
    whole, data = Ledger(ledger).entries(), ledger.read_bytes()
    ledger.write_bytes(change(data))
    changed = Ledger(ledger)
    assert changed.entries() == whole
    assert changed.damaged == []
    (told,) = changed.told
    assert told.startswith(f"note: {ledger}, lines ")
    assert ledger.read_bytes() == change(data), "reading writes nothing"
    changed.append({"kind": "note"})
    assert [entry["kind"] for entry in changed.entries()] == ["trial"] * 3 + ["note"] * 2


def test_empty_lines_and_a_missing_newline_are_nothing_to_tell(ledger: Path) -> None:
    """Fault: a warning for what changes no line, or a last entry that is lost."""
    ledger.write_bytes(b"\n" + ledger.read_bytes().rstrip(b"\n").replace(b"\n", b"\n \n\n"))
    again = Ledger(ledger)
    assert (len(again.entries()), again.told) == (4, [])


DAMAGED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, int]] = {
    "a value changed": (lambda x: [x[0].replace(b'"kind"', b'"kinds"'), *x[1:]], "lines 1 (its checksum", 3),
    "numbers rewritten": (lambda x: [*x[:3], x[3].replace(b"1e-05", b"0.00001")], "lines 4 (its checksum", 3),
    "cut short at the end": (
        lambda x: [*x[:3], x[3][:-9]],
        "lines 4 (not a whole JSON value: cut short, as by a kill",
        3,
    ),
    "cut short within": (lambda x: [x[0][:40] + b"\n", *x[1:]], "lines 1 (not a whole JSON value: cut short or", 3),
    "a merge": (
        lambda x: [b"<<<<<<< HEAD\n", *x[:2], b"=======\n", *x[2:], b">>>>>>> night\n"],
        "lines 1, 4, 7 (a conflict marker of a git merge",
        4,
    ),
    "zeros": (lambda x: [*x, b"\0" * 512], "lines 5 (zero bytes", 4),
    "UTF-16": (lambda x: [b"".join(x).decode().encode("utf-16")], "lines 1-5 (zero bytes", 0),
    "re-indented and changed": (lambda x: [pretty(x[0]).replace(b"demo", b"dome"), *x[1:]], "lines 1 (its checksum", 3),
}


@pytest.mark.parametrize(("change", "told", "num_left"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_told(ledger: Path, change: Callable[[list[bytes]], list[bytes]], told: str, num_left: int) -> None:
    """Fault: entries are lost without a word, or without where and why."""
    ledger.write_bytes(b"".join(change(ledger.read_bytes().splitlines(keepends=True))))
    read = Ledger(ledger)
    assert len(read.entries()) == num_left
    (line,) = (line for line in read.told if line.startswith("warning: "))
    assert told in line
    assert str(ledger) in line


def test_the_commands_say_what_they_could_not_read(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: "no such sweep" where its lines are damaged."""
    ledger.write_bytes(ledger.read_bytes().replace(b'"sweep":"s"', b'"sweep":"t"'))
    assert report(["s", "--storage", str(tmp_path), "--no-mlflow"]) == 2
    told = capsys.readouterr().err
    assert "3 of 4 lines are damaged and left out: lines 1-3" in told
    assert "3 of its lines are damaged, see above" in told
    assert not (tmp_path / "reports").exists()
    compare = [sys.executable, str(ROOT / "run_seeds.py"), "--compare", "s", "t", "--storage", str(tmp_path)]
    done = subprocess.run(compare, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "3 of 4 lines are damaged and left out: lines 1-3" in done.stderr


def test_a_mirror_is_not_replaced_by_damage_and_mends_it(ledger: Path, tmp_path: Path) -> None:
    """Fault: the copy's whole lines are overwritten by damaged ones, or other line ends count as another storage."""
    storage, place = Storage(tmp_path), open_storage(tmp_path.parent / f"{tmp_path.name}-mirror")
    copy(storage, place, None)
    whole = ledger.read_bytes()
    ledger.write_bytes(whole.replace(b"\n", b"\r\n"))
    copy(storage, place, None)
    Ledger(ledger).append({"kind": "note"})
    copy(storage, place, None)
    assert len(read_lines(place.read(LEDGER) or b"").entries) == 5
    kept = place.read(LEDGER)
    ledger.write_bytes(ledger.read_bytes().replace(b'"sweep":"s"', b'"sweep":"t"', 1))
    with pytest.raises(ValueError, match=r"has lines of the ledger that are damaged in .* \(lines 1\)"):
        copy(storage, place, None)
    assert place.read(LEDGER) == kept
    mended = Storage(tmp_path / "mended")
    fetch(place, mended)
    assert len(Ledger(mended.ledger).entries()) == 5


def test_many_open_braces_are_read_in_time() -> None:
    """Fault: a hostile file is searched to its end once a line."""
    found = read_lines(b"{\n" * 200_000)
    assert len(found.damaged) == 200_000
    assert "lines 1-200000" in damage_told("ledger", found)[0]


def test_ranges() -> None:
    """Fault: thousands of numbers in one line."""
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert ranges(range(0, 100, 2)).endswith("22, ...")


def test_a_line_written_by_hand_is_none(ledger: Path) -> None:
    """Fault: a checksum that fits the text is enough, whatever the text is."""
    ledger.write_bytes(encode({"kind": "trial", "sweep": 3, "ledger_version": 1}) + b"\n")
    read = Ledger(ledger)
    assert read.entries() == []
    assert "a trial's sweep must be text" in read.told[0]
