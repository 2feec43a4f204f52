"""The first stage of a run: training to the last step, with validations, saved states and the log on the way.

An interrupted training continues from its last saved state with the same bits.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from golf.config.schedule import make_plan
from golf.data.shards import TokenStream
from golf.evaluate.sliding import score, validation_stream
from golf.model.compile import activation_dtype
from golf.model.gepa import build_model
from golf.pipeline.identity import train_identity, training_identity
from golf.pipeline.run_directory import stored_result
from golf.pipeline.stage_context import LOWER_TRAINING, StageContext, explain_divergence
from golf.runtime.eager_optimizers import use_eager_optimizers
from golf.runtime.files import write_json
from golf.runtime.process_group import device_name
from golf.runtime.results import AVERAGED, LIVE, STATE, WEIGHTS, TrainResult, write_result
from golf.runtime.tensors import write_tensors
from golf.train.hooks import NO_HOOKS, Hooks
from golf.train.loop import Step, train
from golf.train.microbatching import ready_to_train, training_passes
from golf.train.run_log import end_lines, has_log_line
from golf.train.train_log import CURVES_FILE, TrainingLog
from golf.train.train_state import TrainState

NO_SNAPSHOTS: Mapping[int, Path] = MappingProxyType({})


def train_stage(
    run: StageContext, hooks: Hooks = NO_HOOKS, start: Path | None = None, snapshots: Mapping[int, Path] = NO_SNAPSHOTS
) -> TrainResult:
    """Trains to the last step and writes the live and the averaged weights; a finished training is not run again.

    Args:
        run: the run.
        hooks: its caller's.
        start: directory of a state to continue from, saved by any run whose plan begins with the same rows.
        snapshots: number of steps -> directory that receives the state after them.

    Returns: the result; the seconds of the state that it continued from are part of it.
    Raises: Diverged; Preempted; OutOfMemory; ValueError without training shards.
    """
    path, identity = run.directory.file("train.json"), train_identity(run.config, run.dataset)
    stored = stored_result(path, TrainResult, identity, run.group)
    if stored is not None:
        for line in stored.log:
            hooks.log(line)
        return stored
    if run.dataset.train is None:
        raise ValueError(f"{run.dataset.folder} has no training shards (*_train_*.bin); it can only be scored")
    result = TrainStage(run, hooks, start, snapshots).train(run.dataset.train)
    if run.group.first:
        write_result(path, identity, result)
        run.directory.file(STATE).unlink(missing_ok=True)
    return result


class TrainStage:
    """A training in progress: its state, its log, and what is done after each step."""

    def __init__(self, run: StageContext, hooks: Hooks, start: Path | None, snapshots: Mapping[int, Path]) -> None:
        use_eager_optimizers()
        self.run, self.hooks, self.snapshots = run, hooks, snapshots
        config, group, self.steps = run.config, run.group, run.config.schedule.steps
        model = build_model(config.model, config.seed, activation_dtype(group.device))
        self.state = TrainState(model, config.optimizer, group)
        identity_at = partial(training_identity, config, run.dataset)
        self.log = TrainingLog(self.state, identity_at, run.directory.path, group, hooks, self.steps, start)
        self.forward = ready_to_train(self.state.model, config, group)

    def train(self, stream: TokenStream) -> TrainResult:
        """Runs the remaining steps on the training tokens, writes the weights, and returns the result."""
        config, group, directory = self.run.config, self.run.group, self.run.directory
        self._finish_step(resumed=True)
        plan, clip = make_plan(config.schedule), config.optimizer.gradient_clip
        batches, passes = training_passes(config.batch, stream, group)
        check = self.hooks.preemption
        train(self.state, plan, batches, clip, group, self._after_step, self.forward, passes, preemption=check)
        if group.first:
            write_tensors(directory.file(WEIGHTS[LIVE]), self.state.live_weights())
            write_tensors(directory.file(WEIGHTS[AVERAGED]), self.state.averaged_weights())
            write_json(directory.file(CURVES_FILE), self.log.curves)
        group.wait()
        seconds = self.log.seconds
        self.log.add_lines(*end_lines(self.steps, seconds, group))
        return TrainResult(
            seconds=seconds,
            steps=self.steps,
            tokens=self.steps * config.batch.tokens_per_step,
            device=f"{group.world_size} x {device_name(group.device)}",
            log=tuple(self.log.lines),
            checkpoints=self.log.timer.cost,
        )

    def _after_step(self, step: Step) -> None:
        self.log.add_point("train_loss", step.step, step.loss_nats)
        if has_log_line(step.step + 1, self.steps):
            self.log.add_step_line(step.step + 1, train_loss=step.loss_nats)
        self.log.stop_when(step.preempted and self.state.step < self.steps)
        self._finish_step()
        if self.state.step < self.steps:
            self.log.save_when_due()

    def _finish_step(self, resumed: bool = False) -> None:
        """Validates and takes a snapshot; also for a state that a preemption saved before this was done."""
        every, step = self.run.config.validate_every, self.state.step
        due = every is not None and step % every == 0 and 0 < step < self.steps
        if due and not self.log.has("validation_bpb", step):
            self._validate()
        if step in self.snapshots and not (resumed and (self.snapshots[step] / STATE).exists()):
            self.log.save(self.snapshots[step])

    def _validate(self) -> None:
        """Scores the validation tokens with plain windows."""
        group, step, preemption = self.run.group, self.state.step, self.hooks.preemption
        stream = validation_stream(self.run.dataset, group)
        with explain_divergence(f"step {step}, validation", LOWER_TRAINING):
            scored = score(
                self.forward,
                stream,
                self.run.config.score,
                group,
                plain=True,
                on_chunk_boundary=lambda: self.log.stop_when(group.any(preemption())),
            )
        self.log.add_point("validation_bpb", step, scored.bpb)
        self.log.add_step_line(step, val_loss=scored.nats_per_token, val_bpb=scored.bpb)
