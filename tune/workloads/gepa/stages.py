"""The stages of a GEPA trial: training with its states at branch points, packing, the ladder of scores, its screens.

Keys are derived from the table in `golf.config.identity`, the rows of the schedule, the data, the machines and the code
of each stage. Where and when a stage ran is no part of a key; it is in the stored record.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from golf.config.config import RunConfig, ScheduleConfig
from golf.config.identity import Stage, stage_arguments
from golf.config.schedule import Row, make_plan, rows_digest
from golf.pipeline.evaluation import rungs_of
from golf.runtime.files import read_json
from golf.runtime.results import AVERAGED, LIVE, STATE, TENSORS, TTT, WEIGHTS, digest
from tune.cache.fingerprint import source_digest, stage_key
from tune.cache.prefix_tree import Node, Training, branch_steps, build_trees
from tune.cache.stage_graph import StageGraph, StageName, StageOutput

TRAIN, PACK, PREFIX = "train", "pack", "prefix"
"""Kinds of outputs; the others are the rungs of the ladder."""
STAGE_MODULES: Mapping[str, Sequence[str]] = {
    "train": ("golf.train.microbatching",),
    "pack": ("golf.artifact.pack", "golf.artifact.calibration"),
    "score": ("golf.evaluate.sliding", "golf.artifact.pack", "golf.data.token_bytes"),
    "ttt": ("golf.evaluate.ttt", "golf.artifact.pack", "golf.data.token_bytes"),
}
"""Modules whose code a stage's bits depend on, with all that they import."""
CHECK_FILE = "check.json"
"""The check of a run against the competition's rules, an output of its last rung."""


@dataclass(frozen=True)
class GepaStages(StageGraph):
    """All outputs of a GEPA trial."""

    training: tuple[StageOutput, ...]
    """The states at branch points, each trained on from the one before, and at last the weights."""
    pack: StageOutput
    """The artifact."""
    screens: tuple[StageOutput, ...]
    """The first chunks of the last rungs, in the order in which trials are screened on them."""
    rungs: tuple[StageOutput, ...]
    """The ladder of scores."""


def gepa_stages(
    config: RunConfig,
    data: str,
    world: Mapping[str, Any],
    branches: Sequence[int],
    screens: Sequence[tuple[str, int]] = (),
) -> GepaStages:
    """Returns the stages of a trial.

    Args:
        data: the dataset's digest.
        world: what of the machines changes bits, as plain values (`Workers.world`).
        branches: steps, ascending, at which other trials part from this one.
        screens: rungs and how many of their first chunks trials are screened on, in order.
    """
    surroundings = {"torch": str(torch.__version__), "data": data, "world": dict(world)}
    training = _training_outputs(config, surroundings, branches)
    trained = training[-1].key
    pack_arguments = {**stage_arguments(config, "pack"), "torch": str(torch.__version__)}
    pack_key = stage_key(PACK, pack_arguments, [trained], stage_digest("pack"))
    pack = StageOutput(StageName(PACK), pack_key, ("artifact.golf", "pack.json"), (trained,))
    rungs, screened = [], []
    for rung in rungs_of(config):
        parent = trained if rung in (LIVE, AVERAGED) else pack_key
        key = _score_key(StageName(rung), config, surroundings, parent)
        files = (CHECK_FILE, f"{rung}.json") if rung == rungs_of(config)[-1] else (f"{rung}.json",)
        rungs.append(StageOutput(StageName(rung), key, files, (parent,)))
    for rung, chunks in screens:
        name = StageName(rung, chunks, first_chunks=True)
        key = _score_key(name, config, surroundings, pack_key)
        screened.append(StageOutput(name, key, (f"{name}{TENSORS}", f"{name}.json"), (pack_key,)))
    outputs = (*training, pack, *screened, *rungs)
    return GepaStages(outputs, tuple(training), pack, tuple(screened), tuple(rungs))


def _score_key(name: StageName, config: RunConfig, surroundings: Mapping[str, Any], parent: str) -> str:
    """Returns the key of a rung's score, or of that of its first chunks."""
    stage: Stage = "ttt" if name.kind == TTT else "score"
    chunks = {"chunks": name.steps} if name.first_chunks else {}
    return stage_key(
        str(name), {**stage_arguments(config, stage), **surroundings, **chunks}, [parent], stage_digest(stage)
    )


def _training_outputs(config: RunConfig, surroundings: Mapping[str, Any], branches: Sequence[int]) -> list[StageOutput]:
    """Returns the states after `branches` steps and the trained weights."""
    outputs: list[StageOutput] = []
    code = stage_digest("train")
    for steps in (*branches, None):
        name = StageName(TRAIN) if steps is None else StageName(PREFIX, steps)
        end = config.schedule.steps if steps is None else steps
        arguments = {**training_arguments(config), **surroundings, "rows": _rows_digest(config.schedule, end)}
        # The rows say all: a state does not depend on which states before it were kept.
        key = stage_key(name.kind, arguments, [], code)
        files = (*WEIGHTS.values(), "curves.json", "train.json")
        if steps is not None:
            files = (f"{name}/curves.json", f"{name}/{STATE}")
        outputs.append(StageOutput(name, key, files, (outputs[-1].key,) if outputs else (), end))
    return outputs


def training_arguments(config: RunConfig) -> dict[str, Any]:
    """Returns all that a training and its validation curve depend on but the data and the schedule's rows."""
    return {**stage_arguments(config, "train"), "validate": stage_arguments(config, "validate")}


@lru_cache(maxsize=4096)
def training_key(config: RunConfig) -> str:
    """Returns the identity of a training: equal for configurations that train alike from the first step to the last."""
    return digest(training_arguments(config), _rows_digest(config.schedule, config.schedule.steps))


def training_trees(configs: Mapping[str, RunConfig]) -> list[Node]:
    """Returns the trees of the steps that trainings share; `configs` are by the name of the trial."""
    return build_trees(
        {name: Training(digest(training_arguments(config)), _plan(config.schedule)) for name, config in configs.items()}
    )


def branch_points(configs: Iterable[RunConfig]) -> dict[str, list[int]]:
    """Returns, by `training_key`, the steps at which another training parts from it, ascending."""
    return branch_steps(training_trees({training_key(config): config for config in configs}))


def seconds_of(directory: Path, output: StageOutput) -> float:
    """Returns the seconds of computing that an output in a trial's directory took; of a training, from its first step.

    Args: directory: the trial's.
    """
    if output.name.kind == PREFIX:
        curves = read_json(directory / str(output.name) / "curves.json")
        return float(curves["seconds"][0][2])
    result = read_json(directory / output.files[-1])["result"]
    return float(result["seconds"]) - float(result.get("seconds_before", 0.0))


@cache
def stage_digest(stage: str) -> str:
    """Returns the digest of a stage's code, as it was when this process first asked."""
    return source_digest(STAGE_MODULES[stage])


@cache
def code_digest() -> str:
    """Returns the digest of the code of all stages: runs with the same one were computed by the same program."""
    return digest({stage: stage_digest(stage) for stage in STAGE_MODULES})


@lru_cache(maxsize=4096)
def _rows_digest(schedule: ScheduleConfig, steps: int) -> str:
    return rows_digest(_plan(schedule)[:steps])


@lru_cache(maxsize=64)  # rows of tens of thousands of steps
def _plan(schedule: ScheduleConfig) -> tuple[Row, ...]:
    return make_plan(schedule)
