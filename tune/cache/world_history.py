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
Turns = Sequence[Sequence[int]]
"""[ranks, first step or chunk] of each turn, in order."""


def turns_of(folder: Path, name: str) -> Turns:
    """Who computed the result `name`; nothing where one process did."""
    return _read(folder).get(_part(name), [])


def keep_turns(folder: Path, name: str, turns: Turns) -> None:
    """Note who computed a result that came from elsewhere."""
    if turns or turns_of(folder, name):
        write_json(folder / RANKS, {**_read(folder), _part(name): turns})


def begin_turn(folder: Path, name: str, ranks: int, at: int) -> None:
    """Note that `ranks` ranks go on with a result from step or chunk `at`: what ran beyond it is lost."""
    before = [turn for turn in turns_of(folder, name) if turn[1] < at]
    keep_turns(folder, name, before if before and before[-1][0] == ranks else [*before, [ranks, at]])


def ranks_said(folder: Path, asked: int) -> str | None:
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


def _read(folder: Path) -> Mapping[str, Turns]:
    path = folder / RANKS
    noted: Mapping[str, Turns] = read_json(path) if path.exists() else {}
    return noted
