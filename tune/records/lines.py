"""Lines of the ledger: records as JSON with a checksum at the end, checked without being encoded again.

A line is the JSON of a record whose last field is the CRC-32 of the bytes before it. Reading also accepts what an
editor, git or a copying tool makes of such lines without changing a value: other line ends, a byte order mark, spaces
around values, indented lines, other spellings of numbers and letters, the same line twice.
"""

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tune.records.entries import Record, TrialEntry
from tune.records.redaction import redact_all

LEDGER_VERSION = 2
SHOWN_CHARACTERS = 200
_LARGEST = 1e300
"""Bound on the magnitude of a number: a larger integer cannot be converted to a float."""
_DIGITS = bytes(ord("0") if 48 <= byte <= 57 else byte for byte in range(256))
"""Translation table that makes all digits zeros."""
_MANY_DIGITS = b"0" * 290
"""What a line with a larger integer contains then; the numbers of other lines need not be looked at one by one."""
_CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"\}$')
_VERSION = re.compile(rb'"ledger_version":(\d+)')
_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors put before UTF-8."""
_BLANK = b" \t"
_CONFLICT = re.compile(rb"(?:<{7}|={7}|>{7}|\|{7})(?: |$)")
_MOST_RANGES = 12
_decode = msgspec.json.Decoder(Record).decode


@dataclass(frozen=True)
class DamagedLine:
    """A line that holds no intact record."""

    line_number: int
    """Counted from 1."""
    text: str
    """Its first characters, undecodable bytes replaced."""
    reason: str
    """What is wrong with it."""


@dataclass
class Lines:
    """What the bytes of a ledger hold."""

    records: list[Record] = field(default_factory=list)
    """The intact ones, in file order."""
    lines: list[bytes] = field(default_factory=list)
    """All lines as the ledger writes them; damaged ones as they are."""
    damaged: list[DamagedLine] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
    """Numbers of lines, from 1 on, whose form is not the one in which they were written, or that come twice."""
    num_lines: int = 0
    """Lines that are not empty."""


def encode_line(record: Record, time: str) -> bytes:
    """Returns a record as a line without its newline, secrets masked.

    Args: record: to be written; its `time` and `ledger_version` are replaced; time: when it is written, in UTC.
    Raises: ValueError naming the path of a value that a line cannot hold: a number that is not finite or too large, or
        one of another type than the record's field.
    """
    try:
        values = msgspec.to_builtins(msgspec.structs.replace(record, time=time, ledger_version=LEDGER_VERSION))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a record that JSON can hold: {error}") from error
    _check_values(values, "")
    values = redact_all(values)
    try:
        payload = msgspec.json.encode(values)
    except UnicodeEncodeError:  # so rare that texts are not gone through for it beforehand
        payload = msgspec.json.encode(_encodable(values))
    line = with_checksum(payload)
    decode_line(line)
    return line


def with_checksum(payload: bytes) -> bytes:
    """Returns the JSON of an object with the CRC-32 of its bytes as its last field."""
    return payload[:-1] + b',"crc32":"%08x"}' % zlib.crc32(payload)


def check_line(line: bytes) -> None:
    """Raises ValueError, saying what is wrong, where a byte is not as `encode_line` wrote it."""
    checksum = _CHECKSUM.search(line)
    if checksum is None:
        version = _VERSION.search(line)
        if version is not None and int(version[1]) < LEDGER_VERSION and line.endswith(b"}"):
            raise ValueError(
                f"written by an earlier version of this program (ledger_version {int(version[1])}, this one reads "
                f"{LEDGER_VERSION}), whose ledgers are not read; give a new --storage"
            )
        raise ValueError("not a whole line of a ledger: it has no checksum at its end")
    if zlib.crc32(line[: checksum.start()] + b"}") != int(checksum[1], 16):
        raise ValueError("its checksum does not fit: some of its bytes have changed")


def decode_line(line: bytes) -> Record:
    """Returns the record of a line whose checksum is right. Raises: ValueError where another program wrote it."""
    try:
        record = _decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a record of this program: {error}") from error
    if record.ledger_version != LEDGER_VERSION:
        raise ValueError(f"ledger_version is {record.ledger_version}, this program reads {LEDGER_VERSION}")
    if _MANY_DIGITS in line.translate(_DIGITS):
        _check_values(msgspec.to_builtins(record), "")
    return record


def read_lines(data: bytes) -> Lines:
    """Reads the bytes of a ledger; damage is never an error."""
    result, seen = Lines(), set()
    if data.startswith(_MARK):
        data = data[len(_MARK) :]
        result.mended.append(1)
    for number, line, as_found in _joined(data.splitlines(keepends=True)):
        result.num_lines += 1
        try:
            written = _respelled(line)
            record = decode_line(written)
        except ValueError as error:
            result.damaged.append(_damaged(number, line, as_found, error))
            result.lines.append(line)
            continue
        is_copy = written in seen and isinstance(record, TrialEntry)
        if (is_copy or as_found not in (written, written + b"\n")) and number not in result.mended[-1:]:
            result.mended.append(number)
        if not is_copy:
            seen.add(written)
            result.records.append(record)
            result.lines.append(written)
    return result


def _respelled(line: bytes) -> bytes:
    """Returns a line as the ledger writes its values. Raises: ValueError as `check_line`."""
    try:
        check_line(line)
    except ValueError:
        try:
            written = msgspec.json.encode(msgspec.json.decode(line))
        except (ValueError, msgspec.MsgspecError, RecursionError):
            written = line
        if written == line:
            raise
        check_line(written)
        return written
    return line


def _joined(parts: Sequence[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields (number, line, bytes as found) of every line that is not empty; an indented object is one line."""
    number, unclosed = 0, set()
    while number < len(parts):
        begin, bare = number, parts[number].strip(b" \t\r\n")
        number += 1
        indent = parts[begin][: len(parts[begin]) - len(parts[begin].lstrip(_BLANK))]
        if bare == b"{" and indent not in unclosed:
            ends = (indent + b"}", indent + b"},")
            close = next((n for n in range(number, len(parts)) if parts[n].rstrip(b" \t\r\n") in ends), None)
            if close is None:
                unclosed.add(indent)
            else:
                number = close + 1
                bare = b"".join(parts[begin:number]).strip(b" \t\r\n").rstrip(b",")
        if bare not in (b"", b"[", b"]"):  # an array around all of them holds nothing of its own
            yield begin + 1, bare, b"".join(parts[begin:number])


