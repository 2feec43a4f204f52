"""What is read of a script's source, against what the script does when it runs."""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from golf.scripts.inputs import check_value, literal, read_inputs, with_constants
from golf.scripts.settings import Setting
from tests.golf.scripts.made import KINDS, SCRIPT, packed

Names = dict[str, Any]


class Watched(dict[str, str]):
    """An environment that notes the names that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The environment of this process, watched."""
    environment = Watched()
    monkeypatch.setattr(os, "environ", environment)
    yield environment
    monkeypatch.undo()


def run(code: bytes) -> Names:
    """What a script binds when it runs."""
    names: Names = {"__name__": "made"}
    exec(compile(code, "made.py", "exec"), names)
    return names


def test_the_variables_are_those_that_the_script_asks_for(watched: Watched) -> None:
    """Fault: a variable that a helper, an alias or a packed code reads is unknown, or a dictionary's key is one."""
    run(SCRIPT)
    assert read_inputs(SCRIPT).variables.keys() == watched.asked | {"EXTRA"}


def test_the_defaults_are_those_that_the_script_takes(watched: Watched) -> None:
    """Fault: another default is shown than the script has."""
    found = read_inputs(SCRIPT).variables
    own = run(SCRIPT)["Hyperparameters"]
    assert float(found["MATRIX_LR"].default or "") == own.rate
    assert int(found["NUM_LAYERS"].default or "") == own.layers
    assert int(found["NUM_HEADS"].default or "") == own.heads
    assert int(found["DEPTH"].default or "") == own.depth
    assert (found["QK"].default, own.qk) == ("True", True)
    assert found["GOTTEN"].default == own.gotten
    assert found["RUN_ID"].default == "str(uuid.uuid4())"
    assert found["EXTRA"].default is None
    assert found["PICK"].default is None


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_type_is_that_of_the_first_conversion(name: str) -> None:
    """Fault: `MODE=slow` is refused as no switch, `TOKENS=1e6` as no whole number, `PICK=x` as no number."""
    assert read_inputs(SCRIPT).variables[name].kind == KINDS[name]


def test_lines_are_those_of_the_source() -> None:
    """Fault: a setting is shown at another line."""
    for setting in read_inputs(SCRIPT).variables.values():
        assert setting.name.encode() in SCRIPT.splitlines()[setting.line - 1]


@pytest.mark.parametrize("how", ["lzma", "xz", "zlib", "gzip"])
def test_packed_code_is_read_and_not_run(how: str, watched: Watched) -> None:
    """Fault: nothing is known of a packed script, or reading it runs it."""
    script = packed(SCRIPT + b"\nFOUND = 1\n", how)
    inputs = read_inputs(script)
    assert not watched.asked
    assert {name: found.kind for name, found in inputs.variables.items()} == KINDS
    assert {found.line for found in inputs.variables.values()} == {0}
    assert inputs.source.packed
    with pytest.raises(ValueError, match="RATE cannot be changed in packed code"):
        with_constants(script, inputs.constants, {"RATE": "1"})
    assert run(script)["FOUND"] == 1, "the made script is right"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_patched_constant_has_its_value_when_it_runs(mark: bytes, end: bytes, watched: Watched) -> None:
    """Fault: another byte range is replaced, behind a byte order mark, with other line ends or in two lines."""
    script = mark + ("# é\n".encode() + SCRIPT).replace(b"\n", end)
    values = {"STEPS": "7", "RATE": "inf", "FAST": "true", "NAME": 'a"b', "WIDE": "c", "Hyperparameters.width": "9"}
    names = run(with_constants(script, read_inputs(script).constants, values))
    assert [names[name] for name in ("STEPS", "RATE", "FAST", "NAME", "WIDE")] == [7, float("inf"), True, 'a"b', "c"]
    assert names["Hyperparameters"].width == 9
    assert names["QUOTED"] == "its"


