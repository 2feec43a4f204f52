"""The stages of one trial as results that a store can share: their keys, what they read, their files.

A configuration enters, the wanted results leave, in order. A training is a chain: the states at the branch points of
the sweep's tree, then the weights. What changes the bits is in a key; where and when it ran is in the record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch

from golf.config.config import RunConfig, ScheduleConfig, to_plain
from golf.config.schedule import make_plan, rows_digest
from golf.pipeline.stages import rungs_of
from golf.runtime.results import AVERAGED, LIVE, SCREEN, SLIDING, STATE, TENSORS, TTT, WEIGHTS, digest
from tune.cache.fingerprint import source_digest, stage_key
from tune.cache.prefix_tree import training_arguments

_CODE = {
    "train": ("golf.train.microbatching",),
    "pack": ("golf.artifact.pack", "golf.artifact.calibration"),
    "score": ("golf.evaluate.sliding", "golf.artifact.pack", "golf.data.token_bytes"),
    "ttt": ("golf.evaluate.ttt", "golf.artifact.pack", "golf.data.token_bytes"),
}
"""Modules whose code a stage's bits depend on, with all that they import."""
SCREENED_RUNGS = (SLIDING, TTT)
"""Rungs whose first chunks decide whether a trial goes on."""


@dataclass(frozen=True)
class StageOutput:
    """A stage's result."""

    name: str
    """"prefix-<steps>", "train", "pack" or a rung of the ladder."""
    key: str
    """What it is stored under."""
    files: tuple[str, ...]
    """Its files in the trial's folder."""
    parents: tuple[str, ...]
    """Keys of what it reads."""
    steps: int = 0
    """Optimiser steps behind it, for those of a training."""

    @property
    def results(self) -> tuple[str, ...]:
        """Those of its files that tell numbers; the others are large, and only later stages read them."""
        return tuple(name for name in self.files if name.endswith(".json"))

    @property
    def interior(self) -> bool:
        """Whether only other stages read it."""
        return self.name.startswith("prefix") or self.name.endswith(SCREEN)


@dataclass(frozen=True)
class StageGraph:
    """All that a trial wants."""

    training: tuple[StageOutput, ...]
    """The chain: states at branch points, then "train"."""
    pack: StageOutput
    """The artifact."""
    rungs: tuple[StageOutput, ...]
    """The ladder."""
    screens: tuple[StageOutput, ...]
    """The first chunks of its last rungs, where trials are screened."""

    @property
    def keys(self) -> list[str]:
        """All keys."""
        return [wanted.key for wanted in (*self.training, self.pack, *self.screens, *self.rungs)]

    def needed(self, stored: Callable[[str], bool]) -> list[str]:
        """The keys that the trial still needs in the store: states on the way to weights that are there are none."""
        on_the_way = () if stored(self.training[-1].key) else self.training[:-1]
        return [wanted.key for wanted in (*on_the_way, self.training[-1], self.pack, *self.screens, *self.rungs)]


def stages_of(
    config: RunConfig,
    data: str,
    world: dict[str, Any],
    branches: Sequence[int],
    first_chunks: int | None = None,
    ranking_stride: int | None = None,
) -> StageGraph:
    """The stages of a trial.

    Args: data: the dataset's digest; world: what of the machines changes bits (`Workers.world`);
        branches: steps at which other trials part from this one, ascending; first_chunks: of the stream, to screen
        trials on; None: no screening; ranking_stride: of the sliding windows there; None: the configuration's.
    """
    plain = to_plain(config)
    place = {"torch": str(torch.__version__), "compile": config.compile, **world}
    base = training_arguments(config)
    code = {name: _digest_of(name) for name in _CODE}
    chain: list[StageOutput] = []
    ends = [(steps, False) for steps in branches] + [(config.schedule.steps, True)]
    for steps, last in ends:
        name = "train" if last else f"prefix-{steps}"
        files = (*WEIGHTS.values(), "curves.json", "train.json")
        arguments = {**base, "data": data, "world": place, "rows": _rows_digest(config.schedule, steps)}
        key = stage_key("train" if last else "prefix", arguments, [], code["train"])
        # The rows say all: a state does not depend on which states before it were kept.
        before = (chain[-1].key,) if chain else ()
        inner = tuple(f"{name}/{file}" for file in (STATE, "curves.json"))
        chain.append(StageOutput(name, key, files if last else inner, before, steps))
    trained = chain[-1].key
    pack_arguments = {"quant": plain["quant"], "torch": str(torch.__version__)}
    pack_key = stage_key("pack", pack_arguments, [trained], code["pack"])
    pack = StageOutput("pack", pack_key, ("artifact.golf", "pack.json"), (trained,))
    rungs, screens = [], []
    for rung in rungs_of(config):
        parent = trained if rung in (LIVE, AVERAGED) else pack_key
        ttt = plain["ttt"] if rung == TTT else None
        arguments = {"score": plain["score"], "ttt": ttt, "data": data, "world": place}
        key = stage_key(rung, arguments, [parent], code[code_of(rung)])
        rungs.append(StageOutput(rung, key, (f"{rung}.json",), (parent,)))
        if first_chunks is not None and rung in SCREENED_RUNGS:
            name = rung + SCREEN
            files = (f"{name}{TENSORS}", f"{name}.json")
            own = {} if ranking_stride is None or rung == TTT else {"ranking_stride": ranking_stride}
            key = stage_key(name, {**arguments, "chunks": first_chunks, **own}, [parent], code[code_of(rung)])
            screens.append(StageOutput(name, key, files, (parent,)))
    return StageGraph(tuple(chain), pack, tuple(rungs), tuple(screens))


@cache
def _digest_of(stage: str) -> str:
    """Digest of a stage's code, as it was when this process began."""
    return source_digest(_CODE[stage])


@cache
def code_digest() -> str:
    """Digest of the code of all stages: runs with the same one were computed by the same program."""
    return digest({stage: _digest_of(stage) for stage in _CODE})


@lru_cache(maxsize=4096)
def _rows_digest(schedule: ScheduleConfig, steps: int) -> str:
    return rows_digest(make_plan(schedule)[:steps])


def code_of(rung: str) -> str:
    """The entry of the code that a rung's bits depend on."""
    return "ttt" if rung == TTT else "score"
