"""Keys: every field and every line of code reaches exactly the stages that depend on it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.config.schedule import make_plan
from tune.cache.fingerprint import source_digest
from tune.workloads.gepa.stages import STAGE_MODULES, GepaStages, gepa_stages

ROOT = Path(__file__).resolve().parents[4]
WORLD = {"ranks": 1, "cpus": 1, "device": "cpu"}
BELOW_PACK = {"pack", "quantised", "sliding", "ttt"}
LADDER = {"live", "ema", "quantised", "sliding", "ttt"}
ALL = {"train", "prefix-2", *BELOW_PACK, *LADDER}
OTHER = {"warmdown_shape": "linear", "averaging": "none", "clip": "deviations", "codec": "zstd", "optimizer": "adamw"}
OTHER |= {"control_dtype": "float16", "other_dtype": "float32", "method": "gptq"}
OF_ONE_VALUE = {"quant.token_embedding.method", "quant.tables.method"}
FIELDS_OF_ONE_KIND = {"sequence_length", "batch_windows", "chunk_tokens"}


def leaves(plain: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all fields."""
    found: list[str] = []
    for name, value in plain.items():
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


def flipped(config: RunConfig, field: str) -> RunConfig:
    """`config` with one field changed to another valid value, what must go with it included."""
    value: Any = to_plain(config)
    for name in field.split("."):
        value = value[name]
    last = field.rsplit(".", 1)[-1]
    special: dict[str, dict[str, Any]] = {
        "model.model_dim": {"model.model_dim": 64},
        "model.num_heads": {"model.num_heads": 2, "model.num_kv_heads": 2},
        "model.num_kv_heads": {"model.num_kv_heads": 4},
        "model.rope_dims": {"model.rope_dims": 8},
        "model.value_layers": {"model.value_layers": [0]},
        "batch.sequence_length": {"batch.sequence_length": 8},
        "batch.tokens_per_step": {"batch.tokens_per_step": 256},
        "schedule.ema_decay": {"schedule.ema_decay": 0.25},
        "schedule.qat_threshold": {"schedule.qat_threshold": 0.5},
        "quant.level": {"quant.codec": "zstd", "quant.level": 3},
        "quant.codec": {"quant.codec": "zstd"},
        "validate_every": {"validate_every": 5},
        "compile": {"compile": True},
        "score.batch_windows": {"score.batch_windows": 3},
        "model.activation": {"model.activation": "leaky_relu_squared"},
        "model.skips": {"model.skips": "added"},
        "optimizer.newton_schulz": {"optimizer.newton_schulz": "polar_express"},
        "model.embedding_dim": {"model.embedding_dim": 16},
        "model.parallel_from": {"model.parallel_from": 1},
        "model.loop": {"model.loop": {"first_layer": 0, "last_layer": 0, "times": 2}},
        "schedule.warmdown_fraction": {"schedule.warmdown_fraction": 0.5},
        "schedule.loop_start": {"model.loop": {"first_layer": 0, "last_layer": 0}, "schedule.loop_start": 0.5},
        "batch.order": {"batch.order": "shuffled"},
        "model.input_smear": {"model.input_smear": {"channels": 4}},
        "model.attention_gate": {"model.attention_gate": {"channels": 4}},
        "schedule.decay_taper_start": {"schedule.decay_taper_start": 0.25},
        "schedule.decay_taper_end": {"schedule.decay_taper_start": 0.25, "schedule.decay_taper_end": 0.1},
        "quant.correction": {"quant.correction": {"matrices": 1}},
    }
    if field in special:
        return override_all(config, special[field])
    if last in OTHER:
        return override_all(config, {field: OTHER[last]})
    if last == "bits":
        return override_all(config, {field: 7})
    if last == "percentiles":
        return override_all(config, {field: [0.5, 1.0]})
    if last == "scale_floor":
        return override_all(config, {field: 0.25})
    if isinstance(value, bool):
        return override_all(config, {field: not value})
    if isinstance(value, float):
        return override_all(config, {field: value / 2 if value else 0.5})
    return override_all(config, {field: value + 1})


