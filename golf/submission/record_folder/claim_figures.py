"""The figures of an object in a submission.json, under the names that are in use.

Numbers keep the last decimal that they were written with; sizes may be numbers of bytes or text such as "15.67MB model
+ 0.077MB code". Damage and nonsense become causes in words, never an exception.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claim_names import NUMBERS, SIZES
from golf.submission.record_folder.claims import FILE, brief
from golf.submission.record_folder.numbers import SIZE, ParsedNumber, told, told_size


class WrittenFloat(float):
    """A JSON number that remembers how it was written."""

    def __new__(cls, text: str) -> "WrittenFloat":
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


@dataclass(frozen=True)
class Figures:
    """The figures of one object.

    Attributes:
        numbers: by the first names of the table of names.
        names: the object's own names of them.
        causes: what is wrong with their form.
    """

    numbers: Mapping[str, ParsedNumber] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()


def read_figures(fields: Mapping[str, Any], of: str = "") -> Figures:
    """The figures in the fields of an object.

    Args: of: what the fields belong to, for messages, such as "seed 42: ".
    """
    numbers: dict[str, ParsedNumber] = {}
    names: dict[str, str] = {}
    causes: list[Cause] = []
    for name, usual in NUMBERS.items():
        known = next((one for one in usual if fields.get(one) is not None and _may_be(one, fields[one])), None)
        if known is None and name == "bytes_model":
            known = next((one for one in fields if one.startswith("bytes_model") and fields[one] is not None), None)
        if known is None:
            continue
        value = fields[known]
        if name in SIZES:
            read, cause = _size(name, known, value, of)
        else:
            number, cause = _figure(known, value, of)
            read = {} if number is None else {name: number}
        numbers = read | numbers
        names |= dict.fromkeys(read, known)
        causes += [] if cause is None else [cause]
    return Figures(numbers, names, tuple(causes))


def _may_be(name: str, value: Any) -> bool:
    """Whether a field can be the figure: a short name such as "p" or "artifact" may be something else altogether."""
    return name not in ("artifact", "p", "std", "code_size", "artifact_size") or isinstance(value, (int, float))


def _figure(name: str, value: Any, of: str) -> tuple[ParsedNumber | None, Cause | None]:
    number = as_number(value)
    if number is None or not math.isfinite(number.value):
        return None, Cause(f"{FILE}: {of}{name} must be a number, got {brief(value)}", f"write {name} as a number")
    if isinstance(value, str):
        cause = Cause(f'{FILE}: {of}{name} must be a number, got the text "{value:.40}"', "write it without quotes")
        return number, cause
    return number, None


def as_number(value: Any) -> ParsedNumber | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return told(value.text if isinstance(value, WrittenFloat) else str(value)[:64])


def _size(name: str, known: str, value: Any, of: str) -> tuple[dict[str, ParsedNumber], Cause | None]:
    """Sizes in a field: bytes, megabytes, or words that tell several."""
    if isinstance(value, str):
        sizes = _sizes_in_words(value, name)
        if not sizes:
            return {}, Cause(f"{FILE}: {of}{known} must be a number, got {brief(value)}", "write the number of bytes")
        return sizes, Cause(
            f'{FILE}: {of}{known} is told in words ("{value:.60}")', "write the number of bytes", REMARK
        )
    number = as_number(value)
    if number is None or not math.isfinite(number.value) or not 0 <= number.value < 1e15:
        return {}, Cause(f"{FILE}: {of}{known} must be a number, got {brief(value)}", "write the number of bytes")
    if 0 < number.value < 100 and name != "bytes_code":
        text = f"{FILE}: {of}{known} must be a whole number of bytes, got {brief(value)} (megabytes?)"
        return {name: ParsedNumber(number.value * 1e6, number.unit * 1e6)}, Cause(
            text, "write the number of bytes", REMARK
        )
    if number.value % 1 and name != "bytes_mean":
        text = f"{FILE}: {of}{known} must be a whole number of bytes, got {brief(value)}"
        return {name: number}, Cause(text, "tell the largest seed's, not a mean")
    return {name: number}, None


def _sizes_in_words(text: str, name: str) -> dict[str, ParsedNumber]:
    """Sizes such as "15.67MB model + 0.077MB code" by what the words beside them say; a lone one is the field's own."""
    found: dict[str, ParsedNumber] = {}
    for match in re.finditer(rf"{SIZE}\s{{0,3}}\(?(\w{{0,20}})", text[:200], re.IGNORECASE):
        size = told_size(match[1], match[2])
        if size is None or (match[2] is None and size.value < 1000):
            continue
        word = match[3].lower()
        kind = "bytes_model" if "model" in word or "weight" in word else "bytes_code" if "code" in word else name
        found.setdefault(kind, size)
    return found
