"""Which results each field of a configuration reaches: the one table from which every identity is derived.

A result is determined by the fields that reach its stage, by the results that the stage reads, and by the data. A new
field of `RunConfig` is entered here, and every question of the form "is this the same computation?" has its answer.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Literal

from golf.config.config import RunConfig, to_plain

Stage = Literal["train", "validate", "pack", "score", "ttt"]
"""Steps of a run that read the configuration. "validate": the validation curve during training, which changes no
weight; "score": every rung of the ladder below "ttt"."""
FIELD_STAGES: Mapping[str, tuple[Stage, ...]] = {
    "model": ("train",),
    "batch": ("train",),
    "schedule": ("train",),  # through the plan's rows: see `golf.config.schedule`
    "optimizer": ("train",),
    "seed": ("train",),
    "compile": ("train", "score", "ttt"),
    "validate_every": ("validate",),
    "quant": ("pack",),
    "score": ("validate", "score", "ttt"),
    "ttt": ("ttt",),
    "cap_bytes": (),  # a limit on results, not part of any
}
"""Field of `RunConfig` -> the stages whose own computation it changes; what those stages feed follows from that."""
SEED = "seed"
"""The field in which the runs of one seed study differ."""
_VALIDATION_WINDOWS = ("sequence_length", "batch_windows", "chunk_tokens")
"""Fields of `ScoreConfig` that plain windows use."""
assert FIELD_STAGES.keys() == {field.name for field in fields(RunConfig)}


def stage_arguments(config: RunConfig, stage: Stage) -> dict[str, Any]:
    """Fields that a stage itself reads, as JSON values; the schedule, which acts by its rows alone, is left out.

    What the stage's inputs depend on is not repeated: their identities stand beside these in an identity of a result.
    """
    plain = _plain(config)
    if stage == "validate":
        if config.validate_every is None:
            return {"validate_every": None}
        windows = {name: plain["score"][name] for name in _VALIDATION_WINDOWS}
        return {"validate_every": config.validate_every, "windows": windows}
    return {name: plain[name] for name, stages in FIELD_STAGES.items() if stage in stages and name != "schedule"}


@lru_cache(maxsize=64)  # the stages of one trial are asked for one after the other
def _plain(config: RunConfig) -> Mapping[str, Any]:
    return to_plain(config)


def without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's JSON values but the seed: equal for the runs of one seed study."""
    return {name: value for name, value in config.items() if name != SEED}
