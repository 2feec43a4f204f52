"""Programs cut down to a configuration: what goes, and what must stay."""

import ast
from dataclasses import replace

import pytest

from golf.config.config import ModelConfig, QuantConfig, RunConfig, ScheduleConfig
from golf.pipeline.bundle import bundle
from golf.pipeline.parameters import with_short_parameters
from golf.pipeline.specialise import specialise
from golf.pipeline.syntax import without_nested_quotes
from golf.pipeline.unchecked import without_checks

CONFIG = RunConfig(model=ModelConfig(bigram_buckets=None), ttt=None)
HEAD = (
    "class Seen:\n    def __init__(self, model: ModelConfig, other):\n        self.model, self.other = model, other\n"
)


def cut(source: str, config: RunConfig = CONFIG) -> str:
    """The program whose roots are `main` and what it reaches."""
    return "\n".join(
        ast.unparse(ast.fix_missing_locations(n)) for n in specialise(ast.parse(source).body, config, ["main"])
    )


@pytest.mark.parametrize(
    ("test", "kept"),
    [
        ("model.bigram_buckets is not None", False),
        ("model.bigram_buckets is None and model.smear_gate", True),
        ("model.num_layers > 100 or config.ttt is not None", False),
        ("not seen.model.smear_gate", False),
    ],
)
def test_what_the_configuration_decides_is_decided(test: str, kept: bool) -> None:
    """Catches code that is paid for and never runs, and a branch that is taken the wrong way."""
    source = (
        f"{HEAD}def main(config: RunConfig, seen: Seen):\n    model = config.model\n    if {test}:\n        used()\n"
    )
    assert "if " not in cut(source + "def used():\n    pass\n").replace("if __name__", "")
    assert ("used()" in cut(source + "def used():\n    pass\n")) == kept


def test_values_are_written_where_they_are_read() -> None:
    """Catches configuration that is paid for though all of it is known, a value that is lost, and a seed that is not
    the command line's."""
    source = (
        "def main(settings):\n    config = from_plain(RunConfig, settings)\n    run(replace(config, seed=given()))\n"
        "def run(config: RunConfig):\n    steps, unread = config.schedule.steps, config.model\n"
        "    model(config.model, config.seed)\n    tell(to_plain(config), f'{steps} of {config.quant.codec}')\n"
        "def model(shape: ModelConfig, seed):\n    return layers(shape.visits(), shape.value_layers, seed, shape)\n"
        "def layers(order, values, seed, shape):\n    return order, values, seed\n"
        "def from_plain(kind, values):\n    return kind(values)\n"
        "def to_plain(record):\n    return record\nclass RunConfig:\n    pass\n"
    )
    text = cut(source, replace(CONFIG, schedule=ScheduleConfig(steps=4000)))
    assert "model(config.seed)" in text
    assert "run(argparse.Namespace(seed=given()))" in text
    assert "tell(CONFIG, f'4000 of rans')" in text
    assert "return layers((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (9, 10), seed)" in text
    assert not any(word in text for word in ("from_plain", "to_plain", "unread", "steps", "shape"))


def test_what_does_something_stays_though_nothing_reads_its_value() -> None:
    """Catches a call that is left out with the name that its result was bound to, or with an unread parameter."""
    source = (
        "def main(model: ModelConfig):\n    size, kept = model.num_layers, opened()\n    f(closed(), model)\n"
        "def f(result, model):\n    pass\n"
    )
    text = cut(source)
    assert "opened()" in text
    assert "f(closed())" in text


@pytest.mark.parametrize(
    "test",
    [
        "config.seed == 42",  # a command line sets it
        "seen is not None",  # annotated as one that may be missing
        "other.bigram_buckets is None",  # of no known type
        "bound.bigram_buckets is None",  # bound twice
        "seen.other is None",  # anything
        "grid.bits == 6",  # of several grids, which differ
    ],
)
def test_what_is_open_stays_open(test: str) -> None:
    """Catches a decision that the configuration does not justify: the file would compute something else."""
    source = (
        f"{HEAD}def main(config: RunConfig, seen: Seen | None, other, grid: GridConfig):\n    bound = config.model\n"
        f"    bound = other\n    if {test}:\n        used()\ndef used():\n    pass\n"
    )
    assert f"if {test}:" in cut(source)


