"""Trials of somebody's training script: each runs the script in a directory of its own, and reads what it printed."""

import glob
import math
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import torch

from golf.runtime.files import write_bytes
from golf.runtime.process_group import device_name
from golf.runtime.results import digest
from golf.scripts.curves import points_in, series_name
from golf.scripts.metrics import Metric, in_line, parse_metric
from golf.scripts.results import ScriptResults, results_of
from golf.train.loop import Preempted
from tune.records.entries import Device, Failure, Objective, Outcome, Series, TrialState, WorldShape
from tune.search.early_stopping import Halving, Rank, rank_at
from tune.search.space import Point, Trial, point_name
from tune.search.successive_halving import stopped_text
from tune.workloads.base import RankContext, StageExecutor, StageFailed, TrialSpec
from tune.workloads.opaque import RUN, OpaqueWorkload
from tune.workloads.script.launch import RUN_ID, command_of, environment_of, make_directory
from tune.workloads.script.outcome import FROM_THE_START, failure_of, judged_again, outcome_of
from tune.workloads.script.process import Ended, lines_of, run_process
from tune.workloads.script.settings import ARG, BPB, CONSTANT, ENV, ScriptSettings, config_of, given_settings
from tune.workloads.trial_process import write_failure_log

SCRIPT = "script"
"""Name of the workload."""
OUTPUT = "output.log"
"""File of a trial's directory with all that its processes wrote."""
RUN_DIRECTORY = "run"
"""The working directory of the script, in the trial's."""
_REPORT_SECONDS = 1.0
"""Between two points of a training curve that are passed on while the script runs."""
_TEMPORARY = "golf-run-"
_MOST_POINTS = 50_000
"""Points of a curve; of more, every other one is left out."""


class StoppedEarly(Exception):
    """A run was stopped because others are ahead at the same step; its result stands for no other trial's."""

    def __init__(self, outcome: Outcome, series: Series) -> None:
        super().__init__(outcome.reason)
        self.outcome, self.series = outcome, series


@dataclass(frozen=True)
class ScriptWorkload(OpaqueWorkload):
    """Trials of one script on one shape of machines; see `tune.workloads.base.Workload`."""

    settings: ScriptSettings
    preset: str
    world: WorldShape
    data: str
    dataset: str
    halving: Halving | None = None
    """How trials are stopped early; None: all run to their end."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Versions and the kind of device: under a clock another one is another experiment."""
    name = SCRIPT
    starts_processes = True

    @property
    def objective(self) -> Objective | None:  # type: ignore[override]
        """The metric that counts; None: bits per byte."""
        return None if self.settings.objective.name == BPB else self.settings.objective

    @property
    def kept_files(self) -> tuple[str, ...]:  # type: ignore[override]
        """The output and the script as it ran."""
        return OUTPUT, self.settings.files.script

    @property
    def code(self) -> str:
        """Digest of the script and the files beside it."""
        return self.settings.files.digest

    def trial(self, point: Point) -> Trial:
        """Returns the trial of a point. Raises: ValueError naming the field for a point that is none."""
        config = config_of(self.settings, point)
        identity = digest({"config": config, "data": self.data})[:12]
        return Trial(trial=identity, parameters=dict(point), name=point_name(point) or self.preset, config=config)

    def load_from_cache(self, spec: TrialSpec) -> tuple[Outcome, Series] | None:
        """Returns the outcome of a trial whose result is stored; None where there is none or it does not count."""
        try:
            return super().load_from_cache(spec)
        except StageFailed:  # the trial, when it is run, says why
            return None

    def run_trial(self, spec: TrialSpec, execute: StageExecutor) -> tuple[Outcome, Series]:
        """Runs the script, or takes its result from the store."""
        try:
            outcome, series = super().run_trial(spec, execute)
        except StoppedEarly as stopped:
            outcome, series = stopped.outcome, stopped.series
        found = {"log": spec.directory / OUTPUT, "script": spec.directory / self.settings.files.script}
        files = {use: str(path) for use, path in found.items() if path.exists()}
        if not outcome.computed:
            judged = judged_again(self.settings, spec.trial.config, outcome)
            if isinstance(judged, Failure):
                raise StageFailed(judged)
            outcome = judged
        return msgspec.structs.replace(outcome, files=files), series

    def compute(self, trial: Trial, directory: Path, context: RankContext) -> tuple[Outcome, Series]:
        """Runs the script to its end. Raises: StageFailed for a run that does not count; StoppedEarly; Preempted."""
        began, settings = time.time(), self.settings
        given, own = given_settings(settings, trial.config), directory / RUN_DIRECTORY
        resumes = own.exists() and settings.resume_argument is not None
        if not resumes:
            shutil.rmtree(own, ignore_errors=True)
            write_bytes(directory / settings.files.script, make_directory(settings, given[CONSTANT], own))
        watcher = _Watcher(self, trial, context)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, ignore_cleanup_errors=True) as temporary:
            variables = environment_of(settings, given[ENV], trial.trial, Path(temporary), self.world.threads)
            command = command_of(settings, given[ARG], resumes)
            ended = run_process(
                command, own, variables, directory / OUTPUT, settings.limits, watcher.line, watcher.should_stop
            )
        if watcher.preempted:
            raise Preempted(f"its machine is being taken away; {FROM_THE_START}")
        results = self._results(ended, variables[RUN_ID], own)
        if watcher.rank is not None and not watcher.rank.goes_on:
            raise self._stopped_early(watcher, watcher.rank, began)
        failure = failure_of(settings, trial.config, ended, results)
        if failure is not None:
            write_failure_log(directory, failure, {"the end of its output": "\n".join(ended.lines[-200:])})
            raise StageFailed(failure)
        outcome = msgspec.structs.replace(outcome_of(settings, results), device=self._device())
        if ended.left_behind:
            notes = (*outcome.notes, f"{ended.left_behind} processes that it left behind were ended")
            outcome = msgspec.structs.replace(outcome, notes=notes)
        return outcome, watcher.series()

    def describe_progress(self, trial: Trial, curve: str, step: int) -> tuple[str, float]:
        """Returns the step in words, and the fraction of the steps that is done; 0 where a clock decides."""
        total = self.settings.total_steps(trial.config)
        if not total:
            return f"step {step:,}", 0.0
        return f"step {step:,} of {total:,}", min(step / total, 1.0)

    def _results(self, ended: Ended, run_id: str, own: Path) -> ScriptResults:
        """Returns what the output says, completed by the log that the script wrote of itself.

        The log comes first where only it has the final score, and the output has points of a curve or nothing.
        """
        metrics = [parse_metric(text) for text in self.settings.metrics]
        code_bytes = (own / self.settings.files.script).stat().st_size
        output = results_of(ended.lines, own, code_bytes, metrics)
        logs = [path for path in (own / "logs").glob(f"*{glob.escape(run_id)}*") if path.is_file()]
        if not logs:
            return output
        newest = max(logs, key=lambda path: path.stat().st_mtime)
        written = results_of(lines_of(newest, self.settings.limits.output_bytes), own, code_bytes, metrics)
        named = {metric.name for metric in metrics}

        def rank(results: ScriptResults) -> tuple[bool, bool, bool, bool]:
            has_named = not named.isdisjoint(results.metrics)
            return has_named, bool(results.log.scores), results.label is not None, results.unfinished is None

        first, second = (written, output) if rank(written) > rank(output) else (output, written)
        return replace(
            first,
            metrics={**second.metrics, **first.metrics},
            label=first.label or second.label,
            seed=second.seed if first.seed is None else first.seed,
            settings={**second.settings, **first.settings},
            notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
        )

    def _stopped_early(self, watcher: "_Watcher", rank: Rank, began: float) -> StoppedEarly:
        seconds = {RUN: time.time() - began}
        assert self.halving is not None
        name, points = watcher.score_curve()
        value = points[-1][2]
        outcome = Outcome(
            state=TrialState.SCREENED,
            reason=stopped_text(f"{rank}, {name} {value:.4f}", self.halving.top, "--no-early-stopping"),
            metrics={name: value},
            seconds=seconds,
            computed=seconds,
            cold=True,
            device=self._device(),
        )
        return StoppedEarly(outcome, watcher.series())

    def _device(self) -> Device:
        kind = self.world.device
        device = torch.device(kind, 0) if kind == "cuda" and torch.cuda.is_available() else torch.device("cpu")
        return Device(count=self.world.ranks, name=device_name(device), kind=device.type)  # type: ignore[arg-type]


