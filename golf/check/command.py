"""What `python -m golf check` does: finds out what it is given, checks it, prints the table.

A parsed command line enters; the table or JSON on the standard output and the exit code leave: 1 when a point failed.
"""

import argparse
import json
from pathlib import Path

from golf.artifact.bundle import code_bytes
from golf.check.points import Finding, failures, rows_of, table_lines, to_json
from golf.check.run import check_run
from golf.check.smoke import smoke
from golf.commands import evaluated, find_dataset, settings_of
from golf.dist import Group, pick_device
from golf.files import write_json

RECORD = "record"


def check_command(arguments: argparse.Namespace) -> None:
    """Check a run, an artifact or a record folder."""
    rows = rows_of(_findings(arguments))
    told = to_json(rows)
    if arguments.out is not None:
        write_json(arguments.out, told)
    print(json.dumps(told) if arguments.json else "\n".join(table_lines(rows)))
    if failures(rows):
        raise SystemExit(1)


def _findings(arguments: argparse.Namespace) -> list[Finding]:
    path: Path = arguments.path
    arguments.folder, arguments.artifact = (None, path) if path.is_file() else (path, None)
    folder, config = evaluated(arguments)
    group = Group(device=pick_device())
    dataset = find_dataset(arguments.data or settings_of(folder).get("data"), config, group)
    found = check_run(
        config,
        dataset,
        folder,
        group,
        code_bytes(config),
        cheap=arguments.quick,
        record_track=arguments.track == RECORD,
    )
    return [*found, smoke(config)]
