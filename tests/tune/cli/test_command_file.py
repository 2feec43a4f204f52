"""Command lines that are written down: the same words, others in their place, errors that name theirs."""

from pathlib import Path

import pytest

from golf.config.presets import PRESETS
from tune.cli.command_file import read_command
from tune.cli.parsers import sweep_parser
from tune.cli.run_sweep import search_config
from tune.cli.script_parsers import script_sweep_parser
from tune.search.space import Range

YAML = """
preset: demo
trials: 9
search: random
no_screening: true
max-hours: 1e1
enqueue: [ttt.lr=0.01, ttt.lr=0.02]
only: [ttt.lr, model.value_layers, schedule.steps]
space:
  ttt.lr: log:1e-3..1e-1
  model.value_layers: [[2, 3], [3]]
  schedule.steps: int:100..200:50
  split: [int4, int8]
set:
  optimizer.matrix_lr: 0.03
  quant.mlp.symmetric: true
  model.loop: null
"""
TOML = """
preset = "demo"
trials = 9
search = "random"
no-screening = true
max-hours = 10.0
enqueue = ["ttt.lr=0.01", "ttt.lr=0.02"]
only = ["ttt.lr", "model.value_layers", "schedule.steps"]
[space]
ttt.lr = "log:1e-3..1e-1"
schedule.steps = "int:100..200:50"
split = ["int4", "int8"]
model.value_layers = [[2, 3], [3]]
[set]
optimizer.matrix_lr = 0.03
quant.mlp.symmetric = true
model.loop = "null"
"""


def words_of(folder: Path, text: str, *words: str, name: str = "sweep.yaml") -> list[str]:
    """The words of a command about a file."""
    (folder / name).write_text(text)
    return read_command([str(folder / name), *words], sweep_parser, script_sweep_parser).words


@pytest.mark.parametrize(("name", "text"), [("sweep.yaml", YAML), ("sweep.toml", TOML)])
def test_a_file_is_a_command_line(tmp_path: Path, name: str, text: str) -> None:
    """Fault: a key lost, or taken for something else than the option means."""
    parsed = sweep_parser().parse_args(words_of(tmp_path, text, "--trials", "4", "--dry-run", name=name))
    assert (parsed.preset, parsed.trials, parsed.search, parsed.max_hours) == ("demo", 4, "random", 10.0)
    assert parsed.no_screening
    assert parsed.dry_run
    assert parsed.enqueue == ["ttt.lr=0.01", "ttt.lr=0.02"]
    assert sorted(parsed.set) == ["model.loop=null", "optimizer.matrix_lr=0.03", "quant.mlp.symmetric=true"]
    parsed.enqueue = []
    (space,) = search_config(parsed, PRESETS["demo"]).spaces
    assert space == {
        "ttt.lr": Range(low=1e-3, high=1e-1, log=True),
        "model.value_layers": [[2, 3], [3]],
        "schedule.steps": Range(low=100, high=200, step=50),
    }


def test_the_command_line_comes_instead(tmp_path: Path) -> None:
    """Fault: a field given twice, choices added to those of the file, or the file's list beside the given one."""
    given = ("-s", "split=int8", "--set", "ttt.lr=0.02", "seed=3", "--only", "split", "--enqueue=split=int8")
    parsed = sweep_parser().parse_args(words_of(tmp_path, YAML, *given))
    assert parsed.only == ["split"]
    assert parsed.enqueue == ["split=int8"]
    assert [word for word in parsed.space if word.startswith(("split", "ttt.lr"))] == ["split=int8"]
    assert [word for word in parsed.set if word.startswith("ttt.lr")] == ["ttt.lr=0.02"]
    words = words_of(tmp_path, "script: a/train.py\nenv: {LR: 1, N: 2}\nspace: {arg.x: [1, 2]}\n", "--space=LR=1,2")
    assert words[0] == str(tmp_path / "a" / "train.py")
    assert words[1:] == ["--env", "N=2", "--space", "arg.x=1,2", "--space=LR=1,2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("preset: demo\ntrails: 3", 'unknown key "trails"; did you mean "trials"'),
        ("preset: demo\nconcurrent: 0", "concurrent = 0: must be a whole number of at least 1"),
        ("preset: demo\nmax-hours: soon", "max-hours = soon: must be a finite number of hours"),
        ("preset: demo\ntrials: [1, 2]", "trials = [1, 2] takes one value"),
        ("preset: demo\ntrials:", "trials has no value"),
        ("preset: demo\ntrials: 1\ntrials: 2", 'line 3: "trials" is given twice'),
        ("preset: demo\nno-reuse: 'yes'", "no-reuse = 'yes' must be true or false"),
        ("preset: demo\nspace: ttt.lr", "space = 'ttt.lr': it is a table"),
        ("preset: demo\nenv: {A: 1}", "unknown table [env]"),
        ("script: t.py\nenv: {A: [1, 2]}", "[env] A takes one value"),
        ("trials: 3", "names no preset and no script"),
        ("preset: demo\nscript: t.py", "names both"),
        ("preset: [demo", "line 1: "),
        ("- 1", "must hold options"),
        ("preset: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """Fault: a trace, a key that is dropped in silence, or a message without the file; something executed."""
    with pytest.raises(ValueError, match=r"sweep\.yaml") as error:
        words_of(tmp_path, text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("words", "is_script"),
    [
        (["demo", "--then", "python done.py"], False),
        (["demo", "--name", "x.toml", "--set", "seed=1"], False),
        (["--dry-run", "train.py"], True),
        (["--space", "A=1", "train.py"], True),
        ([], False),
    ],
)
def test_values_of_options_are_no_files(words: list[str], is_script: bool) -> None:
    """Fault: a command of --then taken for a training script, or a name for a file."""
    line = read_command(words, sweep_parser, script_sweep_parser)
    assert (line.words, line.is_script) == (words, is_script)
