"""Nothing that was read is executed: no module unpickles, and planted pickles stay shut in a real run."""

import ast
import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from golf.config.config import RunConfig, to_plain
from golf.data.dataset import open_dataset
from golf.runtime.process_group import ProcessGroup
from tests.test_layers import imported, modules
from tune.cache.store import Store
from tune.workloads.gepa.runner import OUTCOME, run_stage, run_trial
from tune.workloads.gepa.stages import gepa_stages

FORBIDDEN = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
"""Libraries that execute what they read."""
NAMES_AN_ERROR = {"golf.artifact.published_file": {"pickle"}}
"""Modules that import one of them for the type of its errors alone."""
LOADS = {
    "load",
    "safe_load",
    "unsafe_load",
    "full_load",
    "loads",
    "Unpickler",
    "read_pickle",
    "eval",
    "exec",
    "compile",
}
HARMLESS = {"json.loads", "re.compile", "torch.compile", "yaml.safe_load"}


def calls(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    """Dotted name and node of every call by name."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_module_unpickles() -> None:
    """Fault: a reader that executes what someone else wrote."""
    for name, tree in modules().items():
        tops = {other.split(".")[0] for other in imported(tree)}
        assert tops & FORBIDDEN == NAMES_AN_ERROR.get(name, set()), name
        for function, node in calls(tree):
            text = f"{name}: {ast.unparse(node)}"
            plain = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert plain.get("allow_pickle", "False") == "False", text
            owner, _, last = function.rpartition(".")
            if function == "torch.load":
                assert (name, plain.get("weights_only")) == ("golf.artifact.published_file", "True"), text
            elif last in LOADS and function not in HARMLESS:
                assert owner not in FORBIDDEN | {"numpy", "np", "torch", "builtins", ""}, text


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def bombs(mark: Path) -> list[bytes]:
    """A pickle, and what torch.save writes."""
    archive = io.BytesIO()
    torch.save({"weights": Bomb(mark)}, archive)
    return [pickle.dumps(Bomb(mark)), archive.getvalue()]


def test_the_bombs_work(tmp_path: Path) -> None:
    """Fault: bombs that never go off prove nothing."""
    for number, bomb in enumerate(bombs(tmp_path / "mark")):
        torch.load(io.BytesIO(bomb), weights_only=False) if number else pickle.loads(bomb)
        (tmp_path / "mark").rmdir()


def here(stage: str, spec: Mapping[str, Any]) -> None:
    """A runner in this process."""
    run_stage(stage, spec, ProcessGroup(), lambda curve, step, value: None)


@pytest.fixture(scope="module")
def ran(tiny: RunConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """The arguments of a trial that ran with a store, and its BPB."""
    folder = tmp_path_factory.mktemp("ran")
    spec: dict[str, Any] = {"trial": "t", "config": to_plain(tiny), "data": str(data), "folder": str(folder / "trial")}
    spec |= {"save_seconds": 0.0, "store": str(folder / "store"), "branches": [3]}
    spec |= {"world": {"ranks": 1, "cpus": 1.0, "device": "cpu"}}
    run_trial(spec, here, here)
    outcome = json.loads((folder / "trial" / OUTCOME).read_bytes())
    assert outcome["status"] == "done", outcome["cause"]
    return spec, outcome["metrics"]["bpb"]


def copied(spec: Mapping[str, Any], into: Path) -> dict[str, Any]:
    """The same trial in a copy of its folder and its store."""
    shutil.copytree(Path(spec["folder"]).parent, into)
    return {**spec, "folder": str(into / "trial"), "store": str(into / "store")}


def run_again(spec: Mapping[str, Any], mark: Path) -> dict[str, Any]:
    """The outcome of a resumed run, in which nothing may go off."""
    run_trial(spec, here, here)
    assert not mark.exists(), "executed"
    outcome: dict[str, Any] = json.loads((Path(spec["folder"]) / OUTCOME).read_bytes())
    return outcome


KEPT = {"train.json", "pack.json", "provenance.json"}
"""Results that let a resumed run go on to the weights and the artifact."""


def test_bombs_in_a_trials_folder(ran: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    """Fault: a file of a run, whatever its name, is unpickled when the run is resumed."""
    mark = tmp_path / "mark"
    names = [path.relative_to(ran[0]["folder"]) for path in Path(ran[0]["folder"]).rglob("*") if path.is_file()]
    states = [Path(name) for name in ("state.safetensors", "state.pt", "live.pt", "ttt-screen.safetensors")]
    binary = {*states, *(name for name in names if name.suffix != ".json")}
    assert any(name.suffix == ".golf" for name in binary)
    for number, planted in enumerate([*([name] for name in sorted(binary)), names, states]):
        bomb = bombs(mark)[number % 2]
        spec = copied(ran[0], tmp_path / str(number))
        del spec["store"]
        for path in Path(spec["folder"]).glob("*.json"):
            if path.name not in KEPT or planted is states:  # without its result a stage reads the files again
                path.unlink()
        for name in planted:
            (Path(spec["folder"]) / name).write_bytes(bomb)
        run_again(spec, mark)


@pytest.mark.parametrize("sealed", [False, True])
def test_bombs_in_the_store(
    ran: tuple[dict[str, Any], float], tiny: RunConfig, data: Path, tmp_path: Path, sealed: bool
) -> None:
    """Fault: what others put into a shared store is executed, under its right checksum or not."""
    mark = tmp_path / "mark"
    for kind, bomb in enumerate(bombs(mark)):
        spec = copied(ran[0], tmp_path / str(kind))
        shutil.rmtree(spec["folder"])
        store = Store(spec["store"], warn=lambda line: None)
        for entry in store.all():
            if not sealed:
                for name in entry.files:
                    (Path(spec["store"]) / entry.path / name).write_bytes(bomb)
                continue
            folder = tmp_path / f"{kind}-{entry.key}"
            for name in entry.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(bomb)
            store.drop(entry.key)
            store.publish(entry.key, folder, list(entry.files), entry.record)
        outcome = run_again(spec, mark)
        if not sealed:  # all was dropped and computed again
            assert outcome["metrics"]["bpb"] == ran[1]
        else:
            assert outcome["status"] == "failed"


def test_the_store_holds_all_stages(ran: tuple[dict[str, Any], float], tiny: RunConfig, data: Path) -> None:
    """Fault: the tests above plant bombs where nothing is read."""
    stages = gepa_stages(tiny, open_dataset(data).digest, ran[0]["world"], [3], None)
    assert {entry.key for entry in Store(ran[0]["store"]).all()} == set(stages.keys)