def _damaged(number: int, line: bytes, as_found: bytes, error: ValueError) -> DamagedLine:
    text = line.decode(errors="replace")[:SHOWN_CHARACTERS]
    reason = str(error)[:SHOWN_CHARACTERS]  # which may quote the line
    if _CONFLICT.match(line):
        return DamagedLine(number, text, "a conflict marker of a git merge, both sides of which are read")
    if b"\0" in line:
        return DamagedLine(number, text, "zero bytes, as after a power cut or where an editor saved it as UTF-16")
    if reason.startswith("not a whole line"):
        ended = as_found.endswith((b"\n", b"\r"))
        reason = "cut short or changed" if ended else "cut short, as by a kill or a full disk"
    elif reason.startswith("its checksum"):
        reason += ", as by an editor, a script or git"
    return DamagedLine(number, text, reason)


def damage_report(path: object, result: Lines) -> list[str]:
    """Returns what a person should know of a ledger's damage, in a line or two; nothing where there is none."""
    report = []
    if result.mended:
        form = "are not in their written form (line ends, spaces, twice), as by an editor or git; no value is changed"
        report.append(f"note: {path}, lines {ranges(result.mended)} {form}")
    if result.damaged:
        reasons = dict.fromkeys(line.reason for line in result.damaged)
        parts = [f"{ranges([n.line_number for n in result.damaged if n.reason == why])} ({why})" for why in reasons]
        report.append(
            f"warning: {path}: {len(result.damaged)} of {result.num_lines} lines are not readable and are left out: "
            f"lines {'; '.join(parts)}. Their trials count as not run. Nothing is overwritten: restore them from a "
            "copy (python -m tune mirror fetch, a backup, git), or delete them"
        )
    return report


def ranges(numbers: Sequence[int]) -> str:
    """Returns ascending numbers in words, as "1-3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in parts[:_MOST_RANGES]]
    return ", ".join(shown) + (", ..." if len(parts) > _MOST_RANGES else "")


def _check_values(value: Any, path: str) -> None:
    """Raises ValueError naming the path of a value that JSON cannot hold exactly."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{path or 'the record'} has the key {name!r}: keys in the ledger must be text")
            _check_values(item, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_values(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} is {value!r}: the ledger holds finite numbers only; leave the field out or use null")
    elif isinstance(value, (int, float)) and abs(value) >= _LARGEST:
        raise ValueError(f"{path} is {str(value)[:40]}: a number in the ledger must be below {_LARGEST:g}")


def _encodable(value: Any) -> Any:
    """Returns JSON values in which text that no UTF-8 can hold is replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, (list, tuple)) else value
