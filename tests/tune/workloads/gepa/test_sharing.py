"""Sharing: the same bits as alone, every result computed once, whatever dies in between."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, override_all
from golf.config.schedule import make_plan
from golf.data.dataset import open_dataset
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json, write_json
from golf.runtime.tensors import read_tensors
from golf.train.run_log import LOG_FILE
from tests.tune.workloads.gepa.helpers import run, spec_of, trial_of, workload_of
from tune.cache.prefix_tree import unshared_steps
from tune.cache.store import Store
from tune.records.entries import Outcome, Series, TrialState
from tune.search.space import Space, Trial, points_of
from tune.search.successive_halving import SuccessiveHalving
from tune.workloads.base import TrialSpec
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.stages import training_key, training_trees
from tune.workloads.gepa.workload import GepaWorkload
from tune.workloads.trial_process import PROVENANCE, load_trial_from_cache, read_outcome

pytestmark = pytest.mark.long

SPACE: Space = {
    "schedule.steps": [8, 10],
    "schedule.warmdown_start": [4, 6],
    "split": ["int4", "int8"],
    "ttt.lr": [0.01, 0.02],
}
ROOT = Path(__file__).resolve().parents[4]
ONE = """
import pickle, sys
from tests.tune.workloads.gepa.helpers import in_process, run
workload, spec = pickle.loads(bytes.fromhex(sys.argv[1]))
def counted(request):
    names = [request.stage, *getattr(request, "rungs", ()), *map(str, getattr(request, "keep", {}))]
    with open(sys.argv[2], "a") as file:
        file.write(" ".join(names) + "\\n")
    in_process(workload)(request)
run(workload, spec, counted)
"""


@pytest.fixture
def grid(tiny: RunConfig, data: Path) -> tuple[GepaWorkload, list[Trial]]:
    """All points of the space."""
    workload = workload_of(tiny, data)
    trials = [workload.trial(point) for point in points_of(SPACE)]
    return workload.for_trials(trials), trials


def shared(trial: Trial, root: Path, **more: Any) -> TrialSpec:
    """A trial that shares its stages."""
    return spec_of(trial, root / trial.trial, root / "store", **more)


def figures(left: tuple[Outcome, Series] | None) -> dict[str, Any]:
    """What of an outcome does not say how long it took, or who computed it."""
    assert left is not None
    outcome, series = left
    assert outcome.state == TrialState.DONE, outcome.reason
    rungs = [(rung.name, rung.bpb, rung.nats_per_token) for rung in outcome.rungs]
    chunks = {rung: sums.tolist() for rung, sums in series.chunks.items()}
    loss = series.curves["train_loss"][:, ::2].tolist()
    return {"size": outcome.size, "bpb": outcome.bpb, "rungs": rungs, "chunks": chunks, "loss": loss}


def weights_of(outcome: Outcome, root: Path, target: Path) -> Path:
    """The weights that a trial's results were made from, out of the store."""
    store = Store(root / "store")
    stored = {str(entry.record.stage): entry for entry in map(store.find, outcome.keys) if entry}
    store.fetch(stored["train"], target)
    return target


def test_sharing_changes_no_bit_and_computes_once(grid: tuple[GepaWorkload, list[Trial]], tmp_path: Path) -> None:
    """Fault: a number that depends on who trained the prefix; a stage computed twice; a cost that looks lower."""
    workload, trials = grid
    computed: list[str] = []
    for trial in trials:
        left = run(workload, shared(trial, tmp_path / "shared"))
        alone = run(workload, spec_of(trial, tmp_path / "alone" / trial.trial))
        together, apart = tmp_path / "shared" / trial.trial, tmp_path / "alone" / trial.trial
        assert figures(left) == figures(alone)
        assert (together / "artifact.golf").read_bytes() == (apart / "artifact.golf").read_bytes()
        weights = weights_of(left[0], tmp_path / "shared", tmp_path / f"weights-{trial.trial}")
        for file in ("live.safetensors", "average.safetensors"):
            found, wanted = read_tensors(weights / file), read_tensors(apart / file)
            assert all(found[name].equal(tensor) for name, tensor in wanted.items())
        computed += left[0].computed
        assert left[0].total_seconds >= left[0].computed_seconds - 1e-6
        assert left[0].cold == (trial is trials[0])
    # 4 schedules part at 4 or 5 steps (the first row below the peak follows the warmdown's start) and train once each.
    store = Store(tmp_path / "shared" / "store")
    stages = [str(entry.record.stage) for entry in store.all()]
    assert computed.count("train") == stages.count("train") == 4
    assert len([name for name in stages if name.startswith("prefix")]) == len(prefixes(trials))
    counts = {"pack": 8, "live": 4, "ema": 4, "quantised": 8, "sliding": 8, "ttt": 16}
    assert {name: computed.count(name) for name in counts} == counts


