"""What is in a store, in words: the table, the lineage of a result, and what nobody needs.

Entries enter; lines of text and lists of garbage leave. Nothing here computes or publishes, and only `collect` removes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tune.cache.backend import WORK, FileState
from tune.cache.entries import FILES, USES, Entries, Entry
from tune.cache.lease import LEASES, PINS, LeaseConfig, is_over

LEFT_SECONDS = 86_400.0
"""What is unfinished and was not written for so long has been left behind."""
SHORT = 12
"""Characters of a key that are shown, and enough of them to name it."""


@dataclass(frozen=True)
class Garbage:
    """Something that nobody needs."""

    what: str
    """In words."""
    num_bytes: int
    key: str | None = None
    """Of an entry."""
    path: str | None = None
    """Below the place, where it is no entry; ends in "/" for a folder."""


def garbage(entries: Entries, kept: set[str]) -> Iterator[Garbage]:
    """What can go when only the keys in `kept` are wanted. Raises: StoreError."""
    intact = {entry.key: entry for entry in entries.all()}
    keys = entries.keys()
    for key in keys:
        if key not in intact:
            yield Garbage(f"damaged entry {key[:SHORT]}", 0, key=key)
        elif key not in kept:
            yield Garbage(f"entry {key[:SHORT]} ({stage_of(intact[key])})", intact[key].num_bytes, key=key)
    for name in sorted(entries.last_used_ns().keys() - set(keys)):
        yield Garbage(f"use of {name[:SHORT]}, which is not here", 0, path=f"{USES}/{name}")
    yield from _left_behind(entries, {entry.folder for entry in intact.values()})


def tidy(entries: Entries, lease_config: LeaseConfig) -> None:
    """Remove what dead processes left, unless someone is at work: a lease or pin was renewed in the lease's time.

    Raises: StoreError.
    """
    place = entries.place
    oldest_ns = place.clock_ns() - round(lease_config.lease_seconds * 1e9)
    leases = {f"{LEASES}/{name}": state.modified_ns for name, state in place.files(LEASES).items()}
    held = {path for path, modified_ns in leases.items() if modified_ns >= oldest_ns and not is_over(place, path)}
    if held or any(state.modified_ns >= oldest_ns for state in place.files(PINS).values()):
        return
    for path in leases:
        place.remove(path)
    published = {entry.folder for entry in entries.all()}
    collect(entries, list(_left_behind(entries, published, lease_config.lease_seconds)))


def _left_behind(entries: Entries, published: set[str], seconds: float = LEFT_SECONDS) -> Iterator[Garbage]:
    """What processes that died left: nothing of it was written for so many seconds."""
    place = entries.place
    oldest_ns = place.clock_ns() - round(seconds * 1e9)
    computing = {name.split(".")[0] for name, state in place.files(LEASES).items() if state.modified_ns >= oldest_ns}
    for top in (FILES, WORK, LEASES, PINS):
        for name, states in _by_first_part(place.files(top)).items():
            wanted = name.rstrip("/") in published or (top == WORK and name.split(".")[0] in computing)
            if not wanted and max(state.modified_ns for state in states) < oldest_ns:
                num_bytes = sum(state.num_bytes for state in states)
                yield Garbage(f"left behind: {top}/{name}", num_bytes, path=f"{top}/{name}")


def _by_first_part(files: Mapping[str, FileState]) -> dict[str, list[FileState]]:
    """The files of a listing, by the folder (its name ends in "/") or the file at its top."""
    found: dict[str, list[FileState]] = {}
    for name, state in files.items():
        first, slash, _ = name.partition("/")
        found.setdefault(first + slash, []).append(state)
    return found


def collect(entries: Entries, items: Iterable[Garbage]) -> None:
    """Remove garbage. Raises: StoreError."""
    for item in items:
        if item.key is not None:
            entries.drop(item.key)
        elif item.path is not None and item.path.endswith("/"):
            entries.place.remove_folder(item.path.rstrip("/"))
        elif item.path is not None:
            entries.place.remove(item.path)


def table(entries: Entries) -> Iterator[str]:
    """One line for each entry, the last used at the end, and a line with the sums."""
    used, found = entries.last_used_ns(), entries.all()
    yield f"{'key':{SHORT}}  {'stage':12}  {'kind':9} {'size':>9} {'seconds':>10}  last used (UTC)"
    for entry in sorted(found, key=lambda entry: (used.get(entry.key, 0), entry.key)):
        kind = str(entry.record.get("kind", ""))
        last = f"{datetime.fromtimestamp(used[entry.key] / 1e9, UTC):%Y-%m-%d %H:%M:%S}" if entry.key in used else "-"
        sizes = f"{size_text(entry.num_bytes):>9} {seconds_of(entry):>10.1f}"
        yield f"{entry.key[:SHORT]}  {stage_of(entry):12}  {kind:9} {sizes}  {last}"
    total = size_text(sum(entry.num_bytes for entry in found))
    yield f"{len(found)} entries, {total}, {sum(map(seconds_of, found)):.1f} seconds of computing"


def lineage(entry: Entry, stored: Mapping[str, Entry]) -> Iterator[str]:
    """An entry and, indented below each, what it was computed from."""
    yield _node(entry)
    yield from _parents(entry, stored, "", {entry.key})


def _parents(entry: Entry, stored: Mapping[str, Entry], indent: str, shown: set[str]) -> Iterator[str]:
    parents = [str(key) for key in entry.record.get("parents", ())]
    for number, key in enumerate(parents, start=1):
        last = number == len(parents)
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        parent = stored.get(key)
        if parent is None:
            yield f"{indent}{branch}{key[:SHORT]}  not stored"
        elif key in shown:
            yield f"{indent}{branch}{key[:SHORT]}  shown above"
        else:
            shown.add(key)
            yield indent + branch + _node(parent)
            yield from _parents(parent, stored, indent + below, shown)


def _node(entry: Entry) -> str:
    where = [str(entry.record[name]) for name in ("device", "host", "time") if name in entry.record]
    cost = f"{seconds_of(entry):.1f} s  {size_text(entry.num_bytes)}"
    return "  ".join([entry.key[:SHORT], stage_of(entry), cost, *where])


def stage_of(entry: Entry) -> str:
    """The stage that made an entry, as its record says."""
    return str(entry.record.get("stage", "?"))


def seconds_of(entry: Entry) -> float:
    """What an entry cost, as its record says."""
    seconds = entry.record.get("seconds", 0.0)
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def size_text(num_bytes: int) -> str:
    """A size for people: decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"
