"""Early stopping of trainings: a bad one stops with its state saved, another schedule is not compared with."""

from dataclasses import replace
from pathlib import Path

import pytest

from golf.config.config import RunConfig, override_all
from tests.tune.workloads.gepa.helpers import run, spec_of, trial_of, workload_of
from tune.records.entries import TrialState
from tune.search.early_stopping import Halving


@pytest.mark.long
def test_a_bad_training_stops_and_can_go_on_later(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a bad training that is paid for to its end, that begins anew when it is wanted after all, or one that is
    stopped by trials of another schedule or among too few."""
    base = override_all(tiny, {"schedule.steps": 12, "validate_every": 3, "ttt": None})
    workload = workload_of(base, data, training_halving=Halving(file=tmp_path / "screened.jsonl"))
    rates = {"first": 0.025, "second": 0.03, "third": 0.02}
    for name, rate in rates.items():
        config = override_all(base, {"optimizer.matrix_lr": rate})
        assert run(workload, spec_of(trial_of(config, name), tmp_path / name))[0].state == TrialState.DONE
    worse = {"optimizer.embedding_lr": 1e-7, "optimizer.matrix_lr": 1e-7, "optimizer.scalar_lr": 1e-7}
    other = override_all(base, worse | {"schedule.warmdown_start": 5})
    assert run(workload, spec_of(trial_of(other, "other"), tmp_path / "other"))[0].state == TrialState.DONE
    bad = spec_of(trial_of(override_all(base, worse), "bad"), tmp_path / "bad")
    outcome, series = run(workload, bad)
    assert outcome.state == TrialState.SCREENED
    assert str(outcome.reason).startswith("stopped early: 4th of 4 at step 6 of the training, validation_bpb ")
    assert str(outcome.reason).endswith("(top 50 % go on; --early-stopping evaluation runs all)")
    assert [point[0] for point in series.curves["validation_bpb"]] == [3, 6]
    assert 6 <= len(series.curves["train_loss"]) < 12
    later, whole = run(replace(workload, training_halving=None), bad)
    assert later.state == TrialState.DONE
    assert (whole.curves["train_loss"][:6] == series.curves["train_loss"][:6]).all(), "it began anew"
