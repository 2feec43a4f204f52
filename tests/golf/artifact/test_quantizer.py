"""The grid against the published numbers, an independent search and awkward rows."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from golf.artifact.quantizer import Quantised, dequantise, quantise, quantise_all
from golf.config.config import GridConfig

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "kernels.safetensors"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="shared/golden/kernels.safetensors is not here")
INT8 = GridConfig(bits=8, per_row=False, percentiles=(1.0,))


def squared_error(weight: torch.Tensor, q: Quantised) -> torch.Tensor:
    """Squared error of each row, float64."""
    return (weight.double() - dequantise(q).double()).square().sum(1)


@needs_golden
def test_int8_is_the_records() -> None:
    """Catches dividing by the scale before it is float16, and a wrong rounding."""
    golden = load_file(GOLDEN)
    for i in range(3):
        q = quantise(golden[f"w{i}"], INT8)
        assert torch.equal(q.codes, golden[f"ref_int8_q{i}"])
        assert torch.equal(q.scale, golden[f"ref_int8_scale{i}"][0])


@needs_golden
def test_int6_error_is_at_most_the_records() -> None:
    """Catches a search that misses the best clip."""
    golden = load_file(GOLDEN)
    for i in range(3):
        weight = golden[f"w{i}"]
        error = squared_error(weight, quantise(weight, GridConfig())).sum() / weight.numel()
        assert error <= golden[f"ref_int6_mse{i}"].item()


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_search_against_torch_quantile(bits: int) -> None:
    """Catches wrong interpolation, a per-tensor choice and an error measured with the unrounded scale."""
    weight = torch.distributions.StudentT(3.0).sample((40, 301))
    grid = GridConfig(bits=bits, percentiles=(0.97, 0.99, 0.999, 1.0))
    top = 2 ** (bits - 1) - 1
    errors = []
    for p in grid.percentiles:
        scale = (torch.quantile(weight.abs().double(), p, dim=1) / top).half().float()[:, None]
        codes = torch.clamp(torch.round(weight / scale), -top - 1, top)
        errors.append((weight.double() - (codes * scale).double()).square().sum(1))
    q = quantise(weight, grid)
    assert int(q.codes.min()) >= -top - 1
    assert int(q.codes.max()) <= top
    torch.testing.assert_close(squared_error(weight, q), torch.stack(errors).amin(0), rtol=1e-3, atol=0)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(4, 8), st.booleans(), st.floats(-30, 10))
def test_error_is_within_half_a_step(seed: int, bits: int, per_row: bool, power: float) -> None:
    """Catches overflow of codes and underflow of scales at any magnitude."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 7, generator=generator) * 2.0**power
    q = quantise(weight, GridConfig(bits=bits, per_row=per_row, percentiles=(1.0,)))
    scale = q.scale.float()
    step = (scale[:, None] if per_row else scale).expand(5, 7)
    # Beyond half a step lies only what a scale rounded down to float16 leaves above the largest code: a share of
    # 2**-11 of the weight, or half of float16's smallest number times that code.
    rounding = (weight.abs() * 2.0**-10).clamp_min(2 ** (bits - 1) * 2.0**-25)
    slack = torch.maximum(step * 0.5001, rounding)
    assert bool(((dequantise(q) - weight).abs() <= slack).all())


def test_zero_and_constant_rows() -> None:
    """Catches a division by zero, and a deviation of zero that would erase a constant row."""
    weight = torch.stack([torch.zeros(9), torch.full((9,), 0.5), torch.linspace(-1, 1, 9)])
    for clip in ("percentile", "deviations"):
        back = dequantise(quantise(weight, GridConfig(clip=clip)))
        assert torch.equal(back[0], torch.zeros(9))
        torch.testing.assert_close(back[1], weight[1], rtol=1e-3, atol=0)


@pytest.mark.parametrize("k", [2.0, 100.0])
def test_deviations_clip(k: float) -> None:
    """Catches a clip that ignores k, also beyond the largest magnitude, where a coarser grid saves bytes."""
    weight = torch.randn(4, 500)
    quantised = quantise(weight, GridConfig(clip="deviations", deviations=k))
    torch.testing.assert_close(quantised.scale.float(), k * weight.std(1, correction=0) / 31, rtol=1e-3, atol=0)


