"""How often a training reads its text."""

from golf.config.config import RunConfig
from golf.data.dataset import Dataset

MOST_PASSES = 1.5
"""Passes beyond which a model learns the text by heart, which no competition's run does."""


def passes_of(config: RunConfig, dataset: Dataset) -> float:
    """Returns how many times a training reads the training shards from their beginning to their end."""
    tokens = 0 if dataset.train is None else dataset.train.num_tokens
    return config.schedule.steps * config.batch.tokens_per_step / max(tokens, 1)


def passes_words(config: RunConfig, dataset: Dataset) -> str:
    """Returns the passes in words, as "0.51 passes over the training text"."""
    passes = passes_of(config, dataset)
    return (
        f"{passes:,.0f} passes over the training text"
        if passes >= 100
        else f"{passes:.2g} passes over the training text"
    )


def passes_warning(config: RunConfig, dataset: Dataset) -> str | None:
    """Returns the warning for a training that repeats its text too often, or None."""
    if passes_of(config, dataset) <= MOST_PASSES:
        return None
    tokens = 0 if dataset.train is None else dataset.train.num_tokens
    return (
        f"warning: {passes_words(config, dataset)}, which has {tokens:,} tokens ({dataset.folder}): more than "
        f"{MOST_PASSES:g} repeat it; give more data with --data, or fewer schedule.steps"
    )