def test_only_constants_that_are_bound_once_to_a_literal_count() -> None:
    """Fault: a constant is patched that the script binds anew."""
    constants = read_inputs(b"A = 1\nA = 2\nB = f()\nC: int = -3\nD = 2**10\nE = None\nif 1:\n    F = 1\n").constants
    assert {name: found.default for name, found in constants.items()} == {"C": "-3", "D": "1024"}


def test_no_byte_is_replaced_where_columns_are_counted_in_another_encoding() -> None:
    """Fault: a script in Latin 1 is damaged."""
    script = "# -*- coding: latin-1 -*-\nT = 'é'; STEPS = 3\n".encode("latin-1")
    constant = read_inputs(script).constants["STEPS"]
    assert constant.span is None or script[slice(*constant.span)] == b"3"


def test_flags() -> None:
    """Fault: a flag of argparse is missing, or has another type or default."""
    flags = read_inputs(b"""
import argparse
p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("-l", "--learning-rate", type=float, default=3e-4)
p.add_argument("--steps", default=60 * 2)
p.add_argument("--compile", action="store_true")
p.add_argument("--tie", action=argparse.BooleanOptionalAction, default=True)
p.add_argument("--set", action="append", default=None)
""").flags
    assert {name: (flag.kind, flag.default) for name, flag in flags.items()} == {
        "learning-rate": ("float", "0.0003"),
        "steps": ("int", "120"),
        "compile": ("bool", None),
        "tie": ("bool", "True"),
        "set": ("str", None),
    }


def test_names_that_are_made_at_run_time_are_told() -> None:
    """Fault: a listing passes for whole where the script composes names."""
    script = b"import os\nfor n in ('a', 'b'):\n    x = os.environ.get('P_' + n)\n"
    assert read_inputs(script).computed == (3,)
    assert read_inputs(SCRIPT).computed == ()


def test_a_script_for_a_newer_python_is_searched_by_line() -> None:
    """Fault: nothing is known of a script with nested quotes of Python 3.12."""
    script = b"import os\nx = int(os.environ.get('STEPS', '5'))\nprint(f'{d['a']}')\n"
    steps = read_inputs(script).variables["STEPS"]
    assert (steps.default, steps.line) == ("5", 2)


@pytest.mark.parametrize("text", [b"def f(:\n", b"\0", b"{\n", b'{"cells": [\n'])
def test_what_is_no_python_is_refused(text: bytes) -> None:
    """Fault: an empty listing of a file that is no script."""
    with pytest.raises(ValueError, match="it is no Python"):
        read_inputs(text)


@pytest.mark.parametrize(
    "text",
    [
        b"X = " + b"1+" * 400 + b"1",
        b"X = " + b"9**64*" * 60 + b"1",
        b"X = 0x" + b"f" * 9000,
        b"X = 1 << (1 << 60)",
        b"X = 1 / 0",
        b"X = (-8) ** 0.5",
        b"import os\nos.environ.get()\nos.getenv()\nos.environ.get(*a)",
    ],
)
def test_hostile_literals_cost_nothing(text: bytes) -> None:
    """Fault: a literal takes all memory, or ends the command with a traceback."""
    with warnings.catch_warnings(action="error"):
        read_inputs(text)


def test_values_of_another_type_are_refused() -> None:
    """Fault: a trial fails after its start for a value that its own conversion does not take."""
    check_value(Setting("A", "float", None, 1), "1e-3")
    check_value(Setting("A", "bool", None, 1), "1")
    check_value(Setting("A", "str", None, 1), "anything")
    for kind, value in (("int", "0.5"), ("float", "fast"), ("bool", "2")):
        with pytest.raises(ValueError, match=f"A is a .* in the script, got '{value}'"):
            check_value(Setting("A", kind, None, 1), value)  # type: ignore[arg-type]
    assert literal(Setting("A", "float", None, 1), "3") == "3.0"
