"""The stages of a GEPA trial that a process group computes: what is asked for, and the work of one rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from golf.compliance.points import check_to_plain
from golf.compliance.run import cheap_check
from golf.config.config import RunConfig
from golf.data.dataset import Dataset
from golf.pipeline.stages import RunFolder, measure, rung_identity, rungs_of, train_stage
from golf.runtime.files import write_json
from golf.runtime.process_group import ProcessGroup
from golf.train.run_log import LOG_FILE, LogFile, head_lines, rung_line
from tune.workloads.base import RankContext, StageRequest
from tune.workloads.gepa.settings import GepaSettings
from tune.workloads.gepa.stages import CHECK_FILE, TRAIN

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
    distributed: bool = False  # the start of a worker group costs 12 to 20 s
    rungs: tuple[str, ...]
    first_chunks: int | None = None
    """How many chunks of the stream are scored; None: all."""
    code_bytes: int
    """Size of the counted code."""


def run_stage(settings: GepaSettings, request: StageRequest, context: RankContext) -> None:
    """Computes a training or an evaluation on this rank; its results are in the trial's directory afterwards."""
    config, dataset = settings.open(request.spec.trial)
    directory, group = RunFolder(request.spec.directory), context.group
    policy = request.spec.checkpoint_policy
    log = LogFile(directory.file(LOG_FILE), group, begin=isinstance(request, TrainRequest))
    if isinstance(request, TrainRequest):
        for line in head_lines(config, dataset):
            log(line)
        train_stage(
            config,
            dataset,
            directory,
            group,
            context.report,
            policy,
            request.start,
            request.keep,
            context.preemption,
            log,
        )
    elif isinstance(request, EvaluateRequest):
        for rung in request.rungs:
            result = measure(
                config,
                dataset,
                directory,
                group,
                context.report,
                rung,
                request.first_chunks,
                policy,
                context.preemption,
            )
            if request.first_chunks is None:
                log(rung_line(result))
        if request.first_chunks is None and rungs_of(config)[-1] in request.rungs:
            check(config, dataset, directory, group, request.code_bytes)
    else:
        raise TypeError(f"GEPA has no stage {request.stage}")


def check(config: RunConfig, dataset: Dataset, directory: RunFolder, group: ProcessGroup, code_bytes: int) -> None:
    """Checks the rules' points in the cheap form, where the evaluation ran."""
    path = directory.file(CHECK_FILE)
    if group.first and not path.exists():
        result = cheap_check(config, dataset, directory, ProcessGroup(device=group.device), code_bytes)
        identity = rung_identity(config, dataset, rungs_of(config)[-1])
        write_json(path, {"identity": identity, "result": check_to_plain(result)})
    group.wait()
