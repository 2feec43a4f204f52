"""The lines of a ledger: entries as canonical JSON with a checksum, and what a line must hold to be one."""

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEDGER_VERSION = 1
STAMPS = ("ledger_version", "time", "crc32")
"""Fields that the ledger adds to every line; an entry may not bring its own."""
SHOWN_CHARACTERS = 200
_LARGEST = 1e300
"""Magnitude of a number: a larger whole one is no float."""


@dataclass(frozen=True)
class DamagedLine:
    """A line that holds no intact entry."""

    line_number: int
    """Counted from 1."""
    text: str
    """Its first characters, undecodable bytes replaced."""
    reason: str
    """What is wrong with it."""


def encode(record: Mapping[str, Any]) -> bytes:
    """`record` as a line without its newline: canonical JSON, with the CRC-32 of that JSON as the field `crc32`."""
    return canonical({**record, "crc32": f"{zlib.crc32(canonical(record)):08x}"})


def decode(line: bytes) -> dict[str, Any]:
    """The record in `line`, without `crc32`.

    Raises: ValueError saying what is wrong unless every byte is as `encode` wrote it.
    """
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or "crc32" not in record:
            raise ValueError("not a ledger line: it has no crc32")
        del record["crc32"]
        again = encode(record)
    except json.JSONDecodeError as error:
        raise ValueError("not a whole JSON value") from error
    except (UnicodeError, RecursionError) as error:
        raise ValueError("not a JSON value that any entry has") from error
    # The text is compared and not only the sum, so that no changed byte passes because it parses to an equal value.
    if again != line:
        raise ValueError("its checksum does not fit: some of its bytes have changed")
    if record.get("ledger_version") != LEDGER_VERSION:
        version = str(record.get("ledger_version"))[:20]
        raise ValueError(f"ledger_version is {version}, this program reads {LEDGER_VERSION}")
    check_json(record, "")
    check_trial(record)
    return record


def check_trial(record: Mapping[str, Any]) -> None:
    """Raise ValueError naming the field that no trial's entry can have so; a missing one is none.

    A right checksum says that a line is whole, not that an honest program wrote it.
    """
    if record.get("kind") != "trial":
        return
    for name, (holds, rule) in _TRIAL_FIELDS.items():
        value = record.get(name)
        if value is not None and not holds(value):
            raise ValueError(f"a trial's {name} must be {rule}, got {str(value)[:40]}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(item is None or _is_number(item) for item in value.values())


def _are_rows(value: Any) -> bool:
    """Whether it is lists of three numbers by name."""
    return isinstance(value, Mapping) and all(
        isinstance(rows, Sequence)
        and all(isinstance(row, Sequence) and len(row) == 3 for row in rows)
        and all(_is_number(item) for row in rows for item in row)
        for rows in value.values()
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, str) for item in value)


_TRIAL_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("sweep", "trial", "name", "preset", "status", "cause", "data", "code"), (_is_text, "text")),
    **dict.fromkeys(("started", "ended"), (_is_number, "a number")),
    **dict.fromkeys(("parameters", "config", "environment", "tags", "files", "ledger"), (_is_object, "an object")),
    **dict.fromkeys(("metrics", "computed"), (_are_numbers, "numbers by name")),
    **dict.fromkeys(("curves", "chunks"), (_are_rows, "lists of three numbers by name")),
    "keys": (_are_texts, "a list of texts"),
}
"""What the fields of a trial's entry hold, as every reader of the ledger takes for granted."""


def canonical(value: Any) -> bytes:
    """`value` as JSON in the one form that equal values share: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def check_json(value: Any, path: str) -> None:
    """Raise ValueError naming the key path unless `value` comes back from JSON as it went in."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"key {name!r} at {path or 'the top'} must be a string")
            check_json(item, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"{path} is {value!r}: the ledger holds finite numbers only; leave the field out or use null"
            )
    elif value is not None and not isinstance(value, (str, int)):
        raise ValueError(f"{path} is of type {type(value).__name__}; give text, a number, a list, an object or null")
