"""The options of the command "submit", apart from the command itself: a command line is parsed without PyTorch."""

import argparse
import contextlib
from datetime import date
from pathlib import Path

from golf.config.rules import NON_RECORD, RECIPE_PR, TRACK_FOLDERS

SUMMARY = "make a record folder, ready for a pull request, from a seed study"
MORE = """Every number
comes from the study. Refused are studies of other data than FineWeb's validation split, with fewer than 3 seeds, with a
seed that failed or is over the cap, and other code than the study ran."""
EXAMPLES = (
    'submit storage/studies/pr598-seeds --author "Your Name" --github-id your-login --name "GEPA" --notes new.md',
    'submit storage/studies/pr598-seeds --author "Your Name" --github-id your-login --name "GEPA" --track record',
    'submit storage/studies/demo-seeds --author "Your Name" --github-id your-login --name "Look" --draft --out /tmp',
)


def add_submit_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
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
    parser.add_argument("--draft", action="store_true", help="in spite of faults, which the folder then names")
    parser.add_argument("--force", action="store_true", help="replace a folder that is there already")


def _day(text: str) -> date:
    """Parses --date."""
    with contextlib.suppress(ValueError):
        return date.fromisoformat(text)
    raise argparse.ArgumentTypeError(f"must be a day as YYYY-MM-DD, got {text!r}")
