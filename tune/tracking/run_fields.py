"""A trial's ledger entry as the values of an MLflow run: parameters, tags, metrics, description, dataset, files.

Entries enter, plain values leave; pure but for a look at which files are there. Knows MLflow's limits, not MLflow.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golf.compliance.points import brief
from golf.runtime.results import LADDER
from tune.records.layout import Storage
from tune.records.ledger import STAMPS, canonical
from tune.records.text import flat

Points = Mapping[str, Iterable[Sequence[float]]]
"""Curves by name, each of [step, unix seconds, value] points."""
LADDER_CURVE = "ladder_bpb"
"""Metric with one step a rung, in the order of the ladder, so that MLflow draws it as a line."""
MARGIN = "margin_bytes"
"""Metric: bytes left below the cap; negative above it."""
POINTS_FAILED = "points_failed"
"""Metric: points of the rules on which the run failed."""
NOTE = "mlflow.note.content"
"""Tag that MLflow shows as a description, in Markdown."""
BREAK = "  \n"
"""A new line in Markdown, closer than a paragraph."""
VALUE_CHARACTERS = 6000
"""MLflow's limit for one value."""
_NAME_CHARACTERS = 250
_DIGEST_CHARACTERS = 36
"""MLflow's limit for a dataset's digest."""
_FACTS = ("status", "preset", "key", "cause", "data", "code")
"""Fields that people filter by."""


def identity_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(sweep, trial): what a run is found by; the verdict of a study has no trial."""
    return str(entry.get("sweep") or entry.get("study") or ""), str(entry.get("trial") or "")


def title_of(name: str | None, trial: str, study: str | None) -> str:
    """A trial's run's name; a seed's ends with its study's, since the seeds of other studies are called alike."""
    return f"{name or trial} {study}" if study else name or trial


def digest_of(entry: Mapping[str, Any]) -> str:
    """Names an entry's content, the same before and after it went through the ledger."""
    bare = {name: value for name, value in entry.items() if name not in STAMPS}
    return hashlib.sha256(canonical(bare)).hexdigest()[:16]


def parameters_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration with dotted names, and what was searched."""
    return {**flat(entry.get("config") or {}), **(entry.get("parameters") or {})}


def tags_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """The entry's own tags, those that people filter by, and the description."""
    tags = {name: str(value) for name, value in (entry.get("tags") or {}).items()}
    tags |= {name: str(entry[name]) for name in _FACTS if entry.get(name) is not None}
    tags["kind"] = "trial"
    tags["feasible"] = "true" if entry.get("status") in ("done", "screened") else "false"
    tags["searched"] = ", ".join(entry.get("parameters") or {})
    if entry.get("check"):
        tags["check"] = brief(entry["check"])
    if "git_commit" in tags:
        tags["mlflow.source.git.commit"] = tags["git_commit"]
    tags[NOTE] = description_of(entry)
    return tags


def description_of(entry: Mapping[str, Any]) -> str:
    """What came out, in Markdown: the score or why there is none, the room, the checks, what was varied."""
    metrics, status = entry.get("metrics") or {}, str(entry.get("status"))
    outcome = f"**{status}**" + (f": {entry['cause']}" if entry.get("cause") else "")
    if "bpb" in metrics:
        outcome = f"**{metrics['bpb']:.4f} BPB**, {status}"
    size = room_of(metrics["artifact_bytes"], margin_of(entry)) if "artifact_bytes" in metrics else ""
    rungs = [f"{rung} {metrics[f'bpb_{rung}']:.4f}" for rung in LADDER if f"bpb_{rung}" in metrics]
    varied = [f"{name} = {text_of(value)}" for name, value in (entry.get("parameters") or {}).items()]
    lines = [outcome + (f"; {size}" if size else "")]
    lines += [f"Ladder in BPB: {', '.join(rungs)}"] if rungs else []
    lines += [f"Checks: {brief(entry['check'])}"] if entry.get("check") else []
    lines += [f"Varied: `{', '.join(varied)}`"] if varied else []
    return BREAK.join(lines)


