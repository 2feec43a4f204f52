"""A cluster of simulated nodes that come and go under a sweep; in a process of its own, because its Ray is its own.

Arguments: the configuration's file, the dataset, a folder. One JSON object is printed last.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5"}
os.environ |= {"RAY_TRAIN_METRICS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import ray
from ray.cluster_utils import Cluster

from golf.config import RunConfig, from_plain
from golf.data.dataset import open_dataset
from golf.files import read_json
from tests.tune.test_sweep import Seen
from tune.attempts import Endurance
from tune.cluster import TRIAL_SLOT, Workers
from tune.paths import Storage
from tune.search import Search
from tune.sweep import SweepSettings, entries_of, run_sweep

SMALL = {"object_store_memory": 80_000_000}


def saved_step(storage: Storage) -> int:
    """The step of the saved state; 0 before there is one."""
    for path in storage.root.glob("sweeps/s/trials/*/curves.json"):
        curves = read_json(path)
        return int(curves["seconds"][0][0]) + 1 if "seconds" in curves else 10**9
    return 0


def main(config: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Lose a node in the middle of a training on two."""
    times, began = {}, time.monotonic()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "resources": {TRIAL_SLOT: 2}, "include_dashboard": True, **SMALL},
    )
    nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    times["up"] = time.monotonic() - began
    storage, seen = Storage(folder), Seen()
    base = from_plain(RunConfig, read_json(config))

    def kill() -> None:
        while saved_step(storage) < 5:
            time.sleep(0.05)
        times["killed"] = time.monotonic() - began
        cluster.remove_node(nodes[1], allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    search = Search(base, {"seed": [1]}, "grid", None, 0, open_dataset(data).digest, [])
    settings = SweepSettings(
        "s", "tiny", data, Workers(2), 1, save_seconds=1.0, endurance=Endurance(2, patience_seconds=3.0)
    )
    run_sweep(settings, search, storage, [seen])
    killer.join()
    times["ended"] = time.monotonic() - began
    [entry] = entries_of("s", storage)
    ray.shutdown()
    cluster.shutdown()
    times["down"] = time.monotonic() - began
    return {"entry": entry, "points": [list(point[1:]) for point in seen.points], "times": times}


if __name__ == "__main__":
    print(json.dumps(main(*(Path(argument).resolve() for argument in sys.argv[1:4]))))
