"""The ledger: an append-only file of JSON lines, the source of every number that is shown anywhere.

A line is appended under a lock in one write, flushed to the disk, and carries a checksum, so that several sweeps may
append at once and a torn or changed line is noticed. Earlier lines are never changed. Curves and chunk sums of a trial
are in a file of their own beside the ledger, named by their SHA-256. No secret is written.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from golf.runtime.files import write_bytes
from tune.records.entries import (
    PlanEntry,
    Record,
    ScreeningEntry,
    Series,
    TrialEntry,
    VerdictEntry,
    latest,
    sha256,
    trials_of,
)
from tune.records.lines import DamagedLine, Lines, damage_report, decode_line, encode_line, read_lines

SERIES = "series"
"""The folder of curves and chunk sums, beside the ledger."""
_cache: dict[Path, tuple[tuple[int, ...], Lines]] = {}
"""The latest reading of each ledger of this process, with the file's identity, size and time of change."""


class Ledger:
    """The ledger in one file, which is created with the first record."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, record: Record, series: Series | None = None) -> Record:
        """Appends a record as the last line; on return it is on the disk.

        Args: record: the trial, plan, verdict or screening score; series: a trial's curves and chunk sums, written
            before its line.
        Returns: the record as it was written: with the digest of its series and the time, without secrets.
        Raises: ValueError naming the path of a value that no line can hold; OSError naming the file that cannot be
            written; nothing of this record is in the ledger then.
        """
        try:
            if series and isinstance(record, TrialEntry):
                record = msgspec.structs.replace(record, series=self.write_series(series))
            line = encode_line(record, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(_lock_path(self.path)):
                _append_line(self.path, line)
        except OSError as error:
            reason = error.strerror or str(error)
            message = (
                f"cannot append to {self.path}: {reason}; its earlier lines are untouched, this entry is not in it"
            )
            raise OSError(error.errno, message) from error
        return decode_line(line)

    def records(self) -> list[Record]:
        """Returns all intact records in file order.

        Raises: OSError when the file is there and cannot be read; a damaged line is never an error.
        """
        return list(self._read().records)

    def trials(self, sweep: str | None = None) -> list[TrialEntry]:
        """Returns the trials' entries in file order, of one sweep where it is named."""
        return trials_of(self._read().records, sweep)

    def latest(self, sweep: str | None = None) -> list[TrialEntry]:
        """Returns the last entry of each trial, of one sweep where it is named."""
        return latest(self._read().records, sweep)

    def plans(self, study: str) -> list[PlanEntry]:
        """Returns the plans of a seed study in file order."""
        return [entry for entry in self._read().records if isinstance(entry, PlanEntry) and entry.study == study]

    def verdicts(self, study: str) -> list[VerdictEntry]:
        """Returns the verdicts on a seed study in file order."""
        return [entry for entry in self._read().records if isinstance(entry, VerdictEntry) and entry.study == study]

    def screening(self) -> list[ScreeningEntry]:
        """Returns the scores of first chunks in file order."""
        return [entry for entry in self._read().records if isinstance(entry, ScreeningEntry)]

    @property
    def damaged(self) -> list[DamagedLine]:
        """Lines that could not be read."""
        return self._read().damaged

    @property
    def damage(self) -> list[str]:
        """The same in words for a person, and what was mended."""
        return damage_report(self.path, self._read())

    def series(self, entry: TrialEntry) -> Series:
        """Returns a trial's curves and chunk sums; an empty one where it has none.

        Raises: OSError when its file is gone or cannot be read; ValueError when its file is not the one that was
            written.
        """
        if entry.series is None:
            return Series()
        path = self.series_path(entry.series)
        data = path.read_bytes()
        if sha256(data) != entry.series:
            raise ValueError(f"{path} has changed since it was written; restore it from a copy, or run the trial again")
        try:
            return Series.decode(data)
        except ValueError as error:  # written and sealed by another program
            raise ValueError(f"{path} holds no series: {error}") from error

    def series_path(self, digest: str) -> Path:
        """The file of the series with this digest."""
        return self.path.parent / SERIES / f"{digest}.npz"

    def write_series(self, series: Series) -> str:
        """Writes curves and chunk sums into their file, whole; returns its SHA-256."""
        data = series.encode()
        digest = sha256(data)
        if not self.series_path(digest).is_file():
            write_bytes(self.series_path(digest), data)
        return digest

    def _read(self) -> Lines:
        """The ledger's lines, read again only if the file has changed."""
        data, state = _read_at_rest(self.path, _cache.get(self.path.absolute(), ((), None))[0])
        if data is not None:
            _cache[self.path.absolute()] = state, read_lines(data)
        return _cache[self.path.absolute()][1]


def warn_of_damage(*paths: Path) -> None:
    """Says on standard error which lines of ledgers are damaged, before anything is made of the others."""
    for path in paths:
        with contextlib.suppress(OSError):  # whoever reads it next says so
            for line in Ledger(path).damage:
                print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file at `path` (made when missing) against other processes and threads; a kill releases it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _append_line(path: Path, line: bytes) -> None:
    """Writes `line` and its newline at the end of `path` and flushes it, or leaves the file as it was."""
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
            # Where even this fails, the part stays as a torn line, which readers skip and the next record closes.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
    if is_new:
        flush(path.parent)


def flush(path: Path) -> None:
    """Flushes a file, or a folder's list of names, without which a new file may not outlive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_at_rest(path: Path, known: tuple[int, ...]) -> tuple[bytes | None, tuple[int, ...]]:
    """The bytes of `path` while nobody appends, and the file's state; no bytes if it is in the `known` state."""
    with contextlib.ExitStack() as stack:
        # A reader makes no lock file, so that a ledger on a read-only disk can be read.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            handle = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH)
        try:
            stat = path.stat()
            state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            return (None if state == known else path.read_bytes()), state
        except FileNotFoundError:
            return b"", (-1,)
