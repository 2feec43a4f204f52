"""Copies of a storage: complete, whole at every moment, and never in the way of a sweep."""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.tune.made_ledger import made_trial
from tests.tune.toy_stages import object_storage
from tune.cache.backend import LocalStorage, ObjectStorage, StorageBackend, StoreError, open_storage
from tune.cli.ledger import main as show_ledger
from tune.cli.mirror import DATABASE, LEDGER, Mirror, copy, fetch, main
from tune.cli.report import main as report
from tune.records.layout import Storage
from tune.records.ledger import Ledger


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A storage with a database and no trial."""
    made = Storage(tmp_path / "storage")
    made.root.mkdir()
    with contextlib.closing(sqlite3.connect(made.root / DATABASE)) as database, database:
        database.execute("CREATE TABLE runs (number INTEGER)")
    return made


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty place of each kind."""
    root = tmp_path / "place"
    return open_storage(f"file://{root}") if request.param == "folder" else object_storage(root)


def finish_trial(storage: Storage, number: int) -> dict[str, object]:
    """Leave what a finished trial leaves, under `storage`."""
    entry = made_trial("sweep", number, "done", {"split": "int5-mlp", "ttt.lr": 0.01 * (1 + number)})
    folder = storage.trial("sweep", entry["trial"])
    folder.mkdir(parents=True)
    (folder / "artifact.golf").write_bytes(bytes([number % 256]) * 5000)
    (folder / "config.json").write_text("{}\n")
    (folder / "state.pt").write_bytes(b"not for keeping")
    files = {"artifact": str(folder / "artifact.golf"), "config": str(folder / "config.json")}
    with contextlib.closing(sqlite3.connect(storage.root / DATABASE)) as database, database:
        database.execute("INSERT INTO runs VALUES (?)", (number,))
    entry |= {"files": files}
    Ledger(storage.ledger).append(entry)
    return entry


def rows(database: Path) -> list[int]:
    """What the database holds; reading fails where it is torn."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in opened.execute("SELECT number FROM runs")]


def test_there_and_back(storage: Storage, place: StorageBackend, tmp_path: Path) -> None:
    """Fault: something is missing on the laptop, something that nobody needs is copied, a second copy copies all."""
    entries = [finish_trial(storage, number) for number in range(3)]
    assert report(["sweep", "--storage", str(storage.root), "--no-mlflow"]) == 0
    copy(storage, place, storage.root / DATABASE)
    assert copy(storage, place, None) == 0
    back = Storage(tmp_path / "laptop")
    fetch(place, back)
    assert back.ledger.read_bytes() == storage.ledger.read_bytes()
    assert rows(back.root / DATABASE) == [0, 1, 2]
    for entry in entries:
        folder = back.trial("sweep", str(entry["trial"]))
        assert sorted(path.name for path in folder.iterdir()) == ["artifact.golf", "config.json"]
        assert (folder / "artifact.golf").stat().st_size == 5000
    assert list(back.report("sweep").glob("*.html"))


def test_a_fetched_ledger_is_as_good(storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: list or report fail where the files that the ledger names are on a cluster that is gone."""
    entry = finish_trial(storage, 0)
    assert main(["copy", str(storage.root), f"file://{tmp_path / 'place'}"]) == 0
    for path in storage.root.rglob("*"):
        if path.is_file():
            path.unlink()
    assert main(["fetch", f"file://{tmp_path / 'place'}", str(tmp_path / "laptop")]) == 0
    assert show_ledger(["show", "--ledger", str(tmp_path / "laptop" / LEDGER)]) == 0
    assert str(entry["trial"]) in capsys.readouterr().out
    assert report(["sweep", "--storage", str(tmp_path / "laptop"), "--no-mlflow"]) == 0


def test_another_ledger_is_never_replaced(storage: Storage, place: StorageBackend, tmp_path: Path) -> None:
    """Fault: a new cluster with an empty storage wipes out the copy of the last one, or a fetch wipes out a storage."""
    finish_trial(storage, 0)
    copy(storage, place, storage.root / DATABASE)
    kept = place.read(LEDGER)
    other = Storage(tmp_path / "other")
    finish_trial_elsewhere(other)
    with pytest.raises(ValueError, match="another storage"):
        copy(other, place, None)
    with pytest.raises(ValueError, match="fetch into another folder"):
        fetch(place, other)
    assert place.read(LEDGER) == kept
    continued = Storage(tmp_path / "continued")
    fetch(place, continued)
    finish_trial(continued, 1)
    copy(continued, place, None)
    assert (place.read(LEDGER) or b"").startswith(kept or b"no")


