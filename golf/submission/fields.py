"""A JSON object read field by field, where somebody else may have written or changed it.

A file's object enters, values of the wanted types leave. The first wrong field ends the reading with one ValueError
that names the file, the field with its whole path, what it must be, what it is, and the remedy. Nothing is guessed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_SHOWN = 60
"""Characters of a wrong value in a message."""

STUDY_FILE = "study.json"
"""The file of a seed study's folder that holds its numbers."""


@dataclass(frozen=True)
class Fields:
    """One object of a file."""

    file: Path
    values: Mapping[str, Any]
    path: str = ""
    """Of this object in the file, with a dot behind it."""
    remedy: str = "write it again"

    def wrong(self, name: str, rule: str) -> ValueError:
        """The error of a field."""
        got = repr(self.values[name]) if name in self.values else "nothing"
        shown = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}..."
        return ValueError(f"{self.file}: {self.path}{name} must be {rule}, got {shown}; {self.remedy}")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def maybe(self, name: str, read: Callable[[str], T]) -> T | None:
        """The field by `read`, a method of this object; None where it is null or missing."""
        return read(name) if self.has(name) else None

    def text(self, name: str) -> str:
        """A string."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def whole(self, name: str) -> int:
        """A whole number from 0 on."""
        value = self.values.get(name)
        if type(value) is not int or value < 0:
            raise self.wrong(name, "a whole number of at least 0")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def hash(self, name: str) -> str:
        """A SHA-256."""
        value = self.text(name)
        if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise self.wrong(name, "a SHA-256 of 64 hexadecimal digits")
        return value

    def part(self, name: str) -> "Fields":
        """An object within."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(self.file, value, f"{self.path}{name}.", self.remedy)

    def parts(self, name: str) -> list["Fields"]:
        """A list of objects."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(name, "a list of objects")
        return [Fields(self.file, one, f"{self.path}{name}[{n}].", self.remedy) for n, one in enumerate(value)]

    def by_name(self, name: str, read: Callable[["Fields", str], T]) -> dict[str, T]:
        """An object whose values are all alike, each by `read`, a method of this class."""
        part = self.part(name)
        return {key: read(part, key) for key in part.values}

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def rows(self, name: str, width: int) -> tuple[tuple[float, ...], ...]:
        """A list of rows of so many finite numbers."""
        value = self.values.get(name)
        right = isinstance(value, list) and all(
            isinstance(row, list)
            and len(row) == width
            and all(isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one) for one in row)
            for row in value
        )
        if not right or not isinstance(value, list):
            raise self.wrong(name, f"a list of rows of {width} finite numbers")
        return tuple(tuple(row) for row in value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list of finite numbers")
        rows = Fields(self.file, {name: [[one] for one in value]}, self.path, self.remedy).rows(name, 1)
        return tuple(row[0] for row in rows)
