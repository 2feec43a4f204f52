"""A wall-clock budget as a number of steps, which is fixed before the run.

The clock never stops a run: steps are measured on a model of their own, which is thrown away.
"""

import time
from collections import Counter
from dataclasses import replace

import torch

from golf.config.config import RunConfig
from golf.config.schedule import Row, fit_to_seconds, make_plan
from golf.data.dataset import Dataset
from golf.model.compile import activation_dtype
from golf.model.gepa import build_model
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Step, train
from golf.train.microbatching import ready_to_train, training_passes
from golf.train.train_state import TrainState

MEASURED_STEPS = 3
"""Steps whose time counts, after one for warm-up."""


def plan_for_seconds(
    config: RunConfig, dataset: Dataset, group: ProcessGroup, seconds: float
) -> tuple[RunConfig, float]:
    """Returns `config` with as many steps as train in `seconds`, and the measured seconds of one step.

    Compiling, validating and saving are not part of the budget. The result is the same on every rank.
    Raises: ValueError when not one step fits, or without training shards.
    """
    step_seconds = measure_step(config, dataset, group)
    return replace(config, schedule=fit_to_seconds(config.schedule, seconds, step_seconds)), step_seconds


def measure_step(config: RunConfig, dataset: Dataset, group: ProcessGroup) -> float:
    """Returns the mean seconds of one training step on this machine: QAT and the loop in the plan's shares of steps."""
    stream = dataset.train
    if stream is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); it can only be scored")
    plan = make_plan(config.schedule)
    counts = Counter((row.qat, row.looped) for row in plan)
    state = TrainState(build_model(config.model, config.seed, activation_dtype(group.device)), config.optimizer, group)
    forward = ready_to_train(state.model, config, group)

    batches, passes = training_passes(config.batch, stream, group)
    clip = config.optimizer.gradient_clip

    def mean_seconds(row: Row) -> float:
        ends: list[float] = []

        def after_step(step: Step) -> None:
            ends.append(time.perf_counter())

        state.step = 0
        train(state, [row] * (1 + MEASURED_STEPS), batches, clip, group, after_step, forward, passes)
        return (ends[-1] - ends[0]) / MEASURED_STEPS

    seconds = {kind: mean_seconds(replace(plan[0], qat=kind[0], looped=kind[1])) for kind in sorted(counts)}
    step_seconds = sum(seconds[kind] * count / len(plan) for kind, count in counts.items()) if group.first else 0.0
    return float(group.sum(torch.tensor(step_seconds, dtype=torch.float64, device=group.device)))