def margin_of(entry: Mapping[str, Any]) -> int | None:
    """Bytes between the artifact and the cap; None where either is unknown."""
    size, cap = (entry.get("metrics") or {}).get("artifact_bytes"), (entry.get("config") or {}).get("cap_bytes")
    return None if size is None or cap is None else int(cap - size)


def curves_of(entry: Mapping[str, Any]) -> dict[str, Sequence[Sequence[float]]]:
    """The entry's curves, and its ladder as one: the rung's place from 0 on is the step."""
    metrics, ended = entry.get("metrics") or {}, float(entry.get("ended") or 0.0)
    rungs = [(step, metrics.get(f"bpb_{rung}")) for step, rung in enumerate(LADDER)]
    ladder = [[step, ended, value] for step, value in rungs if value is not None]
    return {**(entry.get("curves") or {}), **({LADDER_CURVE: ladder} if ladder else {})}


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The final figures, the score first: MLflow's pages begin with the metric that a run got first."""
    metrics, margin = entry.get("metrics") or {}, margin_of(entry)
    score = {name: metrics[name] for name in ("bpb",) if name in metrics}
    checked = {POINTS_FAILED: entry["check"]["failed"]} if entry.get("check") else {}
    return {**score, **metrics, **({} if margin is None else {MARGIN: margin}), **checked}


def dataset_of(entry: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(name, digest as far as MLflow takes it, source as JSON) of what the trial read; None when unknown."""
    if not entry.get("data"):
        return None
    digest = str(entry["data"])
    return str(entry.get("dataset") or "dataset"), digest[:_DIGEST_CHARACTERS], json.dumps({"sha256": digest})


def files_of(entry: Mapping[str, Any], storage: Storage | None) -> tuple[list[Path], list[str]]:
    """The entry's files that are there, and the names of the others; one that is gone must not keep the numbers away.

    Args: storage: where the entry's trial left them; None: nobody knows.
    """
    named = {name: Path(str(path)) for name, path in (entry.get("files") or {}).items()}
    # Entries of older versions name absolute paths.
    found = {name: path for name, path in named.items() if path.is_absolute()}
    with contextlib.suppress(ValueError):  # a sweep or trial that no folder can be named after
        own = {} if storage is None else storage.files(entry)
        found |= {name: path for name, path in own.items() if path.is_file()}
    there = {name: path for name, path in found.items() if path.is_file()}
    return list(there.values()), [name for name in named if name not in there]


def results_of(values: Mapping[str, Any], curves: Points, ended: float) -> list[tuple[str, float, int, int]]:
    """The trial's final figures: (key, value, milliseconds, step).

    Each stands at the last step of the curve of that name, at 0 without one. They carry the entry's own times: MLflow
    keeps one of equal points, however often they are sent.
    """
    metrics = []
    for name, value in values.items():
        step, _, last = max(map(tuple, curves.get(name) or ()), default=(0, 0.0, None))
        if isinstance(value, (int, float)) and math.isfinite(value) and value != last:
            metrics.append((key_of(name), float(value), milliseconds(ended), int(step)))
    return metrics


def key_of(name: str) -> str:
    """`name` with only the letters that MLflow takes in a key."""
    return re.sub(r"[^\w.\- :/]", "_", name, flags=re.ASCII)[:_NAME_CHARACTERS]


def text_of(value: Any) -> str:
    """A parameter's value as text."""
    return (value if isinstance(value, str) else json.dumps(value))[:VALUE_CHARACTERS]


def milliseconds(unix_seconds: float) -> int:
    """MLflow's time."""
    return round(unix_seconds * 1000)


def room_of(size: float, margin: float | None) -> str:
    """An artifact's bytes in words, and how far from the cap they are."""
    words = f"{int(size):,} bytes"
    return words if margin is None else f"{words}, {abs(int(margin)):,} {'below' if margin >= 0 else 'over'} the cap"
