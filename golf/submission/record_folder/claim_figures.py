"""The figures of an object in a submission.json, under the names that are in use.

Numbers keep the last decimal that they were written with; sizes may be numbers of bytes or text such as "15.67MB model
+ 0.077MB code". Damage and nonsense become causes in words, never an exception.
"""

import math
import re
from collections.abc import Mapping

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claim_names import NUMBERS, SIZES
from golf.submission.record_folder.claims import FILE, Claims, Json, brief
from golf.submission.record_folder.numbers import SIZE, ParsedNumber, parse_number, parse_size

_AMBIGUOUS = ("artifact", "p", "std", "code_size", "artifact_size")
"""Short names, which may be something else altogether: they count only with a number."""


class WrittenFloat(float):
    """A JSON number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        self = super().__new__(cls, text)
        self.text = text
        return self


def read_figures(fields: Mapping[str, Json], owner: str = "") -> Claims:
    """Returns the figures in the fields of an object, and what is wrong with their form.

    Args:
        fields: of the object.
        owner: what the fields belong to, for messages, such as "seed 42: ".
    """
    numbers: dict[str, ParsedNumber] = {}
    names: dict[str, str] = {}
    causes: list[Cause] = []
    for name, usual in NUMBERS.items():
        known = _known_name(name, usual, fields)
        if known is None:
            continue
        read = _size if name in SIZES else _figure
        figures, cause = read(name, known, fields[known], owner)
        numbers = figures | numbers
        names |= dict.fromkeys(figures, known)
        causes += [] if cause is None else [cause]
    return Claims(fields=fields, numbers=numbers, names=names, causes=tuple(causes))


def _known_name(name: str, usual: tuple[str, ...], fields: Mapping[str, Json]) -> str | None:
    """Returns the name under which an object has a figure; None without one."""
    for known in usual:
        value = fields.get(known)
        if value is not None and (known not in _AMBIGUOUS or isinstance(value, (int, float))):
            return known
    if name != "bytes_model":
        return None
    return next((known for known in fields if known.startswith(name) and fields[known] is not None), None)


def _figure(name: str, known: str, value: Json, owner: str) -> tuple[dict[str, ParsedNumber], Cause | None]:
    """Returns a number and what is wrong with its form.

    Args:
        name: its first name.
        known: the name that it has here.
        value: of the field.
        owner: what the field belongs to, for messages.
    """
    number, where = as_number(value), f"{FILE}: {owner}{known}"
    if number is None or not math.isfinite(number.value):
        return {}, Cause(f"{where} must be a number, got {brief(value)}", f"write {known} as a number")
    if isinstance(value, str):
        return {name: number}, Cause(f'{where} must be a number, got the text "{value:.40}"', "write it without quotes")
    return {name: number}, None


def as_number(value: Json) -> ParsedNumber | None:
    """Returns a number, or a text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return parse_number(value.text if isinstance(value, WrittenFloat) else str(value)[:64])


def _size(name: str, known: str, value: Json, owner: str) -> tuple[dict[str, ParsedNumber], Cause | None]:
    """Returns the sizes in a field: bytes, megabytes, or words that name several; arguments as of `_figure`."""
    where, remedy = f"{FILE}: {owner}{known}", "write the number of bytes"
    no_number = Cause(f"{where} must be a number, got {brief(value)}", remedy)
    if isinstance(value, str):
        sizes = _sizes_in_words(value, name)
        return sizes, Cause(f'{where} is written in words ("{value:.60}")', remedy, REMARK) if sizes else no_number
    number = as_number(value)
    if number is None or not math.isfinite(number.value) or not 0 <= number.value < 1e15:
        return {}, no_number
    rule = f"{where} must be a whole number of bytes, got {brief(value)}"
    if 0 < number.value < 100 and name != "bytes_code":
        size = ParsedNumber(number.value * 1e6, number.unit * 1e6)
        return {name: size}, Cause(f"{rule} (megabytes?)", remedy, REMARK)
    if number.value % 1 and name != "bytes_mean":
        return {name: number}, Cause(rule, "state the largest seed's, not a mean")
    return {name: number}, None


def _sizes_in_words(text: str, name: str) -> dict[str, ParsedNumber]:
    """Returns sizes such as "15.67MB model + 0.077MB code" by the words beside them; a lone one is the field's own."""
    sizes: dict[str, ParsedNumber] = {}
    for match in re.finditer(rf"{SIZE}\s{{0,3}}\(?(\w{{0,20}})", text[:200], re.IGNORECASE):
        size = parse_size(match[1], match[2])
        if size is None or (match[2] is None and size.value < 1000):
            continue
        word = match[3].lower()
        kind = "bytes_model" if "model" in word or "weight" in word else "bytes_code" if "code" in word else name
        sizes.setdefault(kind, size)
    return sizes
