"""The model: token ids to capped logits or negative log-likelihoods.

The visits of the encoder half store their streams, those of the decoder half add them back through gated skips; the
embedding is tied. A visit is one block, or one turn of a block in the loop. Weights are float32; activations are in
`activation_dtype` (bfloat16 on GPUs). Training, quantisation and the loop are arguments, never module state. Source:
openai/parameter-golf PRs #598 (GEPA) and #1493 (loop, parallel residuals).

Shape letters: B batch, T positions, S the last of them, D model width, V vocabulary.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf.config.config import ModelConfig
from golf.model.layers import (
    Bigram,
    Block,
    InputSmear,
    Linear,
    SmearGate,
    Table,
    ValueEmbedding,
    projection,
    rotary_tables,
)


class GEPA(nn.Module):
    """The whole model; `golf.artifact.published_names` documents the parameters' names."""

    def __init__(self, config: ModelConfig, activation_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.activation_dtype = config, activation_dtype
        embedding_dim = config.embedding_dim or config.model_dim
        self.token_embedding = Table(config.vocab_size, embedding_dim)
        self.embedding_in = projection(embedding_dim, config.model_dim)
        self.embedding_out = projection(config.model_dim, embedding_dim)
        buckets = config.bigram_buckets
        self.bigram = None if buckets is None else Bigram(buckets, config.bigram_dim, config.model_dim)
        self.smear = SmearGate(config.model_dim) if config.smear_gate else None
        self.input_smear = None if config.input_smear is None else InputSmear(config.input_smear)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.num_encoder = config.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(config.num_skips, config.model_dim))
        gates = torch.zeros(config.num_skips, config.model_dim) if config.skips != "added" else None
        self.skip_gates = None if gates is None else nn.Parameter(gates)
        self.value = None if config.value_dim is None else ValueEmbedding(config, config.value_dim)

    def hidden(self, x_BT: Tensor, qat: bool, last: int, looped: bool = True) -> Tensor:
        """Returns the normalised residual stream of the `last` S positions after the last visit, (B, S, D).

        All positions go through the visits but the last one, which computes no more than keys and values for the rest.
        """
        h_BTD = self.token_embedding(x_BT)
        if self.embedding_in is not None:
            h_BTD = self.embedding_in(h_BTD, qat)
        if self.bigram is not None:
            h_BTD = h_BTD + self.bigram(x_BT, qat)
        h_BTD = F.rms_norm(h_BTD.to(self.activation_dtype), (self.config.model_dim,))
        h_BTD = h_BTD if self.smear is None else self.smear(h_BTD)
        start_BTD = h_BTD = h_BTD if self.input_smear is None else self.input_smear(h_BTD, x_BT)
        cos_TR, sin_TR = rotary_tables(
            x_BT.shape[1], self.config.rope_dims, self.config.rope_base, self.config.rope_train_length, x_BT.device
        )
        values = None if self.value is None else self.value(x_BT, qat)
        pushed: list[Tensor] = []
        visits = self.config.visits() if looped else self.config.visits(False)
        num_encoder = len(visits) // 2
        for visit, layer in enumerate(visits):
            if visit >= num_encoder and pushed:
                h_BTD = self._skip(h_BTD, pushed.pop(), visit - num_encoder)
            extra_value = self._extra_value(values, layer, h_BTD.dtype)
            kept_positions = last if visit == len(visits) - 1 else x_BT.shape[1]
            h_BTD = self.blocks[layer](h_BTD, start_BTD, cos_TR, sin_TR, extra_value, qat, kept_positions)
            if visit < num_encoder:
                pushed.append(h_BTD)
        return F.rms_norm(h_BTD, (self.config.model_dim,))

    def _skip(self, h_BTD: Tensor, pushed_BTD: Tensor, index: int) -> Tensor:
        skipped_BTD = self.skip_weights[index].to(h_BTD.dtype) * pushed_BTD
        if self.skip_gates is None:
            return h_BTD + skipped_BTD
        gate = torch.sigmoid(self.skip_gates[index]).to(h_BTD.dtype)
        if self.config.skips == "lerp":
            return torch.lerp(skipped_BTD, h_BTD, gate)
        return gate * h_BTD + (1 - gate) * skipped_BTD

    def _extra_value(self, values: Tensor | None, layer: int, dtype: torch.dtype) -> Tensor | None:
        if self.value is None or values is None or layer not in self.config.value_layers:
            return None
        return (self.value.layer_scales[self.config.value_layers.index(layer)] * values).to(dtype)

    def logits(self, x_BT: Tensor, qat: bool = False, last: int | None = None, looped: bool = True) -> Tensor:
        """Returns capped logits of what follows the `last` S positions, all by default, float32 (B, S, V)."""
        h_BSD = self.hidden(x_BT, qat, x_BT.shape[1] if last is None else last, looped)
        if self.embedding_out is not None:
            h_BSD = self.embedding_out(h_BSD, qat)
        z_BSV = F.linear(h_BSD, self.token_embedding.weight.to(h_BSD.dtype)).float()
        return self.config.logit_softcap * torch.tanh(z_BSV / self.config.logit_softcap)

    def forward(
        self, x_BT: Tensor, y_BS: Tensor, qat: bool = False, reduction: str = "mean", looped: bool = True
    ) -> Tensor:
        """Returns the cross-entropy of the targets `y_BS` of the last S positions of `x_BT` in nats, float32.

        Args: looped: whether the loop is on, for a model that has one.
        Returns: () or, for reduction "none", (B, S).
        """
        logits_BSV = self.logits(x_BT, qat, y_BS.shape[1], looped)
        nll = F.cross_entropy(logits_BSV.flatten(0, 1), y_BS.flatten(), reduction=reduction)
        return nll.view(y_BS.shape) if reduction == "none" else nll


