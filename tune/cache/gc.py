"""What in a store nobody needs, and its removal."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tune.cache.backend import WORK, FileState
from tune.cache.entries import USES, Entries
from tune.cache.entry import FILES
from tune.cache.lease import LEASES, PINS, LeaseConfig, is_over

LEFT_SECONDS = 86_400.0
"""What is unfinished and was not written for so long has been left behind."""
SHORT = 12
"""Characters of a key that are shown, and enough of them to name it."""


@dataclass(frozen=True)
class Garbage:
    """Something that nobody needs."""

    description: str
    num_bytes: int
    key: str | None = None
    """Key of an entry."""
    path: str | None = None
    """Path in the storage of what is no entry; ends in "/" for a directory."""


def find_garbage(entries: Entries, needed: set[str]) -> Iterator[Garbage]:
    """Yields what can go when only the keys in `needed` are. Raises: StoreError."""
    intact = {entry.key: entry for entry in entries.all()}
    keys = entries.keys()
    for key in keys:
        if key not in intact:
            yield Garbage(f"entry {key[:SHORT]}, damaged or in the form of another version", 0, key=key)
        elif key not in needed:
            yield Garbage(f"entry {key[:SHORT]} ({intact[key].record.stage})", intact[key].num_bytes, key=key)
    for name in sorted(entries.last_used_ns().keys() - set(keys)):
        yield Garbage(f"use of {name[:SHORT]}, which is not stored", 0, path=f"{USES}/{name}")
    yield from _left_behind(entries, {entry.directory for entry in intact.values()})


def tidy(entries: Entries, lease_config: LeaseConfig) -> None:
    """Removes what dead processes left, unless someone is at work: a lease or pin was renewed in the lease's time.

    Raises: StoreError.
    """
    storage = entries.storage
    oldest_ns = storage.clock_ns() - round(lease_config.lease_seconds * 1e9)
    leases = {f"{LEASES}/{name}": state.modified_ns for name, state in storage.files(LEASES).items()}
    if any(modified_ns >= oldest_ns and not is_over(storage, path) for path, modified_ns in leases.items()):
        return
    if any(state.modified_ns >= oldest_ns for state in storage.files(PINS).values()):
        return
    for path in leases:
        storage.remove(path)
    published = {entry.directory for entry in entries.all()}
    collect(entries, list(_left_behind(entries, published, lease_config.lease_seconds)))


def _left_behind(entries: Entries, published: set[str], seconds: float = LEFT_SECONDS) -> Iterator[Garbage]:
    """Yields what processes that died left: nothing of it was written for so many seconds."""
    storage = entries.storage
    oldest_ns = storage.clock_ns() - round(seconds * 1e9)
    for top in (FILES, WORK, LEASES, PINS):
        for name, states in _by_first_part(storage.files(top)).items():
            if name.rstrip("/") not in published and max(state.modified_ns for state in states) < oldest_ns:
                num_bytes = sum(state.num_bytes for state in states)
                yield Garbage(f"left behind: {top}/{name}", num_bytes, path=f"{top}/{name}")


def _by_first_part(files: Mapping[str, FileState]) -> dict[str, list[FileState]]:
    """Groups the files of a listing by the directory (its name ends in "/") or the file at the top."""
    groups: dict[str, list[FileState]] = {}
    for name, state in files.items():
        first, slash, _ = name.partition("/")
        groups.setdefault(first + slash, []).append(state)
    return groups


def size_text(num_bytes: int) -> str:
    """Returns a size for people, in decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def collect(entries: Entries, items: Iterable[Garbage]) -> None:
    """Removes garbage. Raises: StoreError."""
    for item in items:
        if item.key is not None:
            entries.drop(item.key)
        elif item.path is not None and item.path.endswith("/"):
            entries.storage.remove_directory(item.path.rstrip("/"))
        elif item.path is not None:
            entries.storage.remove(item.path)
