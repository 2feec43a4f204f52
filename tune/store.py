"""The store of stage results: a key enters, a folder of files leaves, computed once however many ask for it.

Below its place, a local folder or any URI that pyarrow.fs reaches, stand

    entries/<key>.json          the marker of a published result: its files' checksums and its record
    files/<key>.<attempt>/...   the files
    uses/<key>                  when it was last used: the time of this file
    leases/<key>.<generation>   who computes it at the moment
    pins/<owner>.<...>          keys that an unfinished trial needs
    work/...                    what is not finished

Anything may be deleted at any time: what is missing is computed again. Nothing is ever unpickled, and nothing is
trusted that does not fit its checksum. `python -m tune.store` lists, shows, verifies and collects.
"""

import argparse
import json
import logging
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune.entries import Damaged, Entries, Entry
from tune.fingerprint import check_key
from tune.inventory import SHORT, collect, garbage, lineage, size_text, table
from tune.lease import Claimer, Lease, Patience, Pins
from tune.ledger import Ledger
from tune.paths import Storage
from tune.place import Folder, StoreError, open_place

INTERIOR = "interior"
"""The `kind` in the record of a result that only other stages read; the first to go when the disk budget is reached."""
STORE = "store"
"""The store's folder below the storage root."""
_ROUNDS = 3
_warn = logging.getLogger("tune.store").warning

Compute = Callable[[Path], Mapping[str, Any]]
"""Writes a result's files into the given empty folder and returns its record."""


class Store(Entries):
    """A store at a local folder, at a URI, or at a path of a given pyarrow file system."""

    def __init__(
        self,
        where: str | Path,
        filesystem: Any = None,
        *,
        patience: Patience | None = None,
        budget_bytes: int | None = None,
        say: Callable[[str], None] = _warn,
    ) -> None:
        """Nothing is made or read there yet.

        Args: patience: the same for all processes on one store; budget_bytes: size of all entries together, kept by
            dropping some after each one published, None: no limit; say: told what a person should know, in one line.
        Raises: ValueError when `where` is not understood or the budget is not above 0; StoreError.
        """
        if budget_bytes is not None and budget_bytes <= 0:
            raise ValueError(f"budget_bytes must be None or above 0, got {budget_bytes}")
        super().__init__(open_place(where, filesystem), say)
        self.patience = patience or Patience()
        self.budget_bytes = budget_bytes
        self._pins = Pins(self.place, self.patience)

    def take(self, key: str, compute: Compute, into: Path) -> Entry:
        """`compute_once`, then `fetch` into a local folder; what proves damaged on the way is computed again.

        Raises: as `compute_once` and `fetch`; Damaged only where the storage damages one result after the other.
        """
        for _ in range(_ROUNDS - 1):
            try:
                entry = self.compute_once(key, compute)
                self.fetch(entry, into)
                return entry
            except Damaged:
                continue
        entry = self.compute_once(key, compute)
        self.fetch(entry, into)
        return entry

    def compute_once(self, key: str, compute: Compute) -> Entry:
        """The entry of a key; computed here if it is not there, unless another process is at it, which is waited for.

        `compute` gets an empty folder and returns the record: plain JSON values, by custom stage, kind, arguments,
        parents (keys), seconds and device; host, time and seconds are added where it does not say them.
        Raises: what `compute` raises, after giving up the lease so that others try; StoreError naming the place.
        """
        claimer = Claimer(self.place, check_key(key), self.patience, self.say)
        pause = self.patience.poll_seconds / 32
        while (found := self.find(key)) is None:
            lease = claimer.attempt()
            if lease is not None:
                return self._compute(lease, compute)
            time.sleep(pause)
            pause = min(2 * pause, self.patience.poll_seconds)
        self.use(key)
        return found

    def _compute(self, lease: Lease, compute: Compute) -> Entry:
        with lease:
            found = self.find(lease.key)  # published between the last look and the claim
            if found is not None:
                self.use(lease.key)
                return found
            work = self.place.scratch(f"{lease.key}.{uuid.uuid4().hex[:12]}")
            try:
                started = time.monotonic()
                record = dict(compute(work))
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                known = {"host": socket.gethostname(), "time": now, "seconds": time.monotonic() - started}
                return self.publish(lease.key, work, known | record, move=True)
            except OSError as error:
                # The error of a full disk names no file by itself.
                error.add_note(f"while {lease.key} was computed in {work}; nothing of it was published")
                raise
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def publish(self, key: str, folder: Path, record: Mapping[str, Any], move: bool = False) -> Entry:
        """As `Entries.publish`; then the disk budget is kept."""
        entry = super().publish(key, folder, record, move)
        self.use(key)
        if self.budget_bytes is not None:
            try:
                self._keep_budget(entry, self.budget_bytes)
            except StoreError as error:
                self.say(f"the budget of {size_text(self.budget_bytes)} is not kept: {error.strerror}")
        return entry

    def _keep_budget(self, fresh: Entry, budget_bytes: int) -> None:
        """Drop the least recently used entries that no one pins, interior ones first, until the rest fits."""
        entries = self.all()
        total = sum(entry.num_bytes for entry in entries)
        if total <= budget_bytes:
            return
        kept, used = {fresh.key, *self.pinned()}, self.last_used_ns()
        for entry in sorted(entries, key=lambda entry: (entry.record.get("kind") != INTERIOR, used.get(entry.key, 0))):
            if total > budget_bytes and entry.key not in kept and self.drop(entry.key):
                total -= entry.num_bytes
        if total > budget_bytes:
            self.say(
                f"{self.place.name} holds {size_text(total)}, over its budget of {size_text(budget_bytes)}: "
                "unfinished trials need it all; give a larger budget"
            )

    def pin(self, keys: Iterable[str], owner: str) -> None:
        """Keep entries of these keys, present or to come, from being dropped until `unpin` or this process's end.

        Pin before looking for an entry, not after. Args: owner: names who needs them, e.g. a trial; its earlier pins
        are replaced. Raises: ValueError; StoreError.
        """
        self._pins.pin(keys, owner)

    def unpin(self, owner: str) -> None:
        """Drop an owner's pins; none is no error. Raises: StoreError."""
        self._pins.unpin(owner)

    def pinned(self) -> set[str]:
        """All keys that a living owner pins. Raises: StoreError."""
        return self._pins.pinned()


