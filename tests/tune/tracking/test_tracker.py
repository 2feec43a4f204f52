"""MLflow as a view of the ledger, against a real sqlite database and a real server on the loopback."""

import contextlib
import os
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
from tune.records.ledger import Ledger
from tune.records.layout import Storage
from tune.tracking.experiment import Experiment
from tune.tracking.tracker import Tracker, default_uri, sync
from tune.tracking.views import view_tag

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's tables

ROOT = Path(__file__).parents[3]
BEGIN = 1_700_000_000.0


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database made once: its tables take seconds."""
    address = default_uri(tmp_path_factory.mktemp("storage"))
    assert sync([], address, "first").problem is None
    return address


def trial(number: int, **changes: Any) -> dict[str, Any]:
    """An entry for the ledger."""
    entry = {
        "kind": "trial",
        "sweep": "night",
        "trial": f"{number:012x}",
        "status": "done",
        "cause": None,
        "preset": "tiny",
        "name": f"steps={100 + number}",
        "config": {"schedule": {"steps": 100 + number, "qat_threshold": None}, "model": {"value_layers": [1, 2]}},
        "parameters": {"schedule.steps": 100 + number, "split": "mixed"},
        "metrics": {"bpb": 1.25 + number, "artifact_bytes": 123},
        "curves": {
            "train_loss": [[step, BEGIN + 0.37 * step, 5 / (1 + step)] for step in range(30)],
            "ttt_bpb": [[0, BEGIN + 50.5, 1.5], [1, BEGIN + 51.25, 1.25]],
        },
        "tags": {"git_commit": "abc123", "device": "cpu", "versions": "torch 2"},
        "files": {},
        "started": BEGIN,
        "ended": BEGIN + 60,
        "key": "k",
    }
    return {**entry, **changes}


def runs(uri: str, experiment: str) -> dict[str, Any]:
    """Runs by trial; fails on two runs of one trial."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    by_trial = {run.data.tags["trial"]: run for run in found}
    assert len(by_trial) == len(found), "a trial has two runs"
    return by_trial


def curve(uri: str, run: Any, name: str) -> list[tuple[int, int, float]]:
    """All that MLflow holds under `name`: (step, unix milliseconds, value)."""
    history = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.timestamp, metric.value) for metric in history)


def expected_curve(entry: dict[str, Any], name: str) -> list[tuple[int, int, float]]:
    """`name` as the ledger has it, in MLflow's units."""
    return [(step, round(when * 1000), value) for step, when, value in entry["curves"][name]]


