"""The configuration of a run: frozen dataclasses of plain values, each with its checks, and the decoder of records.

A `RunConfig` goes to JSON and back without loss. A stage receives only its own part. "Off" is None. Wrong values raise
ValueError naming the field, the rule and the value.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

C = TypeVar("C")

LARGEST_LR = 1e30
"""Largest learning rate; products with it still fit a float32."""
MICRO_BATCHES = 8
"""Slices per optimiser step over all ranks together; the world size divides it, so that no batch depends on it."""


def _check(owner: object, name: str, holds: bool, rule: str) -> None:
    """Raises ValueError naming field, rule and value unless `holds`."""
    if not holds:
        raise ValueError(f"{type(owner).__name__}.{name} must be {rule}, got {getattr(owner, name)!r}")


def _check_positive(owner: object, *names: str) -> None:
    """Raises ValueError unless every named field is above zero and finite."""
    for name in names:
        _check(owner, name, 0 < getattr(owner, name) < math.inf, "above 0 and finite")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Blocks that are visited several times, with the same weights (openai/parameter-golf PR #1394)."""

    first_layer: int = 3
    """First block of the loop, 0-based."""
    last_layer: int = 5
    """Last block of the loop."""
    times: int = 3
    """Visits of each of its blocks; at least 2."""

    def __post_init__(self) -> None:
        _check(self, "first_layer", self.first_layer >= 0, "at least 0")
        _check(self, "last_layer", self.last_layer >= self.first_layer, f"at least first_layer {self.first_layer}")
        _check(self, "times", 2 <= self.times <= 100, "from 2 to 100")


@dataclass(frozen=True, kw_only=True)
class InputSmearConfig:
    """Adds a share of the position before, which the input chooses (KellerJordan/modded-nanogpt; parameter-golf PR
    #1851): x[t] + scale * sigmoid(w . x[t, :channels]) * x[t - 1]."""

    channels: int = 12
    """Channels of the stream that the gate reads."""
    document_token: int | None = 1
    """Token with which a document begins, which takes nothing from the one before; None: no such token."""

    def __post_init__(self) -> None:
        _check_positive(self, "channels")
        _check(self, "document_token", self.document_token is None or self.document_token >= 0, "None or at least 0")


