"""The training loop against gradients of the whole step at once, and a replay of its updates by formula."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from golf.config.config import ModelConfig, OptimizerConfig, ScheduleConfig, WeightDecayConfig
from golf.config.schedule import make_plan
from golf.model.gepa import GEPA, build_model
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup
from golf.train.loop import Step, clip_gradients, train
from golf.train.param_groups import group_lr, optimizer_group
from golf.train.train_state import TrainState

TINY = ModelConfig(
    vocab_size=40,
    num_layers=2,
    model_dim=16,
    num_heads=2,
    num_kv_heads=1,
    mlp_hidden=12,
    rope_dims=4,
    bigram_buckets=9,
    bigram_dim=4,
    xsa_layers=1,
    value_dim=4,
    value_layers=(1,),
)
SCHEDULE = ScheduleConfig(steps=5, warmdown_start=1, momentum_steps=4, ema_decay=0.6, qat_threshold=0.6, swa_every=1)


def batches(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
    """Three sequences that are a function of their place."""
    tokens = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(100 * step + micro_batch))
    return tokens[:, :-1], tokens[:, 1:]


def fresh(optimizer: OptimizerConfig | None = None) -> TrainState:
    """A state whose every parameter has a gradient."""
    model = build_model(TINY, 1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return TrainState(model, optimizer or OptimizerConfig(), ProcessGroup())


def snapshot(state: TrainState) -> list[Tensor]:
    """Everything that a step may change."""
    adamw = [value for one in state.adamw.state_dict()["state"].values() for value in one.values()]
    parts = [*state.live_weights().values(), *state.averaged_weights().values(), *state.muon.momenta, *adamw]
    return [part.clone() for part in parts]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    """Bit for bit."""
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def gradients_of_step(order: list[int], micro_batches: int = 8, qat: bool = False) -> tuple[list[Tensor], Step]:
    """Gradients before clipping of one step whose micro-batches come in `order`."""
    state, seen = fresh(), list[Step]()
    row = replace(make_plan(SCHEDULE)[0], qat=qat)
    train(state, [row], lambda _, m: batches(0, order[m]), 1e9, ProcessGroup(), seen.append, passes=micro_batches)
    return [gradient.clone() for gradient in state.gradients], seen[0]


@pytest.mark.parametrize("micro_batches", [1, 3, 8])
@pytest.mark.parametrize("qat", [False, True])
def test_micro_batches_add_up_to_the_step(micro_batches: int, qat: bool) -> None:
    """Catches a slice lost or counted twice, a mean of the wrong number, and QAT that does not reach the model."""
    ours, step = gradients_of_step(list(range(micro_batches)), micro_batches, qat)
    model = fresh().model.double()
    model.activation_dtype = torch.float64
    x, y = (torch.cat(parts) for parts in zip(*(batches(0, m) for m in range(micro_batches)), strict=True))
    loss = model(x, y, qat=qat)
    loss.backward()
    assert step.loss_nats == pytest.approx(loss.item(), abs=2e-6)
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None))
    assert step.gradient_norm == pytest.approx(norm, rel=1e-5)
    for gradient, parameter in zip(ours, model.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(gradient.double(), parameter.grad, rtol=1e-4, atol=1e-5 * norm)


@pytest.mark.parametrize("order", [[7, 6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5, 7], [3, 7, 1, 0, 6, 2, 5, 4]])
def test_the_order_of_micro_batches_is_only_rounding(order: list[int]) -> None:
    """Catches a batch that depends on the one before it, such as a buffer that is not summed but replaced."""
    ours, step = gradients_of_step(order)
    theirs, expected = gradients_of_step(list(range(8)))
    assert step.loss_nats == pytest.approx(expected.loss_nats, abs=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6 * expected.gradient_norm)


def test_nothing_is_left_of_the_step_before() -> None:
    """Catches a gradient buffer that is not cleared, but for the bigram scale, which adds up as in the record."""
    state, seen = fresh(), list[list[Tensor]]()
    rows = [replace(row, lr_scale=0.0, average_weight=0.0) for row in make_plan(SCHEDULE)[:2]]
    train(
        state, rows, lambda _, m: batches(0, m), 1e9, ProcessGroup(), lambda _: seen.append(snapshot_gradients(state))
    )
    for name, first, second in zip(state.parameters, *seen, strict=True):
        expected = 2 * first if name == "bigram.scale" else first
        torch.testing.assert_close(second, expected, rtol=0, atol=1e-7, msg=name)


def snapshot_gradients(state: TrainState) -> list[Tensor]:
    """The gradients as the last update saw them."""
    return [gradient.clone() for gradient in state.gradients]


@settings(max_examples=30)
@given(largest=st.floats(1e-3, 1e3), size=st.floats(1e-4, 1e4), seed=st.integers(0, 1000))
def test_clipping_bounds_the_norm_and_keeps_the_direction(largest: float, size: float, seed: int) -> None:
    """Catches a norm per tensor, a small gradient that is scaled up, and a clip of the loss in the same buffer."""
    state = TrainState(build_model(TINY, 1), OptimizerConfig(), ProcessGroup())
    state.reduced[:-1].normal_(generator=torch.Generator().manual_seed(seed)).mul_(size)
    state.reduced[-1] = 1234.5
    before = state.reduced[:-1].double()
    loss, norm, _ = clip_gradients(state, largest)
    assert loss == 1234.5
    assert state.reduced[-1].item() == 1234.5
    assert norm == pytest.approx(before.norm().item(), rel=1e-5)
    factor = min(1.0, largest / (before.norm().item() + 1e-6))
    torch.testing.assert_close(state.reduced[:-1].double(), before * factor, rtol=2e-5, atol=0)
    assert torch.cat([p.grad.flatten() for p in state.parameters.values() if p.grad is not None]).equal(
        state.reduced[:-1]
    )


class Spoiled(nn.Module):
    """The model, but one call's loss or gradient is not finite, or its loss is huge."""

    def __init__(self, model: GEPA, call: int, loss: float, gradient: float) -> None:
        super().__init__()
        self.model, self.left, self.loss, self.gradient = model, call, loss, gradient

    def forward(self, x: Tensor, y: Tensor, qat: bool = False, looped: bool = True) -> Tensor:
        """The loss, spoiled where its turn has come."""
        value = self.model(x, y, qat=qat, looped=looped)
        self.left -= 1
        if self.left == -1:
            value = value + self.loss
            value.register_hook(lambda upstream: upstream * self.gradient)
        return value


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
@pytest.mark.parametrize(
    ("loss", "gradient"),
    [(math.nan, 1.0), (math.inf, 1.0), (-math.inf, 1.0), (0.0, math.nan), (0.0, math.inf), (0.0, 3e38)],
)
def test_what_is_not_finite_stops_before_the_update(loss: float, gradient: float, micro_batch: int) -> None:
    """Catches NaN in the weights, momenta or average: a loss or a gradient alone that is not finite, in any slice."""
    state, seen = fresh(), list[Step]()
    plan = make_plan(SCHEDULE)
    train(state, plan[:1], batches, 0.3, ProcessGroup(), seen.append, passes=3)
    before = snapshot(state)
    spoiled = Spoiled(state.model, 3 + micro_batch, loss, gradient)
    train(state, plan[:2], batches, 0.3, ProcessGroup(), seen.append, forward=spoiled, passes=3)
    good = snapshot(state)
    assert not equal(before, good)
    with pytest.raises(Diverged, match="step 2"):
        train(state, plan, batches, 0.3, ProcessGroup(), seen.append, forward=spoiled, passes=3)
    assert equal(snapshot(state), good)
    assert state.step == 2
    assert [step.step for step in seen] == [0, 1]


