"""MLflow as a view of the ledger, against a real sqlite database and a real server on the loopback."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from benchmarks.browser import free_port, mlflow_server
from tests.tune.tracking.made_trials import (
    BEGIN,
    CURVES,
    all_runs,
    curve,
    empty_database,
    expected_curve,
    folder_of,
    runs_by_trial,
    started,
    trial,
)
from tune.records.entries import ArtifactSize, Failure, FailureKind, ScreeningScore, Series, TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.addresses import default_uri
from tune.tracking.experiment import Experiment, TrialStart
from tune.tracking.system_metrics import wants_system_metrics
from tune.tracking.tracker import SyncResult, Tracker, sync
from tune.tracking.views import view_tag

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow's tables
]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database made once."""
    return empty_database(tmp_path_factory.mktemp("storage"))


def test_a_run_holds_the_whole_entry(uri: str, tmp_path: Path) -> None:
    """Fault: a part of the ledger's entry (a curve's times, a nested field, a file) does not reach MLflow."""
    storage = Storage(tmp_path)
    artifact = storage.trial("night", trial(1).trial) / "artifact.golf"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"bytes")
    (artifact.parent / "log.txt").write_text("step 1")
    curves = {**CURVES, "train_loss": [[step, BEGIN + step, 1 / (1 + step)] for step in range(2300)]}
    files = {"artifact": "sweeps/night/trials/000000000001/artifact.golf", "config": "elsewhere/gone.json"}
    config = {f"part{n}": {"value": n} for n in range(230)}
    Ledger(storage.ledger).append(trial(1, files=files, config=config, series=None), Series(curves))
    assert sync(Ledger(storage.ledger).records(), uri, "whole", storage).sent == 1
    run = runs_by_trial(uri, "whole")[trial(1).trial]
    times = (run.info.start_time, run.info.end_time)
    assert (run.info.run_name, run.info.status, times) == (
        "steps=101",
        "FINISHED",
        (BEGIN * 1000, BEGIN * 1000 + 60_000),
    )
    expected = {"sweep": "night", "state": "finished", "preset": "tiny", "git_commit": "abc123-dirty"}
    expected |= {"mlflow.user": "ada", "mlflow.source.name": "run_sweep.py", "mlflow.source.git.commit": "abc123"}
    expected |= {"workload": "gepa", "device": "1 x a CPU", "code": "c0de", "files_missing": "config"}
    assert expected.items() <= run.data.tags.items()
    parameters = {f"part{n}.value": str(n) for n in range(230)}
    assert run.data.params == parameters | {"schedule.steps": "101", "split": "mixed"}
    metrics = {"bpb": 2.25, "bpb/live": 2.5, "nats/live": 2, "bytes/artifact": 923, "bytes/model": 900}
    metrics |= {"bytes/code": 23, "bytes/margin": 77, "seconds/train": 40, "seconds/live": 3, "seconds/total": 43}
    metrics |= {"seconds/computed": 3}
    ends = {"bpb/ladder": 2.5, "loss/train": 1 / 2300, "bpb/ttt_running": 1.25}
    assert run.data.metrics == metrics | ends
    for name in curves:
        assert curve(uri, run, name) == expected_curve(name, curves)
    client = MlflowClient(uri)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["artifact.golf", "config.json", "log.txt"]
    assert json.loads(kept(client, run, "config.json")) == config
    assert kept(client, run, "log.txt") == "step 1"
    assert run.info.artifact_uri.startswith((folder_of(uri) / "mlartifacts").as_uri())
    assert kept(client, run, "artifact.golf") == "bytes"


def kept(client: MlflowClient, run: Any, path: str) -> str:
    """The text of a file that MLflow keeps with a run."""
    return Path(client.download_artifacts(run.info.run_id, path)).read_text()


