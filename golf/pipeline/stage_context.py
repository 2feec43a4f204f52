"""What every stage of a run computes from, and what a divergence says of where it happened."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from golf.config.config import RunConfig
from golf.data.dataset import Dataset
from golf.pipeline.run_directory import RunDirectory
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup

LOWER_TRAINING, LOWER_TTT = "lower the learning rates", "lower ttt.lr or ttt.epochs"
"""What to do about a loss that is not finite."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What every stage of a run computes from, where its files are, and which processes compute it."""

    config: RunConfig
    dataset: Dataset
    directory: RunDirectory
    group: ProcessGroup = ProcessGroup()


@contextlib.contextmanager
def explain_divergence(where: str, remedy: str) -> Iterator[None]:
    """Adds to a divergence inside the block where it was and what to do about it."""
    try:
        yield
    except Diverged as error:
        raise Diverged(f"{where}, {error}; {remedy}") from error
