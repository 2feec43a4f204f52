"""On how many ranks the results in a trial's folder were computed, where a lost node changed it on the way.

Turns enter, as stages begin and results are fetched; a text for the record leaves. Who asked for how many is in the key
of a result; this is what ran. Only turns whose work is part of the result are kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from golf.runtime.files import read_json, write_json

RANKS = "ranks.json"
"""The file in the trial's folder."""
TRAINING = "train"
"""The name of all that one training gives, its states on the way too."""
WorldHistory = Sequence[Sequence[int]]
"""[ranks, first step or chunk] of each turn, in order."""


def read_world_history(folder: Path, name: str) -> WorldHistory:
    """Who computed the result `name`; nothing where one process did."""
    return _read(folder).get(_part(name), [])


def write_world_history(folder: Path, name: str, turns: WorldHistory) -> None:
    """Note who computed a result that came from elsewhere."""
    if turns or read_world_history(folder, name):
        write_json(folder / RANKS, {**_read(folder), _part(name): turns})


def record_world(folder: Path, name: str, ranks: int, at: int) -> None:
    """Note that `ranks` ranks go on with a result from step or chunk `at`: what ran beyond it is lost."""
    before = [turn for turn in read_world_history(folder, name) if turn[1] < at]
    write_world_history(folder, name, before if before and before[-1][0] == ranks else [*before, [ranks, at]])


def describe_world_history(folder: Path, asked: int) -> str | None:
    """Who computed what is in the folder, as in "8, 4 from step 120; ttt: 4"; None when all of it ran as asked."""
    said = []
    for name, turns in _read(folder).items():
        if any(ranks != asked for ranks, _ in turns):
            unit = "step" if name == TRAINING else "chunk"
            (first, _), *others = turns
            text = ", ".join([str(first), *(f"{ranks} from {unit} {at}" for ranks, at in others)])
            said.append(text if name == TRAINING else f"{name}: {text}")
    return "; ".join(said) or None


def _part(name: str) -> str:
    """The states on a training's way are its own."""
    return TRAINING if name.startswith("prefix-") else name


def _read(folder: Path) -> Mapping[str, WorldHistory]:
    path = folder / RANKS
    noted: Mapping[str, WorldHistory] = read_json(path) if path.exists() else {}
    return noted
