"""GPTQ against a plain column-by-column procedure, and what it must keep: outputs, and codes without correlation."""

import pytest
import torch
from torch import Tensor

from golf.artifact.gptq import gptq_codes
from golf.artifact.quantizer import quantise
from golf.config.config import GridConfig


def correlated(columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs whose columns are mixtures of a few, of very different sizes, and their Hessian."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(400, 6, generator=generator) @ torch.randn(6, columns, generator=generator)
    sizes = torch.rand(columns, generator=generator) * 3 + 0.1
    inputs = (mixed + 0.3 * torch.randn(400, columns, generator=generator)).double() * sizes
    return inputs, inputs.T @ inputs / len(inputs)


def by_the_book(weight: Tensor, hessian: Tensor, scale: Tensor, largest: int, damping: float) -> Tensor:
    """Optimal brain quantisation of one row after the other, columns by falling size: after each column it is taken
    out of the inverse by Gaussian elimination, which is what GPTQ's Cholesky factor stands for."""
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    order = sorted(range(len(hessian)), key=lambda column: -float(hessian[column, column]))
    codes = torch.zeros(weight.shape, dtype=torch.int64)
    for row in range(len(weight)):
        rest, inverse = weight[row].double().clone(), torch.linalg.inv(damped)
        step = float(scale[row]) if scale.ndim else float(scale)
        for column in order:
            code = max(-largest - 1, min(largest, round(float(rest[column]) / step)))
            codes[row, column] = code
            rest -= (rest[column] - code * step) / inverse[column, column] * inverse[column]
            inverse -= torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return codes


@pytest.mark.parametrize(("bits", "per_row", "columns"), [(4, True, 40), (6, True, 70), (5, False, 33)])
def test_against_elimination_column_by_column(bits: int, per_row: bool, columns: int) -> None:
    """Fault: a wrong order or factor, a correction lost between blocks, codes beyond the grid that are not clamped."""
    grid = GridConfig(bits=bits, per_row=per_row, percentiles=(0.95,))
    weight = torch.randn(8, columns, generator=torch.Generator().manual_seed(bits))
    _, hessian = correlated(columns, bits)
    scale = quantise(weight, grid).scale
    codes = gptq_codes(weight, hessian, scale, grid, 0.01)
    assert torch.equal(codes.long(), by_the_book(weight, hessian, scale, 2 ** (bits - 1) - 1, 0.01))
    assert not torch.equal(codes, quantise(weight, grid).codes)


@pytest.mark.parametrize("seed", range(5))
def test_outputs_are_nearer_than_those_of_the_nearest_codes(seed: int) -> None:
    """Fault: corrections of the wrong sign or size, which would lose more than rounding does."""
    weight = torch.randn(30, 64, generator=torch.Generator().manual_seed(seed)) * 0.1
    inputs, hessian = correlated(64, seed)
    for grid in (GridConfig(bits=4), GridConfig(scale_floor=1 / 31)):
        nearest = quantise(weight, grid)
        step = nearest.scale.double()[:, None]
        codes = gptq_codes(weight, hessian, nearest.scale, grid, 0.01)
        lost, least = (
            (inputs @ (q.double() * step - weight.double()).T).square().sum() for q in (codes, nearest.codes)
        )
        assert lost < 0.7 * least


def test_inputs_without_correlation_give_the_nearest_codes() -> None:
    """Fault: rounding otherwise than the clip search, columns left in another order, corrections out of nothing."""
    weight = torch.distributions.StudentT(3.0).sample((50, 90))
    for grid in (GridConfig(), GridConfig(bits=4, per_row=False), GridConfig(scale_floor=1 / 31)):
        nearest = quantise(weight, grid)
        for sizes in (torch.ones(90), torch.rand(90) + 0.01):
            codes = gptq_codes(weight, sizes.double().diag(), nearest.scale, grid, 0.01)
            assert torch.equal(codes, nearest.codes)


def test_unseen_inputs_and_bad_ones() -> None:
    """Fault: a division by zero where an input is always zero; NaN turned into codes."""
    weight, grid = torch.randn(5, 8), GridConfig()
    nearest = quantise(weight, grid)
    _, hessian = correlated(8, 1)
    hessian[3] = hessian[:, 3] = 0.0
    codes = gptq_codes(weight, hessian, nearest.scale, grid, 0.01)
    assert not codes[:, 3].any()  # the weights of an input that is always zero are free
    for bad in (torch.zeros(8, 8, dtype=torch.float64), hessian * torch.nan, hessian * torch.inf):
        with pytest.raises(ValueError, match="training data"):
            gptq_codes(weight, bad, nearest.scale, grid, 0.01)
