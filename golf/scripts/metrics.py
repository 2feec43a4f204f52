"""Metrics that a user names for a script: a pattern, a key of JSON lines, or a key of a file that the script writes.

`NAME=REGEX` takes the first group of the last match, `NAME=json:KEY` the key in the last line that is a JSON object
with it, `NAME=file:PATH:KEY` the key in a JSON file of the working directory, or in the last line of a .jsonl file.
Keys are dotted.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_JSON, _FILE = "json:", "file:"
_LARGEST_FILE = 16 << 20
"""Bytes of a metrics file that are read."""
LONGEST_LINE = 8000
"""Characters; a longer line is skipped."""


@dataclass(frozen=True)
class Metric:
    """Where a number stands; exactly one of pattern and key is given."""

    name: str
    pattern: re.Pattern[str] | None = None
    """Its first group is the number."""
    key: str | None = None
    """Dotted key of a JSON object."""
    file: str | None = None
    """File with the object, relative to the working directory; None: a line of the output."""


def parse_metric(text: str) -> Metric:
    """Returns the metric of NAME=REGEX, NAME=json:KEY or NAME=file:PATH:KEY. Raises: ValueError for another text."""
    name, equals, place = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w./-]*", name) or not place:
        raise ValueError(f"a metric is NAME=REGEX, NAME=json:KEY or NAME=file:PATH:KEY, got {text!r}")
    if place.startswith(_JSON):
        return Metric(name, key=_key(name, place.removeprefix(_JSON)))
    if place.startswith(_FILE):
        path, colon, key = place.removeprefix(_FILE).rpartition(":")
        if not colon or not path or Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError(f"the metric {name} needs file:PATH:KEY with a path below the working directory")
        return Metric(name, key=_key(name, key), file=path)
    try:
        pattern = re.compile(place)
    except re.error as error:
        raise ValueError(f"the metric {name} is no regular expression: {error}") from error
    if not pattern.groups:
        raise ValueError(f"the metric {name} needs a group for its number, such as '{name}=val_loss: ([0-9.]+)'")
    return Metric(name, pattern)


def _key(name: str, key: str) -> str:
    if not all(key.split(".")):
        raise ValueError(f"the metric {name} needs a key such as eval.val_loss, got {key!r}")
    return key


def in_line(metric: Metric, line: str) -> float | None:
    """Returns the metric's value in one line of the output; None where it is not there."""
    if len(line) > LONGEST_LINE or metric.file is not None:
        return None
    if metric.pattern is not None:
        numbers = [_number(next(filter(None, match.groups()), None)) for match in metric.pattern.finditer(line)]
        return next((number for number in reversed(numbers) if number is not None), None)
    begin = line.find("{")
    return None if begin < 0 or metric.key is None else _in_json(line[begin:], metric.key)


def value_of(metric: Metric, lines: Sequence[str], directory: Path) -> float | None:
    """Returns the last value of a metric; None where it is nowhere.

    Args:
        metric: what is asked for.
        lines: of the output.
        directory: the working directory of the script.
    """
    if metric.file is None:
        values = (in_line(metric, line) for line in reversed(lines))
        return next((value for value in values if value is not None), None)
    path, key = directory / metric.file, metric.key or ""
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        return None
    text = path.read_text(errors="replace")
    whole = _in_json(text, key)
    if whole is not None:
        return whole
    values = (_in_json(line, key) for line in reversed(text.splitlines()))
    return next((value for value in values if value is not None), None)


def _in_json(text: str, key: str) -> float | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return _number(value)


def _number(value: object) -> float | None:
    """Returns a value as a number, NaN and infinities included; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(str(value).replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None


def is_finite(value: float | None) -> bool:
    """Whether a value is there and finite."""
    return value is not None and math.isfinite(value)
