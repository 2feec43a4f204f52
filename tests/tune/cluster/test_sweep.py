"""Sweeps over a real Ray: reuse, causes, dead workers, several workers, one driver."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray.tune.search import Searcher

from golf.config.config import RunConfig, override_all, to_plain
from golf.pipeline.bundle import code_bytes
from golf.runtime.files import write_json
from golf.runtime.results import RungResult, read_result
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.loop import Preempted
from tests.tune.workloads.gepa.helpers import run, spec_of, workload_of
from tests.tune.workloads.toy import Counting
from tune.cache.store import Store
from tune.cluster.finished import finished
from tune.cluster.limits import Ended, Limits, LimitWatch
from tune.cluster.ray_cluster import trials_at_once
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.sweep import RaySearcher, ResultRecorder, SweepConfig, TrialSource, only_driver, run_sweep
from tune.cluster.train_workers import in_this_process
from tune.cluster.workers import Workers
from tune.records.entries import Failure, FailureKind, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.search.space import Space, Trial
from tune.workloads.base import CacheConfig, StageFailed

ROOT = Path(__file__).resolve().parents[3]


class Seen:
    """Watches a sweep."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.points: list[tuple[str, str, int, float]] = []
        self.entries: list[TrialEntry] = []

    def started(self, trial: Trial) -> None:
        """A trial began."""
        self.begun.append(trial.trial)

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point."""
        self.points.append((trial.trial, curve, step, value))

    def ended(self, entry: TrialEntry) -> None:
        """A trial's entry is in the ledger."""
        self.entries.append(entry)


def sweep(
    base: RunConfig, space: Space, data: Path, storage: Storage, workers: Workers | None = None, **settings: Any
) -> tuple[dict[str, TrialEntry], Seen]:
    """Run a grid of `space`; the entries by the trial's name, and what was seen."""
    workers = workers or Workers()
    workload = replace(workload_of(base, data), world=workers.world)
    known = finished("s", storage, workload.code)
    search = Search(SearchConfig(spaces=(space,), strategy="grid"), workload.trial, known)
    seen = Seen()
    run_sweep(SweepConfig(name="s", workers=workers, concurrent=2, **settings), workload, search, storage, [seen])
    return {entry.name: entry for entry in Ledger(storage.ledger).latest("s")}, seen


def shared(storage: Storage) -> CacheConfig:
    """The store of a storage."""
    return CacheConfig(store=str(storage.store))


def timeless(entry: TrialEntry) -> tuple[object, ...]:
    """The figures that do not tell how long it took."""
    rungs = tuple((rung.name, rung.bpb, rung.nats_per_token) for rung in entry.rungs)
    return entry.state, entry.bpb, entry.nats_per_token, entry.size, rungs


