"""The training loop: runs the rows of a plan on a state.

It consumes numbers and knows no schedule. Gradients are summed over passes and ranks in one buffer
together with the loss; a loss or gradient that is not finite stops every rank at that step, before the
update. Printing, saving and validating is the caller's, in `after_step`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golf.config.config import MICRO_BATCHES
from golf.config.schedule import Row
from golf.runtime.errors import Diverged, OutOfMemory
from golf.runtime.process_group import ProcessGroup
from golf.train.oom import is_out_of_memory, what_fits
from golf.train.train_state import TrainState

PreemptionCheck = Callable[[], bool]
"""Asked on every rank at every step or chunk: whether this process is to end soon."""


def never() -> bool:
    """Returns the preemption check of a process that nobody ends."""
    return False


class Preempted(Exception):
    """The work was preempted and its state is saved; the message says where."""


@dataclass(frozen=True)
class Step:
    """One finished optimiser step."""

    step: int
    """Number of the step, 0-based."""
    loss_nats: float
    """Mean cross-entropy of the step's tokens before the update."""
    gradient_norm: float
    """Global norm before clipping."""
    preempted: bool = False
    """Whether any rank is to end, by the time of this step."""


Batches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(step, pass) -> ids and targets of this rank, int64 (sequences, length) on any device."""


def train(
    state: TrainState,
    plan: Sequence[Row],
    batches: Batches,
    gradient_clip: float,
    group: ProcessGroup,
    after_step: Callable[[Step], None],
    forward: nn.Module | None = None,
    passes: int = MICRO_BATCHES,
    preemption: PreemptionCheck = never,
    say_what_fits: bool = True,
) -> None:
    """Runs the rows of `plan` from `state.step` on.

    Args: gradient_clip: largest global gradient norm; forward: the compiled model where there is one;
        passes: of a step over all ranks; preemption: asked once a step, on every rank.
    Raises: Diverged naming the step, on all ranks alike; weights and optimisers are then those of the step before.
        OutOfMemory on a rank whose slice does not fit.
    """
    model = state.model if forward is None else forward
    per_rank = passes // group.world_size
    upcoming = on_device(batches(state.step, 0), group.device) if state.step < len(plan) else None
    for step in range(state.step, len(plan)):
        row = plan[step]
        state.clear_gradients(group)
        for number in range(per_rank):
            assert upcoming is not None
            loss = add_gradients(model, upcoming[0], upcoming[1], row, passes, say_what_fits)
            state.reduced[-1] += loss / passes
            # Read ahead while the device computes: the first wait for it is in `clip_gradients`.
            next_step, next_pass = step + (number + 1) // per_rank, (number + 1) % per_rank
            upcoming = on_device(batches(next_step, next_pass), group.device) if next_step < len(plan) else None
        state.preempted.fill_(float(preemption()))
        group.sum(state.summed)
        loss_nats, norm, preempted = clip_gradients(state, gradient_clip)
        if not (math.isfinite(loss_nats) and math.isfinite(norm)):
            raise Diverged(f"step {step}: loss {loss_nats}, gradient norm {norm}; lower the learning rates")
        update(state, row)
        after_step(Step(step, loss_nats, norm, preempted))


def on_device(batch: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the ids on the device, copied there without waiting."""
    x, y = (ids.pin_memory() if device.type == "cuda" else ids for ids in batch)
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def add_gradients(
    model: nn.Module, x_BT: Tensor, y_BT: Tensor, row: Row, slices: int, say_what_fits: bool = True
) -> Tensor:
    """Adds the gradients of the mean loss over a slice, one of `slices` of a step, to those of the parameters.

    Returns: that loss.
    Raises: OutOfMemory; the gradients are then invalid. Unless `say_what_fits`: torch's own error.
    """

    def run(sequences: int) -> Tensor:
        x, y = x_BT[:sequences], y_BT[:sequences]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
            loss = model(x, y, qat=row.qat, looped=row.looped)
        (loss / slices).backward()
        return loss.detach()

    sequences, length = x_BT.shape
    if not say_what_fits:
        return run(sequences)
    try:
        return run(sequences)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Not in the handler: the error's traceback would keep the activations alive.
    raise OutOfMemory(what_fits(run, sequences, length, slices))


def clip_gradients(state: TrainState, largest: float) -> tuple[float, float, bool]:
    """Scales the gradients to a global norm of at most `largest`; the only wait for the device in a step.

    Returns: the step's loss, the norm before, and whether any rank is to end; values that are not finite are returned
        as they are.
    """
    # Tensor by tensor: one float32 norm over all 27 M entries at once is off by 5e-6 on CPUs.
    norm = torch.stack(torch._foreach_norm(state.gradients)).norm()
    state.reduced[:-1].mul_((largest / (norm + 1e-6)).clamp(max=1.0))
    loss_nats, norm_value, preempted = torch.stack([state.reduced[-1], norm, state.preempted]).tolist()
    return loss_nats, norm_value, preempted > 0


@torch.no_grad()
def update(state: TrainState, row: Row) -> None:
    """Applies the gradients: AdamW, Muon, then the average of the weights."""
    for settings in state.adamw.param_groups:
        settings["lr"] = settings["peak_lr"] * row.lr_scale
    state.adamw.step()
    state.muon.step(row.lr_scale, row.muon_momentum, row.decay_scale)
    if row.average_weight > 0:
        torch._foreach_lerp_(list(state.average.values()), list(state.parameters.values()), row.average_weight)
    state.step += 1
