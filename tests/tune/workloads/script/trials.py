"""Trials of the scripts of the tests, run in this process without Ray."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golf.runtime.process_group import ProcessGroup
from golf.scripts.inputs import read_inputs
from golf.train.loop import never
from tune.cache.lease import LeaseConfig
from tune.records.entries import Outcome, Series, WorldShape
from tune.search.early_stopping import Halving
from tune.search.space import Point
from tune.workloads.base import CacheConfig, RankContext, StageRequest, TrialSpec
from tune.workloads.script.files import find_files
from tune.workloads.script.process import Limits
from tune.workloads.script.settings import ARG, CONSTANT, ENV, PLACES, ScriptSettings
from tune.workloads.script.workload import ScriptWorkload

SCRIPTS = Path(__file__).with_name("scripts")
WORLD = WorldShape(ranks=1, cpus=1, device="cpu", threads=1)


def settings_of(script: Path, **changes: Any) -> ScriptSettings:
    """The settings of a script, its environment variables, flags and constants all fields of the search."""
    inputs = read_inputs(script.read_bytes())
    places = {name: (ENV, name) for name in inputs.variables}
    places |= {f"{ARG}.{name}": (ARG, name) for name in inputs.flags}
    places |= {f"{CONSTANT}.{name}": (CONSTANT, name) for name in inputs.constants}
    seed = "SEED" if "SEED" in places else None
    given: dict[str, Any] = {
        "files": find_files(script),
        "fixed": {place: {} for place in PLACES},
        "switches": tuple(name for name, flag in inputs.flags.items() if flag.kind == "bool"),
        "places": places,
        "seed_field": seed,
        "default_seed": 1337 if seed else None,
        "nproc": 1,
        "launcher": "python",
        "limits": Limits(no_progress_seconds=30.0, grace_seconds=1.0),
    }
    return ScriptSettings(**{**given, **changes})


def copied(name: str, folder: Path) -> Path:
    """A script of the tests in a folder of its own."""
    folder.mkdir(parents=True)
    return Path(shutil.copy(SCRIPTS / name, folder / name))


def workload_of(
    settings: ScriptSettings, halving: Halving | None = None, data: str = "none", world: WorldShape = WORLD
) -> ScriptWorkload:
    """The workload of a script."""
    return ScriptWorkload(settings, Path(settings.files.script).stem, world, data, "made up", halving)


def run(
    workload: ScriptWorkload,
    point: Point,
    directory: Path,
    store: Path | None = None,
    preemption: Callable[[], bool] = never,
) -> tuple[Outcome, Series]:
    """Runs a trial in this process; its results are shared where there is a store."""

    def execute(request: StageRequest) -> None:
        workload.run_stage(request, RankContext(ProcessGroup(), lambda curve, step, value: None, preemption))

    leases = LeaseConfig(lease_seconds=3.0, poll_seconds=0.1)
    cache = None if store is None else CacheConfig(store=str(store), lease_config=leases)
    directory.mkdir(parents=True, exist_ok=True)
    return workload.run_trial(TrialSpec(trial=workload.trial(point), directory=directory, cache=cache), execute)
