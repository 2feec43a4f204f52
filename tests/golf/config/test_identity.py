"""The one identity table against the identities of all results, for every field of a configuration."""

import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from golf.config.config import (
    AttentionGateConfig,
    CorrectionConfig,
    GridConfig,
    InputSmearConfig,
    LoopConfig,
    RunConfig,
    override_all,
    to_plain,
)
from golf.config.identity import FIELD_STAGES, Stage
from golf.data.dataset import Dataset, open_dataset
from golf.pipeline.identity import pack_identity, rung_identity, train_identity, weights_identity
from tests.conftest import TINY

BASE = replace(
    TINY,
    model=replace(
        TINY.model,
        embedding_dim=16,
        parallel_from=1,
        loop=LoopConfig(first_layer=0, last_layer=1, times=2),
        input_smear=InputSmearConfig(),
        attention_gate=AttentionGateConfig(),
    ),
    schedule=replace(
        TINY.schedule, averaging="swa", swa_every=1, qat_threshold=0.5, loop_start=0.3, decay_taper_start=0.5
    ),
    quant=replace(TINY.quant, correction=CorrectionConfig()),
    compile=False,
)
FOLLOWS: dict[Stage, set[str]] = {
    "train": {"weights", "validated", "pack", "live", "sliding", "ttt"},
    "validate": {"validated"},
    "pack": {"pack", "sliding", "ttt"},
    "score": {"live", "sliding"},
    "ttt": {"ttt"},
}
"""Stage -> the results that it, or what it feeds, computes."""
OTHER_VALUES: dict[str, object] = {
    **{"model.value_layers": [0], "model.xsa_layers": 2, "batch.tokens_per_step": 256, "schedule.steps": 7},
    **{"schedule.warmdown_start": 2, "schedule.qat_threshold": 0.9, "quant.level": 3, "score.sequence_length": 8},
    **{"score.chunk_tokens": 64, "score.batch_windows": 16, "validate_every": 3, "compile": True, "seed": 43},
    **{"model.num_layers": 3, "model.num_heads": 2, "model.num_kv_heads": 4, "model.rope_dims": 8, "score.stride": 4},
    **{"model.model_dim": 64, "model.value_dim": 4, "model.bigram_buckets": 32, "batch.sequence_length": 8},
    **{"ttt.frozen_blocks": 0, "model.loop.first_layer": 1, "model.loop.last_layer": 0, "model.parallel_from": 0},
    **{"schedule.loop_start": 0.6, "schedule.least_lr_scale": 0.7},
}
"""Values of the fields that half as much more, or the other literal, is not allowed for."""
NOT_OF_VALIDATION = {"score.stride"}
"""The only field below a table's row that one of the row's stages does not read: validations have plain windows."""
WITHOUT_EFFECT = {"schedule.ema_decay"}
"""Fields that change no row of the plan of BASE, which averages snapshots."""


def leaves(kind: type, path: str = "") -> Iterator[tuple[str, typing.Any]]:
    """Every field without parts of its own, by its dotted name, and its type."""
    hints = typing.get_type_hints(kind)
    for each in fields(kind):
        hint = hints[each.name]
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        if is_dataclass(hint) and isinstance(hint, type):
            yield from leaves(hint, f"{path}{each.name}.")
        else:
            yield f"{path}{each.name}", hint


ONE_VALUE = ("quant.token_embedding.method", "quant.tables.method")
"""Fields that have no other value than their default."""
LEAVES = [leaf for leaf in leaves(RunConfig) if leaf[0] not in ONE_VALUE]


def other_value(path: str, hint: typing.Any) -> object:
    """A value of a field that BASE does not have."""
    old: typing.Any = to_plain(BASE)
    for name in path.split("."):
        old = old[name]
    if path in OTHER_VALUES:
        return OTHER_VALUES[path]
    if typing.get_origin(hint) is typing.Literal:
        return next(value for value in typing.get_args(hint) if value != old)
    if hint is bool:
        return not old
    if hint is int:
        return 2 * old + 1 if "bits" not in path else 5
    if typing.get_origin(hint) is tuple:
        return [*old[:-1], old[-1] / 2]
    return 0.5 if old is None else old * 0.9 + 0.001


def identities(config: RunConfig, dataset: Dataset) -> dict[str, str]:
    """Identity of every kind of result."""
    rungs = {rung: rung_identity(config, dataset, rung) for rung in ("live", "sliding", "ttt")}
    return {
        "weights": weights_identity(config, dataset),
        "validated": train_identity(config, dataset),
        "pack": pack_identity(config, dataset),
        **rungs,
    }


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """Data of any kind."""
    return open_dataset(data)


@pytest.mark.parametrize(("path", "hint"), LEAVES, ids=[path for path, _ in LEAVES])
def test_a_field_changes_the_identities_that_the_table_names(path: str, hint: typing.Any, dataset: Dataset) -> None:
    """Fault: a result that is used again although it depends on the field, or computed again although it does not."""
    changed = override_all(BASE, {path: other_value(path, hint)})
    assert changed != BASE
    before, after = identities(BASE, dataset), identities(changed, dataset)
    wanted = set[str]().union(*(FOLLOWS[stage] for stage in FIELD_STAGES[path.split(".", maxsplit=1)[0]]))
    if path in NOT_OF_VALIDATION:
        wanted -= {"validated"}
    if path in WITHOUT_EFFECT:
        wanted = set()
    assert {name for name in before if before[name] != after[name]} == wanted


def test_the_schedule_acts_by_its_rows(dataset: Dataset) -> None:
    """Fault: two schedules with the same rows are two trainings, or a field of the schedule has no effect at all."""
    ema = replace(BASE, schedule=replace(BASE.schedule, averaging="ema"))
    decays = [replace(ema, schedule=replace(ema.schedule, ema_decay=decay)) for decay in (0.5, 0.6)]
    by_decay = [identities(config, dataset) for config in decays]
    assert not set(by_decay[0].values()) & set(by_decay[1].values())
    unused = replace(ema, schedule=replace(ema.schedule, swa_every=17))
    assert identities(unused, dataset) == identities(ema, dataset)


def test_off_is_another_identity_than_any_value(dataset: Dataset) -> None:
    """Fault: None, which switches a part off, is taken for the part's default."""
    for path in ("ttt", "validate_every", "model.bigram_buckets", "schedule.qat_threshold"):
        off = override_all(BASE, {path: None})
        assert identities(off, dataset) != identities(BASE, dataset), path


def test_every_grid_is_a_group_of_the_split() -> None:
    """Fault: the walk over the fields above stops before the grids."""
    paths = [path for path, _ in leaves(RunConfig)]
    for group in ("attention", "mlp", "token_embedding", "tables"):
        assert sum(path.startswith(f"quant.{group}.") for path in paths) == len(fields(GridConfig))
