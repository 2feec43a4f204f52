"""Command lines: full names of options, numbers with a range, errors in one line.

Every command of the project is parsed by `Parser`. An option is never abbreviated, since a later version may have two
that begin alike.
"""

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from golf.config.config import MICRO_BATCHES, nearest

RANKS = tuple(size for size in range(1, MICRO_BATCHES + 1) if MICRO_BATCHES % size == 0)
"""Numbers of processes that can share a step."""


class _Refused(Exception):
    """An attempt to parse the words failed."""


class Parser(argparse.ArgumentParser):
    """Refuses abbreviations, and says in one line what is wrong with the arguments."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})
        self._attempt = False

    def error(self, message: str) -> NoReturn:
        """Exits with that line and code 2."""
        if self._attempt:
            raise _Refused(message)
        self.exit(2, f"error: {' '.join(message.split())} (--help lists all options)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, but names the nearest right option for an unknown one."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            option = next((word.partition("=")[0] for word in rest if word.startswith("--")), None)
            if option is None:
                self.error(f"too many words: {' '.join(rest)}")
            known = list(_options_of(self, sys.argv[1:] if args is None else args))
            begin_alike = [name for name in known if name.startswith(option)] or known
            self.error(f"unknown option {option}{nearest(option, begin_alike).partition(' (known')[0]}")
        return parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, but an option with several values takes no word that can only be a positional."""
        words = list(sys.argv[1:] if args is None else args)
        moved = self._positionals_first(words)
        if moved == words:
            return super().parse_known_args(words, namespace)
        optional = [action.dest for action in self._unnamed if action.nargs == "?" and action.default is None]
        for attempt in (words, moved):
            self._attempt = True
            try:
                parsed, rest = super().parse_known_args(attempt, copy.copy(namespace))
            except _Refused:
                continue
            finally:
                self._attempt = False
            if not rest and all(getattr(parsed, name) is not None for name in optional):
                return parsed, rest
        return super().parse_known_args(words, namespace)

    @property
    def _unnamed(self) -> list[argparse.Action]:
        return [action for action in self._actions if not action.option_strings]

    def _positionals_first(self, words: list[str]) -> list[str]:
        """Returns the words with those in front that come after values of an option and can be none of them."""
        if any(isinstance(action, argparse._SubParsersAction) for action in self._unnamed):
            return words  # the command parses its own words
        moved: list[str] = []
        rest: list[str] = []
        option: argparse.Action | None = None
        values = 0
        for word in words:
            if word.startswith("--") or word in self._option_string_actions:
                option, values = self._option_string_actions.get(word), 0
            elif option is not None and option.nargs == "+":
                if values and not _may_be_value(option, word):
                    moved.append(word)
                    continue
                values += 1
            rest.append(word)
        return [*moved, *rest]


def _may_be_value(option: argparse.Action, word: str) -> bool:
    """Returns whether a word can be a value of an option with several: FIELD=VALUE needs an "="."""
    if isinstance(option.metavar, str) and "=" in option.metavar:
        return "=" in word
    if not callable(option.type):
        return True
    try:
        option.type(word)
    except (argparse.ArgumentTypeError, ValueError, TypeError):
        return False
    return True


def _options_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    """Yields the options of a parser and of its subcommands that the words name."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    yield from _options_of(action.choices[word], words)


def whole(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """Returns the type of an option that takes a whole number in a range."""
    rule = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
        return number

    return parse


def real(
    least: float = 0.0, most: float = math.inf, *, open_below: bool = False, unit: str = ""
) -> Callable[[str], float]:
    """Returns the type of an option that takes a finite number in a range.

    Args:
        least: the lower end.
        most: the upper end.
        open_below: whether `least` itself is outside.
        unit: for the message.
    """
    low = f"above {least:g}" if open_below else f"at least {least:g}"
    rule = f"a finite number{f' of {unit}' * bool(unit)}, {low}" + (f" and at most {most:g}" * (most < math.inf))

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (least < number if open_below else least <= number) or not number <= most or number == math.inf:
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
        return number

    return parse


def above(unit: str = "") -> Callable[[str], float]:
    """Returns the type of an option that takes a finite number above 0."""
    return real(open_below=True, unit=unit)


def ranks(text: str) -> int:
    """Parses a number of processes of one trial."""
    if text not in map(str, RANKS):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, RANKS))}, got {text!r}")
    return int(text)


def cpus(text: str) -> float:
    """Parses the CPUs of a process: whole ones, each of which is a thread."""
    return float(whole(least=1)(text.removesuffix(".0")))


def gpus(text: str) -> float:
    """Parses the GPUs of a process: none, a share of one, or whole ones, as Ray has them."""
    number = real()(text)
    if number > 1 and number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number or at most 1, got {text!r}")
    return number


def assignment_of(text: str, option: str = "--set") -> tuple[str, Any]:
    """Returns field and value of FIELD=VALUE, given for `option`; a value that is not JSON is a string."""
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ValueError(f'{option} takes FIELD=VALUE, got "{text}" (all fields: `python -m golf fields`)')
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise ValueError(f"{option} {field} must be a finite number, got {value}")
    return field, parsed


def assignments(words: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Returns fields and values of several FIELD=VALUE. Raises: ValueError naming one that is given twice."""
    values: dict[str, Any] = {}
    for word in words:
        field, value = assignment_of(word, option)
        if field in values and values[field] != value:
            raise ValueError(f"{option} {field} is given twice, {values[field]!r} and {value!r}; give it once")
        values[field] = value
    return values
