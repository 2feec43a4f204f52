"""Presets and splits: what the published records say, by name."""

import itertools
import json

import pytest

from golf.config.config import RunConfig, from_plain, to_plain
from golf.config.presets import PRESETS, SPLITS, find_preset, find_split
from golf.config.schedule import make_plan
from golf.model.gepa import build_model, count_parameters


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name: str) -> None:
    """Catches a preset that a saved run does not get back."""
    config = find_preset(name)
    assert from_plain(RunConfig, json.loads(json.dumps(to_plain(config), allow_nan=False))) == config


def test_no_two_presets_or_splits_are_the_same() -> None:
    """Catches a name that is only an alias, for example a log's preset with the text's shape."""
    assert len(set(PRESETS.values())) == len(PRESETS)
    assert len(set(SPLITS.values())) == len(SPLITS)


@pytest.mark.parametrize(
    ("wrong", "right"), [("pr589", "pr598"), ("pr598_log", "pr598-log"), ("PR668", "pr668"), ("dmeo", "demo")]
)
def test_an_unknown_preset_names_the_nearest(wrong: str, right: str) -> None:
    """Catches a KeyError where a person mistyped."""
    with pytest.raises(ValueError, match=f'"{wrong}".*did you mean "{right}"'):
        find_preset(wrong)


@pytest.mark.parametrize(
    ("wrong", "right"), [("pure-int-6", "pure-int6"), ("mixed", "mixed-int6-int8"), ("int5mlp", "int5-mlp")]
)
def test_an_unknown_split_names_the_nearest(wrong: str, right: str) -> None:
    """Catches a KeyError where a person mistyped."""
    with pytest.raises(ValueError, match=f'"{wrong}".*did you mean "{right}"'):
        find_split(wrong)


@pytest.mark.parametrize("name", ["", "x" * 1000, "日本"])
def test_a_name_like_no_other_lists_all(name: str) -> None:
    """Catches an error in the making of the message, where no name is near."""
    for find, table in ((find_preset, PRESETS), (find_split, SPLITS)):
        with pytest.raises(ValueError, match="unknown") as caught:
            find(name)
        assert all(known in str(caught.value) for known in table)


@pytest.mark.parametrize("name", ["pr598", "pr598-log", "pr668"])
def test_parameters_of_the_records(name: str) -> None:
    """Catches a preset whose model is not the record's: 27,030,108 in all, 22,301,260 trained in TTT."""
    config = find_preset(name)
    assert config.ttt is not None
    assert count_parameters(config.model) == 27_030_108
    assert count_parameters(config.model, config.ttt.frozen_blocks) == 22_301_260


@pytest.mark.parametrize(("name", "number"), [("pr1493", 35_944_536), ("pr1394", 35_943_512)])
def test_parameters_of_the_records_of_april(name: str, number: int) -> None:
    """Catches another number of skips, which depends on the loop, or a part that the records do not have."""
    assert count_parameters(find_preset(name).model) == number
    assert find_preset(name).batch.order == find_preset("demo-april").batch.order == "shuffled"
    assert find_preset("pr598").batch.order == "stream"


def test_counted_parameters_are_the_built_ones() -> None:
    """Catches a count from a formula that the model does not follow; frozen blocks take their parameters only."""
    config = find_preset("demo").model
    model = build_model(config, 0)
    assert count_parameters(config) == sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("blocks.0.", "blocks.1.")))
    assert count_parameters(config, 2) == count_parameters(config) - frozen


@pytest.mark.parametrize(("name", "first"), [("pr598-log", 6476), ("pr598", 6114), ("pr668", None)])
def test_where_late_qat_begins(name: str, first: int | None) -> None:
    """Catches a preset that never reaches QAT, or QAT at another step than the record's log (6476).

    cosine: 0.5 (1 + cos(pi x)) < 0.15 from x = acos(-0.7) / pi = 0.746820, step 3500 + 3500 x = 6113.9.
    """
    steps = [step for step, row in enumerate(make_plan(find_preset(name).schedule)) if row.qat]
    assert steps[:1] == ([] if first is None else [first])
    assert first is None or steps == list(range(first, 7000))


def test_the_longer_successor() -> None:
    """Catches a pr668 that differs from its description in the recipe's numbers."""
    config = find_preset("pr668")
    grids = [config.quant.attention, config.quant.mlp, config.quant.token_embedding, config.quant.tables]
    assert {(grid.bits, grid.per_row, grid.clip) for grid in grids} == {(6, True, "percentile")}
    candidates = grids[0].percentiles
    assert len(candidates) == 15
    assert candidates[0] == pytest.approx(0.990)
    assert candidates[-1] == 1.0
    gaps = [b - a for a, b in itertools.pairwise(candidates)]
    assert gaps == pytest.approx([0.010 / 14] * 14, abs=2e-6)
    rows = make_plan(config.schedule)
    assert len(rows) == 30_000
    assert [rows[step].lr_scale for step in (0, 12_000, 21_000)] == pytest.approx([1, 1, 0.5])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_sequences_of_a_preset_are_consistent(name: str) -> None:
    """Catches a preset whose parts do not fit: training, scoring and chunks cut the text alike."""
    config = find_preset(name)
    assert config.score.chunk_tokens % config.score.sequence_length == 0
    assert config.batch.sequence_length == config.score.sequence_length
    assert config.schedule.momentum_steps <= config.schedule.steps
