"""Successive halving of scripts: ranks against a direct computation, and what a stopped run leaves."""

import math
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.workloads.script.running import marked
from tests.tune.workloads.script.trials import copied, run, settings_of, workload_of
from tune.cache.store import Store
from tune.records.entries import TrialState
from tune.search.early_stopping import Halving, rank_at

SEEN = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from((10, 20)), st.sampled_from((1.0, 1.5, 2.0, 3.0))),
    max_size=14,
)


@settings(max_examples=60)
@given(SEEN, st.sampled_from((0.1, 0.25, 0.5, 0.7, 1.0)))
def test_ranks_against_a_direct_computation(seen: list[tuple[str, int, float]], top: float) -> None:
    """Fault: a trial is ranked among those of another step, by an older loss of its own, or the better ones stop."""
    with tempfile.TemporaryDirectory() as folder:
        halving = Halving(file=Path(folder) / "screened.jsonl", steps=(10, 20), top=top)
        known: dict[int, dict[str, float]] = {10: {}, 20: {}}
        for trial, step, loss in seen:
            rank = rank_at(halving, "one", trial, step, loss)
            losses = known[step]
            losses[trial] = loss
            ordered = sorted(losses.values())
            place = ordered.index(loss) + 1
            most = math.ceil(round(top * len(ordered), 6))
            expected = len(ordered) < 4 or place <= most
            assert (rank.rank, rank.num_trials, rank.goes_on) == (place, len(ordered), expected)
            assert str(rank).endswith(f" of {len(ordered)} at step {step}")


def test_equal_losses_all_go_on(tmp_path: Path) -> None:
    """Fault: of trials that are alike the later ones are stopped."""
    halving = Halving(file=tmp_path / "screened.jsonl", steps=(10,), top=0.25)
    assert all(rank_at(halving, "one", str(number), 10, 2.0).goes_on for number in range(9))


def test_another_script_is_not_compared_with(tmp_path: Path) -> None:
    """Fault: after a change of the script all its trials are stopped by losses of the old one."""
    halving = Halving(file=tmp_path / "screened.jsonl", steps=(10,))
    for number in range(9):
        rank_at(halving, "old", str(number), 10, 1.0)
    assert rank_at(halving, "new", "first", 10, 2.0).num_trials == 1
    script = copied("train_gpt.py", tmp_path / "work")
    likeness = settings_of(script).likeness
    assert settings_of(script, nproc=2).likeness != likeness
    assert settings_of(script, fixed_steps=10).likeness != likeness
    script.write_text(script.read_text() + "\n")
    assert settings_of(script).likeness != likeness


def test_the_losses_of_several_processes(tmp_path: Path) -> None:
    """Fault: a loss is lost where trials come to a step at once."""
    halving = Halving(file=tmp_path / "screened.jsonl", steps=(10,))
    threads = [
        threading.Thread(target=rank_at, args=(halving, "one", str(number), 10, float(number))) for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert rank_at(halving, "one", "last", 10, 99.0).num_trials == 13


GOOD = {"STEP_SECONDS": 0.001, "ITERATIONS": 40}


def test_a_bad_trial_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a trial that is behind runs to its end, holds its place, or its part of a run is taken for its result."""
    monkeypatch.setenv("MARK", mark := f"halving-{tmp_path.name}-{time.time()}")
    script = copied("train_gpt.py", tmp_path / "work")
    halving = Halving(file=tmp_path / "screened.jsonl", steps=(10, 20))
    workload = workload_of(settings_of(script, passed=("MARK",)), halving)
    for number, rate in enumerate((0.026, 0.027, 0.025)):
        outcome, _ = run(workload, {"MATRIX_LR": rate, **GOOD}, tmp_path / str(number), tmp_path / "store")
        assert outcome.state == TrialState.DONE
    bad = {"MATRIX_LR": 0.9, "STEP_SECONDS": 0.05, "ITERATIONS": 40}
    began = time.monotonic()
    stopped, series = run(workload, bad, tmp_path / "bad", tmp_path / "store")
    assert time.monotonic() - began < 1.9, "of 2 seconds it had done a quarter"
    assert not marked(mark)
    assert stopped.state == TrialState.SCREENED
    assert (stopped.bpb, stopped.score) == (None, None)
    assert str(stopped.reason).startswith("stopped early: 4th of 4 at step 10, val_")
    assert str(stopped.reason).endswith(" (top 50 % go on; --no-early-stopping runs all)")
    assert [step for step, _, _ in series.curves["validation_bpb"]] == [10]
    store = Store(str(tmp_path / "store"))
    (output,) = workload.stages(workload.trial(bad)).outputs
    assert store.find(output.key) is None
    other = workload_of(workload.settings)
    whole, _ = run(other, bad, tmp_path / "other", tmp_path / "store")
    assert whole.state == TrialState.DONE, "the part of a run stood for the whole"
    assert whole.computed


def test_at_its_last_step_no_trial_is_stopped(tmp_path: Path) -> None:
    """Fault: a run that has done all its steps is thrown away before it prints its score."""
    script = copied("train_gpt.py", tmp_path / "work")
    halving = Halving(file=tmp_path / "screened.jsonl", steps=(5,), top=0.25)
    workload = workload_of(settings_of(script), halving)
    for number, rate in enumerate((0.026, 0.027, 0.028, 0.2, 0.4)):
        point = {"MATRIX_LR": rate, "ITERATIONS": 10, "VAL_LOSS_EVERY": 10, "STEP_SECONDS": 0}
        assert run(workload, point, tmp_path / str(number))[0].state == TrialState.DONE
