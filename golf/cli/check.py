"""The command `check`: finds out what lies at a path, checks it and prints the table.

Record folders are read without PyTorch, whose import takes longer than the check; what examines runs, artifacts and
studies is loaded only for these.
"""

import argparse
import importlib
import json
from pathlib import Path

from golf.cli.terminal import need_path
from golf.compliance.points import PointResult, check_to_plain, failures, rows_of, strictly, summary_of, table_lines
from golf.runtime.files import write_json
from golf.submission.record_folder.folder import check_folder, is_record_folder
from golf.submission.study import STUDY_FILE


def check_command(arguments: argparse.Namespace) -> None:
    """Check a run, an artifact, a seed study or a record folder; exit code 1 when a point failed."""
    rows = rows_of(*_findings(arguments))
    rows = strictly(rows) if arguments.strict else rows
    told = check_to_plain(summary_of(rows))
    if arguments.out is not None:
        write_json(arguments.out, told)
    print(json.dumps(told) if arguments.json else "\n".join(table_lines(rows)))
    if failures(rows):
        raise SystemExit(1)


def _findings(arguments: argparse.Namespace) -> tuple[list[PointResult], str]:
    """What is found on the path, by what it is, and why the other points do not apply."""
    need_path(arguments.path)
    path: Path = arguments.path.resolve()
    if path.name == STUDY_FILE:
        path = path.parent
    own = path.is_file() or any((path / name).is_file() for name in ("config.json", STUDY_FILE))
    if path.is_dir() and not own:
        if not is_record_folder(path):
            known = (
                f"a run's config.json, a seed study's {STUDY_FILE} or a record's submission.json, README.md and logs"
            )
            raise FileNotFoundError(f"{path} holds nothing to check: it has neither {known}")
        nats, bpb = (arguments.baseline, ()) if arguments.baseline_nats else ((), arguments.baseline)
        return check_folder(path, previous_nats=nats, previous_bpb=bpb, track=arguments.track), ""
    found: tuple[list[PointResult], str] = importlib.import_module("golf.cli.check_own").own_findings(path, arguments)
    return found
