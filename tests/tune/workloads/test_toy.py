"""A workload of twenty lines through everything above the seam: Ray, ledger, MLflow, seed study and report."""

from pathlib import Path

from tests.tune.workloads.toy import Quadratic
from tune.cluster.ray_cluster import Workers
from tune.cluster.sweep import SweepConfig, finished, run_sweep
from tune.records.entries import TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.search.space import Space
from tune.workloads.base import CacheConfig

WORKERS = Workers()


def sweep(name: str, space: Space, storage: Storage, strategy: str = "grid") -> None:
    """Runs a sweep of the toy."""
    workload = Quadratic(WORKERS.world)
    known = finished(name, storage, workload.code)
    search = Search(SearchConfig(spaces=(space,), strategy=strategy), workload.trial, known)
    cache = CacheConfig(store=str(storage.store))
    tags = {"study": name} if "seed" in space else {}
    config = SweepConfig(name=name, workers=WORKERS, concurrent=2, cache=cache, tags=tags)
    run_sweep(config, workload, search, storage, [])


def test_a_sweep_of_a_toy(cluster: None, tmp_path: Path) -> None:
    """Fault: a sweep that only one trainer's trials can pass through."""
    storage = Storage(tmp_path)
    sweep("toy", {"x": [1, 2, 3, 4]}, storage)
    entries = Ledger(storage.ledger).latest("toy")
    assert {entry.parameters["x"]: entry.state for entry in entries} == dict.fromkeys((1, 2, 3, 4), TrialState.DONE)
    assert min(entries, key=lambda entry: entry.bpb or 9).parameters["x"] == 3
    assert all(entry.workload == "quadratic" and entry.cold and entry.size is None for entry in entries)
    curve = Ledger(storage.ledger).series(entries[0]).curves["loss"]
    assert [point[0] for point in curve] == [1, 2, 4]
    sweep("again", {"x": [3, 5]}, storage)
    again = {entry.parameters["x"]: entry for entry in Ledger(storage.ledger).latest("again")}
    assert not again[3].computed, "the store has it"
    assert again[5].computed
