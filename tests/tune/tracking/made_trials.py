"""Entries of a sweep "night" and a seed study "three" with one set of curves, and what MLflow holds of them."""

from pathlib import Path
from typing import Any

import msgspec
from mlflow import MlflowClient

from golf.submission.study import Comparison, Gain, StudyVerdict, Summary
from tune.records.entries import (
    ArtifactSize,
    Device,
    RungScore,
    Series,
    TrialEntry,
    TrialState,
    VerdictEntry,
    sha256,
)
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.space import Trial
from tune.tracking.addresses import database_path, default_uri
from tune.tracking.metric_names import metric_name
from tune.tracking.tracker import sync

BEGIN = 1_700_000_000.0
CURVES: dict[str, list[list[float]]] = {
    "train_loss": [[step, BEGIN + 0.37 * step, 5 / (1 + step)] for step in range(30)],
    "ttt_bpb": [[0, BEGIN + 50.5, 1.5], [1, BEGIN + 51.25, 1.25]],
}
SERIES = Series(CURVES)


def empty_database(folder: Path) -> str:
    """The address of a new database, which takes seconds, and beside it the file of SERIES."""
    address = default_uri(folder)
    assert sync([], address, "first").problem is None
    Ledger(Storage(folder).ledger).write_series(SERIES)
    return address


def trial(number: int, **changes: Any) -> TrialEntry:
    """An entry, as the ledger writes it."""
    entry = TrialEntry(
        sweep="night",
        trial=f"{number:012x}",
        name=f"steps={100 + number}",
        preset="tiny",
        workload="gepa",
        parameters={"schedule.steps": 100 + number, "split": "mixed"},
        config={"schedule": {"steps": 100 + number, "qat_threshold": None}, "model": {"value_layers": [1, 2]}},
        data="",
        dataset="",
        code="c0de",
        tags={"git_commit": "abc123-dirty", "versions": "torch 2", "user": "ada", "source": "run_sweep.py"},
        started=BEGIN,
        ended=BEGIN + 60,
        state=TrialState.DONE,
        bpb=1.25 + number,
        rungs=(RungScore(name="live", bpb=1.5 + number, nats_per_token=2.0, seconds=3.0),),
        size=ArtifactSize(model_bytes=900, code_bytes=23, cap_bytes=1000),
        device=Device(count=1, name="a CPU", kind="cpu"),
        seconds={"train": 40.0, "live": 3.0},
        computed={"live": 3.0},
        series=sha256(SERIES.encode()),
    )
    return msgspec.structs.replace(entry, **changes)


def started(entry: TrialEntry) -> Trial:
    """The trial of an entry, before it ran."""
    return Trial(trial=entry.trial, parameters=entry.parameters, name=entry.name, config=entry.config)


def seed(number: int, **changes: Any) -> TrialEntry:
    """A trial of the study "three"."""
    config = {"schedule": {"steps": 100}, "seed": number, "cap_bytes": 1000}
    return trial(number, sweep="three", config=config, parameters={"seed": number}, data="ab" * 32, **changes)


def verdict(mean: float, p: float | None = None, time: str = "", **changes: Any) -> VerdictEntry:
    """A verdict on the study, with a gain where `p` is given."""
    bpb = Summary(num_values=3, mean=mean, interval=(mean - 0.5, mean + 0.5), level=0.95)
    gain = Gain(gain=0.25, margin=0.005, level=0.95, p=p)
    test = Comparison(baseline="old", values=(1.0,), published=True, gain_nats=gain, gain_bpb=gain)
    result = StudyVerdict(track="record", seeds=(42, 1337, 2025), bpb=bpb, comparison=None if p is None else test)
    return VerdictEntry(study="three", verdict=msgspec.structs.replace(result, **changes), time=time)


def all_runs(uri: str, experiment: str) -> list[Any]:
    """Every run."""
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def parent_of(uri: str, experiment: str) -> Any:
    """The run of the only sweep; fails on two."""
    (run,) = (run for run in all_runs(uri, experiment) if run.data.tags["kind"] == "sweep")
    return run


def runs_by_trial(uri: str, experiment: str) -> dict[str, Any]:
    """Runs by trial; fails on two runs of one trial."""
    runs = [run for run in all_runs(uri, experiment) if run.data.tags["kind"] == "trial"]
    by_trial = {run.data.tags["trial"]: run for run in runs}
    assert len(by_trial) == len(runs), "a trial has two runs"
    return by_trial


def curve(uri: str, run: Any, name: str) -> list[tuple[int, int, float]]:
    """All that MLflow holds of a curve of the ledger: (step, unix milliseconds, value)."""
    history = MlflowClient(uri).get_metric_history(run.info.run_id, metric_name(name))
    return sorted((metric.step, metric.timestamp, metric.value) for metric in history)


def expected_curve(name: str, curves: dict[str, list[list[float]]] = CURVES) -> list[tuple[int, int, float]]:
    """A curve of the ledger in MLflow's units."""
    return [(int(step), round(when * 1000), value) for step, when, value in curves[name]]


def folder_of(uri: str) -> Path:
    """The folder of an SQLite database."""
    path = database_path(uri)
    assert path is not None
    return path.parent
