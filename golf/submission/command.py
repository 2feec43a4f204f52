"""The command "submit": the record folder of a seed study, and what is in it."""

import argparse
import contextlib
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from unicodedata import category

from golf.rules import NON_RECORD, TRACK_FOLDERS
from golf.submission.entry import RECIPE_PR, Submitter, largest_seed
from golf.submission.folder import make_submission, write_folder
from golf.submission.study_file import read_study

SUMMARY = "make a record folder, ready for a pull request, from a seed study"
MORE = """Every number
comes from the study. Refused are studies of other data than FineWeb's validation split, with fewer than 3 seeds, with a
seed that failed or is over the cap, and other code than the study ran."""
EXAMPLES = (
    'submit storage/studies/pr598-seeds --author "Your Name" --github-id your-login --name "GEPA" --notes new.md',
    'submit storage/studies/pr598-seeds --author "Your Name" --github-id your-login --name "GEPA" --track record',
    'submit storage/studies/demo-seeds --author "Your Name" --github-id your-login --name "Look" --draft --out /tmp',
)

_LONGEST_NOTES = 20_000


def add_submit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "study", type=Path, metavar="SEED_STUDY", help="folder that run_seeds.py left: storage/studies/NAME"
    )
    parser.add_argument("--author", required=True, metavar="NAME", help="who submits it")
    parser.add_argument("--github-id", required=True, metavar="LOGIN", help="GitHub login of the author")
    parser.add_argument(
        "--name", required=True, metavar="TITLE", help="title of the submission; part of the folder's name"
    )
    parser.add_argument(
        "--notes", type=Path, metavar="FILE", help="Markdown that says what is new and why, for the README"
    )
    parser.add_argument(
        "--based-on", type=int, nargs="+", default=[RECIPE_PR], metavar="PR", help="pull requests it builds on (598)"
    )
    parser.add_argument("--track", choices=list(TRACK_FOLDERS), default=NON_RECORD, help="(%(default)s)")
    parser.add_argument("--date", type=_day, metavar="YYYY-MM-DD", help="of the submission (today)")
    parser.add_argument(
        "--out", type=Path, default=Path("records"), metavar="FOLDER", help="of all tracks (%(default)s)"
    )
    parser.add_argument("--with-artifacts", action="store_true", help="also the artifacts, which records do not hold")
    parser.add_argument("--draft", action="store_true", help="in spite of faults, which the folder then tells")
    parser.add_argument("--force", action="store_true", help="replace a folder that is there already")


def submit_command(arguments: argparse.Namespace) -> None:
    """Write the folder and say what is in it."""
    day = arguments.date or datetime.now(UTC).date()
    words = (arguments.author, arguments.github_id, arguments.name)
    submitter = Submitter(*words, day, arguments.track, read_notes(arguments.notes), tuple(arguments.based_on))
    study = read_study(arguments.study)
    submission = make_submission(study, submitter, arguments.draft)
    folder = write_folder(submission, arguments.out, arguments.force, arguments.with_artifacts)
    for fault in submission.faults:
        print(f"fault      {fault}")
    found, largest = study.statistics.bpb, largest_seed(study)
    if found is not None and largest is not None:
        spread = "" if found.deviation is None else f", standard deviation {found.deviation:.5f}"
        print(f"val_bpb    {found.mean:.5f}{spread}, {len(study.done)} seeds")
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


def _day(text: str) -> date:
    """--date as a day."""
    with contextlib.suppress(ValueError):
        return date.fromisoformat(text)
    raise argparse.ArgumentTypeError(f"must be a day as YYYY-MM-DD, got {text!r}")


def read_notes(path: Path | None) -> str:
    """--notes as text. Raises: ValueError when the file is no short text."""
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"--notes {path} must be a text in UTF-8 ({error})") from error
    if not 0 < len(text) <= _LONGEST_NOTES or not all(category(sign) != "Cc" or sign in "\n\t" for sign in text):
        raise ValueError(
            f"--notes {path} must be a text of 1 to {_LONGEST_NOTES:,} characters, without control characters"
        )
    if sum(line.lstrip().startswith("```") for line in text.splitlines()) % 2:
        raise ValueError(
            f"--notes {path} opens a block with ``` and does not close it: the README would stay within it"
        )
    return text
