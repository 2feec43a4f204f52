"""A copy of what a sweep leaves, in a bucket or another folder: what is still there when the cluster is gone.

After every finished trial the ledger, the MLflow database, the reports and each finished trial's artifact and
configuration are brought to the place, from a thread of its own: a place that is slow, full or away must never stop or
slow a trial. Files there change whole, the ledger after what it names. A ledger is replaced only by one that it is the
beginning of. `python -m tune mirror fetch URI FOLDER` brings all of it back.
"""

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from golf.cli.options import Parser
from golf.cli.terminal import expand_paths, python_line, quiet_when_closed
from golf.runtime.files import write_bytes
from tune.cache.backend import FileState, StorageBackend, open_storage
from tune.records.layout import Storage
from tune.records.ledger import Ledger, locked, tell_damage
from tune.records.queries import TRIAL
from tune.records.reading import ranges, read_lines
from tune.search.space import Trial
from tune.study.preregistration import PLAN
from tune.study.verdict import VERDICT
from tune.tracking.connection import database_path, default_uri
from tune.tracking.run_fields import identity_of
from tune.tracking.tracker import attach, sync, ui_line

LEDGER, DATABASE = "ledger.jsonl", "mlflow.db"
"""Names at the place; all others are as below the storage."""
_FOLDERS = ("reports", "studies", "sweeps")
"""What else a copy has files in."""


class Mirror:
    """Copies of a storage at a place. As a watcher of a sweep it returns at once and never raises."""

    def __init__(
        self,
        storage: Storage,
        where: str | StorageBackend,
        tracking_uri: str | None = None,
        *,
        say: Callable[[str], None] = print,
        retry_seconds: float = 30.0,
    ) -> None:
        """Args: where: a folder or URI; tracking_uri: MLflow's, whose database is copied if it is a SQLite file (None:
        the storage's own); say: told once when the place does not take a copy, and once when it does again;
        retry_seconds: pause between attempts then.

        Raises: ValueError when `where` is no place, or is the storage itself.
        """
        self.storage, self.place = storage, open_storage(where) if isinstance(where, str) else where
        if self.place.name == str(storage.root):
            raise ValueError(f"--mirror {where} is the storage itself; give another place")
        self.database = database_path(tracking_uri or default_uri(storage.root))
        self.problem: str | None = None
        """One line for the user while the place does not take what it is given."""
        self._say, self._retry_seconds = say, retry_seconds
        self._due, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        """Nothing: there is nothing of it yet."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Nothing, as above."""

    def ended(self, entry: Mapping[str, Any]) -> None:
        """A trial's entry is in the ledger."""
        self._due.set()

    def close(self, seconds: float) -> str | None:
        """Copy all that is there now, for at most so long; what to tell the user if that failed."""
        self._closed = True
        self._due.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            return f"{self.place.name} has not all of it after {seconds:g} s; {self._remedy()}"
        return self.problem

    def _work(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            last = self._closed
            self._attempt()
            if last:
                return
            if self.problem is not None:
                end = time.monotonic() + self._retry_seconds
                while not self._closed and time.monotonic() < end:
                    time.sleep(min(0.2, self._retry_seconds))
                self._due.set()

    def _attempt(self) -> None:
        try:
            copy(self.storage, self.place, self.database)
        except (OSError, ValueError, sqlite3.Error) as error:
            if self.problem is None:
                self._say(f"no copy at {self.place.name}: {error}; it is tried again, the runs go on")
            self.problem = f"no copy at {self.place.name}: {error}; {self._remedy()}"
        else:
            if self.problem is not None:
                self._say(f"{self.place.name} has everything again")
            self.problem = None

    def _remedy(self) -> str:
        return f"make one with {python_line('tune', 'mirror', 'copy', str(self.storage.root), self.place.name)}"


def copy(storage: Storage, place: StorageBackend, database: Path | None) -> int:
    """Bring the place up to date with the storage.

    Args: database: MLflow's.
    Returns: the number of files that were written.
    Raises: ValueError when the place has another storage's ledger; StoreError, OSError, sqlite3.Error.
    """
    storage.root.mkdir(parents=True, exist_ok=True)
    # Of two sweeps at once, the one that read the ledger first must not write it last.
    with locked(storage.root / "mirror.lock"):
        ledger, before = whole_lines(storage.ledger), place.read(LEDGER) or b""
        if not goes_on_from(ledger, before):
            damaged = read_lines(ledger).damaged
            why = "has the ledger of another storage, which a copy would replace; give a place of its own, or"
            if damaged:
                lines = ranges([line.line_number for line in damaged])
                why = f"has lines of the ledger that are damaged in {storage.ledger} (lines {lines});"
            line = python_line("tune", "mirror", "fetch", place.name)
            raise ValueError(f"{place.name} {why} go on from it in a new folder: {line} FOLDER")
        there = {f"{part}/{name}": state for part in _FOLDERS for name, state in place.files(part).items()}
        num_files = sum(_bring(place, name, path, there.get(name)) for name, path in _files(storage))
        if database is not None and database.is_file():
            place.replace(DATABASE, snapshot(database))
            num_files += 1
        if ledger != before:
            place.replace(LEDGER, ledger)
            num_files += 1
    return num_files


def whole_lines(path: Path) -> bytes:
    """A ledger's bytes up to its last whole line, none when there is no file."""
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        return data[: data.rfind(b"\n") + 1]
    return b""


def goes_on_from(ledger: bytes, before: bytes) -> bool:
    """Whether a ledger begins with the lines of another, whatever an editor did to the form of either."""
    if ledger.startswith(before):
        return True
    lines, first = read_lines(ledger).lines, read_lines(before).lines
    return lines[: len(first)] == first


def snapshot(database: Path) -> bytes:
    """A SQLite database as it is between two changes, while others write to it."""
    with tempfile.TemporaryDirectory() as folder:
        target, address = Path(folder) / DATABASE, f"{database.absolute().as_uri()}?mode=ro"
        with (
            contextlib.closing(sqlite3.connect(address, uri=True, timeout=30)) as source,
            contextlib.closing(sqlite3.connect(target)) as destination,
        ):
            source.backup(destination)
        return target.read_bytes()


def _files(storage: Storage) -> Iterator[tuple[str, Path]]:
    """Name and path of every report, of what studies left and of what finished trials keep."""
    tops = (storage.root / "reports", storage.root / "studies")
    kept = {path: None for top in tops for path in sorted(top.rglob("*")) if path.is_file()}
    for entry in Ledger(storage.ledger).find(kind=TRIAL):
        kept |= dict.fromkeys(storage.files(entry).values())
    for path in kept:
        yield path.relative_to(storage.root).as_posix(), path


def _bring(place: StorageBackend, name: str, path: Path, there: FileState | None) -> bool:
    """Copy one file unless the place has it since its last change."""
    try:
        state = path.stat()
        if there is not None and (there.num_bytes, there.modified_ns >= state.st_mtime_ns) == (state.st_size, True):
            return False
        place.replace(name, path.read_bytes())
    except FileNotFoundError:  # removed by its owner, as what was computed by other code is
        return False
    return True


def fetch(place: StorageBackend, storage: Storage) -> int:
    """Bring a copy into a folder; files that are there are replaced.

    Returns: the number of files.
    Raises: ValueError when there is no copy, a name leads out of the folder, or the folder has another ledger.
    """
    names = sorted(name for name in place.files("") if PurePosixPath(name).parts[0] in (LEDGER, DATABASE, *_FOLDERS))
    ledger = place.read(LEDGER)
    if ledger is None:
        raise ValueError(f"{place.name} has no {LEDGER}: no copy of a storage is there")
    if not goes_on_from(ledger, whole_lines(storage.ledger)):
        raise ValueError(
            f"{storage.ledger} has entries, or damaged lines, that {place.name} has not; fetch into another folder"
        )
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(
                f"{place.name} has a file named {name}, which leads out of {storage.root}; remove it there"
            )
    for name in [name for name in names if name != LEDGER]:
        target = storage.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, b"".join(place.chunks(name)))
    storage.root.mkdir(parents=True, exist_ok=True)
    with locked(storage.ledger.with_name(storage.ledger.name + ".lock")):
        write_bytes(storage.ledger, ledger)
    return len(names)


