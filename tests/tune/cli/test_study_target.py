"""Names of studies: one for each configuration, valid, and telling what was changed."""

import re
from pathlib import Path

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.runtime.files import write_json
from tests.tune.study.made_runs import made_run
from tune.cli.study_target import TargetOptions, find_target


@pytest.fixture
def folder(tiny: RunConfig, tmp_path: Path) -> Path:
    """With configurations under the same file name in two folders, and one with an awkward name."""
    write_json(tmp_path / "tiny.json", to_plain(tiny))
    write_json(tmp_path / "my own (1).json", to_plain(tiny))
    for name, bits in (("a", 5), ("b", 6)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "fitted.json", to_plain(override_all(tiny, {"quant.mlp.bits": bits})))
    return tmp_path


def name_of(folder: Path, *changes: str, split: str | None = None, file: str = "tiny.json") -> str:
    """Returns the name that a command gives its study."""
    split = str(folder / split) if split and split.endswith(".json") else split
    name = find_target(TargetOptions(str(folder / file), None, split, changes), []).name
    assert re.fullmatch(r"[\w.\-+=]{1,200}", name), name
    return name


def test_other_configurations_have_other_names(folder: Path) -> None:
    """Fault: two studies in one, because two fields have the same value or two files the same name."""
    names = [
        name_of(folder),
        name_of(folder, "ttt.lr=0.005"),
        name_of(folder, "optimizer.matrix_lr=0.005"),
        name_of(folder, "ttt.momentum=0.9"),
        name_of(folder, "optimizer.beta1=0.9"),
        name_of(folder, "ttt.lr=0.05"),
        name_of(folder, "model.value_layers=[0]"),
        name_of(folder, "model.value_layers=[0,1]"),
        name_of(folder, "model.value_layers=[]"),
        name_of(folder, "ttt=null"),
        name_of(folder, split="int4"),
        name_of(folder, split="a/fitted.json"),
        name_of(folder, split="b/fitted.json"),
        name_of(folder, file="my own (1).json"),
        name_of(folder, "optimizer.matrix_lr=0.001", "ttt.lr=0.002", "optimizer.scalar_lr=0.003", "ttt.epochs=3",
                "optimizer.embedding_lr=0.004", "ttt.momentum=0.7", "schedule.steps=1234", "schedule.ema_decay=0.25"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert names[1] == "tiny-ttt.lr=0.005-seeds"
    assert names[7] == "tiny-model.value_layers=0+1-seeds"
    assert names[10] == "tiny-int4-seeds"
    assert names[11].startswith("tiny-fitted-")
    assert names[13].startswith("my-own-1-")


def test_one_configuration_has_one_name(folder: Path) -> None:
    """Fault: the same command written otherwise begins a second study."""
    written = [
        ["ttt.lr=0.01", "ttt.epochs=2"],
        ["ttt.epochs=2", "ttt.lr=1e-2"],
        ["ttt.epochs=3", "ttt.lr=0.01"],
    ]
    assert name_of(folder, *written[0]) == name_of(folder, *written[1])
    assert name_of(folder, *written[2]) != name_of(folder, *written[0])
    write_json(folder / "b" / "fitted.json", to_plain(override_all(RunConfig(), {"quant.mlp.bits": 5})))
    write_json(folder / "a" / "fitted.json", to_plain(override_all(RunConfig(), {"quant.mlp.bits": 5})))
    assert name_of(folder, split="a/fitted.json") == name_of(folder, split="b/fitted.json")


def test_a_trial_is_run_again_as_it_was() -> None:
    """Fault: another trial's configuration, another dataset, or a script's configuration read as GEPA's."""
    runs = [made_run("sweep", 5, 1.3), made_run("sweep", 6, 1.2, fields={"schedule.steps": 8000})]
    trials = [entry for entry, _ in runs]
    for options in (TargetOptions(best_of="sweep"), TargetOptions(trials[1].trial[:6])):
        target = find_target(options, trials)
        assert (target.config.schedule.steps, target.config.cap_bytes, target.data) == (8000, 1000, "d" * 64)
        assert target.name == f"tiny-{trials[1].trial[:8]}-seeds"
    script = made_run("script", 1, 1.1, workload="script", config={"lr": 1})[0]
    with pytest.raises(ValueError, match="workload script"):
        find_target(TargetOptions(best_of="script"), [script])
