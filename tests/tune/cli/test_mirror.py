"""Copies of a storage: complete, whole at every moment, and never in the way of a sweep."""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.commands import tool
from tests.tune.made_ledger import made_sweep, made_trial, write_ledger
from tests.tune.toy_stages import object_storage, storage_of
from tune.cache.backend import LocalStorage, ObjectStorage, StorageBackend, StoreError, open_storage
from tune.cli.mirror import DATABASE, LEDGER, Mirror, copy, fetch
from tune.records.entries import ScreeningEntry, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.lines import read_lines

pytestmark = pytest.mark.long

main = tool("mirror")
show_ledger = tool("ledger")
report = tool("report")

NOTE = ScreeningEntry(trial="a", rung="live", chunks=((1.5, 1, 1),))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A storage with a database and no trial."""
    made = Storage(tmp_path / "storage")
    made.root.mkdir()
    with contextlib.closing(sqlite3.connect(made.root / DATABASE)) as database, database:
        database.execute("CREATE TABLE runs (number INTEGER)")
    return made


@pytest.fixture(params=["local", "object"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty folder and an empty bucket."""
    return storage_of(request.param, tmp_path / "copies")


def finish_trial(storage: Storage, number: int) -> TrialEntry:
    """Leaves what a finished trial leaves, under `storage`."""
    entry, series = made_trial("sweep", number, "done", {"split": "int5-mlp", "ttt.lr": 0.01 * (1 + number)})
    folder = storage.trial("sweep", entry.trial)
    folder.mkdir(parents=True)
    (folder / "artifact.golf").write_bytes(bytes([number % 256]) * 5000)
    (folder / "config.json").write_text("{}\n")
    (folder / "state.pt").write_bytes(b"not for copying")
    files = {name: str(folder / path) for name, path in (("artifact", "artifact.golf"), ("config", "config.json"))}
    with contextlib.closing(sqlite3.connect(storage.root / DATABASE)) as database, database:
        database.execute("INSERT INTO runs VALUES (?)", (number,))
    written = Ledger(storage.ledger).append(msgspec.structs.replace(entry, files=files), series)
    assert isinstance(written, TrialEntry)
    return written


def rows(database: Path) -> list[int]:
    """What the database holds; reading fails where it is torn."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in opened.execute("SELECT number FROM runs")]


def test_there_and_back(storage: Storage, target: StorageBackend, tmp_path: Path) -> None:
    """Fault: something is missing on the laptop, something that nobody needs is copied, a second copy copies all."""
    entries = [finish_trial(storage, number) for number in range(3)]
    assert report(["sweep", "--storage", str(storage.root), "--no-mlflow"]) == 0
    time.sleep(1.1)  # an object's time has whole seconds: what is younger than one is copied again
    copy(storage, target, storage.root / DATABASE)
    assert copy(storage, target, None) == 0
    back = Storage(tmp_path / "laptop")
    fetch(target, back)
    assert back.ledger.read_bytes() == storage.ledger.read_bytes()
    assert rows(back.root / DATABASE) == [0, 1, 2]
    for entry in entries:
        folder = back.trial("sweep", entry.trial)
        assert Ledger(back.ledger).series(entry) == Ledger(storage.ledger).series(entry)
        assert sorted(path.name for path in folder.iterdir()) == ["artifact.golf", "config.json"]
        assert (folder / "artifact.golf").stat().st_size == 5000
    assert list(back.report("sweep").glob("*.html"))


def test_a_fetched_ledger_is_as_good(storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: list or report fail where the files that the ledger names are on a cluster that is gone."""
    trial = finish_trial(storage, 0).trial
    assert main(["copy", str(storage.root), f"file://{tmp_path / 'place'}"]) == 0
    for path in storage.root.rglob("*"):
        if path.is_file():
            path.unlink()
    assert main(["fetch", f"file://{tmp_path / 'place'}", str(tmp_path / "laptop")]) == 0
    assert show_ledger(["show", "--ledger", str(tmp_path / "laptop" / LEDGER)]) == 0
    assert trial in capsys.readouterr().out
    assert report(["sweep", "--storage", str(tmp_path / "laptop"), "--no-mlflow"]) == 0


def test_another_ledger_is_never_replaced(storage: Storage, target: StorageBackend, tmp_path: Path) -> None:
    """Fault: a new cluster with an empty storage wipes out the copy of the last one, or a fetch wipes out a storage."""
    finish_trial(storage, 0)
    copy(storage, target, storage.root / DATABASE)
    kept = target.read(LEDGER)
    other = Storage(tmp_path / "other")
    Ledger(other.ledger).append(made_trial("other", 0, "failed", {})[0])
    with pytest.raises(ValueError, match="another storage"):
        copy(other, target, None)
    with pytest.raises(ValueError, match="fetch into another folder"):
        fetch(target, other)
    assert target.read(LEDGER) == kept
    continued = Storage(tmp_path / "continued")
    fetch(target, continued)
    finish_trial(continued, 1)
    copy(continued, target, None)
    assert (target.read(LEDGER) or b"").startswith(kept or b"no")


