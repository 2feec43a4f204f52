"""Part B: the command itself, with Ray and an MLflow server, while its processes are killed at random.

`run_sweep.py` runs as a process; a kill -9 hits at
random the driver, a trial's process, a training worker, the trial that holds a lease, the raylet, the GCS or the MLflow
server, or the wire to that server is cut for some seconds. Where the command ends, by the kill or with trials that were
killed too often, the same command is started again, as a person would. One that does nothing for minutes is a hang: it
is counted and killed.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from benchmarks.faults.forked import Killed, holders
from benchmarks.faults.grid import NAME, Grid, ledger_of
from benchmarks.faults.processes import MARK, Server, Wire, end, end_marked, of_kind
from benchmarks.faults.work import LOG, Death, account
from tune.records.layout import Storage
from tune.records.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("driver", "trial", "worker", "lease holder", "raylet", "gcs", "mlflow", "wire")
STALL_SECONDS = 300.0
CUT_SECONDS = 6.0
_WAIT_SECONDS = 90.0
"""That a process of the chosen kind is waited for before another kind is chosen."""


@dataclass
class Stack:
    """The command and what it runs on, in a fresh storage."""

    grid: Grid
    root: Path
    mark: str
    killed: Killed = field(default_factory=Killed)
    starts: int = 0
    """Of the command."""
    hangs: int = 0
    outages: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Storage(self.root / "storage")
        self.server = Server(self.root / "mlflow", self.mark)
        self.server.wait()
        self.wire = Wire(self.server.port)
        self.start()

    def start(self) -> None:
        """Start the command, once more."""
        arguments = self.grid.command(self.root, self.storage.root)
        arguments += ["--tracking-uri", f"http://127.0.0.1:{self.wire.port}"]
        command = [sys.executable, "-m", "benchmarks.faults.watched", *arguments]
        environment = os.environ | {MARK: self.mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        with (self.root / "command.log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.starts += 1
        self.seen, self.moved = self.progress(), time.monotonic()

    def progress(self) -> int:
        """Grows while something is done."""
        paths = (self.root / LOG, self.storage.ledger, self.root / "command.log")
        return sum(path.stat().st_size for path in paths if path.exists())

    def attend(self) -> bool:
        """Whether the sweep is over; the command is started again where it ended before."""
        code = self.process.poll()
        if code is None:
            if (now := self.progress()) != self.seen:
                self.seen, self.moved = now, time.monotonic()
            elif time.monotonic() - self.moved > STALL_SECONDS:
                self.hangs += 1
                self.process.kill()
            return False
        if code == 0 and all(entry.state != "failed" for entry in Ledger(self.storage.ledger).latest(NAME)):
            return True
        self.start()
        return False

    def targets(self, kind: str) -> list[int]:
        """Processes of a kind."""
        if kind == "driver":
            return [self.process.pid] if (self.root / LOG).exists() else []
        if kind == "lease holder":
            return holders(self.storage.store, of_kind("trial", self.mark))
        return of_kind(kind, self.mark)

    def strike(self, kind: str, chance: random.Random) -> bool:
        """Do what `kind` says; False when there is no such process."""
        if kind == "wire":
            self.wire.sever()
            time.sleep(CUT_SECONDS)
            self.wire.mend()
            self.outages["wire"] = self.outages.get("wire", 0) + 1
            return True
        if kind == "mlflow":
            self.server.kill()
            time.sleep(CUT_SECONDS)
            self.server.start()
            self.killed.kinds[kind] += 1
            return True
        found = self.targets(kind)
        if not found:
            return False
        target = chance.choice(found)
        dying = [target]
        if kind in ("driver", "raylet", "gcs"):
            dying += [pid for name in ("trial", "worker") for pid in of_kind(name, self.mark)]
        now = time.time()
        end(target)
        self.killed.kinds[kind] += 1
        self.killed.deaths += [Death(now, pid) for pid in dying]
        return True

    def close(self) -> None:
        """End all."""
        self.wire.close()
        end_marked(self.mark)
        for process in (self.process, self.server.process):
            process.wait()

    def untold(self) -> list[str]:
        """Trials that MLflow does not show as the ledger has them."""
        self.server.wait()
        client = MlflowClient(f"http://127.0.0.1:{self.server.port}")
        experiment = client.get_experiment_by_name(NAME)
        runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
        shown = {run.data.tags.get("trial"): run.data.metrics.get("bpb") for run in runs}
        entries = Ledger(self.storage.ledger).latest(NAME)
        wrong = [entry.trial for entry in entries if shown.get(entry.trial, -1) != entry.bpb]
        return wrong + ["doubled"] * (len(runs) - len(shown))


def run(
    grid: Grid,
    root: Path,
    chance: random.Random,
    most: int,
    every_seconds: float,
    seconds: float,
    say: Callable[..., None],
) -> Stack:
    """The command in a fresh storage below `root`, killed at most `most` times, about `every_seconds`.

    Args: seconds: after which no kill follows; say: told each kill.
    """
    root.mkdir(parents=True)
    stack = Stack(grid, root, f"{chance.getrandbits(64):016x}")
    began = time.monotonic()
    try:
        order, due = _order(chance), began + every_seconds
        kind, waited = next(order), began
        while not stack.attend():
            now = time.monotonic()
            struck = sum(stack.killed.kinds.values())
            if struck < most and now >= due and now - began < seconds:
                if stack.strike(kind, chance):
                    kills, ended = sum(stack.killed.kinds.values()), len(ledger_of(stack.storage))
                    say(f"{kind}; {kills} kills, {ended} trials ended")
                    due = time.monotonic() + min(chance.expovariate(1 / every_seconds), 3 * every_seconds)
                    kind, waited = next(order), due
                elif now - waited > _WAIT_SECONDS:
                    kind, waited = next(order), now
            time.sleep(0.1)
        stack.killed.seconds = time.monotonic() - began
        stack.killed.entries = ledger_of(stack.storage)
        stack.killed.account = account(root, stack.storage.store, stack.killed.deaths)
        stack.outages["untold"] = len(stack.untold())
    finally:
        stack.close()
    return stack


def _order(chance: random.Random) -> Iterator[str]:
    """All kinds in a random order, again and again."""
    while True:
        yield from chance.sample(KINDS, len(KINDS))
