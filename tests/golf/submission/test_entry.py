"""Who submits: names are safe in a path, in Markdown and in JSON, or refused with the option's name."""

from datetime import date

import pytest

from golf.config.rules import NON_RECORD, RECORD
from golf.submission.entry import Submitter

DAY = date(2026, 1, 2)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("GEPA, 11 layers / int6 (v1.2)", "2026-01-02_GEPA_11_layers_int6_v1.2"),
        ("../../etc/passwd", "2026-01-02_etc_passwd"),
        ("ü 日本 x", "2026-01-02_x"),
    ],
)
def test_a_title_names_one_folder(name: str, folder: str) -> None:
    """Fault: a title leads out of the records, or to a name that another system cannot have."""
    assert Submitter("A", "a", name, DAY, NON_RECORD).folder == f"track_non_record_16mb/{folder}"
    assert Submitter("A", "a", name, DAY, RECORD).folder == f"track_10min_16mb/{folder}"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--author", ("", "a", "n")),
        ("--author", ("A\nB", "a", "n")),
        ("--author", ("A\u202eB", "a", "n")),
        ("--author", ("A" * 101, "a", "n")),
        ("--github-id", ("A", "-a", "n")),
        ("--github-id", ("A", "a--b", "n")),
        ("--github-id", ("A", "a](http://x)", "n")),
        ("--github-id", ("A", "a" * 40, "n")),
        ("--name", ("A", "a", "   ")),
        ("--name", ("A", "a", "../..")),
    ],
)
def test_what_is_no_name_is_refused(option: str, words: tuple[str, str, str]) -> None:
    """Fault: a folder without a name, a link to somewhere else, or a line that breaks the document."""
    with pytest.raises(ValueError, match=option):
        Submitter(*words, DAY, NON_RECORD)
