"""`python -m tune report`: writes the report of a sweep or a seed study from the ledger, and attaches it in MLflow."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tune.records.layout import REPORT_FORMATS, Storage
from tune.records.ledger import warn_of_damage
from tune.report.data import ReportData
from tune.report.document import write_report
from tune.tracking.addresses import absolute_uri, database_path, default_uri
from tune.tracking.tracker import attach


def report_command(parsed: argparse.Namespace) -> None:
    """Writes the files, and attaches them where there is an MLflow."""
    storage, formats = Storage(parsed.storage), REPORT_FORMATS if parsed.format is None else (parsed.format,)
    warn_of_damage(storage.ledger)
    written = write_report(storage, parsed.name, parsed.baseline, formats)
    print(*written, sep="\n")
    if not parsed.no_mlflow:
        attach_to_run(storage, parsed.name, parsed.tracking_uri and absolute_uri(parsed.tracking_uri), written)


def attach_to_run(storage: Storage, name: str, uri: str | None, paths: Sequence[Path]) -> None:
    """Attaches the files to the MLflow run of the sweep or study, where there is an MLflow, and says so."""
    address = uri or default_uri(storage.root)
    results = ReportData(storage.ledger).results(name)
    presets = [entry.preset for entry in results.trials if entry.preset]
    database, experiment = database_path(address), presets[-1] if presets else name
    if database is None or database.exists():
        problem = attach(address, experiment, name, paths, results.is_study)
        print(problem or f"also in MLflow, experiment {experiment}, run {name}, Artifacts", file=sys.stderr)


def report_at_end(storage: Storage, name: str, uri: str, experiment: str, *, is_study: bool = False) -> str:
    """Writes the report when runs are over, and keeps it in MLflow.

    Args: storage: with the ledger; name: of the sweep or study; uri: of an MLflow that answers; experiment: its name;
        is_study: whether it is a seed study.
    Returns: a line for the user, where it is or why there is none: the runs are over and nothing may hide their end.
    """
    try:
        written = write_report(storage, name)
    except (ValueError, OSError) as error:
        return f"no report: {error}"
    problem = attach(uri, experiment, name, written, is_study)
    return f"report: {written[0]}" + (f"\n{problem}" if problem else "")
