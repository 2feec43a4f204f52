"""The settings of scripts: where a field is given, which values it takes, and the configuration of a trial."""

from pathlib import Path

import pytest

from golf.scripts.inputs import read_inputs
from tests.tune.workloads.script.trials import SCRIPTS, settings_of
from tune.records.entries import Objective
from tune.workloads.script.settings import (
    Constraint,
    check_setting,
    config_of,
    find_field,
    given_settings,
    parse_constraint,
    parse_objective,
)

GPT, RANKS = SCRIPTS / "train_gpt.py", SCRIPTS / "train_ranks.py"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("artifact_bytes<=16000000", Constraint(name="artifact_bytes", bound=16e6)),
        (" train_seconds <= 600.5 ", Constraint(name="train_seconds", bound=600.5)),
        ("steps>=16_000", Constraint(name="steps", bound=16_000, at_least=True)),
        ("a.b/c<=1E-3", Constraint(name="a.b/c", bound=0.001)),
        ("x>=-2", Constraint(name="x", bound=-2, at_least=True)),
    ],
)
def test_constraints(text: str, expected: Constraint) -> None:
    """Fault: a bound is read with another name, number or direction; its text is not read again as itself."""
    assert parse_constraint(text) == expected
    assert parse_constraint(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["x", "x<5", "x<=", "<=5", "x<=1.2.3", "x<=nan", "x<=inf", "x==5", "x<=5 MB", "x<=_", ""]
)
def test_texts_that_are_no_constraint(text: str) -> None:
    """Fault: a wrong bound is taken for another one, or ends in a traceback."""
    with pytest.raises(ValueError, match="NAME<=X"):
        parse_constraint(text)


def test_by_how_much_a_bound_is_missed() -> None:
    """Fault: the excess has the wrong sign or unit; a bound of 0 divides by 0."""
    assert parse_constraint("x<=10").excess(12) == pytest.approx(0.2)
    assert parse_constraint("x<=10").excess(10) == 0
    assert parse_constraint("x>=10").excess(8) == pytest.approx(0.2)
    assert parse_constraint("x>=10").excess(11) == 0
    assert parse_constraint("x<=0").excess(3) == 3


def test_objectives() -> None:
    """Fault: the direction is lost, or a mistyped one is taken for a name."""
    assert parse_objective("val_loss") == parse_objective("val_loss:min") == Objective(name="val_loss")
    assert parse_objective("core:max") == Objective(name="core", maximize=True)
    for text in ("core:maximum", "", ":max", "a b", "a:max:min"):
        with pytest.raises(ValueError, match="NAME:max"):
            parse_objective(text)


def test_where_a_field_is_given() -> None:
    """Fault: a mistyped name is ignored as the script itself does, or the right one is not told."""
    gpt, ranks = read_inputs(GPT.read_bytes()), read_inputs(RANKS.read_bytes())
    assert find_field(gpt, "MATRIX_LR") == find_field(gpt, "env.MATRIX_LR") == ("env", "MATRIX_LR")
    assert find_field(ranks, "arg.lr") == ("arg", "lr")
    assert find_field(ranks, "constant.WIDTH") == ("constant", "WIDTH")
    assert find_field(gpt, "NEW", frozenset({"NEW"})) == ("env", "NEW")
    for field, says in (("MATRIX_RL", "MATRIX_LR"), ("WIDTH", r"constant\.WIDTH"), ("arg.rl", "lr")):
        with pytest.raises(ValueError, match=says):
            find_field(gpt if field == "MATRIX_RL" else ranks, field)


def test_values_that_the_script_would_not_take() -> None:
    """Fault: a value that the script's own conversion refuses ends every trial instead of the command."""
    gpt = read_inputs(GPT.read_bytes())
    check_setting(gpt, "--env ITERATIONS", "env", "ITERATIONS", "20")
    for name, value in (("ITERATIONS", "2.5"), ("MATRIX_LR", "fast"), ("USE_SMEAR", "maybe")):
        with pytest.raises(ValueError, match=f"--env {name}={value}"):
            check_setting(gpt, f"--env {name}", "env", name, value)


def test_the_configuration_of_a_trial() -> None:
    """Fault: a fixed setting wins over a searched one; the seed is given twice; a seed that is none is rounded."""
    fixed = {"env": {"MATRIX_LR": "0.5", "MODEL_DIM": "64", "SEED": "3"}, "arg": {}, "constant": {}}
    settings = settings_of(GPT, fixed=fixed)
    config = config_of(settings, {"MATRIX_LR": 0.02, "SEED": 7})
    assert (config["env"], config["seed"]) == ({"MATRIX_LR": "0.02", "MODEL_DIM": "64"}, 7)
    assert given_settings(settings, config)["env"] == {"MATRIX_LR": "0.02", "MODEL_DIM": "64", "SEED": "7"}
    assert config_of(settings, {"seed": 7}) == config_of(settings, {"SEED": 7})
    assert "seed" not in config_of(settings_of(RANKS), {})
    with pytest.raises(ValueError, match="--seed-name"):
        config_of(settings_of(RANKS), {"seed": 7})
    for seed in (1.5, "many"):
        with pytest.raises(ValueError, match="seed is a whole number"):
            config_of(settings, {"SEED": seed})


def test_the_number_of_steps() -> None:
    """Fault: time left is told from another number of steps than the trial has, or a wrong one ends the sweep."""
    settings = settings_of(GPT, steps_variable="ITERATIONS", default_steps=40)
    for given, expected in (({}, 40), ({"ITERATIONS": 20}, 20), ({"ITERATIONS": "1e3"}, None)):
        assert settings.total_steps(config_of(settings, given)) == expected
    assert settings_of(GPT).total_steps(config_of(settings, {})) is None
    assert Path(settings.files.folder) == SCRIPTS
