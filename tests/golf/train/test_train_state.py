"""Resuming, refusing and stopping."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golf.config.config import ModelConfig, OptimizerConfig, ScheduleConfig
from golf.config.schedule import make_plan
from golf.model.gepa import build_model, count_parameters
from golf.runtime.errors import Diverged
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import read_tensors
from golf.train.loop import Step, train
from golf.train.train_state import TrainState
from tests.golf.tiny import TINY

PLAN = make_plan(ScheduleConfig(steps=6, warmdown_start=2, momentum_steps=3, ema_decay=0.5, qat_threshold=0.5))
IDENTITY = {"data": "d", "seed": 1}


def batches(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
    """A batch that is a function of its place."""
    generator = torch.Generator().manual_seed(100 * step + micro_batch)
    tokens = torch.randint(0, 48, (2, 17), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def fresh() -> TrainState:
    """A state before its first step."""
    return TrainState(build_model(TINY, 1), OptimizerConfig(), ProcessGroup())


def run(state: TrainState, steps: int, seen: Callable[[Step], None] = lambda step: None) -> TrainState:
    """Train up to `steps`."""
    train(state, PLAN[:steps], batches, 0.3, ProcessGroup(), seen)
    return state


def everything(state: TrainState) -> list[Tensor]:
    """All numbers of a state in one order."""
    adamw = [value for one in state.adamw.state_dict()["state"].values() for value in one.values()]
    return [*state.live_weights().values(), *state.averaged_weights().values(), *state.muon.momenta, *adamw]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_equals_no_stop_bit_for_bit(tmp_path: Path, stop: int) -> None:
    """Fault: a momentum, average or step that a resumed run does not get back."""
    whole = run(fresh(), 6)
    run(fresh(), stop).save(tmp_path / "state.safetensors", IDENTITY)
    resumed = fresh()
    resumed.load(tmp_path / "state.safetensors", lambda step: IDENTITY)
    assert resumed.step == stop
    run(resumed, 6)
    assert all(torch.equal(a, b) for a, b in zip(everything(whole), everything(resumed), strict=True))


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    """Fault: a run silently goes on from the weights of another."""
    fresh().save(tmp_path / "state.safetensors", IDENTITY)
    with pytest.raises(ValueError, match="seed was 1, now 2"):
        fresh().load(tmp_path / "state.safetensors", lambda step: IDENTITY | {"seed": 2})


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    """Fault: half a file is taken for a state, or ends in a traceback without the file's name."""
    path = tmp_path / "state.safetensors"
    fresh().save(path, IDENTITY)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"state\.safetensors"):
        fresh().load(path, lambda step: IDENTITY)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, ("exploded", "w"))


def test_a_pickle_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: loading weights executes what a stranger put into the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.safetensors").write_bytes(pickle.dumps({"weights": Bomb()}, protocol=2))
    with pytest.raises(ValueError, match=r"bomb\.safetensors"):
        read_tensors(tmp_path / "bomb.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    """Fault: NaN reaches the weights, or the step is not named."""
    state = run(fresh(), 2)
    with torch.no_grad():
        state.parameters["smear.gate"][0] = math.nan
    before = everything(state)
    with pytest.raises(Diverged, match="step 2"):
        run(state, 6)
    assert state.step == 2
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(before, everything(state), strict=True))


def test_training_lowers_the_loss() -> None:
    """Fault: a sign or a learning rate that makes training go nowhere."""
    losses: list[float] = []
    state = fresh()
    train(
        state,
        PLAN,
        lambda step, micro: batches(0, micro),
        0.3,
        ProcessGroup(),
        lambda step: losses.append(step.loss_nats),
    )
    assert losses[-1] < losses[0] - 0.1


def test_parameters_of_the_record() -> None:
    """Fault: the model is not the record's."""
    assert count_parameters(ModelConfig()) == 27_030_108
    assert count_parameters(ModelConfig(), frozen_blocks=2) == 22_301_260
