"""GEPA trials in this process, without Ray."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.config.config import RunConfig, to_plain
from golf.data.dataset import open_dataset
from golf.runtime.process_group import ProcessGroup
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.hooks import discard_point
from tune.cache.lease import LeaseConfig
from tune.records.entries import Outcome, Series, WorldShape
from tune.search.space import Trial
from tune.workloads.base import CacheConfig, RankContext, StageExecutor, StageRequest, TrialSpec, Workload
from tune.workloads.gepa.workload import GepaWorkload
from tune.workloads.trial_process import read_outcome, run_trial

WORLD = WorldShape(ranks=1, cpus=1, device="cpu", threads=1)
LEASES = LeaseConfig(lease_seconds=3.0, poll_seconds=0.1)


def workload_of(config: RunConfig, data: Path, **fields: Any) -> GepaWorkload:
    """The workload of a configuration."""
    workload = GepaWorkload.of(config, "tiny", open_dataset(data, config.model.vocab_size), WORLD)
    return replace(workload, **fields)


def trial_of(config: RunConfig, name: str = "t") -> Trial:
    """A trial of exactly this configuration."""
    return Trial(trial=name, parameters={}, name=name, config=to_plain(config))


def spec_of(trial: Trial, directory: Path, store: Path | None = None, save_seconds: float = 60.0) -> TrialSpec:
    """What a trial is to do; it shares its stages where there is a store."""
    cache = None if store is None else CacheConfig(store=str(store), lease_config=LEASES)
    policy = CheckpointPolicy(seconds=save_seconds)
    return TrialSpec(trial=trial, directory=directory, checkpoint_policy=policy, cache=cache)


def in_process(workload: Workload) -> StageExecutor:
    """Computes stages in this process."""

    def execute(request: StageRequest) -> None:
        workload.run_stage(request, RankContext(ProcessGroup(), discard_point))

    return execute


def run(workload: Workload, spec: TrialSpec, execute: StageExecutor | None = None) -> tuple[Outcome, Series]:
    """Runs a trial; returns what it left."""
    run_trial(workload, spec, execute or in_process(workload))
    left = read_outcome(spec.directory)
    assert left is not None
    return left