def replay_adamw(start: Tensor, gradients: list[Tensor], lrs: list[float], config: OptimizerConfig) -> Tensor:
    """AdamW by its formula with decoupled weight decay, float64."""
    weight, m, v = start.double(), torch.zeros_like(start).double(), torch.zeros_like(start).double()
    for t, (gradient, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        g = gradient.double()
        m, v = config.beta1 * m + (1 - config.beta1) * g, config.beta2 * v + (1 - config.beta2) * g * g
        mean, spread = m / (1 - config.beta1**t), (v / (1 - config.beta2**t)).sqrt()
        weight = weight * (1 - lr * config.weight_decay.others) - lr * mean / (spread + config.epsilon)
    return weight


def test_adamw_updates_replayed_by_formula() -> None:
    """Catches a rate that ignores the plan, a decay at the wrong place, and updates from gradients before clipping."""
    config = OptimizerConfig(weight_decay=WeightDecayConfig.of_number(0.5), gradient_clip=0.3)
    state = fresh(config)
    start, seen = state.live_weights(), list[list[Tensor]]()
    plan = make_plan(SCHEDULE)
    train(state, plan, batches, 0.3, ProcessGroup(), lambda _: seen.append(snapshot_gradients(state)))
    for step in seen:
        assert math.sqrt(sum(g.double().square().sum().item() for g in step)) <= 0.3 * (1 + 1e-5)
    for index, (name, weight) in enumerate(state.live_weights().items()):
        group = optimizer_group(name, state.model.num_encoder)
        if group.startswith("adamw_"):
            lrs = [group_lr(group, config) * row.lr_scale for row in plan]
            expected = replay_adamw(start[name], [step[index] for step in seen], lrs, config)
            torch.testing.assert_close(weight.double(), expected, rtol=0, atol=2e-6, msg=name)


@pytest.mark.parametrize("averaging", ["ema", "swa", "none"])
def test_the_average_is_that_of_the_weights_after_each_step(averaging: Any) -> None:
    """Catches an average that lags a step, skips a tensor, or forgets where it began."""
    state, seen = fresh(), list[dict[str, Tensor]]()
    start = state.live_weights()
    plan = make_plan(replace(SCHEDULE, averaging=averaging))
    train(state, plan, batches, 0.3, ProcessGroup(), lambda _: seen.append(state.live_weights()))
    for name, average in state.averaged_weights().items():
        weights = [weights[name].double() for weights in seen]
        if averaging == "ema":
            expected = start[name].double()
            for weight in weights:
                expected = 0.6 * expected + 0.4 * weight
        elif averaging == "swa":
            expected = torch.stack(weights[2:]).mean(dim=0)
        else:
            expected = weights[-1]
        torch.testing.assert_close(average.double(), expected, rtol=0, atol=1e-6, msg=name)


def test_the_callback_sees_each_step_once_after_its_update() -> None:
    """Catches a report before the update, which a saved state would then miss, and a loss that is not the step's."""
    state, seen = fresh(), list[tuple[int, int, float]]()
    losses, plan = [], make_plan(SCHEDULE)

    def note(step: Step) -> None:
        seen.append((step.step, state.step, step.loss_nats))

    for step in range(5):
        with torch.no_grad():
            parts = [state.model(*batches(step, m), qat=plan[step].qat).item() for m in range(2)]
        losses.append(sum(parts) / 2)
        train(state, plan[: step + 1], batches, 0.3, ProcessGroup(), note, passes=2)
    assert [entry[:2] for entry in seen] == [(step, step + 1) for step in range(5)]
    assert [entry[2] for entry in seen] == pytest.approx(losses, abs=2e-6)
    train(state, plan, batches, 0.3, ProcessGroup(), note)
    assert len(seen) == 5


def test_batches_are_read_ahead_once_each() -> None:
    """Fault: a batch read twice, out of order, or beyond the last step: data that nobody trains on."""
    read: list[tuple[int, int]] = []
    trained_at: list[int] = []

    def batch(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        read.append((step, micro_batch))
        return batches(step, micro_batch)

    state, plan = fresh(), make_plan(SCHEDULE)
    train(state, plan[:2], batch, 0.3, ProcessGroup(), lambda _: trained_at.append(len(read)), passes=3)
    assert trained_at == [4, 6]
    train(state, plan[:4], batch, 0.3, ProcessGroup(), lambda _: None, passes=3)
    assert read == [(step, micro_batch) for step in range(4) for micro_batch in range(3)]
