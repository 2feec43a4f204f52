"""How far a stage of a GEPA trial is on the disk, from the headers of its saved states."""

from pathlib import Path

from golf.runtime.results import BEGUN, STATE, TENSORS
from golf.runtime.tensors import read_plain
from tune.cache.stage_graph import StageName
from tune.workloads.base import StageProgress, StageRequest
from tune.workloads.gepa.stage_worker import EvaluateRequest, TrainRequest
from tune.workloads.gepa.stages import TRAIN


def progress(request: StageRequest) -> StageProgress:
    """Returns the results that are complete, and the steps or chunks that are saved of the others."""
    directory = request.spec.directory
    if isinstance(request, TrainRequest):
        if (directory / f"{TRAIN}.json").exists():
            return StageProgress(1, {})
        return StageProgress(0, {TRAIN: saved_steps(request)})
    assert isinstance(request, EvaluateRequest), request
    names = [StageName(rung, first_chunks=request.first_chunks is not None) for rung in request.rungs]
    pending = {str(name): saved_chunks(directory, name) for name in names if not (directory / f"{name}.json").exists()}
    return StageProgress(len(names) - len(pending), pending)


def saved_chunks(directory: Path, name: StageName) -> int:
    """Returns the number of chunks after which an evaluation continues."""
    screen = directory / f"{StageName(name.kind, first_chunks=True)}{TENSORS}"
    files = [screen] if name.first_chunks else [directory / f"{name}{BEGUN}{TENSORS}", screen]
    return max((len(read_plain(file)["chunks"]) for file in files if file.exists()), default=0)


def saved_steps(request: TrainRequest) -> int:
    """Returns the number of steps after which a training continues."""
    for directory in (request.spec.directory, request.start):
        if directory is not None and (directory / STATE).exists():
            return int(read_plain(directory / STATE)["step"])
    return 0
