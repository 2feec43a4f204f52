"""Seed studies, datasets, reports and views in MLflow, against a real sqlite database."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from golf.submission.study import CapRisk, NoiseSplit
from tests.tune.tracking.made_trials import (
    BEGIN,
    CURVES,
    all_runs,
    curve,
    empty_database,
    expected_curve,
    folder_of,
    parent_of,
    runs_by_trial,
    seed,
    started,
    trial,
    verdict,
)
from tune.records.entries import Failure, FailureKind, PlanEntry, StudyPlan, TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.addresses import default_uri
from tune.tracking.experiment import TrialStart
from tune.tracking.tracker import Tracker, attach, sync
from tune.tracking.views import view_tag

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's tables


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database made once."""
    return empty_database(tmp_path_factory.mktemp("storage"))


def family(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    """The study's run and the others; fails on two of it."""
    runs = all_runs(uri, experiment)
    (parent,) = [run for run in runs if run.data.tags["kind"] == "study"]
    return parent, [run for run in runs if run is not parent]


def state(uri: str, experiment: str) -> list[Any]:
    """All that MLflow holds of the runs, histories too."""
    client = MlflowClient(uri)
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.run_name,
            run.data.params,
            run.data.tags,
            {
                name: [(point.step, point.timestamp, str(point.value)) for point in history]
                for name in run.data.metrics
                for history in [client.get_metric_history(run.info.run_id, name)]
            },
            [(item.dataset.name, item.dataset.digest, item.dataset.source) for item in run.inputs.dataset_inputs],
        )
        for run in sorted(all_runs(uri, experiment), key=lambda run: str(run.info.run_id))
    ]


