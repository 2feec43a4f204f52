"""Seed studies, datasets, reports and views in MLflow, against a real sqlite database."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.tune.tracking.test_tracker import BEGIN, trial
from tune.records.ledger import Ledger
from tune.tracking.tracker import Tracker, attach, default_uri, sync
from tune.tracking.views import view_tag

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's tables


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database made once: its tables take seconds."""
    address = default_uri(tmp_path_factory.mktemp("storage"))
    assert sync([], address, "first").problem is None
    return address


def seed(number: int, **changes: Any) -> dict[str, Any]:
    """A trial of the study "three"."""
    config = {"schedule": {"steps": 100}, "seed": number, "cap_bytes": 1000}
    return trial(number, sweep="three", config=config, parameters={"seed": number}, data="ab" * 32, **changes)


def verdict(mean: float, **changes: Any) -> dict[str, Any]:
    """The study's verdict."""
    bpb = {"mean": mean, "interval": [mean - 0.5, mean + 0.5], "num_values": 3, "standard_deviation": None}
    return {"kind": "seeds", "study": "three", "bpb": bpb, "holds": None, "faults": [], "track": "record", **changes}


def all_runs(uri: str, experiment: str) -> list[Any]:
    """Every run."""
    client = MlflowClient(uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def family(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    """The study's run and the others; fails on two of it."""
    found = all_runs(uri, experiment)
    (parent,) = [run for run in found if run.data.tags["kind"] == "seeds"]
    return parent, [run for run in found if run is not parent]


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


def test_seeds_that_ran_before_their_verdict_become_its_children(uri: str) -> None:
    """Fault: seeds stay flat, other trials are taken in, or the parent claims a parameter that differs."""
    seeds = [seed(number) for number in (42, 1337, 2025)]
    assert sync([*seeds, trial(1)], uri, "late").sent == 4
    assert sync([*seeds, trial(1), verdict(1.5)], uri, "late").sent == 1
    parent, others = family(uri, "late")
    children = {
        run.data.tags["trial"] for run in others if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert children == {entry["trial"] for entry in seeds}
    assert parent.data.params == {"schedule.steps": "100", "cap_bytes": "1000"}
    assert parent.data.metrics == {
        "bpb.mean": 1.5,
        "bpb.interval.low": 1.0,
        "bpb.interval.high": 2.0,
        "bpb.num_values": 3.0,
    }
    assert (parent.info.run_name, parent.info.status, parent.data.tags["track"]) == ("three", "FINISHED", "record")
    assert (parent.info.start_time, parent.info.end_time) == (round(BEGIN * 1000), round(BEGIN * 1000) + 60_000)


def test_seeds_are_children_while_they_run(uri: str) -> None:
    """Fault: until the verdict a study's seeds cannot be told from a sweep's trials, or each opens a parent."""
    tracker = Tracker(uri, "live")
    for number in (42, 1337):
        tracker.start_trial("three", seed(number)["trial"], {"seed": number}, {"study": "three", "searched": "seed"})
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
    assert sync(ledger.entries(), uri, "again").sent == 3
    before = state(uri, "again")
    assert sync(ledger.entries(), uri, "again").already == 3
    assert state(uri, "again") == before
    for run in all_runs(uri, "again"):
        MlflowClient(uri).set_tag(run.info.run_id, "complete", "false")
    assert sync(ledger.entries(), uri, "again").sent == 3
    assert state(uri, "again") == before


def test_the_last_verdict_counts(uri: str) -> None:
    """Fault: a figure of an earlier verdict, which the last one does not hold, still stands there."""
    first = verdict(1.5, gain_bpb={"gain": 0.25, "p": 0.001}, time="2026-01-01T00:00:00Z")
    second = verdict(1.25, time="2026-01-02T00:00:00Z")
    assert sync([seed(42), first], uri, "twice").sent == 2
    assert sync([seed(42), first, second], uri, "twice").sent == 1
    metrics = family(uri, "twice")[0].data.metrics
    assert metrics["bpb.mean"] == 1.25
    assert math.isnan(metrics["gain_bpb.gain"])
    assert math.isnan(metrics["gain_bpb.p"])


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
    inputs = {run.data.tags["trial"]: run.inputs.dataset_inputs for run in all_runs(uri, "data")}
    (only,) = inputs[entries[0]["trial"]]
    assert (only.dataset.name, only.dataset.digest) == ("words", "ab" * 18)
    assert "ab" * 32 in only.dataset.source
    assert inputs[entries[1]["trial"]] == []


def test_reports_hang_on_the_study_or_on_a_run_of_their_own(uri: str, tmp_path: Path) -> None:
    """Fault: a report is lost, opens a run each time, or is counted as a trial."""
    page = tmp_path / "report.html"
    page.write_text("old")
    sync([trial(1), seed(42), verdict(1.5)], uri, "reports")
    for text in ("one", "two"):
        page.write_text(text)
        assert attach(uri, "reports", "three", [page]) is None
        assert attach(uri, "reports", "night", [page]) is None
    runs = {(tags.get("sweep"), tags["kind"]): run for run in all_runs(uri, "reports") if (tags := run.data.tags)}
    assert sorted(runs, key=str) == [("night", "trial"), ("three", "seeds"), ("three", "trial"), (None, "report")]
    report = runs[None, "report"]
    assert (report.info.run_name, report.info.status) == ("night: report", "FINISHED")
    assert report.data.tags["status"] == "done"
    client = MlflowClient(uri)
    for who in (("three", "seeds"), (None, "report")):
        local = client.download_artifacts(runs[who].info.run_id, "report/report.html")
        assert Path(local).read_text() == "two"
    experiment = client.get_experiment_by_name("reports").experiment_id
    assert len(client.search_runs([experiment], "tags.feasible = 'true'")) == 2
    assert sync([trial(1), seed(42), verdict(1.5)], uri, "reports").already == 3


def test_a_report_run_of_an_older_version_is_ended_and_leaves_the_table(uri: str, tmp_path: Path) -> None:
    """Fault: the run of a report stays "running" for ever, and stands in its sweep's table and legends."""
    page = tmp_path / "report.html"
    page.write_text("new")
    sync([trial(1)], uri, "old-report")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("old-report").experiment_id
    tags = {"sweep": "night", "kind": "report", "status": "running", "complete": "false"}
    client.create_run(experiment, 0, tags, "night: report")
    assert attach(uri, "old-report", "night", [page]) is None
    (report,) = (run for run in all_runs(uri, "old-report") if run.data.tags["kind"] == "report")
    assert (report.info.status, report.data.tags["status"]) == ("FINISHED", "done")
    _, view = view_tag("night", [], False)
    (row,) = client.search_runs([experiment], json.loads(json.loads(view)["state"])["searchFilter"])
    assert row.data.tags["kind"] == "trial"


def test_a_report_without_mlflow_is_told_in_a_line(tmp_path: Path) -> None:
    """Fault: a dead MLflow breaks the making of a report."""
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 500)
    told = attach(default_uri(tmp_path), "reports", "night", [])
    assert told is not None
    assert "\n" not in told


def test_a_sweep_keeps_one_view(uri: str) -> None:
    """Fault: the view of a sweep is missing, lacks a searched field, or one sweep's sync changes another's."""
    sync([trial(1), trial(2, parameters={"model.width": 3})], uri, "views")
    sync([seed(42), verdict(1.5)], uri, "views")
    tags = MlflowClient(uri).get_experiment_by_name("views").tags
    views = {key: value for key, value in tags.items() if key.startswith("mlflow.sharedViewState.")}
    expected = [
        view_tag("night", ["schedule.steps", "split", "model.width"], False),
        view_tag("three", ["seed"], True),
    ]
    assert views == dict(expected)
