"""Configurations and quantisation splits by name.

`pr598` follows the published record's text, `pr598-log` what its log shows, `pr668` its longer successor (pull
requests of openai/parameter-golf), `pr1394` and `pr1493` the records of April 2026 in steps instead of seconds (the
first without test-time training); `demo` and
`demo-april` are models for two CPU cores whose small byte cap decides between splits.
"""

from dataclasses import replace
from typing import Literal

from golf.config.config import (
    RECORD_INT6,
    RECORD_INT8,
    BatchConfig,
    GridConfig,
    LoopConfig,
    ModelConfig,
    OptimizerConfig,
    QuantConfig,
    RunConfig,
    ScheduleConfig,
    ScoreConfig,
    TTTConfig,
    WeightDecayConfig,
    nearest,
)


def _grid(bits: int, method: Literal["clip", "gptq"] = "clip") -> GridConfig:
    """Returns the record's grid with so many bits: clip search per row and the scale's floor; at 8 its int8."""
    record = RECORD_INT8 if bits == 8 else replace(RECORD_INT6, bits=bits, scale_floor=1 / (2 ** (bits - 1) - 1))
    return replace(record, method=method)


def _split(
    attention: int, mlp: int, embedding: int, tables: int, method: Literal["clip", "gptq"] = "clip"
) -> QuantConfig:
    """Returns the split with these bits per tensor group, and the method of attention and MLP."""
    return QuantConfig(
        attention=_grid(attention, method),
        mlp=_grid(mlp, method),
        token_embedding=_grid(embedding),
        tables=_grid(tables),
    )


SPLITS: dict[str, QuantConfig] = {
    "mixed-int6-int8": _split(6, 6, 8, 8),
    "pure-int6": _split(6, 6, 6, 6),
    "int5-mlp": _split(6, 5, 8, 8),
    "int8": _split(8, 8, 8, 8),
    "int4": _split(4, 4, 6, 6),
    "mixed-int6-int8-gptq": _split(6, 6, 8, 8, "gptq"),
    "int5-mlp-gptq": _split(6, 5, 8, 8, "gptq"),
}
"""The record's split first; bits of attention, MLP, token embedding, bigram and value tables."""

_GROUPS = ("attention", "mlp", "token_embedding", "tables")

_APRIL_GRID = GridConfig(bits=6, symmetric=True, clip="sample_deviations", deviations=12.85, method="gptq")
APRIL_QUANT = QuantConfig(
    attention=_APRIL_GRID,
    mlp=_APRIL_GRID,
    token_embedding=replace(_APRIL_GRID, bits=8, deviations=20.0),
    control_dtype="float16",
    calibration_tokens=64 * 98_304,
)
APRIL_MODEL = ModelConfig(
    vocab_size=8192,
    mlp_hidden=2048,
    activation="leaky_relu_squared",
    smear_gate=False,
    skips="lerp",
    query_gain_init=5.25,
    rope_train_length=2048,
    bigram_buckets=None,
    xsa_layers=11,
    value_dim=None,
    value_layers=(),
    parallel_from=7,
    loop=LoopConfig(first_layer=3, last_layer=5, times=3),
)
APRIL_BATCH = BatchConfig(order="shuffled")
DEMO_BATCH = BatchConfig(tokens_per_step=2048, sequence_length=256, order="shuffled")
"""Shuffled, because the few steps of a demo would else see the first pages of the text only."""
APRIL_OPTIMIZER = OptimizerConfig(
    matrix_lr=0.022,
    scalar_lr=0.02,
    embedding_lr=0.03,
    decoder_lr_multiplier=1.0,
    weight_decay=WeightDecayConfig(matrices=0.095, embedding=0.085, others=0.02),
    muon_row_norm=True,
)
APRIL_SCHEDULE = ScheduleConfig(
    steps=4550,
    warmdown_fraction=0.72,
    warmdown_shape="linear",
    qat_threshold=None,
    ema_decay=0.9965,
    loop_start=0.35,
)

_PR668_CLIP = tuple(round(0.990 + 0.010 * step / 14, 6) for step in range(15))
_PR668_GRID = replace(RECORD_INT6, percentiles=_PR668_CLIP)

