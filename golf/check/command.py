"""The command `check`: finds out what it is given, checks it, prints the table.

A parsed command line enters; the table or JSON on the standard output and the exit code leave: 1 when a point failed.
"""

import argparse
import json
import sys
from pathlib import Path

from golf.artifact.bundle import counted_code
from golf.check.points import Finding, failures, rows_of, table_lines, to_json
from golf.check.record.contents import CLAIMS, CODE
from golf.check.record.folder import check_folder
from golf.check.run import NOT_OF_A_RUN, check_data, check_run
from golf.check.smoke import smoke
from golf.check.study import check_study
from golf.commands import evaluated, find_dataset, settings_of
from golf.dist import Group, pick_device
from golf.files import write_json
from golf.rules import NON_RECORD
from golf.submission.study_file import STUDY_FILE, read_study


def check_command(arguments: argparse.Namespace) -> None:
    """Check a run, an artifact or a record folder."""
    rows = rows_of(*_findings(arguments))
    told = to_json(rows)
    if arguments.out is not None:
        write_json(arguments.out, told)
    print(json.dumps(told) if arguments.json else "\n".join(table_lines(rows)))
    if failures(rows):
        raise SystemExit(1)


def say(line: str) -> None:
    """Tell what comes next, beside the table."""
    print(line, file=sys.stderr, flush=True)


def _findings(arguments: argparse.Namespace) -> tuple[list[Finding], str]:
    """What is found on the path, by what it is, and why the other points do not apply."""
    path: Path = arguments.path.resolve()
    if path.name == STUDY_FILE:
        path = path.parent
    is_record = any((path / name).is_file() for name in (CLAIMS, CODE))
    if arguments.baseline and not is_record:
        raise ValueError("--baseline is for a record folder; a seed study has its own (run_seeds.py --baseline)")
    if is_record:
        nats, bpb = (arguments.baseline, ()) if arguments.baseline_nats else ((), arguments.baseline)
        return check_folder(path, previous_nats=nats, previous_bpb=bpb, track=arguments.track), ""
    if (path / STUDY_FILE).is_file():
        if arguments.set or arguments.preset:
            raise ValueError("--set and --preset are not for a seed study, which is one configuration")
        return _of_study(path, arguments), "of a record folder, not of a seed study"
    if path.is_dir() and not (path / "config.json").is_file():
        known = f"a run's config.json, a seed study's {STUDY_FILE} or a record's {CLAIMS}"
        raise FileNotFoundError(f"{path} holds nothing to check: it has neither {known}")
    if path.is_file() and not arguments.preset:
        raise ValueError(f"{path} is taken for an artifact, which does not say how it is scored: give --preset too")
    arguments.folder, arguments.artifact = (None, path) if path.is_file() else (path, None)
    folder, config = evaluated(arguments)
    group = Group(device=pick_device())
    dataset = find_dataset(arguments.data or settings_of(folder).get("data"), config, group)
    size, track = len(counted_code(config)), arguments.track or NON_RECORD
    found = check_run(config, dataset, folder, group, size, cheap=arguments.quick, track=track, say=say)
    return [*found, *check_data(dataset, arguments.quick), smoke(config)], NOT_OF_A_RUN


def _of_study(path: Path, arguments: argparse.Namespace) -> list[Finding]:
    """The seeds of a study, on its own data: that of its storage folder, where it was not given."""
    study, group = read_study(path), Group(device=pick_device())
    beside = path.parents[1] / "data" / str(study.data.name)
    dataset = find_dataset(arguments.data or (beside if beside.is_dir() else None), study.config, group)
    found = check_study(study, dataset, group, cheap=arguments.quick, track=arguments.track or study.track, say=say)
    return [*found, smoke(study.config)]
