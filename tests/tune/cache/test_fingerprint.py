"""Keys: equal for equal arguments, different for any other; source digests: deaf to comments, not to code."""

import copy
import enum
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf.pipeline.bundle import COUNTED
from tune.cache.fingerprint import canonical, module_closure, source_digest, stage_key

PARENT = hashlib.sha256(b"parent").hexdigest()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)


def key(arguments: Any) -> str:
    """Returns the key of a stage with these arguments."""
    return stage_key("prefix", arguments, [PARENT], "source")


def reordered(value: Any) -> Any:
    """Returns an equal value whose dictionaries were filled in the opposite order."""
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def distinguishable(value: Any) -> Any:
    """Returns a form in which Python's == distinguishes types of numbers and the sign of zero."""
    if isinstance(value, dict):
        return {name: distinguishable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [distinguishable(item) for item in value]
    return type(value).__name__, value, math.copysign(1, value) if isinstance(value, float) else 0


@given(VALUES)
def test_order_of_fields_does_not_matter(value: Any) -> None:
    """Fault: the same config, read from another file, is trained again."""
    assert key(reordered(value)) == key(value)
    assert distinguishable(json.loads(canonical(value))) == distinguishable(value)


@given(VALUES, VALUES)
def test_keys_are_equal_exactly_for_equal_values(one: Any, other: Any) -> None:
    """Fault: two different settings share a result, e.g. 1 and 1.0, 1 and true, 0.0 and -0.0, [] and {}."""
    assert (key(one) == key(other)) == (distinguishable(one) == distinguishable(other))


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.dictionaries(st.text(), VALUES, min_size=1), st.data())
def test_any_changed_leaf_changes_the_key(value: dict[str, Any], data: st.DataObject) -> None:
    """Fault: a field deep inside does not reach the key."""
    changed = copy.deepcopy(value)
    part: Any = changed
    while True:
        field = data.draw(st.sampled_from(list(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[field], (dict, list)) or not part[field]:
            break
        part = part[field]
    old = part[field]
    part[field] = data.draw(LEAVES.filter(lambda leaf: distinguishable(leaf) != distinguishable(old)))
    assert key(changed) != key(value)


def test_neighbouring_floats_differ() -> None:
    """Fault: a float is rounded on its way into the key."""
    for value in (0.1, 1e-300, 1e22, 12.85, 2.0**60):
        assert key(value) != key(math.nextafter(value, math.inf))
    alike: list[Any] = [1, 1.0, True, "1", [1], None, 0, 0.0, -0.0, False, "", [], {}]
    assert len({key(value) for value in alike}) == len(alike)


def test_every_part_is_in_the_key() -> None:
    """Fault: another stage, parent, order of parents or source gives the same key; parts run into each other."""
    other = hashlib.sha256(b"other").hexdigest()
    keys = [
        stage_key("tail", {}, [], "s"),
        stage_key("pack", {}, [], "s"),
        stage_key("tail", {"parents": []}, [], "s"),
        stage_key("tail", {}, [PARENT], "s"),
        stage_key("tail", {}, [PARENT, other], "s"),
        stage_key("tail", {}, [other, PARENT], "s"),
        stage_key("tail", {}, [], "t"),
    ]
    assert len(set(keys)) == len(keys)


class Colour(enum.IntEnum):
    """A number that prints as a name."""

    RED = 1


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("arguments", "error", "path"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, ValueError, r"a\.b\[1\]"),
        ({"a": float("-inf")}, ValueError, "a is -inf"),
        ({"a": {"b": Path("/x")}}, TypeError, r"a\.b"),
        ({"a": [{"c": {1, 2}}]}, TypeError, r"a\[0\]\.c"),
        ({"a": b"x"}, TypeError, "a is of type bytes"),
        ({"a": {3: 4}}, TypeError, "key 3 at a"),
        ({"a": np.float64(0.5)}, TypeError, "a is of type float64"),
        ({"a": Colour.RED}, TypeError, "a is of type Colour"),
        ({"a": object()}, TypeError, "a is of type object"),
        ({"a": CYCLE}, ValueError, "contains itself"),
    ],
)
def test_what_has_no_stable_form_is_refused(arguments: Any, error: type[Exception], path: str) -> None:
    """Fault: a key rests on an address, on a set's order or on NaN, so that it changes from run to run."""
    with pytest.raises(error, match=path):
        key(arguments)


@pytest.mark.parametrize("parent", ["", "abc", PARENT.upper(), PARENT + "0", "../" + PARENT])
def test_a_parent_must_be_a_key(parent: str) -> None:
    """Fault: a stage's name or a path passes as a parent."""
    with pytest.raises(ValueError, match="64 hexadecimal"):
        stage_key("tail", {}, [parent], "s")


