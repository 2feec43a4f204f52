"""Write the report of a sweep or a seed study: tables and figures, from the ledger alone, also into MLflow."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tune.paths import Storage
from tune.report.document import FORMATS, PROGRAM, write_report
from tune.report.results import Book
from tune.tracking.reach import database_path, default_uri
from tune.tracking.tracker import attach


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        PROGRAM, description="Write the report of a sweep or a seed study from the ledger."
    )
    parser.add_argument("name", help="the sweep's or study's name")
    parser.add_argument("--format", choices=FORMATS, help="one of the two files (both)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    baseline = "a trial, sweep or study to compare with (a study's own baseline; the second best trial of a sweep)"
    parser.add_argument("--baseline", help=baseline)
    uri = "the MLflow server that gets the files, too (the database in the storage, where there is one)"
    parser.add_argument("--tracking-uri", metavar="URI", help=uri)
    parser.add_argument("--no-mlflow", action="store_true", help="write the files only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parsed = parse(arguments)
    formats = FORMATS if parsed.format is None else (parsed.format,)
    try:
        written = write_report(Storage(parsed.storage), parsed.name, parsed.baseline, formats)
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    if not parsed.no_mlflow:
        keep_in_mlflow(Storage(parsed.storage), parsed.name, parsed.tracking_uri, written)
    return 0


def keep_in_mlflow(storage: Storage, name: str, uri: str | None, paths: Sequence[Path]) -> None:
    """Hang the files on the run of the sweep or study, where there is an MLflow to take them; say if it does not."""
    address = uri or default_uri(storage.root)
    presets = [entry["preset"] for entry in Book(storage.ledger).results(name).trials if entry.get("preset")]
    database, experiment = database_path(address), presets[-1] if presets else name
    if database is None or database.exists():
        problem = attach(address, experiment, name, paths)
        print(problem or f"also in MLflow, experiment {experiment}, run {name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
