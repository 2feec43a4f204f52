"""A training whose right passes to another trial goes on from the furthest state."""

from functools import partial
from pathlib import Path

import pytest

from golf.config.config import RunConfig
from golf.data.dataset import open_dataset
from golf.pipeline.identity import training_identity
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.results import STATE, WEIGHTS
from golf.train.hooks import Hooks
from golf.train.loop import Preempted
from tune.workloads.gepa.checkpoints import link_latest_checkpoint, steps_of


def test_another_trial_goes_on_from_a_dead_ones_state(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: work lost with the trial that did it; a stored prefix computed again; another training's taken."""
    dataset, steps = open_dataset(data), list[int]()
    identity = partial(training_identity, tiny, dataset)

    def train(name: str, stop_after: int | None = None, start: Path | None = None) -> None:
        def event(curve: str, step: int, value: float) -> None:
            steps.extend([step] if curve == "train_loss" else [])

        run = StageContext(config=tiny, dataset=dataset, directory=RunDirectory(tmp_path / name))
        preemption = (lambda: False) if stop_after is None else (lambda: len(steps) >= stop_after)
        hooks = Hooks(event=event, preemption=preemption)
        train_stage(run, hooks, start, {3: tmp_path / name / "prefix-3"})

    train("calm")
    for name, stop_after in (("early", 1), ("late", 4)):
        steps.clear()
        with pytest.raises(Preempted):
            train(name, stop_after)
    new, late, early = tmp_path / "new", tmp_path / "late", tmp_path / "early"
    keep = {3: new / "prefix-3"}
    reached = steps_of(late, identity)
    assert reached is not None
    assert (steps_of(early, identity) or 3) < 3 < reached < 6
    other = partial(training_identity, RunConfig(), dataset)
    link_latest_checkpoint(new, [early, late], None, keep, other)
    assert steps_of(new, identity) is None
    link_latest_checkpoint(new, [early, late], None, keep, identity)
    assert steps_of(new, identity) == reached
    assert steps_of(keep[3], identity) == 3
    steps.clear()
    train("new")
    assert steps == list(range(reached, 6))
    for file in WEIGHTS.values():
        assert (new / file).read_bytes() == (tmp_path / "calm" / file).read_bytes()
    link_latest_checkpoint(early, [], late / "prefix-3", {}, identity)
    assert not (early / STATE).exists(), "the stored prefix is further"
    (late / "prefix-3" / STATE).unlink()
    link_latest_checkpoint(early, [late], None, {3: early / "prefix-3"}, identity)
    assert not (early / STATE).exists(), "a state is no use beyond one that is to be kept"
