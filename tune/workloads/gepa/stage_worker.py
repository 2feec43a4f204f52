"""The stages of a GEPA trial that a process group computes: what is asked for, one rank's work, how far it is."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from golf.compliance.points import check_to_plain
from golf.compliance.run import cheap_check
from golf.evaluate.chunk_checkpoint import saved_files
from golf.pipeline.evaluation import measure, rungs_of
from golf.pipeline.identity import rung_identity
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import STATE
from golf.runtime.tensors import read_plain
from golf.train.hooks import Hooks
from golf.train.run_log import LOG_FILE, LogFile, head_lines, rung_line
from tune.cache.stage_graph import StageName
from tune.workloads.base import RankContext, StageProgress, StageRequest
from tune.workloads.gepa.settings import GepaSettings
from tune.workloads.gepa.stages import CHECK_FILE, TRAIN
from tune.workloads.gepa.training_stop import TrainingStop

EVALUATE = "evaluate"
"""The stage that scores rungs."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest(StageRequest):
    """A training."""

    stage: str = TRAIN
    start: Path | None = None
    """Directory of the state to continue from; None: from the beginning."""
    keep: Mapping[int, Path] = field(default_factory=dict)
    """Steps -> directory in which the state after them is kept."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(StageRequest):
    """Rungs of the ladder, measured one after the other."""

    stage: str = EVALUATE
    distributed: bool = False  # the start of a worker group costs seconds
    rungs: tuple[str, ...]
    first_chunks: int | None = None
    """How many chunks of the stream are scored; None: all."""
    code_bytes: int
    """Size of the counted code."""


def run_stage(settings: GepaSettings, request: StageRequest, context: RankContext) -> None:
    """Computes a training or an evaluation on this rank; its results are in the trial's directory afterwards."""
    config, dataset = settings.open(request.spec.trial)
    directory = RunDirectory(request.spec.directory)
    run = StageContext(config=config, dataset=dataset, directory=directory, group=context.group)
    log = LogFile(directory.file(LOG_FILE), context.group, append=not isinstance(request, TrainRequest))
    hooks = Hooks(
        event=context.report, log=log, checkpoint_policy=request.spec.checkpoint_policy, preemption=context.preemption
    )
    if isinstance(request, TrainRequest):
        stop = TrainingStop(settings, request.spec, context)
        hooks = replace(hooks, event=stop.event, preemption=stop.preemption)
        for line in head_lines(config, dataset):
            log(line)
        train_stage(run, hooks, request.start, request.keep)
    elif isinstance(request, EvaluateRequest):
        for rung in request.rungs:
            result = measure(run, rung, hooks, first_chunks=request.first_chunks)
            if request.first_chunks is None:
                log(rung_line(result))
        if request.first_chunks is None and rungs_of(config)[-1] in request.rungs:
            check(run, request.code_bytes)
    else:
        raise TypeError(f"GEPA has no stage {request.stage}")


def check(run: StageContext, code_bytes: int) -> None:
    """Checks the rules' points in the cheap form, where the evaluation ran."""
    config, dataset, directory, group = run.config, run.dataset, run.directory, run.group
    path = directory.file(CHECK_FILE)
    identity = rung_identity(config, dataset, rungs_of(config)[-1])
    if group.first and not (path.exists() and read_json(path)["identity"] == identity):
        began = time.perf_counter()
        result = cheap_check(config, dataset, directory, ProcessGroup(device=group.device), code_bytes)
        seconds = time.perf_counter() - began
        write_json(path, {"identity": identity, "result": check_to_plain(result), "seconds": seconds})
    group.wait()


def progress(request: StageRequest) -> StageProgress:
    """Returns the results that are complete, and the steps or chunks that are saved of the others."""
    directory = request.spec.directory
    if isinstance(request, TrainRequest):
        if (directory / f"{TRAIN}.json").exists():
            return StageProgress(1, {})
        return StageProgress(0, {TRAIN: saved_steps(request)})
    assert isinstance(request, EvaluateRequest), request
    chunks = request.first_chunks
    names = [StageName(rung, chunks, first_chunks=chunks is not None) for rung in request.rungs]
    pending = {str(name): saved_chunks(directory, name) for name in names if not (directory / f"{name}.json").exists()}
    return StageProgress(len(names) - len(pending), pending)


def saved_chunks(directory: Path, name: StageName) -> int:
    """Returns the number of chunks after which an evaluation continues, from the headers of its saved states."""
    return max((len(read_plain(file)["chunks"]) for file in saved_files(directory, name.kind, name.steps)), default=0)


def saved_steps(request: TrainRequest) -> int:
    """Returns the number of steps after which a training continues."""
    for directory in (request.spec.directory, request.start):
        if directory is not None and (directory / STATE).exists():
            return int(read_plain(directory / STATE)["step"])
    return 0
