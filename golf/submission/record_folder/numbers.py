"""Numbers as people write them: with the last decimal that they were written with, sizes in bytes or in megabytes."""

import math
import re
from typing import NamedTuple

LARGEST_NUMBER = 1e15
"""A larger number is no figure of a run and is read as not a number."""
NUMBER = r"([-+]?(?:nan|inf|\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d{1,3})?))"
_SCALES = {"": 1.0, "bytes": 1.0, "byte": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "kib": 1024.0, "mib": 1048576.0}
SIZE = r"(\d[\d,_]{0,30}(?:\.\d{1,9})?)\s{0,2}(bytes|byte|[KM]i?B|B)?\b"
COUNT = r"(\d[\d,]{0,30})"
SECONDS = r"(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds|m|min)\b"
COARSEST = 1e-3
"""A figure with fewer decimals must agree to this: JSON writers leave out zeros at the end."""


class ParsedNumber(NamedTuple):
    """A number as it was written."""

    value: float
    """Not a number where it was "nan" or absurdly large."""
    unit: float
    """Unit of its last decimal: what rounding or cutting off may hide."""

    def near(self, value: float, unit: float = 0.0) -> bool:
        """Returns whether it is `value` rounded to its decimals, where `value` itself was rounded to a `unit`."""
        return abs(self.value - value) <= 0.5001 * (min(self.unit, COARSEST) + unit) + 1e-9

    def cut_from(self, value: float, unit: float = 0.0) -> bool:
        """Returns whether it is `value` with less than one unit of its last decimal cut off instead of rounded."""
        return abs(self.value - value) < min(self.unit, COARSEST) + unit

    def rounds(self, exact: "ParsedNumber") -> bool:
        """Returns whether it is another number, rounded to fewer decimals."""
        return self.unit > 1.5 * exact.unit and abs(self.value - exact.value) <= 0.5001 * self.unit

    def is_size(self, size: float) -> bool:
        """Returns whether it is that number of bytes, as far as it was written out."""
        return abs(self.value - size) <= 0.5001 * self.unit


def parse_number(text: str) -> ParsedNumber | None:
    """Returns the number in a text, thousands separated by commas or not; None where it is none."""
    match = re.fullmatch(NUMBER, text.strip(), re.IGNORECASE)
    if match is None:
        return None
    plain = match[1].replace(",", "").replace("_", "").lower()
    mantissa, _, exponent = plain.partition("e")
    decimals = len(mantissa.partition(".")[2])
    value = float(plain)
    if not abs(value) < LARGEST_NUMBER:
        return ParsedNumber(math.nan, 0.0)
    return ParsedNumber(value, float(f"1e{int(exponent or 0) - decimals}"))


def parse_size(number: str, scale: str | None) -> ParsedNumber | None:
    """Returns a size in bytes from a match of SIZE; megabytes are decimal, MiB are not."""
    parsed = parse_number(number)
    if parsed is None or not math.isfinite(parsed.value):
        return None
    factor = _SCALES[(scale or "").lower()]
    return ParsedNumber(parsed.value * factor, parsed.unit * factor)


def parse_seconds(match: re.Match[str]) -> ParsedNumber:
    """Returns seconds from a match of SECONDS."""
    value, unit = (part for part in match.groups() if part is not None)
    times, over = {"ms": (1.0, 1000.0), "m": (60.0, 1.0), "min": (60.0, 1.0)}.get(unit.lower(), (1.0, 1.0))
    last = 10.0 ** -len(value.partition(".")[2])
    return ParsedNumber(float(value) * times / over, last * times / over)


def parse_int(text: str) -> int:
    """Returns an integer whose digits may be separated by commas."""
    return int(text.replace(",", "").replace("_", ""))
