"""Looks after the store of stage outputs: lists, shows, verifies, collects. Only `gc --yes` removes anything."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from tabulate import tabulate

from golf.cli.terminal import expanded
from tune.cache.backend import LocalStorage
from tune.cache.entry import Entry
from tune.cache.gc import SHORT, collect, find_garbage, size_text
from tune.cache.store import Store
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.lines import ranges


def storage_of(parsed: argparse.Namespace) -> Storage:
    """Returns the storage directory that the command line names."""
    return Storage(expanded(parsed.storage).resolve())


def open_parsed(parsed: argparse.Namespace) -> Store:
    """Returns the store that the command line names. Raises: ValueError when there is none."""
    address = parsed.storage if "://" in parsed.storage else str(storage_of(parsed).store)
    store = Store(address, warn=lambda line: print(line, file=sys.stderr))
    if isinstance(store.storage, LocalStorage) and not store.storage.root.is_dir():
        raise ValueError(f"there is no store at {store.storage.name}; name its storage directory or URI with --storage")
    return store


def list_command(store: Store, _: argparse.Namespace) -> int:
    """Prints a table of all entries, the last used at the end, and a line with the sums."""
    used, entries = store.last_used_ns(), store.all()
    rows = [
        (
            entry.key[:SHORT],
            str(entry.record.stage),
            "interior" if entry.record.stage.interior else "",
            size_text(entry.num_bytes),
            entry.record.seconds,
            f"{datetime.fromtimestamp(used[entry.key] / 1e9, UTC):%Y-%m-%d %H:%M:%S}" if entry.key in used else "-",
        )
        for entry in sorted(entries, key=lambda entry: (used.get(entry.key, 0), entry.key))
    ]
    headers = ("key", "stage", "kind", "size", "seconds", "last used (UTC)")
    alignment = ("left", "left", "left", "right", "right", "left")
    print(tabulate(rows, headers, floatfmt=".1f", colalign=alignment, disable_numparse=[0]) if rows else "no entries")
    total = size_text(sum(entry.num_bytes for entry in entries))
    print(f"{len(entries)} entries, {total}, {sum(entry.record.seconds for entry in entries):.1f} seconds of computing")
    unread = len(store.keys()) - len(entries)
    if unread:
        print(f"{unread} entries are damaged or in the form of another version: verify says which, gc removes them")
    return 0


def show_command(store: Store, parsed: argparse.Namespace) -> int:
    """Prints what an entry was computed from, its files and its record."""
    stored = {entry.key: entry for entry in store.all()}
    matching = [key for key in stored if key.startswith(parsed.key)]
    if len(matching) != 1:
        raise ValueError(
            f"{len(matching)} entries have a key that starts with {parsed.key!r}; see python -m tune store ls"
        )
    entry = stored[matching[0]]
    print("\n".join(lineage(entry, stored)))
    print(f"\nkey {entry.key}")
    rows = [(file.sha256[:SHORT], size_text(file.num_bytes), name) for name, file in entry.files.items()]
    print(tabulate(rows, tablefmt="plain", colalign=("left", "right", "left"), disable_numparse=True) if rows else "")
    print(json.dumps(msgspec.to_builtins(entry.record), indent=1, sort_keys=True))
    return 0


def lineage(entry: Entry, stored: Mapping[str, Entry]) -> Iterator[str]:
    """Yields lines with an entry and, indented below each, what it was computed from."""
    yield _describe(entry)
    yield from _parents(entry, stored, "", {entry.key})


def _parents(entry: Entry, stored: Mapping[str, Entry], indent: str, shown: set[str]) -> Iterator[str]:
    for number, key in enumerate(entry.record.parents, start=1):
        last = number == len(entry.record.parents)
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        parent = stored.get(key)
        if parent is None:
            yield f"{indent}{branch}{key[:SHORT]}  not stored"
        elif key in shown:
            yield f"{indent}{branch}{key[:SHORT]}  shown above"
        else:
            shown.add(key)
            yield indent + branch + _describe(parent)
            yield from _parents(parent, stored, indent + below, shown)


def _describe(entry: Entry) -> str:
    record = entry.record
    parts = [entry.key[:SHORT], str(record.stage), f"{record.seconds:.1f} s", size_text(entry.num_bytes), record.host]
    if record.time:
        parts.append(f"{datetime.fromtimestamp(record.time, UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "  ".join(filter(None, parts))


def verify_command(store: Store, _: argparse.Namespace) -> int:
    """Reads every byte of every entry; returns 1 when some have changed."""
    keys = store.keys()
    faults = [f"{key}: {fault}" for key in keys for fault in store.faults(key)]
    for fault in faults:
        print(fault)
    remedy = "; they are computed again when needed" if faults else ""
    print(f"{len(keys)} entries read, {len(faults)} faults{remedy}")
    return 1 if faults else 0


def collect_command(store: Store, parsed: argparse.Namespace) -> int:
    """Removes, or lists, what no entry of the ledgers needs."""
    needed = needed_keys(parsed.ledger or [storage_of(parsed).ledger])
    garbage = list(find_garbage(store, needed | store.pinned()))
    if garbage:
        rows = [(size_text(item.num_bytes), item.description) for item in garbage]
        print(tabulate(rows, tablefmt="plain", colalign=("right", "left"), disable_numparse=True))
    total = f"{len(garbage)} things, {size_text(sum(item.num_bytes for item in garbage))}"
    if parsed.yes:
        collect(store, garbage)
    print(f"removed {total}" if parsed.yes else f"would remove {total}; --yes removes them")
    return 0


def needed_keys(ledgers: Iterable[Path]) -> set[str]:
    """Returns the keys of the outputs of all trials in the ledgers.

    Raises: ValueError when a ledger does not exist or is damaged.
    """
    needed: set[str] = set()
    for path in ledgers:
        if not path.is_file():
            raise ValueError(f"there is no ledger at {path}, so all would be collected; name it with --ledger")
        ledger = Ledger(path)
        needed |= {key for entry in ledger.trials() for key in entry.keys}
        if ledger.damaged:
            lines = ranges([line.line_number for line in ledger.damaged])
            raise ValueError(
                f"{path}, lines {lines} are damaged ({ledger.damaged[0].reason}), so what they need is unknown; mend "
                "them from a copy, or remove them first"
            )
    return needed


_ACTIONS: Mapping[str, Callable[[Store, argparse.Namespace], int]] = {
    "ls": list_command,
    "show": show_command,
    "verify": verify_command,
    "gc": collect_command,
}


def store_command(parsed: argparse.Namespace) -> int:
    """Lists, shows, verifies or collects. Returns: 1 when entries have changed."""
    return _ACTIONS[parsed.action](open_parsed(parsed), parsed)