PRESETS: dict[str, RunConfig] = {
    "demo": RunConfig(
        model=ModelConfig(
            num_layers=4,
            model_dim=96,
            num_heads=4,
            num_kv_heads=2,
            mlp_hidden=288,
            rope_dims=8,
            rope_train_length=256,
            bigram_buckets=1024,
            bigram_dim=64,
            xsa_layers=2,
            value_dim=32,
            value_layers=(2, 3),
        ),
        batch=DEMO_BATCH,
        schedule=ScheduleConfig(
            steps=200,
            warmdown_start=30,
            warmdown_shape="linear",
            momentum_steps=60,
            momentum_end=0.95,
            ema_decay=0.9,
            swa_every=10,
        ),
        quant=replace(_split(6, 6, 6, 6), float_elements=4096, calibration_tokens=32_768),
        score=ScoreConfig(sequence_length=256, stride=128, chunk_tokens=4096),
        ttt=TTTConfig(lr=0.01, epochs=2, frozen_blocks=1),
        cap_bytes=370_000,
        validate_every=None,
    ),
    "pr598": RunConfig(),
    "pr598-log": RunConfig(schedule=ScheduleConfig(warmdown_shape="linear")),
    "pr668": RunConfig(
        model=ModelConfig(rope_train_length=2048),
        schedule=ScheduleConfig(steps=30_000, warmdown_start=12_000, qat_threshold=None),
        quant=QuantConfig(attention=_PR668_GRID, mlp=_PR668_GRID, token_embedding=_PR668_GRID, tables=_PR668_GRID),
        ttt=TTTConfig(warmup_fraction=0.05),
    ),
    "pr1493": RunConfig(
        model=APRIL_MODEL,
        batch=APRIL_BATCH,
        schedule=APRIL_SCHEDULE,
        optimizer=APRIL_OPTIMIZER,
        quant=APRIL_QUANT,
        ttt=TTTConfig(lr=0.005, epochs=3, frozen_blocks=0),
    ),
    "pr1394": RunConfig(
        model=replace(
            APRIL_MODEL,
            query_gain_init=4.0,
            parallel_from=None,
            loop=LoopConfig(first_layer=4, last_layer=5, times=3),
        ),
        batch=APRIL_BATCH,
        schedule=replace(APRIL_SCHEDULE, steps=4990, warmdown_fraction=0.667, ema_decay=0.997, loop_start=0.5),
        optimizer=replace(
            APRIL_OPTIMIZER,
            matrix_lr=0.02,
            weight_decay=WeightDecayConfig(matrices=0.085, embedding=0.085, others=0.02),
        ),
        quant=APRIL_QUANT,
        ttt=None,
    ),
    "demo-april": RunConfig(
        model=replace(
            APRIL_MODEL,
            vocab_size=1024,
            num_layers=4,
            model_dim=96,
            num_heads=4,
            num_kv_heads=2,
            mlp_hidden=384,
            rope_dims=8,
            rope_train_length=256,
            xsa_layers=4,
            parallel_from=3,
            loop=LoopConfig(first_layer=1, last_layer=2, times=2),
        ),
        batch=DEMO_BATCH,
        schedule=replace(APRIL_SCHEDULE, steps=200, momentum_steps=60, momentum_end=0.95, ema_decay=0.9),
        optimizer=APRIL_OPTIMIZER,
        quant=replace(APRIL_QUANT, float_elements=4096, calibration_tokens=32_768),
        score=ScoreConfig(sequence_length=256, stride=128, chunk_tokens=4096),
        ttt=TTTConfig(lr=0.01, epochs=2, frozen_blocks=0),
        cap_bytes=270_000,
        validate_every=None,
    ),
}


DEMO_PRESETS = ("demo", "demo-april")
"""Presets for which the built-in text is enough data."""


def find_preset(name: str) -> RunConfig:
    """Returns the preset called `name`; ValueError with the nearest right name."""
    if name not in PRESETS:
        raise ValueError(f'unknown preset "{name}"{nearest(name, PRESETS)}')
    return PRESETS[name]


def with_split(config: RunConfig, name: str) -> RunConfig:
    """Returns `config` with the grids of the split called `name`; float tensors, codec and calibration stay."""
    return with_grids(config, find_split(name))


def with_grids(config: RunConfig, quant: QuantConfig) -> RunConfig:
    """Returns `config` with the grids of `quant`; float tensors, codec and calibration stay."""
    return replace(config, quant=replace(config.quant, **{group: getattr(quant, group) for group in _GROUPS}))


def find_split(name: str) -> QuantConfig:
    """Returns the quantisation split called `name`; ValueError with the nearest right name."""
    if name not in SPLITS:
        raise ValueError(f'unknown split "{name}"{nearest(name, SPLITS)}')
    return SPLITS[name]
