"""The trials of a sweep."""

import pytest

from golf.presets import PRESETS
from tune.space import SPACES, make_config, make_trials


def test_the_same_arguments_give_the_same_trials() -> None:
    """Fault: an interrupted sweep does not recognise its own trials."""
    base = PRESETS["pr598"]
    one = make_trials(base, SPACES["pr598"], "random", 7, 3, "data")
    two = make_trials(base, SPACES["pr598"], "random", 7, 3, "data")
    assert one == two
    assert len({trial.trial for trial in one}) == 7
    other = make_trials(base, SPACES["pr598"], "random", 7, 3, "other data")
    assert {trial.trial for trial in one}.isdisjoint(trial.trial for trial in other)


def test_grid_has_every_valid_point_once() -> None:
    """Fault: a warmdown after the last step, or a point missing or twice."""
    space = {"schedule.steps": [10, 40], "schedule.warmdown_start": [5, 20], "seed": [1, 1]}
    trials = make_trials(PRESETS["demo"], space, "grid", None, 0, "data")
    points = [(t.config.schedule.steps, t.config.schedule.warmdown_start) for t in trials]
    assert points == [(10, 5), (40, 5), (40, 20)]


def test_a_split_keeps_what_is_not_part_of_it() -> None:
    """Fault: choosing a split changes which small tensors stay float, or the codec."""
    config = make_config(PRESETS["demo"], {"split": "pure-int6"})
    assert config.quant.token_embedding.bits == 6
    assert config.quant.float_elements == PRESETS["demo"].quant.float_elements


@pytest.mark.parametrize(
    ("parameters", "nearest"), [({"split": "pure-int5"}, "pure-int6"), ({"schedule.step": 3}, "steps")]
)
def test_wrong_names_get_the_nearest_right_one(parameters: dict[str, object], nearest: str) -> None:
    """Fault: a misspelt field is searched in vain."""
    with pytest.raises(ValueError, match=nearest):
        make_config(PRESETS["demo"], parameters)
    with pytest.raises(ValueError, match="grid"):
        make_trials(PRESETS["demo"], SPACES["demo"], "gird", None, 0, "data")
