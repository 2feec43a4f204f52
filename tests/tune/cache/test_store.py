"""The store with several processes: exactly once, also when they die, stop, fail or have other clocks."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from tune.cache.backend import WORK, StoreError
from tune.cache.entries import ENTRIES, FILES, Damaged, Entry
from tune.cache.fingerprint import stage_key
from tune.cache.gc import LEFT_SECONDS
from tune.cache.lease import LEASES, Lease, LeaseAcquirer, LeaseConfig
from tune.cache.store import INTERIOR, Store
from tune.cli.store import main
from tune.records.ledger import Ledger

ROOT = Path(__file__).parents[3]
KEY = "c" * 64


def ask(settings: dict[str, Any], parent: Connection) -> None:
    """What a process does: waits for a word, asks for the key, and tells each of its steps."""
    shift, true_time, true_monotonic = settings["clock_shift"], time.time, time.monotonic
    if shift:
        time.time = lambda: true_time() + shift
        time.time_ns = lambda: int((true_time() + shift) * 1e9)
        time.monotonic = lambda: true_monotonic() + abs(shift)

    def compute(folder: Path) -> Mapping[str, Any]:
        with Path(settings["counter"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "half").write_text("written")
        parent.send("computing")
        if settings["waits"]:
            parent.recv()
        time.sleep(settings["compute_seconds"])
        if settings["fails"]:
            raise FileNotFoundError("no shards")
        (folder / "weights").write_text("same for all")
        return {"stage": "tail", "seconds": 3.0}

    tempfile.tempdir = settings["temporary"]  # a killed process leaves what it computed in
    store = open_store(settings["root"], settings["bucket"], lease_config=LeaseConfig(**settings["patience"]))
    into = Path(settings["into"]) / str(os.getpid())
    parent.recv()
    try:
        entry = store.take(KEY, compute, into)
        parent.send(("done", entry, (into / "weights").read_text()))
    except FileNotFoundError as error:
        parent.send(("failed", str(error)))


def open_store(root: str, bucket: bool, **settings: Any) -> Store:
    """A store in a folder, or in the same folder used as a bucket."""
    return Store(root, fs.SubTreeFileSystem("/", fs.LocalFileSystem()) if bucket else None, **settings)


class Asking:
    """A process that asks for the key."""

    def __init__(self, settings: dict[str, Any]) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=ask, args=(settings, other), daemon=True)
        self.process.start()
        other.close()

    def go(self) -> None:
        """Let it ask, or go on computing."""
        self.connection.send("go")

    def tells(self) -> Any:
        """What it tells next; what a finished one tells comes after "computing" at most."""
        assert self.connection.poll(60), "it tells nothing"
        return self.connection.recv()

    def result(self) -> Any:
        """What it tells at its end."""
        while (told := self.tells()) == "computing":
            pass
        return told

    def send(self, number: int) -> None:
        """A signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


class Processes:
    """Starts processes that want a key, and counts their computations."""

    def __init__(self, folder: Path, bucket: bool) -> None:
        self.folder = folder
        self.bucket = bucket
        self.root = folder / "storage" / "store"
        self.counter = folder / "counter"
        self.started: list[Asking] = []

    def start(self, lease_seconds: float = 30.0, **changed: Any) -> Asking:
        """A process that waits for a word before it asks."""
        own: dict[str, Any] = {"waits": False, "fails": False, "compute_seconds": 0.0, "clock_shift": 0.0}
        lease_config = {"lease_seconds": lease_seconds, "poll_seconds": 0.1, "settle_seconds": 0.4}
        paths = {"root": str(self.root), "counter": str(self.counter), "into": str(self.folder / "into")}
        paths["temporary"] = str(self.folder)
        self.started.append(Asking({**own, **paths, "bucket": self.bucket, "patience": lease_config, **changed}))
        return self.started[-1]

    def start_computing(self, lease_seconds: float = 30.0, **changed: Any) -> Asking:
        """A process that has the lease and waits in the middle of its computation."""
        process = self.start(lease_seconds, waits=True, **changed)
        process.go()
        assert process.tells() == "computing"
        return process

    def start_waiting(self, count: int, lease_seconds: float = 30.0, **changed: Any) -> list[Asking]:
        """Processes that ask for what another one computes."""
        waiting = [self.start(lease_seconds, **changed) for _ in range(count)]
        for process in waiting:
            process.go()
        return waiting

    @property
    def computations(self) -> int:
        """How often it was computed so far."""
        return len(self.counter.read_text().splitlines()) if self.counter.exists() else 0

    def check(self) -> None:
        """One whole entry that all got, and no lease, scratch or second set of files beside it."""
        store = open_store(str(self.root), self.bucket)
        entry = store.find(KEY)
        assert entry is not None
        assert store.faults(KEY) == []
        assert store.read(entry, "weights") == b"same for all"
        assert {path.name for path in (self.root / FILES).iterdir()} == {entry.folder}
        assert store.place.files(LEASES) == {}


