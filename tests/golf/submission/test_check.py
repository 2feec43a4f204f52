"""The check of a whole study: true seeds pass, one false seed is named."""

import dataclasses
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from golf.cli.main import main
from golf.compliance.points import PointResult, failures, rows_of
from golf.compliance.run import CheckOptions
from golf.data.dataset import Dataset, open_dataset
from golf.runtime.process_group import ProcessGroup
from golf.submission.study import SeedRecord, StudyRecord
from golf.submission.study_check import check_study, saved_check
from golf.submission.study_file import read_study
from tests.golf.submission.conftest import Made


def rows(study: StudyRecord, folder: Path, dataset: Dataset) -> list[PointResult]:
    """The cheap form."""
    return rows_of(check_study(study, folder, dataset, ProcessGroup(), CheckOptions(cheap=True)))


@pytest.mark.long
def test_a_true_study_passes(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an honest study is accused; a point is not applied to all seeds."""
    assert main(["check", str(made.folder), "--data", str(made.data), "--quick", "--json"]) == 0
    check = json.loads(capsys.readouterr().out)
    assert check["failed"] == 0
    passed = {row["point"] for row in check["points"] if row["state"] == "passed"}
    assert passed >= {2, 3, 4, 5, 7, 10, 11, 15, 16, 17, 18, 19, 20, 22, 23, 25}
    assert set(check["points"][2]["evidence"]["model_bytes"]) == {"seed 1", "seed 2", "seed 3"}


def better(run: SeedRecord) -> SeedRecord:
    """A last rung that the artifact does not give."""
    chunks = tuple((0.98 * nats, tokens, size) for nats, tokens, size in run.last.chunks)
    last = dataclasses.replace(run.last, bpb=0.98 * run.last.bpb, chunks=chunks)
    return replace(run, ladder=(*run.ladder[:-1], last))


@pytest.mark.long
def test_one_false_seed_is_named(made: Made) -> None:
    """Fault: two true seeds hide a false one."""
    study, dataset = read_study(made.folder), open_dataset(made.data)
    false = replace(study, seeds=(study.seeds[0], better(study.seeds[1]), study.seeds[2]))
    results = rows(false, made.folder, dataset)
    assert failures(results) == [23]
    assert results[22].why.startswith("seed 2:")


@pytest.mark.long
def test_other_code_and_missing_seeds_are_found(made: Made) -> None:
    """Fault: seeds of two codes, or two seeds, are a result."""
    study, dataset = read_study(made.folder), open_dataset(made.data)
    other = replace(study.seeds[0], code_sha256="0" * 64)
    assert failures(rows(replace(study, seeds=(other, *study.seeds[1:])), made.folder, dataset)) == [5, 7]
    assert failures(rows(replace(study, seeds=study.seeds[:2]), made.folder, dataset)) == [7]


def test_another_text_is_refused(made: Made) -> None:
    """Fault: artifacts are scored again on other data, and all seem false."""
    study = read_study(made.folder)
    foreign = replace(study, data=replace(study.data, digest="0" * 64))
    with pytest.raises(ValueError, match="--data"):
        check_study(foreign, made.folder, open_dataset(made.data), ProcessGroup(), CheckOptions(cheap=True))


def test_what_the_seeds_were_found_to_be_is_kept(made: Made, tmp_path: Path) -> None:
    """Fault: a study's check forgets a seed, or a study that cannot be read ends the command."""
    check = saved_check(made.folder)
    assert check.error is None
    assert check.failed == 0
    assert {row.point for row in check.points if row.state == "passed"} >= {3, 5, 7, 16, 17, 18, 19, 23, 25}
    (tmp_path / "study.json").write_text("{}")
    assert "study.json" in str(saved_check(tmp_path).error)
