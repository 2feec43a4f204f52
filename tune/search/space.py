"""What a sweep searches: dotted fields of a configuration with their choices, and the points made of them.

A preset and a space enter, trials leave: the same point is always the same trial with the same id, which is what
lets an interrupted sweep go on. "split" stands for a named quantisation split, "repeat" for the number of a run that
is done again: from 1 on it has an id of its own, and nobody else's results may stand for it.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from golf.cli.options import assignment_of
from golf.config.config import RunConfig, override_all, to_plain, typed_value
from golf.config.presets import PRESETS, find_split, with_split
from golf.runtime.results import digest

Space = Mapping[str, Sequence[Any]]
"""Dotted field -> its choices."""
Point = Mapping[str, Any]
"""Dotted field -> one choice."""
SPLIT = "split"
GRIDS = ("quant.attention", "quant.mlp", "quant.token_embedding", "quant.tables")
"""What a split sets."""
REPEAT = "repeat"
SEED = "seed"

SPACES: dict[str, Space] = {
    "demo": {
        "schedule.steps": [130, 200],
        "schedule.warmdown_start": [30, 60],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "ttt.lr": [0.005, 0.01],
        "ttt.epochs": [1, 2],
    },
    "pr598": {
        "schedule.steps": [7000, 9000],
        "schedule.warmdown_start": [3500, 5000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "ttt.lr": [0.001, 0.002, 0.004],
        "ttt.epochs": [3, 10],
    },
    "pr668": {
        "schedule.steps": [20_000, 30_000],
        "schedule.warmdown_start": [8000, 12_000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["pure-int6", "mixed-int6-int8"],
        "ttt.lr": [0.001, 0.002, 0.004],
        "ttt.epochs": [3, 10],
    },
}
"""By preset; the other presets take pr598's."""


@dataclass(frozen=True)
class Trial:
    """One point of the search."""

    trial: str
    """12 hex digits of the digest of the configuration and the data."""
    parameters: Point
    """The searched fields' values."""
    config: RunConfig
    """The whole configuration."""

    @property
    def name(self) -> str:
        """Short and readable; words stand for themselves."""
        names = [_short(field) for field in self.parameters]
        shared = {name for name, number in Counter(names).items() if number > 1}
        parts = []
        for (field, value), name in zip(self.parameters.items(), names, strict=True):
            if isinstance(value, str):
                parts.append(value)
            else:
                longer = ".".join(field.split(".")[-2:])
                parts.append(f"{longer if name in shared else name}={_text(value)}")
        return " ".join(parts)


def _short(field: str) -> str:
    """The field's last name; TTT's keep their part, because "lr" alone would mislead."""
    part, _, last = field.rpartition(".")
    return f"ttt_{last}" if part == "ttt" else last


