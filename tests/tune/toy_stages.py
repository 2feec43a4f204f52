"""A toy stage that writes a file, and processes that obtain it through one store, for tests of sharing."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from obstore.store import LocalStore

from tune.cache.backend import LocalStorage, ObjectStorage, StorageBackend, open_storage
from tune.cache.cached_runner import CachedStageRunner, Compute
from tune.cache.entry import FILES, EntryRecord
from tune.cache.lease import LEASES, LeaseConfig
from tune.cache.stage_graph import StageName, StageOutput
from tune.cache.store import Store

KEY, OTHER = "c" * 64, "d" * 64
OUTPUT = StageOutput(StageName("toy"), KEY, ("weights", "toy.json"))
SECONDS = 3.0
# A fork of a process that has used obstore would hang, so children come from a server that has only imported it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def object_storage(root: Path) -> ObjectStorage:
    """Returns a bucket that lies in a directory: the library's own, with its exclusive creation."""
    return ObjectStorage(LocalStore(root, mkdir=True, automatic_cleanup=True), "a bucket")


def storage_of(kind: str, root: Path) -> StorageBackend:
    """Returns a storage of a kind: "local" or "object" in a directory; else `kind` is an address."""
    if kind == "local":
        return LocalStorage(root)
    return object_storage(root) if kind == "object" else open_storage(kind)


def record_of(stage: StageName | str = "toy", **fields: Any) -> EntryRecord:
    """Returns the record of an entry."""
    return EntryRecord(**{"stage": StageName(stage) if isinstance(stage, str) else stage, "seconds": 1.0, **fields})


def runner_of(store: Store, directory: Path) -> CachedStageRunner:
    """Returns a runner of a toy trial, whose outputs take `SECONDS`."""
    directory.mkdir(parents=True, exist_ok=True)
    return CachedStageRunner(store, directory, directory.name, lambda directory, output: SECONDS)


def computing(directory: Path, content: str, log: list[str]) -> Compute:
    """Returns a computation that writes `content` and records that it ran."""

    def compute(outputs: Sequence[StageOutput]) -> None:
        for output in outputs:
            (directory / output.files[0]).write_text(content)
            (directory / output.files[-1]).write_text("{}")
            log.append(content)

    return compute


@dataclass(frozen=True)
class Settings:
    """What a process is to do."""

    kind: str
    """Of the storage, as for `storage_of`."""
    directory: Path
    lease_seconds: float = 30.0
    poll_seconds: float = 0.1
    waits: bool = False
    """Whether it waits in the middle of its computation."""
    fails: bool = False
    """Whether its computation fails."""
    compute_seconds: float = 0.0
    clock_shift: float = 0.0
    """Seconds by which its clocks are wrong."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def counter(self) -> Path:
        """A file with a line for each computation."""
        return self.directory / "counter"

    def store(self) -> Store:
        """Returns the store that the processes share."""
        lease_config = LeaseConfig(lease_seconds=self.lease_seconds, poll_seconds=self.poll_seconds)
        return Store(storage_of(self.kind, self.directory / "store"), lease_config=lease_config)


def obtain(settings: Settings, parent: Connection) -> None:
    """Runs in a process: waits for a word, obtains OUTPUT, and reports each of its steps."""
    os.environ.update(settings.environment)
    true_time, true_monotonic, shift = time.time, time.monotonic, settings.clock_shift
    if shift:
        time.time = lambda: true_time() + shift
        time.time_ns = lambda: int((true_time() + shift) * 1e9)
        time.monotonic = lambda: true_monotonic() + abs(shift)
    directory = settings.directory / str(os.getpid())

    def compute(outputs: Sequence[StageOutput]) -> None:
        with settings.counter.open("a") as file:
            file.write(f"{os.getpid()}\n")
        (directory / "weights").write_text("half")
        parent.send("computing")
        if settings.waits:
            parent.recv()
        time.sleep(settings.compute_seconds)
        if settings.fails:
            raise FileNotFoundError("no shards")
        computing(directory, "same for all", [])(outputs)

    parent.recv()
    runner = runner_of(settings.store(), directory)
    try:
        runner.obtain([OUTPUT], compute, with_weights=True)
        entry = runner.store.find(KEY)
        parent.send(("done", entry, (directory / "weights").read_text()))
    except FileNotFoundError as error:
        parent.send(("failed", str(error)))


class ToyProcess:
    """A process that obtains OUTPUT."""

    def __init__(self, settings: Settings) -> None:
        self.connection, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=obtain, args=(settings, other), daemon=True)
        self.process.start()
        other.close()

    def go(self) -> None:
        """Lets it begin, or go on computing."""
        self.connection.send("go")

    def report(self) -> Any:
        """Returns its next report."""
        assert self.connection.poll(60), "it reports nothing"
        return self.connection.recv()

    def result(self) -> Any:
        """Returns its last report."""
        while (report := self.report()) == "computing":
            pass
        return report

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


class ToyProcesses:
    """Starts processes that obtain OUTPUT through one store, and counts their computations."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started: list[ToyProcess] = []

    def start(self, **changes: Any) -> ToyProcess:
        """Starts a process that waits for a word before it begins."""
        self.started.append(ToyProcess(replace(self.settings, **changes)))
        return self.started[-1]

    def start_computing(self, **changes: Any) -> ToyProcess:
        """Starts a process that has the lease and waits in the middle of its computation."""
        process = self.start(waits=True, **changes)
        process.go()
        assert process.report() == "computing"
        return process

    def start_waiting(self, count: int, **changes: Any) -> list[ToyProcess]:
        """Starts processes that wait for what another one computes."""
        waiting = [self.start(**changes) for _ in range(count)]
        for process in waiting:
            process.go()
        return waiting

    @property
    def computations(self) -> int:
        """How often it was computed so far."""
        counter = self.settings.counter
        return len(counter.read_text().splitlines()) if counter.exists() else 0

    def check(self) -> None:
        """Checks that one intact entry is all that is left: no lease, no second set of files."""
        store = self.settings.store()
        entry = store.find(KEY)
        assert entry is not None
        assert store.faults(KEY) == []
        assert store.read(entry, "weights") == b"same for all"
        assert {name.partition("/")[0] for name in store.storage.files(FILES)} == {entry.directory}
        assert store.storage.files(LEASES) == {}

    def end(self) -> None:
        """Kills what still runs."""
        for started in self.started:
            started.process.kill()
            started.process.join()
            started.connection.close()
