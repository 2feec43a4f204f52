"""The record folder's README: what is new first, no figure in two places, the rules point by point."""

import dataclasses
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from golf.cli.main import main
from golf.compliance.points import POINTS, REMARK, Cause, CheckResult, weighed
from golf.config.rules import NON_RECORD
from golf.submission.code import LOWEST, readable_source
from golf.submission.entry import Submission, Submitter
from golf.submission.folder import make_submission
from golf.submission.readme import HERE, decimals, figures, measured, readme
from golf.submission.study import Comparison
from golf.submission.study_file import read_study
from tests.golf.submission.conftest import Made

WHO = Submitter("A. Example", "a-example", "Tiny model", date(2026, 1, 2), NON_RECORD)
Change = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture(scope="module")
def submission(eligible: Path) -> Submission:
    """One without faults."""
    return make_submission(read_study(eligible), eligible, WHO)


def section(text: str, title: str) -> str:
    """A section of a document."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_what_is_new_comes_first(eligible: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a reader learns settings before what the submission claims, or not what it builds on and gains."""
    notes = tmp_path / "new.md"
    notes.write_text("The MLP takes **five** bits:\n\n- it is wide enough\n", encoding="utf-8-sig")
    who = ["--author", "A", "--github-id", "a", "--name", "N", "--date", "2026-01-02", "--out", str(tmp_path)]
    assert main(["submit", str(eligible), *who, "--notes", str(notes), "--based-on", "668", "1493"]) == 0
    assert "--notes" not in capsys.readouterr().err
    folder = tmp_path / WHO.folder.replace("Tiny_model", "N")
    text = (folder / "README.md").read_text()
    assert text.index("## What is new and why") == text.index("## ")
    new = section(text, "What is new and why")
    assert new.strip().startswith("The MLP takes **five** bits:\n\n- it is wide enough\n")
    assert "[#668](https://github.com/openai/parameter-golf/pull/668), [#1493](" in new
    assert "Gain over 9.0 9.1 BPB (2 seeds): +3.4" in new
    assert json.loads((folder / "submission.json").read_text())["based_on"] == [668, 1493]
    assert main(["submit", str(eligible), *who, "--force"]) == 0
    assert "--notes FILE" in capsys.readouterr().err
    new = section((folder / "README.md").read_text(), "What is new and why")
    assert "`schedule.steps`: 6 instead of 7000" in new


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\x1b[31mb", b"x" * 20_001, b"```bash\nls"])
def test_notes_that_are_no_text_are_refused(eligible: Path, tmp_path: Path, content: bytes, capsys: Any) -> None:
    """Fault: a binary file, or nothing at all, becomes the first section."""
    (tmp_path / "notes").write_bytes(content)
    who = ["--author", "A", "--github-id", "a", "--name", "N", "--out", str(tmp_path)]
    assert main(["submit", str(eligible), *who, "--notes", str(tmp_path / "notes")]) == 2
    assert "--notes" in capsys.readouterr().err
    assert main(["submit", str(eligible), *who, "--based-on", "0"]) == 2
    assert "--based-on" in capsys.readouterr().err


def test_no_figure_stands_twice(submission: Submission) -> None:
    """Fault: a figure in two places, one of which is not mended when the other is."""
    text = re.sub(r"https?://\S+", "", readme(submission)).replace("16,000,000", "the cap")
    # Settings and small numbers may be alike; scores, sizes, counts and hashes are not.
    large = [figure for figure in figures(text) if len(figure) >= 12 or float(figure) >= 10_000]
    assert len(large) > 15
    assert [figure for figure, count in Counter(large).items() if count > 1] == []
    judged = submission.study.verdict
    assert judged.bpb is not None
    assert judged.nats is not None
    means = [measured(mean).partition(" ")[0] for mean in (judged.bpb, judged.nats)]
    for figure in (*means, *(f"{run.last.bpb:.4f}" for run in submission.study.done)):
        assert len(re.findall(rf"(?<![\d.]){re.escape(figure)}(?!\d)", text)) == 1, figure


@pytest.mark.parametrize(
    ("deviation", "digits"),
    [(0.00068, 4), (0.00012, 5), (0.0019, 4), (0.0021, 3), (0.04, 3), (1e-9, 6), (0.0, 6), (None, 4)],
)
def test_scores_have_the_decimals_that_their_deviation_allows(deviation: float | None, digits: int) -> None:
    """Fault: digits of pure noise, or a deviation that is rounded to nothing."""
    assert decimals(deviation) == digits
    assert not deviation or deviation < 1e-6 or float(f"{deviation:.{digits}f}") > 0


def test_a_gain_that_is_not_shown_is_not_claimed(submission: Submission) -> None:
    """Fault: a gain without its test, or one whose test failed, reads as a claim."""
    verdict = submission.study.verdict
    assert verdict.comparison is not None

    def text_with(comparison: Comparison | None) -> str:
        study = replace(submission.study, verdict=replace(verdict, comparison=comparison))
        return readme(dataclasses.replace(submission, study=study))

    lost = replace(verdict.comparison, gain_nats=replace(verdict.comparison.gain_nats, p=0.1))
    assert "is not shown at p < 0.01 (shown at p < 0.25): p = 0.1." in text_with(lost)
    untested = replace(lost, gain_nats=replace(lost.gain_nats, p=None))
    assert "There is no test" in text_with(untested)
    assert "no gain is claimed" in text_with(None)


def test_each_point_of_the_rules_has_its_line(submission: Submission) -> None:
    """Fault: a point is left out, points to nothing in this folder, or its title vanishes as HTML."""
    rows = [line.split(" | ") for line in section(readme(submission), "Rules").splitlines() if line[2:3].isdigit()]
    table = rows[-len(POINTS) :]
    assert [int(row[0].strip("| ")) for row in table] == list(POINTS)
    assert HERE.keys() == POINTS.keys()
    assert "&lt;track&gt;" in table[0][1]
    assert {row[2] for row in table} >= {"passed", "n/a"}
    code = readable_source()
    for name in re.findall(r"`(\w+)` in `source\.md`", " ".join(HERE.values())):
        assert re.search(rf"(def|class) {name}\b", code), name


def test_a_part_of_a_check_is_shown(submission: Submission) -> None:
    """Fault: a remark looks as if its point had passed, or points that a check does not have end the command."""
    remark = weighed(12, {}, [Cause("told elsewhere", level=REMARK)])
    check = CheckResult(passed=20, remarks=2, failed=0, not_applicable=3, points=(remark,))
    first, *others = submission.study.seeds
    study = replace(submission.study, seeds=(replace(first, check=check), *others))
    text = readme(dataclasses.replace(submission, study=study))
    assert "| seed | passed | remarks | failed | not applicable |" in text
    assert "| 1 | 20 | 2 | 0 | 3 |" in text
    assert re.search(r"\| 12 \| [^|]* \| remark \| [^|]* \| told elsewhere \|", text)


def test_the_data_can_be_had_with_a_command(submission: Submission, made: Made) -> None:
    """Fault: a reader is told what data it was and not how to get it, or to run what is not there."""
    block = section(readme(submission), "Reproduction").partition("```bash\n")[2].partition("```")[0]
    assert "cached_challenge_fineweb.py --variant sp300 --train-shards 1\n" in block
    assert "export DATA_PATH=../../../data/datasets/fineweb10B_sp300\n" in block
    assert "for seed in 1 2 3; do SEED=$seed OMP_NUM_THREADS=" in block
    draft = readme(make_submission(read_study(made.folder), made.folder, WHO, draft=True))
    assert "python -m golf data prepare" in draft
    assert draft.splitlines()[2].startswith("> **DRAFT")
    assert draft.splitlines()[4].startswith("> - scored on words (406 tokens), not on FineWeb's validation split")


def test_bounds_are_of_packages_that_the_project_needs() -> None:
    """Fault: the program asks for a package that its own environment does not have."""
    declared = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    names = {re.split(r"[=<>\[]", line)[0] for line in declared["project"]["dependencies"]}
    assert LOWEST.keys() <= names
