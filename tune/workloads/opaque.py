"""Workloads that run as a whole: nobody sees inside, so that there is one stage and no prefix to share."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from golf.config.identity import without_seed
from golf.runtime.files import write_bytes
from golf.runtime.results import digest
from tune.cache.cached_runner import stage_runner
from tune.cache.fingerprint import stage_key
from tune.cache.stage_graph import StageGraph, StageName, StageOutput
from tune.records.entries import Config, Objective, Outcome, Series, WorldShape
from tune.search.space import Point, Trial
from tune.workloads.base import (
    RankContext,
    ScoredPart,
    StageExecutor,
    StageProgress,
    StageRequest,
    StageWork,
    TrialSpec,
)
from tune.workloads.trial_process import only_stored

RUN = "run"
"""The one stage."""
_SERIES, _OUTCOME = f"{RUN}.npz", f"{RUN}.json"


class OpaqueWorkload(ABC):
    """A workload whose trials are one stage; see `tune.workloads.base.Workload`.

    A subclass says what a trial is (`trial`) and computes it (`compute`). What it does not return, such as rungs, the
    size of an artifact or chunk sums, is left out of entries and reports.
    """

    name: str
    preset: str
    data: str
    dataset: str
    world: WorldShape
    world_sizes: tuple[int, ...] = ()
    starts_processes = False
    objective: Objective | None = None
    machine: Mapping[str, str] = {}
    """What else of machines and versions another result may come from: none of it is shared across."""
    kept_files: tuple[str, ...] = ()
    """Further files of a trial's directory that are kept with its result."""

    @property
    @abstractmethod
    def code(self) -> str:
        """Digest of the code that computes a trial."""

    @abstractmethod
    def trial(self, point: Point) -> Trial:
        """Returns the trial of a point. Raises: ValueError naming the field for a point that is none."""

    @abstractmethod
    def compute(self, trial: Trial, directory: Path, context: RankContext) -> tuple[Outcome, Series]:
        """Computes a trial; called on every rank, and the first one's result counts.

        Args: trial: the trial; directory: its own, which every rank sees; context: the rank's process group, and where
            points of curves are reported.
        """

    def for_trials(self, trials: Sequence[Trial]) -> Self:
        """Returns the same workload: trials have nothing in common."""
        return self

    def stages(self, trial: Trial) -> StageGraph:
        """Returns the one stage."""
        world = msgspec.to_builtins(self.world) | dict(self.machine)
        arguments = {"workload": self.name, "config": dict(trial.config), "data": self.data, "world": world}
        key = stage_key(RUN, arguments, [], self.code)
        return StageGraph((StageOutput(StageName(RUN), key, (_SERIES, _OUTCOME, *self.kept_files)),))

    def stage_work(self, config: Config, stage: str) -> StageWork:
        """Returns a run as one unit of work, alike for runs that differ in their seed only."""
        return StageWork((digest(without_seed(config)),), 1, needs_same_data=True)

    def screening_odds(self, num_trials: int) -> Mapping[str, Sequence[ScoredPart]] | None:
        """Returns None: trials are not screened."""
        return None

    def run_trial(self, spec: TrialSpec, execute: StageExecutor) -> tuple[Outcome, Series]:
        """Runs the one stage, or takes its result from the store."""
        graph, store = self.stages(spec.trial), None if spec.cache is None else spec.cache.open()
        request = StageRequest(spec=spec, stage=RUN, distributed=False)
        with stage_runner(store, spec.directory, spec.trial.trial, graph, _seconds_of) as runner:
            runner.obtain(graph.outputs, lambda outputs: execute(request), with_weights=True)
        outcome, series = _read(spec.directory)
        keys = () if store is None else tuple(graph.keys)
        return msgspec.structs.replace(outcome, computed=runner.computed, cold=bool(runner.computed), keys=keys), series

    def load_from_cache(self, spec: TrialSpec) -> tuple[Outcome, Series] | None:
        """Returns the outcome of a trial whose result is stored, else None."""
        (output,) = self.stages(spec.trial).outputs
        if spec.cache is None or spec.cache.open().find(output.key) is None:
            return None
        return self.run_trial(spec, only_stored)

    def run_stage(self, request: StageRequest, context: RankContext) -> None:
        """Computes the trial on this rank; the first rank writes its result."""
        started, directory = time.perf_counter(), request.spec.directory
        outcome, series = self.compute(request.spec.trial, directory, context)
        seconds = {RUN: time.perf_counter() - started}
        if context.group.first:
            write_bytes(directory / _SERIES, series.encode())
            write_bytes(directory / _OUTCOME, msgspec.json.encode(msgspec.structs.replace(outcome, seconds=seconds)))
        context.group.wait()

    def progress(self, request: StageRequest) -> StageProgress:
        """Returns whether the result is there: what runs unseen has no state in between."""
        finished = (request.spec.directory / _OUTCOME).exists()
        return StageProgress(int(finished), {} if finished else {RUN: 0})

    def is_reported(self, trial: Trial, curve: str, step: int) -> bool:
        """Whether a point is passed on: all are."""
        return True

    def describe_progress(self, trial: Trial, curve: str, step: int) -> tuple[str, float]:
        """Returns the curve's last step; how much of the run is done is not known."""
        return f"{curve} {step}", 0.0


def _read(directory: Path) -> tuple[Outcome, Series]:
    outcome = msgspec.json.decode((directory / _OUTCOME).read_bytes(), type=Outcome)
    return outcome, Series.decode((directory / _SERIES).read_bytes())


def _seconds_of(directory: Path, output: StageOutput) -> float:
    return _read(directory)[0].seconds[RUN]
