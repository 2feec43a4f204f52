"""The check of a run: true runs pass, and every number that is changed afterwards is seen."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golf.cli.main import main
from golf.compliance.points import NOT_APPLICABLE, PASSED, PointResult, failures, rows_of
from golf.compliance.run import CheckOptions, cheap_check, check_data, check_run
from golf.config.config import RunConfig, override_all, to_plain
from golf.config.rules import NON_RECORD
from golf.data.dataset import Dataset, open_dataset
from golf.data.shards import read_shard, write_shard
from golf.pipeline.bundle import code_bytes
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from tests.conftest import TINY

CONFIG = replace(TINY, quant=replace(TINY.quant, mlp=replace(TINY.quant.mlp, method="gptq"), calibration_tokens=64))
CODE = 80_000
"""Bytes of code, whatever they are."""


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run = StageContext(config=CONFIG, dataset=open_dataset(data, 300), directory=RunDirectory(folder))
    run_stages(run, b" " * CODE)
    write_json(folder / "config.json", to_plain(CONFIG))
    write_json(folder / "settings.json", {"data": str(data), "seconds": None})
    return folder


def check(config: RunConfig, dataset: Dataset, folder: Path, options: CheckOptions) -> list[PointResult]:
    """The rows of a run's check."""
    context = StageContext(config=config, dataset=dataset, directory=RunDirectory(folder))
    return rows_of([*check_run(context, CODE, options), *check_data(dataset, options.cheap)])


def failing(folder: Path, dataset: Dataset, cheap: bool = True, track: str = NON_RECORD) -> list[int]:
    """The points on which a run fails."""
    return failures(check(CONFIG, dataset, folder, CheckOptions(cheap=cheap, track=track)))


@pytest.mark.parametrize("cheap", [True, pytest.param(False, marks=pytest.mark.long)], ids=["cheap", "whole"])
def test_a_true_run_passes(cheap: bool, run: Path, data: Path) -> None:
    """Fault: an honest run is accused, or a point is passed without being looked at."""
    rows = {row.point: row for row in check(CONFIG, open_dataset(data, 300), run, CheckOptions(cheap=cheap))}
    assert failures(rows.values()) == []
    shown = {3, 4, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 22, 23}
    assert {point for point, row in rows.items() if row.state == PASSED} == shown
    assert all(rows[point].evidence for point in shown)
    assert all(row.why for row in rows.values() if row.state == NOT_APPLICABLE)


def in_rung(name: str) -> Callable[[Path], None]:
    """Change a rung's first chunk as somebody might who wants a better number."""

    def change(folder: Path) -> None:
        stored = read_json(folder / f"{name}.json")
        stored["result"]["chunks"][0][0] *= 0.99
        stored["result"]["bpb"] *= 0.99
        write_json(folder / f"{name}.json", stored)

    return change


def rounded(folder: Path) -> None:
    """A better total over true chunks."""
    stored = read_json(folder / "ttt.json")
    stored["result"]["bpb"] -= 1e-6
    write_json(folder / "ttt.json", stored)


def slow(folder: Path) -> None:
    """A training of more than ten minutes."""
    stored = read_json(folder / "train.json")
    stored["result"]["seconds"] = 599.9
    write_json(folder / "train.json", stored)
    packed = read_json(folder / "pack.json")
    packed["result"]["seconds"] = 0.2
    write_json(folder / "pack.json", packed)


def other_size(folder: Path) -> None:
    """A result with a smaller artifact."""
    packed = read_json(folder / "pack.json")
    packed["result"]["model_bytes"] -= 1
    write_json(folder / "pack.json", packed)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(in_rung("quantised"), [23]), (in_rung("ttt"), [23]), (rounded, [23]), (other_size, [4]), (slow, [8])],
    ids=[
        "better score",
        "better score after training",
        "better total",
        "smaller artifact",
        "calibration beyond the budget",
    ],
)
def test_what_was_changed_is_found(
    change: Callable[[Path], None], expected: list[int], run: Path, data: Path, tmp_path: Path
) -> None:
    """Fault: a reported number is believed."""
    folder = shutil.copytree(run, tmp_path / "run")
    change(folder)
    assert failing(folder, open_dataset(data, 300), track="record") == expected


