"""Copies of a storage in a bucket or another folder: what is still there when the cluster is gone.

After every finished trial the ledger, its series files, the MLflow database, the reports and the files of finished
trials are copied, from a thread of its own: a bucket that is slow, full or away must never stop or slow a trial. The
ledger is copied after the files that it names, and replaced only by one that continues it. `python -m tune mirror fetch
URI FOLDER` brings a copy back.
"""

import argparse
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from golf.cli.terminal import python_line
from golf.runtime.files import write_bytes
from tune.cache.backend import StorageBackend, open_storage
from tune.records.entries import PlanEntry, TrialEntry, VerdictEntry, trials_of
from tune.records.layout import Storage
from tune.records.ledger import SERIES, Ledger, locked, warn_of_damage
from tune.records.lines import ranges, read_lines
from tune.search.space import Trial
from tune.tracking.addresses import database_path, default_uri
from tune.tracking.tracker import attach, runs_page, sync

LEDGER, DATABASE = "ledger.jsonl", "mlflow.db"
"""Names in a copy; all others are as below the storage."""
_FOLDERS = ("reports", "studies", "sweeps", SERIES)
"""Folders of a copy."""


class Mirror:
    """Keeps a copy of a storage up to date, as a watcher of a sweep: it returns at once and never raises."""

    def __init__(
        self,
        storage: Storage,
        target: str | StorageBackend,
        tracking_uri: str | None = None,
        *,
        warn: Callable[[str], None] = print,
        retry_seconds: float = 30.0,
    ) -> None:
        """Starts the thread.

        Args:
            storage: to be copied.
            target: a folder or URI.
            tracking_uri: MLflow's, whose database is copied if it is a SQLite file (None: the storage's own).
            warn: called once when the target does not take a copy, and once when it does again.
            retry_seconds: pause between attempts then.

        Raises: ValueError when `target` is no address, or the storage itself.
        """
        self.storage, self.target = storage, open_storage(target) if isinstance(target, str) else target
        if self.target.name == str(storage.root):
            raise ValueError(f"--mirror {target} is the storage itself; give another place")
        self.database = database_path(tracking_uri or default_uri(storage.root))
        self.problem: str | None = None
        """One line for the user while the target does not take a copy."""
        self._warn, self._retry_seconds = warn, retry_seconds
        self._due, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        """Does nothing: there is nothing of the trial yet."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Does nothing, as above."""

    def ended(self, entry: TrialEntry) -> None:
        """Has the storage copied: a trial's entry is in the ledger."""
        self._due.set()

    def close(self, seconds: float) -> str | None:
        """Copies all that is there now, for at most so long. Returns what to tell the user if that failed."""
        self._closed = True
        self._due.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            return f"{self.target.name} has not all of it after {seconds:g} s; {self._remedy()}"
        return self.problem

    def _work(self) -> None:
        is_last = False
        while not is_last:
            self._due.wait(None if self.problem is None else self._retry_seconds)
            self._due.clear()
            is_last = self._closed
            try:
                copy(self.storage, self.target, self.database)
            except (OSError, ValueError, sqlite3.Error) as error:
                if self.problem is None:
                    self._warn(f"no copy at {self.target.name}: {error}; it is tried again, the runs go on")
                self.problem = f"no copy at {self.target.name}: {error}; {self._remedy()}"
            else:
                if self.problem is not None:
                    self._warn(f"{self.target.name} has everything again")
                self.problem = None

    def _remedy(self) -> str:
        return f"make one with {python_line('tune', 'mirror', 'copy', str(self.storage.root), self.target.name)}"


def copy(storage: Storage, target: StorageBackend, database: Path | None) -> int:
    """Brings the copy up to date with the storage and its MLflow database; returns the number of files written.

    Raises: ValueError when the target has another storage's ledger; StoreError, OSError, sqlite3.Error.
    """
    storage.root.mkdir(parents=True, exist_ok=True)
    # Of two sweeps at once, the one that read the ledger first must not write it last.
    with locked(storage.root / "mirror.lock"):
        ledger, before = _whole_lines(storage.ledger), target.read(LEDGER) or b""
        if not _continues(ledger, before):
            raise ValueError(_refusal(storage, ledger, target))
        there = {f"{folder}/{name}": state for folder in _FOLDERS for name, state in target.files(folder).items()}
        num_files = 0
        for path in _files(storage):
            name = path.relative_to(storage.root).as_posix()
            with contextlib.suppress(FileNotFoundError):  # removed by its owner, as what other code computed is
                state, copied = path.stat(), there.get(name)
                if not copied or copied.num_bytes != state.st_size or copied.modified_ns < state.st_mtime_ns:
                    target.replace(name, path.read_bytes())
                    num_files += 1
        # The ledger comes last, after all that it names.
        last = {} if database is None or not database.is_file() else {DATABASE: _snapshot(database)}
        last |= {} if ledger == before else {LEDGER: ledger}
        for name, data in last.items():
            target.replace(name, data)
    return num_files + len(last)


