"""The command "submit": the record folder of a seed study, and what is in it."""

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unicodedata import category

from golf.config.rules import RECIPE_PR
from golf.submission.entry import Submitter, largest_seed
from golf.submission.folder import make_submission, write_folder
from golf.submission.script_folder import script_faults, write_script_folder
from golf.submission.script_study import SCRIPT_STUDY_FILE, read_script_study
from golf.submission.study import STUDY_FILE
from golf.submission.study_file import read_study

_LONGEST_NOTES = 20_000


def submit_command(arguments: argparse.Namespace) -> None:
    """Writes the folder and prints what is in it."""
    day = arguments.date or datetime.now(UTC).date()
    submitter = Submitter(
        author=arguments.author,
        github_id=arguments.github_id,
        name=arguments.name,
        day=day,
        track=arguments.track,
        notes=read_notes(arguments.notes),
        based_on=tuple(arguments.based_on),
    )
    if (Path(arguments.study) / SCRIPT_STUDY_FILE).is_file():
        submit_script(arguments, submitter)
        return
    study, path = read_study(arguments.study), Path(arguments.study)
    study_folder = path.parent if path.name == STUDY_FILE else path
    submission = make_submission(study, study_folder, submitter, arguments.draft)
    folder = write_folder(submission, arguments.out, arguments.force, arguments.with_artifacts)
    for fault in submission.faults:
        print(f"fault      {fault}")
    bpb, largest = study.verdict.bpb, largest_seed(study)
    if bpb is not None and largest is not None:
        deviation = bpb.standard_deviation
        spread = "" if deviation is None else f", standard deviation {deviation:.5f}"
        print(f"val_bpb    {bpb.mean:.5f}{spread}, {len(study.done)} seeds")
        print(
            f"bytes      {largest.artifact_bytes:,} = model {largest.model_bytes:,} + code {largest.code_bytes:,} "
            "(largest seed)"
        )
    print(f"code       SHA-256 {submission.code.sha256}")
    if not submitter.notes:
        print(
            "note: the README lists settings that differ, not why; say what is new with --notes FILE", file=sys.stderr
        )
    print(f"{'DRAFT' if submission.faults else 'folder'}     {folder}")


def submit_script(arguments: argparse.Namespace, submitter: Submitter) -> None:
    """Writes the folder of a study of somebody's script and prints what is in it."""
    if arguments.with_artifacts:
        raise ValueError("--with-artifacts: a study of a script keeps no artifacts in its folder")
    if submitter.based_on == (RECIPE_PR,):  # the recipe of this program's own model
        submitter = replace(submitter, based_on=())
    study = read_script_study(arguments.study)
    folder = write_script_folder(study, arguments.study, submitter, arguments.out, arguments.draft, arguments.force)
    faults = script_faults(study, submitter.track)
    for fault in faults:
        print(f"fault      {fault}")
    if study.verdict.bpb is not None:
        name = "val_bpb" if study.unit == "BPB" else study.unit
        print(f"{name:10s} {study.verdict.bpb.mean:.5f}, {len(study.done)} seeds")
    print(f"{'DRAFT' if faults else 'folder'}     {folder}")


def read_notes(path: Path | None) -> str:
    """Returns --notes as text. Raises: ValueError when the file is no short text."""
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"--notes {path} must be a text in UTF-8 ({error})") from error
    if not 0 < len(text) <= _LONGEST_NOTES or not all(category(letter) != "Cc" or letter in "\n\t" for letter in text):
        raise ValueError(
            f"--notes {path} must be a text of 1 to {_LONGEST_NOTES:,} characters, without control characters"
        )
    if sum(line.lstrip().startswith("```") for line in text.splitlines()) % 2:
        raise ValueError(
            f"--notes {path} opens a block with ``` and does not close it: the README would stay within it"
        )
    return text
