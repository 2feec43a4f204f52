"""One program for many configurations: numbers that only stand in its text are filled in.

While a program is cut down to a configuration, each number of it notes whether anything was decided by its value. One
that was only written down is a blank in the text, and the same text serves every configuration that differs there.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from golf.config.config import RunConfig

_BLANK = re.compile(r"\bNUMBER_(\d+)_")
_DECIDING = (
    *("eq", "ne", "lt", "le", "gt", "ge", "bool", "str", "format", "hash", "index", "int"),
    *("float", "round", "abs", "neg", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"),
    *("floordiv", "rfloordiv", "mod", "rmod", "pow", "rpow", "divmod", "rdivmod", "trunc", "ceil", "floor"),
)
"""Operations by which a program can come to depend on a number."""


class _Number:
    """A number that notes whether it was used; as a literal of a program's text it is a blank."""

    place: int
    used: bool

    def __repr__(self) -> str:
        return f"NUMBER_{self.place}_"


def _noting(kind: type, name: str) -> Callable[..., Any]:
    operation = getattr(kind, name)

    def noted(self: Any, *others: Any) -> Any:
        self.used = True
        return operation(self, *others)

    return noted


def _number_class(kind: type) -> type:
    names = (f"__{name}__" for name in _DECIDING)
    return type(kind.__name__, (_Number, kind), {name: _noting(kind, name) for name in names if hasattr(kind, name)})


_CLASSES = {int: _number_class(int), float: _number_class(float)}


def numbered(config: RunConfig) -> RunConfig:
    """Returns the configuration with numbers that note their use; numbers in tuples and dictionaries are left."""
    count = 0

    def copied(part: Any) -> Any:
        nonlocal count
        if not is_dataclass(part):
            if type(part) not in _CLASSES:
                return part
            number, count = _CLASSES[type(part)](part), count + 1
            number.place, number.used = count, False
            return number
        copy = object.__new__(type(part))  # without the checks, which compare numbers
        for each in fields(part):
            object.__setattr__(copy, each.name, copied(getattr(part, each.name)))
        return copy

    return copied(config)


def is_blank(value: object) -> bool:
    """Returns whether a value of a configuration is one that the text has a blank for."""
    return isinstance(value, _Number)


def use_all(part: Any) -> None:
    """Notes that all numbers of a part of a configuration were used, by something that hides which."""
    for leaf in _leaves(part):
        if isinstance(leaf, _Number):
            leaf.used = True


def _leaves(part: Any) -> Iterator[Any]:
    """Yields the values of a configuration in the order of its fields, of each nested part its class before them."""
    if is_dataclass(part):
        yield type(part)
        for each in fields(part):
            yield from _leaves(getattr(part, each.name))
    else:
        yield part


@dataclass(frozen=True)
class Template:
    """A program's text with blanks."""

    text: str
    config: RunConfig
    """What the text was made for, of `numbered`."""

    def serves(self, config: RunConfig) -> bool:
        """Returns whether the program of another configuration is this text, filled in."""
        ours, theirs = list(_leaves(self.config)), list(_leaves(config))
        return len(ours) == len(theirs) and all(map(_serves, ours, theirs))

    def filled(self, config: RunConfig, written: Callable[[int | float], str]) -> str:
        """Returns the program of a configuration that it serves; written: gives a number as the program has it."""
        numbers = [leaf for leaf in _leaves(config) if type(leaf) in _CLASSES]
        return _BLANK.sub(lambda blank: written(numbers[int(blank[1]) - 1]), self.text)


def _serves(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, _Number):
        kind = int if isinstance(ours, int) else float
        return type(theirs) is kind and (not ours.used or kind(ours) == theirs)
    return type(ours) is type(theirs) and ours == theirs
