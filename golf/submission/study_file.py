"""The file of a seed study: written by the program that ran the seeds, read for a submission.

A study is believed only as far as it agrees with itself: scores are those of their chunks, the mean is that of the
seeds, artifacts and logs have the bytes that are named.
"""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import msgspec

from golf.config.config import RunConfig, from_plain
from golf.data.dataset import hash_file
from golf.evaluate.sliding import Scored
from golf.runtime.files import write_json
from golf.runtime.results import LADDER, RungResult
from golf.submission.study import STUDY_FILE, STUDY_FORMAT, SeedRecord, StudyRecord

REMEDY = "give the command of run_seeds.py again, which writes the folder anew"
_CLOSE = 1e-9
"""Relative difference of sums of floats in another order."""


def write_study(folder: Path, study: StudyRecord) -> Path:
    """Writes the record of a study into its folder, whole; returns its path."""
    values: dict[str, Any] = msgspec.to_builtins(study)
    del values["config"]["seed"]
    write_json(folder / STUDY_FILE, values)
    return folder / STUDY_FILE


def read_study(folder: Path) -> StudyRecord:
    """Reads the study in `folder`, which may also be the path of its file.

    Raises: FileNotFoundError naming what leaves such a folder; ValueError naming file, field, value and remedy.
    """
    path = folder if folder.name == STUDY_FILE else folder / STUDY_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: give the folder of a seed study, which run_seeds.py leaves in storage/studies"
        )
    try:
        study = _decoded(msgspec.json.decode(path.read_bytes()))
        _check_files(study, path.parent)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}; {REMEDY}") from error
    return study


def _decoded(values: Any) -> StudyRecord:
    """Returns the record in the values of the file. Raises: ValueError naming the field."""
    if not isinstance(values, dict):
        raise ValueError(f"must hold an object, got {str(values)[:40]}")
    if values.get("format") != STUDY_FORMAT:
        raise _wrong("format", f"{STUDY_FORMAT}, which this version reads", values.get("format"))
    config = values.get("config")
    if not isinstance(config, dict):
        raise _wrong("config", "an object", config)
    if "seed" in config:
        raise _wrong("config.seed", "left out, for every seed has its own", config["seed"])
    try:
        from_plain(RunConfig, config)
    except ValueError as error:
        raise ValueError(f"config: {error}") from error
    try:
        study = msgspec.convert(values, StudyRecord)
    except msgspec.ValidationError as error:
        raise ValueError(_located(str(error), values)) from error
    if len({run.seed for run in study.seeds}) < len(study.seeds):
        raise ValueError("seeds must be different seeds")
    for number, run in enumerate(study.seeds):
        _check_seed(run, f"seeds[{number}]")
    _check_mean(study)
    return study


def _located(message: str, values: Any) -> str:
    """Returns a message of msgspec with the field's path first and its value last."""
    rule, _, path = message.removesuffix("`").partition(" - at `$.")
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path.partition("[...]")[0]):
        values = values[int(index)] if index else values[name]
    return f"{path}: {rule}, got {json.dumps(values)[:60]}" if path else rule


def _wrong(field: str, rule: str, value: object) -> ValueError:
    return ValueError(f"{field} must be {rule}, got {str(value)[:60]}")


def _check_seed(run: SeedRecord, path: str) -> None:
    """Raises: ValueError where a seed's numbers disagree with each other."""
    for number, rung in enumerate(run.ladder):
        _check_rung(rung, f"{path}.ladder[{number}]")
    if run.done and not run.ladder:
        raise _wrong(f"{path}.ladder", "the rungs of a seed that is done", "none")
    if run.done and run.artifact_bytes is None:
        field = "model_bytes" if run.model_bytes is None else "code_bytes"
        raise _wrong(f"{path}.{field}", "known for a seed that is done", None)
    if run.artifact is not None and run.artifact.num_bytes != run.model_bytes:
        size = f"{run.artifact.num_bytes}, the size of {run.artifact.name}"
        raise _wrong(f"{path}.model_bytes", size, run.model_bytes)


def _check_rung(rung: RungResult, path: str) -> None:
    if rung.name not in LADDER:
        raise _wrong(f"{path}.name", f"one of {', '.join(LADDER)}", rung.name)
    if rung.chunks:
        scored = Scored.of(rung.chunks)
        for name, of_chunks in (("bpb", scored.bpb), ("nats_per_token", scored.nats_per_token)):
            if not math.isclose(getattr(rung, name), of_chunks, rel_tol=_CLOSE):
                raise _wrong(f"{path}.{name}", f"{of_chunks!r}, the score of its chunks", getattr(rung, name))


def _check_mean(study: StudyRecord) -> None:
    """Raises: ValueError unless the verdict's means and deviations are those of the seeds."""
    for name, summary, values in (
        ("bpb", study.verdict.bpb, [run.last.bpb for run in study.done]),
        ("nats", study.verdict.nats, [run.last.nats_per_token for run in study.done]),
    ):
        if (summary is None) != (not values):
            raise _wrong(f"verdict.{name}", "the mean of the seeds that are done", summary)
        if summary is None:
            continue
        mean, deviation = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        if not math.isclose(summary.mean, mean, rel_tol=_CLOSE):
            raise _wrong(f"verdict.{name}.mean", f"{mean!r}, the mean of the seeds", summary.mean)
        if not math.isclose(summary.standard_deviation or 0.0, deviation, rel_tol=1e-6, abs_tol=1e-12):
            rule = f"{deviation!r}, the deviation of the seeds"
            raise _wrong(f"verdict.{name}.standard_deviation", rule, summary.standard_deviation)


def _check_files(study: StudyRecord, folder: Path) -> None:
    """Raises: ValueError unless the artifacts and logs are the named bytes."""
    for number, run in enumerate(study.seeds):
        for field, file in ((f"seeds[{number}].artifact", run.artifact), (f"seeds[{number}].log", run.log)):
            if file is None:
                continue
            path = folder / file.name
            if path.name != file.name or not path.is_file():
                raise _wrong(f"{field}.name", f"a file beside {STUDY_FILE}", file.name)
            if path.stat().st_size != file.num_bytes:
                raise _wrong(f"{field}.num_bytes", f"{path.stat().st_size}, the size of {file.name}", file.num_bytes)
            if hash_file(path) != file.sha256:
                raise _wrong(f"{field}.sha256", f"the hash of {file.name}, which has changed", file.sha256)
