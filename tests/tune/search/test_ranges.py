"""The usual ranges of fields, and what --only searches."""

import pytest

from golf.config.config import override_all
from golf.config.presets import PRESETS
from tune.search.search import Search, SearchConfig
from tune.search.space import Range, Space, only_of
from tune.workloads.gepa.ranges import FIELDS, usual_choices
from tune.workloads.gepa.space import make_trial, only_space

EVERYWHERE = {"optimizer.matrix_lr", "optimizer.weight_decay.matrices", "model.model_dim", "model.num_layers", "ttt.lr"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_usual_range_can_be_searched(preset: str) -> None:
    """Fault: a range that the preset does not take, that leaves its own value out, or a width that no head divides."""
    base, refused = PRESETS[preset], set()
    for field in FIELDS:
        try:
            space = only_space([field], base, preset, {})
        except ValueError:
            refused.add(field)
            continue
        search = Search(
            SearchConfig(spaces=(space,), strategy="random", num_trials=5), lambda p: make_trial(base, p, "d")
        )
        assert 2 <= len(search.planned()) <= 5, field
    without = set() if base.ttt is not None else {"ttt.lr", "ttt.epochs"}
    assert without <= refused <= without | {"schedule.loop_start", "schedule.warmdown_start"}
    assert ("schedule.loop_start" in refused) == (base.model.loop is None)
    for field in EVERYWHERE - refused:
        found, value = usual_choices(base, field), base
        for name in field.split("."):
            value = getattr(value, name)
        assert found is not None
        assert value in found, field


def test_only_takes_the_nearest_definition_of_a_range() -> None:
    """Fault: --space or the preset's own choices ignored, another field still searched, or left out in silence."""
    base = PRESETS["demo"]
    lines: list[str] = []
    changes: Space = {"ttt.epochs": [1, 3], "split": ["int4"]}
    space = only_space(["ttt.epochs", "ttt.lr", "optimizer.matrix_lr"], base, "demo", changes, say=lines.append)
    assert space == {
        "ttt.epochs": [1, 3],
        "ttt.lr": [0.005, 0.01, 0.02],
        "optimizer.matrix_lr": Range(low=0.00625, high=0.1, log=True),
    }
    assert lines == ["split leaves the search: --only does not name it"]
    of_a_file = only_space(["ttt.lr"], base, None, {})
    assert of_a_file == {"ttt.lr": Range(low=0.0025, high=0.04, log=True)}


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("matrix_lr", r"did you mean optimizer\.matrix_lr"),
        ("optimizer.weight_decay.matrixes", r"did you mean optimizer\.weight_decay\.matrices"),
        ("model.rope_base", r"model\.rope_base: it has no usual range; give one: --space model\.rope_base="),
        ("schedule.loop_start", r"model\.loop is None"),
        ("seed", "no usual range"),
    ],
)
def test_only_says_what_it_cannot_search(field: str, told: str) -> None:
    """Fault: a misspelt field, or one without a range, that is searched in vain."""
    with pytest.raises(ValueError, match=told):
        only_space([field], PRESETS["demo"], "demo", {})


def test_only_and_set_of_one_field() -> None:
    """Fault: one of the two wins in silence; a part that is None searched."""
    with pytest.raises(ValueError, match=r"--only ttt\.lr and --set ttt\.lr"):
        only_space(["ttt.lr"], PRESETS["demo"], "demo", {}, {"ttt.lr": 0.1})
    with pytest.raises(ValueError, match=r"ttt\.epochs is None here"):
        usual_choices(override_all(PRESETS["demo"], {"ttt": None}), "ttt.epochs")


def test_only_of_a_script() -> None:
    """Fault: a name that the space does not hold is dropped in silence."""
    space: Space = {"MATRIX_LR": [0.02, 0.03], "arg.depth": [2, 3]}
    assert only_of(space, ["arg.depth"]) == {"arg.depth": [2, 3]}
    with pytest.raises(ValueError, match="did you mean MATRIX_LR"):
        only_of(space, ["MATRX_LR"])