class Gated(ObjectStorage):
    """A bucket that refuses, or holds back, whatever is written while `fault` says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(object_storage(root / "copies").store, "s3://copies")
        self.refuse = False
        self.gate = threading.Event()
        self.gate.set()

    def replace(self, path: str, data: bytes) -> None:
        self.gate.wait()
        if self.refuse:
            raise StoreError(28, "no space left")
        super().replace(path, data)


@contextlib.contextmanager
def opened(mirror: Mirror, gate: threading.Event) -> Iterator[Mirror]:
    """The mirror, which is let go at the end whatever fails."""
    try:
        yield mirror
    finally:
        gate.set()
        mirror.close(10.0)


def wait_for(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_mirror_is_not_replaced_by_damage_and_mends_it(tmp_path: Path) -> None:
    """Fault: intact lines of the copy are replaced by damaged ones; other line ends count as another storage."""
    ledger = write_ledger(tmp_path / "ledger.jsonl", [*(entry for entry, _ in made_sweep("s", 3)), NOTE])
    storage, backend = Storage(tmp_path), open_storage(tmp_path.parent / f"{tmp_path.name}-mirror")
    copy(storage, backend, None)
    ledger.write_bytes(ledger.read_bytes().replace(b"\n", b"\r\n"))
    copy(storage, backend, None)
    Ledger(ledger).append(NOTE)
    copy(storage, backend, None)
    copied = backend.read(LEDGER)
    assert len(read_lines(copied or b"").records) == 5
    ledger.write_bytes(ledger.read_bytes().replace(b'"sweep":"s"', b'"sweep":"t"', 1))
    with pytest.raises(ValueError, match=r"has lines of the ledger that are damaged in .* \(lines 1\)"):
        copy(storage, backend, None)
    assert backend.read(LEDGER) == copied
    mended = Storage(tmp_path / "mended")
    fetch(backend, mended)
    assert len(Ledger(mended.ledger).records()) == 5


def test_a_slow_or_full_target_stops_nothing(storage: Storage, tmp_path: Path) -> None:
    """Fault: the sweep waits for the place, a fault is told with every trial, the copy isn't made when it can be."""
    target, warnings = Gated(tmp_path), list[str]()
    with opened(Mirror(storage, target, warn=warnings.append, retry_seconds=0.1), target.gate) as mirror:
        target.gate.clear()
        before = time.monotonic()
        for number in range(3):
            mirror.ended(finish_trial(storage, number))
        assert time.monotonic() - before < 1.0
        target.refuse = True
        target.gate.set()
        wait_for(lambda: mirror.problem is not None)
        time.sleep(0.4)
        assert len(warnings) == 1
        assert "no space left" in warnings[0]
        target.refuse = False
        wait_for(lambda: mirror.problem is None)
        assert len(warnings) == 2
    assert target.read(LEDGER) == storage.ledger.read_bytes()


def test_the_last_word_is_copied(storage: Storage, tmp_path: Path) -> None:
    """Fault: what is written after the last trial (a verdict, a report) is missing, or a dead place is called good."""
    target = Gated(tmp_path)
    mirror = Mirror(storage, target, warn=lambda line: None)
    mirror.ended(finish_trial(storage, 0))
    Ledger(storage.ledger).append(NOTE)
    assert mirror.close(10.0) is None
    assert target.read(LEDGER) == storage.ledger.read_bytes()
    target.refuse = True
    finish_trial(storage, 1)
    late = Mirror(storage, target, warn=lambda line: None)
    assert "python -m tune mirror copy" in str(late.close(10.0))


def start_writer(storage: Storage, target: StorageBackend, first: int) -> int:
    """A process that finishes trials and copies for ever, once it has done so; its id."""
    done, tell = os.pipe()
    child = os.fork()
    if child == 0:
        for number in range(first, first + 10_000):
            finish_trial(storage, number)
            copy(storage, target, storage.root / DATABASE)
            os.write(tell, b".")
        os._exit(0)
    os.close(tell)
    os.read(done, 1)
    os.close(done)
    return child


def test_killed_at_any_moment_the_copy_is_whole(storage: Storage, tmp_path: Path) -> None:
    """Fault: half a database, a torn ledger or a ledger that names what is not there, after a kill while copying."""
    target = LocalStorage(tmp_path / "place")
    for number in range(4):
        writer = start_writer(storage, target, 10_000 * number)
        time.sleep(0.003 * number)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        back = Storage(tmp_path / f"back{number}")
        fetch(target, back)
        ledger = Ledger(back.ledger)
        entries = ledger.trials()
        assert ledger.damaged == []
        assert len(rows(back.root / DATABASE)) >= len(entries) > 0
        for entry in entries:
            assert (back.trial("sweep", entry.trial) / "artifact.golf").stat().st_size == 5000
            assert ledger.series(entry).chunks.keys() == {"sliding", "ttt"}


def test_a_copy_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """Fault: whoever may write to the bucket may write to any file of who fetches from it."""

    class Hostile(LocalStorage):
        def files(self, directory: str) -> dict[str, object]:  # type: ignore[override]
            return dict.fromkeys(["reports/../../victim", LEDGER])

    target = Hostile(tmp_path / "a" / "place")
    target.replace(LEDGER, b"")
    target.replace("reports/../../victim", b"stolen")
    with pytest.raises(ValueError, match="leads out"):
        fetch(target, Storage(tmp_path / "b" / "laptop"))
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_done_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a traceback for a wrong address, or success where there is no copy."""
    for words in (["fetch", str(tmp_path / "nothing"), str(tmp_path)], ["copy", str(tmp_path), "nowhere://x"]):
        assert main(words) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
    with pytest.raises(ValueError, match="storage itself"):
        Mirror(Storage(tmp_path), str(tmp_path))
