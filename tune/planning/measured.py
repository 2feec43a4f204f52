"""Seconds of a workload's stages by what was measured of its base configuration on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from golf.config.config import RunConfig, to_plain
from golf.pipeline.machine_seconds import CHUNKS, STEPS, MachineSeconds
from golf.runtime.results import LADDER, SLIDING, TTT
from tune.planning.stage_timings import TRAIN
from tune.records.entries import Config
from tune.workloads.gepa.settings import parse_config
from tune.workloads.gepa.workload import GepaWorkload


@dataclass(frozen=True, kw_only=True)
class MeasuredTimings:
    """Seconds of stages of all trials that have the measured model, batch and scoring."""

    workload: GepaWorkload
    measured: MachineSeconds

    def seconds(self, config: Config, stage: str, steps: float | None = None) -> float | None:
        """Returns the seconds of a stage of this configuration; None: of that work nothing was measured.

        Args: config: the configuration, as JSON values; stage: its name in `TrialEntry.seconds`; steps: of the
            training; None: all of them.
        """
        base, run = self.workload.base, parse_config(config)
        own, measured = (self.workload.stage_work(plain, stage).keys[-1] for plain in (config, to_plain(base)))
        if own != measured:
            return None
        if stage == TRAIN:
            return self.measured.step_seconds(run.schedule) * (run.schedule.steps if steps is None else steps)
        return self._ttt_seconds(run) if stage == TTT else self.stages.get(stage)

    @property
    def stages(self) -> Mapping[str, float]:
        """The seconds of the rungs that were measured, of the base configuration."""
        plain = dict.fromkeys(LADDER[:-2], self.measured.plain_seconds)
        ttt = {} if self.measured.ttt_seconds is None else {TTT: self.measured.ttt_seconds}
        return plain | {SLIDING: self.measured.sliding_seconds} | ttt

    def _ttt_seconds(self, run: RunConfig) -> float | None:
        """Returns the seconds of TTT: those of scoring, and of training in proportion to the epochs."""
        base, whole, scoring = self.workload.base.ttt, self.measured.ttt_seconds, self.measured.sliding_seconds
        if run.ttt is None or base is None or whole is None or not base.epochs:
            return whole
        return scoring + max(0.0, whole - scoring) * run.ttt.epochs / base.epochs

    def text(self) -> str:
        """Returns what was measured in lines, the last with the options that tell it to a plan."""
        schedule = self.workload.base.schedule
        kinds = [f"{step.seconds:.4g} s{' with QAT' * step.qat}" for step in self.measured.steps if step.looped]
        kinds += [f"{step.seconds:.4g} s without the loop" for step in self.measured.steps if not step.looped]
        mean = self.measured.step_seconds(schedule)
        stages = " ".join(f"{stage}={seconds:.4g}" for stage, seconds in self.stages.items())
        return "\n".join(
            [
                f"measured on {self.measured.device}: {mean:.4g} s a step ({', '.join(kinds)}; {STEPS} steps each)",
                f"seconds of a rung, by {CHUNKS} chunks of each: {stages}; packing is not measured",
                f"the same for --plan: --step-seconds {mean:.4g} --stage-seconds {stages}",
            ]
        )
