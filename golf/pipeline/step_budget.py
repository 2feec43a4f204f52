"""A wall-clock budget as a number of steps, which is fixed before the run.

The clock never stops a run: steps are measured on a model of their own, which is thrown away.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from golf.config.config import RunConfig, ScheduleConfig
from golf.config.schedule import Row, fit_to_seconds, make_plan
from golf.data.dataset import Dataset
from golf.model.compile import activation_dtype
from golf.model.gepa import build_model
from golf.runtime.eager_optimizers import use_eager_optimizers
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Step, train
from golf.train.microbatching import ready_to_train, training_passes
from golf.train.train_state import TrainState

MEASURED_STEPS = 3
"""Steps whose time counts, after one for warm-up."""


@dataclass(frozen=True, kw_only=True)
class StepSeconds:
    """What a kind of training step takes."""

    qat: bool
    """Whether the forward pass fake-quantises the linear layers."""
    looped: bool
    """Whether the model's loop is on."""
    seconds: float
    """Mean seconds of one."""


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
    return mean_step_seconds(config.schedule, measure_steps(config, dataset, group, MEASURED_STEPS))


def mean_step_seconds(schedule: ScheduleConfig, measured: Sequence[StepSeconds]) -> float:
    """Returns the mean seconds of a step of a schedule; a kind of step that was not measured counts as the slowest."""
    known = {(step.qat, step.looped): step.seconds for step in measured}
    counts = Counter((row.qat, row.looped) for row in make_plan(schedule))
    slowest = max(known.values())
    return sum(known.get(kind, slowest) * count for kind, count in counts.items()) / schedule.steps


def measure_steps(config: RunConfig, dataset: Dataset, group: ProcessGroup, num_steps: int) -> tuple[StepSeconds, ...]:
    """Returns the mean seconds of each kind of training step of the plan, over `num_steps` after one for warm-up.

    They are the first rank's, on every rank.
    Raises: ValueError without training shards; OutOfMemory when a slice of a step does not fit.
    """
    stream = dataset.train
    if stream is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); it can only be scored")
    plan = make_plan(config.schedule)
    use_eager_optimizers()
    state = TrainState(build_model(config.model, config.seed, activation_dtype(group.device)), config.optimizer, group)
    forward = ready_to_train(state.model, config, group)
    batches, passes = training_passes(config.batch, stream, group)
    clip = config.optimizer.gradient_clip

    def mean_seconds(row: Row) -> float:
        ends: list[float] = []

        def after_step(step: Step) -> None:
            ends.append(time.perf_counter())

        state.step = 0
        train(state, [row] * (1 + num_steps), batches, clip, group, after_step, forward, passes)
        return first_rank_value((ends[-1] - ends[0]) / num_steps, group)

    kinds = sorted({(row.qat, row.looped) for row in plan})
    return tuple(
        StepSeconds(qat=qat, looped=looped, seconds=mean_seconds(replace(plan[0], qat=qat, looped=looped)))
        for qat, looped in kinds
    )


def first_rank_value(value: float, group: ProcessGroup) -> float:
    """Returns the first rank's value on every rank."""
    own = value if group.first else 0.0
    return float(group.sum(torch.tensor(own, dtype=torch.float64, device=group.device)))
