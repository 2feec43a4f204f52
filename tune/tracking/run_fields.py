"""A trial's ledger entry as the values of an MLflow run: parameters, tags, metrics, curves, description, dataset.

Nothing is sent here; what a workload does not have, such as a ladder or an artifact, is left out.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from golf.compliance.points import brief
from tune.records.entries import Config, Series, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.records.redaction import redact
from tune.records.text import flat
from tune.search.space import Point, Trial
from tune.study.conditions import GEPA
from tune.tracking.metric_names import (
    ARTIFACT,
    LADDER_CURVE,
    MARGIN,
    NATS,
    PARTIAL,
    POINTS_FAILED,
    SCORE,
    key_of,
    metric_name,
)
from tune.workloads.gepa.space import changed_fields

Curves = Mapping[str, Iterable[Sequence[float]]]
"""Curves by name, each of (step, unix seconds, value) points."""
METRICS = {
    SCORE: "bpb",  # first: MLflow's pages begin with the metric that a run got first
    NATS: "nats_per_token",
    ARTIFACT: "size.artifact_bytes",
    "bytes/model": "size.model_bytes",
    "bytes/code": "size.code_bytes",
    MARGIN: "size.margin_bytes",
    POINTS_FAILED: "check.failed",
    "tokens/train": "train_tokens",
    "seconds/total": "total_seconds",
    "seconds/computed": "computed_seconds",
    "seconds/checkpoints": "checkpoints.save_seconds",
    "checkpoints/saves": "checkpoints.saves",
}
"""MLflow's metric -> field of an entry. What the names of rungs and stages belong to is in `metrics_of`."""
STATUSES = {
    TrialState.DONE: "FINISHED",
    TrialState.INFEASIBLE: "KILLED",
    TrialState.SCREENED: "KILLED",
    TrialState.FAILED: "FAILED",
}
"""MLflow's own state of its run."""
NOTE = "mlflow.note.content"
"""Tag that MLflow shows as a description, in Markdown."""
BREAK = "  \n"
"""A new line in Markdown, closer than a paragraph."""
TRIAL, STUDY, SWEEP = "trial", "study", "sweep"
"""Kinds of runs, in the tag `kind`: a trial, and its parent, which is a seed study's or a sweep's."""
CONFIG = "config.json"
"""The file of a run with its whole configuration."""
CURVES = "curves"
"""The series file, among the names of an entry's files."""
VALUE_CHARACTERS = 6000
"""MLflow's limit for one value."""
_LAYOUT = b"2"
"""Changes when runs are described otherwise, so that those in MLflow are sent anew."""
_DIGEST_CHARACTERS = 36
"""MLflow's limit for a dataset's digest."""


def identity_of(entry: TrialEntry | VerdictEntry) -> tuple[str, str]:
    """Returns (sweep, trial), by which a run is found; the verdict on a study has no trial."""
    return entry.identity if isinstance(entry, TrialEntry) else (entry.study, "")


def title_of(name: str, trial: str, study: str | None) -> str:
    """Returns a run's name; a seed's ends with its study's, since the seeds of other studies have the same names."""
    return f"{name or trial} {study}" if study else name or trial


def digest_of(entry: TrialEntry | VerdictEntry) -> str:
    """Returns a digest of an entry's content, without the time at which the ledger wrote it."""
    bare = msgspec.structs.replace(entry, time="", ledger_version=0)
    return hashlib.sha256(_LAYOUT + msgspec.json.encode(bare)).hexdigest()[:16]


def parameters_of(trial: Trial | TrialEntry, preset: str, workload: str) -> Point:
    """Returns what was searched, and what else was set otherwise than its preset has it; all else is in CONFIG."""
    is_gepa = workload == GEPA
    others = changed_fields(preset, trial.parameters, trial.config) if is_gepa else flat(trial.config)
    return {**others, **trial.parameters}


def word_of(entry: TrialEntry) -> str:
    """Returns how a trial ended in words."""
    fits = entry.size is None or not entry.size.over_bytes
    return "out of bounds" if entry.state == TrialState.INFEASIBLE and entry.violations and fits else entry.state.word


