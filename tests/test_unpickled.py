"""Nothing that was read is executed: no module unpickles, and planted pickles stay shut in a real run."""

import ast
import io
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from golf.config.config import RunConfig
from tests.test_layers import imported, modules
from tests.tune.workloads.gepa.helpers import run, spec_of, trial_of, workload_of
from tune.cache.store import Store
from tune.records.entries import Outcome
from tune.workloads.base import TrialSpec
from tune.workloads.gepa.stages import training_key
from tune.workloads.gepa.workload import GepaWorkload

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
            if function == "np.load":
                assert plain.get("allow_pickle") == "False", text
            elif function == "torch.load":
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


@dataclass(frozen=True)
class Ran:
    """A trial that ran with a store."""

    workload: GepaWorkload
    spec: TrialSpec
    bpb: float | None

    def copied(self, root: Path, share: bool = True) -> TrialSpec:
        """The same trial in a copy of its directory and its store."""
        shutil.copytree(self.spec.directory.parent, root)
        store = root / "store" if share else None
        return spec_of(self.spec.trial, root / "trial", store, save_seconds=0.0)

    def run_again(self, spec: TrialSpec, mark: Path) -> Outcome:
        """The outcome of a resumed run, in which nothing may go off."""
        outcome, _ = run(self.workload, spec)
        assert not mark.exists(), "executed"
        return outcome


@pytest.fixture(scope="module")
def ran(tiny: RunConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A trial whose training keeps a state on its way."""
    root, trial = tmp_path_factory.mktemp("ran"), trial_of(tiny)
    workload = workload_of(tiny, data, branches={training_key(tiny): (3,)})
    spec = spec_of(trial, root / "trial", root / "store", save_seconds=0.0)
    outcome, _ = run(workload, spec)
    assert outcome.state == "done", outcome.reason
    return Ran(workload, spec, outcome.bpb)


KEPT = {"train.json", "pack.json", "provenance.json"}
"""Results that let a resumed run go on to the weights and the artifact."""


@pytest.mark.long
def test_bombs_in_a_trials_folder(ran: Ran, tmp_path: Path) -> None:
    """Fault: a file of a run, whatever its name, is unpickled when the run is resumed."""
    mark = tmp_path / "mark"
    directory = ran.spec.directory
    names = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    states = [Path(name) for name in ("state.safetensors", "state.pt", "live.pt", "ttt-2-screen.safetensors")]
    binary = {*states, *(name for name in names if name.suffix != ".json")}
    assert any(name.suffix == ".golf" for name in binary)
    for number, planted in enumerate([*([name] for name in sorted(binary)), names, states]):
        bomb = bombs(mark)[number % 2]
        spec = ran.copied(tmp_path / str(number), share=False)
        for path in spec.directory.glob("*.json"):
            if path.name not in KEPT or planted is states:  # without its result a stage reads the files again
                path.unlink()
        for name in planted:
            (spec.directory / name).write_bytes(bomb)
        ran.run_again(spec, mark)


@pytest.mark.long
@pytest.mark.parametrize("sealed", [False, True])
def test_bombs_in_the_store(ran: Ran, tmp_path: Path, sealed: bool) -> None:
    """Fault: what others put into a shared store is executed, under its right checksum or not."""
    mark = tmp_path / "mark"
    for kind, bomb in enumerate(bombs(mark)):
        root = tmp_path / str(kind)
        spec = ran.copied(root)
        shutil.rmtree(spec.directory)
        store = Store(root / "store", warn=lambda line: None)
        for entry in store.all():
            if not sealed:
                for name in entry.files:
                    (root / "store" / entry.path / name).write_bytes(bomb)
                continue
            folder = tmp_path / f"{kind}-{entry.key}"
            for name in entry.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(bomb)
            store.drop(entry.key)
            store.publish(entry.key, folder, list(entry.files), entry.record)
        outcome = ran.run_again(spec, mark)
        if not sealed:  # all was dropped and computed again
            assert outcome.bpb == ran.bpb
        else:
            assert outcome.state == "failed"


def test_the_store_holds_all_stages(ran: Ran) -> None:
    """Fault: the tests above plant bombs where nothing is read."""
    assert ran.spec.cache is not None
    keys = set(ran.workload.stages(ran.spec.trial).keys)
    assert {entry.key for entry in Store(ran.spec.cache.store).all()} == keys
