"""Points of the curves in a script's output, line by line: losses and scores at steps.

The forms are those of openai/parameter-golf and its relatives: `step:10/100 train_loss:3.2`, `10/100 val_loss: 3.1
val_bpb: 1.2`, behind a time stamp and "# " at most.
"""

import re
from dataclasses import dataclass

_STEP = re.compile(r"(?:^|[^\w.])(?:step|iter(?:ation)?)?\s*[:= ]?\s*(\d{1,12})/(\d{1,12})\b", re.IGNORECASE)
_NAMED_STEP = re.compile(r"\b(?:step|iter(?:ation)?)\s*[:= ]\s*(\d{1,12})\b", re.IGNORECASE)
_VALUE = re.compile(
    r"\b(train_loss|val_loss|val_bpb|train_bpb)\s*[:=]\s*([+-]?(?:\d[\d.]*(?:e[+-]?\d+)?|nan|inf))", re.IGNORECASE
)
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


def points_in(line: str) -> CurvePoints | None:
    """Returns the points in a line of output; None for a line without."""
    if len(line) > _LONGEST_LINE or ("loss" not in line and "bpb" not in line):
        return None
    values = {match[1].lower(): float(match[2]) for match in _VALUE.finditer(line) if _is_number(match[2])}
    step = _STEP.search(line) or _NAMED_STEP.search(line)
    first = _VALUE.search(line)
    if not values or step is None or first is None or step.start() > first.start():
        return None
    return CurvePoints(int(step[1]), int(step[2]) if step.re is _STEP else None, values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
