"""Points of a space and their trials."""

import math
import random
from functools import partial

import pytest

from golf.config.presets import PRESETS
from tests.tune.entries import entry_of
from tune.search.search import STRATEGIES, Search, SearchConfig
from tune.search.space import Range, Space, check_space, parse_range, points_of, split_choices
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.space import make_trial, read_choices, space_of

DEMO = partial(make_trial, PRESETS["demo"], data="data")
"""Makes trials of the demo."""


def test_a_trial_is_known_by_its_configuration_and_data() -> None:
    """Fault: an interrupted sweep does not recognise its own trials, or takes one on other data for its own."""
    base = PRESETS["pr598"]
    one = make_trial(base, {"schedule.steps": 7000, "ttt.lr": 0.002}, "data")
    assert one.trial == make_trial(base, {"split": "mixed-int6-int8"}, "data").trial
    assert one.trial != make_trial(base, {"split": "mixed-int6-int8"}, "other data").trial
    assert one.trial != make_trial(base, {"split": "pure-int6"}, "data").trial


def test_a_split_keeps_what_is_not_part_of_it() -> None:
    """Fault: choosing a split changes which small tensors stay float, or the codec."""
    config = config_of(DEMO({"split": "pure-int6"}))
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


def told(words: list[str]) -> tuple[Space, list[str]]:
    """The choices of --space and what is said of them."""
    lines: list[str] = []
    return read_choices(words, lines.append), lines


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,2", ["1", "2"]),
        ("[0,1],[1]", ["[0,1]", "[1]"]),
        ('{"a":[1,2],"b":3},null', ['{"a":[1,2],"b":3}', "null"]),
        ('"a,b",c', ['"a,b"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("[ 1 , 2 ], [3]", ["[ 1 , 2 ]", "[3]"]),
    ],
)
def test_choices_are_cut_at_commas_outside_brackets(text: str, parts: list[str]) -> None:
    """Fault: a list of several numbers cannot be written."""
    assert split_choices(text, "--space x") == parts


@pytest.mark.parametrize("text", ["", "1,", ",1", "1,,2", "[1", "1]", '"a', "[1},2"])
def test_choices_that_do_not_end_are_refused(text: str) -> None:
    """Fault: an empty choice, or half a list, searched as a word."""
    with pytest.raises(ValueError, match="--space x="):
        read_choices([f"x={text}"], str)


def test_equal_choices_are_one() -> None:
    """Fault: 0.01 and 1e-2 are counted as two trials, one of which never comes."""
    space, lines = told(["ttt.lr=0.01,1e-2,0.02,0.020", "model.value_layers=[0],[1],[0]", "ttt.epochs=1,2"])
    assert space == {"ttt.lr": [0.01, 0.02], "model.value_layers": [[0], [1]], "ttt.epochs": [1, 2]}
    assert [line for line in lines if "1e-2 is the same as 0.01" in line]
    assert len(lines) == 3
    search = Search(SearchConfig(spaces=({"ttt.lr": [0.01, 1e-2, 0.02]},), strategy="grid"), DEMO)
    assert search.num_trials == len(search.planned()) == 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lists_are_values(strategy: str) -> None:
    """Fault: TypeError: unhashable type: 'list'."""
    space = read_choices(["model.value_layers=[0,1],[1]", 'ttt=null,{"lr":0.1}'], str)
    config = SearchConfig(spaces=(space,), strategy=strategy, num_trials=4)
    given = Search(config, DEMO).planned()
    names = sorted(trial.name for trial in given)
    assert names[:2] == ["model.value_layers=[0,1] ttt=null", 'model.value_layers=[0,1] ttt={"lr":0.1}']
    for trial in given:  # a name is what --space takes
        assert read_choices(trial.name.split(), str) == {field: [value] for field, value in trial.parameters.items()}
    assert {config_of(trial).model.value_layers for trial in given} == {(0, 1), (1,)}
    assert Search(config, DEMO, [entry_of(trial, "failed") for trial in given]).planned() == []


