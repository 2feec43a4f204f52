"""`golf-sweep status`: how far a sweep is, from another terminal; it reads files and takes no lock.

The ledger says what has ended. What runs is in a file of the sweep's folder, which its driver writes every few seconds
and removes at its end; one that is no longer written is from a driver that was killed.
"""

import argparse
import contextlib
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from golf.config.config import nearest
from golf.runtime.files import write_bytes
from tune.cli.outcome_table import score_text, table
from tune.cli.progress import RunningTrial, SweepProgress, best_of
from tune.cli.tables import Column, format_table, terminal_width
from tune.records.entries import TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.ledger import Ledger, warn_of_damage
from tune.records.text import duration
from tune.workloads.trial_process import POINT

_WRITE_SECONDS = 2.0
_SILENT_SECONDS = 60.0
"""Without a write, after which a driver counts as gone."""


class SweepStatus(msgspec.Struct, kw_only=True):
    """What a driver says of its sweep."""

    host: str
    pid: int
    num_trials: int
    concurrent: int
    updated: float
    """Unix seconds."""
    running: dict[str, RunningTrial] = {}


class StatusFile:
    """Writes what runs every few seconds, from the first trial on; the file is removed at the end of the block.

    A second driver of the sweep, which is refused before its first trial, leaves the file alone.
    """

    def __init__(self, path: Path, progress: SweepProgress) -> None:
        """Args: path: of the file; progress: of the sweep, which another thread may change."""
        self.path, self.progress = path, progress
        self._written, self._ended = False, threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._written:
            self.path.unlink(missing_ok=True)

    def _write_now_and_then(self) -> None:
        while not self._ended.wait(_WRITE_SECONDS):
            self.write()

    def write(self) -> None:
        """Writes what runs now; nothing before the first trial."""
        if not self.progress.running and not self._written:
            return
        status = SweepStatus(
            host=socket.gethostname(),
            pid=os.getpid(),
            num_trials=self.progress.num_trials,
            concurrent=self.progress.concurrent,
            updated=time.time(),
            running=dict(self.progress.running),
        )
        self._written = True
        with contextlib.suppress(OSError):  # a full disk is for the trials to tell
            write_bytes(self.path, msgspec.json.encode(status))


def read_status(path: Path) -> SweepStatus | None:
    """Returns what a driver last wrote; None where no sweep runs."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SweepStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


@dataclass(frozen=True)
class _Sweep:
    """A sweep as the files have it."""

    name: str
    entries: list[TrialEntry]
    status: SweepStatus | None

    @property
    def running(self) -> dict[str, RunningTrial]:
        """Trials that run, where the driver lives."""
        return self.status.running if self.status is not None and self.lives else {}

    @property
    def lives(self) -> bool:
        """Whether a driver wrote lately."""
        return self.status is not None and time.time() - self.status.updated < _SILENT_SECONDS

    def line(self) -> str:
        """Returns where it is in one line."""
        counts = Counter(entry.state for entry in self.entries)
        of = (
            f"{len(self.entries)} of {self.status.num_trials}" if self.status and self.lives else f"{len(self.entries)}"
        )
        parts = [f"{of} trials ended", *(f"{counts[state]} {state.word}" for state in TrialState if counts[state])]
        parts += [f"{len(self.running)} running"] if self.running else []
        best = best_of(self.entries)
        parts += [f"best {score_text(best)}"] if best else []
        if self.status is None:
            state = "not running"
        elif self.lives:
            state = f"running on {self.status.host}, process {self.status.pid}"
        else:
            ago = duration(time.time() - self.status.updated)
            state = f"its process on {self.status.host} was ended {ago} ago; the same command continues"
        return f"{self.name}: {state} | {' | '.join(parts)}"


def status_command(parsed: argparse.Namespace) -> int:
    """Prints how far one sweep is, or all of a storage. Raises: ValueError naming the nearest sweep."""
    storage = Storage(parsed.storage.resolve())
    warn_of_damage(storage.ledger)
    latest = Ledger(storage.ledger).latest() if storage.ledger.exists() else []
    by_name: dict[str, list[TrialEntry]] = {}
    for entry in latest:
        by_name.setdefault(entry.sweep, []).append(entry)
    for path in sorted((storage.root / "sweeps").glob("*/")):
        by_name.setdefault(path.name, [])
    if not by_name:
        raise ValueError(f"there is no sweep in {storage.root}; give its --storage")
    if parsed.name is None:
        for name, entries in by_name.items():
            print(_Sweep(name, entries, read_status(storage.status(name))).line())
        return 0
    if parsed.name not in by_name:
        raise ValueError(f'there is no sweep "{parsed.name}" in {storage.root}{nearest(parsed.name, by_name)}')
    sweep = _Sweep(parsed.name, by_name[parsed.name], read_status(storage.status(parsed.name)))
    print(sweep.line())
    lines = running_lines(sweep.running, time.time(), terminal_width())
    print("\n".join(["", *lines]) if lines else "", end="\n" if lines else "")
    ended = {entry.trial for entry in sweep.entries} | set(sweep.running)
    waiting = [path.parent.name for path in storage.sweep(parsed.name).glob(f"trials/*/{POINT}")]
    begun = [trial for trial in waiting if trial not in ended]
    if begun:
        print(f"{len(begun)} begun and not finished; the same command goes on with them: {', '.join(begun[:5])}")
    if sweep.entries:
        print(f"\n{table(sweep.entries, storage.root)}")
        best = best_of(sweep.entries)
        print(f"\nbest: {score_text(best)}, {best.name} ({best.trial})" if best else "\nno trial has a score yet")
    return 0


def running_lines(running: dict[str, RunningTrial], now: float, width: int) -> list[str]:
    """Returns the running trials as a table. Args: running: by trial; now: unix seconds; width: of a line."""
    if not running:
        return []
    trials = list(running.values())
    left = [trial.seconds_left(now) for trial in trials]
    columns = [
        Column("running", [duration(now - trial.started) for trial in trials]),
        Column("left", ["" if seconds is None else f"about {duration(seconds)}" for seconds in left]),
        Column("stage", [trial.stage for trial in trials], align="left"),
        Column("trial", list(running), align="left"),
        Column("name", [trial.name for trial in trials], align="left"),
    ]
    return format_table(columns, width)
