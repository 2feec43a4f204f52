"""Training on the ranks of a Ray Train worker group: the same loop as under torchrun.

A trial's arguments enter as plain values, files in its folder leave; rank 0 writes them. Divergence comes back as
a value, because an exception in a worker would make Ray Train start the workers again.
"""

from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.train.torch import TorchConfig, TorchTrainer

from golf.config import RunConfig, from_plain
from golf.data.dataset import open_dataset
from golf.dist import current_group
from golf.files import write_json
from golf.stages import RunFolder, train_stage
from golf.train.loop import Diverged
from tune.cluster import Workers

OUTCOME = "outcome.json"


def train_worker(spec: dict[str, Any]) -> None:
    """One rank's training; what Ray Train runs on every worker."""
    group = current_group(ray.train.torch.get_device())
    config = from_plain(RunConfig, spec["config"])
    folder = RunFolder(Path(spec["folder"]))
    every = max(1, config.schedule.steps // 20)

    def event(curve: str, step: int, value: float) -> None:
        if curve == "train_loss" and (step + 1) % every == 0:
            ray.train.report({"step": step + 1, "train_loss": value})

    outcome = {"diverged": ""}
    try:
        train_stage(config, open_dataset(Path(spec["data"]), config.model.vocab_size), folder, group, event)
    except Diverged as error:
        outcome["diverged"] = str(error)
    if group.first:
        write_json(folder.file(OUTCOME), outcome)


def train_on_workers(spec: dict[str, Any], workers: Workers, name: str, storage: Path, max_failures: int) -> None:
    """Train a trial on a worker group; workers that die are started again and go on from the last state.

    Args: spec: "config", "data", "folder" as plain values.
    """
    TorchTrainer(
        train_worker,
        train_loop_config=spec,
        torch_config=TorchConfig(backend="nccl" if workers.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(max_failures=max_failures, controller_failure_limit=3),
        ),
    ).fit()
