"""What came out of a run's stages, to JSON and back.

One result per stage, each with the digest of what it was computed from: a result is used again only for
exactly the same configuration, data and earlier results. Numbers only; weights and artifacts are files.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from golf.runtime.files import read_json, write_json

LIVE, AVERAGED, QUANTISED, SLIDING, TTT = "live", "ema", "quantised", "sliding", "ttt"
LADDER = (LIVE, AVERAGED, QUANTISED, SLIDING, TTT)
"""The rungs every run reports, each measured from the stage before it."""
TENSORS = ".safetensors"
STATE = f"state{TENSORS}"
"""The file of a training's state."""
WEIGHTS = {LIVE: f"live{TENSORS}", AVERAGED: f"average{TENSORS}"}
"""Files of the rungs that are not measured from the artifact."""
BEGUN = "-begun"
"""Behind the name of a rung: what it has scored so far. Without it "live" would be written over the live weights."""
SCREEN = "-screen"
"""Behind the name of a rung: of the first chunks only."""


@dataclasses.dataclass(frozen=True)
class Rung:
    """One rung of the ladder."""

    name: str
    """One of LADDER."""
    bpb: float
    """Bits per byte over the whole validation stream."""
    nats_per_token: float
    """Mean negative log-likelihood."""
    seconds: float
    """Wall-clock seconds of scoring it."""
    chunks: list[tuple[float, int, int]]
    """(NLL in nats, tokens, bytes) of every chunk of the stream, in order."""


def digest(*parts: Any) -> str:
    """SHA-256 of JSON values in canonical form; a value without one raises TypeError or ValueError."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_result(path: Path, identity: str, result: dict[str, Any]) -> dict[str, Any]:
    """Write a stage's `result` whole, marked with the digest of what it was computed from; return it."""
    write_json(path, {"identity": identity, "result": result})
    return result


def read_result(path: Path, identity: str) -> dict[str, Any] | None:
    """The stage's result if it was computed from exactly `identity`, else None."""
    if not path.exists():
        return None
    stored = read_json(path)
    same = isinstance(stored, dict) and stored.get("identity") == identity
    return stored["result"] if same and isinstance(stored.get("result"), dict) else None