def test_names_tell_fields_of_one_last_name_apart() -> None:
    """Fault: "bits=5 bits=6" for two trials that are mirror images."""
    trial = make_trial(PRESETS["demo"], {"quant.mlp.bits": 5, "quant.attention.bits": 6}, "data")
    assert trial.name == "quant.mlp.bits=5 quant.attention.bits=6"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["ttt.lr=0.1..half"], r"--space ttt\.lr=0\.1\.\.half: .*float.*ranges are LOW\.\.HIGH"),
        (["ttt.lr=0.5..0.1"], r"--space ttt\.lr=0\.5\.\.0\.1: the lower end comes first"),
        (["ttt.lr=log:0..0.1"], r"--space ttt\.lr=log:0\.\.0\.1: a log range begins above 0"),
        (["ttt.epochs=int:1..2.5"], r"--space ttt\.epochs=int:1\.\.2\.5: a range of int: has whole ends"),
        (["ttt.lr=0.1..0.5:2"], r"only int:LOW\.\.HIGH:STEP has a step"),
        (["schedule.steps=130", "ttt.lr=fast"], r"--space ttt\.lr=fast"),
        (["split=int9"], r'--space split=int9: unknown split "int9"; did you mean'),
        (["ttt.lr=0.1", "ttt.lr=0.2"], r"--space ttt\.lr is given twice"),
        (["ttt.lrr=0.1"], r'--space ttt\.lrr=0\.1: unknown field "ttt\.lrr"; did you mean "lr"'),
    ],
)
def test_the_wrong_choice_is_blamed(words: list[str], complaint: str) -> None:
    """Fault: another field is named, or the second of two wins."""
    with pytest.raises(ValueError, match=complaint):
        read_choices(words, str)


def test_a_value_out_of_its_range_is_blamed_before_what_it_spoils() -> None:
    """Fault: the space's first field is called valid in no combination, since the last never is."""
    for wrong in ({"ttt.lr": [-1.0]}, {"ttt.lr": ["0.1..0.5"]}, {"split": ["int9"]}):
        space = space_of("demo", wrong, say=str)
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            check_space(space, DEMO)
    check_space(space_of("demo", {"schedule.steps": [20], "schedule.warmdown_start": [10]}), DEMO)


def test_what_is_set_leaves_the_space() -> None:
    """Fault: --set of a field that the preset searches is ignored, without a word."""
    lines: list[str] = []
    own = space_of("demo", {})
    space = space_of("demo", {}, {"ttt.epochs": 7}, lines.append)
    assert own.keys() - space.keys() == {"ttt.epochs"}
    assert lines == ["ttt.epochs leaves the search: --set fixes it"]
    assert own.keys() - space_of("demo", {}, {"ttt": None}, str).keys() == {"ttt.epochs", "ttt.lr"}
    for changes in ({"ttt.epochs": [1]}, {"ttt": [None]}):
        with pytest.raises(ValueError, match=r"--set ttt\.epochs"):
            space_of("demo", changes, {"ttt.epochs": 7}, str)
    after = space_of("demo", {}, {"quant.mlp.bits": 4}, str)
    trial = DEMO(next(iter(points_of(after))))
    assert config_of(trial).quant.mlp.bits == 4, "the split would set it back"
    assert space_of("demo", {}, {"quant.codec": "zstd"}, str) == own


def test_a_file_has_no_space_of_its_own() -> None:
    """Fault: a file called demo.json is searched as the preset is."""
    assert space_of(None, {"ttt.epochs": [1, 2]}) == {"ttt.epochs": [1, 2]}
    with pytest.raises(ValueError, match="no space of its own"):
        space_of(None, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.02..0.3", Range(low=0.02, high=0.3)),
        ("log:1e-3..1e-1", Range(low=1e-3, high=1e-1, log=True)),
        ("int:1..20:3", Range(low=1, high=20, step=3)),
        ("int:-2..2", Range(low=-2, high=2, step=1)),
        ("1,2", None),
        ("../data", None),
        ("a..b", None),
    ],
)
def test_ranges_are_told_from_choices(text: str, expected: Range | None) -> None:
    """Fault: a path taken for a range, or an end lost."""
    assert parse_range(text, "x") == expected


@pytest.mark.parametrize("text", ["0.02..0.3", "log:1e-4..1e-1", "int:1..20:3"])
def test_what_is_drawn_lies_in_the_range(text: str) -> None:
    """Fault: a number beyond an end by rounding, a log range drawn evenly, whole numbers off their steps."""
    found = parse_range(text, "x")
    assert found is not None
    drawn = [found.draw(random.Random(seed)) for seed in range(400)]
    assert all(value in found for value in drawn)
    assert all(found.low <= value <= found.high for value in drawn)
    if found.step:
        assert set(drawn) == {1, 4, 7, 10, 13, 16, 19}
        assert all(isinstance(value, int) for value in drawn)
    else:
        middle = math.sqrt(found.low * found.high) if found.log else (found.low + found.high) / 2
        assert 0.4 < sum(value < middle for value in drawn) / len(drawn) < 0.6
