"""What the command `check` examines by running it: runs, artifacts and seed studies of this project."""

import argparse
import sys
from pathlib import Path

from golf.cli.commands import evaluated, find_dataset, settings_of
from golf.compliance.points import PointResult
from golf.compliance.run import NOT_OF_A_RUN, check_data, check_run
from golf.compliance.smoke import smoke
from golf.config.rules import NON_RECORD
from golf.pipeline.bundle import counted_code
from golf.runtime.process_group import ProcessGroup, pick_device
from golf.submission.study import STUDY_FILE
from golf.submission.study_check import check_study
from golf.submission.study_file import read_study


def say(line: str) -> None:
    """Tell what comes next, beside the table."""
    print(line, file=sys.stderr, flush=True)


def own_findings(path: Path, arguments: argparse.Namespace) -> tuple[list[PointResult], str]:
    """What is found on a run, an artifact or a study, and why the other points do not apply.

    Raises: ValueError for an option that is not for what lies at the path.
    """
    if arguments.baseline:
        raise ValueError("--baseline is for a record folder; a seed study has its own (run_seeds.py --baseline)")
    if (path / STUDY_FILE).is_file():
        if arguments.set or arguments.preset:
            raise ValueError("--set and --preset are not for a seed study, which is one configuration")
        return _of_study(path, arguments), "of a record folder, not of a seed study"
    if path.is_file() and not arguments.preset:
        raise ValueError(f"{path} is taken for an artifact, which does not say how it is scored: give --preset too")
    arguments.folder, arguments.artifact = (None, path) if path.is_file() else (path, None)
    folder, config = evaluated(arguments)
    group = ProcessGroup(device=pick_device())
    dataset = find_dataset(arguments.data or settings_of(folder).get("data"), config, group, accept_fault=True)
    size, track = len(counted_code(config)), arguments.track or NON_RECORD
    found = check_run(config, dataset, folder, group, size, cheap=arguments.quick, track=track, say=say)
    return [*found, *check_data(dataset, arguments.quick), smoke(config)], NOT_OF_A_RUN


def _of_study(path: Path, arguments: argparse.Namespace) -> list[PointResult]:
    """The seeds of a study, on its own data: that of its storage folder, where it was not given."""
    study, group = read_study(path), ProcessGroup(device=pick_device())
    beside = path.parents[1] / "data" / str(study.data.name)
    data = arguments.data or (beside if beside.is_dir() else None)
    dataset = find_dataset(data, study.config, group, accept_fault=True)
    found = check_study(
        study, path, dataset, group, cheap=arguments.quick, track=arguments.track or study.track, say=say
    )
    return [*found, smoke(study.config)]