def _validates(curve: str) -> bool:
    return curve.startswith("val_")


@dataclass
class _Watcher:
    """Follows a script's output: its curves, and whether it has to stop."""

    workload: ScriptWorkload
    trial: Trial
    context: RankContext
    rank: Rank | None = None
    """At the last step at which it was compared."""
    preempted: bool = False
    curves: dict[str, list[tuple[int, float, float]]] = field(default_factory=lambda: defaultdict(list))
    reported: float = -math.inf

    def __post_init__(self) -> None:
        self.metrics: list[Metric] = [parse_metric(text) for text in self.workload.settings.metrics]
        self.due = list(() if self.workload.halving is None else self.workload.halving.steps)

    def line(self, line: str) -> str | bool:
        """Takes a line of the output. Returns: why the script has to stop, or whether the line is progress."""
        points = points_in(line)
        if points is None:
            said = any(metric.file is not None or in_line(metric, line) is not None for metric in self.metrics)
            return said or BPB in line
        now, reason = time.time(), None
        for name, value in points.values.items():
            if not math.isfinite(value):
                return f"it diverged: {name} is {value} at step {points.step}"
            curve = self.curves[name]
            curve.append((points.step, now, value))
            if len(curve) > _MOST_POINTS:
                del curve[:-1:2]
            validates = _validates(name)
            if validates or time.monotonic() - self.reported > _REPORT_SECONDS:
                self.reported = time.monotonic() if not validates else self.reported
                self.context.report(series_name(name), points.step, value)
        total = points.total_steps or self.workload.settings.total_steps(self.trial.config)
        goes_on = total is None or points.step < total  # at the end nothing is saved
        if self.due and self.due[0] <= points.step and goes_on and any(map(_validates, points.values)):
            reason = self._compare(points.step, points.values)
        return reason or True

    def _compare(self, step: int, values: Mapping[str, float]) -> str | None:
        while self.due and self.due[0] <= step:
            self.due.pop(0)
        assert self.workload.halving is not None
        name = BPB if BPB in values else "val_loss"
        likeness = digest(self.workload.settings.likeness, self.workload.data)[:12]
        self.rank = rank_at(self.workload.halving, likeness, self.trial.trial, step, values[name])
        return None if self.rank.goes_on else f"stopped early: {self.rank}"

    def should_stop(self) -> str | None:
        """Returns why the script has to stop although it runs well: its machine is being taken away."""
        if self.context.preemption():
            self.preempted = True
            return "its machine is being taken away"
        return None

    def score_curve(self) -> tuple[str, list[tuple[int, float, float]]]:
        """Returns the name and the points of the validation curve."""
        name = BPB if self.curves.get(BPB) else "val_loss"
        return name, self.curves[name]

    def series(self) -> Series:
        """Returns all curves."""
        return Series({series_name(name): points for name, points in self.curves.items() if points})