SOURCES = {
    "golf/__init__.py": '"""The trainer."""\n__version__ = "1"\n',
    "golf/plan.py": '"""Plan."""\nfrom golf.rows import row\nSTEPS = 3\n\ndef plan(n):\n    "A"\n    return row(n)\n',
    "golf/rows.py": "def row(n):\n    import golf.deep.math as m\n    return m.half(n)\n",
    "golf/deep/__init__.py": "from . import late\n",
    "golf/deep/late.py": "",
    "golf/deep/math.py": "from .table import TABLE\nfrom .. import extra\n\ndef half(n):\n    return n / 2\n",
    "golf/deep/table.py": "TABLE = (1, 2)\n",
    "golf/extra.py": "import json\n",
    "golf/unused.py": "import golf.plan\n",
    "json.py": "not Python at all (\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small package."""
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_imports_are_followed(root: Path) -> None:
    """Fault: a module imported inside a function, relatively or from a package is missed; one beside it counts."""
    assert module_closure(["golf.plan"], root) == [
        "golf",
        "golf.deep",
        "golf.deep.late",
        "golf.deep.math",
        "golf.deep.table",
        "golf.extra",
        "golf.plan",
        "golf.rows",
    ]
    assert source_digest(["golf.plan", "golf.extra"], root) == source_digest(["golf.plan"], root)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("golf/plan.py", '"""Plan."""', '"""Another plan."""'),
        ("golf/plan.py", "STEPS = 3\n", "# why three\nSTEPS = (3)  # said\n\n\n'alone'\n"),
        ("golf/plan.py", "    return row(n)", "\n    return row(\n        n\n    )"),
        ("golf/__init__.py", '"1"', '"2"'),
        ("golf/unused.py", "plan", "rows"),
    ],
)
def test_text_without_effect_changes_no_digest(root: Path, name: str, old: str, new: str) -> None:
    """Fault: a comment, a docstring, a line break or an uninvolved module makes the store useless."""
    before = source_digest(["golf.plan"], root)
    assert old in SOURCES[name]
    (root / name).write_text(SOURCES[name].replace(old, new))
    assert source_digest(["golf.plan"], root) == before


def test_a_moved_module_changes_no_digest(root: Path) -> None:
    """Fault: a tidied tree makes every stored result useless; or what a module imports no longer counts."""
    before = source_digest(["golf.plan"], root)
    (root / "golf" / "deeper").mkdir()
    (root / "golf" / "rows.py").rename(root / "golf" / "deeper" / "lines.py")
    (root / "golf" / "deeper" / "__init__.py").write_text('"""Deeper."""\n')
    plan = root / "golf" / "plan.py"
    plan.write_text(plan.read_text().replace("golf.rows", "golf.deeper.lines"))
    moved = source_digest(["golf.plan"], root)
    assert "golf.deeper.lines" in module_closure(["golf.plan"], root)
    assert moved == before
    (root / "golf" / "deeper" / "lines.py").write_text((root / "golf" / "deeper" / "lines.py").read_text() + "X = 1\n")
    assert source_digest(["golf.plan"], root) != moved
    plan.write_text(plan.read_text().replace("golf.deeper.lines", "golf.deep.table"))
    assert source_digest(["golf.plan"], root) not in (before, moved)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("golf/plan.py", "STEPS = 3", "STEPS = 3.0"),
        ("golf/plan.py", "STEPS = 3", "STEPS = 3; LIMIT = 4"),
        ("golf/plan.py", "return row(n)", "return row(n), 'text'"),
        ("golf/rows.py", "return", "yield"),
        ("golf/deep/math.py", "n / 2", "n // 2"),
        ("golf/deep/table.py", "(1, 2)", "(2, 1)"),
        ("golf/deep/__init__.py", "", "import golf.extra\n"),
        ("golf/deep/late.py", "", "LATE = 1\n"),
    ],
)
def test_any_code_changes_the_digest(root: Path, name: str, old: str, new: str) -> None:
    """Fault: changed code, here or in what it imports, is served a result of the old code."""
    before = source_digest(["golf.plan"], root)
    (root / name).write_text(SOURCES[name].replace(old, new, 1))
    assert source_digest(["golf.plan"], root) != before


def test_swapped_code_changes_the_digest(root: Path) -> None:
    """Fault: two modules that swap their contents under those that import them go unseen."""
    plan = "from golf.one import value\nfrom golf.two import other\n"
    (root / "golf/plan.py").write_text(plan)
    texts = {"one": "value = other = 1\n", "two": "value = other = 2\n"}
    for name, text in texts.items():
        (root / f"golf/{name}.py").write_text(text)
    before = source_digest(["golf.plan"], root)
    (root / "golf/one.py").write_text(texts["two"])
    (root / "golf/two.py").write_text(texts["one"])
    assert source_digest(["golf.plan"], root) != before


def test_a_missing_module_is_named(root: Path) -> None:
    """Fault: a misspelt module gives a digest of nothing."""
    with pytest.raises(ValueError, match=r"golf\.plam"):
        source_digest(["golf.plam"], root)
    (root / "golf/extra.py").write_text("from golf.gone import thing\n")
    with pytest.raises(ValueError, match=r"golf\.gone.*golf\.extra"):
        source_digest(["golf.plan"], root)


def test_the_trainer_itself() -> None:
    """Fault: a module that the counted code needs is not found by its imports, or a driver's module is."""
    closure = module_closure(["golf.pipeline.standalone"])
    assert set(COUNTED) <= set(closure)
    assert not {"golf.cli.run", "golf.config.presets"} & set(closure)
    assert source_digest(["golf.train.loop"]) != source_digest(["golf.evaluate.ttt"])
