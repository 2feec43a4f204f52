"""The store of stage results: a key enters, a folder of files leaves, computed once however many ask for it.

Below its place, a local folder or any URI that pyarrow.fs reaches, stand

    entries/<key>.json          the marker of a published result: its files' checksums and its record
    files/<key>.<attempt>/...   the files
    uses/<key>                  when it was last used: the time of this file
    leases/<key>.<generation>   who computes it at the moment
    pins/<owner>.<...>          keys that an unfinished trial needs
    work/...                    what is not finished

Anything may be deleted at any time: what is missing is computed again. Nothing is ever unpickled, and nothing is
trusted that does not fit its checksum. `python -m tune store` lists, shows, verifies and collects.
"""

import logging
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune.cache.backend import StoreError, open_storage
from tune.cache.entries import Damaged, Entries, Entry
from tune.cache.fingerprint import check_key
from tune.cache.gc import size_text
from tune.cache.lease import Lease, LeaseAcquirer, LeaseConfig, Pins

INTERIOR = "interior"
"""The `kind` in the record of a result that only other stages read; the first to go when the disk budget is reached."""
_ROUNDS = 3
_warn = logging.getLogger(__name__).warning

Compute = Callable[[Path], Mapping[str, Any]]
"""Writes a result's files into the given empty folder and returns its record."""


class Store(Entries):
    """A store at a local folder, at a URI, or at a path of a given pyarrow file system."""

    def __init__(
        self,
        where: str | Path,
        filesystem: Any = None,
        *,
        lease_config: LeaseConfig | None = None,
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
        super().__init__(open_storage(where, filesystem), say)
        self.lease_config = lease_config or LeaseConfig()
        self.budget_bytes = budget_bytes
        self._pins = Pins(self.place, self.lease_config)

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
        claimer = LeaseAcquirer(self.place, check_key(key), self.lease_config, self.say)
        pause = self.lease_config.poll_seconds / 32
        while (found := self.find(key)) is None:
            lease = claimer.attempt()
            if lease is not None:
                return self._compute(lease, compute)
            time.sleep(pause)
            pause = min(2 * pause, self.lease_config.poll_seconds)
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
