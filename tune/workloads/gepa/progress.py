"""How far a stage of a trial is on the disk, so that what an attempt brought can be told.

A stage and a trial's arguments enter, steps, chunks and results leave. Only what is saved counts: what ran beyond it is
lost with the processes. Writes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from golf.runtime.results import BEGUN, SCREEN, STATE, TENSORS
from golf.runtime.tensors import read_plain
from tune.workloads.gepa.runner import EVALUATE, TRAIN

Progress = tuple[int, ...]
"""How far a stage is on the disk, by what is compared first: results that are there, then steps or chunks."""


def progress(stage: str, spec: Mapping[str, Any]) -> Progress:
    """How far a stage is on the disk: results that are there, then steps or chunks of the next one."""
    waiting = unfinished(stage, spec)
    return len(spec["rungs"] if stage == EVALUATE else [TRAIN]) - len(waiting), *list(waiting.values())[:1]


def unfinished(stage: str, spec: Mapping[str, Any]) -> dict[str, int]:
    """The results that a stage has still to give, by name, with the steps or chunks that are saved of each."""
    folder = Path(spec["folder"])
    if stage == TRAIN:
        return {} if (folder / "train.json").exists() else {TRAIN: saved_steps(spec)}
    suffix = "" if spec.get("first_chunks") is None else SCREEN
    names = [rung + suffix for rung in spec["rungs"]]
    return {name: saved_chunks(folder, name) for name in names if not (folder / f"{name}.json").exists()}


def saved_chunks(folder: Path, name: str) -> int:
    """The chunk that an evaluation goes on from."""
    rung = name.removesuffix(SCREEN)
    files = [folder / f"{rung}{part}{TENSORS}" for part in ((SCREEN,) if name != rung else (BEGUN, SCREEN))]
    return max((len(read_plain(file)["chunks"]) for file in files if file.exists()), default=0)


def saved_steps(spec: Mapping[str, Any]) -> int:
    """The step that a training goes on from."""
    for place in (spec["folder"], spec.get("start")):
        if place is not None and (Path(place) / STATE).exists():
            return int(read_plain(Path(place) / STATE)["step"])
    return 0