def finish_trial_elsewhere(storage: Storage) -> None:
    """A storage with an entry of its own."""
    Ledger(storage.ledger).append({"kind": "trial", "sweep": "other", "trial": "0" * 12})


class Gated(ObjectStorage):
    """A bucket that refuses, or holds back, whatever is written while `fault` says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(object_storage(root / "copies").store, "s3://copies")
        self.refuse = False
        self.gate = threading.Event()
        self.gate.set()

    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        self.gate.wait()
        if self.refuse:
            raise StoreError(28, "no space left")
        super().save(path, chunks)


@contextlib.contextmanager
def opened(mirror: Mirror, gate: threading.Event) -> Iterator[Mirror]:
    """The mirror, which is let go at the end whatever fails."""
    try:
        yield mirror
    finally:
        gate.set()
        mirror.close(10.0)


def wait_for(holds: object, seconds: float = 10.0) -> None:
    """Wait until `holds()`."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_slow_or_full_place_stops_nothing(storage: Storage, tmp_path: Path) -> None:
    """Fault: the sweep waits for the place, a fault is told with every trial, the copy isn't made when it can be."""
    place, said = Gated(tmp_path), list[str]()
    with opened(Mirror(storage, place, say=said.append, retry_seconds=0.1), place.gate) as mirror:
        place.gate.clear()
        before = time.monotonic()
        for number in range(3):
            mirror.ended(finish_trial(storage, number))
        assert time.monotonic() - before < 1.0
        place.refuse = True
        place.gate.set()
        wait_for(lambda: mirror.problem is not None)
        time.sleep(0.4)
        assert len(said) == 1
        assert "no space left" in said[0]
        place.refuse = False
        wait_for(lambda: mirror.problem is None)
        assert len(said) == 2
    assert place.read(LEDGER) == storage.ledger.read_bytes()


def test_the_last_word_is_copied(storage: Storage, tmp_path: Path) -> None:
    """Fault: what is written after the last trial (a verdict, a report) is missing, or a dead place is called good."""
    place = Gated(tmp_path)
    mirror = Mirror(storage, place, say=lambda line: None)
    mirror.ended(finish_trial(storage, 0))
    Ledger(storage.ledger).append({"kind": "seeds", "study": "sweep"})
    assert mirror.close(10.0) is None
    assert place.read(LEDGER) == storage.ledger.read_bytes()
    place.refuse = True
    finish_trial(storage, 1)
    late = Mirror(storage, place, say=lambda line: None)
    assert "python -m tune mirror copy" in str(late.close(10.0))


def start_writer(storage: Storage, place: StorageBackend, first: int) -> int:
    """A process that finishes trials and copies for ever, once it has done so; its id."""
    done, tell = os.pipe()
    child = os.fork()
    if child == 0:
        for number in range(first, first + 10_000):
            finish_trial(storage, number)
            copy(storage, place, storage.root / DATABASE)
            os.write(tell, b".")
        os._exit(0)
    os.close(tell)
    os.read(done, 1)
    os.close(done)
    return child


def test_killed_at_any_moment_the_copy_is_whole(storage: Storage, tmp_path: Path) -> None:
    """Fault: half a database, a torn ledger or a ledger that names what is not there, after a kill while copying."""
    place = LocalStorage(tmp_path / "place")
    for number in range(4):
        writer = start_writer(storage, place, 10_000 * number)
        time.sleep(0.003 * number)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        back = Storage(tmp_path / f"back{number}")
        fetch(place, back)
        ledger = Ledger(back.ledger)
        entries = ledger.entries()
        assert ledger.damaged == []
        assert len(rows(back.root / DATABASE)) >= len(entries) > 0
        for entry in entries:
            assert (back.trial("sweep", entry["trial"]) / "artifact.golf").stat().st_size == 5000


def test_a_copy_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """Fault: whoever may write to the bucket may write to any file of who fetches from it."""

    class Hostile(LocalStorage):
        def files(self, folder: str) -> dict[str, object]:  # type: ignore[override]
            return dict.fromkeys(["reports/../../victim", LEDGER])

    place = Hostile(tmp_path / "a" / "place")
    place.replace(LEDGER, b"")
    place.replace("reports/../../victim", b"stolen")
    with pytest.raises(ValueError, match="leads out"):
        fetch(place, Storage(tmp_path / "b" / "laptop"))
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