def test_a_run_holds_the_whole_entry(uri: str, tmp_path: Path) -> None:
    """Fault: a part of the ledger's entry (a curve's times, a nested field, a file) does not reach MLflow."""
    artifact = tmp_path / "artifact.golf"
    artifact.write_bytes(b"bytes")
    long_curve = [[step, BEGIN + step, 1 / (1 + step)] for step in range(2300)]
    curves = {**trial(1)["curves"], "train_loss": long_curve}
    files = {"artifact": str(artifact), "config": str(tmp_path / "gone.json")}
    entry = trial(1, curves=curves, files=files, config={f"part{n}": {"value": n} for n in range(230)})
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry)
    assert (sync(ledger.entries(), uri, "whole").sent, len(ledger.entries())) == (1, 1)
    run = runs(uri, "whole")[entry["trial"]]
    assert run.info.run_name == "steps=101"
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FINISHED",
        1_700_000_000_000,
        1_700_000_060_000,
    )
    expected = {"sweep": "night", "status": "done", "feasible": "true", "preset": "tiny", "git_commit": "abc123"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.params == {f"part{n}.value": str(n) for n in range(230)} | {
        "schedule.steps": "101",
        "split": "mixed",
    }
    assert run.data.metrics["bpb"] == 2.25
    for name in entry["curves"]:
        assert curve(uri, run, name) == expected_curve(entry, name)
    client = MlflowClient(uri)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["artifact.golf"]
    beside_the_database = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert run.info.artifact_uri.startswith(beside_the_database.as_uri())
    assert Path(client.download_artifacts(run.info.run_id, "artifact.golf")).read_bytes() == b"bytes"


def test_sending_again_changes_nothing(uri: str) -> None:
    """Fault: a second sync, or one after a send that was cut short, opens second runs or doubles points."""
    entries = [trial(number) for number in range(3)]
    assert (sync(entries, uri, "again").sent, sync(entries, uri, "again").already) == (3, 3)
    client = MlflowClient(uri)
    for run in runs(uri, "again").values():
        client.set_tag(run.info.run_id, "complete", "false")
    before = {name: (run.data.metrics, run.data.params) for name, run in runs(uri, "again").items()}
    third = sync(entries * 2, uri, "again")
    assert (third.sent, third.already, third.failed, third.problem) == (3, 0, 0, None)
    after = runs(uri, "again")
    assert {name: (run.data.metrics, run.data.params) for name, run in after.items()} == before
    for entry in entries:
        run = after[entry["trial"]]
        assert curve(uri, run, "train_loss") == expected_curve(entry, "train_loss")
        assert len(curve(uri, run, "bpb")) == 1


def test_a_retried_trial_keeps_its_run(uri: str) -> None:
    """Fault: the retry of a failed trial opens a second run, or the failure stays in sight after the success."""
    failed = trial(7, status="failed", cause="worker died", metrics={"bpb": 9.0}, curves={}, ended=BEGIN + 5)
    sync([failed], uri, "retried")
    run = runs(uri, "retried")[failed["trial"]]
    assert (run.info.status, run.data.tags["cause"], run.data.tags["feasible"]) == ("FAILED", "worker died", "false")
    assert sync([failed, trial(7)], uri, "retried").sent == 1
    run = runs(uri, "retried")[failed["trial"]]
    assert (run.info.status, run.data.tags["feasible"], run.data.metrics["bpb"]) == ("FINISHED", "true", 8.25)
    assert "cause" not in run.data.tags
    assert "worker died" not in run.data.tags["mlflow.note.content"]


def test_an_infeasible_trial_is_finished_and_marked(uri: str) -> None:
    """Fault: a trial over the cap looks like a crash, or like a valid result."""
    entry = trial(8, status="infeasible", cause="12 bytes over", metrics={"overflow_bytes": 12})
    sync([entry], uri, "infeasible")
    run = runs(uri, "infeasible")[entry["trial"]]
    assert (run.info.status, run.data.tags["feasible"]) == ("FINISHED", "false")
    assert run.data.metrics["overflow_bytes"] == 12


def test_live_points_and_the_entry_agree(uri: str) -> None:
    """Fault: points shown live stand twice after the entry came, or after a resumed trial passed steps again."""
    entry = trial(2)
    points = entry["curves"]["train_loss"]
    first = Tracker(uri, "live")
    first.start_trial("night", entry["trial"], entry["parameters"], {"device": "cpu"})
    for step, when, value in points[:20]:
        first.progress(entry["trial"], {"train_loss": value, "broken": float("nan")}, step, when)
    first.close(20)
    run = runs(uri, "live")[entry["trial"]]
    assert (run.info.status, run.data.params["schedule.steps"]) == ("RUNNING", "102")
    assert curve(uri, run, "train_loss") == expected_curve(entry, "train_loss")[:20]

    resumed = Tracker(uri, "live")
    resumed.start_trial("night", entry["trial"], entry["parameters"], {"device": "cpu"}, entry["name"])
    for step, when, value in points[10:25]:
        resumed.progress(entry["trial"], {"train_loss": value}, step, when + (1000 if step < 20 else 0))
    resumed.finish(entry)
    resumed.finish(entry)
    resumed.close(20)
    assert resumed.problem is None
    run = runs(uri, "live")[entry["trial"]]
    assert (run.info.status, run.info.run_name) == ("FINISHED", entry["name"])
    assert curve(uri, run, "train_loss") == expected_curve(entry, "train_loss")
    assert "broken" not in run.data.metrics
    assert sync([entry], uri, "live").already == 1


def test_a_run_that_the_user_deleted_stays_deleted(uri: str) -> None:
    """Fault: the next sync brings back what the user threw away."""
    entry = trial(3)
    sync([entry], uri, "deleted")
    MlflowClient(uri).delete_run(runs(uri, "deleted")[entry["trial"]].info.run_id)
    changed = trial(3, ended=BEGIN + 61)
    assert sync([changed], uri, "deleted").already == 1
    assert runs(uri, "deleted") == {}


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
            tracker.start_trial("night", f"{number}", {}, {})
            tracker.progress(f"{number}", {"train_loss": 1.0}, 1, BEGIN)
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
    tracker.start_trial("night", trial(4)["trial"], {}, {})
    deadline = time.monotonic() + 10
    while tracker.problem is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tracker.problem is not None
    folder.unlink()
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    tracker.progress(trial(4)["trial"], {"train_loss": 2.0}, 1, BEGIN)
    tracker.close(20)
    assert tracker.problem is None
    assert curve(address, runs(address, "back")[trial(4)["trial"]], "train_loss") == [(1, 1_700_000_000_000, 2.0)]


@pytest.mark.parametrize("theirs", ["optimizer.embedding_lr", "split"])
def test_a_view_that_another_sweep_wrote_in_between(
    uri: str, theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a database that refuses the second of two first writers of a tag takes a sweep's runs off MLflow."""
    ours = Experiment(uri, f"between-{theirs}", Storage(tmp_path))
    other, write = Experiment(uri, f"between-{theirs}", Storage(tmp_path)), ours.client.set_experiment_tag
    refused: list[tuple[str, ...]] = []

    def late(*arguments: str) -> None:
        if not refused:
            other.show("night", [theirs], False)
            refused.append(arguments)
            raise MlflowException("UNIQUE constraint failed: experiment_tags.key, experiment_tags.experiment_id")
        write(*arguments)

    monkeypatch.setattr(ours.client, "set_experiment_tag", late)
    ours.show("night", ["split"], False)
    assert len(refused) == 1
    key, value = view_tag("night", ["split"], False)
    assert MlflowClient(uri).get_experiment(ours.experiment_id).tags[key] == value

    def never(*arguments: str) -> None:
        raise MlflowException("the disk is full")

    monkeypatch.setattr(ours.client, "set_experiment_tag", never)
    with pytest.raises(MlflowException, match="full"):
        ours.show("night", ["seed"], False)


TRACK = """
import sys, time
from tune.tracking.tracker import Tracker
print("ready", flush=True)
sys.stdin.readline()
tracker = Tracker(sys.argv[1], "fresh")
for number in range(4):
    tracker.start_trial("night", sys.argv[2] + str(number), {}, {})
    tracker.start_trial("night", "shared" + str(number), {}, {})
    tracker.progress("shared" + str(number), {"train_loss": 1.0 + int(sys.argv[2])}, int(sys.argv[2]), 1e9)
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
    found = runs(address, "fresh")
    assert Counter(name[:-1] for name in found) == {"1": 4, "2": 4, "shared": 4}
    assert len(curve(address, found["shared0"], "train_loss")) == 2


def test_a_server_killed_in_the_middle(uri: str, tmp_path: Path) -> None:
    """Fault: trials are lost or sent twice when the server dies while they are sent and comes back later."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    artifact = tmp_path / "artifact.golf"
    artifact.write_bytes(b"bytes")
    entries = [trial(number, files={"artifact": str(artifact)}) for number in range(12)]
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with mlflow_server(f"sqlite:///{database}", tmp_path, port) as group:
        assert sync(entries[:1], address, "server").problem is None
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("server").experiment_id
        tracker = Tracker(address, "server")
        for entry in entries:
            tracker.start_trial("night", entry["trial"], entry["parameters"], entry["tags"])
            for step, when, value in entry["curves"]["train_loss"]:
                tracker.progress(entry["trial"], {"train_loss": value}, step, when)
            tracker.finish(entry)
        while len(client.search_runs([experiment], "tags.complete = 'true'")) < 3:
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
        tracker.close(30)
        assert tracker.problem is not None
    with mlflow_server(f"sqlite:///{database}", tmp_path, port):
        second = sync(entries, address, "server")
        third = sync(entries, address, "server")
        found = runs(address, "server")
        histories = [curve(address, found[entry["trial"]], "train_loss") for entry in entries]
        files = [client.list_artifacts(run.info.run_id)[0].path for run in found.values()]
    assert 1 <= second.sent <= 9
    assert (second.failed, second.problem) == (0, None)
    assert (third.sent, third.already) == (0, 12)
    assert histories == [expected_curve(entry, "train_loss") for entry in entries]
    assert files == ["artifact.golf"] * 12
    assert {run.info.status for run in found.values()} == {"FINISHED"}


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
    assert 0 < len(runs(uri, "slow")) < 200