@dataclass(frozen=True, kw_only=True)
class AttentionGateConfig:
    """Multiplies each head's output by sigmoid(scale * w . x[:channels]) of the attention's input (PR #1787)."""

    channels: int = 12
    """Channels of the attention's input that the gate reads."""
    scale: float = 1.0
    """Factor inside the sigmoid, which is not trained; above 0."""

    def __post_init__(self) -> None:
        _check_positive(self, "channels", "scale")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model; the defaults are GEPA's (openai/parameter-golf PR #598)."""

    vocab_size: int = 1024
    """Token ids, 2 to 65,536 (a shard holds uint16)."""
    num_layers: int = 11
    """Blocks; the first `num_layers // 2` are the encoder half. 2 to 1,000."""
    model_dim: int = 512
    """Width of the residual stream; a multiple of `num_heads`."""
    num_heads: int = 8
    """Query heads."""
    num_kv_heads: int = 4
    """Key and value heads; divides `num_heads`."""
    mlp_hidden: int = 1536
    """Hidden width of the MLP."""
    activation: Literal["star_relu", "leaky_relu_squared"] = "star_relu"
    """Of the MLP: s * relu(u)**2 + b with a scale and a bias per channel, or leaky_relu(u, 0.5)**2 without."""
    embedding_dim: int | None = None
    """Width of the tied embedding, projected to `model_dim` and back; None: `model_dim`, without projections."""
    smear_gate: bool = True
    """Mix each position with the one before it at the model's beginning."""
    input_smear: InputSmearConfig | None = None
    """Add a share of the position before at the model's beginning, which the input chooses; None: do not."""
    attention_gate: AttentionGateConfig | None = None
    """Gate the heads' outputs by the attention's input; None: do not."""
    skips: Literal["gated", "lerp", "added"] = "gated"
    """How a skip joins the stream: blended by a gate per channel, the same by torch.lerp (other last bits, as in PR
    #1493), or added without a gate."""
    parallel_from: int | None = None
    """First layer whose attention and MLP read the same stream; None: in every layer the MLP follows the attention."""
    loop: LoopConfig | None = None
    """Blocks that are visited several times; None: every block once."""
    logit_softcap: float = 30.0
    """Logits are cap * tanh(z / cap); above 0."""
    embedding_init_std: float = 0.005
    """Standard deviation of the tied embedding at the start."""
    query_gain_init: float = 1.5
    """Gain per query head at the start."""
    rope_dims: int = 16
    """Rotated dimensions of each head: even, 2 to the head's dimension (not 2 when stretched)."""
    rope_base: float = 10000.0
    """Rotary base; above 1."""
    rope_train_length: int = 1024
    """Sequences longer than this stretch the rotary base (NTK-aware). Tokens."""
    bigram_buckets: int | None = 2048
    """Rows of the bigram hash table, at least 2; None: no bigram table."""
    bigram_dim: int = 128
    """Width of the bigram table before its projection."""
    xsa_layers: int = 4
    """Exclusive self attention on the last so many layers; 0 to `num_layers`."""
    value_dim: int | None = 128
    """Width of the value-embedding table before its projection; None: no value embedding."""
    value_layers: tuple[int, ...] = (9, 10)
    """Layers that add the value embedding, 0-based."""
    depth_scaled_norm: bool = True
    """Multiply each block's normalised input by 1 / sqrt(layer + 1)."""

    def __post_init__(self) -> None:
        _check_positive(self, "model_dim", "num_heads", "num_kv_heads", "mlp_hidden", "logit_softcap", "bigram_dim")
        _check_positive(self, "embedding_init_std", "rope_train_length")
        _check(self, "vocab_size", 2 <= self.vocab_size <= 65536, "from 2 to 65,536")
        _check(self, "num_layers", 2 <= self.num_layers <= 1000, "from 2 to 1,000")
        _check(self, "model_dim", self.model_dim % self.num_heads == 0, f"a multiple of num_heads {self.num_heads}")
        _check(self, "num_kv_heads", self.num_heads % self.num_kv_heads == 0, f"a divisor of {self.num_heads} heads")
        even = self.rope_dims % 2 == 0 and 2 <= self.rope_dims <= self.head_dim
        _check(self, "rope_dims", even, f"even and from 2 to the head's {self.head_dim}")
        _check(self, "rope_base", 1 < self.rope_base < math.inf, "above 1 and finite")
        _check(self, "query_gain_init", math.isfinite(self.query_gain_init), "finite")
        _check(self, "bigram_buckets", self.bigram_buckets is None or self.bigram_buckets >= 2, "None or at least 2")
        _check(self, "xsa_layers", 0 <= self.xsa_layers <= self.num_layers, f"from 0 to {self.num_layers}")
        _check(self, "activation", self.activation in ("star_relu", "leaky_relu_squared"), "one of the two named")
        _check(self, "embedding_dim", self.embedding_dim is None or self.embedding_dim > 0, "None or above 0")
        _check(self, "skips", self.skips in ("gated", "lerp", "added"), '"gated", "lerp" or "added"')
        parallel = self.parallel_from is None or 0 <= self.parallel_from <= self.num_layers
        _check(self, "parallel_from", parallel, f"None or from 0 to {self.num_layers}")
        inside = self.loop is None or self.loop.last_layer < self.num_layers
        _check(self, "loop", inside, f"of layers below {self.num_layers}")
        for name in ("input_smear", "attention_gate"):
            gate = getattr(self, name)
            _check(self, name, gate is None or gate.channels <= self.model_dim, f"of at most {self.model_dim} channels")
        _check(self, "value_dim", self.value_dim is None or self.value_dim > 0, "None or above 0")
        inside = all(0 <= layer < self.num_layers for layer in self.value_layers)
        ascending = list(self.value_layers) == sorted(set(self.value_layers))
        _check(self, "value_layers", inside and ascending, f"ascending layers below {self.num_layers}")

    @property
    def head_dim(self) -> int:
        """Dimensions of one head."""
        return self.model_dim // self.num_heads

    def visits(self, looped: bool = True) -> tuple[int, ...]:
        """Returns the layers in the order in which they are visited. Args: looped: whether the loop is on."""
        every = range(self.num_layers)
        if self.loop is None or not looped:
            return tuple(every)
        first, after = self.loop.first_layer, self.loop.last_layer + 1
        return (*every[:first], *(tuple(every[first:after]) * self.loop.times), *every[after:])

    @property
    def num_skips(self) -> int:
        """Skips from the encoder half of the visits to the decoder half."""
        return len(self.visits()) // 2


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How the training stream is cut into steps."""

    tokens_per_step: int = 786_432
    """Target tokens of one optimiser step over all ranks; a multiple of 8 * `sequence_length`."""
    sequence_length: int = 2048
    """Tokens of one training sequence."""
    order: Literal["stream", "shuffled"] = "stream"
    """Slices of the shards one after the other, or whole sequences in an order drawn by `data_seed`."""
    data_seed: int = 0
    """Seed of the shuffled order, whatever the model's seed and the number of ranks; at least 0."""

    def __post_init__(self) -> None:
        _check_positive(self, "tokens_per_step", "sequence_length")
        _check(self, "order", self.order in ("stream", "shuffled"), '"stream" or "shuffled"')
        _check(self, "data_seed", 0 <= self.data_seed < 2**32, "from 0 to below 2**32")
        unit = MICRO_BATCHES * self.sequence_length
        rule = f"a multiple of {MICRO_BATCHES} micro-batches * sequence_length {self.sequence_length} = {unit}"
        _check(self, "tokens_per_step", self.tokens_per_step % unit == 0, rule)

    @property
    def slice_tokens(self) -> int:
        """Target tokens of one micro-batch on one rank."""
        return self.tokens_per_step // MICRO_BATCHES


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """What changes from step to step; `golf.config.schedule` turns it into one row of numbers a step."""

    steps: int = 7000
    """Optimiser steps; 1 to 10,000,000."""
    warmdown_start: int = 3500
    """First step whose learning rate may be below its peak; from 0 to below `steps`."""
    warmdown_fraction: float | None = None
    """Last share of the steps over which the learning rate falls, in place of `warmdown_start`; above 0, at most 1."""
    warmdown_shape: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls from 1 at `warmdown_start` to 0 at `steps`."""
    least_lr_scale: float = 0.0
    """Share of the peak learning rate below which it does not fall; 0 to 1."""
    loop_start: float | None = None
    """Share of the steps after which the model's loop is on; 0 to 1. None: from the first step on."""
    decay_taper_start: float | None = None
    """Share of the steps from which Muon's weight decay changes linearly; 0 to below 1. None: it does not change."""
    decay_taper_end: float = 0.5
    """Factor on Muon's weight decay that the taper ends with after the last step; at least 0."""
    momentum_start: float = 0.92
    """Muon's momentum at step 0; 0 to below 1."""
    momentum_end: float = 0.99
    """Muon's momentum from step `momentum_steps` on; 0 to below 1."""
    momentum_steps: int = 1500
    """Steps over which Muon's momentum rises linearly; at least 1."""
    qat_threshold: float | None = 0.15
    """Fake-quantise the weights from the first step whose LR scale is below this; None: never."""
    averaging: Literal["ema", "swa", "none"] = "ema"
    """Which average of the weights is quantised: every step's, snapshots' of the last half, or the last weights."""
    ema_decay: float = 0.997
    """Decay of the exponential moving average per step; 0 to below 1."""
    swa_every: int = 50
    """Steps between the snapshots that "swa" averages; at least 1."""

    def __post_init__(self) -> None:
        _check_positive(self, "momentum_steps", "swa_every")
        _check(self, "steps", 1 <= self.steps <= 10_000_000, "from 1 to 10,000,000")
        inside = self.warmdown_fraction is not None or self.warmdown_start < self.steps
        _check(self, "warmdown_start", self.warmdown_start >= 0 and inside, f"from 0 to below steps {self.steps}")
        right = self.warmdown_fraction is None or 0 < self.warmdown_fraction <= 1
        _check(self, "warmdown_fraction", right, "None or in (0, 1]")
        _check(self, "least_lr_scale", 0 <= self.least_lr_scale <= 1, "from 0 to 1")
        _check(self, "loop_start", self.loop_start is None or 0 <= self.loop_start <= 1, "None or from 0 to 1")
        taper = self.decay_taper_start
        _check(self, "decay_taper_start", taper is None or 0 <= taper < 1, "None or from 0 to below 1")
        _check(self, "decay_taper_end", 0 <= self.decay_taper_end < math.inf, "at least 0 and finite")
        _check(self, "warmdown_shape", self.warmdown_shape in ("cosine", "linear"), '"cosine" or "linear"')
        _check(self, "averaging", self.averaging in ("ema", "swa", "none"), '"ema", "swa" or "none"')
        for name in ("momentum_start", "momentum_end", "ema_decay"):
            _check(self, name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        _check(self, "qat_threshold", self.qat_threshold is None or 0 < self.qat_threshold <= 1, "None or in (0, 1]")

    @property
    def first_falling_step(self) -> int:
        """First step whose learning rate may be below its peak."""
        if self.warmdown_fraction is None:
            return self.warmdown_start
        return min(math.ceil(self.steps * (1.0 - self.warmdown_fraction)), self.steps - 1)


@dataclass(frozen=True, kw_only=True)
class WeightDecayConfig:
    """Decoupled weight decay by group; one number stands for all three."""

    matrices: float = 0.04
    """Muon's."""
    embedding: float = 0.04
    """The token embedding's."""
    others: float = 0.04
    """The vectors', scales' and other tables'."""

    def __post_init__(self) -> None:
        for name in ("matrices", "embedding", "others"):
            _check(self, name, 0 <= getattr(self, name) < math.inf, "at least 0 and finite")

    @classmethod
    def of_number(cls, value: float) -> "WeightDecayConfig":
        """Returns the same decay for all groups."""
        return cls(matrices=value, embedding=value, others=value)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Muon for the matrices, AdamW for the rest."""

    matrix_lr: float = 0.025
    """Muon's learning rate of the encoder's matrices and the bigram projection."""
    scalar_lr: float = 0.025
    """AdamW's learning rate of the encoder's vectors and of the tables, gates and skips."""
    embedding_lr: float = 0.035
    """AdamW's learning rate of the token embedding."""
    decoder_lr_multiplier: float = 2.0
    """Factor on both learning rates for the decoder's blocks."""
    weight_decay: WeightDecayConfig = field(default_factory=WeightDecayConfig)
    """Decoupled weight decay of both optimisers, by group; a number is that of all groups."""
    beta1: float = 0.9
    """AdamW's first decay; 0 to below 1."""
    beta2: float = 0.95
    """AdamW's second decay; 0 to below 1."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    muon_row_norm: bool = False
    """Divide each row of Muon's momentum by its norm before the orthogonalisation (MuonEq-R, PR #1394)."""
    newton_schulz_steps: int = 5
    """Muon's orthogonalisation iterations; at least 1, with "polar_express" at most 5."""
    newton_schulz: Literal["jordan", "polar_express"] = "jordan"
    """Their coefficients: the same in all (Jordan et al. 2024), or others in each (Amsel et al. 2025)."""
    gradient_clip: float = 0.3
    """Largest global gradient norm; above 0."""

    def __post_init__(self) -> None:
        _check_positive(self, "decoder_lr_multiplier", "epsilon", "newton_schulz_steps", "gradient_clip")
        known = self.newton_schulz in ("jordan", "polar_express")
        _check(self, "newton_schulz", known, '"jordan" or "polar_express"')
        few = self.newton_schulz == "jordan" or self.newton_schulz_steps <= 5
        _check(self, "newton_schulz_steps", few, 'at most 5 with newton_schulz "polar_express"')
        for name in ("matrix_lr", "scalar_lr", "embedding_lr"):
            _check(self, name, 0 < getattr(self, name) <= LARGEST_LR, f"above 0 and at most {LARGEST_LR}")
        for name in ("beta1", "beta2"):
            _check(self, name, 0 <= getattr(self, name) < 1, "from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The integer grid of one tensor group."""

    bits: int = 6
    """Bits of a code, 4 to 8: codes run from -2**(bits-1) to 2**(bits-1) - 1."""
    symmetric: bool = False
    """Leave out the smallest code, so that the codes of both signs are as many."""
    per_row: bool = True
    """One float16 scale per row; False: one per tensor."""
    clip: Literal["percentile", "deviations", "sample_deviations"] = "percentile"
    """How the largest kept magnitude is chosen: least squared error over `percentiles`, or k standard deviations, with
    n or with n - 1."""
    percentiles: tuple[float, ...] = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
    """Quantiles of |w| tried as the clip, each in (0, 1]; (1.0,) is the largest magnitude."""
    deviations: float = 12.85
    """k: the clip is k standard deviations of the row, where `clip` says so; above 0. A larger k is a coarser grid,
    whose codes compress better, also beyond the row's largest magnitude."""
    scale_floor: float | None = None
    """Smallest scale of a row, above 0; None: as small as float16 allows. A floor costs precision and saves bytes."""
    method: Literal["clip", "gptq"] = "clip"
    """How codes are chosen on the scales of the clip search: the nearest, or by GPTQ, which rounds a column after the
    other and corrects the rest for what was lost, by the matrix's inputs on training data. Not for the tables."""

    def __post_init__(self) -> None:
        _check(self, "method", self.method in ("clip", "gptq"), '"clip" or "gptq"')
        _check(self, "bits", 4 <= self.bits <= 8, "from 4 to 8")
        clips = ("percentile", "deviations", "sample_deviations")
        _check(self, "clip", self.clip in clips, '"percentile", "deviations" or "sample_deviations"')
        inside = len(self.percentiles) > 0 and all(0 < p <= 1 for p in self.percentiles)
        _check(self, "percentiles", inside, "at least one quantile in (0, 1]")
        _check_positive(self, "deviations")
        floor = self.scale_floor
        _check(self, "scale_floor", floor is None or 0 < floor <= 1, "None or in (0, 1]")


RECORD_INT6 = GridConfig(bits=6, scale_floor=1 / 31)
"""The record's grid of the matrices, which late QAT trains against: steps of 1/31 unless a weight is over 1."""
RECORD_INT8 = GridConfig(bits=8, per_row=False, percentiles=(1.0,))
"""The record's grid of the tables: the largest magnitude of the tensor."""


@dataclass(frozen=True, kw_only=True)
class CorrectionConfig:
    """A low-rank correction of the matrices that quantisation hurts most (LQER, arXiv 2402.02446; PR #1797)."""

    rank: int = 4
    """Singular directions of the error that are kept."""
    matrices: int = 3
    """How many matrices are corrected: those with the largest norm of the error."""
    group: int = 64
    """Numbers of the right factor (4 bits) that share a scale; the left factor (2 bits) has one."""

    def __post_init__(self) -> None:
        _check_positive(self, "rank", "matrices", "group")


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """The quantisation split and the codec. The defaults are the record's mixed int6/int8 split."""

    attention: GridConfig = RECORD_INT6
    """Query, key, value and output matrices."""
    mlp: GridConfig = RECORD_INT6
    """Up and down matrices."""
    token_embedding: GridConfig = RECORD_INT8
    """The tied embedding."""
    tables: GridConfig = RECORD_INT8
    """Bigram and value-embedding tables and their projections."""
    float_elements: int = 65_536
    """Tensors of at most so many elements stay floating point."""
    control_dtype: Literal["float32", "float16"] = "float32"
    """Type of the small control tensors: scales, mixes, gains, gates, skips, bigram and value-embedding parts."""
    other_dtype: Literal["float32", "float16"] = "float16"
    """Type of the other small tensors."""
    codec: Literal["rans", "zstd"] = "rans"
    """Compressor; "rans" models the codes by row and column and needs no package. A missing one is an error, never
    replaced."""
    level: int | None = None
    """Compression level: zstd 1 to 22, rans 0 to 9 for what is not codes; None: the strongest."""
    calibration_tokens: int = 65_536
    """Tokens of the training stream on which GPTQ measures the matrices' inputs, in sequences drawn by the seed."""
    damping: float = 0.01
    """Share of the inputs' mean square that GPTQ adds to each; above 0. Much gives the nearest codes."""
    correction: CorrectionConfig | None = None
    """Low-rank correction of the worst matrices; None: none."""

    @property
    def grids(self) -> dict[str, GridConfig]:
        """The grid of each tensor group."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.type is GridConfig}

    @property
    def calibrated(self) -> bool:
        """Whether packing reads training data."""
        return "gptq" in (self.attention.method, self.mlp.method, self.token_embedding.method)

    def __post_init__(self) -> None:
        _check(self, "float_elements", self.float_elements >= 0, "at least 0")
        _check_positive(self, "calibration_tokens", "damping")
        rule = 'of method "clip" (what is only looked up has no inputs to calibrate on)'
        _check(self, "tables", self.tables.method == "clip", rule)
        for name in ("control_dtype", "other_dtype"):
            _check(self, name, getattr(self, name) in ("float32", "float16"), '"float32" or "float16"')
        _check(self, "codec", self.codec in ("rans", "zstd"), '"rans" or "zstd"')
        low, high = (1, 22) if self.codec == "zstd" else (0, 9)
        right = self.level is None or low <= self.level <= high
        _check(self, "level", right, f"None or from {low} to {high} for codec {self.codec}")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Sliding-window scoring."""

    sequence_length: int = 2048
    """Tokens of one window."""
    stride: int = 64
    """Tokens that each window after the first scores; 1 to `sequence_length`."""
    batch_windows: int | None = None
    """Windows of one forward pass; None: as many as suit the device."""
    chunk_tokens: int = 32_768
    """Tokens of one chunk of the stream; sums are kept per chunk, and TTT trains on one after scoring it."""

    def __post_init__(self) -> None:
        _check_positive(self, "sequence_length", "chunk_tokens")
        _check(self, "batch_windows", self.batch_windows is None or self.batch_windows > 0, "None or above 0")
        _check(self, "stride", 1 <= self.stride <= self.sequence_length, f"from 1 to {self.sequence_length}")
        long_enough = self.chunk_tokens >= self.sequence_length
        _check(self, "chunk_tokens", long_enough, f"at least sequence_length {self.sequence_length}")


@dataclass(frozen=True, kw_only=True)
class TTTConfig:
    """Legal score-first test-time training (TTT): every token is scored before any update that saw it."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """The optimiser; "sgd" has momentum, "adamw" the usual betas and no weight decay."""
    lr: float = 0.002
    """Learning rate at the first chunk; 0 to 1e30."""
    epochs: int = 10
    """Passes over each scored chunk; at least 0."""
    momentum: float = 0.9
    """SGD's momentum, carried over the chunks; 0 to below 1."""
    frozen_blocks: int = 2
    """The first so many blocks are not trained; the embeddings are."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; above 0."""
    batch_sequences: int = 32
    """Sequences of one update, over all ranks."""
    warmup_fraction: float = 0.0
    """Share of the chunks over which the learning rate rises linearly from 0; 0 to below 1."""
    qat: bool = False
    """Fake-quantise the weights while adapting."""

    def __post_init__(self) -> None:
        _check(self, "optimizer", self.optimizer in ("sgd", "adamw"), '"sgd" or "adamw"')
        _check(self, "lr", 0 <= self.lr <= LARGEST_LR, f"from 0 to {LARGEST_LR}")
        for name in ("epochs", "frozen_blocks"):
            _check(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("momentum", "warmup_fraction"):
            _check(self, name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        _check_positive(self, "gradient_clip", "batch_sequences")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, from its seed to its last score."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model's shape."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """The training stream."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Steps and what changes over them."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Muon and AdamW."""
    quant: QuantConfig = field(default_factory=QuantConfig)
    """The quantisation split."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """Windows and chunks of the evaluation."""
    ttt: TTTConfig | None = field(default_factory=TTTConfig)
    """Test-time training; None: the ladder ends with sliding windows."""
    seed: int = 42
    """Seed of the initial weights; at least 0."""
    cap_bytes: int = 16_000_000
    """Largest artifact: code bytes + model bytes, decimal."""
    validate_every: int | None = 500
    """Steps between validations by plain windows during training; None: none."""
    compile: bool | None = None
    """Compile the model with torch.compile; None: on GPUs. On a CPU it needs a C++ compiler and pays for long runs."""

    def __post_init__(self) -> None:
        _check(self, "seed", 0 <= self.seed < 2**63, "from 0 to below 2**63")
        _check_positive(self, "cap_bytes")
        _check(self, "validate_every", self.validate_every is None or self.validate_every > 0, "None or above 0")
        frozen = 0 if self.ttt is None else self.ttt.frozen_blocks
        longest = max(self.batch.sequence_length, self.score.sequence_length)
        stretched = longest > self.model.rope_train_length
        rule = f"above 2 where sequences ({longest}) are longer than rope_train_length {self.model.rope_train_length}"
        _check(self.model, "rope_dims", self.model.rope_dims > 2 or not stretched, rule)
        rule = f"at most model.num_layers {self.model.num_layers}"
        looped = self.schedule.loop_start is None or self.model.loop is not None
        _check(self.schedule, "loop_start", looped, "None where model.loop is None")
        if self.ttt is not None:
            _check(self.ttt, "frozen_blocks", frozen <= self.model.num_layers, rule)


def nearest(word: str, names: Iterable[str]) -> str:
    """Returns the end of an error message: the nearest right name, and all names."""
    known = sorted(names)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return (f'; did you mean "{close[0]}"?' if close else "") + f" (known: {', '.join(known)})"


def to_plain(record: Any) -> dict[str, Any]:
    """Returns a configuration or a result as nested dictionaries of JSON values; a tuple becomes a list."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(record))))


LATER_MODEL_FIELDS = (
    *("activation", "embedding_dim", "smear_gate", "skips", "parallel_from", "loop", "input_smear"),
    "attention_gate",
)
"""Fields of ModelConfig that came after the first artifacts, whose bytes stay as they are."""


def plain_shape(model: ModelConfig) -> dict[str, Any]:
    """Returns a model's shape as JSON values: fields that the format had not at first are in it where they are set."""
    plain, default = to_plain(model), to_plain(ModelConfig())
    return {name: value for name, value in plain.items() if name not in LATER_MODEL_FIELDS or value != default[name]}


def from_plain(kind: type[C], values: Mapping[str, Any], path: str = "", base: C | None = None) -> C:
    """Returns a record of the dataclass `kind` from nested dictionaries.

    Args:
        kind: the dataclass.
        values: as `to_plain` made them; at any depth, a field that is left out has its value from `base`.
        path: dotted name of this part with a dot at its end, for messages.
        base: where missing fields come from; by default those that have a default get it.

    Raises: ValueError on an unknown field (with the nearest right name), a missing one or a wrong value.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path[:-1] or kind.__name__} must be an object with fields, got {values!r}")
    hints, known = _hints(typing.cast(Any, kind)), {}
    for name in values:
        if name not in hints:
            raise ValueError(f'unknown field "{path}{name}" of {kind.__name__}{nearest(name, hints)}')
    for each in dataclasses.fields(typing.cast(Any, kind)):
        if base is not None:
            known[each.name] = getattr(base, each.name)
        elif each.default_factory is not dataclasses.MISSING:
            known[each.name] = each.default_factory()
        elif each.default is not dataclasses.MISSING:
            known[each.name] = each.default
        elif each.name not in values:
            raise ValueError(f'missing field "{path}{each.name}" of {kind.__name__}')
    return kind(**known | {n: _coerce(hints[n], value, path + n, known.get(n)) for n, value in values.items()})


def _coerce(hint: Any, value: Any, path: str, base: Any = None) -> Any:
    """Returns `value` as the type `hint`; ValueError names the field. A nested part takes the rest from `base`."""
    if isinstance(hint, types.UnionType):
        inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        return None if value is None else _coerce(inner, value, path, base)
    if hint is WeightDecayConfig and isinstance(value, (int, float)) and not isinstance(value, bool):
        return WeightDecayConfig.of_number(_coerce(float, value, path))
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast(type, hint), value, path + ".", base)
    if typing.get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        parts = typing.get_args(hint)
        parts = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(parts) != len(value):
            raise ValueError(f"{path} must have {len(parts)} items, got {value!r}")
        return tuple(_coerce(part, item, path) for part, item in zip(parts, value, strict=True))
    if typing.get_origin(hint) is Literal and value in typing.get_args(hint):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{path} must fit a float, got an integer of {len(str(value)):,} digits") from error
    if hint in (int, bool, str) and type(value) is hint:
        return value
    wanted = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise ValueError(f"{path} must be of type {wanted}, got {value!r}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def typed_value(path: str, value: Any) -> Any:
    """Returns `value` as the type of the field at the dotted `path`, whatever the other fields are.

    Raises: ValueError on an unknown field (with the nearest right name) or a value of another type.
    """
    hint: Any = RunConfig
    for name in path.split("."):
        if isinstance(hint, types.UnionType):
            hint = typing.get_args(hint)[0]
        hints = _hints(typing.cast(Any, hint)) if dataclasses.is_dataclass(hint) else {}
        if name not in hints:
            raise ValueError(f'unknown field "{path}"{nearest(name, hints)}')
        hint = hints[name]
    return _coerce(hint, value, path)


def override(config: RunConfig, path: str, value: Any) -> RunConfig:
    """Returns `config` with the field at the dotted `path` set, e.g. ("schedule.steps", 9000).

    Raises: ValueError on an unknown field (with the nearest right name) or a wrong value.
    """
    return override_all(config, {path: value})


def override_all(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns `config` with every dotted field set at once, checked only when all are set."""
    plain = to_plain(config)
    for path, value in values.items():
        *parents, last = path.split(".")
        part: Any = plain
        for depth, name in enumerate(parents):
            if not isinstance(part, dict) or name not in part:
                known = part if isinstance(part, dict) else ()
                raise ValueError(f'unknown field "{".".join(parents[: depth + 1])}"{nearest(name, known)}')
            part = part[name]
        if part is None and parents:
            owner = ".".join(parents)
            raise ValueError(
                f'{path}: {owner} is None here; set it whole, as in {owner}={{"{last}":{json.dumps(value)}}}'
            )
        if not isinstance(part, dict) or last not in part:
            known = part if isinstance(part, dict) else ()
            raise ValueError(f'unknown field "{path}"{nearest(last, known)}')
        part[last] = value
    return from_plain(RunConfig, plain)
