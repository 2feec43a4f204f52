"""Where a training goes on from: the furthest state that any trial of the sweep has of it.

The trial's folder, the folder of a stored prefix and the training's identity enter; afterwards the furthest state is in
the trial's folder, or none where the prefix is as far. So the right to train may pass to another trial when the
process that had it dies, and its work is not lost. Only what the same code and machines made is taken, and what says
that it is a state of this training; the files are linked, not moved: their owner may still live. Reads headers only.
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
"""What the state after so many steps is the state of."""


def steps_of(folder: Path, identity_at: Identity) -> int | None:
    """Steps behind the state in `folder`, None without one of this training."""
    try:
        plain = read_plain(folder / STATE)
        step = int(plain["step"])
        same = plain["identity"] == json.loads(json.dumps(identity_at(step)))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return step if same and (folder / CURVES_FILE).exists() else None


def alike(mark: Path) -> list[Path]:
    """Folders of other trials that the same code and machines filled: a `mark` of equal text is in each."""
    mine, marks = mark.read_bytes(), sorted(mark.parent.parent.glob(f"*/{mark.name}"))
    return [other.parent for other in marks if other != mark and other.read_bytes() == mine]


def link_latest_checkpoint(
    folder: Path, others: Iterable[Path], start: Path | None, keep: Mapping[int, Path], identity_at: Identity
) -> None:
    """Have the furthest state of this training in `folder`, or none where `start` has it.

    Args: others: folders of other trials; start: of a stored prefix; keep: steps -> folders for the states that this
        training is to keep on its way: a state beyond one that cannot be had is no use.
    """
    begun = 0 if start is None else steps_of(start, identity_at) or 0
    best, owner, furthest = folder, folder, 0
    for other in (folder, *others):
        for place in (other, *(other / kept.name for kept in keep.values())):
            steps = steps_of(place, identity_at) or 0
            wanted = (other / kept.name / STATE for at, kept in keep.items() if begun < at <= steps)
            if steps > furthest and all(path.exists() for path in wanted):
                best, owner, furthest = place, other, steps
    if furthest <= begun:
        (folder / STATE).unlink(missing_ok=True)
    elif best != folder:
        with contextlib.suppress(FileNotFoundError):  # its owner went on meanwhile
            for at, kept in keep.items():
                if owner != folder and begun < at <= furthest:
                    _link(owner / kept.name, kept)
            _link(best, folder)
            write_world_history(folder, TRAINING, read_world_history(owner, TRAINING))


def _link(source: Path, target: Path) -> None:
    """Give a state and its curves a second place, where, as at the first, the curves are never older than the state."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (STATE, CURVES_FILE):
        part = target / f".{name}.tmp"
        part.unlink(missing_ok=True)
        os.link(source / name, part)
    for name in (CURVES_FILE, STATE):
        os.replace(target / f".{name}.tmp", target / name)
