"""A cluster of simulated nodes that come and go under a sweep; in a process of its own, because its Ray is its own.

Arguments: the configuration's file, the dataset, a folder. One JSON object is printed last.
"""

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from golf.config.config import RunConfig, from_plain
from golf.runtime.files import read_json
from golf.train.checkpoint_policy import CheckpointPolicy
from tests.tune.cluster.metadata import Metadata
from tests.tune.workloads.gepa.helpers import workload_of
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.sweep import SweepConfig, run_sweep
from tune.cluster.workers import TRIAL_SLOT, Workers
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.search.space import Trial
from tune.workloads.base import CacheConfig
from tune.workloads.trial_process import FAILURE_LOG

SMALL = {"object_store_memory": 80_000_000}
NOTICED, FURTHER = 2, 2
"""Saved steps after which a node gets its notice; more steps on what is left, after which the next thing happens."""
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Seen:
    """Sees every step that is executed."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []

    def started(self, trial: Trial) -> None:
        """Nothing."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A step."""
        if curve == "train_loss":
            self.steps.append((step, value))

    def ended(self, entry: TrialEntry) -> None:
        """Nothing."""


def saved_step(storage: Storage) -> int:
    """The step of the saved state; 0 before there is one."""
    for path in storage.root.glob("sweeps/s/trials/*/curves.json"):
        curves = read_json(path)
        return int(curves["seconds"][0][0]) + 1 if "seconds" in curves else 10**9
    return 0


def turns(storage: Storage) -> list[list[int]]:
    """Who trains, and from which step on."""
    found: list[list[int]] = []
    for path in storage.root.glob("sweeps/s/trials/*/ranks.json"):
        found = read_json(path)["train"]
    return found


def pid_of(rank: int, storage: Storage) -> int:
    """The process of a rank."""
    [path] = storage.root.glob(f"sweeps/s/trials/*/processes/{rank}.json")
    return int(read_json(path)["pid"])


def further(storage: Storage, number: int) -> bool:
    """Whether the training's turn of this number has come a little further."""
    found = turns(storage)
    return len(found) == number and saved_step(storage) >= found[-1][1] + FURTHER


def wait_for(reached: Callable[[], bool], seconds: float = 240.0) -> None:
    """Waits until it is so. Raises: TimeoutError."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds:.0f} s: {inspect.getsource(reached).strip()}")
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on: another Ray on this machine has the usual one."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


def main(config: Path, data: Path, folder: Path) -> dict[str, Any]:
    """A training on four workers, one of whose nodes gets a notice and another is killed."""
    times, began = {}, time.monotonic()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "resources": {TRIAL_SLOT: 1},
            "include_dashboard": True,
            "dashboard_port": free_port(),
            "_system_config": SOON,
            **SMALL,
        },
    )
    nodes = [cluster.add_node(num_cpus=cpus, **SMALL) for cpus in (2, 1, 1)]
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    times["up"] = time.monotonic() - began
    service = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    command = [
        sys.executable,
        "-m",
        "tune.cluster.spot_watcher",
        "--endpoint",
        f"http://127.0.0.1:{service.server_port}",
    ]
    command += ["--seconds", "0.2", "--node-id", nodes[2].node_id, "--address", cluster.address]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    storage, seen = Storage(folder), Seen()
    base = from_plain(RunConfig, read_json(config))

    def lose_nodes() -> None:
        wait_for(lambda: saved_step(storage) >= NOTICED)
        times["notice"] = time.monotonic() - began
        # A stopped rank holds the others at their next sum, however long the notice takes on a busy machine.
        held = pid_of(3, storage)
        os.kill(held, signal.SIGSTOP)
        Metadata.taken = datetime.now(UTC) + timedelta(seconds=100)
        watcher.wait()
        time.sleep(3.0)
        os.kill(held, signal.SIGCONT)
        wait_for(lambda: further(storage, 2))
        times["kill"] = time.monotonic() - began
        cluster.remove_node(nodes[0], allow_graceful=False)
        wait_for(lambda: further(storage, 3))
        times["sigterm"] = time.monotonic() - began
        os.kill(pid_of(0, storage), signal.SIGTERM)

    threading.Thread(target=lose_nodes, daemon=True).start()
    workload = replace(workload_of(base, data), world=Workers(4).world)
    search = Search(SearchConfig(spaces=({"seed": [1]},), strategy="grid"), workload.trial)
    sweep = SweepConfig(
        name="s",
        workers=Workers(4),
        checkpoint_policy=CheckpointPolicy(seconds=0.1),
        retry_policy=RetryPolicy(2, patience_seconds=3.0),
        cache=CacheConfig(store=str(storage.store)),
    )
    run_sweep(sweep, workload, search, storage, [seen])
    times["ended"] = time.monotonic() - began
    told = watcher.communicate(timeout=60)[0]
    [entry] = Ledger(storage.ledger).latest("s")
    loss = Ledger(storage.ledger).series(entry).curves["train_loss"][:, 2].tolist()
    ray.shutdown()
    cluster.shutdown()
    times["down"] = time.monotonic() - began
    log = "\n".join(path.read_text() for path in storage.trial("s", entry.trial).glob(FAILURE_LOG))
    told_of = {"loss": loss, "world_history": entry.world_history, "device": str(entry.device)}
    return told_of | {"steps": seen.steps, "told": told, "times": times, "log": log}


if __name__ == "__main__":
    print(json.dumps(main(*(Path(argument).resolve() for argument in sys.argv[1:4]))))
