"""A sweep: every trial trained through Ray Train, packed, and, where it fits under the cap, scored.

Trials enter, ledger entries leave, one per trial. A trial whose entry is in the ledger is not run again. A trial
that fails is recorded with its cause and the sweep goes on; one over the cap is stopped before any evaluation.
"""

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from golf.artifact.bundle import code_bytes
from golf.config import RunConfig, from_plain, to_plain
from golf.data.dataset import open_dataset
from golf.dist import Group
from golf.files import read_json, write_json
from golf.stages import RunFolder, run_stages
from golf.train.loop import Diverged
from tune.cluster import TRIAL_SLOT, Workers
from tune.ddp import OUTCOME, train_on_workers
from tune.ledger import Ledger
from tune.paths import Storage
from tune.space import Trial

DONE, INFEASIBLE, FAILED = "done", "infeasible", "failed"


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep runs; nothing here changes a number."""

    name: str
    preset: str
    data: Path
    workers: Workers
    concurrent: int
    max_failures: int = 1


def run_trial(spec: dict[str, Any], workers: Workers, storage: Path, max_failures: int) -> dict[str, Any]:
    """All stages of one trial: training on its worker group, the rest in this process.

    Raises: Diverged, and whatever ends a stage.
    """
    config, folder = from_plain(RunConfig, spec["config"]), RunFolder(Path(spec["folder"]))
    if not folder.file("train.json").exists():
        shutil.rmtree(storage / spec["trial"], ignore_errors=True)
        train_on_workers(spec, workers, spec["trial"], storage, max_failures)
        diverged = read_json(folder.file(OUTCOME))["diverged"]
        if diverged:
            raise Diverged(diverged)
    dataset = open_dataset(Path(spec["data"]), config.model.vocab_size)

    def event(curve: str, step: int, value: float) -> None:
        if curve == "ttt_bpb":
            tune.report({"step": step, curve: value})

    group = Group(device=torch.device("cuda", 0) if workers.gpus else torch.device("cpu"))
    return run_stages(config, dataset, folder, group, code_bytes(config), event, stop_over_cap=True)


def trial_entry(settings: SweepSettings, trial: Trial, started: float) -> dict[str, Any]:
    """A ledger entry without its outcome."""
    versions = f"python {platform.python_version()}, torch {torch.__version__}, ray {ray.__version__}"
    return {
        "kind": "trial",
        "sweep": settings.name,
        "trial": trial.trial,
        "name": trial.name,
        "preset": settings.preset,
        "parameters": trial.parameters,
        "config": to_plain(trial.config),
        "tags": {"versions": versions, "device": platform.processor() or platform.machine()},
        "started": started,
        "ended": time.time(),
        "key": trial.trial,
    }


def outcome_of(results: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Status, metrics, curves and files of a finished trial."""
    packed = results["pack"]
    metrics = {
        "artifact_bytes": packed["artifact_bytes"],
        "model_bytes": packed["model_bytes"],
        "code_bytes": packed["code_bytes"],
        "overflow_bytes": packed["over_bytes"],
        "train_seconds": results["train"]["seconds"],
        "pack_seconds": packed["seconds"],
    }
    for rung in results["ladder"]:
        metrics |= {f"bpb_{rung['name']}": rung["bpb"], f"nats_{rung['name']}": rung["nats_per_token"]}
        metrics[f"{rung['name']}_seconds"] = rung["seconds"]
    if results["ladder"]:
        metrics["bpb"] = results["ladder"][-1]["bpb"]
    curves = {name: points for name, points in read_json(folder / "curves.json").items() if name != "seconds"}
    return {
        "status": DONE if packed["fits"] else INFEASIBLE,
        "cause": None if packed["fits"] else f"over the cap by {packed['over_bytes']:,} bytes",
        "metrics": metrics,
        "curves": curves,
        "files": {"artifact": str(folder / "artifact.golf"), "config": str(folder / "config.json")},
    }


class Recorder(tune.Callback):  # type: ignore[misc]
    """Writes each trial's end to the ledger and tells the caller."""

    def __init__(self, settings: SweepSettings, trials: Sequence[Trial], storage: Storage, tell: Callable[..., None]):
        self.settings, self.storage, self.tell = settings, storage, tell
        self.trials = {trial.trial: trial for trial in trials}
        self.ledger, self.started = Ledger(storage.ledger), {trial.trial: time.time() for trial in trials}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note the time."""
        self.started[trial.config["trial"]] = time.time()
        self.tell("started", self.trials[trial.config["trial"]], None)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a finished trial."""
        mine = self.trials[trial.config["trial"]]
        folder = self.storage.trial(self.settings.name, mine.trial)
        self._record(mine, outcome_of(read_json(folder / "results.json"), folder))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a failed trial with its cause."""
        mine = self.trials[trial.config["trial"]]
        self._record(mine, {"status": FAILED, "cause": cause_of(trial), "metrics": {}, "curves": {}, "files": {}})

    def _record(self, trial: Trial, outcome: dict[str, Any]) -> None:
        entry = trial_entry(self.settings, trial, self.started[trial.trial]) | outcome
        self.ledger.append(entry)
        self.tell(entry["status"], trial, entry)


def cause_of(trial: Any) -> str:
    """One line: the last line of the trial's error that says something."""
    path = Path(str(trial.error_file))
    text = path.read_text() if path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "its process was killed"


def run_sweep(
    settings: SweepSettings, trials: Sequence[Trial], storage: Storage, tell: Callable[..., None]
) -> list[dict[str, Any]]:
    """Run the trials that the ledger does not hold yet; Ray must be up.

    Returns: the ledger's entries of all the sweep's trials.
    """
    known = {entry["trial"] for entry in entries_of(settings.name, storage) if entry["status"] != FAILED}
    waiting = [trial for trial in trials if trial.trial not in known]
    specs: dict[str, dict[str, Any]] = {}
    for trial in waiting:
        folder = storage.trial(settings.name, trial.trial)
        write_json(folder / "config.json", to_plain(trial.config))
        plain = to_plain(trial.config)
        specs[trial.trial] = {"trial": trial.trial, "config": plain, "data": str(settings.data), "folder": str(folder)}

    def trainable(chosen: dict[str, Any]) -> None:
        spec = specs[chosen["trial"]]
        results = run_trial(spec, settings.workers, storage.ray(settings.name) / "train", settings.max_failures)
        write_json(Path(spec["folder"]) / "results.json", results)

    if waiting:
        tune.Tuner(
            tune.with_resources(trainable, {"CPU": 0, TRIAL_SLOT: 1}),
            param_space={"trial": tune.grid_search([trial.trial for trial in waiting])},
            tune_config=tune.TuneConfig(max_concurrent_trials=settings.concurrent),
            run_config=tune.RunConfig(
                name=f"tune-{int(time.time())}",
                storage_path=str(storage.ray(settings.name)),
                verbose=0,
                callbacks=[Recorder(settings, waiting, storage, tell)],
            ),
        ).fit()
    ours = {trial.trial for trial in trials}
    return [entry for entry in entries_of(settings.name, storage) if entry["trial"] in ours]


def entries_of(sweep: str, storage: Storage) -> list[dict[str, Any]]:
    """The last ledger entry of each trial of a sweep."""
    last = {entry["trial"]: entry for entry in Ledger(storage.ledger).find(kind="trial", sweep=sweep)}
    return list(last.values())