@pytest.mark.long
def test_seeds_that_ran_before_their_verdict_become_its_children(uri: str) -> None:
    """Fault: seeds stay flat, other trials are taken in, or the parent claims a parameter that differs."""
    seeds = [seed(number) for number in (42, 1337, 2025)]
    assert sync([*seeds, trial(1)], uri, "late").sent == 4
    assert sync([*seeds, trial(1), verdict(1.5, time="2026-01-01T00:00:00Z")], uri, "late").sent == 1
    parent, others = family(uri, "late")
    others = [run for run in others if run.data.tags["kind"] == "trial"]
    children = {
        run.data.tags["trial"] for run in others if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert children == {entry.trial for entry in seeds}
    assert parent.data.params == {"schedule.steps": "100", "cap_bytes": "1000"}
    interval = {"bpb/interval_low": 1.0, "bpb/interval_high": 2.0, "bpb/level": 0.95}
    shown = {name: value for name, value in parent.data.metrics.items() if not math.isnan(value)}
    assert shown == {"bpb/mean": 1.5, "bpb/num_values": 3.0, **interval}
    assert (parent.info.run_name, parent.info.status, parent.data.tags["track"]) == ("three", "FINISHED", "record")
    assert (parent.info.start_time, parent.info.end_time) == (round(BEGIN * 1000), round(BEGIN * 1000) + 60_000)


def test_seeds_are_children_while_they_run(uri: str) -> None:
    """Fault: until the verdict a study's seeds cannot be told from a sweep's trials, or each opens a parent."""
    tracker = Tracker(uri, "live")
    for number in (42, 1337):
        tracker.start(TrialStart("three", started(seed(number)), "tiny", is_seed=True))
    tracker.finish(seed(42))
    tracker.close(20)
    assert tracker.problem is None
    parent, children = family(uri, "live")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert (parent.info.status, sorted(run.info.status for run in children)) == ("RUNNING", ["FINISHED", "RUNNING"])
    assert sync([seed(42), seed(1337), verdict(2.5)], uri, "live").sent == 2
    assert family(uri, "live")[0].info.run_id == parent.info.run_id


def test_sending_a_study_again_changes_nothing(uri: str, tmp_path: Path) -> None:
    """Fault: a second sync, or one after a send that was cut short, doubles points, datasets or runs."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for entry in (seed(42), seed(1337), verdict(1.5)):
        ledger.append(entry)
    assert sync(ledger.records(), uri, "again").sent == 3
    before = state(uri, "again")
    assert sync(ledger.records(), uri, "again").already == 3
    assert state(uri, "again") == before
    for run in all_runs(uri, "again"):
        MlflowClient(uri).set_tag(run.info.run_id, "complete", "false")
    assert sync(ledger.records(), uri, "again").sent == 3
    assert state(uri, "again") == before


def test_the_last_verdict_counts(uri: str) -> None:
    """Fault: a number of an earlier verdict, which the last one does not have, is still shown."""
    first = verdict(1.5, p=0.001, time="2026-01-01T00:00:00Z")
    second = verdict(1.25, time="2026-01-02T00:00:00Z")
    assert sync([seed(42), first], uri, "twice").sent == 2
    assert sync([seed(42), first, second], uri, "twice").sent == 1
    metrics = family(uri, "twice")[0].data.metrics
    assert metrics["bpb/mean"] == 1.25
    assert math.isnan(metrics["gain_bpb/gain"])
    assert math.isnan(metrics["gain_bpb/p"])


def test_a_verdict_in_words_and_numbers(uri: str) -> None:
    """Fault: a statistic is lost, or the description claims what the verdict does not."""
    noise = NoiseSplit(
        repeat_sd=0.001, repeat_interval=(0, 1), seeds_sd=0.002, seeds_interval=(0, 1), seed_only_sd=0.0017, level=0.95
    )
    cap = CapRisk(largest_bytes=900, margin_bytes=100, probability=0.012)
    facts: dict[str, str | None] = {"device": "8 x H100", "code": None}
    faults, notes = ("two devices",), ("one seed",)
    entry = verdict(1.5, p=0.001, faults=faults, notes=notes, facts=facts, noise_bpb=noise, cap=cap)
    assert sync([seed(42), entry], uri, "words").problem is None
    run, _ = family(uri, "words")
    expected = {"gain_bpb/p": 0.001, "gain_nats/gain": 0.25, "noise_bpb/repeat_sd": 0.001, "bytes/margin": 100}
    assert expected.items() <= run.data.metrics.items()
    tags = {"holds": "false", "baseline": "old", "device": "8 x H100", "track": "record", "preset": "tiny"}
    assert tags.items() <= run.data.tags.items()
    assert "code" not in run.data.tags
    text = run.data.tags["mlflow.note.content"]
    for part in (
        "Seed study of 3 seeds: **1.5000 BPB**, 95 % interval 1.0000 to 2.0000",
        "Gain over old: **+0.2500 BPB**; p = 0.001 for a gain of more than 0.0050 BPB",
        "The claim does **not** hold.",
        "Largest artifact 900 bytes, 100 below the cap; a further seed exceeds it with probability 0.012",
        "- Forbids a claim: two devices\n- one seed",
    ):
        assert part in text


def test_a_study_that_the_user_deleted_stays_deleted(uri: str) -> None:
    """Fault: the next verdict brings back what the user threw away, or hangs seeds below it."""
    sync([seed(42), verdict(1.5)], uri, "gone")
    MlflowClient(uri).delete_run(family(uri, "gone")[0].info.run_id)
    assert sync([seed(42), seed(7), verdict(1.0)], uri, "gone").already == 2
    assert {run.data.tags["kind"] for run in all_runs(uri, "gone")} == {"trial"}


def test_a_run_names_its_dataset(uri: str) -> None:
    """Fault: runs on other data cannot be told apart, or a digest longer than MLflow's limit loses the run."""
    entries = [trial(1, data="ab" * 32, dataset="words"), trial(2)]
    assert sync(entries, uri, "data").problem is None
    inputs = {trial: run.inputs.dataset_inputs for trial, run in runs_by_trial(uri, "data").items()}
    (only,) = inputs[entries[0].trial]
    assert (only.dataset.name, only.dataset.digest) == ("words", "ab" * 18)
    assert "ab" * 32 in only.dataset.source
    assert inputs[entries[1].trial] == []


def test_reports_hang_on_the_run_of_their_sweep_or_study(uri: str, tmp_path: Path) -> None:
    """Fault: a report is lost, opens a run each time, or its run is a row among the trials."""
    page = tmp_path / "report.html"
    page.write_text("old")
    sync([trial(1), seed(42), verdict(1.5)], uri, "reports")
    for text in ("one", "two"):
        page.write_text(text)
        assert attach(uri, "reports", "three", [page], is_study=True) is None
        assert attach(uri, "reports", "night", [page]) is None
    runs = {(tags["sweep"], tags["kind"]): run for run in all_runs(uri, "reports") if (tags := run.data.tags)}
    assert sorted(runs) == [("night", "sweep"), ("night", "trial"), ("three", "study"), ("three", "trial")]
    client = MlflowClient(uri)
    for who in (("three", "study"), ("night", "sweep")):
        local = client.download_artifacts(runs[who].info.run_id, "report/report.html")
        assert Path(local).read_text() == "two"
    experiment = client.get_experiment_by_name("reports").experiment_id
    assert len(client.search_runs([experiment], "tags.state = 'finished'")) == 4
    _, view = view_tag("night", [], False)
    (row,) = client.search_runs([experiment], json.loads(json.loads(view)["state"])["searchFilter"])
    assert row.data.tags["kind"] == "trial", "the report is in its sweep's table"
    assert sync([trial(1), seed(42), verdict(1.5)], uri, "reports").already == 3


def test_a_sweep_is_the_parent_of_its_trials(uri: str) -> None:
    """Fault: trials without their sweep, a second parent, counts of an earlier day, or a crash among the finished."""
    failure = Failure(kind=FailureKind.KILLED, message="worker died")
    failed = trial(2, state=TrialState.FAILED, failure=failure, bpb=None, rungs=(), series=None)
    sync([failed], uri, "parents")
    assert parent_of(uri, "parents").info.status == "FAILED"
    over = trial(3, state=TrialState.INFEASIBLE, bpb=None, rungs=())
    tracker = Tracker(uri, "parents")
    tracker.start(TrialStart("night", started(over), "tiny", tags={"user": "ada"}))
    tracker.close(20)
    parent = parent_of(uri, "parents")
    assert (parent.info.status, parent.data.tags["state"], parent.data.tags["mlflow.user"]) == (
        "RUNNING",
        "running",
        "ada",
    )
    entries = [trial(1), trial(2, ended=BEGIN + 61), over, trial(4, bpb=1.0)]
    sync(entries, uri, "parents")
    parent = parent_of(uri, "parents")
    children = runs_by_trial(uri, "parents").values()
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert (parent.info.run_name, parent.info.status) == ("night", "FINISHED")
    counts = {"trials/finished": 3, "trials/over_the_cap": 1, "trials/stopped_early": 0, "trials/failed": 0}
    assert parent.data.metrics == {"bpb/best": 1.0, **counts, "seconds/total": 172, "seconds/computed": 12}
    assert parent.data.params == {"model.value_layers": "[1, 2]", "schedule.qat_threshold": "null"}
    assert parent.data.tags["best"] == trial(4).trial
    before = state(uri, "parents")
    assert sync(entries, uri, "parents").already == 4
    assert state(uri, "parents") == before


def test_the_best_artifact_is_in_the_registry(uri: str, tmp_path: Path) -> None:
    """Fault: no model, one without its file, a copy of it, a version for every sync, or an alias that stays behind."""
    storage = Storage(tmp_path)
    entries = [trial(1, files={"artifact": "artifact.golf"}), trial(2, files={"artifact": "artifact.golf"})]
    sync(entries, uri, "models", storage)
    client = MlflowClient(uri)
    assert [model.name for model in client.search_registered_models("name LIKE 'models%'")] == []
    for entry in entries:
        storage.trial("night", entry.trial).mkdir(parents=True)
        (storage.trial("night", entry.trial) / "artifact.golf").write_text(entry.trial)
    sync([*entries, trial(3)], uri, "models", storage)
    for _ in range(2):
        sync([*entries, trial(4)], uri, "models", storage)
    (version,) = client.search_model_versions("name = 'models-night'")
    run = runs_by_trial(uri, "models")[trial(1).trial]
    assert (version.run_id, version.source) == (run.info.run_id, f"{run.info.artifact_uri}/artifact.golf")
    assert Path(client.download_artifacts(run.info.run_id, "artifact.golf")).read_text() == trial(1).trial
    better = trial(2, files={"artifact": "artifact.golf"}, bpb=1.0)
    sync([entries[0], better], uri, "models", storage)
    best = client.get_model_version_by_alias("models-night", "best")
    assert best.run_id == runs_by_trial(uri, "models")[better.trial].info.run_id
    assert len(client.search_model_versions("name = 'models-night'")) == 2
    assert "[models-night](#/models/models-night)" in parent_of(uri, "models").data.tags["mlflow.note.content"]


def test_a_report_without_mlflow_is_one_line(tmp_path: Path) -> None:
    """Fault: a dead MLflow breaks the making of a report."""
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 500)
    problem = attach(default_uri(tmp_path), "reports", "night", [])
    assert problem is not None
    assert "\n" not in problem


