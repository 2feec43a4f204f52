"""What a sweep searches: fields with their choices, the points made of them, and the trials that points stand for."""

import difflib
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.records.entries import Config

_DIGITS = 4
"""Significant digits of a number that is drawn from a range."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?:(log|int):)?({_NUMBER})\.\.({_NUMBER})(?::(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios are equally likely, instead of equal differences."""
    step: int | None = None
    """Whole numbers this far apart, from `low` on; None: any numbers."""

    def __str__(self) -> str:
        """As it is written on a command line."""
        kind = "int:" if self.step is not None else "log:" if self.log else ""
        return f"{kind}{self.low:g}..{self.high:g}" + (f":{self.step}" if self.step not in (None, 1) else "")

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return self.step is None or (value - self.low) % self.step == 0

    def __len__(self) -> int:
        """Numbers in it. Raises: TypeError for a range of any numbers."""
        if self.step is None:
            raise TypeError("a range of any numbers has no length")
        return int((self.high - self.low) // self.step) + 1

    def ends(self) -> list[float]:
        """Returns the least and the largest number."""
        return [self.low, self.high] if self.step is None else [self.values()[0], self.values()[-1]]

    def values(self) -> list[float]:
        """Returns all whole numbers in it."""
        return [int(self.low) + self.step * number for number in range(len(self))] if self.step else []

    def draw(self, source: random.Random) -> float:
        """Returns a random number in it."""
        if self.step is not None:
            return source.choice(self.values())
        if self.log:
            return self.rounded(math.exp(source.uniform(math.log(self.low), math.log(self.high))))
        return self.rounded(source.uniform(self.low, self.high))

    def rounded(self, value: float) -> float:
        """Returns a number in it with few digits, near `value`: names are short, and what is shown is what ran."""
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


Space = Mapping[str, Sequence[Any] | Range]
"""Dotted field -> its choices, JSON values, or a range."""
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
    """The searched fields with their values."""
    config: Config
    """The whole configuration, as JSON values."""


def point_name(point: Point) -> str:
    """Returns the name of a point: each field with its value, as `--space` and `--set` take them."""
    return " ".join(f"{field}={value_text(value)}" for field, value in point.items())


def value_text(value: Any) -> str:
    """Returns a value as the command line takes it: texts as they are, all else as JSON without spaces."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def parse_range(text: str, what: str) -> Range | None:
    """Returns the range of LOW..HIGH, log:LOW..HIGH or int:LOW..HIGH[:STEP]; None for another text.

    Args:
        text: what is given for a field.
        what: the field, named in errors.

    Raises:
        ValueError: for a range that is empty, or with ends that do not fit its kind.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    kind, low, high, step = match[1], float(match[2]), float(match[3]), match[4]
    if not low < high:
        raise ValueError(f"{what}={text}: the lower end comes first and is below the upper one")
    if kind == "log" and low <= 0:
        raise ValueError(f"{what}={text}: a log range begins above 0")
    if kind == "int" and not (low.is_integer() and high.is_integer() and int(step or 1) > 0):
        raise ValueError(f"{what}={text}: a range of int: has whole ends and a step of 1 or more")
    if step is not None and kind != "int":
        raise ValueError(f"{what}={text}: only int:LOW..HIGH:STEP has a step")
    return Range(low=low, high=high, log=kind == "log", step=int(step or 1) if kind == "int" else None)


def choices_of(choices: Sequence[Any] | Range) -> Sequence[Any]:
    """Returns the choices of a field; of a range all its whole numbers, or its ends."""
    if isinstance(choices, Range):
        return choices.ends() if choices.step is None else choices.values()
    return choices


def points_of(space: Space) -> Iterator[Point]:
    """Yields every combination, the last field changing fastest; of ranges of any numbers the ends only."""
    for values in itertools.product(*map(choices_of, space.values())):
        yield dict(zip(space, values, strict=True))


def draw_points(space: Space, num_points: int, source: random.Random) -> list[Point]:
    """Returns up to `num_points` different random points."""
    drawn: dict[str, Point] = {}
    for _ in range(4 * num_points):
        values = {
            name: field.draw(source) if isinstance(field, Range) else source.choice(field)
            for name, field in space.items()
        }
        drawn.setdefault(json.dumps(values), values)
        if len(drawn) == num_points:
            break
    return list(drawn.values())


def is_continuous(space: Space) -> bool:
    """Returns whether a space has a range of any numbers, so that it has no last point."""
    return any(isinstance(field, Range) and field.step is None for field in space.values())


def read_points(
    texts: Sequence[str], space: Space, read: Callable[[str, str], Any], default: Callable[[str], Any]
) -> list[Point]:
    """Returns the points of --enqueue FIELD=VALUE,FIELD=VALUE,..., each with a value for every field of a space.

    Args:
        texts: one of each point.
        space: that holds them.
        read: (field, text) -> a value of the field; raises ValueError for a wrong one.
        default: field -> its value where a text does not name it; None where there is none.

    Raises: ValueError naming the point and a field that is not searched, is given twice, or has a value that the space
        does not hold.
    """
    return [_read_point(text, space, read, default) for text in texts]


def _read_point(text: str, space: Space, read: Callable[[str, str], Any], default: Callable[[str], Any]) -> Point:
    given: dict[str, Any] = {}
    for part in split_choices(text, "--enqueue"):
        field, equals, value = part.partition("=")
        if not equals or not field:
            raise ValueError(f'--enqueue takes FIELD=VALUE,FIELD=VALUE,..., got "{part}" in {text}')
        if field not in space:
            close = difflib.get_close_matches(field, space, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"add --space {field}=A,B,..."
            raise ValueError(f"--enqueue {text}: {field} is not searched; {hint} (searched: {', '.join(space)})")
        if field in given:
            raise ValueError(f"--enqueue {text}: {field} is given twice; give another --enqueue for another point")
        given[field] = read(field, value)
        if given[field] not in space[field]:
            raise ValueError(
                f"--enqueue {text}: the space has {field}={_choices_text(space[field])}; widen it by --space"
            )
    for field, choices in space.items():
        if field not in given and (value := default(field)) not in choices:
            what = (
                "its own value is not known" if value is None else f"its own value {value_text(value)} is none of them"
            )
            raise ValueError(f"--enqueue {text}: give {field}={_choices_text(choices)} too, {what}")
    return {field: given[field] if field in given else default(field) for field in space}


def _choices_text(choices: Sequence[Any] | Range) -> str:
    if isinstance(choices, Range):
        return str(choices)
    return ",".join(map(value_text, choices))


def only_of(space: Space, fields: Sequence[str]) -> Space:
    """Returns a space without all but some fields. Raises: ValueError with near matches for one that is not in it."""
    for field in fields:
        if field not in space:
            close = difflib.get_close_matches(field, space, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"add --space {field}=A,B,..."
            raise ValueError(f'--only: "{field}" has no choices; {hint} (searched: {", ".join(space)})')
    return {field: space[field] for field in dict.fromkeys(fields)}


def size_of(space: Space) -> int:
    """Returns the number of combinations; ranges of any numbers count as their ends."""
    return math.prod(len(choices_of(choices)) for choices in space.values())


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
        if not choices_of(choices):
            raise ValueError(f"{field} has no choices; give at least one, e.g. --space {field}=VALUE")
    single = [(field, choice) for field, choices in space.items() for choice in choices_of(choices)]
    for field, choice in single:
        one: Space = {field: [choice]}
        others = [{name: space[name]} for name in space if name != field]
        if not any(_problem(check, {**one, **other}) is None for other in ({}, *others)):
            _check_choice(check, space, field, choice, _problem(check, one))
    for field, choice in single:
        _check_choice(check, space, field, choice)


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