def show_in_mlflow(storage: Storage) -> str | None:
    """Complete the MLflow database of a fetched storage from its ledger: the runs' files and reports were not copied.

    Returns: one line for the user when MLflow does not take them, else None.
    """
    entries, uri = Ledger(storage.ledger).entries(), default_uri(storage.root)
    experiments: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.get("kind") in (TRIAL, PLAN, VERDICT):
            experiments.setdefault(str(entry.get("preset") or ""), []).append(entry)
    plans = experiments.pop("", [])  # of which the studies of any experiment may be
    problems = []
    for experiment, own in experiments.items():
        problems.append(sync([*plans, *own], uri, experiment).problem)
        for name in sorted({identity_of(entry)[0] for entry in own}):
            report = sorted(path for path in storage.report(name).glob("*") if path.is_file())
            if report:
                problems.append(attach(uri, experiment, name, report))
    return next(filter(None, problems), None)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("python -m tune mirror", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    bring = commands.add_parser("fetch", help="bring a copy to this machine")
    bring.add_argument("where", metavar="URI", help="what --mirror named: s3://, gs:// or a folder")
    bring.add_argument("folder", type=Path, metavar="FOLDER", help="a storage folder, new or of the same sweeps")
    make = commands.add_parser("copy", help="make a copy, or bring it up to date")
    make.add_argument("folder", type=Path, metavar="FOLDER", help="the storage folder")
    make.add_argument("where", metavar="URI", help="where to: s3://, gs:// or a folder")
    return expand_paths(parser.parse_args(arguments))


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Copy or fetch; what cannot be done is one line and exit code 2."""
    parsed = parse(arguments)
    storage = Storage(parsed.folder.resolve())
    try:
        place = open_storage(parsed.where)
        if parsed.command == "copy":
            tell_damage(storage.ledger)
            num_files = copy(storage, place, database_path(default_uri(storage.root)))
            print(f"{num_files} files brought to {place.name}")
        else:
            print(f"{fetch(place, storage)} files in {storage.root}")
            tell_damage(storage.ledger)
            print(f"every number: {python_line('tune', 'ledger', 'show', '--ledger', str(storage.ledger))}")
            print(show_in_mlflow(storage) or f"in a browser: {ui_line(default_uri(storage.root))}")
    except BrokenPipeError:
        raise
    except (ValueError, OSError, sqlite3.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