def test_a_sweep_keeps_one_view(uri: str) -> None:
    """Fault: the view of a sweep is missing, lacks a searched field, or one sweep's sync changes another's."""
    sync([trial(1), trial(2, parameters={"model.width": 3})], uri, "views")
    plan = PlanEntry(study="three", plan=StudyPlan(configuration="c", data="d", seeds=(42,)))
    sync([seed(42), plan], uri, "views")
    tags = MlflowClient(uri).get_experiment_by_name("views").tags
    views = {key: value for key, value in tags.items() if key.startswith("mlflow.sharedViewState.")}
    expected = [
        view_tag("night", ["schedule.steps", "split", "model.width"], False),
        view_tag("three", ["seed"], True),
    ]
    assert views == dict(expected)


def test_curves_that_were_missing_are_sent_when_they_are_there(uri: str, tmp_path: Path) -> None:
    """Fault: a lost or damaged series file stops the sync, or the run never gets its curves."""
    path = Ledger(folder_of(uri) / "ledger.jsonl").series_path(str(trial(1).series))
    data = path.read_bytes()
    for damage in (b"", data[:-1] + b"x"):
        path.write_bytes(damage)
        assert sync([trial(1)], uri, "curves").problem is None
    path.unlink()
    assert sync([trial(1)], uri, "curves").already == 1
    run = runs_by_trial(uri, "curves")[trial(1).trial]
    assert (run.data.tags["files_missing"], run.data.metrics["bpb"]) == ("curves", 2.25)
    assert curve(uri, run, "train_loss") == []
    path.write_bytes(data)
    assert sync([trial(1)], uri, "curves").already == 1
    run = runs_by_trial(uri, "curves")[trial(1).trial]
    assert "files_missing" not in run.data.tags
    for name in CURVES:
        assert curve(uri, run, name) == expected_curve(name)
