"""Whether a run of a script goes on: its validation curve is compared with the other trials' at the same step.

Asynchronous successive halving (Li et al. 2020): a trial is ranked among those that came so far, and the first ones go
on. Losses at equal steps compare only where the schedules are the same: where trials have the same number of steps and
no clock decides.
"""

from pathlib import Path

import msgspec

from tune.records.entries import ScreeningEntry
from tune.records.ledger import Ledger
from tune.search.successive_halving import is_among_top, ordinal

COMPARED_AT = (4, 2)
"""Trials are compared from these fractions of the steps on: a quarter and a half."""


class Halving(msgspec.Struct, frozen=True, kw_only=True):
    """How trials are stopped early."""

    file: Path
    """Ledger with the losses of all trials at the steps."""
    steps: tuple[int, ...] = ()
    """Steps from which on the next point of the curve is compared, ascending, where trials have the same."""
    top: float = 0.5
    """Share of the trials that go on from each step; above 0, at most 1."""


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """A trial's rank at a step."""

    step: int
    rank: int
    """1 is the best."""
    num_trials: int
    """Itself included."""
    goes_on: bool

    def __str__(self) -> str:
        return f"{ordinal(self.rank)} of {self.num_trials} at step {self.step:,}"


def rank_at(halving: Halving, likeness: str, trial: str, step: int, loss: float) -> Rank:
    """Returns the rank of a trial's loss among all that came to the same step, and keeps it for those to come.

    Args:
        halving: how trials are stopped.
        likeness: digest of what the trials have in common; those of another script or schedule do not compare.
        trial: the trial.
        step: optimiser steps that it has done.
        loss: of it at this step; less is better.
    """
    ledger, rung = Ledger(halving.file), f"step {step} of {likeness}"
    losses = {entry.trial: entry.chunks[0][0] for entry in ledger.screening() if entry.rung == rung}
    if losses.get(trial) != loss:
        ledger.append(ScreeningEntry(trial=trial, rung=rung, chunks=((loss, 1, 1),)))
    losses[trial] = loss
    rank = 1 + sum(other < loss for other in losses.values())
    goes_on = is_among_top(rank, len(losses), halving.top)
    return Rank(step=step, rank=rank, num_trials=len(losses), goes_on=goes_on)
