"""Trials whose training is stopped early: their validation curves are compared at equal steps of one schedule.

The rule is that of `tune.search.early_stopping`, from a quarter and a half of the steps on. A trial that is stopped has
saved its state, from which it goes on where nothing is stopped.
"""

from pathlib import Path

from golf.config.config import to_plain
from golf.runtime.files import read_json, write_bytes
from golf.runtime.results import digest
from golf.train.train_log import CURVES_FILE
from tune.records.entries import Outcome, Series, TrialState
from tune.search.early_stopping import COMPARED_AT, Halving, rank_at
from tune.search.successive_halving import stopped_text
from tune.workloads.base import RankContext, TrialSpec
from tune.workloads.gepa.settings import GepaSettings, config_of
from tune.workloads.gepa.stages import TRAIN, training_key
from tune.workloads.trial_process import STOPPED_EARLY


class TrainingStop:
    """Watches a training on one rank: compares its validation points, and asks it to save and end."""

    def __init__(self, settings: GepaSettings, spec: TrialSpec, context: RankContext) -> None:
        config = config_of(spec.trial)
        self.settings, self.context, self.trial = settings, context, training_key(config)
        self.file, self.steps = spec.directory / STOPPED_EARLY, config.schedule.steps
        alike = {name: to_plain(getattr(config, name)) for name in ("schedule", "batch", "score")}
        self.likeness = digest(alike, config.validate_every, config.model.vocab_size, settings.data)[:12]
        """Digest of what trials have to have in common: losses at equal steps of other schedules do not compare."""
        at = () if settings.training_halving is None else COMPARED_AT
        self.due = [max(1, self.steps // part) for part in at]
        self.stopped = False

    def event(self, curve: str, step: int, value: float) -> None:
        """Passes on a point of a curve, and compares one of the validation's."""
        self.context.report(curve, step, value)
        halving = self.settings.training_halving
        if halving is None or curve != "validation_bpb" or not self.due or not self.due[0] <= step < self.steps:
            return
        while self.due and self.due[0] <= step:
            self.due.pop(0)
        if self.context.group.first:
            self._compare(halving, step, value)

    def preemption(self) -> bool:
        """Whether the training has to save its state and end."""
        return self.stopped or self.context.preemption()

    def _compare(self, halving: Halving, step: int, bpb: float) -> None:
        rank = rank_at(halving, self.likeness, self.trial, step, bpb)
        self.stopped = not rank.goes_on
        if self.stopped:
            where = f"{rank} of the training, validation_bpb {bpb:.4f}"
            write_bytes(self.file, stopped_text(where, halving.top, "--early-stopping evaluation").encode())


def outcome_of_stopped(directory: Path) -> tuple[Outcome, Series] | None:
    """Returns the outcome of a trial whose training was stopped early; None for another one."""
    if not (directory / STOPPED_EARLY).exists():
        return None
    curves = read_json(directory / CURVES_FILE)
    seconds = {TRAIN: float(curves["seconds"][0][2])}
    outcome = Outcome(
        state=TrialState.SCREENED,
        reason=(directory / STOPPED_EARLY).read_text(),
        seconds=seconds,
        computed=seconds,
    )
    return outcome, Series({name: curves[name] for name in ("train_loss", "validation_bpb") if curves[name]})
