"""A trial's ledger entry as the values of an MLflow run: parameters, tags, metrics, curves, description, dataset.

Nothing is sent here; what a workload does not have, such as a ladder or an artifact, is left out.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from golf.compliance.points import brief
from tune.records.entries import Series, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.records.text import flat
from tune.search.space import Point, Trial

Curves = Mapping[str, Iterable[Sequence[float]]]
"""Curves by name, each of (step, unix seconds, value) points."""
LADDER_CURVE = "ladder_bpb"
"""Metric with one step for each rung of the ladder from below, so that MLflow draws it as a line."""
MARGIN = "margin_bytes"
POINTS_FAILED = "points_failed"
METRICS = {
    "bpb": "bpb",  # first: MLflow's pages begin with the metric that a run got first
    "nats_per_token": "nats_per_token",
    "artifact_bytes": "size.artifact_bytes",
    "model_bytes": "size.model_bytes",
    "code_bytes": "size.code_bytes",
    MARGIN: "size.margin_bytes",
    POINTS_FAILED: "check.failed",
    "train_tokens": "train_tokens",
    "seconds": "total_seconds",
    "computed_seconds": "computed_seconds",
    "checkpoint_saves": "checkpoints.saves",
    "checkpoint_save_seconds": "checkpoints.save_seconds",
}
"""MLflow's metric -> field of an entry. What the names of rungs and stages belong to is in `metrics_of`."""
NOTE = "mlflow.note.content"
"""Tag that MLflow shows as a description, in Markdown."""
BREAK = "  \n"
"""A new line in Markdown, closer than a paragraph."""
TRIAL, STUDY = "trial", "study"
"""Kinds of runs, in the tag `kind`."""
CURVES = "curves"
"""The series file, among the names of an entry's files."""
VALUE_CHARACTERS = 6000
"""MLflow's limit for one value."""
_NAME_CHARACTERS = 250
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
    return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()[:16]


def parameters_of(trial: Trial | TrialEntry) -> Point:
    """Returns the whole configuration with dotted names, and what was searched."""
    return {**flat(trial.config), **trial.parameters}


def tags_of(entry: TrialEntry) -> dict[str, str]:
    """Returns the entry's own tags, those that people filter by, and the description."""
    named = {
        "state": entry.state,
        "reason": entry.reason,
        "failure": entry.failure and entry.failure.kind,
        "preset": entry.preset,
        "workload": entry.workload,
        "device": entry.device,
        "world_history": entry.world_history,
        "data": entry.data,
        "code": entry.code,
        "check": entry.check and brief(entry.check),
        "mlflow.source.git.commit": entry.tags.get("git_commit"),
    }
    feasible = "true" if entry.state in (TrialState.DONE, TrialState.SCREENED) else "false"
    fixed = {"kind": TRIAL, "feasible": feasible, "searched": ", ".join(entry.parameters)}
    given = {name: str(value) for name, value in named.items() if value is not None}
    return {**entry.tags, **given, **fixed, NOTE: describe(entry)}


def describe(entry: TrialEntry) -> str:
    """Returns a trial's result in Markdown: the score or why there is none, the size, the checks, what was varied."""
    result = f"**{entry.state}**" + (f": {entry.reason}" if entry.reason else "")
    if entry.done:
        result = f"**{entry.score:.4f} {entry.unit}**, {entry.state}"
    if entry.size is not None:
        result += f"; {describe_size(entry.size.artifact_bytes, entry.size.margin_bytes)}"
    rungs = [f"{rung.name} {rung.bpb:.4f}" for rung in entry.rungs]
    varied = [f"{name} = {text_of(value)}" for name, value in entry.parameters.items()]
    lines = [result]
    lines += [f"Ladder in BPB: {', '.join(rungs)}"] if rungs else []
    lines += [f"Checks: {brief(entry.check)}"] if entry.check else []
    lines += [f"Varied: `{', '.join(varied)}`"] if varied else []
    return BREAK.join(lines)


def metrics_of(entry: TrialEntry) -> dict[str, float]:
    """Returns the final numbers by MLflow's names."""
    values = {name: _field(entry, path) for name, path in METRICS.items()}
    values |= {} if entry.seconds else dict.fromkeys(("seconds", "computed_seconds"))
    values |= {f"bpb_{rung.name}": rung.bpb for rung in entry.rungs}
    values |= {f"screening_bpb_{score.name}": score.bpb for score in entry.screening}
    values |= {f"{stage}_seconds": seconds for stage, seconds in entry.seconds.items()}
    values |= {name: value for name, value in entry.metrics.items() if name not in values}
    return {name: float(value) for name, value in values.items() if value is not None}


def curves_of(entry: TrialEntry, series: Series) -> dict[str, list[list[float]]]:
    """Returns the trial's curves, and its ladder as one: steps are positions of rungs from 0 on."""
    curves = {name: curve.tolist() for name, curve in series.curves.items()}
    ladder = [[step, entry.ended, rung.bpb] for step, rung in enumerate(entry.rungs)]
    return {**curves, **({LADDER_CURVE: ladder} if ladder else {})}


def dataset_of(entry: TrialEntry) -> tuple[str, str, str] | None:
    """Returns (name, digest cut to MLflow's limit, source as JSON) of a trial's dataset; None when unknown."""
    if not entry.data:
        return None
    return entry.dataset or "dataset", entry.data[:_DIGEST_CHARACTERS], json.dumps({"sha256": entry.data})


def files_of(entry: TrialEntry, storage: Storage | None) -> tuple[list[Path], list[str]]:
    """Returns the files of a trial that exist, and the names of the others: those do not keep the numbers away.

    Args: entry: the trial's; storage: where the files are; None where nobody knows.
    """
    paths: dict[str, Path] = {}
    with contextlib.suppress(ValueError):  # a sweep or trial that no folder can be named after
        own = {} if storage is None else storage.files(entry)
        paths = {name: path for name, path in own.items() if path.is_file()}
    return list(paths.values()), [name for name in entry.files if name not in paths]


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


def key_of(name: str) -> str:
    """Returns `name` with only the characters that MLflow takes in a key."""
    return re.sub(r"[^\w.\- :/]", "_", name, flags=re.ASCII)[:_NAME_CHARACTERS]


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
