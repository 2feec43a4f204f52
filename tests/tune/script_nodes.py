"""Trials of a script on a cluster of simulated nodes, one of which is killed; in a process of its own.

Arguments: a script that writes "PID WORLD_SIZE" to the file STARTS, a folder. One JSON object is printed last.
"""

import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from tests.tune.nodes import SMALL, SOON
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.sweep import SweepConfig, run_sweep
from tune.cluster.workers import TRIAL_SLOT, Workers
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.workloads.script.files import find_files
from tune.workloads.script.settings import ScriptSettings
from tune.workloads.script.workload import ScriptWorkload

_SECONDS = 90.0
"""That anything here may take."""


def started(starts: Path) -> list[int]:
    """Returns the processes of all ranks that were started."""
    return [int(line.split()[0]) for line in starts.read_text().splitlines()] if starts.exists() else []


def alive(process: int) -> bool:
    """Returns whether a process runs."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def main(script: Path, root: Path) -> dict[str, object]:
    """Runs three trials of two ranks on two nodes of two CPUs, and kills a node while both are at work."""
    storage, starts = Storage(root / "storage"), root / "starts"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SOON, **SMALL})
    nodes = [cluster.add_node(num_cpus=2, resources={TRIAL_SLOT: 2}, **SMALL) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level="CRITICAL", log_to_driver=False)
    workers, seen = Workers(2), dict[str, object]()
    settings = ScriptSettings(
        files=find_files(script),
        fixed={"env": {"STARTS": str(starts)}, "arg": {}, "constant": {}},
        places={"SEED": ("env", "SEED")},
        seed_field="SEED",
        default_seed=1,
        nproc=2,
        launcher="torchrun",
    )
    workload = ScriptWorkload(settings, "train", workers.world, "none", "none")

    def lose_a_node() -> None:
        deadline = time.monotonic() + _SECONDS
        while len(started(starts)) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        before = started(starts)
        seen["at_once"] = sum(map(alive, before))
        cluster.remove_node(nodes[0], allow_graceful=False)
        began = time.monotonic()
        while sum(map(alive, before)) > 2 and time.monotonic() - began < _SECONDS:
            time.sleep(0.05)
        seen["seconds_until_gone"] = time.monotonic() - began

    threading.Thread(target=lose_a_node, daemon=True).start()
    search = Search(SearchConfig(spaces=({"SEED": [1, 2, 3]},), strategy="grid"), workload.trial)
    config = SweepConfig(name="s", workers=workers, concurrent=3, retry_policy=replace(RetryPolicy(), max_failures=2))
    run_sweep(config, workload, search, storage, [])
    entries = Ledger(storage.ledger).latest("s")
    ray.shutdown()
    cluster.shutdown()
    states = {str(entry.seed): [str(entry.state), entry.bpb, str(entry.device)] for entry in entries}
    return {**seen, "entries": states, "starts": len(started(starts))}


if __name__ == "__main__":
    print(json.dumps(main(*(Path(argument).resolve() for argument in sys.argv[1:3]))))
