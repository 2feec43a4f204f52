"""Sharing: the same bits as alone, every result computed once, whatever dies in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.config.schedule import make_plan
from golf.data.dataset import open_dataset
from golf.pipeline.stages import RunFolder, train_stage
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import read_tensors
from golf.train.run_log import LOG_FILE
from tests.tune.workloads.gepa.test_runner import here, spec_of
from tune.cache.prefix_tree import unshared_steps
from tune.cache.store import Store
from tune.search.space import Space, Trial, make_trial, points_of
from tune.workloads.gepa.runner import OUTCOME, PROVENANCE, ignore, load_from_cache, run_trial
from tune.workloads.gepa.stages import branch_points, training_key, training_trees

SPACE: Space = {
    "schedule.steps": [8, 10],
    "schedule.warmdown_start": [4, 6],
    "split": ["int4", "int8"],
    "ttt.lr": [0.01, 0.02],
}
ROOT = Path(__file__).resolve().parents[3]
ONE = """
import json, os, sys
from pathlib import Path
from golf.pipeline.stages import train_stage
from tests.tune.workloads.gepa.test_runner import here
import tune.workloads.gepa.runner
spec = json.loads(sys.argv[1])
def counted(stage, spec):
    names = [stage, *spec.get("rungs", ()), *spec.get("keep", {})]
    with open(sys.argv[2], "a") as file:
        file.write(" ".join(names) + "\\n")
    here(stage, spec)
print("ready", flush=True)
tune.workloads.gepa.runner.run_trial(spec, counted, counted)
"""


def trials_of(tiny: RunConfig) -> list[Trial]:
    """Every point of the space."""
    return [make_trial(tiny, point, "data") for point in points_of(SPACE)]


def shared_spec(trial: Trial, trials: list[Trial], data: Path, root: Path, **more: Any) -> dict[str, Any]:
    """A trial's arguments with a store."""
    branches = branch_points(trial.config for trial in trials)[training_key(trial.config)]
    world = {"ranks": 1, "cpus": 1, "device": "cpu"}
    sharing = {"store": str(root / "store"), "branches": branches, "world": world, "trial": trial.trial}
    lease_config = {"lease_seconds": 3.0, "poll_seconds": 0.1}
    return spec_of(trial.config, data, root / trial.trial) | sharing | {"patience": lease_config} | more


def figures(folder: Path) -> dict[str, Any]:
    """The figures of an outcome that do not tell how long it took."""
    outcome = read_json(folder / OUTCOME)
    assert outcome["status"] == "done", outcome["cause"]
    return {name: value for name, value in outcome["metrics"].items() if "seconds" not in name} | outcome["chunks"]


def weights_of(trial: Path, root: Path) -> Path:
    """The weights that a trial's results were made from, out of the store."""
    store = Store(root / "store")
    stored = {str(entry.record.stage): entry for entry in map(store.find, read_json(trial / OUTCOME)["keys"]) if entry}
    store.fetch(stored["train"], root / f"weights-{trial.name}")
    return root / f"weights-{trial.name}"


