"""The ledger under kills, torn lines, concurrent writers, full disks, flipped bits and lost series files."""

import errno
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.full_disk import file_size_limit
from tests.tune.made_ledger import made_trial
from tune.records.entries import (
    PlanEntry,
    Record,
    ScreeningEntry,
    Series,
    StudyPlan,
    TrialEntry,
    TrialState,
    latest,
)
from tune.records.ledger import Ledger

ROOT = Path(__file__).parents[3]

APPEND_FOREVER = """
import itertools, sys
from tune.records.entries import ScreeningEntry
from tune.records.ledger import Ledger
ledger = Ledger(sys.argv[1])
for index in itertools.count():
    ledger.append(ScreeningEntry(trial=str(index), rung="x" * 20_000, chunks=()))
    print(index, flush=True)
"""

APPEND_FIFTY = """
import sys
from tune.records.entries import ScreeningEntry
from tune.records.ledger import Ledger
ledger = Ledger(sys.argv[1])
sys.stdin.readline()
for index in range(50):
    ledger.append(ScreeningEntry(trial=f"{sys.argv[2]} {index}", rung="y" * (index * 400), chunks=()))
"""


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """`code` running in its own Python."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def score(trial: object, rung: str = "sliding") -> ScreeningEntry:
    """A short record."""
    return ScreeningEntry(trial=str(trial), rung=rung, chunks=((1.25, 4096, 9000),))


def trials_in(ledger: Ledger) -> list[str]:
    """The trials of a ledger of short records."""
    return [record.trial for record in ledger.records() if isinstance(record, ScreeningEntry)]


def unstamped(record: Record) -> Record:
    """`record` without what the ledger adds."""
    return msgspec.structs.replace(record, time="", ledger_version=0)


NUMBERS = st.integers(-(10**299), 10**299) | st.floats(-1e299, 1e299)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.builds(
    lambda config, name, bpb, seconds: msgspec.structs.replace(
        made_trial("s", 0, "failed", {})[0], config=config, name=name, bpb=bpb, seconds=seconds
    ),
    st.dictionaries(TEXT, JSON_VALUES, max_size=4),
    TEXT,
    st.floats(-1e299, 1e299),
    st.dictionaries(TEXT, st.floats(-1e299, 1e299), max_size=2),
)


@settings(max_examples=25)
@given(st.lists(ENTRIES, max_size=3))
def test_records_come_back_equal(entries: list[TrialEntry]) -> None:
    """Fault: a line break, odd letter or float inside an entry splits or changes the line."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "deep" / "ledger.jsonl")
        for entry in entries:
            ledger.append(entry)
        unchanged = [entry for n, entry in enumerate(entries) if entry not in entries[:n]]  # a copy is left out
        assert [unstamped(record) for record in ledger.records()] == unchanged
        assert ledger.damaged == []


def test_records_by_kind(tmp_path: Path) -> None:
    """Fault: a plan or score of first chunks among the trials, those of another sweep, or a retried trial twice."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.records(), ledger.trials(), ledger.plans("a"), ledger.screening()) == ([], [], [], [])
    failed = made_trial("a", 1, "failed", {})[0]
    retried = msgspec.structs.replace(failed, state=TrialState.SCREENED)
    plan = PlanEntry(study="a", plan=StudyPlan(configuration="c", data="d", seeds=(1, 2)))
    for record in (failed, made_trial("b", 1, "failed", {})[0], plan, score(1), retried):
        ledger.append(record)
    assert [entry.state for entry in ledger.trials("a")] == ["failed", "screened"]
    assert [entry.sweep for entry in ledger.latest()] == ["a", "b"]
    assert [entry.state for entry in ledger.latest("a")] == ["screened"]
    assert latest(ledger.records(), "a") == ledger.latest("a")
    assert [unstamped(entry) for entry in ledger.plans("a")] == [plan]
    assert (ledger.plans("b"), len(ledger.screening()), ledger.verdicts("a")) == ([], 1, [])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"bpb": math.nan}, "bpb"),
        ({"metrics": {"extra": -math.inf}}, "metrics.extra"),
        ({"byte_groups": {"mlp": {"raw_bytes": 10**400}}}, "byte_groups.mlp.raw_bytes"),
        ({"files": {"artifact": Path("/a")}}, "PosixPath"),
        ({"config": {"a": {3: 4}}}, "config.a"),
        ({"config": {"a": {1, 2, object}}}, "type"),
        ({"seconds": {"train": "long"}}, "$.seconds[...]"),
        ({"trial": 5}, "$.trial"),
    ],
)
def test_refuses_what_no_line_can_hold(tmp_path: Path, changes: dict[str, Any], path: str) -> None:
    """Fault: NaN, a path object or a number as key is written so that it cannot be read back as it was."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    entry = msgspec.structs.replace(made_trial("s", 0, "failed", {})[0], **changes)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the path in the message is what is tested
        ledger.append(entry)
    assert path in str(caught.value)
    assert not ledger.path.exists()


