"""Stages on the ranks of a Ray Train worker group: the same code as under torchrun.

A trial's arguments enter as plain values, files in its folder leave. A worker that dies is started again with its
group and goes on from the last saved state; an error that would come again is written down instead of tried again.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from golf.config import RunConfig, from_plain
from golf.dist import Group, current_group
from golf.files import read_json, write_json
from golf.stages import Event, RunFolder
from golf.train.loop import Diverged
from tune.cluster import Workers
from tune.failures import explain, is_final
from tune.trial import STOPPED, Failed, Runner, run_stage

_REPORTS = 10
"""Reports of a short training; each is waited for by all ranks."""
_STEPS_BETWEEN, _CHUNKS_BETWEEN = 50, 16
"""Steps and chunks between the reports of a long stage."""


def reporter(config: RunConfig, report: Callable[[dict[str, Any]], None]) -> Event:
    """An event that reports {"curve", "step", "value"} now and then, at the same points on all ranks."""
    every = min(max(1, config.schedule.steps // _REPORTS), _STEPS_BETWEEN)

    def event(curve: str, step: int, value: float) -> None:
        due = (step + 1) % every == 0 if curve == "train_loss" else step % _CHUNKS_BETWEEN == 0
        if due or curve == "validation_bpb":
            report({"curve": curve, "step": step, "value": value})

    return event


def work(arguments: dict[str, Any]) -> None:
    """What Ray Train runs on every worker."""
    spec, group = arguments["spec"], current_group(ray.train.torch.get_device())
    stopped = RunFolder(Path(spec["folder"])).file(STOPPED)
    if stopped.exists():
        return
    try:
        event = reporter(from_plain(RunConfig, spec["config"]), ray.train.report)
        run_stage(arguments["stage"], spec, group, event)
    except Exception as error:
        if not is_final(error):
            raise
        write_json(stopped, {"cause": explain(error)})
        # Ranks that wait for this one only end when it dies; a divergence ends all alike.
        if not isinstance(error, Diverged) and group.world_size > 1:
            raise


def on_workers(workers: Workers, folder: Path, max_failures: int) -> Runner:
    """A runner on a worker group of its own for each stage.

    Args: folder: Ray Train's bookkeeping of this trial; max_failures: times that dead workers are started again.
    """

    def run(stage: str, spec: Mapping[str, Any]) -> None:
        # Ray Train would take an earlier end of the same name for this one's.
        shutil.rmtree(folder / stage, ignore_errors=True)
        stopped = RunFolder(Path(spec["folder"])).file(STOPPED)
        trainer = TorchTrainer(
            work,
            train_loop_config={"stage": stage, "spec": dict(spec)},
            torch_config=TorchConfig(backend="nccl" if workers.gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers.num_workers,
                use_gpu=workers.gpus > 0,
                resources_per_worker=workers.resources,
            ),
            run_config=ray.train.RunConfig(
                name=stage,
                storage_path=str(folder),
                failure_config=ray.train.FailureConfig(max_failures=max_failures, controller_failure_limit=3),
                callbacks=[TuneReportCallback()],
            ),
        )
        try:
            trainer.fit()
        finally:
            if stopped.exists():
                raise Failed(read_json(stopped)["cause"])

    return run


def in_this_process(report: Callable[[dict[str, Any]], None]) -> Runner:
    """A runner without a worker group, for stages that one CPU process is enough for: a start costs 12 to 20 s."""

    def run(stage: str, spec: Mapping[str, Any]) -> None:
        run_stage(stage, spec, Group(), reporter(from_plain(RunConfig, spec["config"]), report))

    return run
