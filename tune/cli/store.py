"""Looks after the store of stage outputs: lists, shows, verifies, collects. Only `gc --yes` removes anything."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from tabulate import tabulate

from golf.cli.options import Parser
from golf.cli.terminal import expand_paths, expanded, quiet_when_closed
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


COMMANDS: Mapping[str, tuple[Callable[[Store, argparse.Namespace], int], str]] = {
    "ls": (list_command, "list all entries with sizes and seconds, the last used at the end"),
    "show": (show_command, "show one entry: what it was computed from, its files, its record"),
    "verify": (verify_command, "read every byte; exit status 1 when some have changed, naming the files"),
    "gc": (collect_command, "list what no ledger entry and no running trial needs; --yes removes it"),
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = Parser(prog="python -m tune store", description="Look after the store of stage results.")
    shared = Parser(add_help=False)
    shared.add_argument(
        "--storage",
        default="storage",
        metavar="PATH",
        help="storage directory of the sweeps, or URI of a store (%(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, text) in COMMANDS.items():
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
                "give it again for every ledger that uses this store (ledger.jsonl in the storage directory)",
            )
            sub.add_argument("--yes", action="store_true", help="remove what is listed")
    return expand_paths(parser.parse_args(arguments))


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; an error is one line and exit status 2."""
    parsed = parse(arguments)
    try:
        return int(parsed.command(open_parsed(parsed), parsed))
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
