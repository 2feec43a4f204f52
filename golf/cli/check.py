"""The command `check`: checks what is at a path and prints the table.

Record folders are read without PyTorch, whose import takes longer than the check; what examines runs, artifacts and
studies is loaded only for these.
"""

import argparse
import importlib
import json
from pathlib import Path

from golf.cli.terminal import need_path
from golf.compliance.points import PointResult, check_to_plain, rows_of, strictly, summary_of, table_lines
from golf.runtime.files import write_json
from golf.submission.record_folder.folder import check_folder, is_record_folder
from golf.submission.study import STUDY_FILE


def check_command(arguments: argparse.Namespace) -> None:
    """Checks a run, an artifact, a seed study or a record folder; exit code 1 when a point failed."""
    rows = rows_of(*_results(arguments))
    rows = strictly(rows) if arguments.strict else rows
    check = summary_of(rows)
    if arguments.out is not None:
        write_json(arguments.out, check_to_plain(check))
    print(json.dumps(check_to_plain(check)) if arguments.json else "\n".join(table_lines(rows)))
    if check.failed:
        raise SystemExit(1)


def _results(arguments: argparse.Namespace) -> tuple[list[PointResult], str]:
    """Returns the results for what is at the path, and why the other points do not apply."""
    need_path(arguments.path)
    path: Path = arguments.path.resolve()
    if path.name == STUDY_FILE:
        path = path.parent
    own = path.is_file() or any((path / name).is_file() for name in ("config.json", STUDY_FILE))
    if own:
        results: tuple[list[PointResult], str] = importlib.import_module("golf.cli.check_own").own_results(
            path, arguments
        )
        return results
    if not is_record_folder(path):
        known = f"a run's config.json, a seed study's {STUDY_FILE} or a record's submission.json, README.md and logs"
        raise FileNotFoundError(f"{path} holds nothing to check: it has neither {known}")
    nats, bpb = (arguments.baseline, ()) if arguments.baseline_nats else ((), arguments.baseline)
    return check_folder(path, previous_nats=nats, previous_bpb=bpb, track=arguments.track), ""