@pytest.mark.long
def test_a_sweep(cluster: None, tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a trial lost, run twice or with other numbers than in one process; one bad trial that ends the sweep."""
    storage = Storage(tmp_path / "storage")
    base = override_all(tiny, {"cap_bytes": code_bytes(tiny) + 11_000})  # between the sizes of the two splits
    space: Space = {"optimizer.embedding_lr": [0.035, 1e30], "split": ["int4", "int8"]}
    entries, seen = sweep(base, space, data, storage)
    assert {name: entry.state for name, entry in entries.items()} == {
        "optimizer.embedding_lr=0.035 split=int4": "done",
        "optimizer.embedding_lr=0.035 split=int8": "infeasible",
        "optimizer.embedding_lr=1e+30 split=int4": "failed",
        "optimizer.embedding_lr=1e+30 split=int8": "failed",
    }
    assert str(entries["optimizer.embedding_lr=1e+30 split=int4"].reason).startswith("diverged: step 1")
    assert len(Ledger(storage.ledger).trials()) == len(seen.entries) == len(set(seen.begun)) == 4
    done = entries["optimizer.embedding_lr=0.035 split=int4"]
    wanted = (done.trial, "train_loss")
    losses = {(step, value) for trial, curve, step, value in seen.points if (trial, curve) == wanted}
    curve = Ledger(storage.ledger).series(done).curves["train_loss"]
    assert losses == {(point[0], point[2]) for point in curve}
    assert str(done.device).startswith("1 x ")
    alone = Trial(trial=done.trial, parameters={}, name="alone", config=done.config)
    run(workload_of(base, data), spec_of(alone, tmp_path / "alone"))
    assert (tmp_path / "alone" / "artifact.golf").read_bytes() == storage.files(done)["artifact"].read_bytes()
    again, seen_again = sweep(base, space, data, storage)
    assert again == entries
    assert seen_again.begun == []
    other = Storage(tmp_path / "shared")
    together, _ = sweep(base, {**space, "optimizer.embedding_lr": [0.035]}, data, other, cache=shared(other))
    for name, entry in together.items():
        assert timeless(entry) == timeless(entries[name])
        assert other.files(entry)["artifact"].read_bytes() == storage.files(entries[name])["artifact"].read_bytes()
    assert sum("train" in entry.computed for entry in together.values()) == 1


@pytest.mark.long
def test_a_limit_stops_running_trials_and_more_of_it_goes_on(cluster: None, tmp_path: Path) -> None:
    """Fault: a trial killed without its state, recorded as failed, begun anew, or another begun after the limit."""
    storage, workload = Storage(tmp_path), Counting(Workers().world)

    def is_counting() -> bool:
        return any(int(path.read_text() or 0) > 5 for path in storage.root.glob("sweeps/s/trials/*/counted.txt"))

    def count(limits: Limits) -> Ended:
        known = finished("s", storage, workload.code)
        search = Search(SearchConfig(spaces=({"x": [3, 120, 121]},), strategy="grid"), workload.trial, known)
        watch = LimitWatch(limits, storage.used("s"), 1.0, clock=lambda: time.monotonic() + 3600 * is_counting())
        return run_sweep(SweepConfig(name="s", concurrent=1), workload, search, storage, [], watch)

    ended = count(Limits(max_hours=1.0))
    assert ended.stop is not None
    assert ended.num_stopped == 1
    [first] = Ledger(storage.ledger).latest("s")
    assert first.parameters == {"x": 3}
    assert not storage.stop_file("s").exists()

    ended = count(Limits(max_hours=100.0, stop_at=120.0))
    assert ended.stop is not None
    assert ended.stop.reason == "x=120 has 120.0000 BPB, which --stop-at 120 asks for"
    assert [entry.bpb for entry in Ledger(storage.ledger).latest("s")] == [3.0, 120.0]
    second = Ledger(storage.ledger).latest("s")[1]
    starts = (storage.trial("s", second.trial) / "starts.txt").read_text().split()
    assert len(starts) == 2
    assert 5 < int(starts[1]) < 120, "it went on from its state"


@pytest.mark.long
def test_two_workers_and_a_dead_one(cluster: None, tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a killed worker that loses the trial or changes its numbers; Ray Train that differs from torchrun."""
    changes = {"schedule.steps": 150, "schedule.warmdown_start": 100, "validate_every": None, "ttt": None, "seed": 1}
    base = override_all(tiny, changes)
    space: Space = {"schedule.warmdown_start": [100, 120]}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "golf"]
    late, calm = override_all(base, {"schedule.warmdown_start": 120}), tmp_path / "calm"
    write_json(tmp_path / "late.json", to_plain(late))
    command = [*two, "run", f"{tmp_path}/late.json", "--data", str(data), "--out", str(calm)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    storage, pids = Storage(tmp_path / "killed"), []

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            state = list(storage.root.glob("sweeps/s/trials/*/state.safetensors"))
            lines = [(p, " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cmdline"])]
            workers = [process for process, line in lines if "RayTrainWorker" in line]
            if state and workers and not (state[0].parent / "train.json").exists():
                pids.append(workers[0].pid)
                os.kill(workers[0].pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    policy = CheckpointPolicy(seconds=0.2)
    killed, _ = sweep(base, space, data, storage, Workers(2), checkpoint_policy=policy, cache=shared(storage))
    killer.join()
    assert len(pids) == 1
    entry = killed["schedule.warmdown_start=120"]
    assert storage.files(entry)["artifact"].read_bytes() == (calm / "artifact.golf").read_bytes()
    sliding = read_result(calm / "sliding.json", RungResult)
    assert sliding is not None
    assert entry.bpb == sliding.bpb
    for entry in killed.values():
        assert entry.state == "done"
        loss = Ledger(storage.ledger).series(entry).curves["train_loss"]
        assert [point[0] for point in loss] == list(range(150))
        assert str(entry.device).startswith("2 x ")
    computed = [name for entry in killed.values() for name in entry.computed]
    assert sorted(computed)[-3:] == ["sliding", "train", "train"]
    stages = [str(entry.record.stage) for entry in Store(storage.store).all()]
    assert stages.count("prefix-101") == 1


@pytest.mark.long
def test_two_sweeps_at_once_on_one_store(cluster: None, tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: two drivers that compute the same stage, or wait for each other for ever; a third that computes again."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    address = ray.get_runtime_context().gcs_address
    common = ["--data", str(data), "--store", str(tmp_path / "store"), "--search", "grid", "--no-screening"]
    common += ["--address", address, "--concurrent", "2", "--tracking-uri", "http://127.0.0.1:9"]

    def start(name: str, rates: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "run_sweep.py", str(tmp_path / "tiny.json"), "--storage", str(tmp_path / name)]
        command += [*common, "--space", "split=int4,int8", f"ttt.lr={rates}"]
        # What a Ray on the loopback alone is joined with.
        environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    both = [start("narrow", "0.01"), start("wide", "0.01,0.02")]
    told = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    narrow, wide = (entries_of(tmp_path / name) for name in ("narrow", "wide"))
    assert (len(narrow), len(wide)) == (2, 4)
    assert all(entry.state == "done" for entry in (*narrow.values(), *wide.values()))
    assert all(timeless(entry) == timeless(wide[trial]) for trial, entry in narrow.items())
    computed = [name for entry in (*narrow.values(), *wide.values()) for name in entry.computed]
    once = {"train": 1, "pack": 2, "live": 1, "ema": 1, "quantised": 2, "sliding": 2, "ttt": 4}
    assert {name: computed.count(name) for name in once} == once
    third = start("third", "0.01,0.02")
    output = third.communicate(timeout=100)[0]
    assert third.returncode == 0, output
    loaded = entries_of(tmp_path / "third")
    assert {trial: timeless(entry) for trial, entry in loaded.items()} == {
        trial: timeless(entry) for trial, entry in wide.items()
    }
    assert [entry.computed for entry in loaded.values()] == [{}] * 4
    assert " started " not in output, "a trial of Ray's for what is stored"


def test_what_does_not_fit_is_refused_at_once(cluster: None) -> None:
    """Fault: a sweep that waits for ever for resources that nobody has."""
    assert trials_at_once(Workers(2)) == 2
    with pytest.raises(ValueError, match=r"16 CPU.*has 4"):
        trials_at_once(Workers(8, cpus=2))
    with pytest.raises(ValueError, match=r"2 GPU.*has 0"):
        trials_at_once(Workers(2, gpus=1))


def entries_of(storage: Path) -> dict[str, TrialEntry]:
    """The last entries of a sweep by their trial."""
    return {entry.trial: entry for entry in Ledger(Storage(storage).ledger).latest("tiny")}


def test_states_of_trials_to_come_are_pinned(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a disk budget that drops the state from which a trial that has not begun wants to go on."""
    space: Space = {"schedule.steps": [8, 10], "schedule.warmdown_start": [4, 6], "split": ["int4"]}
    workload, storage = workload_of(tiny, data), Storage(tmp_path)
    search = Search(SearchConfig(spaces=(space,), strategy="grid"), workload.trial)
    workload = workload.for_trials(search.candidates())
    config = SweepConfig(name="s", cache=replace(shared(storage), budget_bytes=1))
    source = TrialSource(config, workload, search, storage)
    recorder = ResultRecorder(config, workload, storage, [source])
    assert source.store is not None
    keys = {trial.trial: set(workload.stages(trial).keys) for trial in search.certain()}
    assert source.store.pinned() == set().union(*keys.values())
    while (spec := source.next()) is not None:
        recorder.end(spec, "its process was killed")
        del keys[spec.trial.trial]
        assert source.store.pinned() == set().union(*keys.values())
    assert not keys


def test_a_trial_that_would_wait_is_not_started(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a place held by a trial that waits for a prefix that another one trains; Ray Tune told that all is over;
    a prefix that nobody takes over when its trial fails."""
    space: Space = {"schedule.steps": [8, 10], "schedule.warmdown_start": [4], "split": ["int4", "int8"]}
    workload, storage = workload_of(tiny, data), Storage(tmp_path)
    search = Search(SearchConfig(spaces=(space,), strategy="grid"), workload.trial)
    workload = workload.for_trials(search.candidates())
    config = SweepConfig(name="s", cache=shared(storage))
    source = TrialSource(config, workload, search, storage)
    recorder = ResultRecorder(config, workload, storage, [source])
    searcher, begun = RaySearcher(source, recorder), list[str]()
    for num_left in (3, 2, 1, 0):
        spec = searcher.suggest("next")["spec"]
        begun.append(spec.trial.trial)
        assert searcher.suggest("another") == (
            None if num_left else Searcher.FINISHED
        )  # Ray Tune asks again after None
        recorder.end(spec, "its process was killed")
    assert len(set(begun)) == 4


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    """Fault: two drivers train into the same folders."""
    with only_driver(tmp_path), pytest.raises(ValueError, match="already running"), only_driver(tmp_path):
        pass
    with only_driver(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (StageFailed(Failure(kind=FailureKind.ERROR, message="the script ended with 1")), 1),
        (Preempted("stopped"), 1),
        (ValueError("no such field"), 1),
        (ConnectionError("a store that does not answer"), 3),
    ],
)
def test_what_is_tried_again_in_a_trials_own_process(cluster: str, tmp_path: Path, error: Exception, runs: int) -> None:
    """Fault: a script that failed is paid for again, or a fault that passes ends a trial."""
    seen: list[str] = []

    def run_stage(request: object, context: object) -> None:
        seen.append("run")
        raise error

    progress = SimpleNamespace(pending={}, furthest=(0,))
    workload: Any = SimpleNamespace(run_stage=run_stage, progress=lambda request: progress)
    spec = SimpleNamespace(directory=tmp_path, trial=None, is_stopped=False)
    request: Any = SimpleNamespace(spec=spec, distributed=True)
    execute = in_this_process(workload, lambda point: None, RetryPolicy(max_failures=2))
    with pytest.raises(type(error)):
        execute(request)
    assert len(seen) == runs
