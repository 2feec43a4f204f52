"""The latest state that any trial of a sweep has of a training, linked into the directory of the trial that continues.

So the right to train may pass to another trial when the process that had it dies, and its work is not lost. Only states
of the same code and machines are taken. Files are linked, not moved: their owner may still live.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from golf.runtime.results import STATE
from golf.runtime.tensors import read_plain
from golf.train.train_log import CURVES_FILE
from tune.cache.world_history import TRAINING, read_world_history, write_world_history

Identity = Callable[[int], dict[str, Any]]
"""Steps -> identity of the state after them."""


def steps_of(directory: Path, identity_at: Identity) -> int | None:
    """Returns the steps behind the state in `directory`; None without one of this training."""
    try:
        plain = read_plain(directory / STATE)
        step = int(plain["step"])
        same = plain["identity"] == json.loads(json.dumps(identity_at(step)))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return step if same and (directory / CURVES_FILE).exists() else None


def directories_alike(mark: Path) -> list[Path]:
    """Returns directories of other trials that the same code and machines filled: the file `mark` is equal there."""
    own, marks = mark.read_bytes(), sorted(mark.parent.parent.glob(f"*/{mark.name}"))
    return [other.parent for other in marks if other != mark and other.read_bytes() == own]


def link_latest_checkpoint(
    directory: Path, others: Iterable[Path], start: Path | None, keep: Mapping[int, Path], identity_at: Identity
) -> None:
    """Links the latest state of this training into `directory`, or removes the one there where `start` is as far.

    Args:
        directory: the trial's.
        others: directories of other trials.
        start: a stored prefix's, None without one.
        keep: steps -> directories for the states that this training keeps on its way: a state beyond one that cannot
            be had is no use.
        identity_at: identity of the state after so many steps.
    """
    begun = 0 if start is None else steps_of(start, identity_at) or 0
    latest, owner, furthest = directory, directory, 0
    for other in (directory, *others):
        for source in (other, *(other / target.name for target in keep.values())):
            steps = steps_of(source, identity_at) or 0
            passed = (other / target.name / STATE for at, target in keep.items() if begun < at <= steps)
            if steps > furthest and all(path.exists() for path in passed):
                latest, owner, furthest = source, other, steps
    if furthest <= begun:
        (directory / STATE).unlink(missing_ok=True)
    elif latest != directory:
        with contextlib.suppress(FileNotFoundError):  # its owner went on meanwhile
            for at, target in keep.items():
                if owner != directory and begun < at <= furthest:
                    _link(owner / target.name, target)
            _link(latest, directory)
            write_world_history(directory, TRAINING, read_world_history(owner, TRAINING))


def _link(source: Path, target: Path) -> None:
    """Links a state and its curves to a second directory, where the curves are never older than the state either."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (STATE, CURVES_FILE):
        part = target / f".{name}.tmp"
        part.unlink(missing_ok=True)
        os.link(source / name, part)
    for name in (CURVES_FILE, STATE):
        os.replace(target / f".{name}.tmp", target / name)
