"""The building blocks of the GEPA model: linear, attention, MLP and the two lookup tables.

Activations have one floating type, weights stay float32 and are cast where they are used. Whether a forward pass
fake-quantises is an argument, never module state: torch.compile guards on it and compiles again when it changes.
Source of the forms: openai/parameter-golf PR #598.

Shape letters: B batch, T positions, S the last of them, D model width, F hidden width, H query heads, K key-value
heads, G = H / K query heads per group, E head dimension, R rotated dimensions, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.config.config import InputSmearConfig, ModelConfig

LEAK = 0.5
"""Slope of the leaky ReLU below zero."""
QAT_BITS = 6
"""Bits of the grid that late QAT trains against (the record's, whatever split is packed later)."""


def fake_quantise(weight_OI: Tensor) -> Tensor:
    """Returns `weight_OI` rounded to int6 per row, with the gradient of the identity (straight-through).

    Args: weight_OI: float32 (rows, columns).
    Returns: the same shape and type; scale = max|row| / 31, at least 1/31.
    """
    largest = 2 ** (QAT_BITS - 1) - 1
    with torch.no_grad():
        scale_O1 = (weight_OI.abs().amax(dim=1, keepdim=True) / largest).clamp_min(1.0 / largest)
        rounded_OI = torch.clamp(torch.round(weight_OI / scale_O1), -largest - 1, largest) * scale_O1
    return weight_OI + (rounded_OI - weight_OI).detach()


class Linear(nn.Module):
    """A matrix without bias, float32 (outputs, inputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))

    def forward(self, x: Tensor, qat: bool = False) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight = fake_quantise(self.weight) if qat else self.weight
        return F.linear(x, weight.to(x.dtype))


class Table(nn.Module):
    """Rows looked up by id, float32 (rows, width)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (...) -> float32 (..., width)."""
        return F.embedding(ids, self.weight)


def rotary_tables(
    length: int, dims: int, base: float, train_length: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Returns cosines and sines of the rotary angles, float32 (length, dims / 2) each.

    Sequences longer than `train_length` stretch the base by (length / train_length)^(dims / (dims - 2)).
    """
    if length > train_length:
        base = base * (length / train_length) ** (dims / (dims - 2))
    exponents_R = torch.arange(0, dims, 2, dtype=torch.float32, device=device) / dims
    angles_TR = torch.outer(torch.arange(length, dtype=torch.float32, device=device), 1.0 / base**exponents_R)
    return angles_TR.cos(), angles_TR.sin()


def rotate(x_BTHE: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Rotates the first 2R dimensions of each head, first half against second half; the rest stay."""
    half = cos_TR.shape[-1]
    cos_T1R, sin_T1R = cos_TR[:, None].to(x_BTHE.dtype), sin_TR[:, None].to(x_BTHE.dtype)
    first, second, rest = x_BTHE.split([half, half, x_BTHE.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cos_T1R + second * sin_T1R, second * cos_T1R - first * sin_T1R, rest], dim=-1)


class Attention(nn.Module):
    """Causal attention with grouped heads, normalised queries and keys, partial rotary and optional XSA."""

    def __init__(self, config: ModelConfig, exclusive: bool) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.exclusive = exclusive
        kv_width = config.num_kv_heads * config.head_dim
        self.query = Linear(config.model_dim, config.model_dim)
        self.key = Linear(config.model_dim, kv_width)
        self.value = Linear(config.model_dim, kv_width)
        self.output = Linear(config.model_dim, config.model_dim)
        self.query_gain = nn.Parameter(torch.full((config.num_heads,), config.query_gain_init))
        self.gate_config = config.attention_gate
        if config.attention_gate is not None:
            self.gate = nn.Parameter(torch.zeros(config.num_heads, config.attention_gate.channels))

    def forward(
        self,
        x_BTD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        extra_value: Tensor | None,
        qat: bool = False,
        last: int | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, S, D) of the `last` S positions; `extra_value` (B, T, K * E) is added to the values."""
        B, T, _ = x_BTD.shape
        S = T if last is None else last
        before = T - S
        q_BSHE = self.query(x_BTD[:, before:], qat).view(B, S, self.num_heads, self.head_dim)
        k_BTKE = self.key(x_BTD, qat).view(B, T, self.num_kv_heads, self.head_dim)
        value = self.value(x_BTD, qat)
        if extra_value is not None:
            value = value + extra_value
        v_BTKE = value.view(B, T, self.num_kv_heads, self.head_dim)
        q_BSHE = rotate(F.rms_norm(q_BSHE, (self.head_dim,)), cos_TR[before:], sin_TR[before:])
        k_BTKE = rotate(F.rms_norm(k_BTKE, (self.head_dim,)), cos_TR, sin_TR)
        q_BSHE = q_BSHE * self.query_gain[:, None].to(q_BSHE.dtype)
        y_BSHE = attend(q_BSHE, k_BTKE, v_BTKE)
        if self.exclusive:
            y_BSHE = remove_own_value(y_BSHE, v_BTKE[:, before:])
        if self.gate_config is not None:
            read_BSC = x_BTD[:, before:, : self.gate_config.channels]
            z_BSH = self.gate_config.scale * F.linear(read_BSC, self.gate.to(read_BSC.dtype))
            y_BSHE = y_BSHE * torch.sigmoid(z_BSH)[..., None]
        projected: Tensor = self.output(y_BSHE.reshape(B, S, -1), qat)
        return projected


def attend(q_BSHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor) -> Tensor:
    """Computes causal attention of the last S of T positions, (B, S, H, E)."""
    S, T = q_BSHE.shape[1], k_BTKE.shape[1]
    # The kernels' own causal mask is quicker, but takes the queries of a shorter S for those of the first positions.
    seen_ST = None if S == T else torch.ones(S, T, dtype=torch.bool, device=q_BSHE.device).tril(T - S)
    q_BHSE, k_BKTE, v_BKTE = (x.transpose(1, 2) for x in (q_BSHE, k_BTKE, v_BTKE))
    return F.scaled_dot_product_attention(
        q_BHSE, k_BKTE, v_BKTE, attn_mask=seen_ST, is_causal=S == T, enable_gqa=True
    ).transpose(1, 2)


def remove_own_value(y_BTHE: Tensor, v_BTKE: Tensor) -> Tensor:
    """Exclusive self attention: subtracts from each head its projection onto its own position's unit value."""
    B, T, K, E = v_BTKE.shape
    y_BTKGE = y_BTHE.reshape(B, T, K, -1, E)
    unit_BTK1E = F.normalize(v_BTKE, dim=-1).unsqueeze(-2)
    along_BTKG1 = (y_BTKGE * unit_BTK1E).sum(dim=-1, keepdim=True)
    return (y_BTKGE - along_BTKG1 * unit_BTK1E).reshape(B, T, -1, E)


class MLP(nn.Module):
    """Up, a squared activation, down: Star-ReLU s * relu(u)^2 + b per channel, or leaky_relu(u, 0.5)^2 without both."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.is_star = config.activation == "star_relu"
        self.up = Linear(config.model_dim, config.mlp_hidden)
        self.down = Linear(config.mlp_hidden, config.model_dim)
        if self.is_star:
            self.scale = nn.Parameter(torch.ones(config.mlp_hidden))
            self.bias = nn.Parameter(torch.zeros(config.mlp_hidden))

    def forward(self, x_BTD: Tensor, qat: bool = False) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        u_BTF = self.up(x_BTD, qat)
        u_BTF = torch.relu(u_BTF) if self.is_star else F.leaky_relu(u_BTF, LEAK)
        a_BTF = u_BTF * u_BTF
        if self.is_star:
            a_BTF = self.scale.to(u_BTF.dtype) * a_BTF + self.bias.to(u_BTF.dtype)
        y_BTD: Tensor = self.down(a_BTF, qat)
        return y_BTD


class Bigram(nn.Module):
    """A hashed table of token pairs, projected to the model's width and scaled."""

    def __init__(self, buckets: int, width: int, model_dim: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.table = Table(buckets, width)
        self.projection = projection(width, model_dim)
        self.scale = nn.Parameter(torch.tensor(0.05))

    def forward(self, x_BT: Tensor, qat: bool = False) -> Tensor:
        """Ids int64 (B, T) -> float32 (B, T, D)."""
        rows = self.table(bigram_bucket(x_BT, self.buckets))
        return (rows if self.projection is None else self.projection(rows, qat)) * self.scale


def projection(width: int, outputs: int) -> Linear | None:
    """Returns the matrix behind a table of `width` columns; None where the table is as wide as what it is added to."""
    return None if width == outputs else Linear(width, outputs)


def bigram_bucket(x_BT: Tensor, buckets: int) -> Tensor:
    """Returns the bucket of each position's (previous, own) pair, int64 (B, T); position 0 has the last bucket."""
    mixed = torch.bitwise_xor(36313 * x_BT[:, 1:], 27191 * x_BT[:, :-1]) % (buckets - 1)
    return F.pad(mixed, (1, 0), value=buckets - 1)


class ValueEmbedding(nn.Module):
    """A table of tokens projected to the width of the values, with one more scale per layer that uses it."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.table = Table(config.vocab_size, width)
        self.projection = projection(width, config.num_kv_heads * config.head_dim)
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.layer_scales = nn.ParameterList(torch.ones(1) for _ in config.value_layers)

    def forward(self, x_BT: Tensor, qat: bool = False) -> Tensor:
        """Ids int64 (B, T) -> float32 (B, T, K * E), before the layer's own scale."""
        rows = self.table(x_BT)
        return (rows if self.projection is None else self.projection(rows, qat)) * self.scale


class SmearGate(nn.Module):
    """Mixes each position with the one before it, per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D); the position before the first is zero."""
        gate = torch.sigmoid(self.gate).to(x_BTD.dtype)
        return (1 - gate) * x_BTD + gate * F.pad(x_BTD[:, :-1], (0, 0, 1, 0))


class InputSmear(nn.Module):
    """Adds to each position a share of the one before it, which its first channels choose."""

    def __init__(self, config: InputSmearConfig) -> None:
        super().__init__()
        self.document_token = config.document_token
        self.gate = nn.Parameter(torch.zeros(1, config.channels))
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, h_BTD: Tensor, x_BT: Tensor) -> Tensor:
        """(B, T, D) and ids int64 (B, T) -> (B, T, D); the first position of a document stays as it is."""
        z_BT1 = F.linear(h_BTD[:, 1:, : self.gate.shape[1]], self.gate.to(h_BTD.dtype))
        share_BT1 = self.scale.to(h_BTD.dtype) * torch.sigmoid(z_BT1)
        if self.document_token is not None:
            share_BT1 = share_BT1 * (x_BT[:, 1:, None] != self.document_token).to(h_BTD.dtype)
        return torch.cat([h_BTD[:, :1], h_BTD[:, 1:] + share_BT1 * h_BTD[:, :-1]], dim=1)


class Block(nn.Module):
    """Attention then MLP, or both in parallel, on a residual stream that is first mixed with the stream's beginning."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_scale = (layer + 1) ** -0.5 if config.depth_scaled_norm else 1.0
        self.is_parallel = config.parallel_from is not None and layer >= config.parallel_from
        self.attention = Attention(config, exclusive=layer >= config.num_layers - config.xsa_layers)
        self.mlp = MLP(config)
        self.attention_scale = nn.Parameter(torch.ones(config.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(config.model_dim))
        mix = torch.zeros(2, config.model_dim)
        mix[0].fill_(1.0)
        self.residual_mix = nn.Parameter(mix)

    def forward(
        self,
        h_BTD: Tensor,
        start_BTD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        extra_value: Tensor | None,
        qat: bool = False,
        last: int | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, S, D) of the `last` S positions, all by default."""
        before = 0 if last is None else h_BTD.shape[1] - last
        mix, width = self.residual_mix.to(h_BTD.dtype), (h_BTD.shape[-1],)
        h_BTD = mix[0] * h_BTD + mix[1] * start_BTD
        normed_BTD = F.rms_norm(h_BTD, width) * self.norm_scale
        attended_BSD = self.attention(normed_BTD, cos_TR, sin_TR, extra_value, qat, last)
        before_BSD = h_BTD[:, before:]
        h_BSD = before_BSD + self.attention_scale.to(h_BTD.dtype) * attended_BSD
        normed_BSD = F.rms_norm(before_BSD if self.is_parallel else h_BSD, width) * self.norm_scale
        return h_BSD + self.mlp_scale.to(h_BSD.dtype) * self.mlp(normed_BSD, qat)