def test_sharing_changes_no_bit_and_computes_once(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a number that depends on who trained the prefix; a stage computed twice; a cost that looks lower."""
    trials = trials_of(tiny)
    computed: list[str] = []
    for trial in trials:
        run_trial(shared_spec(trial, trials, data, tmp_path / "shared"), here, here)
        run_trial(spec_of(trial.config, data, tmp_path / "alone" / trial.trial), here, here)
        together, apart = tmp_path / "shared" / trial.trial, tmp_path / "alone" / trial.trial
        assert figures(together) == figures(apart)
        assert (together / "artifact.golf").read_bytes() == (apart / "artifact.golf").read_bytes()
        for file in ("live.safetensors", "average.safetensors"):
            weights, wanted = read_tensors(weights_of(together, tmp_path / "shared") / file), read_tensors(apart / file)
            assert all(weights[name].equal(tensor) for name, tensor in wanted.items())
        assert [point[::2] for point in read_json(together / OUTCOME)["curves"]["train_loss"]] == [
            point[::2] for point in read_json(apart / OUTCOME)["curves"]["train_loss"]
        ]
        outcome = read_json(together / OUTCOME)
        computed += outcome["computed"]
        assert outcome["metrics"]["seconds"] >= outcome["metrics"]["seconds_now"] - 1e-6
    # 4 schedules part at 4 or 5 steps (the first row below the peak follows the warmdown's start) and train once each.
    assert computed.count("train") == 4
    assert len([name for name in computed if name.startswith("prefix")]) == len(prefixes(trials))
    assert computed.count("pack") == 8
    assert computed.count("live") == computed.count("ema") == 4
    assert computed.count("quantised") == computed.count("sliding") == 8
    assert computed.count("ttt") == 16
    assert Store(tmp_path / "shared" / "store").keys()


def prefixes(trials: list[Trial]) -> set[tuple[int, int]]:
    """The inner nodes of the tree, by an independent way: distinct shared beginnings at which rows differ."""
    found = set()
    plans = {training_key(trial.config): trial.config.schedule for trial in trials}
    rows = [make_plan(schedule) for schedule in plans.values()]
    for one in rows:
        for other in rows:
            equal = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if equal:
                found.add((equal, hash(one[:equal])))
    return found


def test_the_tree_saves_what_it_says(tiny: RunConfig) -> None:
    """Fault: steps counted twice or forgotten."""
    trials = trials_of(tiny)
    trees = training_trees({trial.trial: trial.config for trial in trials})
    assert unshared_steps(trees) == sum(trial.config.schedule.steps for trial in trials)
    plans = [make_plan(trial.config.schedule) for trial in trials]
    distinct = {plan[: step + 1] for plan in plans for step in range(len(plan))}
    assert sum(tree.steps for tree in trees) == len(distinct)


def start(spec: dict[str, Any], count: Path) -> "subprocess.Popen[str]":
    """A trial in a process of its own."""
    command = [sys.executable, "-c", ONE, json.dumps(spec), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


def test_eight_processes_at_once(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: two that compute the same, or one that waits for ever."""
    trials = [trial for trial in trials_of(tiny) if trial.config.schedule.warmdown_start == 4]
    assert len(trials) == 8
    processes = [start(shared_spec(trial, trials, data, tmp_path), tmp_path / "count") for trial in trials]
    assert [process.communicate(timeout=200) and process.returncode for process in processes] == [0] * 8
    for trial in trials:
        assert figures(tmp_path / trial.trial)
    lines = (tmp_path / "count").read_text().splitlines()
    names = " ".join(lines).split()
    assert sum(line.startswith("train") for line in lines) == 2
    assert names.count("ttt") == 8
    assert names.count("sliding") == 4
    assert names.count("live") == 2


def test_a_killed_holder_is_replaced(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a lease that outlives its holder, or a half-written result that is trusted."""
    trials = [make_trial(tiny, {"schedule.steps": steps, "schedule.warmdown_start": 30}, "data") for steps in (60, 64)]
    specs = [shared_spec(trial, trials, data, tmp_path, save_seconds=0.05) for trial in trials]
    holder = start(specs[0], tmp_path / "count")
    deadline = time.monotonic() + 60
    while not (tmp_path / trials[0].trial / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    run_trial(specs[1], here, here)
    run_trial(spec_of(trials[1].config, data, tmp_path / "alone"), here, here)
    assert figures(tmp_path / trials[1].trial) == figures(tmp_path / "alone")
    run_trial(specs[0], here, here)
    run_trial(spec_of(trials[0].config, data, tmp_path / "alone0"), here, here)
    assert figures(tmp_path / trials[0].trial) == figures(tmp_path / "alone0")


def test_a_wider_grid_goes_on_from_a_narrow_one(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a second sweep that trains again what the first has."""
    wide = trials_of(tiny)
    narrow = [trial for trial in wide if trial.config.schedule.warmdown_start == 4]
    for trial in narrow:
        run_trial(shared_spec(trial, narrow, data, tmp_path), here, here)
    rest = [trial for trial in wide if trial not in narrow]
    computed: list[str] = []
    for trial in [*narrow, *rest]:
        run_trial(shared_spec(trial, wide, data, tmp_path), here, here)
        computed += read_json(tmp_path / trial.trial / OUTCOME)["computed"]
    # The narrow grid kept its state after 5 steps, where its own two parted; the others part there as well.
    assert sorted(name for name in computed if not name.startswith(("prefix", "train"))) == sorted(
        ["pack"] * 4 + ["live", "ema"] * 2 + ["quantised", "sliding"] * 4 + ["ttt"] * 8
    )
    assert computed.count("train") == 2
    assert "prefix-5" not in computed


def test_a_damaged_result_is_computed_again(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a flipped bit in the store that becomes a number."""
    trials = trials_of(tiny)[:2]
    run_trial(shared_spec(trials[0], trials, data, tmp_path), here, here)
    for path in (tmp_path / "store" / "files").rglob("artifact.golf"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.unlink()
        path.write_bytes(content)
    run_trial(shared_spec(trials[1], trials, data, tmp_path), here, here)
    run_trial(spec_of(trials[1].config, data, tmp_path / "alone"), here, here)
    assert figures(tmp_path / trials[1].trial) == figures(tmp_path / "alone")


@pytest.mark.parametrize("screen", [False, True])
def test_a_stored_trial_is_recalled(tiny: RunConfig, data: Path, tmp_path: Path, screen: bool) -> None:
    """Fault: numbers that differ from the computed ones, an outcome made of a part, weights copied for nothing."""
    trials = trials_of(tiny)[:4]
    more = {"screening": {"fraction": 0.5, "top": 0.5}} if screen else {}
    for trial in trials:
        spec = shared_spec(trial, trials, data, tmp_path, screened=str(tmp_path / "screened.jsonl"), **more)
        assert not load_from_cache(spec), "before anything is stored"
        run_trial(spec, here, here)
        computed = read_json(tmp_path / trial.trial / OUTCOME)
        log = (tmp_path / trial.trial / LOG_FILE).read_text()
        shutil.rmtree(tmp_path / trial.trial)
        if computed["status"] == "screened":
            continue
        assert load_from_cache(spec)
        recalled = read_json(tmp_path / trial.trial / OUTCOME)
        timed = {"seconds_now"}
        assert {k: v for k, v in recalled["metrics"].items() if k not in timed} == {
            k: v for k, v in computed["metrics"].items() if k not in timed
        }
        assert recalled["chunks"] == computed["chunks"]
        assert (tmp_path / trial.trial / LOG_FILE).read_text() == log
        assert recalled["metrics"]["seconds_now"] == 0
        assert recalled["computed"] == {}
        assert not list((tmp_path / trial.trial).glob("*.safetensors"))
    over = {**spec, "config": to_plain(override_all(trials[-1].config, {"cap_bytes": 1000}))}
    assert load_from_cache({**over, "folder": str(tmp_path / "over")}), "the artifact alone tells: over the cap"
    assert read_json(tmp_path / "over" / OUTCOME)["status"] == "infeasible"


def test_only_who_computes_gets_the_weights(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: hundreds of megabytes copied into the folder of every trial that shares a training."""
    trials = [make_trial(tiny, {"ttt.lr": lr, "split": split}, "d") for lr, split in ((0.1, "int4"), (0.2, "int4"))]
    for trial in trials:
        run_trial(shared_spec(trial, trials, data, tmp_path), here, here)
    assert (tmp_path / trials[0].trial / "average.safetensors").exists()
    assert (tmp_path / trials[1].trial / "artifact.golf").exists()
    assert not list((tmp_path / trials[1].trial).glob("*.safetensors"))
    assert figures(tmp_path / trials[1].trial)


@pytest.mark.parametrize("share", [False, True])
def test_what_other_code_left_is_not_taken(tiny: RunConfig, data: Path, tmp_path: Path, share: bool) -> None:
    """Fault: weights that the code before a change trained, published or reported as those of the code after it."""
    trial = trials_of(tiny)[0]
    spec = shared_spec(trial, [trial], data, tmp_path) if share else spec_of(tiny, data, tmp_path / trial.trial)
    run_trial(spec, here, here)
    right = figures(tmp_path / trial.trial)
    folder = tmp_path / trial.trial
    train_stage(
        override_all(tiny, {"seed": 9}), open_dataset(data), RunFolder(tmp_path / "other"), ProcessGroup(), ignore
    )
    for name in ("live.safetensors", "average.safetensors"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    for name in ("pack", "live", "ema", "quantised", "sliding", "ttt"):
        (folder / f"{name}.json").unlink()
    write_json(folder / PROVENANCE, {**read_json(folder / PROVENANCE), "code": "of yesterday"})
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    run_trial(spec, here, here)
    assert figures(folder) == right


def test_a_store_that_cannot_be_written_is_named(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a trial that fails without telling which place."""
    trial = trials_of(tiny)[0]
    (tmp_path / "file").write_text("no folder")
    run_trial(shared_spec(trial, [trial], data, tmp_path) | {"store": str(tmp_path / "file" / "store")}, here, here)
    outcome = read_json(tmp_path / trial.trial / OUTCOME)
    assert outcome["status"] == "failed"
    assert str(tmp_path / "file") in outcome["cause"]


@pytest.fixture(autouse=True)
def plain_json(tiny: RunConfig, tmp_path: Path) -> None:
    """The configuration beside, for a look at a failed test."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
