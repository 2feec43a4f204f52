"""The seam between sweeps and what their trials run.

Searches, sweeps, seed studies, the ledger, MLflow and reports know trials only through `Workload`, `StageGraph`,
`Outcome` and `TrialEntry`. What a workload does not have - stages to share, an artifact, a ladder of scores - it leaves
out, and nothing is made up for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from golf.runtime.process_group import ProcessGroup
from golf.train.checkpoint_policy import BY_COST, CheckpointPolicy
from golf.train.loop import PreemptionCheck, never
from tune.cache.lease import LeaseConfig
from tune.cache.stage_graph import StageGraph
from tune.cache.store import Store
from tune.records.entries import Config, Failure, Objective, Outcome, Series, WorldShape
from tune.search.space import Point, Trial

Report = Callable[[str, int, float], None]
"""(curve, step or chunk, value): reports a point of a curve; called on every rank alike."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where the stages of trials are shared."""

    store: str
    """Path or URI of the store."""
    budget_bytes: int | None = None
    """Size that the store is kept below; None: no limit."""
    lease_config: LeaseConfig = LeaseConfig()
    """How long other processes at work on a stage are waited for."""

    def open(self) -> Store:
        """Returns the store. Raises: ValueError for an address that is none; StoreError."""
        return Store(self.store, budget_bytes=self.budget_bytes, lease_config=self.lease_config)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """What one trial is to do, as its process receives it."""

    trial: Trial
    directory: Path
    """The trial's own directory, which every rank sees."""
    checkpoint_policy: CheckpointPolicy = BY_COST
    """When the state of a long stage is saved."""
    cache: CacheConfig | None = None
    """Where its stages are shared; None: it computes everything itself."""
    stop_file: Path | None = None
    """A file whose existence asks the trial to save its state and end without an outcome."""

    @property
    def is_stopped(self) -> bool:
        """Whether the trial is asked to end."""
        return self.stop_file is not None and self.stop_file.exists()


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """One stage of a trial, to be computed by a group of processes; workloads add what theirs need."""

    spec: TrialSpec
    stage: str
    """Its name, unique among the stages that a trial runs one after the other."""
    distributed: bool = True
    """Whether it runs on a worker group even where one CPU process would do."""


StageExecutor = Callable[[StageRequest], None]
"""Computes a stage, on a worker group or in this process; its results are in the trial's directory afterwards.

Raises: StageFailed when it failed for good; Preempted when this process's machine is being taken away.
"""


class StageFailed(Exception):
    """A stage failed, and trying again is in vain."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True)
class RankContext:
    """What a stage is given on each rank."""

    group: ProcessGroup
    report: Report
    preemption: PreemptionCheck = never
    """Whether the stage has to save its state and stop soon."""


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is on the disk: what a lost process would not have to compute again."""

    num_finished: int
    """Results that are complete."""
    pending: Mapping[str, int]
    """Results that are still to come -> steps or chunks that are saved of each; the next one first."""

    @property
    def furthest(self) -> tuple[int, ...]:
        """A value that grows with the progress."""
        return self.num_finished, *list(self.pending.values())[:1]


@dataclass(frozen=True)
class StageWork:
    """How much work a stage is, and with which other stages it shares the seconds for a unit of it."""

    keys: tuple[str, ...]
    """Stages with a common key take about as long for a unit of work; the closest first."""
    units: float
    """Units of work: optimiser steps of a training, else 1."""
    needs_same_data: bool
    """Whether seconds seen on another dataset say nothing."""


@dataclass(frozen=True)
class ScoredPart:
    """A part of a rung, between two points at which trials are screened."""

    share: float
    """Of the rung's chunks."""
    probability: float
    """That a trial scores it."""


class Workload(Protocol):
    """What the trials of a sweep run. Its objects are values: they are pickled to every process of a trial."""

    @property
    def name(self) -> str:
        """Names the kind of workload in every ledger entry."""

    @property
    def preset(self) -> str:
        """Names what is run, and the MLflow experiment."""

    @property
    def data(self) -> str:
        """Digest of the dataset."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""

    @property
    def world(self) -> WorldShape:
        """Machines of one trial, as far as they change results."""

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """Numbers of ranks with which results are the same up to rounding, the largest first."""

    @property
    def starts_processes(self) -> bool:
        """Whether a trial starts the processes of all its ranks itself, on one machine whose places it holds."""

    @property
    def objective(self) -> Objective | None:
        """The metric that counts; None: bits per byte."""

    @property
    def code(self) -> str:
        """Digest of the code that computes the stages: results of another one are not taken for this one's."""

    def trial(self, point: Point) -> Trial:
        """Returns the trial of a point. Raises: ValueError naming the field for a point that is none."""

    def for_trials(self, trials: Sequence[Trial]) -> Self:
        """Returns the same workload, knowing which computations these trials have in common."""

    def stages(self, trial: Trial) -> StageGraph:
        """Returns the stages of a trial that can be shared, with their keys."""

    def stage_work(self, config: Config, stage: str) -> StageWork:
        """Returns the work of a stage, by its name in `TrialEntry.seconds`, of a configuration."""

    def screening_odds(self, num_trials: int) -> Mapping[str, Sequence[ScoredPart]] | None:
        """Returns, by rung, how much of it a trial of so many is expected to score; None without screening."""

    def run_trial(self, spec: TrialSpec, execute: StageExecutor) -> tuple[Outcome, Series]:
        """Runs a trial from its first stage to its outcome; stages that need a process group go through `execute`."""

    def load_from_cache(self, spec: TrialSpec) -> tuple[Outcome, Series] | None:
        """Returns the outcome of a trial all of whose results are stored; None where something has to be computed."""

    def run_stage(self, request: StageRequest, context: RankContext) -> None:
        """Computes a stage on this rank; the results are in the trial's directory afterwards.

        Raises: Preempted once the state is saved, after `context.preemption` was true on any rank.
        """

    def progress(self, request: StageRequest) -> StageProgress:
        """Returns how far a stage is on the disk."""

    def is_reported(self, trial: Trial, curve: str, step: int) -> bool:
        """Whether a point is among the few that are passed on while a trial runs; the same on all ranks."""

    def describe_progress(self, trial: Trial, curve: str, step: int) -> tuple[str, float]:
        """Returns what a trial is doing at a point of a curve, in words, and the fraction of the trial that is done."""
