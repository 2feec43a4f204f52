"""Weights & Biases beside MLflow: what its own files hold without a network, and a server that is away."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal import datastore

from benchmarks.browser import free_port
from tests.tune.tracking.made_trials import started, trial
from tune.records.entries import TrialEntry, TrialState
from tune.tracking.wandb_watcher import WandbWatcher, check_login

Record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]
DataStore: Any = datastore.DataStore
_VARIABLES = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nobody is logged in, and no server of the developer's is asked."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    wandb.teardown()


@dataclass
class Logged:
    """What a file of wandb's holds of a run."""

    project: str = ""
    group: str = ""
    identifier: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, float]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def runs_in(folder: Path) -> dict[str, Logged]:
    """The runs of a folder by their names; their files are whole when wandb's own process has ended."""
    wandb.teardown()
    found = {}
    for file in folder.glob("wandb/offline-run-*/*.wandb"):
        store, run = DataStore(), Logged()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = Record.FromString(data)
            if record.HasField("run"):
                run.project, run.group = record.run.project, record.run.run_group
                run.identifier = record.run.run_id
                run.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                found[record.run.display_name] = run
            elif record.HasField("history"):
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                run.points.append({name: value for name, value in items.items() if not name.startswith("_")})
            elif record.HasField("summary"):
                run.summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}
            elif record.HasField("exit"):
                run.exit_code = record.exit.exit_code
        store._fp.close()
    return found


def watched(watcher: WandbWatcher, entry: TrialEntry) -> None:
    """A trial with two points of a curve, one of them NaN, and one of a curve of the console."""
    one = started(entry)
    watcher.started(one)
    watcher.point(one, "train_loss", 0, 5.0)
    watcher.point(one, "train_loss", 1, math.nan)
    watcher.point(one, "live_bpb", 0, 1.5)
    watcher.point(one, "ttt_bpb", 3, 1.25)


def test_running_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fault: trials that run at the same time share a run; numbers or the end of a trial are lost; a key is shown."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SOME_SECRET", "hunter2hunter2")
    check_login()
    config = {"schedule": {"steps": 101}, "note": "hunter2hunter2"}
    done, failed, left = trial(1, config=config), trial(2, state=TrialState.FAILED, bpb=None), trial(3)
    watcher = WandbWatcher("golf", "night", tmp_path)
    for entry in (done, failed, left):
        watched(watcher, entry)
    watcher.ended(done)
    watcher.ended(failed)
    watcher.ended(trial(4))
    watcher.close(60)
    assert watcher.problem is None
    runs = runs_in(tmp_path)
    assert set(runs) == {done.name, failed.name, left.name}
    for run in runs.values():
        assert (run.project, run.group) == ("golf", "night")
        assert run.points == [{"loss/train": 5.0, "step": 0}, {"bpb/ttt_running": 1.25, "step": 3}]
    assert len({run.identifier for run in runs.values()}) == 3
    first = runs[done.name]
    assert first.config["schedule"] == {"steps": 101}
    assert first.config["note"] == "***"
    assert first.config["trial"] == done.trial
    assert first.summary["bpb"] == done.bpb
    assert first.summary["bytes/artifact"] == 923
    assert first.summary["state"] == "finished"
    assert [runs[entry.name].exit_code for entry in (done, failed, left)] == [0, 1, 1]


def test_a_continued_trial_is_the_same_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fault: every start of a sweep makes another run of the same trial, or two sweeps' trials share one."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    identifiers = list[str]()
    for number, sweep in enumerate(("night", "night", "day")):
        watcher = WandbWatcher("golf", sweep, tmp_path / str(number))
        watched(watcher, trial(1))
        watcher.close(60)
        identifiers.append(runs_in(tmp_path / str(number))[trial(1).name].identifier)
    assert identifiers[0] == identifiers[1] != identifiers[2]


def test_nobody_is_asked_to_log_in() -> None:
    """Fault: a sweep on a rented machine waits at a prompt for a key."""
    with pytest.raises(ValueError, match="wandb login"):
        check_login()


@pytest.mark.long
def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fault: a sweep waits for a server that does not answer, or ends with wandb's error."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    check_login()
    watcher = WandbWatcher("golf", "night", tmp_path)
    began = time.monotonic()
    watched(watcher, trial(1))
    watcher.ended(trial(1))
    assert time.monotonic() - began < 1
    watcher.close(0.5)
    assert time.monotonic() - began < 3
    assert watcher.problem == "Weights & Biases: not done after 0.5 s"
    watcher.close(60)
    assert "Connection refused" in watcher.problem or "connection refused" in watcher.problem
