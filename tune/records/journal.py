"""The ledger: an append-only file of JSON lines, the source of every number that is shown anywhere.

Entries (plain JSON values) enter, one line each; what leaves is the list of intact entries, and beside it what could
not be read. A line is written under a lock in one write, flushed to the disk, and carries a checksum, so that several
sweeps may append at once and a torn or flipped line is seen. It must never change or drop an earlier line, nor hold a
secret.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune.records.lines import LEDGER_VERSION as LEDGER_VERSION
from tune.records.lines import STAMPS as STAMPS
from tune.records.lines import DamagedLine as DamagedLine
from tune.records.lines import canonical as canonical
from tune.records.lines import check_json, check_trial
from tune.records.lines import encode as encode
from tune.records.reading import damage_told, read_lines
from tune.records.redaction import redact_all


class Ledger:
    """The ledger in one file, which comes into being with the first entry."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damaged: list[DamagedLine] = []
        """What the latest `entries()` could not read."""
        self.told: list[str] = []
        """The same in words for a person, and what was mended."""

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add `entry` as the last line; on return it is on the disk.

        Args: entry: JSON values only, finite numbers only, none of the fields in `STAMPS`.
        Raises: ValueError naming the key path of a value that no line can hold; OSError naming the file when it cannot
            be written: earlier lines are untouched then and nothing of this entry is kept.
        """
        for name in STAMPS:
            if name in entry:
                raise ValueError(f'an entry must not bring the field "{name}": the ledger writes it; remove it')
        check_json(entry, "")
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
        """All intact entries in file order, each with its `time` and `ledger_version`; sets `damaged` and `told`.

        Raises: OSError when the file is there and cannot be read; a damaged line is never an error.
        """
        found = read_lines(_read_at_rest(self.path))
        self.damaged, self.told = found.damaged, damage_told(self.path, found)
        return found.entries

    def find(self, **equal: Any) -> list[dict[str, Any]]:
        """The intact entries that have every named field with the given value, in file order."""
        return [e for e in self.entries() if all(name in e and e[name] == value for name, value in equal.items())]


def tell_damage(*paths: Path) -> None:
    """Say on standard error which lines of ledgers are damaged, before anything is made of the others."""
    for path in paths:
        ledger = Ledger(path)
        with contextlib.suppress(OSError):  # whoever reads it next says so
            ledger.entries()
        for line in ledger.told:
            print(line, file=sys.stderr, flush=True)


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