def test_a_parameter_with_one_value_goes_and_others_stay() -> None:
    """Catches a parameter that is removed although a call gives another value, or is used otherwise than called."""
    source = "def f(a, b=None, *, c=1):\n    return (a, b, c)\ndef g(x, y=2):\n    return x + y\ndef main():\n"
    source += "    return f(3, None) + f(4, c=1), g(1), g(1, 5), map(h, [1])\ndef h(x, z=0):\n    return x + z\n"
    scope: dict[str, object] = {}
    wanted: dict[str, object] = {}
    exec(source, wanted)
    exec(cut(source), scope)
    assert "def f(a):" in cut(source) or "def f():" in cut(source)
    assert "def g(y=2):" in cut(source)
    assert "def h(x, z=0):" in cut(source)
    assert [list(part) if isinstance(part, map) else part for part in eval("main()", scope)] == [
        list(part) if isinstance(part, map) else part for part in eval("main()", wanted)
    ]


def test_short_parameters_mean_the_same() -> None:
    """Catches a parameter whose new name is another's, and a call by a name that is gone."""
    source = (
        "def f(first, second, *, third=0):\n    def inner(first, value):\n        return first - value - second\n"
        "    return inner(third, first), sorted([third, first], key=lambda second: -second), {**dict(third=third)}\n"
        "def main(named):\n    e = 5\n    return f(third=1, second=named, first=e), f(1, 2)\n"
    )
    scope: dict[str, object] = {}
    wanted: dict[str, object] = {}
    exec(source, wanted)
    short = with_short_parameters(ast.parse(source).body)
    text = "\n".join(ast.unparse(ast.fix_missing_locations(node)) for node in short)
    exec(text, scope)
    assert eval("main(9)", scope) == eval("main(9)", wanted)
    assert "second" not in text


def test_strings_in_f_strings_mean_the_same_to_every_python() -> None:
    """Catches quotes inside quotes, which Python 3.11 cannot read, and formats that are lost on the way round them."""
    source = """x = {'a': 2.5, 'b': 'ü'}
y = f"{{}}{x['a']:6.2f}|{x['b']!r}|{'c' if x else 'd'}|{3!r:>4}|", f"{x}"
"""
    scope: dict[str, object] = {}
    wanted: dict[str, object] = {}
    exec(source, wanted)
    text = "\n".join(ast.unparse(ast.fix_missing_locations(n)) for n in without_nested_quotes(ast.parse(source).body))
    exec(text, scope)
    assert scope["y"] == wanted["y"]
    assert text.count("f'") == 1


def test_checks_go_and_control_flow_stays() -> None:
    """Catches an error that a caller catches to go on, removed with the checks."""
    source = (
        "def f(x):\n    if x > 1:\n        raise ValueError(f'{x} is too large')\n"
        "    if x < 0:\n        raise Diverged(x)\n    if file.readinto(x) != 3:\n        raise ValueError('cut')\n"
        "    try:\n        y = g(x)\n    except KeyError:\n        y = 0\n    try:\n        return h(y)\n"
        "    except TypeError as error:\n        raise ValueError(str(error)) from error\n"
    )
    text = "\n".join(ast.unparse(node) for node in without_checks(ast.parse(source).body))
    assert "ValueError" not in text
    assert "raise Diverged(x)" in text
    assert "file.readinto(x)" in text, "a test that does something besides"
    assert "except KeyError" in text
    assert "return h(y)" in text


@pytest.mark.long
def test_a_configuration_pays_for_what_it_uses_alone() -> None:
    """Catches parts that every configuration ships, or one that lacks a part of its own."""
    base, gptq = RunConfig(), RunConfig(quant=QuantConfig(mlp=replace(RunConfig().quant.mlp, method="gptq")))
    with_swa = RunConfig(schedule=ScheduleConfig(averaging="swa"))
    assert len(bundle(replace(base, ttt=None))) < len(bundle(base)) - 1500
    assert len(bundle(base)) < len(bundle(gptq)) - 1000
    assert len(bundle(base)) < len(bundle(with_swa))