def test_last_line_torn_at_every_byte(tmp_path: Path) -> None:
    """Fault: after a crash in the middle of a line the next entry is glued to the rest, or reading raises."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(score(0))
    first = ledger.path.stat().st_size
    ledger.append(score(1, "é\n"))
    data = ledger.path.read_bytes()
    for length in range(first, len(data)):
        ledger.path.write_bytes(data[:length])
        intact = ["0", "1"] if length == len(data) - 1 else ["0"]
        assert trials_in(ledger) == intact
        torn = length not in (first, len(data) - 1)
        assert [line.line_number for line in ledger.damaged] == ([2] if torn else [])
        ledger.append(score(2))
        assert trials_in(ledger) == [*intact, "2"]


def test_every_bit_flip_is_seen(tmp_path: Path) -> None:
    """Fault: a changed number is read as a true one."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for n in range(3):
        ledger.append(score(n, "é"))
    data = ledger.path.read_bytes()
    true = ledger.records()
    begin = data.index(b"\n") + 1
    end = data.index(b"\n", begin)
    for position in range(begin, end):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            ledger.path.write_bytes(flipped)
            assert ledger.records() == [true[0], true[2]]
            assert ledger.damaged


def test_garbage_is_reported_and_skipped(tmp_path: Path) -> None:
    """Fault: bytes that are no text, or JSON that is no record, stop the reader."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    garbage = [b"\xff\xfe\x00", b"[1, 2]", b"{}", b"NaN", b"[" * 100_000, b'{"crc32":"00000000"}', b'{"n": 1']
    for n, line in enumerate(garbage):
        ledger.append(score(n))
        with ledger.path.open("ab") as file:
            file.write(line + b"\n")
    assert len(ledger.records()) == len(garbage)
    assert [line.line_number for line in ledger.damaged] == [2 * n + 2 for n in range(len(garbage))]


def test_a_change_of_the_file_is_noticed(tmp_path: Path) -> None:
    """Fault: the reading that a process remembers outlives a change by another process, or another file's."""
    ledger, other = Ledger(tmp_path / "ledger.jsonl"), Ledger(tmp_path / "other.jsonl")
    ledger.append(score(0))
    ledger.records().clear()
    assert (trials_in(ledger), trials_in(other)) == (["0"], [])
    other.append(score(1))
    other.path.rename(ledger.path)
    assert (trials_in(ledger), trials_in(other)) == (["1"], [])
    ledger.path.unlink()
    assert trials_in(ledger) == []


def test_kill_in_the_middle_of_appending(tmp_path: Path) -> None:
    """Fault: a killed writer loses entries that it had reported as written, or leaves the lock held."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(3):
        before, torn_before = len(ledger.records()), len(ledger.damaged)
        writer = start(APPEND_FOREVER, str(ledger.path))
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
        output = writer.stdout.read()  # communicate() would lose what readline() read ahead
        writer.communicate()
        reported = 1 + output.count(b"\n")
        indices = trials_in(ledger)[before:]
        assert len(indices) in (reported, reported + 1)
        assert indices == [str(n) for n in range(len(indices))]
        assert all(line.line_number >= before for line in ledger.damaged[torn_before:])
        ledger.append(score(-1))
        assert trials_in(ledger)[-1] == "-1"


def test_eight_writers_at_once(tmp_path: Path) -> None:
    """Fault: lines of concurrent writers are mixed into each other or lost."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    writers = [start(APPEND_FIFTY, str(ledger.path), str(number)) for number in range(8)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        assert ledger.damaged == [], "a reader saw a line while it was being written"
        time.sleep(0.01)
    for writer in writers:
        writer.communicate()
    trials = trials_in(ledger)
    for number in range(8):
        assert [t for t in trials if t.startswith(f"{number} ")] == [f"{number} {index}" for index in range(50)]
    assert len(trials) == 400


