"""On how many ranks the outputs in a trial's directory were computed, where a lost node changed it on the way.

How many ranks were asked for is in the key of an output; what ran is in its record, as a history of turns. Only turns
whose work is part of the output are kept.
"""

from pathlib import Path

import msgspec

from golf.runtime.files import write_bytes

RANKS = "ranks.json"
"""The file in the trial's directory."""
TRAINING = "train"
"""The name of all outputs of one training, its states on the way included."""


class WorldTurn(msgspec.Struct, frozen=True, array_like=True):
    """A part of the work that was done by the same number of ranks."""

    ranks: int
    first: int
    """First step or chunk."""


WorldHistory = tuple[WorldTurn, ...]
"""The turns in order; none where one process did all of it."""
_DECODER = msgspec.json.Decoder(dict[str, WorldHistory])


def read_world_history(directory: Path, name: str) -> WorldHistory:
    """Returns the history of the output `name`."""
    return _read(directory).get(_group(name), ())


def write_world_history(directory: Path, name: str, turns: WorldHistory) -> None:
    """Writes the history of an output, such as one that was computed elsewhere."""
    if turns or read_world_history(directory, name):
        write_bytes(directory / RANKS, msgspec.json.encode({**_read(directory), _group(name): turns}))


def record_world(directory: Path, name: str, ranks: int, at: int) -> None:
    """Records that `ranks` ranks go on with an output from step or chunk `at`: what ran beyond it is lost."""
    before = tuple(turn for turn in read_world_history(directory, name) if turn.first < at)
    same = bool(before) and before[-1].ranks == ranks
    write_world_history(directory, name, before if same else (*before, WorldTurn(ranks, at)))


def describe_world_history(directory: Path, asked: int) -> str | None:
    """Returns what ran, as in "8, 4 from step 120; ttt: 4"; None when all of it ran on as many ranks as asked for."""
    texts = []
    for name, turns in _read(directory).items():
        if any(turn.ranks != asked for turn in turns):
            unit = "step" if name == TRAINING else "chunk"
            first, *others = turns
            text = ", ".join([str(first.ranks), *(f"{turn.ranks} from {unit} {turn.first}" for turn in others)])
            texts.append(text if name == TRAINING else f"{name}: {text}")
    return "; ".join(texts) or None


def _group(name: str) -> str:
    """Returns the name under which an output's history is kept: the states of a training share its own."""
    return TRAINING if name.startswith("prefix-") else name


def _read(directory: Path) -> dict[str, WorldHistory]:
    path = directory / RANKS
    try:
        return _DECODER.decode(path.read_bytes()) if path.exists() else {}
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}; delete it, only the tag of what ran is lost") from error
