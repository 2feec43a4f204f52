"""Ledgers that an editor, git, a power cut or a kill went over: what is intact is read, the rest is reported."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.tune.made_ledger import made_sweep, made_trial, write_ledger
from tune.records.entries import Failure, FailureKind, ScreeningEntry, TrialEntry
from tune.records.ledger import Ledger, warn_of_damage
from tune.records.lines import damage_report, ranges, read_lines

NOTE = ScreeningEntry(trial="é {\n}", rung="live", chunks=((1e-05, 1, 1),))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A sweep of three trials and a record with a letter beyond ASCII."""
    return write_ledger(tmp_path / "ledger.jsonl", [*(entry for entry, _ in made_sweep("s", 3)), NOTE])


def pretty(data: bytes, indent: int | None = 1, ascii_only: bool = True) -> bytes:
    """As Python formats it, which writes 1e-8 as 1e-08."""
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
    "numbers respelled": lambda data: data.replace(b"0.00001", b"1E-5"),
    "an array": in_an_array,
    "trials twice": lambda data: data + b"".join(data.splitlines(keepends=True)[:3]),
}


@pytest.mark.parametrize("change", MENDED.values(), ids=MENDED)
def test_another_form_is_mended(ledger: Path, change: Callable[[bytes], bytes]) -> None:
    """Fault: a ledger that an editor or git saved in another form is silently empty, and all is run again."""
    records, data = Ledger(ledger).records(), ledger.read_bytes()
    ledger.write_bytes(change(data))
    assert change(data) != data
    changed = Ledger(ledger)
    assert changed.records() == records
    assert changed.damaged == []
    (note,) = changed.damage
    assert note.startswith(f"note: {ledger}, lines ")
    assert ledger.read_bytes() == change(data), "reading writes nothing"
    changed.append(NOTE)
    assert [type(record) for record in changed.records()] == [TrialEntry] * 3 + [ScreeningEntry] * 2


def test_empty_lines_and_a_missing_newline_are_not_reported(ledger: Path) -> None:
    """Fault: a warning for what changes no line, or a last record that is lost."""
    ledger.write_bytes(b"\n" + ledger.read_bytes().rstrip(b"\n").replace(b"\n", b"\n \n\n"))
    again = Ledger(ledger)
    assert (len(again.records()), again.damage) == (4, [])


DAMAGED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, int]] = {
    "a value changed": (lambda x: [x[0].replace(b'"kind"', b'"kinds"'), *x[1:]], "lines 1 (its checksum", 3),
    "a type changed": (lambda x: [x[0].replace(b":40.0", b":40"), *x[1:]], "lines 1 (its checksum", 3),
    "cut short at the end": (lambda x: [*x[:3], x[3][:-9]], "lines 4 (cut short, as by a kill or a full disk)", 3),
    "cut short within": (lambda x: [x[0][:40] + b"\n", *x[1:]], "lines 1 (cut short or changed", 3),
    "a merge": (
        lambda x: [b"<<<<<<< HEAD\n", *x[:2], b"=======\n", *x[2:], b">>>>>>> night\n"],
        "lines 1, 4, 7 (a conflict marker of a git merge",
        4,
    ),
    "zeros": (lambda x: [*x, b"\0" * 512], "lines 5 (zero bytes", 4),
    "UTF-16": (lambda x: [b"".join(x).decode().encode("utf-16")], "lines 1-5 (zero bytes", 0),
    "re-indented and changed": (lambda x: [pretty(x[0]).replace(b"demo", b"dome"), *x[1:]], "lines 1 (its checksum", 3),
}