@pytest.fixture(params=["folder", "bucket"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Processes on a folder, or on one that is used as a bucket."""
    found = Processes(tmp_path, request.param == "bucket")
    yield found
    for asking in found.started:
        asking.process.kill()
        asking.process.join()
        asking.connection.close()


def test_eight_processes_compute_once(processes: Processes) -> None:
    """Fault: two trials that ask at the same moment both train, or a waiter ends without the result."""
    asking = [processes.start(compute_seconds=0.3) for _ in range(8)]
    for process in asking:
        process.go()
    results = [process.result() for process in asking]
    assert processes.computations == 1
    assert results == [results[0]] * 8
    assert results[0][0] == "done"
    processes.check()


@pytest.mark.parametrize("clock_shift", [0.0, 1e6, -1e6])
def test_a_killed_holder_is_replaced_once(processes: Processes, clock_shift: float) -> None:
    """Fault: all wait for ever for a dead process, or more than one replaces it, or its half result is found."""
    holder = processes.start_computing(1.5, clock_shift=clock_shift)
    waiting = processes.start_waiting(3, 1.5)
    time.sleep(0.5)
    holder.send(signal.SIGKILL)
    killed = time.monotonic()
    assert [process.result()[0] for process in waiting] == ["done"] * 3
    assert time.monotonic() - killed < 8
    assert processes.computations == 2
    processes.check()


@pytest.mark.parametrize("clock_shift", [1e6, -1e6])
def test_a_holder_with_another_clock_keeps_its_lease(processes: Processes, clock_shift: float) -> None:
    """Fault: a node whose clock goes before or after counts as dead, and everything is computed twice."""
    holder = processes.start_computing(1.5, clock_shift=clock_shift)
    waiting = [*processes.start_waiting(1, 1.5), *processes.start_waiting(1, 1.5, clock_shift=-clock_shift)]
    time.sleep(3.5)
    assert processes.computations == 1
    holder.go()
    assert [process.result()[0] for process in (holder, *waiting)] == ["done"] * 3
    assert processes.computations == 1
    processes.check()


@pytest.mark.parametrize("first", ["paused", "other"])
def test_a_paused_holder_wakes_to_no_harm(processes: Processes, first: str) -> None:
    """Fault: a holder that was replaced overwrites, removes or doubles the result, or takes away the new lease."""
    paused = processes.start_computing(1.0)
    paused.send(signal.SIGSTOP)
    other = processes.start_computing(1.0)
    results = []
    for process in (paused, other) if first == "paused" else (other, paused):
        if process is paused:
            paused.send(signal.SIGCONT)
        process.go()
        results.append(process.result())
    (late,) = processes.start_waiting(1, 1.0)
    assert [*results, late.result()] == [results[0]] * 3
    assert processes.computations == 2
    paused.process.join(20)
    other.process.join(20)
    processes.check()


def test_a_failed_computation_is_tried_by_the_next(processes: Processes) -> None:
    """Fault: waiters share the error, wait out the lease of one that ended, or the exception is swallowed."""
    failing = processes.start_computing(fails=True)
    waiting = processes.start_waiting(2)
    time.sleep(0.3)
    started = time.monotonic()
    failing.go()
    assert failing.result() == ("failed", "no shards")
    assert [process.result()[0] for process in waiting] == ["done"] * 2
    assert time.monotonic() - started < 15, "the lease of 30 s was waited for"
    assert processes.computations == 2
    processes.check()


def computing(content: str, log: list[str], **record: Any) -> Callable[[Path], Mapping[str, Any]]:
    """A computation that writes `content` and notes that it ran."""

    def compute(folder: Path) -> Mapping[str, Any]:
        assert list(folder.iterdir()) == []
        (folder / "result").write_text(content)
        log.append(content)
        return record

    return compute


def test_a_result_published_just_before_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a waiter that looked too early takes the free lease and computes what is there."""
    runs: list[str] = []
    store, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    attempt = LeaseAcquirer.attempt

    def late(self: LeaseAcquirer) -> Lease | None:
        monkeypatch.undo()
        other.compute_once(KEY, computing("first", runs))
        return attempt(self)

    monkeypatch.setattr(LeaseAcquirer, "attempt", late)
    entry = store.compute_once(KEY, computing("second", runs))
    assert store.read(entry, "result") == b"first"
    assert runs == ["first"]
    assert store.place.files(LEASES) == {}


@pytest.mark.parametrize("times", [1, 2])
def test_damage_on_the_way_is_computed_again(tmp_path: Path, times: int) -> None:
    """Fault: a flipped bit, found only while reading, ends the trial instead of costing one more computation."""
    said: list[str] = []
    runs: list[str] = []
    store = Store(tmp_path / "store", say=said.append)

    def compute(folder: Path) -> Mapping[str, Any]:
        record = computing("good", runs)(folder)
        if 1 < len(runs) <= times:  # the storage damages this one as well
            store.fetch = damaging  # type: ignore[method-assign]
        return record

    def damaging(entry: Entry, into: Path, names: Iterable[str] | None = None) -> None:
        del store.fetch
        (tmp_path / "store" / entry.path / "result").write_text("evil")
        store.fetch(entry, into)

    entry = store.take(KEY, compute, tmp_path / "into")
    (tmp_path / "store" / entry.path / "result").write_text("evil")
    store.take(KEY, compute, tmp_path / "into")
    assert (tmp_path / "into" / "result").read_text() == "good"
    assert len(runs) == 1 + times
    assert len(said) == times


def test_storage_that_damages_everything_ends_in_an_error(tmp_path: Path) -> None:
    """Fault: a broken disk makes a trial compute for ever."""
    store = Store(tmp_path / "store", say=lambda _: None)
    runs: list[str] = []

    def fetch(entry: Entry, into: Path, names: Iterable[str] | None = None) -> None:
        store.drop(entry.key)
        raise Damaged("as always")

    store.fetch = fetch  # type: ignore[method-assign]
    with pytest.raises(Damaged):
        store.take(KEY, computing("x", runs), tmp_path / "into")
    assert 1 < len(runs) < 10


def test_the_record_says_what_it_cost(tmp_path: Path) -> None:
    """Fault: a hit looks free: the seconds, or where the result came from, are lost."""
    store = Store(tmp_path / "store")
    store.compute_once(KEY, computing("x", [], stage="tail", seconds=12.5, parents=["d" * 64]))
    record = store.compute_once(KEY, computing("x", [])).record
    assert record["seconds"] == 12.5
    assert {"stage", "parents", "host", "time"} <= record.keys()
    measured = store.compute_once("d" * 64, computing("x", [])).record["seconds"]
    assert 0 < measured < 10


@contextlib.contextmanager
def unprivileged(*folders: Path) -> Iterator[None]:
    """These folders read-only, also when root runs the tests."""
    user = os.geteuid()
    everything = [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in everything:
        path.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in everything:
            path.chmod(0o755)


def test_a_read_only_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fault: a finished store cannot be read from a read-only disk, or a missing key waits instead of saying why."""
    base = tmp_path_factory.mktemp("public")
    for path in (base, *base.parents):
        if Path(tempfile.gettempdir()) in path.parents:  # pytest's own folders, which only root may enter
            path.chmod(0o755)
    store, runs = Store(base / "store"), []  # type: ignore[var-annotated]
    entry = store.compute_once(KEY, computing("good", runs))
    (base / "into").mkdir(mode=0o777)
    (base / "into").chmod(0o777)
    with unprivileged(base / "store"):
        assert store.take(KEY, computing("good", runs), base / "into") == entry
        with pytest.raises(StoreError, match=r"cannot write .*store.*; make it readable and writable"):
            store.compute_once("d" * 64, computing("x", runs))
        with pytest.raises(StoreError):
            store.publish("d" * 64, base / "into", {})
    assert runs == ["good"]
    (base / "store" / entry.path / "result").write_text("evil")
    with unprivileged(base / "store"), pytest.raises(Damaged):
        store.take(KEY, computing("x", runs), base / "into")
    assert not list(base.glob("into/.*"))


def test_a_store_below_a_file(tmp_path: Path) -> None:
    """Fault: a wrong path is an unexplained traceback, or the result is computed before that is seen."""
    (tmp_path / "file").write_text("")
    runs: list[str] = []
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        Store(tmp_path / "file" / "store").compute_once(KEY, computing("x", runs))
    assert runs == []


def test_a_disk_that_is_full_while_computing(tmp_path: Path) -> None:
    """Fault: the computation's own error is hidden, half a result stays, or the lease is kept."""
    store = Store(tmp_path / "store")

    def compute(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        store.compute_once(KEY, compute)
    assert str(tmp_path) in "".join(caught.value.__notes__)
    assert not list((tmp_path / "store" / WORK).iterdir())
    started = time.monotonic()
    store.compute_once(KEY, computing("x", []))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("where", ["s3x://bucket", "http://host/x", "://"])
def test_a_place_that_is_none_is_refused(where: str) -> None:
    """Fault: a misspelt address becomes a local folder of that name."""
    with pytest.raises(ValueError, match=where):
        Store(where)


def test_messages_keep_secrets() -> None:
    """Fault: the secret key in a store's address is printed with every error."""
    store = Store("s3://user:secret@bucket/x?region=us-east-1&endpoint_override=127.0.0.1:1&scheme=http")
    assert "secret" not in store.place.name
    assert "bucket/x" in store.place.name


def numbered(number: int) -> str:
    """A key."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def publish(store: Store, folder: Path, number: int, num_bytes: int = 100, **record: Any) -> str:
    """Publish so many bytes under a numbered key, a little later than what was done before."""
    folder.mkdir(exist_ok=True)
    (folder / "x").write_bytes(bytes([number]) * num_bytes)
    time.sleep(0.02)  # file times are as coarse as the kernel's tick
    return store.publish(numbered(number), folder, record).key


def held(store: Store) -> set[int]:
    """Numbers of the keys that are stored."""
    return {number for number in range(20) if store.find(numbered(number)) is not None}


@pytest.mark.parametrize("bucket", [False, True])
def test_least_recently_used_interior_entries_go_first(tmp_path: Path, bucket: bool) -> None:
    """Fault: the budget is overrun, a result goes before an interior state, or the one just used goes first."""
    filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()) if bucket else None
    store = Store("store" if bucket else tmp_path / "store", filesystem, budget_bytes=500)
    source = tmp_path / "source"
    publish(store, source, 0, kind="result")
    for number in (1, 2, 3, 4):
        publish(store, source, number, kind=INTERIOR)
    assert held(store) == {0, 1, 2, 3, 4}
    time.sleep(0.02)
    first = store.find(numbered(1))
    assert first is not None
    store.fetch(first, tmp_path / "into")
    publish(store, source, 5, kind=INTERIOR)
    assert held(store) == {0, 1, 3, 4, 5}
    store.compute_once(numbered(3), computing("x", []))
    publish(store, source, 6, kind="result")
    assert held(store) == {0, 1, 3, 5, 6}
    publish(store, source, 7, 250, kind="result")
    assert held(store) == {0, 6, 7}
    publish(store, source, 8, 250, kind="result")
    assert held(store) == {7, 8}
    assert len(list((tmp_path / "store" / FILES).iterdir())) == 2


def test_what_a_trial_needs_is_never_dropped(tmp_path: Path) -> None:
    """Fault: a pinned state goes, the one just published goes, or an overrun budget is not said."""
    said: list[str] = []
    lease_config = LeaseConfig(lease_seconds=1.0, poll_seconds=0.1)
    store = Store(tmp_path / "store", lease_config=lease_config, budget_bytes=250, say=said.append)
    source = tmp_path / "source"
    other = Store(tmp_path / "store", lease_config=lease_config)
    other.pin([numbered(1), numbered(3)], "trial")
    for number in (1, 2, 3):
        publish(store, source, number, kind=INTERIOR)
    assert held(store) == {1, 3}
    assert said == []
    publish(store, source, 4, kind=INTERIOR)
    assert held(store) == {1, 3, 4}
    assert len(said) == 1
    time.sleep(1.5)
    publish(store, source, 5, kind=INTERIOR)
    assert held(store) == {1, 3, 5}
    other.unpin("trial")
    publish(store, source, 6, kind=INTERIOR)
    assert held(store) == {5, 6}


def test_a_store_that_may_not_drop_still_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a result that is there is reported as lost because an older one could not be removed."""
    said: list[str] = []
    store = Store(tmp_path / "store", budget_bytes=150, say=said.append)
    publish(store, tmp_path / "source", 1)

    def refuse(path: str) -> None:
        raise StoreError(13, f"cannot remove {path}")

    monkeypatch.setattr(store.place, "remove_folder", refuse)
    publish(store, tmp_path / "source", 2)
    assert 2 in held(store)
    assert "cannot remove" in said[0]


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `python -m tune store`."""
    command = [sys.executable, "-m", "tune", "store", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Store, list[str]]:
    """A store of four stages, each made from the one before, the last from two; a ledger that needs the first two."""
    storage = tmp_path / "storage"
    store, keys = Store(storage / "store"), []  # type: ignore[var-annotated]
    for stage, parents in (("prefix", []), ("tail", [0]), ("pack", [1]), ("score", [1, 2])):
        record = {"stage": stage, "parents": [keys[number] for number in parents]}
        key = stage_key(stage, {"lr": 0.1}, record["parents"], "source")
        keys.append(store.compute_once(key, computing(stage, [], **record)).key)
    Ledger(storage / "ledger.jsonl").append({"trial": "a", "keys": keys[:2]})
    Ledger(storage / "ledger.jsonl").append({"trial": "written before there was a store"})
    return store, keys


def test_list_and_show(tree: tuple[Store, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an entry is left out of the list, or an ancestor, also a second-hand one, out of the lineage."""
    store, keys = tree
    storage = str(Path(store.place.name).parent)
    assert main(["ls", "--storage", storage]) == 0
    listed = capsys.readouterr().out
    assert all(listed.count(key[:12]) == 1 for key in keys)
    assert main(["show", keys[3][:8], "--storage", storage]) == 0
    shown, _, record = capsys.readouterr().out.partition("\n\n")
    lines = shown.splitlines()
    assert [next(number for number, key in enumerate(keys) if key[:12] in text) for text in lines] == [3, 1, 0, 2, 1]
    assert keys[3] in record
    assert '"score"' in record
    store.drop(keys[0])
    assert main(["show", keys[3], "--storage", storage]) == 0
    assert keys[0][:12] in capsys.readouterr().out


def test_verify_names_what_has_changed(tree: tuple[Store, list[str]]) -> None:
    """Fault: silent damage passes, or sound entries are blamed."""
    store, keys = tree
    storage = str(Path(store.place.name).parent)
    assert run("verify", "--storage", storage)[0] == 0
    entry = store.find(keys[1])
    assert entry is not None
    Path(store.place.name, entry.path, "result").write_text("tall")
    status, output, _ = run("verify", "--storage", storage)
    assert status == 1
    assert keys[1] in output
    assert "result" in output
    assert not any(key in output for key in keys if key != keys[1])
    assert store.find(keys[1]) == entry, "verify changes nothing"


def test_collect_what_no_ledger_needs(tree: tuple[Store, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a dry run removes, a needed or pinned entry goes, or a second ledger's needs are forgotten."""
    store, keys = tree
    storage = Path(store.place.name).parent
    assert main(["gc", "--storage", str(storage)]) == 0
    dry = capsys.readouterr().out
    assert [key[:12] in dry for key in keys] == [False, False, True, True]
    assert all(store.find(key) is not None for key in keys)
    other = Ledger(storage / "other.jsonl")
    other.append({"keys": [keys[3]]})
    ledgers = ["--ledger", str(storage / "ledger.jsonl"), "--ledger", str(other.path)]
    store.pin([keys[2]], "trial")
    assert main(["gc", "--yes", "--storage", str(storage), *ledgers]) == 0
    assert all(store.find(key) is not None for key in keys)
    store.unpin("trial")
    assert main(["gc", "--yes", "--storage", str(storage), *ledgers]) == 0
    assert [store.find(key) is not None for key in keys] == [True, True, False, True]
    assert len(list((storage / "store" / FILES).iterdir())) == 3


def test_collect_what_the_dead_left(tree: tuple[Store, list[str]]) -> None:
    """Fault: a killed process's files stay for ever, or those of one that is at work are taken away."""
    store, _ = tree
    root = Path(store.place.name)
    long_ago = time.time() - LEFT_SECONDS - 60
    for name in ("files/dead.1/a/x", "work/dead.1/x", "leases/dead.000001", "pins/dead.1", "work/busy.1/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
        os.utime(root / name, (long_ago, long_ago))
    for name in ("files/young.1/x", "work/young.1/x", "leases/busy.000001"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert main(["gc", "--yes", "--storage", str(root.parent)]) == 0
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert not any("dead" in path for path in left)
    assert {"files/young.1/x", "work/young.1/x", "leases/busy.000001", "work/busy.1/x"} <= left


@pytest.mark.parametrize(
    "case", ["no store", "no ledger", "torn ledger", "no such key", "two such keys", "bad address"]
)
def test_errors_are_one_line(tree: tuple[Store, list[str]], case: str) -> None:
    """Fault: a wrong path collects everything, or a person reads a traceback."""
    store, keys = tree
    storage = Path(store.place.name).parent
    ledger = storage / "ledger.jsonl"
    if case == "torn ledger":
        with ledger.open("ab") as file:
            file.write(b"{torn\n")
    arguments = {
        "no store": ("ls", "--storage", str(storage / "elsewhere")),
        "no ledger": ("gc", "--yes", "--storage", str(storage), "--ledger", str(storage / "missing")),
        "torn ledger": ("gc", "--yes", "--storage", str(storage)),
        "no such key": ("show", "xyz", "--storage", str(storage)),
        "two such keys": ("show", "", "--storage", str(storage)),
        "bad address": ("ls", "--storage", "s3x://bucket"),
    }[case]
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert all(store.find(key) is not None for key in keys)
    assert not (storage / "elsewhere").exists()


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    """Fault: asking for a result, or opening a store, leaves empty folders behind."""
    store = Store(tmp_path / "store")
    assert store.find(KEY) is None
    assert (store.keys(), store.all(), store.faults(KEY)) == ([], [], [])
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path / "store" / ENTRIES).exists()
