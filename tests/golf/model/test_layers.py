"""The layers against references in float64 written with loops over positions and heads."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from golf.config.config import ModelConfig
from golf.model.layers import (
    MLP,
    Attention,
    Bigram,
    Block,
    Linear,
    SmearGate,
    ValueEmbedding,
    bigram_bucket,
    fake_quantise,
    remove_own_value,
    rotary_tables,
    rotate,
)

EPS = torch.finfo(torch.float64).eps


def normed(vector: list[float]) -> list[float]:
    """RMS norm without weight, torch's default epsilon."""
    return [value / math.sqrt(sum(v * v for v in vector) / len(vector) + EPS) for value in vector]


def product(weight: Tensor, vector: list[float]) -> list[float]:
    """Matrix times vector."""
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in weight.tolist()]


def turned(head: list[float], position: int, dims: int, base: float) -> list[float]:
    """Rotate the pairs (i, i + dims / 2) by position * base^(-2 i / dims)."""
    out, half = list(head), dims // 2
    for i in range(half):
        angle = position * base ** (-2 * i / dims)
        first, second = head[i], head[i + half]
        out[i] = first * math.cos(angle) + second * math.sin(angle)
        out[i + half] = -first * math.sin(angle) + second * math.cos(angle)
    return out


def tables(length: int, dims: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines in float64, for the layer under test."""
    angles = [[t * base ** (-2 * i / dims) for i in range(dims // 2)] for t in range(length)]
    angles_TR = torch.tensor(angles, dtype=torch.float64)
    return angles_TR.cos(), angles_TR.sin()


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter drawn, so that none is neutral; float64."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return module


def shape(heads: int = 4, kv_heads: int = 2, head_dim: int = 6, rope_dims: int = 4) -> ModelConfig:
    """A small model shape."""
    return ModelConfig(
        vocab_size=11,
        num_layers=4,
        model_dim=heads * head_dim,
        num_heads=heads,
        num_kv_heads=kv_heads,
        mlp_hidden=7,
        rope_dims=rope_dims,
        bigram_buckets=5,
        bigram_dim=3,
        value_dim=3,
        value_layers=(1, 3),
        xsa_layers=2,
    )


def attention_by_loops(
    layer: Attention, config: ModelConfig, x: list[list[float]], extra: list[list[float]] | None
) -> list[list[float]]:
    """One sequence, position by position and head by head."""
    E, dims, base = config.head_dim, config.rope_dims, 10.0
    group = config.num_heads // config.num_kv_heads

    def heads(linear: Linear, t: int, number: int) -> list[list[float]]:
        flat = product(linear.weight, x[t])
        return [flat[h * E : (h + 1) * E] for h in range(number)]

    keys, values = [], []
    for t in range(len(x)):
        keys.append([turned(normed(head), t, dims, base) for head in heads(layer.key, t, config.num_kv_heads)])
        added = [0.0] * (E * config.num_kv_heads) if extra is None else extra[t]
        plain = heads(layer.value, t, config.num_kv_heads)
        values.append([[v + added[h * E + e] for e, v in enumerate(head)] for h, head in enumerate(plain)])
    out = []
    for t in range(len(x)):
        joined: list[float] = []
        for h, head in enumerate(heads(layer.query, t, config.num_heads)):
            query = [layer.query_gain[h].item() * v for v in turned(normed(head), t, dims, base)]
            own = h // group
            scores = [sum(q * k for q, k in zip(query, keys[s][own], strict=True)) / math.sqrt(E) for s in range(t + 1)]
            weights = [math.exp(score - max(scores)) for score in scores]
            y = [sum(w * values[s][own][e] for s, w in enumerate(weights)) / sum(weights) for e in range(E)]
            if layer.exclusive:
                length = math.sqrt(sum(v * v for v in values[t][own]))
                unit = [v / length for v in values[t][own]]
                along = sum(a * b for a, b in zip(y, unit, strict=True))
                y = [a - along * b for a, b in zip(y, unit, strict=True)]
            joined += y
        out.append(product(layer.output.weight, joined))
    return out


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(
    "config", [shape(), shape(rope_dims=6), shape(heads=3, kv_heads=3), shape(heads=6, kv_heads=1, head_dim=4)]
)
def test_attention_head_by_head(config: ModelConfig, extra: bool, exclusive: bool) -> None:
    """Catches heads grouped in another order, the gain before the norm, XSA on the wrong values, a leak."""
    layer = Attention(config, exclusive)
    randomise(layer)
    generator = torch.Generator().manual_seed(1)
    x_BTD = torch.randn(2, 5, config.model_dim, generator=generator, dtype=torch.float64)
    more = torch.randn(2, 5, config.num_kv_heads * config.head_dim, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        ours = layer(x_BTD, *tables(5, config.rope_dims, 10.0), more if extra else None)
    for b in range(2):
        theirs = attention_by_loops(layer, config, x_BTD[b].tolist(), more[b].tolist() if extra else None)
        torch.testing.assert_close(ours[b], torch.tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-11)


@settings(max_examples=40)
@given(
    length=st.integers(1, 60),
    dims=st.sampled_from([4, 6, 16]),
    base=st.floats(2, 1e6),
    train_length=st.integers(1, 60),
)
def test_rotary_tables_angle_by_angle(length: int, dims: int, base: float, train_length: int) -> None:
    """Catches a base stretched too soon, by another power, or an angle of the wrong pair."""
    cos_TR, sin_TR = rotary_tables(length, dims, base, train_length)
    assert cos_TR.shape == sin_TR.shape == (length, dims // 2)
    assert cos_TR.dtype == sin_TR.dtype == torch.float32
    stretched = base * max(1.0, length / train_length) ** (dims / (dims - 2))
    for t in range(length):
        for i in range(dims // 2):
            angle = t / stretched ** (2 * i / dims)
            # The angle itself, up to 59, is a float32.
            assert cos_TR[t, i].item() == pytest.approx(math.cos(angle), abs=1e-5)
            assert sin_TR[t, i].item() == pytest.approx(math.sin(angle), abs=1e-5)


def test_rotation_turns_and_depends_on_distance_only() -> None:
    """Catches a rotation that changes lengths or the dimensions beyond it, or whose products know the place."""
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    cos_TR, sin_TR = tables(30, 6, 50.0)
    q_T, k_T = (rotate(v.expand(1, 30, 1, 10), cos_TR, sin_TR)[0, :, 0] for v in (q, k))
    torch.testing.assert_close(q_T.norm(dim=1), q.norm().expand(30))
    assert torch.equal(q_T[:, 6:], q[6:].expand(30, 4))
    products = q_T @ k_T.T
    for distance in (0, 3, 11):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_exclusive_attention_keeps_nothing_of_its_own_value() -> None:
    """Catches a value that is not normalised, or that of another head; a zero value must not give NaN."""
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(2, 5, 6, 4, generator=generator, dtype=torch.float64)
    v = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    left = remove_own_value(y, v)
    for head in range(6):
        own = v[:, :, head // 2]
        torch.testing.assert_close((left[:, :, head] * own).sum(-1), torch.zeros(2, 5, dtype=torch.float64))
    assert torch.equal(remove_own_value(y, torch.zeros_like(v)), y)
    torch.testing.assert_close(remove_own_value(left, v), left)


@given(ids=st.lists(st.integers(0, 65535), min_size=1, max_size=12), buckets=st.integers(2, 5000))
def test_bigram_buckets_pair_by_pair(ids: list[int], buckets: int) -> None:
    """Catches previous and own token swapped, the last bucket used twice, or 32-bit overflow."""
    pairs = itertools.pairwise(ids)
    expected = [buckets - 1] + [((36313 * own) ^ (27191 * before)) % (buckets - 1) for before, own in pairs]
    ours = bigram_bucket(torch.tensor([ids, ids[::-1]]), buckets)
    assert ours.dtype == torch.int64
    assert ours[0].tolist() == expected


def test_bigram_rows() -> None:
    """Catches a scale or projection that is left out: bucket row, times the matrix, times the scalar."""
    layer = Bigram(5, 3, 4)
    randomise(layer)
    assert layer.projection is not None
    ids = torch.tensor([[3, 9, 9, 0]])
    for t, bucket in enumerate(bigram_bucket(ids, 5)[0].tolist()):
        row = [layer.scale.item() * v for v in product(layer.projection.weight, layer.table.weight[bucket].tolist())]
        torch.testing.assert_close(layer(ids)[0, t].detach(), torch.tensor(row, dtype=torch.float64))


def test_value_embedding_rows() -> None:
    """Catches the layers' own scales applied here as well, or a table looked up by another id."""
    layer = ValueEmbedding(shape(), 3)
    randomise(layer)
    assert layer.projection is not None
    ids = torch.tensor([[3, 10, 0]])
    for t, token in enumerate(ids[0].tolist()):
        row = [layer.scale.item() * v for v in product(layer.projection.weight, layer.table.weight[token].tolist())]
        torch.testing.assert_close(layer(ids)[0, t].detach(), torch.tensor(row, dtype=torch.float64))


def test_smear_gate_position_by_position() -> None:
    """Catches the gate on the wrong side, a look ahead, and sequences that flow into one another."""
    layer = SmearGate(3)
    randomise(layer)
    x = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    ours = layer(x).detach()
    for b in range(2):
        for t in range(4):
            for d in range(3):
                gate = 1 / (1 + math.exp(-layer.gate[d].item()))
                before = x[b, t - 1, d].item() if t else 0.0
                expected = (1 - gate) * x[b, t, d].item() + gate * before
                assert ours[b, t, d].item() == pytest.approx(expected, abs=1e-14)


def mlp_by_loops(layer: MLP, vector: list[float]) -> list[float]:
    """One position: up, s * relu(u)^2 + b, down."""
    up = product(layer.up.weight, vector)
    star = [s * max(u, 0.0) ** 2 + b for s, u, b in zip(layer.scale.tolist(), up, layer.bias.tolist(), strict=True)]
    return product(layer.down.weight, star)


def test_star_relu_channel_by_channel() -> None:
    """Catches the bias inside the square, a scale before it, or a ReLU that is left out."""
    layer = MLP(shape())
    randomise(layer)
    x = torch.randn(3, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    expected = [mlp_by_loops(layer, row.tolist()) for row in x]
    torch.testing.assert_close(layer(x[None])[0].detach(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("depth_scaled", [False, True])
def test_block_step_by_step(layer: int, depth_scaled: bool) -> None:
    """Catches the mix swapped, a residual that skips it, the depth's scale left out, XSA on the first layers."""
    config = ModelConfig(**(vars(shape()) | {"depth_scaled_norm": depth_scaled}))
    block = Block(config, layer)
    randomise(block)
    assert block.attention.exclusive == (layer >= 2)
    generator = torch.Generator().manual_seed(6)
    h, start = torch.randn(2, 4, config.model_dim, generator=generator, dtype=torch.float64)
    scale = 1 / math.sqrt(layer + 1) if depth_scaled else 1.0
    mix = block.residual_mix
    both = zip(h.tolist(), start.tolist(), strict=True)
    stream = [[a * u + b * v for a, b, u, v in zip(*mix.tolist(), *rows, strict=True)] for rows in both]
    attended = attention_by_loops(block.attention, config, [[v * scale for v in normed(row)] for row in stream], None)
    for row, added in zip(stream, attended, strict=True):
        row[:] = [v + a * w for v, a, w in zip(row, block.attention_scale.tolist(), added, strict=True)]
        more = mlp_by_loops(block.mlp, [v * scale for v in normed(row)])
        row[:] = [v + a * w for v, a, w in zip(row, block.mlp_scale.tolist(), more, strict=True)]
    with torch.no_grad():
        ours = block(h[None], start[None], *tables(4, config.rope_dims, 10.0), None)
    torch.testing.assert_close(ours[0], torch.tensor(stream, dtype=torch.float64), rtol=0, atol=1e-10)


def int6(value: float, scale: float) -> float:
    """One weight on the grid: half to even, codes -32 to 31."""
    return max(-32, min(31, round(value / scale))) * scale


@pytest.mark.parametrize("size", [1e-6, 0.02, 1.0, 30.0])
def test_fake_quantisation_weight_by_weight(size: float) -> None:
    """Catches one scale per tensor, a floor that is left out (small rows), or another rounding."""
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(7)) * size
    weight[3] = 0
    ours = fake_quantise(weight)
    for row, quantised in zip(weight.double().tolist(), ours.tolist(), strict=True):
        scale = max(max(abs(value) for value in row) / 31, 1 / 31)
        for value, got in zip(row, quantised, strict=True):
            position = value / scale
            if abs(position - math.floor(position) - 0.5) > 1e-4:  # float32 may round a tie the other way
                assert got == pytest.approx(int6(value, scale), abs=1e-6 * scale * 31)


def test_fake_quantisation_has_the_gradient_of_the_identity() -> None:
    """Catches a gradient that is cut where the weight is rounded, or that flows through the scale."""
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(8), requires_grad=True)
    upstream = torch.randn(4, 9, generator=torch.Generator().manual_seed(9))
    fake_quantise(weight).backward(upstream)
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)


def test_weights_stay_float32_under_bfloat16() -> None:
    """Catches a layer that answers in another type than it was asked in, or stores its weights in it."""
    config = shape()
    block = Block(config, 3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(10), std=0.3)
    h = torch.randn(1, 6, config.model_dim, generator=torch.Generator().manual_seed(11))
    cos_TR, sin_TR = rotary_tables(6, config.rope_dims, config.rope_base, 1024)
    for qat in (False, True):
        exact = block(h, h, cos_TR, sin_TR, None, qat)
        short = block(h.bfloat16(), h.bfloat16(), cos_TR, sin_TR, None, qat)
        assert exact.dtype == torch.float32
        assert short.dtype == torch.bfloat16
        torch.testing.assert_close(short.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
    assert {p.dtype for p in block.parameters()} == {torch.float32}
