"""The ledger under kills, torn lines, concurrent writers, full disks and flipped bits."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.full_disk import file_size_limit
from tune.records.ledger import STAMPS, Ledger

ROOT = Path(__file__).parents[3]

APPEND_FOREVER = """
import itertools, sys
from tune.records.ledger import Ledger
ledger = Ledger(sys.argv[1])
for index in itertools.count():
    ledger.append({"index": index, "text": "x" * 20_000})
    print(index, flush=True)
"""

APPEND_FIFTY = """
import sys
from tune.records.ledger import Ledger
ledger = Ledger(sys.argv[1])
sys.stdin.readline()
for index in range(50):
    ledger.append({"writer": int(sys.argv[2]), "index": index, "text": "y" * (index * 400)})
"""


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """`code` running in its own Python."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def plain(entry: dict[str, Any]) -> dict[str, Any]:
    """`entry` without what the ledger added."""
    return {name: value for name, value in entry.items() if name not in STAMPS}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.dictionaries(st.text().filter(lambda name: name not in STAMPS), JSON_VALUES, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(ENTRIES, max_size=3))
def test_entries_come_back_equal(entries: list[dict[str, Any]]) -> None:
    """Fault: a line break, odd letter or float inside an entry splits or changes the line."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "deep" / "ledger.jsonl")
        for entry in entries:
            ledger.append(entry)
        assert [plain(entry) for entry in ledger.entries()] == entries
        assert ledger.damaged == []


def test_find_by_equal_fields(tmp_path: Path) -> None:
    """Fault: a missing field counts as equal to None, or only one of two conditions is applied."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.find(kind="trial") == []
    for entry in ({"kind": "trial", "n": 1}, {"kind": "trial", "n": 2, "cause": None}, {"kind": "other", "n": 2}):
        ledger.append(entry)
    assert [plain(entry) for entry in ledger.find(kind="trial", n=2)] == [{"kind": "trial", "n": 2, "cause": None}]
    assert len(ledger.find(cause=None)) == 1


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"metrics": {"bpb": float("nan")}}, "metrics.bpb"),
        ({"curves": {"loss": [[1, 2.0, float("-inf")]]}}, "curves.loss[0][2]"),
        ({"files": {"artifact": Path("/a")}}, "files.artifact"),
        ({"config": {3: 4}}, "config"),
        ({"time": "now"}, "time"),
    ],
)
def test_refuses_what_no_line_can_hold(tmp_path: Path, entry: dict[str, Any], path: str) -> None:
    """Fault: NaN, a path object or a number as key is written so that it cannot be read back as it was."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the place in the message is what is tested
        ledger.append(entry)
    assert path in str(caught.value)
    assert not ledger.path.exists()


def test_last_line_torn_at_every_byte(tmp_path: Path) -> None:
    """Fault: after a crash in the middle of a line the next entry is glued to the rest, or reading raises."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"n": 0})
    first = ledger.path.stat().st_size
    ledger.append({"n": 1, "text": "é\n"})
    whole = ledger.path.read_bytes()
    for length in range(first, len(whole)):
        ledger.path.write_bytes(whole[:length])
        kept = [0, 1] if length == len(whole) - 1 else [0]
        assert [entry["n"] for entry in ledger.entries()] == kept
        torn = length not in (first, len(whole) - 1)
        assert [line.line_number for line in ledger.damaged] == ([2] if torn else [])
        ledger.append({"n": 2})
        assert [entry["n"] for entry in ledger.entries()] == [*kept, 2]


def test_every_bit_flip_is_seen(tmp_path: Path) -> None:
    """Fault: a changed number is read as a true one."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for n in range(3):
        ledger.append({"n": n, "bpb": 1.25, "name": "é"})
    whole = ledger.path.read_bytes()
    true = ledger.entries()
    begin = whole.index(b"\n") + 1
    end = whole.index(b"\n", begin)
    for position in range(begin, end):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            ledger.path.write_bytes(flipped)
            assert ledger.entries() == [true[0], true[2]]
            assert ledger.damaged


def test_garbage_is_reported_and_skipped(tmp_path: Path) -> None:
    """Fault: bytes that are no text, or JSON that is no entry, stop the reader."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    garbage = [b"\xff\xfe\x00", b"[1, 2]", b"{}", b"NaN", b"[" * 100_000, b'{"crc32": "00000000"}', b'{"n": 1']
    for line in garbage:
        ledger.append({"n": 1})
        with ledger.path.open("ab") as file:
            file.write(line + b"\n")
    assert len(ledger.entries()) == len(garbage)
    assert [line.line_number for line in ledger.damaged] == [2 * n + 2 for n in range(len(garbage))]


def test_kill_in_the_middle_of_appending(tmp_path: Path) -> None:
    """Fault: a killed writer loses entries that it had reported as written, or leaves the lock held."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(3):
        before = len(ledger.entries())
        writer = start(APPEND_FOREVER, str(ledger.path))
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
        output = writer.stdout.read()  # communicate() would lose what readline() read ahead
        writer.communicate()
        reported = 1 + output.count(b"\n")
        indices = [entry["index"] for entry in ledger.entries()[before:]]
        assert len(indices) in (reported, reported + 1)
        assert indices == list(range(len(indices)))
        assert all(line.line_number >= before for line in ledger.damaged)
        ledger.append({"index": -1})
        assert ledger.entries()[-1]["index"] == -1


def test_eight_writers_at_once(tmp_path: Path) -> None:
    """Fault: lines of concurrent writers are mixed into each other or lost."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    writers = [start(APPEND_FIFTY, str(ledger.path), str(number)) for number in range(8)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        ledger.entries()
        assert ledger.damaged == [], "a reader saw a line while it was being written"
        time.sleep(0.01)
    for writer in writers:
        writer.communicate()
    entries = ledger.entries()
    for number in range(8):
        assert [entry["index"] for entry in entries if entry["writer"] == number] == list(range(50))
    assert len(entries) == 400


@pytest.mark.parametrize("room", [0, 1, 40, 4000])
@pytest.mark.parametrize("torn", [False, True])
def test_full_disk_leaves_the_file_as_it_was(tmp_path: Path, room: int, torn: bool) -> None:
    """Fault: the part that still fitted stays, or the error does not say which file."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"n": 0})
    if torn:
        with ledger.path.open("ab") as file:
            file.write(b'{"n": 1, "te')
    before = ledger.path.read_bytes()
    with file_size_limit(len(before) + room), pytest.raises(OSError, match=str(ledger.path)) as caught:
        ledger.append({"n": 1, "text": "x" * 5000})
    assert caught.value.errno == errno.EFBIG
    assert ledger.path.read_bytes() == before
    ledger.append({"n": 2})
    assert [entry["n"] for entry in ledger.entries()] == [0, 2]


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may read but not write, even when root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Ledger(folder / "ledger.jsonl").append({"n": 0})
        (folder / "ledger.jsonl.lock").unlink()
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_read_only_folder(read_only_folder: Path) -> None:
    """Fault: a ledger on a read-only disk cannot even be read, or the refusal to write names no file."""
    ledger = Ledger(read_only_folder / "ledger.jsonl")
    with pytest.raises(OSError, match=str(ledger.path)) as caught:
        ledger.append({"n": 1})
    assert caught.value.errno == errno.EACCES
    assert [entry["n"] for entry in ledger.entries()] == [0]
