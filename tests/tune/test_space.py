"""Points of a space and their trials."""

import pytest

from golf.presets import PRESETS
from tune.space import make_trial, space_of


def test_a_trial_is_known_by_its_configuration_and_data() -> None:
    """Fault: an interrupted sweep does not recognise its own trials, or takes one on other data for its own."""
    base = PRESETS["pr598"]
    one = make_trial(base, {"schedule.steps": 7000, "adapt.lr": 0.002}, "data")
    assert one.trial == make_trial(base, {"split": "mixed-int6-int8"}, "data").trial
    assert one.trial != make_trial(base, {"split": "mixed-int6-int8"}, "other data").trial
    assert one.trial != make_trial(base, {"split": "pure-int6"}, "data").trial


def test_a_split_keeps_what_is_not_part_of_it() -> None:
    """Fault: choosing a split changes which small tensors stay float, or the codec."""
    config = make_trial(PRESETS["demo"], {"split": "pure-int6"}, "data").config
    assert config.quant.token_embedding.bits == 6
    assert config.quant.float_elements == PRESETS["demo"].quant.float_elements


@pytest.mark.parametrize(
    ("parameters", "nearest"), [({"split": "pure-int5"}, "pure-int6"), ({"schedule.step": 3}, "steps")]
)
def test_wrong_names_get_the_nearest_right_one(parameters: dict[str, object], nearest: str) -> None:
    """Fault: a misspelt field is searched in vain."""
    with pytest.raises(ValueError, match=nearest):
        make_trial(PRESETS["demo"], parameters, "data")


def test_choices_replace_the_presets() -> None:
    """Fault: a user's choices are added to the preset's, or drop the other fields."""
    space = space_of("demo", {"schedule.steps": [7]})
    assert space["schedule.steps"] == [7]
    assert space.keys() == space_of("demo", {}).keys()


def test_a_repeat_is_the_same_run_under_another_id() -> None:
    """Fault: a run that shall be done again is found finished, or is another configuration."""
    base = PRESETS["demo"]
    first, again, third = (make_trial(base, {"seed": 7, "repeat": repeat}, "data") for repeat in (0, 1, 2))
    assert first.trial == make_trial(base, {"seed": 7}, "data").trial
    assert len({first.trial, again.trial, third.trial}) == 3
    assert first.config == again.config == third.config
    for wrong in (-1, True, 1.0, "1"):
        with pytest.raises(ValueError, match="repeat"):
            make_trial(base, {"repeat": wrong}, "data")