@pytest.mark.long
def test_a_later_chunk_is_found_by_the_whole_form(run: Path, data: Path, tmp_path: Path) -> None:
    """Fault: only the beginning of the stream is scored again."""
    folder = shutil.copytree(run, tmp_path / "run")
    stored = read_json(folder / "sliding.json")
    stored["result"]["chunks"][-1][0] *= 0.99
    write_json(folder / "sliding.json", stored)
    assert failing(folder, open_dataset(data, 300), cheap=False) == [23]


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"score.chunk_tokens": 16, "ttt.optimizer": "adamw", "ttt.frozen_blocks": 2},
        {"score.stride": 16, "score.chunk_tokens": 20, "ttt.epochs": 0},
        {"ttt": None, "model.value_dim": None, "model.bigram_buckets": None, "schedule.averaging": "none"},
    ],
    ids=str,
)
def test_every_allowed_configuration_can_be_checked(changes: dict[str, Any], data: Path, tmp_path: Path) -> None:
    """Fault: the check breaks down, or accuses, where a part is off or a size unusual."""
    config, dataset = override_all(CONFIG, changes), open_dataset(data, 300)
    run_stages(StageContext(config=config, dataset=dataset, directory=RunDirectory(tmp_path)), b" " * CODE)
    for cheap in (True, False):
        assert failures(check(config, dataset, tmp_path, CheckOptions(cheap=cheap))) == []


def test_what_was_reported_for_another_configuration_is_not_compared(run: Path, data: Path) -> None:
    """Fault: `check --set ttt.epochs=2`, or another split packed since, makes true numbers look false."""
    other = override_all(CONFIG, {"ttt.epochs": 2, "quant.codec": "zstd"})
    rows = check(other, open_dataset(data, 300), run, CheckOptions(cheap=True))
    assert failures(rows) == []
    assert rows[22].state == NOT_APPLICABLE


@pytest.mark.long
def test_shared_documents_and_changed_shards_are_found(run: Path, data: Path, tmp_path: Path) -> None:
    """Fault: validation text in the training shards, or a shard that is not the one that was hashed."""
    folder = shutil.copytree(data, tmp_path / "data")
    validation = read_shard(folder / "words_val_000000.bin")
    training = np.array(read_shard(folder / "words_train_000000.bin"))
    bos = int(validation[0])
    ends = np.flatnonzero(validation == bos)
    document = validation[ends[0] : ends[1]]
    assert len(document) > 64
    training[: len(document)] = document
    training[len(document)] = bos
    write_shard(folder / "words_train_000000.bin", training)
    assert failing(run, open_dataset(folder, 300), cheap=False) == [12, 14]


def test_a_check_that_breaks_down_says_so(data: Path, tmp_path: Path) -> None:
    """Fault: a run's results are lost for want of a check, or an unchecked run looks like a checked one."""
    result = cheap_check(CONFIG, open_dataset(data, 300), RunDirectory(tmp_path), ProcessGroup(), CODE)
    assert "artifact.golf" in str(result.error)
    assert result.passed == 0


@pytest.mark.long
def test_the_command_tells_by_its_exit_code(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a failed point ends with success, or JSON that is not one object."""
    assert main(["check", str(run), "--quick", "--json", "--out", str(tmp_path / "check.json")]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == read_json(tmp_path / "check.json")
    smoked = values["points"][1]
    assert (smoked["state"], smoked["evidence"]["layers"]) == (PASSED, 2)
    assert smoked["evidence"]["code_bytes"] == code_bytes(CONFIG)
    folder = shutil.copytree(run, tmp_path / "run")
    in_rung("quantised")(folder)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(folder), "--quick"])
    assert stop.value.code == 1
    assert "FAILED" in capsys.readouterr().out
