"""A real seed study of a tiny model: three runs, their ledger, and the folder that they leave."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, to_plain
from golf.config.rules import SP1024_BYTES
from golf.data.dataset import open_dataset
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from tune.records.ledger import Ledger
from tune.records.layout import Storage
from tune.records.provenance import environment, versions
from tune.study.baseline import baseline_of
from tune.study.export import export_study
from tune.study.preregistration import Plan
from tune.study.runs import study_of
from tune.study.verdict import judge, plain
from tune.workloads.gepa.runner import OUTCOME, run_stage, run_trial
from tune.workloads.gepa.stages import code_digest

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Made:
    """A study and where it came from."""

    folder: Path
    """What `submit` takes."""
    data: Path
    config: RunConfig


def here(stage: str, spec: Mapping[str, Any]) -> None:
    """A runner in this process."""
    run_stage(stage, spec, ProcessGroup(), lambda curve, step, value: None, lambda: False)


@pytest.fixture(scope="session")
def made(tiny: RunConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The study; tests that change it copy it."""
    storage, dataset = Storage(tmp_path_factory.mktemp("storage")), open_dataset(data)
    ledger, facts = Ledger(storage.ledger), {"data": dataset.digest, "dataset": data.name, "code": code_digest()}
    for seed in SEEDS:
        plain_config, trial = to_plain(replace(tiny, seed=seed)), f"{seed:012x}"
        folder = storage.trial("tiny", trial)
        spec = {"trial": trial, "config": plain_config, "data": str(data), "folder": str(folder), "save_seconds": 60.0}
        run_trial(spec, here, here)
        outcome = read_json(folder / OUTCOME)
        named = {"kind": "trial", "sweep": "tiny", "trial": trial, "preset": "tiny", "parameters": {"seed": seed}}
        ledger.append(
            {**named, **facts, "config": plain_config, "environment": versions(), "started": time.time()}
            | outcome
            | {"tags": {**environment(), **outcome["tags"]}}
        )
    entries = ledger.entries()
    study = study_of("tiny", entries)
    assert study.stream is not None
    baseline = baseline_of(["9.0", "9.1"], entries, study.stream.nats_per_bpb)
    verdict = {**plain(judge(study, Plan("c", "d", SEEDS), baseline)), "text": "as printed"}
    return Made(export_study(storage, "tiny", verdict, dataset), data, tiny)


def of_fineweb(values: dict[str, Any]) -> None:
    """Let study.json say that the study is of the competition's validation split."""
    values["data"] |= {"name": "fineweb10B_sp300", "validation_bytes": SP1024_BYTES, "validation_tokens": 99_000_000}


@pytest.fixture(scope="session")
def eligible(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same study, as if of the competition's data."""
    folder = tmp_path_factory.mktemp("eligible") / "study"
    shutil.copytree(made.folder, folder)
    values = json.loads((folder / "study.json").read_text())
    of_fineweb(values)
    write_json(folder / "study.json", values)
    return folder


@pytest.fixture
def changed(made: Made, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Give it a change of study.json's object; the study's folder with that change, without artifacts."""

    def change(act: Callable[[dict[str, Any]], object]) -> Path:
        values = json.loads((made.folder / "study.json").read_text())
        of_fineweb(values)
        for seed in values["seeds"]:
            seed["artifact"] = None
        shutil.copytree(made.folder, tmp_path / "changed", dirs_exist_ok=True)
        act(values)
        write_json(tmp_path / "changed" / "study.json", values)
        return tmp_path / "changed"

    return change