def origin_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags of MLflow's own that say who ran what, from those of `tune.records.provenance`."""
    named = {
        "mlflow.user": tags.get("user"),
        "mlflow.source.name": tags.get("source"),
        "mlflow.source.type": "LOCAL" if "source" in tags else None,
        "mlflow.source.git.commit": tags.get("git_commit", "").removesuffix("-dirty") or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def tags_of(entry: TrialEntry) -> dict[str, str]:
    """Returns the entry's own tags, those that people filter by, and the description."""
    named = {
        "reason": entry.reason,
        "failure": entry.failure and entry.failure.kind,
        "preset": entry.preset,
        "workload": entry.workload,
        "device": entry.device,
        "world_history": entry.world_history,
        "data": entry.data,
        "code": entry.code,
        "check": entry.check and brief(entry.check),
    }
    fixed = {"kind": TRIAL, "state": word_of(entry), "searched": ", ".join(entry.parameters)}
    given = {name: str(value) for name, value in named.items() if value is not None}
    own = {name: value for name, value in entry.tags.items() if name not in ("user", "source")}
    return {**own, **origin_of(entry.tags), **given, **fixed, NOTE: describe(entry)}


def describe(entry: TrialEntry) -> str:
    """Returns a trial's result in Markdown: the score or why there is none, the size, the checks, what was varied."""
    word = word_of(entry)
    result = f"**{word}**" + (f": {entry.reason}" if entry.reason and not entry.reason.startswith(word) else "")
    if entry.done:
        result = f"**{entry.score:.4f} {entry.unit}**, {word}"
    if entry.size is not None:
        result += f"; {describe_size(entry.size.artifact_bytes, entry.size.margin_bytes)}"
    rungs = [f"{rung.name} {rung.bpb:.4f}" for rung in entry.rungs]
    partial = [f"{score.name}{_first(score.fraction)} {score.bpb:.4f} ({score.rank})" for score in entry.screening]
    varied = [f"{name} = {text_of(value)}" for name, value in entry.parameters.items()]
    lines = [result]
    lines += [f"Ladder in BPB: {', '.join(rungs)}"] if rungs else []
    lines += [f"First chunks in BPB: {', '.join(partial)}"] if partial else []
    lines += [f"Checks: {brief(entry.check)}"] if entry.check else []
    lines += [f"Varied: `{', '.join(varied)}`"] if varied else []
    return BREAK.join(lines)


def _first(fraction: float | None) -> str:
    """Returns on how much of the stream a trial was screened, for the text."""
    return "" if fraction is None else f" {100 * fraction:.0f} %"


def metrics_of(entry: TrialEntry) -> dict[str, float]:
    """Returns the final numbers by MLflow's names."""
    values = {name: _field(entry, path) for name, path in METRICS.items()}
    values |= {} if entry.seconds else dict.fromkeys(("seconds/total", "seconds/computed"))
    for rung in entry.rungs:
        values |= {f"{SCORE}/{rung.name}": rung.bpb, f"{NATS}/{rung.name}": rung.nats_per_token}
    values |= {f"{PARTIAL}{rung}": bpb for rung, bpb in entry.first_scores.items()}
    values |= {f"seconds/{stage}": seconds for stage, seconds in entry.seconds.items()}
    others = {metric_name(name): value for name, value in entry.metrics.items()}
    values |= {name: value for name, value in others.items() if name not in values}
    return {name: float(value) for name, value in values.items() if value is not None}


def curves_of(entry: TrialEntry, series: Series) -> dict[str, list[list[float]]]:
    """Returns the trial's curves by MLflow's names, and its ladder as one: steps are positions of rungs from 0 on."""
    curves = {metric_name(name): curve.tolist() for name, curve in series.curves.items()}
    ladder = [[step, entry.ended, rung.bpb] for step, rung in enumerate(entry.rungs)]
    return {**curves, **({LADDER_CURVE: ladder} if ladder else {})}


def dataset_of(entry: TrialEntry) -> tuple[str, str, str] | None:
    """Returns (name, digest cut to MLflow's limit, source as JSON) of a trial's dataset; None when unknown."""
    if not entry.data:
        return None
    return entry.dataset or "dataset", entry.data[:_DIGEST_CHARACTERS], json.dumps({"sha256": entry.data})


def files_of(entry: TrialEntry, storage: Storage | None) -> tuple[list[Path], list[str]]:
    """Returns the files and logs of a trial that exist, and the names of missing files: the numbers are sent anyway.

    Args: entry: the trial's; storage: where the files are; None where nobody knows.
    """
    paths: dict[str, Path] = {}
    with contextlib.suppress(ValueError):  # a sweep or trial that no folder can be named after
        own = {} if storage is None else storage.files(entry)
        paths = {name: path for name, path in own.items() if path.is_file()}
        paths |= {} if storage is None else {path.name: path for path in storage.logs(entry)}
    return list(dict.fromkeys(paths.values())), [name for name in entry.files if name not in paths]


def results_of(values: Mapping[str, float], curves: Curves, ended: float) -> list[tuple[str, float, int, int]]:
    """Returns a trial's final numbers as (key, value, milliseconds, step).

    Each has the last step of the curve of its name, 0 without one. They have the entry's own times: MLflow keeps one of
    equal points, however often they are sent.
    """
    metrics = []
    for name, value in values.items():
        step, _, last = max(map(tuple, curves.get(name) or ()), default=(0, 0.0, None))
        if math.isfinite(value) and value != last:
            metrics.append((key_of(name), float(value), milliseconds(ended), int(step)))
    return metrics


def config_text(config: Config) -> str:
    """Returns a configuration as the text of CONFIG."""
    return redact(json.dumps(config, indent=2))


def text_of(value: Any) -> str:
    """Returns a parameter's value as text."""
    return (value if isinstance(value, str) else json.dumps(value))[:VALUE_CHARACTERS]


def milliseconds(unix_seconds: float) -> int:
    """Returns a time in MLflow's unit."""
    return round(unix_seconds * 1000)


def describe_size(num_bytes: int, margin_bytes: int) -> str:
    """Returns an artifact's bytes in words, and how far from the cap they are."""
    return f"{num_bytes:,} bytes, {abs(margin_bytes):,} {'below' if margin_bytes >= 0 else 'over'} the cap"


def _field(record: Any, path: str) -> float | None:
    """Returns the value at a dotted path; None where a record on the way is None."""
    for name in path.split("."):
        record = None if record is None else getattr(record, name)
    value: float | None = record
    return value
