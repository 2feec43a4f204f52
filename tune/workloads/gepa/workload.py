"""The GEPA trainer as a workload: trials of `golf`, whose trainings share prefixes, artifacts and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from golf.config.config import MICRO_BATCHES, RunConfig
from golf.config.identity import stage_arguments
from golf.data.dataset import Dataset
from golf.runtime.results import LADDER, TTT, digest
from tune.records.entries import Config, Outcome, Series, WorldShape
from tune.search.space import Point, Trial
from tune.search.successive_halving import promoted_share
from tune.workloads.base import (
    RankContext,
    ScoredPart,
    StageExecutor,
    StageProgress,
    StageRequest,
    StageWork,
    TrialSpec,
)
from tune.workloads.gepa.runner import GepaRunner, load_from_cache
from tune.workloads.gepa.settings import GepaSettings, config_of, parse_config
from tune.workloads.gepa.space import make_trial
from tune.workloads.gepa.stage_worker import progress, run_stage
from tune.workloads.gepa.stages import PACK, TRAIN, branch_points, code_digest

_REPORTS = 10
"""Reports of a short training."""
_STEPS_BETWEEN, _CHUNKS_BETWEEN = 50, 16
"""Steps and chunks between the reports of a long stage."""


@dataclass(frozen=True, kw_only=True)
class GepaWorkload(GepaSettings):
    """Trials of one preset on one dataset and one shape of machines; see `tune.workloads.base.Workload`."""

    name: str = "gepa"
    world_sizes: tuple[int, ...] = tuple(n for n in range(MICRO_BATCHES, 0, -1) if MICRO_BATCHES % n == 0)
    """Divisors of a step's micro-batches: the batches are the same with each."""
    starts_processes: bool = False
    objective: None = None

    @classmethod
    def of(cls, base: RunConfig, preset: str, dataset: Dataset, world: WorldShape) -> "GepaWorkload":
        """Returns the workload of a preset on an opened dataset."""
        return cls(
            base=base,
            preset=preset,
            data_directory=dataset.folder,
            data=dataset.digest,
            num_targets=len(dataset.validation) - 1,
            world=world,
        )

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.data_directory.name

    @property
    def code(self) -> str:
        """Digest of the code that computes the stages."""
        return code_digest()

    def trial(self, point: Point) -> Trial:
        """Returns the trial of a point. Raises: ValueError naming the field for a point that is none."""
        return make_trial(self.base, point, self.data)

    def for_trials(self, trials: Sequence[Trial]) -> Self:
        """Returns the same workload, knowing at which steps these trials' trainings part."""
        return replace(self, branches=branch_points(map(config_of, trials)))

    def screening_odds(self, num_trials: int) -> Mapping[str, Sequence[ScoredPart]] | None:
        """Returns how much of each rung a trial of so many is expected to score; None without screening."""
        screens = self.screens(self.base)
        if self.screening is None or not screens:
            return None
        chunk = self.base.score.chunk_tokens / self.num_targets
        parts: dict[str, list[ScoredPart]] = {rung: [] for rung in LADDER}
        probability = 1.0
        for rung, count in screens:
            scored = sum(part.share for part in parts[rung])
            parts[rung].append(ScoredPart(count * chunk - scored, probability))
            probability *= promoted_share(round(probability * num_trials), self.screening.top)
        for scored_first in parts.values():
            scored_first.append(ScoredPart(1.0 - sum(part.share for part in scored_first), probability))
        return parts

    def stage_work(self, config: Config, stage: str) -> StageWork:
        """Returns the work of a stage: seconds go with the model, with what is read, and with what is computed."""
        run = parse_config(config)
        model = stage_arguments(run, "train")["model"]
        if stage == TRAIN:
            batch = stage_arguments(run, "train")["batch"]
            return StageWork((digest(model, batch),), run.schedule.steps, needs_same_data=False)
        if stage == PACK:
            keys = (digest(model, stage_arguments(run, "pack")), digest(model))
            return StageWork(keys, 1, needs_same_data=False)
        own = stage_arguments(run, "ttt" if stage == TTT else "score")
        return StageWork((digest(model, own), digest(model, own["score"])), 1, needs_same_data=True)

    def run_trial(self, spec: TrialSpec, execute: StageExecutor) -> tuple[Outcome, Series]:
        """Trains, packs and, where the artifact fits, scores."""
        return GepaRunner(self, spec, execute).run()

    def load_from_cache(self, spec: TrialSpec) -> tuple[Outcome, Series] | None:
        """Returns the outcome of a trial all of whose results are stored; None where something has to be computed."""
        return load_from_cache(self, spec)

    def run_stage(self, request: StageRequest, context: RankContext) -> None:
        """Computes a training or an evaluation on this rank."""
        run_stage(self, request, context)

    def progress(self, request: StageRequest) -> StageProgress:
        """Returns how many steps or chunks of a stage are saved."""
        return progress(request)

    def is_reported(self, trial: Trial, curve: str, step: int) -> bool:
        """Whether a point is passed on: about ten of a short training, every 50th step and 16th chunk of a long one."""
        every = min(max(1, config_of(trial).schedule.steps // _REPORTS), _STEPS_BETWEEN)
        due = (step + 1) % every == 0 if curve == "train_loss" else step % _CHUNKS_BETWEEN == 0
        return due or curve == "validation_bpb"

    def describe_progress(self, trial: Trial, curve: str, step: int) -> tuple[str, float]:
        """Returns what a trial is doing in words, and the fraction of it that is done."""
        if curve not in ("train_loss", "validation_bpb"):
            return f"scoring {curve.removesuffix('_bpb')}", 0.85
        steps = config_of(trial).schedule.steps
        return f"training {step + 1}/{steps}", 0.8 * (step + 1) / steps
