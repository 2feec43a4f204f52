"""Packing a whole model: what is quantised, what it costs, and what comes back."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from golf.artifact.byte_breakdown import group_ledger
from golf.artifact.container import ARTIFACT_CODECS, ArtifactError, encode
from golf.artifact.pack import LARGEST_ARTIFACT, group_of, pack, read_artifact, unpack
from golf.artifact.quantizer import dequantise, quantise
from golf.config.config import GridConfig, ModelConfig, QuantConfig, to_plain
from golf.model.gepa import GEPA, build_model

SHAPE = ModelConfig(
    vocab_size=64,
    num_layers=3,
    model_dim=32,
    num_heads=4,
    num_kv_heads=2,
    mlp_hidden=48,
    rope_dims=4,
    bigram_buckets=32,
    bigram_dim=16,
    value_dim=16,
    value_layers=(2,),
    xsa_layers=1,
)
SMALL = QuantConfig(float_elements=100, codec="zstd", level=6)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Every parameter of a small model, none of them at a round value."""
    generator = torch.Generator().manual_seed(5)
    state = build_model(SHAPE, 1).state_dict()
    return {name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in state.items()}


def test_a_model_comes_back(weights: dict[str, Tensor]) -> None:
    """Catches a lost parameter, a wrong grid for a group, and a quantised control tensor."""
    packed = pack(weights, SHAPE, SMALL)
    shape, read = unpack(packed)
    assert shape == SHAPE
    GEPA(shape).load_state_dict(read)
    for name, weight in weights.items():
        group = group_of(name)
        if weight.ndim == 2 and weight.numel() > 100 and group != "float":
            grid = SMALL.attention if group in ("attention", "mlp") else SMALL.token_embedding
            assert torch.equal(read[name], dequantise(quantise(weight, grid))), name
        else:
            matrix = group in ("attention", "mlp", "token_embedding")
            assert torch.equal(read[name], weight.half().float() if matrix else weight), name


def test_groups(weights: dict[str, Tensor]) -> None:
    """Catches a matrix that falls to the wrong group, or a vector that would be quantised."""
    for name, weight in weights.items():
        part = name.split(".")[2] if name.startswith("blocks.") else name.split(".")[0]
        wanted = {"bigram": "tables", "value": "tables"}.get(part, part)
        if not name.endswith(".weight"):
            assert group_of(name) == "float"
        else:
            assert group_of(name) == wanted
            assert weight.ndim == 2


def test_small_tensors_stay_float(weights: dict[str, Tensor]) -> None:
    """Catches the two types exchanged, and a threshold off by one element."""
    quant = QuantConfig(control_dtype="float16", other_dtype="float32", codec="zstd", level=6)
    _, read = unpack(pack(weights, SHAPE, quant))
    for name, weight in weights.items():
        matrix = name.startswith("token") or (name.startswith("blocks.") and name.endswith(".weight"))
        assert torch.equal(read[name], weight if matrix else weight.half().float()), name
    embedding = weights["token_embedding.weight"]
    for elements, exact in ((embedding.numel(), True), (embedding.numel() - 1, False)):
        edge = QuantConfig(float_elements=elements, other_dtype="float32", codec="zstd", level=6)
        _, read = unpack(pack(weights, SHAPE, edge))
        assert torch.equal(read["token_embedding.weight"], embedding) is exact


@pytest.mark.parametrize("codec", ARTIFACT_CODECS.values())
def test_ledger(weights: dict[str, Tensor], codec: Literal["rans", "zstd"]) -> None:
    """Catches bytes counted twice or not at all, and an entropy that is not that of the codes."""
    packed = pack(weights, SHAPE, replace(SMALL, codec=codec))
    ledger = group_ledger(packed)
    assert sum(row["packed_bytes"] for row in ledger.values()) == len(packed)
    assert sum(row["elements"] for row in ledger.values()) == sum(weight.numel() for weight in weights.values())
    bits = 0.0
    for name, weight in weights.items():
        if group_of(name) == "attention" and weight.numel() > 100:
            codes = quantise(weight, SMALL.attention).codes.flatten().tolist()
            shares = [codes.count(code) / len(codes) for code in set(codes)]
            bits -= len(codes) * sum(share * math.log2(share) for share in shares)
    assert math.isclose(ledger["attention"]["entropy_bytes"], bits / 8, rel_tol=1e-9)
    json.dumps(ledger, allow_nan=False)


def test_same_weights_same_bytes(weights: dict[str, Tensor]) -> None:
    """Catches bytes that depend on the order of the names, and weights changed by packing."""
    before = {name: weight.clone() for name, weight in weights.items()}
    packed = pack(weights, SHAPE, SMALL)
    assert pack(dict(reversed(list(weights.items()))), SHAPE, SMALL) == packed
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_fewer_bits_pack_smaller(weights: dict[str, Tensor]) -> None:
    """Catches a grid that ignores its bits."""
    sizes = [len(pack(weights, SHAPE, QuantConfig(attention=GridConfig(bits=b), float_elements=100))) for b in (4, 8)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", ["token_embedding.weight", "blocks.0.mlp.up.weight", "skip_weights"])
def test_divergence_is_named(weights: dict[str, Tensor], name: str) -> None:
    """Catches NaN that ends up in an artifact; the message names the parameter."""
    bad = {key: value.clone() for key, value in weights.items()}
    bad[name].view(-1)[3] = float("nan")
    with pytest.raises(ValueError, match=name):
        pack(bad, SHAPE, SMALL)


def test_read_artifact_names_the_file(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """Catches a huge file read into memory, and errors that do not say which file."""
    path = tmp_path / "artifact.golf"
    path.write_bytes(pack(weights, SHAPE, SMALL))
    assert read_artifact(path)[0] == SHAPE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"artifact\.golf"):
        read_artifact(path)
    with path.open("wb") as file:
        file.truncate(LARGEST_ARTIFACT + 1)  # sparse: takes no room
    with pytest.raises(ArtifactError, match=r"artifact\.golf"):
        read_artifact(path)


@pytest.mark.parametrize("field", [{"num_heads": 3}, {"nonsense": 1}, {"num_layers": "2"}, {"rope_base": 10**400}])
def test_impossible_model(field: dict[str, object]) -> None:
    """Catches a model part that is believed, or an error of another type."""
    with pytest.raises(ArtifactError):
        unpack(encode({}, to_plain(SHAPE) | field, "zstd", 6))
