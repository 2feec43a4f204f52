"""What a sweep searches: fields with their choices, the points made of them, and the trials that points stand for."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.records.entries import Config

Space = Mapping[str, Sequence[Any]]
"""Dotted field -> its choices, JSON values."""
Point = Mapping[str, Any]
"""Dotted field -> one choice."""
Check = Callable[[Point], object]
"""Raises ValueError for a point that is no trial."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a search."""

    trial: str
    """12 hexadecimal digits of the digest of configuration and data: the same point is always the same trial."""
    parameters: Point
    """Values of the searched fields."""
    name: str
    """Short and readable."""
    config: Config
    """The whole configuration, as JSON values."""


def point_name(point: Point, keep_part: Collection[str] = ()) -> str:
    """Returns a short name of a point: texts stand for themselves, numbers with the last part of their field's name.

    Args:
        point: the searched fields' values.
        keep_part: first parts of fields that stay in the name, since the last part alone would mislead.
    """

    def short(field: str) -> str:
        part, _, last = field.rpartition(".")
        return f"{part}_{last}" if part in keep_part else last

    names = [short(field) for field in point]
    shared = {name for name, number in Counter(names).items() if number > 1}
    parts = []
    for (field, value), name in zip(point.items(), names, strict=True):
        longer = ".".join(field.split(".")[-2:])
        parts.append(value if isinstance(value, str) else f"{longer if name in shared else name}={value_text(value)}")
    return " ".join(parts)


def value_text(value: Any) -> str:
    """Returns a value as part of a name: lists and objects without spaces."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (list, dict)) else str(value)


def points_of(space: Space) -> Iterator[Point]:
    """Yields every combination, the last field changing fastest."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def size_of(space: Space) -> int:
    """Returns the number of combinations."""
    return math.prod(len(choices) for choices in space.values())


def split_choices(text: str, what: str) -> list[str]:
    """Cuts A,B,... at the commas outside brackets, braces and quotes.

    Args:
        text: the choices.
        what: named in errors.

    Raises:
        ValueError: for an empty choice, or a bracket or quote that does not close.
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


def check_space(space: Space, check: Check) -> None:
    """Raises ValueError naming the field unless every choice is valid in some combination.

    A choice that is wrong whatever the others are is named before those that it spoils.

    Args:
        space: the fields and their choices.
        check: raises ValueError for a point that is no trial.
    """
    for field, choices in space.items():
        if not choices:
            raise ValueError(f"{field} has no choices; give at least one, e.g. --space {field}=VALUE")
    single: list[Space] = [{field: [choice]} for field, choices in space.items() for choice in choices]
    for one in single:
        (field,) = one
        others = [{name: space[name]} for name in space if name != field]
        if not any(_problem(check, {**one, **other}) is None for other in ({}, *others)):
            _check_choice(check, space, field, one[field][0], _problem(check, one))
    for one in single:
        (field,) = one
        _check_choice(check, space, field, one[field][0])


def _problem(check: Check, space: Space) -> ValueError | None:
    """None where a combination is valid, else what is wrong with the first."""
    problem: ValueError | None = None
    for point in points_of(space):
        try:
            check(point)
            return None
        except ValueError as error:
            problem = problem or error
    return problem


def _check_choice(check: Check, space: Space, field: str, choice: Any, own: ValueError | None = None) -> None:
    """Raises ValueError unless a choice is valid in some combination. Args: own: what is wrong with it alone."""
    problem = _problem(check, {**space, field: [choice]})
    if problem is not None:
        raise ValueError(f"{field}={value_text(choice)} is valid in no combination: {own or problem}")
