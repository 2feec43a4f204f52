"""The store of stage outputs: each is computed once, however many trials need it.

The storage, a local directory or a bucket, holds

    entries/<key>.json          the marker of a published output: its files' checksums and its record
    files/<key>.<attempt>/...   the files
    uses/<key>                  when it was last used: the time of this file
    leases/<key>.<generation>   who computes it at the moment
    pins/<owner>.<...>          keys that an unfinished trial needs
    work/...                    unfinished files

Anything may be deleted at any time: what is missing is computed again. Nothing is ever unpickled, and nothing is
trusted that does not fit its checksum. `python -m tune store` lists, shows, verifies and collects;
`tune.cache.cached_runner` computes.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tune.cache.backend import StorageBackend, StoreError, open_storage
from tune.cache.entries import Entries
from tune.cache.entry import Entry, EntryRecord
from tune.cache.gc import size_text
from tune.cache.lease import LeaseAcquirer, LeaseConfig, Pins

_warn = logging.getLogger(__name__).warning


class Store(Entries, Pins):
    """A store of entries with a disk budget, leases and pins."""

    def __init__(
        self,
        address: str | Path | StorageBackend,
        *,
        lease_config: LeaseConfig | None = None,
        budget_bytes: int | None = None,
        warn: Callable[[str], None] = _warn,
    ) -> None:
        """Opens a store; nothing is written or read there yet.

        Args:
            address: a local directory or a URI, as for `open_storage`.
            lease_config: the same for all processes on one store.
            budget_bytes: size of all entries together, kept by dropping some after each one published; None: no limit.
            warn: receives one line for whatever a person should know.

        Raises: ValueError when the address is not understood or the budget is not above 0; StoreError.
        """
        if budget_bytes is not None and budget_bytes <= 0:
            raise ValueError(f"budget_bytes must be None or above 0, got {budget_bytes}")
        storage = address if isinstance(address, StorageBackend) else open_storage(address)
        self.lease_config, self.budget_bytes = lease_config or LeaseConfig(), budget_bytes
        Entries.__init__(self, storage, warn)
        Pins.__init__(self, storage, self.lease_config)

    def acquirer(self, key: str) -> LeaseAcquirer:
        """Returns what acquires the right to compute a key."""
        return LeaseAcquirer(self.storage, key, self.lease_config, self.warn)

    def publish(self, key: str, directory: Path, files: Sequence[str], record: EntryRecord) -> Entry:
        """Publishes as `Entries.publish`; then keeps the disk budget."""
        entry = super().publish(key, directory, files, record)
        self.use(key)
        if self.budget_bytes is not None:
            try:
                self._keep_budget(entry, self.budget_bytes)
            except StoreError as error:
                self.warn(f"the budget of {size_text(self.budget_bytes)} is not kept: {error.strerror}")
        return entry

    def _keep_budget(self, published: Entry, budget_bytes: int) -> None:
        """Drops the least recently used entries that no one pins, interior ones first, until the rest fits."""
        entries = self.all()
        total = sum(entry.num_bytes for entry in entries)
        if total <= budget_bytes:
            return
        protected, used = {published.key, *self.pinned()}, self.last_used_ns()
        for entry in sorted(entries, key=lambda entry: (not entry.record.stage.interior, used.get(entry.key, 0))):
            if total > budget_bytes and entry.key not in protected and self.drop(entry.key):
                total -= entry.num_bytes
        if total > budget_bytes:
            self.warn(
                f"{self.storage.name} holds {size_text(total)}, over its budget of {size_text(budget_bytes)}: "
                "unfinished trials need it all; give a larger budget"
            )
