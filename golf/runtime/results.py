"""Results of a run's stages as typed records, and the JSON files that hold them.

Each file holds one result and the digest of what it was computed from: a result is used again only for exactly the same
configuration, data and earlier results. Weights and artifacts are separate files.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from golf.config.config import from_plain, to_plain
from golf.runtime.files import read_json, write_json

LIVE, AVERAGED, QUANTISED, SLIDING, TTT = "live", "ema", "quantised", "sliding", "ttt"
LADDER = (LIVE, AVERAGED, QUANTISED, SLIDING, TTT)
"""The rungs of a run, each measured after one more stage."""
TENSORS = ".safetensors"
STATE = f"state{TENSORS}"
"""The file of a training state."""
WEIGHTS = {LIVE: f"live{TENSORS}", AVERAGED: f"average{TENSORS}"}
"""Files of the rungs that are not measured from the artifact."""
BEGUN = "-begun"
"""Suffix to a rung's name for its saved chunks. Without it, those of "live" would overwrite the live weights."""
SCREEN = "-screen"
"""Suffix to a rung's name and a number of chunks for the result of its first chunks."""
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointCost:
    """What saving the state of a stage cost."""

    saves: int = 0
    """Number of saves."""
    save_seconds: float | None = None
    """Mean seconds of one save; None without any."""
    save_interval_seconds: float | None = None
    """Seconds of work between two saves; None without any."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training."""

    seconds: float
    """Wall-clock seconds, including those before an interruption."""
    steps: int
    """Optimiser steps."""
    tokens: int
    """Training tokens consumed."""
    device: str
    """Number and name of the devices, such as "8 x NVIDIA H100"."""
    log: tuple[str, ...]
    """Lines of the training's log."""
    checkpoints: CheckpointCost = CheckpointCost()
    """What saving the state cost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedModel:
    """A packed model, as pack.json holds it."""

    model_bytes: int
    """Size of the artifact's file."""
    seconds: float
    """Wall-clock seconds of calibrating, quantising and coding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackResult:
    """A packed model together with the code that counts against the cap."""

    model_bytes: int
    """Size of the artifact's file."""
    seconds: float
    """Wall-clock seconds of calibrating, quantising and coding."""
    code_bytes: int
    """Size of the counted code."""
    code_sha256: str
    """SHA-256 of the counted code."""
    cap_bytes: int
    """Largest allowed sum of both."""

    @property
    def artifact_bytes(self) -> int:
        """Model and code together."""
        return self.model_bytes + self.code_bytes

    @property
    def over_bytes(self) -> int:
        """Bytes above the cap; 0 where it fits."""
        return max(0, self.artifact_bytes - self.cap_bytes)

    @property
    def fits(self) -> bool:
        """Whether model and code are at or below the cap."""
        return self.over_bytes == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RungResult:
    """One rung of the ladder."""

    name: str
    """One of LADDER."""
    bpb: float
    """Bits per byte over the whole validation stream."""
    nats_per_token: float
    """Mean negative log-likelihood."""
    seconds: float
    """Wall-clock seconds of scoring it, `seconds_before` included."""
    seconds_before: float = 0.0
    """Those seconds that the result of its first chunks reports already."""
    chunks: tuple[tuple[float, int, int], ...]
    """(NLL in nats, tokens, bytes) of every chunk of the stream, in order."""
    chunk_times: tuple[float, ...] = ()
    """Unix seconds at which each chunk was scored."""
    checkpoints: CheckpointCost = CheckpointCost()
    """What saving the scored chunks cost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResults:
    """Results of all stages of a run."""

    train: TrainResult
    pack: PackResult
    ladder: tuple[RungResult, ...]
    """From the live weights up; empty where nothing was evaluated."""


def digest(*parts: Any) -> str:
    """Returns the SHA-256 of JSON values in canonical form; a value without one raises TypeError or ValueError."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_result(path: Path, identity: str, result: R) -> R:
    """Writes a stage's `result` whole, with the digest of what it was computed from; returns it."""
    write_json(path, {"identity": identity, "result": to_plain(result)})
    return result


def read_result(path: Path, kind: type[R], identity: str | None = None) -> R | None:
    """Returns the result of a stage, or None where there is no file, or one of another identity or form.

    Args:
        path: its file.
        kind: its class.
        identity: digest of what it must have been computed from; None takes any.
    """
    if not path.exists():
        return None
    stored = read_json(path)
    if not isinstance(stored, dict) or (identity is not None and stored.get("identity") != identity):
        return None
    try:
        return from_plain(kind, stored["result"])
    except (KeyError, TypeError, ValueError):
        return None
