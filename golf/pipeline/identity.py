"""Identities of results: what each was computed from. All derive from the table in `golf.config.identity`."""

from typing import Any

from golf.config.config import RunConfig
from golf.config.identity import stage_arguments
from golf.config.schedule import make_plan, rows_digest
from golf.data.dataset import Dataset
from golf.runtime.results import TTT, WEIGHTS, digest


def training_identity(config: RunConfig, dataset: Dataset, step: int) -> dict[str, Any]:
    """Returns what the training state after `step` steps depends on, as JSON values.

    Of the schedule, only the rows of the plan that were consumed count.
    """
    rows = rows_digest(make_plan(config.schedule)[:step])
    return {"data": dataset.digest, "rows": rows} | stage_arguments(config, "train")


def weights_identity(config: RunConfig, dataset: Dataset) -> str:
    """Returns the digest of what the weights after the last step depend on."""
    return digest(training_identity(config, dataset, config.schedule.steps))


def train_identity(config: RunConfig, dataset: Dataset) -> str:
    """Returns the digest of what a finished training with its validation curve depends on."""
    return digest(weights_identity(config, dataset), stage_arguments(config, "validate"))


def pack_identity(config: RunConfig, dataset: Dataset) -> str:
    """Returns the digest of what an artifact depends on."""
    return digest(weights_identity(config, dataset), stage_arguments(config, "pack"))


def rung_identity(config: RunConfig, dataset: Dataset, rung: str) -> str:
    """Returns the digest of what the score of a rung depends on."""
    source = weights_identity if rung in WEIGHTS else pack_identity
    return score_identity(source(config, dataset), config, rung)


def score_identity(source: str, config: RunConfig, rung: str) -> str:
    """Returns the digest of what a score depends on.

    Args:
        source: digest of the scored weights or artifact and of the validation tokens.
        config: how it is scored.
        rung: the rung of the ladder.
    """
    return digest(source, stage_arguments(config, "ttt" if rung == TTT else "score"))
