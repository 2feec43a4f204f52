"""What a sweep leaves behind, however it ends: results in its storage, and nothing else anywhere."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.runtime.files import write_json
from tune.records.layout import Storage
from tune.records.ledger import Ledger

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
MARK = "GOLF_TEST_MARK"
SETTLE_SECONDS = 30.0
"""That what was told to end gets to end."""
SHARED_MEMORY = Path("/dev/shm")


def segments() -> set[Path]:
    """All segments of shared memory; folders there are someone's files."""
    return {path for path in SHARED_MEMORY.iterdir() if not path.is_dir()}


class Room:
    """Commands with a temporary folder and a mark of their own, by which all their processes are known."""

    def __init__(self, root: Path, temporary: Path) -> None:
        self.root, self.temporary, self.mark = root, temporary, uuid.uuid4().hex
        self.storage = Storage(root / "storage")
        self.segments = segments()
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, config: RunConfig, name: str, data: Path, *space: str, **environment: str
    ) -> "subprocess.Popen[str]":
        """run_sweep.py on a grid."""
        write_json(self.root / f"{name}.json", to_plain(config))
        command = [sys.executable, "run_sweep.py", str(self.root / f"{name}.json"), "--data", str(data)]
        command += ["--storage", str(self.storage.root), "--search", "grid", "--no-screening", "--concurrent", "1"]
        command += ["--save-seconds", "0.2", "--space", *space]
        all_of_it = os.environ | {"TMPDIR": str(self.temporary), MARK: self.mark} | environment
        with (self.root / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=all_of_it, stdout=log, stderr=log, text=True)
        self.started.append(process)
        return process

    def processes(self) -> list[str]:
        """Living processes that the commands left."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
            except psutil.Error:
                continue
        return found

    def leaked_memory(self) -> list[str]:
        """New segments of shared memory that no process has mapped."""
        new = {str(path) for path in segments() - self.segments}
        maps = ""
        for process in Path("/proc").glob("[0-9]*/maps") if new else ():
            try:
                maps += process.read_text()
            except OSError:
                continue
        return sorted(path for path in new if path not in maps)

    def leftovers(self) -> dict[str, list[str]]:
        """All that should not be there, by kind; what is about to go is waited for."""
        found: dict[str, list[str]] = {}
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            files = [str(path) for path in self.temporary.rglob("*")]
            kinds = {"processes": self.processes(), "temporary files": files, "memory": self.leaked_memory()}
            found = {kind: items for kind, items in kinds.items() if items}
            if not found:
                break
            time.sleep(0.25)
        return found

    def strange(self) -> list[str]:
        """Unfinished files in the storage, and bookkeeping of what is over."""
        names = [path.relative_to(self.storage.root).as_posix() for path in self.storage.root.rglob("*")]
        unfinished = [name for name in names if name.endswith((".tmp", ".part")) or "/.publish-" in name]
        store = tuple(f"store/{top}/" for top in ("work", "leases", "pins"))
        return unfinished + [name for name in names if name.startswith(store) or name.startswith("ray/")]

    def told(self, name: str) -> str:
        """What a command said."""
        return (self.root / f"{name}.log").read_text()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A room; its temporary folder has a short name, because a socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        room = Room(tmp_path, Path(name))
        yield room
        for process in room.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.split()[0]), signal.SIGKILL)
        for started in room.started:
            started.wait()


def wait_for(holds: Callable[[], Any], room: Room, name: str) -> None:
    """Wait until something `holds`."""
    end = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < end, room.told(name)
        time.sleep(0.1)


def test_two_sweeps_at_once_leave_only_results(room: Room, tiny: RunConfig, data: Path) -> None:
    """Fault: sweeps of one machine and storage that collide; processes, memory or files left by success or failure; a
    home folder that a sweep cannot do without."""
    one = room.start(tiny, "one", data, "optimizer.embedding_lr=0.035,1e30", "split=int4")
    two = room.start(override_all(tiny, {"seed": 2}), "two", data, "split=int4", HOME="/proc/nohome")
    assert (one.wait(400), two.wait(400)) == (0, 0), room.told("one") + room.told("two")
    ledger = Ledger(room.storage.ledger)
    assert {entry.state for entry in ledger.latest("one")} == {"done", "failed"}
    assert [entry.state for entry in ledger.latest("two")] == ["done"]
    assert len(ledger.trials()) == 3
    assert room.leftovers() == {}
    assert room.strange() == []


def test_stopped_and_killed_sweeps_leave_no_process(room: Room, tiny: RunConfig, data: Path) -> None:
    """Fault: after Ctrl-C, or a kill -9 of the driver in the middle of a training, workers and Ray stay."""
    long = override_all(tiny, {"schedule.steps": 200_000, "validate_every": None})
    stopped = room.start(long, "stopped", data, "split=int4")
    killed = room.start(override_all(long, {"seed": 2}), "killed", data, "split=int4")
    for name in ("stopped", "killed"):
        folder = room.storage.sweep(name)
        wait_for(lambda folder=folder: list(folder.glob("trials/*/state.*")), room, name)  # type: ignore[misc]
    stopped.send_signal(signal.SIGINT)
    killed.kill()
    assert (stopped.wait(60), killed.wait(60)) == (130, -signal.SIGKILL), room.told("stopped")
    assert room.leftovers() == {}


def test_a_start_that_ends_early_leaves_nothing(room: Room, tiny: RunConfig, data: Path) -> None:
    """Fault: Ray, which is started beside the imports, outlives a command that ends before its first trial."""
    refused = room.start(tiny, "refused", data, "model.nothing=1")
    assert refused.wait(120) == 2, room.told("refused")
    assert "model.nothing" in room.told("refused")
    for name, seconds, number in (("at-once", 0.0, signal.SIGINT), ("later", 2.0, signal.SIGINT), ("dead", 2.0, 9)):
        started = room.start(tiny, name, data, "split=int4")
        wait_for(lambda name=name: "importing" in room.told(name), room, name)  # type: ignore[misc]
        time.sleep(seconds)
        started.send_signal(number)
        assert started.wait(60) == (-9 if number == 9 else 130), room.told(name)
        assert "Traceback" not in room.told(name)
    assert room.leftovers() == {}
    assert not Ledger(room.storage.ledger).trials()
