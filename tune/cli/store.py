"""Look after the store of stage results: list, show, verify, collect.

A command line enters; lines of text leave. Only `gc --yes` removes anything.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from golf.cli.options import Parser
from golf.cli.terminal import expand_paths, expanded, quiet_when_closed
from tune.cache.backend import LocalStorage
from tune.cache.gc import SHORT, collect, garbage, lineage, size_text, table
from tune.cache.store import Store
from tune.records.ledger import Ledger
from tune.records.layout import Storage
from tune.records.reading import ranges


def storage_of(parsed: argparse.Namespace) -> Storage:
    """The storage folder that the command line names."""
    return Storage(expanded(parsed.storage).resolve())


def open_parsed(parsed: argparse.Namespace) -> Store:
    """The store that the command line names. Raises: ValueError when there is none."""
    where = parsed.storage if "://" in parsed.storage else str(storage_of(parsed).store)
    store = Store(where, say=lambda line: print(line, file=sys.stderr))
    if isinstance(store.place, LocalStorage) and not store.place.root.is_dir():
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
            f"{len(matching)} entries have a key that starts with {parsed.key!r}; see python -m tune store ls"
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
    needed = needed_keys(parsed.ledger or [storage_of(parsed).ledger])
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
            lines = ranges([line.line_number for line in ledger.damaged])
            raise ValueError(
                f"{path}, lines {lines} are damaged ({ledger.damaged[0].reason}), so what they need is unknown; mend "
                "them from a copy, or remove them first"
            )
    return needed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="python -m tune store", description="Look after the store of stage results.")
    shared = Parser(add_help=False)
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
    return expand_paths(parser.parse_args(arguments))


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what goes wrong is one line and exit status 2."""
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
