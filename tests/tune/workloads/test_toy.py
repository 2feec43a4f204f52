"""A workload of twenty lines through everything above the seam: Ray, ledger, MLflow, seed study and report."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.tune.workloads.toy import Quadratic
from tune.cluster.finished import finished
from tune.cluster.sweep import SweepConfig, run_sweep
from tune.cluster.workers import Workers
from tune.records.entries import TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.report.document import write_report
from tune.search.search import Search, SearchConfig
from tune.search.space import Space
from tune.study.baseline import baseline_of
from tune.study.runs import study_of
from tune.study.verdict import judge
from tune.tracking.addresses import default_uri
from tune.tracking.tracker import sync
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


@pytest.mark.long
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


def test_a_seed_study_of_a_toy(cluster: None, tmp_path: Path) -> None:
    """Fault: statistics, MLflow or a report that need what only one trainer's trials have."""
    storage = Storage(tmp_path)
    for name, x in (("base", 1), ("better", 3)):
        sweep(name, {"seed": [1, 2], "x": [x]}, storage)
    ledger = Ledger(storage.ledger)
    baseline = baseline_of(["base"], ledger, 1.0)
    assert sorted(baseline.bpb) == sorted(entry.bpb or 0.0 for entry in ledger.latest("base"))
    study = study_of("better", ledger)
    assert [entry.parameters["seed"] for entry in study.rows] == [1, 2]
    verdict = judge(study)
    assert verdict.bpb is not None
    assert verdict.bpb.mean == pytest.approx(sum(entry.bpb or 0.0 for entry in study.rows) / 2)
    assert verdict.cap is None, "a toy has no bytes"
    result = sync(ledger.records(), default_uri(storage.root), "toy", storage)
    assert (result.problem, result.failed) == (None, 0)
    client = MlflowClient(default_uri(storage.root))
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    sent = {run.data.tags["trial"]: run.data.metrics["bpb"] for run in runs if "trial" in run.data.tags}
    assert sent == {entry.trial: entry.bpb for entry in ledger.trials()}
    page = write_report(storage, "better", "base")[0].read_text()
    assert f"{verdict.bpb.mean:.5f}" in page
    assert "no artifact" in page or "no bytes" in page or "without" in page
