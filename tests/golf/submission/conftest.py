"""A real seed study of a tiny model: three runs, and the folder that their study leaves."""

import hashlib
import json
import platform
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from golf.artifact.byte_breakdown import group_ledger
from golf.compliance.run import cheap_check
from golf.config.config import RunConfig
from golf.config.rules import NON_RECORD, SP1024_BYTES
from golf.data.dataset import Dataset, hash_file, open_dataset
from golf.pipeline.bundle import counted_code
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.submission.study import (
    CapRisk,
    Comparison,
    CurvePoint,
    Gain,
    SeedRecord,
    StudyData,
    StudyFile,
    StudyRecord,
    StudyVerdict,
    Summary,
)
from golf.submission.study_file import write_study
from golf.train.hooks import Hooks
from golf.train.run_log import LogFile

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Made:
    """A study and where it came from."""

    folder: Path
    """What `submit` takes."""
    data: Path
    config: RunConfig


def file_in(folder: Path, source: Path, name: str) -> StudyFile:
    """Copies a file into the study's folder."""
    shutil.copyfile(source, folder / name)
    return StudyFile(name=name, num_bytes=source.stat().st_size, sha256=hash_file(source))


def train_seed(config: RunConfig, dataset: Dataset, directory: RunDirectory, folder: Path) -> SeedRecord:
    """Runs one seed; its record, with artifact and log in the study's folder."""
    group, seed, code = ProcessGroup(), config.seed, counted_code(config)
    context = StageContext(config=config, dataset=dataset, directory=directory, group=group)
    log, artifact = directory.file("log.txt"), directory.file("artifact.golf")
    running: list[CurvePoint] = []

    def event(curve: str, step: int, value: float) -> None:
        if curve == "ttt_bpb":
            running.append(CurvePoint(step, 1.8e9, value))

    results = run_stages(context, code, Hooks(event=event, log=LogFile(log, group)))
    curves = read_json(directory.file("curves.json"))
    points = {
        name: tuple(CurvePoint(int(step), time, value) for step, time, value in curves[name])
        for name in ("train_loss", "validation_bpb")
    }
    return SeedRecord(
        seed=seed,
        trial=f"{seed:012x}",
        state="done",
        ladder=results.ladder,
        curves={**points, "ttt_bpb": tuple(running)},
        byte_groups=group_ledger(artifact.read_bytes()),
        model_bytes=results.pack.model_bytes,
        code_bytes=results.pack.code_bytes,
        code_sha256=hashlib.sha256(code).hexdigest(),
        train_seconds=results.train.seconds,
        evaluation_seconds=results.ladder[-1].seconds,
        cold=True,
        device=results.train.device,
        versions={"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "numpy", "sentencepiece")},
        commit="0" * 40,
        artifact=file_in(folder, artifact, f"artifact_seed{seed}.golf"),
        log=file_in(folder, log, f"log_seed{seed}.txt"),
        check=cheap_check(config, dataset, directory, group, len(code)),
    )


def summary_of(values: list[float]) -> Summary:
    """Mean and deviation; the interval is made up."""
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values)
    interval = (mean - 2.48 * deviation, mean + 2.48 * deviation)
    return Summary(num_values=3, mean=mean, standard_deviation=deviation, interval=interval, level=0.95)


def verdict_on(seeds: tuple[SeedRecord, ...]) -> StudyVerdict:
    """A verdict with a gain over two values, whose statistics but the means are made up."""
    bpb = [run.last.bpb for run in seeds]
    factor = seeds[0].last.nats_per_token / bpb[0]
    values = (9.0, 9.1)
    gain = Gain(
        gain=statistics.fmean(values) - statistics.fmean(bpb),
        margin=0.005 / factor,
        interval=(3.1, 3.8),
        level=0.95,
        degrees_of_freedom=1.4,
        statistic=60.0,
        p=0.00094,
    )
    largest = max(run.artifact_bytes or 0 for run in seeds)
    return StudyVerdict(
        track=NON_RECORD,
        seeds=SEEDS,
        nats_per_bpb=factor,
        bpb=summary_of(bpb),
        nats=summary_of([run.last.nats_per_token for run in seeds]),
        cap_bytes=16_000_000,
        cap=CapRisk(largest_bytes=largest, margin_bytes=16_000_000 - largest, probability=3.4e-10),
        comparison=Comparison(
            baseline="9.0 9.1 BPB", values=values, published=False, gain_nats=gain.scaled(factor), gain_bpb=gain
        ),
        text="as printed",
    )


@pytest.fixture(scope="session")
def made(tiny: RunConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The study; tests that change it copy it."""
    root, dataset = tmp_path_factory.mktemp("study"), open_dataset(data)
    folder = root / "tiny"
    folder.mkdir()
    seeds = tuple(
        train_seed(replace(tiny, seed=seed), dataset, RunDirectory(root / str(seed)), folder) for seed in SEEDS
    )
    assert dataset.train is not None
    _, tokens, size = (sum(part) for part in zip(*seeds[0].last.chunks, strict=True))
    study = StudyRecord(
        name="tiny",
        preset="tiny",
        track=NON_RECORD,
        config=replace(tiny, seed=RunConfig().seed),
        data=StudyData(
            digest=dataset.digest,
            name=dataset.name,
            files=dict(dataset.files),
            train_tokens=dataset.train.num_tokens,
            validation_tokens=int(tokens),
            validation_bytes=int(size),
        ),
        seeds=seeds,
        verdict=verdict_on(seeds),
    )
    write_study(folder, study)
    return Made(folder, data, tiny)


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
