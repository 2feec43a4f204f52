"""A ledger entry as the values of an MLflow run: parameters, tags, metrics, files.

Entries enter, plain values leave; pure but for a look at which files are there. Knows MLflow's limits, not MLflow.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune.ledger import STAMPS, canonical

Points = Mapping[str, Iterable[Sequence[float]]]
"""Curves by name, each of [step, unix seconds, value] points."""
VALUE_CHARACTERS = 6000
"""MLflow's limit for one value."""
_NAME_CHARACTERS = 250


def identity_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(sweep, trial): what a run is found by."""
    return str(entry.get("sweep", "")), str(entry.get("trial", ""))


def digest_of(entry: Mapping[str, Any]) -> str:
    """Names an entry's content, the same before and after it went through the ledger."""
    bare = {name: value for name, value in entry.items() if name not in STAMPS}
    return hashlib.sha256(canonical(bare)).hexdigest()[:16]


def tags_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """The entry's own tags and those that people filter by."""
    tags = {name: str(value) for name, value in (entry.get("tags") or {}).items()}
    for name in ("status", "preset", "key", "cause"):
        if entry.get(name) is not None:
            tags[name] = str(entry[name])
    tags["feasible"] = "true" if entry.get("status") in ("done", "screened") else "false"
    if "git_commit" in tags:
        tags["mlflow.source.git.commit"] = tags["git_commit"]
    if entry.get("cause"):
        tags["mlflow.note.content"] = f"{entry['status']}: {entry['cause']}"
    missing = [name for name, path in (entry.get("files") or {}).items() if not Path(path).is_file()]
    return {**tags, "files_missing": ", ".join(missing)} if missing else tags


def files_of(entry: Mapping[str, Any]) -> list[Path]:
    """The entry's files that are there; one that is gone must not keep the numbers away."""
    return [path for path in map(Path, (entry.get("files") or {}).values()) if path.is_file()]


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


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return fields


def key_of(name: str) -> str:
    """`name` with only the letters that MLflow takes in a key."""
    return re.sub(r"[^\w.\- :/]", "_", name, flags=re.ASCII)[:_NAME_CHARACTERS]


def text_of(value: Any) -> str:
    """A parameter's value as text."""
    return (value if isinstance(value, str) else json.dumps(value))[:VALUE_CHARACTERS]


def milliseconds(unix_seconds: float) -> int:
    """MLflow's time."""
    return round(unix_seconds * 1000)
