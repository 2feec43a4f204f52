"""What the command `check` examines by running it: runs, artifacts and seed studies of this project."""

import argparse
import sys
from pathlib import Path

from golf.cli.evaluate import subject_of
from golf.cli.inputs import find_dataset, read_settings
from golf.compliance.points import PointResult
from golf.compliance.run import NOT_OF_A_RUN, CheckOptions, check_data, check_run
from golf.compliance.smoke import smoke
from golf.config.rules import NON_RECORD
from golf.pipeline.bundle import counted_code
from golf.pipeline.stage_context import StageContext
from golf.runtime.process_group import ProcessGroup, pick_device
from golf.submission.study import STUDY_FILE
from golf.submission.study_check import NOT_OF_A_STUDY, check_study
from golf.submission.study_file import read_study


def _say(line: str) -> None:
    """Prints what comes next, apart from the table."""
    print(line, file=sys.stderr, flush=True)


def own_results(path: Path, arguments: argparse.Namespace) -> tuple[list[PointResult], str]:
    """Returns the results for a run, an artifact or a study, and why the other points do not apply.

    Raises: ValueError for an option that is not for what is at the path.
    """
    if arguments.baseline:
        raise ValueError("--baseline is for a record folder; a seed study has its own (run_seeds.py --baseline)")
    if (path / STUDY_FILE).is_file():
        if arguments.set or arguments.preset:
            raise ValueError("--set and --preset are not for a seed study, which is one configuration")
        return _of_study(path, arguments), NOT_OF_A_STUDY
    if path.is_file() and not arguments.preset:
        raise ValueError(f"{path} is taken for an artifact, which does not say how it is scored: give --preset too")
    folder, artifact = (None, path) if path.is_file() else (path, None)
    subject, group = subject_of(folder, artifact, arguments), ProcessGroup(device=pick_device())
    config, directory = subject.config, subject.directory
    dataset = find_dataset(arguments.data or read_settings(directory).data, config, group, accept_fault=True)
    run = StageContext(config=config, dataset=dataset, directory=directory, group=group)
    options = CheckOptions(cheap=arguments.quick, track=arguments.track or NON_RECORD, say=_say)
    results = check_run(run, len(counted_code(config)), options)
    return [*results, *check_data(dataset, arguments.quick), smoke(config)], NOT_OF_A_RUN


def _of_study(path: Path, arguments: argparse.Namespace) -> list[PointResult]:
    """Returns the results for a study on its own data: by default that of its storage folder."""
    study, group = read_study(path), ProcessGroup(device=pick_device())
    beside = path.parents[1] / "data" / str(study.data.name)
    data = arguments.data or (beside if beside.is_dir() else None)
    dataset = find_dataset(data, study.config, group, accept_fault=True)
    options = CheckOptions(cheap=arguments.quick, track=arguments.track or study.track, say=_say)
    return [*check_study(study, path, dataset, group, options), smoke(study.config)]
