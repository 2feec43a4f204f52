"""The ledger: an append-only file of JSON lines, the source of every number that is shown anywhere.

Entries (plain JSON values) enter, one line each; what leaves is the list of intact entries, and beside it what could
not be read. A line is written under a lock in one write, flushed to the disk, and carries a checksum, so that several
sweeps may append at once and a torn or flipped line is seen. It must never change or drop an earlier line, nor hold a
secret.
"""

import contextlib
import fcntl
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune.redaction import redact_all

LEDGER_VERSION = 1
STAMPS = ("ledger_version", "time", "crc32")
"""Fields that the ledger adds to every line; an entry may not bring its own."""
_SHOWN_CHARACTERS = 200
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


class Ledger:
    """The ledger in one file, which comes into being with the first entry."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damaged: list[DamagedLine] = []
        """What the latest `entries()` could not read."""

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add `entry` as the last line; on return it is on the disk.

        Args: entry: JSON values only, finite numbers only, none of the fields in `STAMPS`.
        Raises: ValueError naming the key path of a value that no line can hold; OSError naming the file when it cannot
            be written: earlier lines are untouched then and nothing of this entry is kept.
        """
        for name in STAMPS:
            if name in entry:
                raise ValueError(f'an entry must not bring the field "{name}": the ledger writes it; remove it')
        _check_json(entry, "")
        check_trial(entry)
        entry = redact_all(entry)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = encode({**entry, "ledger_version": LEDGER_VERSION, "time": now})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(_lock_path(self.path)):
                _append_line(self.path, line)
        except OSError as error:
            reason = error.strerror or str(error)
            message = (
                f"cannot append to {self.path}: {reason}; its earlier lines are untouched, this entry is not in it"
            )
            raise OSError(error.errno, message) from error

    def entries(self) -> list[dict[str, Any]]:
        """All intact entries in file order, each with its `time` and `ledger_version`; sets `damaged`.

        Raises: OSError when the file is there and cannot be read; a damaged line is never an error.
        """
        self.damaged = []
        found = []
        for number, line in enumerate(_read_at_rest(self.path).split(b"\n"), start=1):
            if not line:
                continue
            try:
                found.append(decode(line))
            except ValueError as error:
                text = line.decode(errors="replace")[:_SHOWN_CHARACTERS]
                self.damaged.append(DamagedLine(number, text, str(error)))
        return found

    def find(self, **equal: Any) -> list[dict[str, Any]]:
        """The intact entries that have every named field with the given value, in file order."""
        return [e for e in self.entries() if all(name in e and e[name] == value for name, value in equal.items())]


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
    _check_json(record, "")
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


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` (made when missing), against other processes and threads; a kill releases it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _append_line(path: Path, line: bytes) -> None:
    """Write `line` and its newline at the end of `path` and flush it, or leave the file as it was."""
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        rest = (b"\n" if torn else b"") + line + b"\n"
        try:
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        except OSError:
            # Where even this fails, the part stays as a torn line, which readers skip and the next entry closes.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
    if is_new:
        flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, without which a new file may not outlive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_at_rest(path: Path) -> bytes:
    """The bytes of `path` while no one appends, or none when there is no file."""
    with contextlib.ExitStack() as stack:
        # A reader makes no lock file, so that a ledger on a read-only disk can be read.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            handle = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""


def _check_json(value: Any, path: str) -> None:
    """Raise ValueError naming the key path unless `value` comes back from JSON as it went in."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"key {name!r} at {path or 'the top'} must be a string")
            _check_json(item, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_json(item, f"{path}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"{path} is {value!r}: the ledger holds finite numbers only; leave the field out or use null"
            )
    elif value is not None and not isinstance(value, (str, int)):
        raise ValueError(f"{path} is of type {type(value).__name__}; give text, a number, a list, an object or null")
