"""Configurations: whatever is accepted goes through JSON unchanged, whatever is wrong is named."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.config import (
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
    from_plain,
    override,
    override_all,
    to_plain,
)

SIZES = st.integers(1, 10**6)
POSITIVE = st.floats(1e-30, 1e30)
SHARES = st.floats(0, 1, exclude_max=True)
LEVELS: dict[Literal["rans", "zstd"], tuple[int, int]] = {"rans": (0, 9), "zstd": (1, 22)}


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    """Any model shape that the documented ranges allow."""
    kv_heads, group, head_dim = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(2, 128))
    layers, rope_dims = draw(st.integers(2, 30)), 2 * draw(st.integers(1, head_dim // 2))
    return ModelConfig(
        vocab_size=draw(st.integers(2, 65536)),
        num_layers=layers,
        model_dim=kv_heads * group * head_dim,
        num_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        mlp_hidden=draw(SIZES),
        activation=draw(st.sampled_from(["star_relu", "leaky_relu_squared"])),
        embedding_dim=draw(st.none() | SIZES),
        smear_gate=draw(st.booleans()),
        skips=draw(st.sampled_from(["gated", "lerp", "added"])),
        parallel_from=draw(st.none() | st.integers(0, layers)),
        loop=draw(st.none() | loops(layers)),
        logit_softcap=draw(POSITIVE),
        embedding_init_std=draw(POSITIVE),
        query_gain_init=draw(st.floats(-1e9, 1e9)),
        rope_dims=rope_dims,
        rope_base=draw(st.floats(1, 1e9, exclude_min=True)),
        rope_train_length=10**7 if rope_dims == 2 else draw(SIZES),  # two dimensions cannot be stretched
        bigram_buckets=draw(st.none() | st.integers(2, 10**6)),
        bigram_dim=draw(SIZES),
        xsa_layers=draw(st.integers(0, layers)),
        value_dim=draw(st.none() | SIZES),
        value_layers=tuple(sorted(draw(st.sets(st.integers(0, layers - 1), min_size=1)))),
        depth_scaled_norm=draw(st.booleans()),
    )


@st.composite
def loops(draw: st.DrawFn, layers: int) -> LoopConfig:
    """Any loop inside so many layers."""
    first = draw(st.integers(0, layers - 1))
    return LoopConfig(first_layer=first, last_layer=draw(st.integers(first, layers - 1)), times=draw(st.integers(2, 9)))


@st.composite
def batches(draw: st.DrawFn) -> BatchConfig:
    """Any cut of the stream whose sequences fill the micro-batches."""
    length, rows = draw(SIZES), draw(st.integers(1, 1000))
    return BatchConfig(tokens_per_step=8 * length * rows, sequence_length=length)


@st.composite
def schedules(draw: st.DrawFn, looped: bool) -> ScheduleConfig:
    """Any schedule whose warmdown starts before its end. Args: looped: whether there is a loop to be switched on."""
    steps = draw(SIZES)
    return ScheduleConfig(
        steps=steps,
        warmdown_start=draw(st.integers(0, steps - 1)),
        warmdown_fraction=draw(st.none() | st.floats(0, 1, exclude_min=True)),
        warmdown_shape=draw(st.sampled_from(["cosine", "linear"])),
        least_lr_scale=draw(st.floats(0, 1)),
        loop_start=draw(st.none() | st.floats(0, 1)) if looped else None,
        momentum_start=draw(SHARES),
        momentum_end=draw(SHARES),
        momentum_steps=draw(SIZES),
        qat_threshold=draw(st.none() | st.floats(0, 1, exclude_min=True)),
        averaging=draw(st.sampled_from(["ema", "swa", "none"])),
        ema_decay=draw(SHARES),
        swa_every=draw(SIZES),
    )


def grids() -> st.SearchStrategy[GridConfig]:
    """Any integer grid."""
    return st.builds(
        GridConfig,
        bits=st.integers(4, 8),
        per_row=st.booleans(),
        clip=st.sampled_from(["percentile", "deviations"]),
        percentiles=st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=5).map(tuple),
        deviations=POSITIVE,
        scale_floor=st.none() | st.floats(0, 1, exclude_min=True),
    )


@st.composite
def splits(draw: st.DrawFn) -> QuantConfig:
    """Any quantisation split with a level that its codec has."""
    codec = draw(st.sampled_from(list(LEVELS)))
    return QuantConfig(
        attention=draw(grids()),
        mlp=draw(grids()),
        token_embedding=draw(grids()),
        tables=draw(grids()),
        float_elements=draw(st.integers(0, 10**9)),
        control_dtype=draw(st.sampled_from(["float32", "float16"])),
        other_dtype=draw(st.sampled_from(["float32", "float16"])),
        codec=codec,
        level=draw(st.none() | st.integers(*LEVELS[codec])),
    )


@st.composite
def scores(draw: st.DrawFn) -> ScoreConfig:
    """Any windows that fit into their chunk."""
    length = draw(SIZES)
    return ScoreConfig(
        sequence_length=length,
        stride=draw(st.integers(1, length)),
        batch_windows=draw(SIZES),
        chunk_tokens=draw(st.integers(length, 10**7)),
    )


def optimizers() -> st.SearchStrategy[OptimizerConfig]:
    """Any learning rates and decays."""
    rates = dict.fromkeys(("matrix_lr", "scalar_lr", "embedding_lr", "decoder_lr_multiplier", "epsilon"), POSITIVE)
    return st.builds(
        OptimizerConfig,
        **rates,
        weight_decay=st.builds(
            WeightDecayConfig, **dict.fromkeys(("matrices", "embedding", "others"), st.floats(0, 1e9))
        ),
        muon_row_norm=st.booleans(),
        beta1=SHARES,
        beta2=SHARES,
        newton_schulz_steps=st.integers(1, 5),
        newton_schulz=st.sampled_from(["jordan", "polar_express"]),
        gradient_clip=POSITIVE,
    )


def adapts() -> st.SearchStrategy[TTTConfig]:
    """Any test-time training of a model of at least two blocks."""
    return st.builds(
        TTTConfig,
        optimizer=st.sampled_from(["sgd", "adamw"]),
        lr=st.floats(0, 1e9),
        epochs=st.integers(0, 1000),
        momentum=SHARES,
        frozen_blocks=st.integers(0, 2),
        gradient_clip=POSITIVE,
        batch_sequences=SIZES,
        warmup_fraction=SHARES,
        qat=st.booleans(),
    )


@st.composite
def runs(draw: st.DrawFn) -> RunConfig:
    """Any whole configuration."""
    model = draw(models())
    return draw(_runs_of(model))


def _runs_of(model: ModelConfig) -> st.SearchStrategy[RunConfig]:
    return st.builds(
        RunConfig,
        model=st.just(model),
        batch=batches(),
        schedule=schedules(model.loop is not None),
        optimizer=optimizers(),
        quant=splits(),
        score=scores(),
        ttt=st.none() | adapts(),
        seed=st.integers(0, 2**63 - 1),
        cap_bytes=SIZES,
        validate_every=st.none() | SIZES,
    )


@settings(max_examples=100)
@given(config=runs())
def test_every_configuration_survives_json(config: RunConfig) -> None:
    """Catches a field that JSON loses or turns into another type: a resumed run would take it for another run."""
    again = from_plain(RunConfig, json.loads(json.dumps(to_plain(config), allow_nan=False)))
    assert again == config
    assert hash(again) == hash(config)
    assert to_plain(again) == to_plain(config)


FIELD_CASES: list[tuple[type, str, list[Any]]] = [
    (ModelConfig, "vocab_size", [1, 0, -5, 65_537]),
    (ModelConfig, "num_layers", [1, 0, -1]),
    (ModelConfig, "model_dim", [0, -512, 509]),
    (ModelConfig, "num_heads", [0, -8]),
    (ModelConfig, "num_kv_heads", [0, -4, 3, 16]),
    (ModelConfig, "mlp_hidden", [0, -1]),
    (ModelConfig, "logit_softcap", [0.0, -30.0, math.nan]),
    (ModelConfig, "embedding_init_std", [0.0, -1.0]),
    (ModelConfig, "rope_dims", [0, 15, -2, 66]),
    (ModelConfig, "rope_base", [1.0, 0.0, -3.0, math.nan]),
    (ModelConfig, "rope_train_length", [0, -1]),
    (ModelConfig, "bigram_buckets", [1, 0, -1]),
    (ModelConfig, "bigram_dim", [0]),
    (ModelConfig, "xsa_layers", [-1, 12]),
    (ModelConfig, "value_dim", [0, -1]),
    (ModelConfig, "value_layers", [(11,), (-1,), (9, 9), (10, 9)]),
    (BatchConfig, "tokens_per_step", [0, -16_384, 786_431, 786_432 + 2048, 8 * 2047]),
    (BatchConfig, "sequence_length", [0, -1]),
    (ScheduleConfig, "steps", [0, -1]),
    (ScheduleConfig, "warmdown_start", [-1, 7000, 7001]),
    (ScheduleConfig, "warmdown_shape", ["sqrt", "Cosine", ""]),
    (ScheduleConfig, "momentum_start", [-0.1, 1.0, math.nan]),
    (ScheduleConfig, "momentum_end", [-0.1, 1.0]),
    (ScheduleConfig, "momentum_steps", [0]),
    (ScheduleConfig, "qat_threshold", [0.0, -0.1, 1.1, math.nan]),
    (ScheduleConfig, "averaging", ["lawa", ""]),
    (ScheduleConfig, "ema_decay", [1.0, -0.1, math.nan]),
    (ScheduleConfig, "swa_every", [0, -50]),
    (OptimizerConfig, "matrix_lr", [0.0, -0.1, math.nan]),
    (OptimizerConfig, "scalar_lr", [0.0]),
    (OptimizerConfig, "embedding_lr", [0.0]),
    (OptimizerConfig, "decoder_lr_multiplier", [0.0]),
    (WeightDecayConfig, "matrices", [-1e-9, math.nan]),
    (LoopConfig, "times", [1, 101]),
    (ScheduleConfig, "loop_start", [-0.1, 1.1]),
    (ScheduleConfig, "warmdown_fraction", [0.0, 1.1]),
    (ModelConfig, "parallel_from", [-1, 12]),
    (OptimizerConfig, "beta1", [1.0, -0.1]),
    (OptimizerConfig, "beta2", [1.0, -0.1]),
    (OptimizerConfig, "epsilon", [0.0]),
    (OptimizerConfig, "newton_schulz_steps", [0]),
    (OptimizerConfig, "newton_schulz", ["polar"]),
    (OptimizerConfig, "gradient_clip", [0.0, -1.0, math.nan]),
    (GridConfig, "bits", [3, 9, 0, -6]),
    (GridConfig, "clip", ["max"]),
    (GridConfig, "percentiles", [(), (0.0,), (0.5, 1.1), (math.nan,)]),
    (GridConfig, "deviations", [0.0, -1.0]),
    (GridConfig, "scale_floor", [0.0, -1.0, 1.5]),
    (QuantConfig, "float_elements", [-1]),
    (QuantConfig, "control_dtype", ["bfloat16"]),
    (QuantConfig, "other_dtype", ["float64"]),
    (QuantConfig, "codec", ["gzip", "none"]),
    (QuantConfig, "level", [10, 23, -1]),
    (ScoreConfig, "sequence_length", [0, -1]),
    (ScoreConfig, "stride", [0, -64, 2049]),
    (ScoreConfig, "batch_windows", [0]),
    (ScoreConfig, "chunk_tokens", [0, 2047]),
    (TTTConfig, "optimizer", ["adam"]),
    (TTTConfig, "lr", [-0.1, math.nan]),
    (TTTConfig, "epochs", [-1]),
    (TTTConfig, "momentum", [1.0, -0.1]),
    (TTTConfig, "frozen_blocks", [-1]),
    (TTTConfig, "gradient_clip", [0.0]),
    (TTTConfig, "batch_sequences", [0]),
    (TTTConfig, "warmup_fraction", [1.0, -0.1]),
    (RunConfig, "seed", [-1]),
    (RunConfig, "cap_bytes", [0, -1]),
    (RunConfig, "validate_every", [0, -1]),
]
BAD_VALUES = [(kind, name, value) for kind, name, values in FIELD_CASES for value in values]


@pytest.mark.parametrize(("kind", "name", "value"), BAD_VALUES)
def test_a_value_outside_its_range_is_named(kind: type, name: str, value: object) -> None:
    """Catches a bad value that is accepted and fails hours later, or a message that does not say where it is."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is looked at below
        kind(**{name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


FLOATS = [
    (kind, one.name)
    for kind in (ModelConfig, ScheduleConfig, OptimizerConfig, GridConfig, TTTConfig)
    for one in dataclasses.fields(kind)
    if one.type in (float, float | None)
]


@pytest.mark.parametrize(("kind", "name"), FLOATS)
def test_numbers_that_json_does_not_have(kind: type, name: str) -> None:
    """Catches an infinity that is accepted and stops the run where its results are written: JSON has none."""
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match=name):
            kind(**{name: value})


def test_a_level_belongs_to_its_codec() -> None:
    """Catches zstd's level 22 given to a codec that ends at 9."""
    with pytest.raises(ValueError, match=r"level.*10"):
        override_all(RunConfig(), {"quant.codec": "rans", "quant.level": 10})


def test_iterations_without_coefficients() -> None:
    """Fault: a sixth iteration that is left out in silence."""
    OptimizerConfig(newton_schulz_steps=6)
    with pytest.raises(ValueError, match="newton_schulz_steps must be at most 5"):
        OptimizerConfig(newton_schulz_steps=6, newton_schulz="polar_express")


def test_more_frozen_blocks_than_blocks() -> None:
    """Catches a test-time training of blocks that are not there: a rule between two parts of the configuration."""
    with pytest.raises(ValueError, match=r"frozen_blocks.*11.*12"):
        override(RunConfig(), "ttt.frozen_blocks", 12)


def test_two_rotated_dimensions_beyond_the_training_length() -> None:
    """Catches a division by zero in the first step: the stretch's exponent dims / (dims - 2) has no value for 2."""
    model, batch, score = ModelConfig(rope_dims=2), BatchConfig(sequence_length=1024), ScoreConfig(sequence_length=1024)
    RunConfig(model=model, batch=batch, score=score)
    for parts in ({"batch": batch}, {"score": score}):
        with pytest.raises(ValueError, match="rope_dims"):
            RunConfig(model=model, **parts)


def test_parts_that_fit_only_together() -> None:
    """Catches a check after each field: both orders below pass through a state that is not allowed."""
    for values in (
        {"schedule.steps": 100, "schedule.warmdown_start": 50},
        {"schedule.warmdown_start": 9000, "schedule.steps": 10_000},
        {"batch.sequence_length": 1000, "batch.tokens_per_step": 8000},
        {"model.num_layers": 4, "model.value_layers": [2, 3], "model.xsa_layers": 2},
    ):
        for order in (values, dict(reversed(values.items()))):
            plain = to_plain(override_all(RunConfig(), order))
            for path, value in values.items():
                part, name = path.split(".")
                assert plain[part][name] == value


def test_override_changes_nothing_else() -> None:
    """Catches an override that resets a neighbour to its default, or changes the configuration it was given."""
    base = RunConfig(seed=7, schedule=ScheduleConfig(steps=50, warmdown_start=5, swa_every=3))
    before = to_plain(base)
    changed = to_plain(override(base, "schedule.steps", 60))
    assert to_plain(base) == before
    changed["schedule"]["steps"] = 50
    assert changed == before


def test_missing_fields_come_from_where_they_stand() -> None:
    """Catches a part of which one field is given and the others fall back to another part's defaults."""
    config = from_plain(RunConfig, {"quant": {"token_embedding": {"bits": 6}}, "schedule": {"ema_decay": 0.5}})
    default = QuantConfig()
    assert config.quant == replace(default, token_embedding=replace(default.token_embedding, bits=6))
    assert config.schedule == ScheduleConfig(ema_decay=0.5)
    base = RunConfig(seed=9, ttt=None, batch=BatchConfig(tokens_per_step=80, sequence_length=10))
    assert from_plain(RunConfig, {"batch": {"tokens_per_step": 160}}, base=base) == replace(
        base, batch=BatchConfig(tokens_per_step=160, sequence_length=10)
    )
    assert from_plain(RunConfig, {"ttt": {"epochs": 3}}, base=base) == replace(base, ttt=TTTConfig(epochs=3))
    assert from_plain(RunConfig, {"ttt": None}) == RunConfig(ttt=None)


@pytest.mark.parametrize(
    ("path", "value", "right"),
    [
        ("schedule.step", 5, "steps"),
        ("shedule.steps", 5, "schedule"),
        ("schedule.warmdown_shap", "linear", "warmdown_shape"),
        ("model.num_layer", 3, "num_layers"),
        ("sede", 3, "seed"),
        ("quant.mpl.bits", 5, "mlp"),
        ("quant.mlp.bit", 5, "bits"),
    ],
)
def test_an_unknown_field_names_the_nearest(path: str, value: object, right: str) -> None:
    """Catches a misspelt field that is dropped in silence: the sweep would search nothing."""
    nested: Any = value
    for name in reversed(path.split(".")):
        nested = {name: nested}
    ways: list[Callable[[], RunConfig]] = [
        lambda: override(RunConfig(), path, value),
        lambda: from_plain(RunConfig, nested),
    ]
    for way in ways:
        with pytest.raises(ValueError, match=f'did you mean "{right}"'):
            way()


@pytest.mark.parametrize("path", ["seed.x", "schedule.steps.x", "", ".", "schedule.", ".seed", "ttt.lr.x", "a.b.c"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    """Catches a path through a number, or an empty one, that ends in another error or is taken."""
    with pytest.raises(ValueError, match="unknown field"):
        override(RunConfig(), path, 1)


def test_a_field_of_a_part_that_is_off() -> None:
    """Catches a traceback, or a silent nothing, where test-time training is off."""
    with pytest.raises(ValueError, match=r'ttt\.lr: ttt is None here; set it whole, as in ttt=\{"lr":0\.1\}'):
        override(RunConfig(ttt=None), "ttt.lr", 0.1)
    with pytest.raises(ValueError, match=r'as in model\.loop=\{"times":2\}'):
        override(RunConfig(), "model.loop.times", 2)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schedule.steps", "7000"),
        ("schedule.steps", 7000.0),
        ("schedule.steps", True),
        ("schedule.steps", None),
        ("schedule.warmdown_shape", 1),
        ("schedule.warmdown_shape", ["cosine"]),
        ("schedule.qat_threshold", "0.15"),
        ("schedule.qat_threshold", True),
        ("schedule.ema_decay", None),
        ("model.depth_scaled_norm", 1),
        ("model.value_layers", 9),
        ("model.value_layers", [9.0]),
        ("model.value_layers", "9"),
        ("model.value_layers", {"9": 1}),
        ("quant.mlp", 6),
        ("quant.mlp.percentiles", ["1.0"]),
        ("ttt", "off"),
        ("ttt", []),
        pytest.param("optimizer.matrix_lr", 10**400, id="larger than any float"),
    ],
)
def test_a_value_of_another_type_is_named(path: str, value: object) -> None:
    """Catches a string taken for a number, or an error that says nothing about the field."""
    with pytest.raises(ValueError, match=path.replace(".", r"\.")):
        override(RunConfig(), path, value)


def test_whole_numbers_are_taken_for_floats() -> None:
    """Catches equal configurations that are unequal, as JSON and command lines write 1.0 as 1."""
    assert override(RunConfig(), "ttt.gradient_clip", 1) == override(RunConfig(), "ttt.gradient_clip", 1.0)
    assert type(override(RunConfig(), "schedule.qat_threshold", 1).schedule.qat_threshold) is float