def build_model(config: ModelConfig, seed: int, activation_dtype: torch.dtype = torch.float32) -> GEPA:
    """Returns a model on the CPU with freshly drawn weights, a function of `config` and `seed` alone."""
    model = GEPA(config, activation_dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.token_embedding.weight.normal_(0.0, config.embedding_init_std, generator=generator)
        if model.value is not None:
            model.value.table.weight.normal_(0.0, 0.01, generator=generator)
        for name, module in model.named_modules():
            if isinstance(module, Linear):
                _draw_matrix(module.weight, name, config.num_layers, generator)
    return model


def _draw_matrix(weight_OI: Tensor, name: str, num_layers: int, generator: torch.Generator) -> None:
    """Draws zeros for the two that write to the stream, orthogonal where both sides are >= 64, else uniform."""
    if name.endswith(("attention.output", "mlp.down")):
        weight_OI.zero_()
    elif min(weight_OI.shape) >= 64:
        nn.init.orthogonal_(weight_OI, generator=generator)
        if name.endswith("projection"):
            weight_OI.mul_(1.0 / math.sqrt(2 * num_layers))
    elif name.endswith("projection"):
        weight_OI.zero_()
    else:
        bound = weight_OI.shape[1] ** -0.5
        weight_OI.uniform_(-bound, bound, generator=generator)


def count_parameters(config: ModelConfig, frozen_blocks: int = 0) -> int:
    """Returns the number of trainable parameters with the first `frozen_blocks` blocks frozen; allocates nothing."""
    with torch.device("meta"):
        model = GEPA(config)
    frozen = sum(p.numel() for block in list(model.blocks)[:frozen_blocks] for p in block.parameters())
    return sum(p.numel() for p in model.parameters()) - frozen


def check_weights(config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the weights are exactly those of the model; nothing is allocated for it."""
    if config.num_layers > len(weights):  # before so many layers are built, even without memory
        raise ValueError(f"the model has {config.num_layers:,} layers, but there are only {len(weights)} tensors")
    try:
        with torch.device("meta"):
            wanted = {name: list(parameter.shape) for name, parameter in GEPA(config).named_parameters()}
    except (RuntimeError, TypeError) as error:  # torch's words for sizes beyond 64 bits
        raise ValueError(f"no model has this shape: {str(error)[:200]}") from error
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            raise ValueError(f"tensor {name!r}: the model needs {wanted.get(name)}, there is {shapes.get(name)}")
