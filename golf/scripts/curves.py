"""Points of the curves in a script's output, line by line: losses and scores at steps.

The forms are those of openai/parameter-golf and its relatives: `step:10/100 train_loss:3.2`, `10/100 val_loss: 3.1
val_bpb: 1.2`, behind what loggers put before a line.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from golf.submission.record_folder.numbers import SECONDS, parse_seconds
from golf.submission.record_folder.text import plain_line

_STEP = re.compile(r"\W{0,4}(?:(?:step|iter|iteration)\s{0,3}[:= ]?\s{0,3})?(\d{1,12})/(\d{1,12})\b", re.IGNORECASE)
_NAMED_STEP = re.compile(r".{0,60}?\b(?:step|iter|iteration)\s{0,3}[:= ]\s{0,3}(\d{1,12})\b(?!/)", re.IGNORECASE)
_VALUE = re.compile(
    r"\b(train_loss|val_loss|val_bpb|train_bpb)\s{0,3}[:=]\s{0,3}([+-]?(?:\d[\d.]*(?:e[+-]?\d+)?|nan|inf))",
    re.IGNORECASE,
)
_TIME = re.compile(rf"\btrain_time\s{{0,3}}[:=]\s{{0,3}}{SECONDS}", re.IGNORECASE)
_LONGEST_LINE = 2000
"""Characters; points stand in short lines."""


@dataclass(frozen=True)
class CurvePoints:
    """What one line says of a step."""

    step: int
    total_steps: int | None
    """Steps of the whole training; None where the line does not say."""
    values: dict[str, float]
    """By curve: "train_loss", "val_loss", "val_bpb". NaN and infinities are among them."""
    seconds: float | None = None
    """Seconds of training until then; None where the line does not say."""


def values_in(line: str) -> dict[str, float]:
    """Returns the losses and scores in a line by their names, whatever else it says."""
    if len(line) > _LONGEST_LINE or ("loss" not in line.lower() and "bpb" not in line.lower()):
        return {}
    return {match[1].lower(): float(match[2]) for match in _VALUE.finditer(line) if _is_number(match[2])}


def points_in(line: str) -> CurvePoints | None:
    """Returns the points in a line of output; None for a line without."""
    values = values_in(line)
    if not values:
        return None
    plain = plain_line(line)
    step, first = _STEP.match(plain) or _NAMED_STEP.match(plain), _VALUE.search(plain)
    if step is None or first is None or step.end() > first.start():
        return None
    time, total = _TIME.search(plain), int(step[2]) if step.re is _STEP else None
    return CurvePoints(int(step[1]), total, values, None if time is None else parse_seconds(time).value)


def series_name(curve: str) -> str:
    """Returns the name under which a curve is kept, which is that of our own runs."""
    return curve.replace("val_", "validation_", 1) if curve.startswith("val_") else curve


def curves_of(lines: Iterable[str]) -> dict[str, dict[int, tuple[float | None, float]]]:
    """Returns the curves of a run: curve -> step -> (seconds of training, value), finite values only."""
    curves: dict[str, dict[int, tuple[float | None, float]]] = {}
    for points in filter(None, map(points_in, lines)):
        for name, value in points.values.items():
            if math.isfinite(value):
                curves.setdefault(name, {})[points.step] = points.seconds, value
    return curves


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