def prefixes(trials: Sequence[Trial]) -> set[tuple[int, int]]:
    """The inner nodes of the tree, by an independent way: distinct shared beginnings at which rows differ."""
    configs = {training_key(config): config for config in map(config_of, trials)}
    rows = [make_plan(config.schedule) for config in configs.values()]
    nodes = set()
    for one in rows:
        for other in rows:
            equal = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if equal:
                nodes.add((equal, hash(one[:equal])))
    return nodes


def test_the_tree_saves_what_it_says(grid: tuple[GepaWorkload, list[Trial]]) -> None:
    """Fault: steps counted twice or forgotten."""
    configs = {trial.trial: config_of(trial) for trial in grid[1]}
    trees = training_trees(configs)
    assert unshared_steps(trees) == sum(config.schedule.steps for config in configs.values())
    plans = [make_plan(config.schedule) for config in configs.values()]
    distinct = {plan[: step + 1] for plan in plans for step in range(len(plan))}
    assert sum(tree.steps for tree in trees) == len(distinct)


def start(workload: GepaWorkload, spec: TrialSpec, count: Path) -> "subprocess.Popen[str]":
    """A trial in a process of its own."""
    command = [sys.executable, "-c", ONE, pickle.dumps((workload, spec)).hex(), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


def test_eight_processes_at_once(grid: tuple[GepaWorkload, list[Trial]], tmp_path: Path) -> None:
    """Fault: two that compute the same, or one that waits for ever."""
    workload = grid[0]
    trials = [trial for trial in grid[1] if trial.parameters["schedule.warmdown_start"] == 4]
    assert len(trials) == 8
    processes = [start(workload, shared(trial, tmp_path), tmp_path / "count") for trial in trials]
    assert [process.communicate(timeout=200) and process.returncode for process in processes] == [0] * 8
    for trial in trials:
        assert figures(read_outcome(tmp_path / trial.trial))
    lines = (tmp_path / "count").read_text().splitlines()
    names = " ".join(lines).split()
    assert sum(line.startswith("train") for line in lines) == 2
    assert {name: names.count(name) for name in ("ttt", "sliding", "live")} == {"ttt": 8, "sliding": 4, "live": 2}


def test_a_killed_holder_is_replaced(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a lease that outlives its holder, or a half-written result that is trusted."""
    workload = workload_of(tiny, data)
    trials = [workload.trial({"schedule.steps": steps, "schedule.warmdown_start": 30}) for steps in (60, 64)]
    workload = workload.for_trials(trials)
    holder = start(workload, shared(trials[0], tmp_path, save_seconds=0.05), tmp_path / "count")
    deadline = time.monotonic() + 60
    while not (tmp_path / trials[0].trial / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate(timeout=60)
    for trial in reversed(trials):
        together = run(workload, shared(trial, tmp_path, save_seconds=0.05))
        assert figures(together) == figures(run(workload, spec_of(trial, tmp_path / f"alone-{trial.trial}")))


def test_a_wider_grid_goes_on_from_a_narrow_one(grid: tuple[GepaWorkload, list[Trial]], tmp_path: Path) -> None:
    """Fault: a second sweep that trains again what the first has."""
    workload, wide = grid
    narrow = [trial for trial in wide if trial.parameters["schedule.warmdown_start"] == 4]
    for trial in narrow:
        run(workload.for_trials(narrow), shared(trial, tmp_path))
    before = {str(entry.record.stage) for entry in Store(tmp_path / "store").all()}
    computed: list[str] = []
    for trial in [*narrow, *(trial for trial in wide if trial not in narrow)]:
        computed += run(workload, shared(trial, tmp_path))[0].computed
    counts = {"train": 2, "pack": 4, "live": 2, "ema": 2, "quantised": 4, "sliding": 4, "ttt": 8}
    assert {name: computed.count(name) for name in counts} == counts
    # The narrow grid kept its state after 5 steps, where its own two parted; the others part there as well.
    assert "prefix-5" in before


def test_a_damaged_result_is_computed_again(grid: tuple[GepaWorkload, list[Trial]], tmp_path: Path) -> None:
    """Fault: a flipped bit in the store that becomes a number."""
    workload, trials = grid
    run(workload, shared(trials[0], tmp_path))
    for path in (tmp_path / "store" / "files").rglob("artifact.golf"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.unlink()
        path.write_bytes(content)
    together = run(workload, shared(trials[1], tmp_path))
    assert figures(together) == figures(run(workload, spec_of(trials[1], tmp_path / "alone")))


@pytest.mark.parametrize("screen", [False, True])
def test_a_stored_trial_is_loaded(grid: tuple[GepaWorkload, list[Trial]], tmp_path: Path, screen: bool) -> None:
    """Fault: numbers that differ from the computed ones, an outcome made of a part, weights copied for nothing."""
    workload, trials = grid[0], grid[1][:4]
    if screen:
        halving = SuccessiveHalving(fraction=0.5, top=0.5)
        workload = replace(workload, screening=halving, screening_file=tmp_path / "screened.jsonl")
    for trial in trials:
        spec = shared(trial, tmp_path)
        assert not load_trial_from_cache(workload, spec), "before anything is stored"
        computed = run(workload, spec)
        log = (spec.directory / LOG_FILE).read_text()
        shutil.rmtree(spec.directory)
        if computed[0].state == TrialState.SCREENED:
            continue
        assert load_trial_from_cache(workload, spec)
        loaded = read_outcome(spec.directory)
        assert loaded is not None
        assert figures(loaded) == figures(computed)
        assert loaded[0].seconds == computed[0].seconds
        assert (spec.directory / LOG_FILE).read_text() == log
        assert loaded[0].computed == {}
        assert not loaded[0].cold
        assert not list(spec.directory.glob("*.safetensors"))
    capped = override_all(config_of(trials[-1]), {"cap_bytes": 1000})
    over = spec_of(trial_of(capped), tmp_path / "over", tmp_path / "store")
    assert load_trial_from_cache(workload, over), "the artifact alone tells that it is over the cap"
    left = read_outcome(tmp_path / "over")
    assert left is not None
    assert left[0].state == TrialState.INFEASIBLE


def test_only_who_computes_gets_the_weights(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: hundreds of megabytes copied into the directory of every trial that shares a training."""
    workload = workload_of(tiny, data)
    trials = [workload.trial({"ttt.lr": lr, "split": "int4"}) for lr in (0.1, 0.2)]
    left = [run(workload, shared(trial, tmp_path)) for trial in trials]
    assert (tmp_path / trials[0].trial / "average.safetensors").exists()
    assert (tmp_path / trials[1].trial / "artifact.golf").exists()
    assert not list((tmp_path / trials[1].trial).glob("*.safetensors"))
    assert figures(left[1])


@pytest.mark.parametrize("share", [False, True])
def test_what_other_code_left_is_not_taken(tiny: RunConfig, data: Path, tmp_path: Path, share: bool) -> None:
    """Fault: weights that the code before a change trained, published or reported as those of the code after it."""
    workload, trial = workload_of(tiny, data), trial_of(tiny)
    spec = spec_of(trial, tmp_path / "t", tmp_path / "store" if share else None)
    right = figures(run(workload, spec))
    other = RunDirectory(tmp_path / "other")
    config = override_all(tiny, {"seed": 9})
    train_stage(StageContext(config=config, dataset=open_dataset(data), directory=other))
    for name in ("live.safetensors", "average.safetensors"):
        shutil.copy(other.file(name), spec.directory / name)
    for name in ("pack", "live", "ema", "quantised", "sliding", "ttt"):
        (spec.directory / f"{name}.json").unlink()
    provenance = spec.directory / PROVENANCE
    write_json(provenance, {**read_json(provenance), "code": "of yesterday"})
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    assert figures(run(workload, spec)) == right


def test_a_store_that_cannot_be_written_is_named(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a trial that fails without telling which place."""
    (tmp_path / "file").write_text("no folder")
    spec = spec_of(trial_of(tiny), tmp_path / "t", tmp_path / "file" / "store")
    outcome, _ = run(workload_of(tiny, data), spec)
    assert outcome.state == TrialState.FAILED
    assert str(tmp_path / "file") in str(outcome.reason)
