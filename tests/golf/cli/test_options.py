"""Command lines: abbreviations, ranges, and words behind options with several values."""

import math

import pytest

from golf.cli.main import make_parser
from golf.cli.options import Parser, above, cpus, gpus, ranks, real, whole
from tune.cli.parsers import seeds_parser, sweep_parser

parse = make_parser().parse_args
parse_sweep, parse_seeds = sweep_parser().parse_args, seeds_parser().parse_args


def refusal(capsys: pytest.CaptureFixture[str], parser_of: object, words: list[str]) -> str:
    """The one line with which words are refused, before anything else happens."""
    with pytest.raises(SystemExit) as ended:
        parser_of(words)  # type: ignore[operator]
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--workers", ["0", "3", "16", "-1", "1.0", "nan"]),
        ("--cpus-per-worker", ["0", "0.5", "-1", "nan", "inf"]),
        ("--gpus-per-worker", ["-1", "1.5", "nan", "inf"]),
        ("--concurrent", ["0", "-1", "x"]),
        ("--store-gigabytes", ["0", "-1", "nan", "inf"]),
        ("--save-seconds", ["-1", "nan", "inf"]),
        ("--mtbf-hours", ["0", "nan", "inf"]),
        ("--patience-seconds", ["0", "nan", "inf"]),
        ("--timeout-seconds", ["0", "-5", "nan"]),
    ],
)
def test_machine_options_are_refused_by_their_names(
    option: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: a value that makes every trial fail, or hang, after Ray was started for it."""
    for command in (parse_sweep, parse_seeds):
        for value in values:
            assert f"argument {option}: must be" in refusal(capsys, command, ["demo", option, value])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--top", value) for value in ("0", "1.1", "nan")),
        *(("--screen-fraction", value) for value in ("0", "0.6", "nan")),
        *(("--seed", value) for value in ("-1", str(2**32))),
        *(("--gpus", value) for value in ("0", "-1")),
        *(("--step-seconds", value) for value in ("0", "nan", "inf")),
        *(("--stage-seconds", value) for value in ("ttt=nan", "ttt=-1", "tt=1", "ttt")),
        ("--dollars-per-gpu-hour", "-1"),
    ],
)
def test_other_numbers_of_a_sweep_too(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a plan or a screening of a number that is none."""
    assert f"argument {option}: " in refusal(capsys, parse_sweep, ["demo", option, value])


@pytest.mark.parametrize(
    "words",
    [
        ["run", "demo", "--save-seconds", "nan"],
        ["run", "demo", "--mtbf-hours", "0"],
        ["run", "demo", "--seconds", "inf"],
        ["fit", "runs/demo", "--tokens", "0"],
        ["fit", "runs/demo", "--cap", "-1"],
        ["check", "x", "--baseline", "1.1", "nan"],
        ["data", "fineweb", "--train-shards", "-1"],
    ],
)
def test_numbers_of_golf_s_commands_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: the same in commands without Ray."""
    assert f"argument {next(word for word in words if word.startswith('--'))}: " in refusal(capsys, parse, words)


def test_right_numbers_are_taken() -> None:
    """Fault: a number within its range is refused, or comes back as another."""
    assert [ranks(text) for text in "1248"] == [1, 2, 4, 8]
    assert (cpus("2"), cpus("4.0"), gpus("0"), gpus("0.5"), gpus("8")) == (2.0, 4.0, 0.0, 0.5, 8.0)
    assert (above()("1e-3"), real()("0"), real(most=0.5)("0.5")) == (0.001, 0.0, 0.5)
    assert (whole()("0"), whole(3, 5)("5")) == (0, 5)
    assert math.isclose(real(0.0, 1.0, open_below=True)("1"), 1.0)


@pytest.mark.parametrize(
    ("command", "words", "hint"),
    [
        (parse_sweep, ["demo", "--mt", "3"], "--mtbf-hours"),
        (parse_sweep, ["demo", "--dry"], "--dry-run"),
        (parse_seeds, ["demo", "--max", "4"], "--max-seeds"),
        (parse, ["run", "demo", "--sec", "5"], "--seconds"),
        (parse, ["data", "fineweb", "--train", "1"], "--train-shards"),
        (parse, ["check", "x", "--qui"], "--quick"),
    ],
)
def test_abbreviations_are_refused_with_the_whole_name(
    command: object, words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault: an abbreviation that is taken today means another option tomorrow."""
    assert f'did you mean "{hint}"' in refusal(capsys, command, words)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (parse_sweep, ["--space", "split=int8", "demo"]),
        (parse_sweep, ["--space", "split=int8", "ttt.epochs=1,2", "demo", "--dry-run"]),
        (parse_sweep, ["--stage-seconds", "ttt=3", "demo", "--space", "split=int8"]),
        (parse_seeds, ["--seeds", "7", "8", "9", "demo"]),
        (parse_seeds, ["--set", "ttt.lr=0.1", "demo"]),
        (parse, ["run", "--set", "schedule.steps=3", "demo"]),
    ],
)
def test_an_option_with_several_values_leaves_the_preset(command: object, words: list[str]) -> None:
    """Fault: "the following arguments are required: preset", though it is there."""
    parsed = command(words)  # type: ignore[operator]
    assert parsed.preset == "demo"
    assert "demo" not in [*getattr(parsed, "space", ()), *parsed.set]


def test_a_wrong_word_is_not_taken_for_a_second_preset(capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a choice without "=" becomes a positional, and the message speaks of something else."""
    assert parse_sweep(["demo", "--space", "split=int8", "epochs"]).space == ["split=int8", "epochs"]
    assert "too many words: nonsense" in refusal(capsys, parse_sweep, ["demo", "nonsense"])
    parser = Parser("x")
    parser.add_argument("file")
    assert "required: file" in refusal(capsys, parser.parse_args, [])