@pytest.mark.parametrize(("change", "report", "num_left"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_reported(
    ledger: Path,
    change: Callable[[list[bytes]], list[bytes]],
    report: str,
    num_left: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fault: records are lost without a word, or without where and why."""
    ledger.write_bytes(b"".join(change(ledger.read_bytes().splitlines(keepends=True))))
    assert len(Ledger(ledger).records()) == num_left
    (warning,) = (line for line in Ledger(ledger).damage if line.startswith("warning: "))
    assert report in warning
    assert str(ledger) in warning
    warn_of_damage(ledger, ledger.parent / "there is none")
    assert warning in capsys.readouterr().err.splitlines()


def test_a_ledger_of_an_earlier_version(ledger: Path) -> None:
    """Fault: the trials of an old ledger are run again without a word, or called damaged without a remedy."""
    old = b'{"bpb":1.25,"crc32":"1d0ba1ad","kind":"trial","ledger_version":1,"trial":"a"}\n'
    ledger.write_bytes(old * 2 + pretty(old) + ledger.read_bytes())
    (warning,) = (line for line in Ledger(ledger).damage if line.startswith("warning: "))
    assert f"warning: {ledger}: 3 of 7 lines" in warning
    assert "lines 1-3 (written by an earlier version of this program (ledger_version 1, this one reads 2)" in warning
    assert "give a new --storage" in warning
    assert len(Ledger(ledger).records()) == 4


@pytest.mark.long
def test_many_open_braces_are_read_in_time() -> None:
    """Fault: a hostile file is searched to its end once a line."""
    lines = read_lines(b"{\n" * 200_000)
    assert len(lines.damaged) == 200_000
    assert "lines 1-200000" in damage_report("ledger", lines)[0]


def test_ranges() -> None:
    """Fault: thousands of numbers in one line."""
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert ranges(range(0, 100, 2)).endswith("22, ...")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"kind": "trial", "sweep": 3, "ledger_version": 2}, "Expected `str`, got `int` - at `$.sweep`"),
        ({"kind": "note", "ledger_version": 2}, "Invalid value 'note' - at `$.kind`"),
        ({"kind": "screening", "trial": "a", "rung": "b", "chunks": [], "ledger_version": 3}, "ledger_version is 3"),
        ({"kind": "screening", "trial": "a", "rung": "b", "chunks": [[10**400, 1, 1]], "ledger_version": 2}, "range"),
        ({"kind": "screening", "trial": "a", "rung": "b", "chunks": [[1.0, 10**400, 1]], "ledger_version": 2}, "1e+3"),
    ],
)
def test_a_line_written_by_hand(ledger: Path, payload: dict[str, object], reason: str) -> None:
    """Fault: a checksum that fits the text is enough, whatever the text is."""
    text = json.dumps(payload, separators=(",", ":")).encode()
    ledger.write_bytes(text[:-1] + b',"crc32":"%08x"}\n' % zlib.crc32(text))
    assert Ledger(ledger).records() == []
    assert reason in Ledger(ledger).damage[0]


def test_secrets_are_masked(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a password in a failure's message or in a tag is written into a file that is copied and shown."""
    monkeypatch.setenv("PGPASSWORD", "staple-postgres-9")
    failure = Failure(kind=FailureKind.ERROR, message="postgresql://me:geheim12@db refused staple-postgres-9")
    entry = made_trial("s", 9, "failed", {})[0]
    tags = {"who": "staple-postgres-9", "staple-postgres-9": "x"}
    entry = msgspec.structs.replace(entry, failure=failure, reason=str(failure), tags=tags)
    Ledger(ledger).append(entry)
    written = Ledger(ledger).latest()[-1]
    assert written.failure == Failure(kind=FailureKind.ERROR, message="postgresql://***@db refused ***")
    assert written.tags == {"who": "***", "***": "x"}
    assert not any(secret in ledger.read_bytes() for secret in (b"geheim12", b"staple-postgres-9"))


def test_text_that_utf8_cannot_hold(ledger: Path) -> None:
    """Fault: a file name of undecodable bytes in a message keeps a trial's result out of the ledger."""
    entry = msgspec.structs.replace(
        made_trial("s", 9, "failed", {})[0], reason="no file a\udcff\n", tags={"\ud800": ""}
    )
    Ledger(ledger).append(entry)
    assert Ledger(ledger).latest()[-1].reason == "no file a?\n"