def test_scale_floor() -> None:
    """Catches a floor that is not applied to small rows, or applied to large ones too."""
    weight = torch.randn(2, 500) * torch.tensor([[0.01], [3.0]])
    floored, free = (quantise(weight, GridConfig(scale_floor=floor)) for floor in (1 / 31, None))
    assert floored.scale[0] == torch.tensor(1 / 31).half()
    assert torch.equal(floored.scale[1], free.scale[1])
    assert torch.equal(floored.codes[1], free.codes[1])
    assert floored.codes[0].abs().max() <= 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_refuses_what_it_cannot_hold(bad: float) -> None:
    """Catches NaN turned into a code, and a scale that became infinite."""
    weight = torch.ones(3, 4)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|float16"):
        quantise(weight, GridConfig())


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 4)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    """Catches a scale per wrong axis."""
    with pytest.raises(ValueError, match="shape"):
        quantise(torch.zeros(shape), GridConfig())


def one_by_one(weight: torch.Tensor, grid: GridConfig) -> Quantised:
    """The clip search in its plainest form: a row at a time, each clip by two sorted magnitudes."""
    largest, codes, scales = 2 ** (grid.bits - 1) - 1, [], []
    for row in weight:
        ordered, least = row.abs().sort().values, math.inf
        for p in grid.percentiles:
            place = p * (len(row) - 1)
            below, above = ordered[math.floor(place)], ordered[min(math.floor(place) + 1, len(row) - 1)]
            clip = torch.lerp(below, above, torch.tensor(place - math.floor(place)))
            scale = (clip / largest).clamp_min(grid.scale_floor or 2.0**-24).half()
            tried = torch.clamp(torch.round(row / scale.float()), -largest - 1, largest)
            error = float((tried * scale.float() - row).square().sum())
            if error < least:
                least, best, best_scale = error, tried, scale
        codes.append(best.to(torch.int8))
        scales.append(best_scale)
    return Quantised(torch.stack(codes), torch.stack(scales))


@pytest.mark.parametrize("floor", [None, 1 / 31])
def test_all_at_once_is_one_by_one_bit_for_bit(floor: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: rows, matrices or candidates exchanged when taken together, or bits that hang on the size of a block."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"a": (30, 96), "b": (7, 41), "c": (40, 96), "d": (1, 300), "e": (5, 1)}
    weights = {}
    for name, shape in shapes.items():
        spread = torch.rand(shape[0], 1, generator=generator) * 0.6  # rows on both sides of the floor
        weights[name] = torch.randn(shape, generator=generator) * spread
    weights["c"][3:5] = torch.tensor([0.0, 0.25])[:, None]
    grid = GridConfig(percentiles=(0.9, 0.99, 0.9999, 1.0, 0.5), scale_floor=floor)
    whole = quantise_all(weights, grid)
    monkeypatch.setattr("golf.artifact.quantizer.CPU_BLOCK", 1000)
    parted = quantise_all(weights, grid)
    assert list(whole) == list(shapes)
    for name, weight in weights.items():
        plain = one_by_one(weight, grid)
        for found in (whole[name], parted[name], quantise(weight, grid)):
            assert torch.equal(found.scale, plain.scale)
            assert torch.equal(found.codes, plain.codes)


def test_a_bad_matrix_among_others_is_named() -> None:
    """Fault: an error that blames another matrix, or a clip that hides weights too large for the grid."""
    weights = {name: torch.ones(3, 8) for name in "abc"}
    weights["b"] = torch.ones(3, 8)
    weights["b"][1, 1] = 1e7  # the other percentile's clip would fit
    with pytest.raises(ValueError, match=r"^b: .*float16"):
        quantise_all(weights, GridConfig(percentiles=(0.5, 1.0)))
    weights["b"][1, 1] = torch.nan
    with pytest.raises(ValueError, match=r"^b: .*NaN"):
        quantise_all(weights, GridConfig())