@pytest.mark.parametrize("room", [0, 1, 40, 4000])
@pytest.mark.parametrize("torn", [False, True])
def test_full_disk_leaves_the_file_as_it_was(tmp_path: Path, room: int, torn: bool) -> None:
    """Fault: the part that still fitted stays, or the error does not say which file."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(score(0))
    if torn:
        with ledger.path.open("ab") as file:
            file.write(b'{"n": 1, "te')
    before = ledger.path.read_bytes()
    with file_size_limit(len(before) + room), pytest.raises(OSError, match=str(ledger.path)) as caught:
        ledger.append(score(1, "x" * 5000))
    assert caught.value.errno == errno.EFBIG
    assert ledger.path.read_bytes() == before
    ledger.append(score(2))
    assert trials_in(ledger) == ["0", "2"]


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may read but not write, even when root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Ledger(folder / "ledger.jsonl").append(score(0))
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
        ledger.append(score(1))
    assert caught.value.errno == errno.EACCES
    assert trials_in(ledger) == ["0"]


@pytest.fixture
def with_series(tmp_path: Path) -> tuple[Ledger, TrialEntry, Series]:
    """A ledger of one trial with curves and chunk sums."""
    ledger, (entry, series) = Ledger(tmp_path / "ledger.jsonl"), made_trial("s", 0, "done", {})
    written = ledger.append(entry, series)
    assert isinstance(written, TrialEntry)
    return ledger, written, series


def test_series_come_back_equal(with_series: tuple[Ledger, TrialEntry, Series]) -> None:
    """Fault: a curve that is rounded, mixed up with another, or lost; one file more for each retry."""
    ledger, entry, series = with_series
    assert ledger.series(ledger.trials()[0]) == series
    assert sorted(series.curves) == ["train_loss", "ttt_bpb", "validation_bpb"]
    assert series.chunks["ttt"].shape == (40, 3)
    ledger.append(entry, series)
    assert len(list((ledger.path.parent / "series").iterdir())) == 1
    assert ledger.series(made_trial("s", 0, "failed", {})[0]) == Series(), "a trial without curves has none"
    with pytest.raises(ValueError, match="finite"):
        Series({"loss": [[1, 2.0, math.inf]]})


def test_series_that_are_damaged_or_missing(with_series: tuple[Ledger, TrialEntry, Series]) -> None:
    """Fault: changed or half-written curves are drawn as true ones, or stop the reading of all other numbers."""
    ledger, entry, _ = with_series
    assert entry.series is not None
    path = ledger.series_path(entry.series)
    data = path.read_bytes()
    for damaged in (data[:-1], b"", data[:500] + bytes([data[500] ^ 1]) + data[501:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"has changed since it was written.*run the trial again") as caught:
            ledger.series(entry)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=str(path)):
        ledger.series(entry)
    assert len(ledger.trials()) == 1
    assert ledger.damaged == []


@pytest.mark.parametrize("damage", ["", "no archive", "cut", "flipped"])
def test_bytes_that_are_no_series(damage: str) -> None:
    """Fault: an error of another kind, which nobody expects, for a file that somebody else wrote."""
    data = Series({"loss": [[1, 2, 3]]}).encode()
    changed = {"": b"", "no archive": b"x" * 99, "cut": data[:-9], "flipped": data.replace(b"descr", b"dosxr")}[damage]
    with pytest.raises(ValueError, match="not an archive of arrays"):
        Series.decode(changed)


def test_a_full_disk_under_the_series(tmp_path: Path) -> None:
    """Fault: an entry in the ledger whose curves are not on the disk."""
    ledger, (entry, series) = Ledger(tmp_path / "ledger.jsonl"), made_trial("s", 0, "done", {})
    with file_size_limit(1000), pytest.raises(OSError, match=str(ledger.path)):
        ledger.append(entry, series)
    assert ledger.records() == []
    assert not list(tmp_path.rglob("*.npz"))