def open_parsed(parsed: argparse.Namespace) -> Store:
    """The store that the command line names. Raises: ValueError when there is none."""
    where = parsed.storage if "://" in parsed.storage else str(Path(parsed.storage, STORE).resolve())
    store = Store(where, say=lambda line: print(line, file=sys.stderr))
    if isinstance(store.place, Folder) and not store.place.root.is_dir():
        raise ValueError(f"there is no store at {store.place.name}; name its storage folder or URI with --storage")
    return store


def list_command(store: Store, _: argparse.Namespace) -> int:
    """Print the table of all entries."""
    print("\n".join(table(store)))
    return 0


def show_command(store: Store, parsed: argparse.Namespace) -> int:
    """Print an entry's lineage, files and record."""
    stored = {entry.key: entry for entry in store.all()}
    matching = [key for key in stored if key.startswith(parsed.key)]
    if len(matching) != 1:
        raise ValueError(
            f"{len(matching)} entries have a key that starts with {parsed.key!r}; see python -m tune.store ls"
        )
    entry = stored[matching[0]]
    print("\n".join(lineage(entry, stored)))
    print(f"\nkey {entry.key}")
    for name, file in entry.files.items():
        print(f"{file.sha256[:SHORT]}  {size_text(file.num_bytes):>9}  {name}")
    print(json.dumps(entry.record, indent=1, sort_keys=True))
    return 0


def verify_command(store: Store, _: argparse.Namespace) -> int:
    """Read every byte of every entry; 1 when some have changed."""
    keys = store.keys()
    faults = [f"{key}: {fault}" for key in keys for fault in store.faults(key)]
    for fault in faults:
        print(fault)
    print(
        f"{len(keys)} entries read, {len(faults)} faults" + ("; they are computed again when wanted" if faults else "")
    )
    return 1 if faults else 0


def collect_command(store: Store, parsed: argparse.Namespace) -> int:
    """Remove, or list, what no entry of the ledgers needs."""
    needed = needed_keys(parsed.ledger or [Storage(Path(parsed.storage)).ledger])
    found = list(garbage(store, needed | store.pinned()))
    for item in found:
        print(f"{size_text(item.num_bytes):>9}  {item.what}")
    total = f"{len(found)} things, {size_text(sum(item.num_bytes for item in found))}"
    if parsed.yes:
        collect(store, found)
    print(f"removed {total}" if parsed.yes else f"would remove {total}; --yes removes them")
    return 0


def needed_keys(ledgers: Iterable[Path]) -> set[str]:
    """The keys in the field `keys` of every entry. Raises: ValueError when a ledger is not there or not whole."""
    needed: set[str] = set()
    for path in ledgers:
        if not path.is_file():
            raise ValueError(f"there is no ledger at {path}, so all would be collected; name it with --ledger")
        ledger = Ledger(path)
        for entry in ledger.entries():
            needed |= set(entry.get("keys") or ())
        if ledger.damaged:
            line = ledger.damaged[0].line_number
            raise ValueError(f"{path} line {line} is damaged, so what it needs is unknown; remove the line first")
    return needed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tune.store", description="Look after the store of stage results.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--storage",
        default="storage",
        metavar="PATH",
        help="storage folder of the sweeps, or URI of a store (%(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    about: dict[str, tuple[Callable[[Store, argparse.Namespace], int], str]] = {
        "ls": (list_command, "list all entries with sizes and seconds, the last used at the end"),
        "show": (show_command, "show one entry: what it was computed from, its files, its record"),
        "verify": (verify_command, "read every byte; exit status 1 when some have changed, naming the files"),
        "gc": (collect_command, "list what no ledger entry and no running trial needs; --yes removes it"),
    }
    for name, (command, text) in about.items():
        sub = commands.add_parser(name, parents=[shared], help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command)
        if name == "show":
            sub.add_argument("key", metavar="KEY", help="a key or its first characters")
        if name == "gc":
            sub.add_argument(
                "--ledger",
                action="append",
                type=Path,
                metavar="PATH",
                help="ledger whose entries' results stay; "
                "give it again for every ledger that uses this store (ledger.jsonl in the storage folder)",
            )
            sub.add_argument("--yes", action="store_true", help="remove what is listed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what goes wrong is one line and exit status 2."""
    parsed = parse(arguments)
    try:
        return int(parsed.command(open_parsed(parsed), parsed))
    except (ValueError, OSError) as error:
        print(f"error: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