def keys(stages: GepaStages) -> dict[str, str]:
    """Keys by the stage's name."""
    return {str(one.name): one.key for one in (*stages.training, stages.pack, *stages.rungs)}


def changed(tiny: RunConfig, config: RunConfig) -> set[str]:
    """Names of the stages whose keys differ."""
    one, other = keys(gepa_stages(tiny, "data", WORLD, [2])), keys(gepa_stages(config, "data", WORLD, [2]))
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


def expected(tiny: RunConfig, config: RunConfig, field: str) -> set[str]:
    """The stages that depend on a field, by the table of the design."""
    part, _, last = field.partition(".")
    if part in ("model", "batch", "optimizer", "seed", "validate_every", "compile"):
        return ALL
    if part == "schedule":
        one, other = make_plan(tiny.schedule), make_plan(config.schedule)
        return (ALL - {"prefix-2"} if one[:2] == other[:2] else ALL) if one != other else set()
    if part == "score":
        return ALL if last in FIELDS_OF_ONE_KIND else LADDER
    return {"quant": BELOW_PACK, "ttt": {"ttt"}, "cap_bytes": set()}[part]


def test_flip_each_field_once(tiny: RunConfig) -> None:
    """Fault: a stale result taken for another configuration's, or one computed again for nothing."""
    fields = [field for field in leaves(to_plain(tiny)) if field not in OF_ONE_VALUE]
    assert len(fields) > 70
    wrong = {}
    for field in fields:
        config = flipped(tiny, field)
        assert config != tiny, field
        if (found := changed(tiny, config)) != (wanted := expected(tiny, config, field)):
            wrong[field] = (sorted(found), sorted(wanted))
    assert wrong == {}


@pytest.mark.parametrize("place", [{"ranks": 2}, {"cpus": 2}, {"device": "cuda"}])
def test_the_machines_count(tiny: RunConfig, place: dict[str, Any]) -> None:
    """Fault: bits of two ranks, or of a GPU, handed to a run on one CPU."""
    one = keys(gepa_stages(tiny, "data", WORLD, [2]))
    other = keys(gepa_stages(tiny, "data", WORLD | place, [2]))
    assert {name for name in one if one[name] != other[name]} == ALL
    data = keys(gepa_stages(tiny, "other data", WORLD, [2]))
    assert {name for name in one if one[name] != data[name]} == ALL


@pytest.mark.parametrize(
    ("module", "reached"),
    [
        ("golf/train/muon.py", {"train"}),
        ("golf/train/loop.py", {"train"}),
        ("golf/data/batches.py", {"train"}),
        ("golf/config/schedule.py", {"train"}),
        ("golf/evaluate/ttt.py", {"ttt"}),
        ("golf/evaluate/windows.py", {"score", "ttt"}),
        ("golf/data/token_bytes.py", {"score", "ttt"}),
        ("golf/artifact/quantizer.py", {"pack", "score", "ttt"}),
        ("golf/artifact/gptq.py", {"pack", "score", "ttt"}),
        ("golf/artifact/calibration.py", {"pack"}),
        ("golf/model/layers.py", {"train", "pack", "score", "ttt"}),
        ("golf/config/presets.py", set()),
        ("golf/cli/run.py", set()),
        ("golf/data/fineweb.py", set()),
    ],
)
def test_a_change_of_source_reaches_what_it_computes(tmp_path: Path, module: str, reached: set[str]) -> None:
    """Fault: an old result kept after its code changed, or all thrown away for a change elsewhere."""
    shutil.copytree(ROOT / "golf", tmp_path / "golf", ignore=shutil.ignore_patterns("__pycache__"))
    before = {name: source_digest(modules, tmp_path) for name, modules in STAGE_MODULES.items()}
    path = tmp_path / module
    path.write_text(path.read_text() + "\n# a remark\n")
    assert {name: source_digest(modules, tmp_path) for name, modules in STAGE_MODULES.items()} == before
    path.write_text(path.read_text() + "\n_CHANGED = 1\n")
    after = {name: source_digest(modules, tmp_path) for name, modules in STAGE_MODULES.items()}
    assert {name for name in before if before[name] != after[name]} == reached