def _text(value: Any) -> str:
    """A value in a name: lists and objects without spaces."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (list, dict)) else str(value)


def space_of(
    preset: str | None, changes: Space, fixed: Mapping[str, Any] | None = None, say: Callable[[str], object] = print
) -> Space:
    """The preset's space with the choices in `changes` instead of its own; these alone for what is no preset.

    Args: preset: None for a configuration file; fixed: fields of every trial, which leave the preset's space; say: is
        told of it.
    Raises: ValueError when nothing would be searched, or a field is both searched and fixed.
    """
    fixed = fixed or {}
    pairs = [(one, "--set", other) for one in changes for other in fixed]
    pairs += [(one, "--space", other) for one, other in itertools.combinations(changes, 2)]
    for one, option, other in pairs:
        if _overlap(one, other):
            raise ValueError(f"--space {one} and {option} {other} say what one field is: give only one of them")
    kept = {}
    for field, choices in (SPACES.get(preset, SPACES["pr598"]) if preset in PRESETS else {}).items():
        by = next((name for name in (*fixed, *changes) if name != field and _overlap(name, field)), None)
        if field in fixed or by is not None:
            said = "--set fixes it" if by is None else f"{'--set' if by in fixed else '--space'} {by} decides it"
            say(f"{field} leaves the search: {said}")
        else:
            kept[field] = choices
    space = {**kept, **changes}
    if SPLIT in space:  # a split sets whole grids: what is set of them comes after it, in every trial
        space |= {field: [value] for field, value in fixed.items() if any(_overlap(field, grid) for grid in GRIDS)}
    if not space:
        if preset in PRESETS:
            raise ValueError(
                f"every field of {preset}'s space is set: nothing is left to search; give --space FIELD=A,B,..."
            )
        raise ValueError("a configuration file has no space of its own; give --space FIELD=A,B,...")
    return space


def _overlap(one: str, other: str) -> bool:
    """Whether one field is the other or a part of it."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def read_choices(words: Sequence[str], say: Callable[[str], object] = print) -> Space:
    """Fields and their choices of --space FIELD=A,B,...; equal choices are one, which `say` is told.

    Raises: ValueError naming a field that is given twice or has no choices, or a choice of another type.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        field, _ = assignment_of(word, "--space")
        if field in found:
            raise ValueError(f"--space {field} is given twice; put all its choices behind one: {field}=A,B,...")
        seen: dict[str, str] = {}
        found[field] = []
        for text in split_choices(word.partition("=")[2], f"--space {field}"):
            value = assignment_of(f"{field}={text}", "--space")[1]
            key = _canonical(field, value)
            if key in seen:
                say(f"--space {field}: {text} is the same as {seen[key]}, one choice")
            else:
                seen[key] = text
                found[field].append(value)
    return found


def split_choices(text: str, what: str) -> list[str]:
    """A,B,... cut at the commas outside brackets, braces and quotes.

    Args: what: is named in errors.
    Raises: ValueError for an empty choice, or a bracket or quote that does not close.
    """
    parts, depth, quoted, escaped = [""], 0, False, False
    for letter in text:
        if letter == "," and not depth and not quoted:
            parts.append("")
            continue
        parts[-1] += letter
        if letter == '"' and not escaped:
            quoted = not quoted
        elif not quoted:
            depth += (letter in "[{") - (letter in "]}")
            if depth < 0:
                break
        escaped = quoted and letter == "\\" and not escaped
    if depth or quoted:
        raise ValueError(
            f"{what}={text}: a bracket or a quote does not close; lists are written [1,2],[3] (in quotes of the shell)"
        )
    if not all(part.strip() for part in parts):
        raise ValueError(f"{what}={text}: a choice is empty; give choices as A,B,...")
    return [part.strip() for part in parts]


def _canonical(field: str, value: Any) -> str:
    """A choice in the one form that equal choices share.

    Raises: ValueError naming the field, the choice and what it may be.
    """
    if field == REPEAT:
        return json.dumps(value)
    try:
        typed = str(find_split(str(value))) if field == SPLIT else typed_value(field, value)
    except ValueError as error:
        remedy = "; a range is no choice, list its values: A,B,..." if isinstance(value, str) and ".." in value else ""
        raise ValueError(f"--space {field}={_text(value)}: {error}{remedy}") from error
    return json.dumps(to_plain(typed) if is_dataclass(typed) else typed, sort_keys=True)


def points_of(space: Space) -> Iterator[Point]:
    """Every combination, the last field changing fastest."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def make_trial(base: RunConfig, point: Point, data: str) -> Trial:
    """`base` with the point's fields set.

    Args: data: the dataset's digest.
    Raises: ValueError naming a wrong field or value, also of a combination.
    """
    values = {field: value for field, value in point.items() if field not in (SPLIT, REPEAT)}
    config = override_all(with_split(base, point[SPLIT]) if SPLIT in point else base, values)
    repeat = point.get(REPEAT, 0)
    if type(repeat) is not int or repeat < 0:
        raise ValueError(f"{REPEAT} must be a whole number from 0 on, got {repeat!r}")
    again = [{REPEAT: repeat}] if repeat else []
    return Trial(digest(to_plain(config), data, *again)[:12], dict(point), config)


def check_space(base: RunConfig, space: Space) -> None:
    """Raise ValueError naming the field unless every choice is valid in some combination.

    A choice that is wrong whatever the others are is named before those that it spoils.
    """
    for field, choices in space.items():
        if not choices:
            raise ValueError(f"{field} has no choices; give at least one, e.g. --space {field}=VALUE")
        for choice in choices:
            _canonical(field, choice)
    alone: list[Space] = [{field: [choice]} for field, choices in space.items() for choice in choices]
    for one in alone:
        (field,) = one
        others = [{name: space[name]} for name in space if name != field]
        if not any(_problem(base, {**one, **other}) is None for other in ({}, *others)):
            _check_choice(base, space, field, one[field][0], _problem(base, one))
    for one in alone:
        (field,) = one
        _check_choice(base, space, field, one[field][0])


def _problem(base: RunConfig, space: Space) -> ValueError | None:
    """None where a combination is valid, else what is wrong with the first."""
    problem: ValueError | None = None
    for point in points_of(space):
        try:
            make_trial(base, point, "")
            return None
        except ValueError as error:
            problem = problem or error
    return problem


def _check_choice(base: RunConfig, space: Space, field: str, choice: Any, own: ValueError | None = None) -> None:
    """Raise ValueError unless a choice is valid in some combination. Args: own: what is wrong with it alone."""
    problem = _problem(base, {**space, field: [choice]})
    if problem is not None:
        raise ValueError(f"{field}={_text(choice)} is valid in no combination: {own or problem}")
