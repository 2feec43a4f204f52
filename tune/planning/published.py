"""Seconds that published records took, for a forecast before the first own trial.

They are for other machines than one's own: a forecast names them, and what finished trials took comes before them. On
another number of GPUs the same GPU-seconds are taken, on another stream the same seconds for a token. TTT with fewer
epochs is taken to last as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from golf.config.config import RunConfig, ScheduleConfig, to_plain
from golf.config.presets import find_preset
from golf.config.schedule import make_plan
from golf.runtime.results import SLIDING, TTT
from tune.planning.stage_timings import TRAIN
from tune.records.entries import Config
from tune.workloads.gepa.settings import parse_config
from tune.workloads.gepa.workload import GepaWorkload


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """What a record's log or description says of its time."""

    preset: str
    """Whose configuration it is."""
    source: str
    """Where it says so."""
    num_gpus: int
    gpu: str
    """Such as "H100"."""
    step_seconds: float
    """Of an optimiser step, without the loop where the model has one."""
    looped_step_seconds: float | None = None
    """Of a step with the loop on; None: the model has none."""
    scoring_seconds: Mapping[str, float]
    """Stage -> seconds for its stream of `num_targets`."""
    num_targets: int
    """Scored tokens of the validation stream."""

    def __str__(self) -> str:
        return f"{self.num_gpus} x {self.gpu} ({self.source})"


PUBLISHED = (
    PublishedRun(
        preset="pr598",
        source="openai/parameter-golf PR #598",
        num_gpus=4,
        gpu="A100 40GB",
        step_seconds=0.4986,  # 7,000 steps in 3,490 s
        scoring_seconds=MappingProxyType({TTT: 2194.0}),
        num_targets=62_021_632,
    ),
    PublishedRun(
        preset="pr1493",
        source="openai/parameter-golf PR #1493",
        num_gpus=8,
        gpu="H100",
        step_seconds=0.096,
        looped_step_seconds=0.141,
        scoring_seconds=MappingProxyType({SLIDING: 121.0, TTT: 367.0}),
        num_targets=40_540_160,
    ),
)
"""Of pr1493 also "GPTQ 12.7 s" is published, which is a part of packing alone and so is not here."""
PUBLISHED_PRESETS = frozenset(run.preset for run in PUBLISHED)


class PublishedTimings:
    """Seconds of a workload's stages on GPUs by published records of the same model, batch and scoring."""

    def __init__(self, workload: GepaWorkload, runs: Sequence[PublishedRun] = PUBLISHED) -> None:
        self._workload, self._runs = workload, runs if workload.world.device == "cuda" else ()

    def run_of(self, config: Config, stage: str) -> PublishedRun | None:
        """Returns the record whose stage was the same work, whatever its steps; None: none is published."""
        for run in self._runs:
            told = stage == TRAIN or stage in run.scoring_seconds
            if told and self._is_same_work(parse_config(config), find_preset(run.preset), stage):
                return run
        return None

    def _is_same_work(self, config: RunConfig, published: RunConfig, stage: str) -> bool:
        """Returns whether a stage takes no longer than the published one: TTT with fewer epochs takes less."""
        own, other = (self._workload.stage_work(to_plain(run), stage).keys[-1] for run in (config, published))
        if stage != TTT:
            return own == other
        assert published.ttt is not None
        return own == other and config.ttt is not None and config.ttt.epochs <= published.ttt.epochs

    def seconds(self, config: Config, stage: str, steps: float | None = None) -> float | None:
        """Returns the seconds of a stage of this configuration; None: nothing is published.

        Args: config: the configuration, as JSON values; stage: its name in `TrialEntry.seconds`; steps: of the
            training; None: all of them.
        """
        run = self.run_of(config, stage)
        if run is None:
            return None
        scale = run.num_gpus / self._workload.world.ranks
        if stage != TRAIN:
            return scale * run.scoring_seconds[stage] * self._workload.num_targets / run.num_targets
        schedule = parse_config(config).schedule
        return scale * _step_seconds(run, schedule) * (schedule.steps if steps is None else steps)

    def notes(self, stages: Mapping[str, Config]) -> list[str]:
        """Returns one line for each record that seconds are taken from.

        Args: stages: stage -> a configuration whose seconds of it are published.
        """
        by_run: dict[str, list[str]] = {}
        for stage, config in stages.items():
            run = self.run_of(config, stage)
            if run is not None:
                by_run.setdefault(str(run), []).append(stage)
        ranks = self._workload.world.ranks
        taken = f"taken as the same GPU-seconds on {ranks}; scale with --step-seconds and --stage-seconds"
        return [f"seconds of {', '.join(names)}: published for {run}, {taken}" for run, names in by_run.items()]


def _step_seconds(run: PublishedRun, schedule: ScheduleConfig) -> float:
    """Returns the mean seconds of a step over a schedule, some of whose steps have the loop on."""
    if run.looped_step_seconds is None:
        return run.step_seconds
    share = _looped_share(schedule)
    return (1 - share) * run.step_seconds + share * run.looped_step_seconds


@cache
def _looped_share(schedule: ScheduleConfig) -> float:
    return sum(row.looped for row in make_plan(schedule)) / schedule.steps