def fetch(source: StorageBackend, storage: Storage) -> int:
    """Brings a copy into a folder; files that are there are replaced. Returns the number of files.

    Raises: ValueError when there is no copy, a name leads out of the folder, or the folder has another ledger.
    """
    parts = {name: PurePosixPath(name).parts for name in source.files("")}
    names = sorted(name for name in parts if parts[name][0] in (DATABASE, *_FOLDERS))
    ledger = source.read(LEDGER)
    if ledger is None:
        raise ValueError(f"{source.name} has no {LEDGER}: no copy of a storage is there")
    if not _continues(ledger, _whole_lines(storage.ledger)):
        raise ValueError(
            f"{storage.ledger} has entries, or damaged lines, that {source.name} has not; fetch into another folder"
        )
    outside = next((name for name in names if ".." in parts[name]), None)
    if outside is not None:
        raise ValueError(
            f"{source.name} has a file named {outside}, which leads out of {storage.root}; remove it there"
        )
    for name in names:
        (storage.root / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(storage.root / name, b"".join(source.chunks(name)))
    storage.root.mkdir(parents=True, exist_ok=True)
    with locked(storage.ledger.with_name(storage.ledger.name + ".lock")):
        write_bytes(storage.ledger, ledger)
    return len(names) + 1


def _whole_lines(path: Path) -> bytes:
    """Returns a ledger's bytes up to the end of its last whole line; none when there is no file."""
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        return data[: data.rfind(b"\n") + 1]
    return b""


def _continues(ledger: bytes, before: bytes) -> bool:
    """Whether a ledger begins with the lines of another, whatever an editor did to the form of either."""
    if ledger.startswith(before):
        return True
    lines, first = read_lines(ledger).lines, read_lines(before).lines
    return lines[: len(first)] == first


def _refusal(storage: Storage, ledger: bytes, target: StorageBackend) -> str:
    """Returns why a ledger does not replace the one of the target, and the remedy."""
    reason = "has the ledger of another storage, which a copy would replace; give a place of its own, or"
    if damaged := read_lines(ledger).damaged:
        numbers = ranges([line.line_number for line in damaged])
        reason = f"has lines of the ledger that are damaged in {storage.ledger} (lines {numbers});"
    line = python_line("tune", "mirror", "fetch", target.name)
    return f"{target.name} {reason} go on from it in a new folder: {line} FOLDER"


def _snapshot(database: Path) -> bytes:
    """Returns a SQLite database as it is between two changes, while others write to it."""
    address = f"{database.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(address, uri=True, timeout=30)) as source,
        contextlib.closing(sqlite3.connect(":memory:")) as snapshot,
    ):
        source.backup(snapshot)
        return snapshot.serialize()


def _files(storage: Storage) -> list[Path]:
    """Returns every report, the files of seed studies, and the files and series of finished trials."""
    folders = (storage.root / "reports", storage.root / "studies")
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    ledger = Ledger(storage.ledger)
    for entry in ledger.trials():
        paths += [*storage.files(entry).values(), *storage.logs(entry)]
        paths += [] if entry.series is None else [ledger.series_path(entry.series)]
    return list(dict.fromkeys(paths))


def show_in_mlflow(storage: Storage, uri: str) -> str | None:
    """Brings MLflow up to date with a ledger, its files and reports; what it holds already is not sent again.

    Returns: one line for the user when MLflow does not take them, else None.
    """
    records = Ledger(storage.ledger).records()
    by_preset: dict[str, list[TrialEntry]] = {}
    for trial in trials_of(records):
        by_preset.setdefault(trial.preset, []).append(trial)
    problems = []
    for preset, trials in by_preset.items():
        sweeps = sorted({trial.sweep for trial in trials})
        studies = [r for r in records if isinstance(r, (PlanEntry, VerdictEntry)) and r.study in sweeps]
        problems.append(sync([*trials, *studies], uri, preset, storage).problem)
        for name in sweeps:
            report = sorted(path for path in storage.report(name).glob("*") if path.is_file())
            is_study = any(study.study == name for study in studies)
            problems.append(attach(uri, preset, name, report, is_study) if report else None)
    return next(filter(None, problems), None)


def mirror_command(parsed: argparse.Namespace) -> None:
    """Copies or fetches. Raises: ValueError, OSError when that cannot be done."""
    storage = Storage(parsed.folder.resolve())
    backend = open_storage(parsed.address)
    try:
        if parsed.action == "copy":
            warn_of_damage(storage.ledger)
            num_files = copy(storage, backend, database_path(default_uri(storage.root)))
            print(f"{num_files} files copied to {backend.name}")
            return
        print(f"{fetch(backend, storage)} files in {storage.root}")
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
    warn_of_damage(storage.ledger)
    print(f"every number: {python_line('tune', 'ledger', 'show', '--ledger', str(storage.ledger))}")
    uri = default_uri(storage.root)
    print(show_in_mlflow(storage, uri) or runs_page(uri, ""))