def test_the_load_of_the_machine(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a trial runs for hours and nobody sees what its machine did; or it is logged where nobody asked for it."""
    assert (wants_system_metrics(has_gpu=True), wants_system_metrics(has_gpu=False)) == (True, False)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    assert wants_system_metrics(has_gpu=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = Tracker(uri, "load", system_metrics=True)
    tracker.start(TrialStart("night", started(trial(1)), "tiny"))
    deadline = time.monotonic() + 20
    found: set[str] = set()
    while "system/cpu_utilization_percentage" not in found and time.monotonic() < deadline:
        time.sleep(0.1)
        found = {name for run in all_runs_if_there(uri, "load") for name in run.data.metrics}
    tracker.finish(trial(1))
    tracker.close(20)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found
    run = runs_by_trial(uri, "load")[trial(1).trial]
    assert (run.info.status, run.data.metrics["bpb"]) == ("FINISHED", trial(1).bpb)
    while any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate()):
        assert time.monotonic() < deadline + 20, "it goes on after the trial"
        time.sleep(0.1)


def all_runs_if_there(uri: str, experiment: str) -> list[Any]:
    """Every run of an experiment; none before that is made."""
    return all_runs(uri, experiment) if MlflowClient(uri).get_experiment_by_name(experiment) else []


def test_a_workload_without_ladder_artifact_and_curves(uri: str) -> None:
    """Fault: a trial of another training script stops the sync, or has numbers in MLflow that nobody measured."""
    entry = TrialEntry(
        sweep="scripts",
        trial="0" * 12,
        name="lr=0.1",
        preset="train.py",
        workload="script",
        parameters={"lr": 0.1},
        config={"lr": 0.1},
        data="",
        dataset="",
        code="",
        started=BEGIN,
        ended=BEGIN + 9,
        state=TrialState.DONE,
        bpb=1.5,
        metrics={"accuracy": 0.5, "bpb": 99.0, "train_seconds": 3.0},
    )
    assert sync([entry], uri, "scripts") == SyncResult(1, 0, 0, None)
    (run,) = runs_by_trial(uri, "scripts").values()
    assert run.data.metrics == {"bpb": 1.5, "accuracy": 0.5, "seconds/train": 3.0}
    assert run.data.params == {"lr": "0.1"}
    assert run.data.tags["mlflow.note.content"] == "**1.5000 BPB**, finished  \nVaried: `lr = 0.1`"
    assert not {"device", "check", "files_missing"} & run.data.tags.keys()


def test_sending_again_changes_nothing(uri: str) -> None:
    """Fault: a second sync, or one after a send that was cut short, opens second runs or doubles points."""
    entries = [trial(number) for number in range(3)]
    assert (sync(entries, uri, "again").sent, sync(entries, uri, "again").already) == (3, 3)
    client = MlflowClient(uri)
    for run in runs_by_trial(uri, "again").values():
        client.set_tag(run.info.run_id, "complete", "false")
    before = {name: (run.data.metrics, run.data.params) for name, run in runs_by_trial(uri, "again").items()}
    third = sync(entries * 2, uri, "again")
    assert (third.sent, third.already, third.failed, third.problem) == (3, 0, 0, None)
    after = runs_by_trial(uri, "again")
    assert {name: (run.data.metrics, run.data.params) for name, run in after.items()} == before
    for entry in entries:
        run = after[entry.trial]
        assert curve(uri, run, "train_loss") == expected_curve("train_loss")
        assert len(curve(uri, run, "bpb")) == 1


def test_a_retried_trial_keeps_its_run(uri: str) -> None:
    """Fault: the retry of a failed trial opens a second run, or the failure stays in sight after the success."""
    failure = Failure(kind=FailureKind.KILLED, message="worker died")
    failed = trial(7, state=TrialState.FAILED, failure=failure, reason=str(failure), bpb=None, rungs=(), series=None)
    sync([failed], uri, "retried")
    run = runs_by_trial(uri, "retried")[failed.trial]
    tags = [run.data.tags[name] for name in ("state", "reason", "failure")]
    assert (run.info.status, tags) == ("FAILED", ["failed", "killed: worker died", "killed"])
    assert sync([failed, trial(7)], uri, "retried").sent == 1
    run = runs_by_trial(uri, "retried")[failed.trial]
    assert (run.info.status, run.data.tags["state"], run.data.metrics["bpb"]) == ("FINISHED", "finished", 8.25)
    assert not {"reason", "failure"} & run.data.tags.keys()
    assert "worker died" not in run.data.tags["mlflow.note.content"]


def test_trials_without_a_score_are_no_finished_runs(uri: str) -> None:
    """Fault: a trial over the cap or stopped early looks like a valid result; its partial BPB is lost."""
    size = ArtifactSize(model_bytes=1000, code_bytes=12, cap_bytes=1000)
    entry = trial(8, state=TrialState.INFEASIBLE, reason="12 bytes over", size=size, bpb=None, rungs=())
    first = (ScreeningScore(name="sliding", bpb=2.5, seconds=1.0, rank="rank 3 of 3"),)
    early = trial(9, state=TrialState.SCREENED, reason="not promoted", bpb=None, rungs=(), screening=first)
    violated = trial(10, state=TrialState.INFEASIBLE, violations={"train_seconds<=1": 0.5}, bpb=None, rungs=())
    sync([entry, early, violated], uri, "ended")
    runs = runs_by_trial(uri, "ended")
    ends = [(runs[one.trial].info.status, runs[one.trial].data.tags["state"]) for one in (entry, early, violated)]
    assert ends == [("KILLED", "over the cap"), ("KILLED", "stopped early"), ("KILLED", "out of bounds")]
    assert runs[entry.trial].data.metrics["bytes/margin"] == -12
    assert "12 over the cap" in runs[entry.trial].data.tags["mlflow.note.content"]
    assert (runs[early.trial].data.metrics["bpb/partial_sliding"], "bpb" in runs[early.trial].data.metrics) == (
        2.5,
        False,
    )


def test_live_points_and_the_entry_agree(uri: str) -> None:
    """Fault: points shown live are there twice after the entry came, or after a resumed trial passed steps again."""
    entry, points = trial(2), CURVES["train_loss"]
    start = TrialStart("night", started(entry), "tiny")
    first = Tracker(uri, "live")
    first.start(start)
    for step, when, value in points[:20]:
        first.add_point(entry.trial, "train_loss", int(step), when, value)
        first.add_point(entry.trial, "broken", int(step), when, float("nan"))
    first.close(20)
    run = runs_by_trial(uri, "live")[entry.trial]
    assert (run.info.status, run.data.params["schedule.steps"]) == ("RUNNING", "102")
    assert curve(uri, run, "train_loss") == expected_curve("train_loss")[:20]

    resumed = Tracker(uri, "live")
    resumed.start(start)
    for step, when, value in points[10:25]:
        resumed.add_point(entry.trial, "train_loss", int(step), when + (1000 if step < 20 else 0), value)
    resumed.finish(entry)
    resumed.finish(entry)
    resumed.close(20)
    assert resumed.problem is None
    run = runs_by_trial(uri, "live")[entry.trial]
    assert (run.info.status, run.info.run_name) == ("FINISHED", entry.name)
    assert curve(uri, run, "train_loss") == expected_curve("train_loss")
    assert "broken" not in run.data.metrics
    assert sync([entry], uri, "live").already == 1


def test_a_run_that_the_user_deleted_stays_deleted(uri: str) -> None:
    """Fault: the next sync brings back what the user threw away."""
    entry = trial(3)
    sync([entry], uri, "deleted")
    MlflowClient(uri).delete_run(runs_by_trial(uri, "deleted")[entry.trial].info.run_id)
    changed = trial(3, ended=BEGIN + 61)
    assert sync([changed], uri, "deleted").already == 1
    assert runs_by_trial(uri, "deleted") == {}


def test_one_refused_entry_does_not_hold_up_the_others(uri: str) -> None:
    """Fault: an entry that MLflow cannot take is tried first for ever and nothing behind it is sent."""
    result = sync([trial(0, trial="it's"), trial(1), trial(2, sweep="it's")], uri, "refused")
    assert (result.sent, result.failed) == (2, 1)
    assert result.problem is not None
    assert "it's" in result.problem


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("kind", ["closed", "silent", "broken file"])
def test_mlflow_away_costs_the_caller_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a dead, hanging or broken MLflow delays or breaks the sweep, or the user is not told."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 500)
    with silent_server() as silent:
        address = {"closed": closed_port(), "silent": silent, "broken file": default_uri(tmp_path)}[kind]
        begin = time.monotonic()
        tracker = Tracker(address, "away")
        for number in range(50):
            tracker.start(TrialStart("night", started(trial(number)), "tiny"))
            tracker.add_point(trial(number).trial, "train_loss", 1, BEGIN, 1.0)
            tracker.finish(trial(number))
        assert time.monotonic() - begin < 0.5
        tracker.close(10)
        result = sync([trial(0), trial(1)], address, "away")
        assert time.monotonic() - begin < 10
    assert (result.sent, result.failed) == (0, 2)
    for problem in (tracker.problem, result.problem):
        assert problem is not None
        assert "\n" not in problem
        assert "secret" not in problem


def test_the_tracker_returns_when_mlflow_is_back(tmp_path: Path, uri: str) -> None:
    """Fault: after one failure a tracker shows nothing more for the rest of a long sweep."""
    folder = tmp_path / "later"
    folder.write_bytes(b"a file where the folder should be")
    address = default_uri(folder)
    tracker = Tracker(address, "back", retry_seconds=0.0)
    tracker.start(TrialStart("night", started(trial(4)), "tiny"))
    deadline = time.monotonic() + 10
    while tracker.problem is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tracker.problem is not None
    folder.unlink()
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    tracker.add_point(trial(4).trial, "train_loss", 1, BEGIN, 2.0)
    tracker.close(20)
    assert tracker.problem is None
    assert curve(address, runs_by_trial(address, "back")[trial(4).trial], "train_loss") == [(1, 1_700_000_000_000, 2.0)]


@pytest.mark.parametrize("theirs", ["optimizer.embedding_lr", "split"])
def test_a_view_that_another_sweep_wrote_in_between(
    uri: str, theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a database that refuses the second of two first writers of a tag takes a sweep's runs off MLflow."""
    ours = Experiment(uri, f"between-{theirs}", Storage(tmp_path))
    other, write = Experiment(uri, f"between-{theirs}", Storage(tmp_path)), ours.runs.client.set_experiment_tag
    refused: list[tuple[str, ...]] = []

    def late(*arguments: str) -> None:
        if not refused:
            other.show_view("night", [theirs], False)
            refused.append(arguments)
            raise MlflowException("UNIQUE constraint failed: experiment_tags.key, experiment_tags.experiment_id")
        write(*arguments)

    monkeypatch.setattr(ours.runs.client, "set_experiment_tag", late)
    ours.show_view("night", ["split"], False)
    assert len(refused) == 1
    key, value = view_tag("night", ["split"], False)
    assert MlflowClient(uri).get_experiment(ours.runs.experiment_id).tags[key] == value

    def never(*arguments: str) -> None:
        raise MlflowException("the disk is full")

    monkeypatch.setattr(ours.runs.client, "set_experiment_tag", never)
    with pytest.raises(MlflowException, match="full"):
        ours.show_view("night", ["seed"], False)


TRACK = """
import sys
from tune.search.space import Trial
from tune.tracking.tracker import Tracker, TrialStart
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker(sys.argv[1], "fresh")
for number in range(4):
    for name in (sys.argv[2] + str(number), "shared" + str(number)):
        tracker.start(TrialStart("night", Trial(trial=name, parameters={}, name="", config={}), "tiny"))
    tracker.add_point("shared" + str(number), "train_loss", int(sys.argv[2]), 1e9, 1.0 + int(sys.argv[2]))
tracker.close(60)
assert tracker.problem is None, tracker.problem
"""


def test_two_sweeps_on_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    """Fault: both make the tables and break them, make the experiment twice, or open two runs for one trial."""
    address = default_uri(tmp_path / "new")
    command = [sys.executable, "-c", TRACK, address]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    sweeps = [subprocess.Popen([*command, name], cwd=ROOT, **pipes) for name in ("1", "2")]
    for sweep in sweeps:
        sweep.stdout.readline()  # type: ignore[union-attr]
    for sweep in sweeps:
        sweep.stdin.write(b"go\n")  # type: ignore[union-attr]
        sweep.stdin.flush()  # type: ignore[union-attr]
    outputs = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    assert outputs == [b"", b""], "MLflow's own chatter is not silenced"
    found = runs_by_trial(address, "fresh")
    assert Counter(name[:-1] for name in found) == {"1": 4, "2": 4, "shared": 4}
    assert len(curve(address, found["shared0"], "train_loss")) == 2


def test_a_server_killed_in_the_middle(uri: str, tmp_path: Path) -> None:
    """Fault: trials are lost or sent twice when the server dies while they are sent and comes back later."""
    shutil.copytree(folder_of(uri), tmp_path / "storage")
    storage = Storage(tmp_path / "storage")
    entries = [trial(number, files={"artifact": f"{number}/artifact.golf"}) for number in range(12)]
    for entry in entries:
        storage.trial("night", entry.trial).mkdir(parents=True)
        (storage.trial("night", entry.trial) / "artifact.golf").write_bytes(b"bytes")
    port = free_port()
    database, address = default_uri(storage.root), f"http://127.0.0.1:{port}"
    with mlflow_server(database, tmp_path, port) as group:
        assert sync(entries[:1], address, "server", storage).problem is None
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("server").experiment_id
        tracker = Tracker(address, "server", storage)
        for entry in entries:
            tracker.start(TrialStart("night", started(entry), "tiny"))
            for step, when, value in CURVES["train_loss"]:
                tracker.add_point(entry.trial, "train_loss", int(step), when, value)
            tracker.finish(entry)
        while len(client.search_runs([experiment], "tags.complete = 'true'")) < 3:
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
        tracker.close(30)
        assert tracker.problem is not None
    with mlflow_server(database, tmp_path, port):
        second = sync(entries, address, "server", storage)
        third = sync(entries, address, "server", storage)
        runs = runs_by_trial(address, "server")
        histories = [curve(address, runs[entry.trial], "train_loss") for entry in entries]
        files = [client.list_artifacts(run.info.run_id)[0].path for run in runs.values()]
        models = client.search_model_versions("name = 'server-night'")
        (parent,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    assert 1 <= second.sent <= 9
    assert (second.failed, second.problem) == (0, None)
    assert (third.sent, third.already) == (0, 12)
    assert histories == [expected_curve("train_loss")] * 12
    assert files == ["artifact.golf"] * 12
    assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
    assert [model.run_id for model in models][:1] == [runs[entries[0].trial].info.run_id]


def test_nothing_of_a_slow_send_outlives_close(uri: str) -> None:
    """Fault: close waits beyond its timeout, or the thread goes on sending for minutes after it."""
    tracker = Tracker(uri, "slow")
    for number in range(200):
        tracker.finish(trial(number))
    begin = time.monotonic()
    tracker.close(0.2)
    assert time.monotonic() - begin < 1
    assert tracker.problem is not None
    deadline = time.monotonic() + 10
    while any(thread.name == "mlflow-tracker" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 0 < len(runs_by_trial(uri, "slow")) < 200
