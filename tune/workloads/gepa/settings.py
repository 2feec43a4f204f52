"""What the trials of one GEPA sweep have in common: preset, data, machines, screening, shared trainings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import msgspec

from golf.config.config import RunConfig, from_plain
from golf.data.dataset import Dataset, open_dataset
from golf.runtime.results import SLIDING, TTT
from tune.records.entries import Config, WorldShape
from tune.search.early_stopping import Halving
from tune.search.space import Trial
from tune.search.successive_halving import SuccessiveHalving
from tune.workloads.gepa.stages import GepaStages, gepa_stages, training_key


@dataclass(frozen=True, kw_only=True)
class GepaSettings:
    """Everything but a trial's own configuration that its stages depend on."""

    base: RunConfig
    """Configuration of every trial, of which its point's fields are set."""
    preset: str
    """Name of the preset, or of the configuration's file."""
    data_directory: Path
    """The prepared dataset, absolute."""
    data: str
    """Digest of the dataset."""
    num_targets: int
    """Targets of the validation stream."""
    world: WorldShape
    """Machines of one trial."""
    screening: SuccessiveHalving | None = None
    """How trials are screened on the first chunks; None: all are scored in full."""
    screening_file: Path | None = None
    """Where the sweep's trials keep the scores of their first chunks."""
    training_halving: Halving | None = None
    """How trainings are stopped early; None: all are run to their end."""
    branches: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Training -> steps at which other trials of the sweep part from it."""

    def stages(self, trial: Trial) -> GepaStages:
        """Returns the stages of a trial, with their keys."""
        config = config_of(trial)
        branches = tuple(self.branches.get(training_key(config), ()))
        return _stages(config, self.data, msgspec.json.encode(self.world), branches, tuple(self.screens(config)))

    def open(self, trial: Trial) -> tuple[RunConfig, Dataset]:
        """Returns a trial's configuration and data."""
        config = config_of(trial)
        return config, open_dataset(self.data_directory, config.model.vocab_size)

    def screens(self, config: RunConfig) -> list[tuple[str, int]]:
        """Returns the rungs and how many of their first chunks trials are screened on, in order.

        TTT, which costs most, is screened again and again; the rung before it is once. None without screening.
        """
        if self.screening is None:
            return []
        counts = self.screening.chunk_counts(math.ceil(self.num_targets / config.score.chunk_tokens))
        rungs = [(SLIDING, counts)] if config.ttt is None else [(SLIDING, counts[:1]), (TTT, counts)]
        return [(rung, count) for rung, counts in rungs for count in counts]


def config_of(trial: Trial) -> RunConfig:
    """Returns a trial's configuration."""
    return parse_config(trial.config)


def parse_config(config: Config) -> RunConfig:
    """Returns a configuration from JSON values. Raises: ValueError naming the field."""
    return _parse(msgspec.json.encode(dict(config)))


@lru_cache(maxsize=4096)
def _parse(encoded: bytes) -> RunConfig:
    return from_plain(RunConfig, msgspec.json.decode(encoded))


@lru_cache(maxsize=4096)
def _stages(
    config: RunConfig, data: str, world: bytes, branches: tuple[int, ...], screens: tuple[tuple[str, int], ...]
) -> GepaStages:
    """Returns the stages of a trial, which are asked for again and again; `world` is encoded, to be a key."""
    return gepa_stages(config, data, msgspec.json.decode(world), branches, screens)
