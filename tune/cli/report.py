"""`python -m tune report`: writes the report of a sweep or a seed study from the ledger, and attaches it in MLflow."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from golf.cli.options import Parser
from golf.cli.terminal import expand_paths, quiet_when_closed
from tune.records.layout import Storage
from tune.records.ledger import warn_of_damage
from tune.report.data import ReportData
from tune.report.document import FORMATS, PROGRAM, write_report
from tune.tracking.connection import absolute_uri, database_path, default_uri
from tune.tracking.experiment import report_run
from tune.tracking.tracker import attach


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(PROGRAM, description="Write the report of a sweep or a seed study from the ledger.")
    parser.add_argument("name", help="the sweep's or study's name")
    parser.add_argument("--format", choices=FORMATS, help="one of the two files (both)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    baseline = "a trial, sweep or study to compare with (a study's own baseline; the second best trial of a sweep)"
    parser.add_argument("--baseline", help=baseline)
    uri = "the MLflow server that gets the files, too (the database in the storage, where there is one)"
    parser.add_argument("--tracking-uri", metavar="URI", help=uri)
    parser.add_argument("--no-mlflow", action="store_true", help="write the files only")
    return expand_paths(parser.parse_args(arguments))


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parsed = parse(arguments)
    storage, formats = Storage(parsed.storage), FORMATS if parsed.format is None else (parsed.format,)
    warn_of_damage(storage.ledger)
    try:
        written = write_report(storage, parsed.name, parsed.baseline, formats)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    if not parsed.no_mlflow:
        attach_to_run(storage, parsed.name, parsed.tracking_uri and absolute_uri(parsed.tracking_uri), written)
    return 0


def attach_to_run(storage: Storage, name: str, uri: str | None, paths: Sequence[Path]) -> None:
    """Attaches the files to the MLflow run of the sweep or study, where there is an MLflow, and says so."""
    address = uri or default_uri(storage.root)
    results = ReportData(storage.ledger).results(name)
    presets = [entry.preset for entry in results.trials if entry.preset]
    database, experiment = database_path(address), presets[-1] if presets else name
    if database is None or database.exists():
        problem = attach(address, experiment, name, paths)
        run = name if results.is_study else report_run(name)
        print(problem or f"also in MLflow, experiment {experiment}, run {run}, Artifacts", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
