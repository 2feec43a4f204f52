"""The low-rank correction against numpy, through a file, and with factors that fit nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from golf.artifact.container import ArtifactError, decode, encode
from golf.artifact.correction import LEFT, RIGHT, corrections, restore
from golf.artifact.pack import pack, quantise_tensors, unpack
from golf.artifact.quantizer import Quantised, dequantise, quantise_all
from golf.config.config import CorrectionConfig, GridConfig, ModelConfig, QuantConfig
from golf.model.gepa import build_model

COARSE = GridConfig(bits=4)


def drawn() -> dict[str, Tensor]:
    """Matrices whose errors differ: the larger numbers have the larger steps."""
    generator = torch.Generator().manual_seed(4)
    shapes = {"a": (24, 32), "b": (16, 48), "c": (40, 20)}
    size = {"a": 1.0, "b": 4.0, "c": 0.1}
    return {name: size[name] * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_numpy(error: np.ndarray, rank: int, group: int) -> np.ndarray:
    """The correction that the published rule makes of an error, in float64."""
    u, s, v = np.linalg.svd(error, full_matrices=False)
    left, right = u[:, :rank] * s[:rank], v[:rank]
    left_step = np.float16(np.abs(left).max() / 1.5).astype(float)
    left = np.clip(np.round(left / left_step), -2, 1) * left_step
    grouped = right.reshape(-1, group)
    steps = np.float16(np.abs(grouped).max(axis=1, keepdims=True) / 7.5).astype(float)
    return left @ (np.clip(np.round(grouped / steps), -8, 7) * steps).reshape(right.shape)


def test_the_worst_matrices_are_corrected() -> None:
    """Catches another choice of matrices, a factor without its singular values, a group across rows or a wrong step.

    The signs of singular vectors are free, and codes -2 to 1 are not symmetric: both signs are right.
    """
    weights = drawn()
    stored = quantise_all(weights, COARSE)
    factors = corrections(weights, stored, CorrectionConfig(rank=3, matrices=2, group=24))
    assert sorted(factors) == sorted(name + end for name in "ab" for end in (LEFT, RIGHT))
    assert factors["a" + RIGHT].codes.shape == (3 * 32 // 8, 8)  # 8 divides both 32 and 24
    weights_again = restore(stored | factors)
    for name, group in (("a", 8), ("b", 24)):
        error = (weights[name] - dequantise(stored[name])).double().numpy()
        given = (weights_again[name] - dequantise(stored[name])).double().numpy()
        u, s, _ = np.linalg.svd(error, full_matrices=False)
        left = dequantise(factors[name + LEFT]).double().numpy()
        signs = np.sign((left * u[:, :3]).sum(axis=0))
        step = float(factors[name + LEFT].scale)
        # The clip at the smaller side takes at most half a step off, elsewhere the nearest code is half a step away.
        assert np.abs(left - signs * u[:, :3] * s[:3]).max() <= 1.001 * step
        right = dequantise(factors[name + RIGHT]).double().numpy().reshape(3, -1)
        np.testing.assert_allclose(given, left @ right, rtol=0, atol=1e-6 * np.abs(given).max())
        assert np.linalg.norm(error - given) < 0.97 * np.linalg.norm(error)
        if (signs > 0).all():
            np.testing.assert_allclose(given, by_numpy(error, 3, group), atol=1e-5)
    assert torch.equal(weights_again["c"], dequantise(stored["c"]))


def test_a_corrected_model_comes_back() -> None:
    """Catches factors that reach the model as weights of their own, or a correction that a file loses."""
    size = {"vocab_size": 64, "num_layers": 2, "model_dim": 32, "num_heads": 4, "num_kv_heads": 2, "mlp_hidden": 48}
    tables = {"bigram_buckets": None, "value_dim": None, "value_layers": (), "xsa_layers": 1, "rope_dims": 4}
    shape = ModelConfig(**(vars(ModelConfig()) | size | tables))
    state = build_model(shape, 1).state_dict()
    generator = torch.Generator().manual_seed(5)
    weights = {name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in state.items()}
    quant = QuantConfig(attention=COARSE, mlp=COARSE, float_elements=100, correction=CorrectionConfig(matrices=2))
    plain = quantise_tensors(weights, quant)
    data = pack(weights, shape, quant)
    model, read = unpack(data)
    assert (model, read.keys()) == (shape, weights.keys())
    expected = restore(plain | corrections(weights, plain, CorrectionConfig(matrices=2)))
    assert all(torch.equal(read[name], expected[name]) for name in weights)
    changed = [name for name, value in restore(plain).items() if not torch.equal(value, read[name])]
    assert len(changed) == 2
    assert data == pack(weights, shape, quant)


@pytest.mark.parametrize("kind", ["no right", "no matrix", "short left", "wide right"])
def test_factors_that_fit_nothing_are_refused(kind: str) -> None:
    """Catches a hostile artifact whose factors would be broadcast, or crash the reader."""
    weights = drawn()
    stored = quantise_all(weights, COARSE)
    factors: dict[str, Quantised | Tensor] = dict(corrections(weights, stored, CorrectionConfig(matrices=1)))
    if kind == "no right":
        del factors["b" + RIGHT]
    elif kind == "no matrix":
        factors = {name.replace("b", "z", 1): value for name, value in factors.items()}
    else:
        name, value = ("b" + LEFT, torch.zeros(1, 4)) if kind == "short left" else ("b" + RIGHT, torch.zeros(4, 49))
        factors[name] = value
    with pytest.raises(ArtifactError, match=r"[bz]\.correction\.left"):
        decode(encode(stored | factors, {}, "rans"))
