"""Muon against one matrix at a time, and against float64, where Newton-Schulz acts on the singular values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from golf.config.config import OptimizerConfig, WeightDecayConfig
from golf.runtime.process_group import ProcessGroup
from golf.train.muon import POLAR_EXPRESS, Muon, orthogonalise

SHAPES = [(16, 16), (24, 8), (8, 24), (16, 16), (5, 1), (1, 6), (24, 8), (64, 16)]
LRS = [0.025, 0.05, 0.025, 0.05, 0.01, 0.02, 0.1, 0.03]


ROUNDING = 0.15
"""What 5 iterations of about 4 roundings to 8 bits each may change, relative to the norm; 0.02 to 0.08 was measured."""


def draw(seed: int, rows: int, columns: int) -> Tensor:
    """A random matrix, float32."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def by_singular_values(gradient: Tensor, steps: int) -> Tensor:
    """U p(...p(s)) V^T with p(s) = a s + b s^3 + c s^5: what the iteration is in exact arithmetic. float64."""
    u, s, vh = torch.linalg.svd(gradient.double(), full_matrices=False)
    s = s / (s.square().sum().sqrt() + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


def one_by_one(gradient: Tensor) -> Tensor:
    """The same in bfloat16, as the recipe writes it for one matrix that is not tall."""
    if gradient.shape[0] > gradient.shape[1]:
        return one_by_one(gradient.T).T
    x = gradient.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.double()


def conditioned(seed: int, rows: int, columns: int) -> Tensor:
    """A matrix with singular values from 0.5 to 1, for which bfloat16 errors do not grow in the iteration."""
    u, s, vh = torch.linalg.svd(draw(seed, rows, columns), full_matrices=False)
    return u @ torch.diag(torch.linspace(1, 0.5, len(s))) @ vh


def relative(ours: Tensor, exact: Tensor) -> float:
    """Difference relative to the norm."""
    return ((ours.double() - exact).norm() / exact.norm()).item()


def settings_of(weight_decay: float, row_norm: bool = False) -> OptimizerConfig:
    """Muon's settings."""
    return OptimizerConfig(weight_decay=WeightDecayConfig.of_number(weight_decay), muon_row_norm=row_norm)


class OneMatrix:
    """The recipe for one matrix: momentum, Nesterov, orthogonalise, weight decay, step. float64."""

    def __init__(self, weight: Tensor, lr: float, weight_decay: float, row_norm: bool = False) -> None:
        self.weight, self.lr, self.weight_decay, self.row_norm = weight.double(), lr, weight_decay, row_norm
        self.momentum = torch.zeros_like(self.weight)

    def step(self, gradient: Tensor, lr_scale: float, mu: float) -> None:
        """One update."""
        self.momentum = mu * self.momentum + gradient.double()
        ahead = gradient.double() + mu * self.momentum
        rows, columns = gradient.shape
        if self.row_norm:
            ahead = torch.stack([row / max(math.sqrt(float((row * row).sum())), 1e-7) for row in ahead])
        update = one_by_one(ahead.float()) * math.sqrt(max(1.0, rows / columns))
        lr = self.lr * lr_scale
        self.weight = self.weight * (1 - lr * self.weight_decay) - lr * update


@pytest.mark.parametrize("row_norm", [False, True])
def test_updates_matrix_by_matrix(row_norm: bool) -> None:
    """Catches a rate or momentum of another matrix, Nesterov or the decay left out, the factor of tall ones, rows
    normalised after the orthogonalisation or not at all."""
    weights = [draw(i, *shape) for i, shape in enumerate(SHAPES)]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    muon = Muon(parameters, LRS, settings_of(0.4, row_norm), ProcessGroup())
    references = [OneMatrix(weight, lr, 0.4, row_norm) for weight, lr in zip(weights, LRS, strict=True)]
    moved = 0.0
    for step, (lr_scale, mu) in enumerate([(1.0, 0.0), (1.0, 0.9), (0.5, 0.95), (0.1, 0.99)]):
        for index, parameter in enumerate(parameters):
            parameter.grad = draw(1000 * step + index, *parameter.shape) * 10.0 ** (index - 3)
            references[index].step(parameter.grad, lr_scale, mu)
        muon.step(lr_scale, mu)
        moved += lr_scale
        for parameter, reference in zip(parameters, references, strict=True):
            rows, columns = parameter.shape
            limit = 0.02 * moved * reference.lr * math.sqrt(max(1.0, rows / columns))
            assert (parameter.detach() - reference.weight).abs().max().item() < limit, (step, parameter.shape)


def test_momentum_is_kept_in_float32() -> None:
    """Catches a momentum rounded to bfloat16: small gradients would vanish in it."""
    parameter = nn.Parameter(torch.zeros(4, 4))
    muon = Muon([parameter], [0.01], settings_of(0.0), ProcessGroup())
    total = torch.zeros(4, 4, dtype=torch.float64)
    for step in range(50):
        parameter.grad = draw(step, 4, 4)
        total = 0.99 * total + parameter.grad.double()
        muon.step(1.0, 0.99)
    torch.testing.assert_close(muon.momenta[0].double(), total, rtol=1e-5, atol=1e-5)


def test_decay_alone_where_there_is_no_gradient() -> None:
    """Catches NaN from a zero gradient (frozen or unused matrices), and a decay without the rate or its scale."""
    start = draw(1, 6, 3)
    parameter = nn.Parameter(start.clone())
    parameter.grad = torch.zeros(6, 3)
    muon = Muon([parameter], [0.05], settings_of(0.04), ProcessGroup())
    muon.step(0.5, 0.9)
    torch.testing.assert_close(parameter.detach(), start * (1 - 0.05 * 0.5 * 0.04))
    muon.step(0.5, 0.9, decay_scale=3.0)
    torch.testing.assert_close(parameter.detach(), start * (1 - 0.05 * 0.5 * 0.04) * (1 - 0.05 * 0.5 * 0.12))


def test_without_matrices() -> None:
    """Catches a model of vectors only, for which there is nothing to stack."""
    Muon([], [], settings_of(0.04), ProcessGroup()).step(1.0, 0.9)


@settings(max_examples=40)
@given(rows=st.integers(1, 48), columns=st.integers(1, 48), number=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_singular_values_and_directions(rows: int, columns: int, number: int, seed: int) -> None:
    """Catches a wrong coefficient, a transpose that stays, or matrices of a stack that mix."""
    g = torch.stack([conditioned(seed + i, rows, columns) for i in range(number)])
    ours = orthogonalise(g, 5)
    assert ours.shape == g.shape
    assert ours.dtype == torch.bfloat16
    for matrix, result in zip(g, ours.double(), strict=True):
        assert relative(result, by_singular_values(matrix, 5)) < ROUNDING
        u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
        kept = torch.diagonal(u.T @ result @ vh.T)
        assert kept.min() > 0.6
        assert torch.linalg.matrix_norm(result, 2) < 1.25


@settings(max_examples=30)
@given(power=st.integers(-15, 30), seed=st.integers(0, 100))
def test_the_size_of_the_gradient_does_not_matter(power: int, seed: int) -> None:
    """Catches a norm that is left out, or overflows: clipped and first gradients differ by orders of magnitude."""
    g = draw(seed, 12, 7)[None]
    assert relative(orthogonalise(g * 2.0**power, 5), orthogonalise(g, 5).double()) < ROUNDING


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_number_of_steps(steps: int) -> None:
    """Catches a fixed number of iterations."""
    g = conditioned(4, 20, 12)
    exact = [by_singular_values(g, number) for number in (steps - 1, steps, steps + 1)]
    before, now, after = (relative(orthogonalise(g[None], steps)[0], one) for one in exact)
    assert now < ROUNDING < min(before, after)


@settings(max_examples=30)
@given(rows=st.integers(8, 48), columns=st.integers(8, 48), seed=st.integers(0, 10**6))
def test_other_coefficients_in_each_iteration(rows: int, columns: int, seed: int) -> None:
    """Fault: coefficients in another order, or the norm without the safety factor that they are made for.

    At least 8 singular values, none near 1, where the first polynomial's slope of 17 enlarges what bfloat16 rounds.
    """
    g = conditioned(seed, rows, columns)
    u, s, vh = torch.linalg.svd(g.double(), full_matrices=False)
    s = s / (1.02 * s.square().sum().sqrt())
    for a, b, c in POLAR_EXPRESS:
        s = a * s + b * s**3 + c * s**5
    ours = orthogonalise(g[None], 5, polar_express=True)[0]
    assert relative(ours, u @ torch.diag(s) @ vh) < ROUNDING
    assert relative(orthogonalise(4096 * g[None], 5, polar_express=True)[0], ours.double()) < ROUNDING


def test_small_singular_values_come_nearer_to_one() -> None:
    """Fault: a wrong digit of a coefficient: the five were chosen to bring values from 1e-3 on near to 1."""
    s = torch.logspace(math.log10(3e-3), 0, 2001, dtype=torch.float64) / 1.02
    for number, (a, b, c) in enumerate(POLAR_EXPRESS):
        s = a * s + b * s**3 + c * s**5
        assert 0 < s.min() < s.max() < 2, number
    assert (s - 1).abs().max() < 0.142  # 0.32 with Jordan's
    # Each polynomial is the best for its interval: its errors at both ends are as large as those between them.
    assert (s.max() - 1).item() == pytest.approx(1 - s.min().item(), abs=1e-3)


def test_the_configuration_chooses_the_coefficients() -> None:
    """Fault: a field that a sweep searches and no step reads."""
    gradient = draw(3, 12, 20)
    updates = []
    for name in ("jordan", "polar_express"):
        parameter = nn.Parameter(torch.zeros(12, 20))
        parameter.grad = gradient.clone()
        Muon([parameter], [1.0], OptimizerConfig(newton_schulz=name), ProcessGroup()).step(1.0, 0.0)
        updates.append(-parameter.detach())
    for update, polar in zip(updates, (False, True), strict=True):
        assert torch.equal(update, orthogonalise(gradient[None], 5, polar)[0].float())


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_the_matrices_and_meet_in_one_update(world_size: int) -> None:
    """Catches a matrix that no rank or more than one takes: the ranks' parts must add up to one process's update."""
    gradients = [draw(i, *shape) for i, shape in enumerate(SHAPES)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    alone = Muon(parameters, LRS, settings_of(0.0), ProcessGroup())._orthogonal(gradients)
    ranks = [Muon(parameters, LRS, settings_of(0.0), Lonely(rank, world_size)) for rank in range(world_size)]
    parts = [rank._orthogonal(gradients) for rank in ranks]
    for index, whole in enumerate(alone):
        mine = [part[index] for part in parts if part[index].any()]
        assert len(mine) == 1
        torch.testing.assert_close(mine[0], whole, rtol=0, atol=0.02)


class Lonely(ProcessGroup):
    """A rank that hears nothing from the others: its own share of the sum."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Only this rank's part."""
        return tensor
