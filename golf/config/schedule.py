"""The schedule as a table: one row of numbers per optimiser step.

The training loop consumes rows and knows no schedule, so two runs share a trained prefix exactly when the rows that it
consumed are equal.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from golf.config.config import ScheduleConfig


@dataclass(frozen=True)
class Row:
    """What one optimiser step consumes."""

    lr_scale: float
    """Factor on every learning rate: see `lr_scale`."""
    muon_momentum: float
    """Muon's momentum at this step."""
    average_weight: float
    """Share of the new weights in the average after this step: 0 leaves it, 1 copies the weights."""
    qat: bool
    """Whether the forward pass fake-quantises the linear layers."""
    looped: bool = True
    """Whether the model's loop is on; it means nothing for a model without one."""
    decay_scale: float = 1.0
    """Factor on Muon's weight decay."""


def make_plan(schedule: ScheduleConfig) -> tuple[Row, ...]:
    """Returns the rows of all `schedule.steps` steps."""
    scales = [lr_scale(schedule, step) for step in range(schedule.steps)]
    threshold = schedule.qat_threshold
    first_qat = next((s for s, scale in enumerate(scales) if threshold is not None and scale < threshold), None)
    return tuple(
        Row(
            scale,
            _momentum(schedule, step),
            _average_weight(schedule, step),
            first_qat is not None and step >= first_qat,
            schedule.loop_start is None or step / schedule.steps >= schedule.loop_start,
            _decay_scale(schedule, step),
        )
        for step, scale in enumerate(scales)
    )


def rows_digest(rows: Sequence[Row]) -> str:
    """Returns the SHA-256 of every number in `rows`: equal rows make equal states, whatever the schedules."""
    packed = hashlib.sha256()
    for row in rows:
        numbers = (row.lr_scale, row.muon_momentum, row.average_weight, row.qat, row.looped)
        packed.update(struct.pack("<ddd??", *numbers))
        if row.decay_scale != 1.0:
            packed.update(struct.pack("<cd", b"d", row.decay_scale))
    return packed.hexdigest()


def lr_scale(schedule: ScheduleConfig, step: int) -> float:
    """Returns the LR scale of a step: 1 until the warmdown, then down to 0 at `steps` by the warmdown's shape."""
    return max(_falling(schedule, step), schedule.least_lr_scale)


def _falling(schedule: ScheduleConfig, step: int) -> float:
    if schedule.warmdown_fraction is not None:
        share, fraction = step / schedule.steps, schedule.warmdown_fraction
        if share < 1.0 - fraction:
            return 1.0
        left = (1.0 - share) / fraction
        return left if schedule.warmdown_shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
    if step < schedule.warmdown_start:
        return 1.0
    length = schedule.steps - schedule.warmdown_start
    if schedule.warmdown_shape == "linear":
        return (schedule.steps - step) / length
    return 0.5 * (1.0 + math.cos(math.pi * (step - schedule.warmdown_start) / length))


def _momentum(schedule: ScheduleConfig, step: int) -> float:
    share = min(step / schedule.momentum_steps, 1.0)
    return (1 - share) * schedule.momentum_start + share * schedule.momentum_end


def _decay_scale(schedule: ScheduleConfig, step: int) -> float:
    start = schedule.decay_taper_start
    if start is None or step / schedule.steps < start:
        return 1.0
    return 1.0 + (schedule.decay_taper_end - 1.0) * (step / schedule.steps - start) / (1.0 - start)


def _average_weight(schedule: ScheduleConfig, step: int) -> float:
    """Returns the weight of a step in the average.

    EMA: 1 - decay at every step. SWA: 1/k at the k-th snapshot, which makes their plain mean.
    """
    if schedule.averaging == "ema":
        return 1.0 - schedule.ema_decay
    if schedule.averaging == "none":
        return 1.0
    snapshots = swa_snapshots(schedule)
    return 1.0 / (snapshots.index(step) + 1) if step in snapshots else 0.0


def swa_snapshots(schedule: ScheduleConfig) -> range:
    """Returns the steps after which SWA takes a snapshot: every `swa_every`, ending with the last, in the last half."""
    last = schedule.steps - 1
    return range(
        last - (last - schedule.steps // 2) // schedule.swa_every * schedule.swa_every, last + 1, schedule.swa_every
    )


def fit_to_seconds(schedule: ScheduleConfig, train_seconds: float, step_seconds: float) -> ScheduleConfig:
    """Returns `schedule` with as many steps as the time allows, its warmdown as many steps long as before.

    A wall-clock budget becomes a number of steps beforehand: a run that the clock stops has no stable identity.

    Args: train_seconds: the budget; step_seconds: measured seconds of one step.
    Raises: ValueError when not one step fits.
    """
    if not (0 < step_seconds < math.inf and 0 < train_seconds < math.inf):
        raise ValueError(
            f"seconds must be above 0 and finite, got {train_seconds:g} of budget, {step_seconds:g} a step"
        )
    steps = int(train_seconds / step_seconds)
    if steps < 1:
        raise ValueError(f"no step of {step_seconds:.3f} s fits into {train_seconds:g} s; give more seconds")
    warmdown = min(max(schedule.steps - schedule.warmdown_start, 1), steps)
    return replace(schedule, steps=steps, warmdown_start=steps - warmdown)
