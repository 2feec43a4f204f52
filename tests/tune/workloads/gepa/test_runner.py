"""One trial in this process: its outcome, whatever happens."""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from golf.config.config import RunConfig, override_all
from golf.train.run_log import LOG_FILE
from tests.tune.workloads.gepa.helpers import in_process, run, spec_of, trial_of, workload_of
from tune.records.entries import FailureKind, Outcome, TrialState
from tune.workloads.base import StageRequest
from tune.workloads.gepa.stage_worker import EVALUATE
from tune.workloads.gepa.stages import TRAIN


def without_seconds(outcome: Outcome) -> dict[str, Any]:
    """What does not depend on how fast the machine is."""
    values = msgspec.to_builtins(outcome)
    for name in ("seconds", "computed", "checkpoints", "files", "check"):
        del values[name]
    for rung in values["rungs"]:
        del rung["seconds"]
    return values


def test_a_whole_trial(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a rung or curve missing, figures that do not belong together, a second run that gives others."""
    workload, trial = workload_of(tiny, data), trial_of(tiny)
    outcome, series = run(workload, spec_of(trial, tmp_path / "a"))
    assert outcome.state == TrialState.DONE
    assert outcome.bpb == outcome.rungs[-1].bpb == series.curves["ttt_bpb"][-1][2]
    assert outcome.size is not None
    assert outcome.size.model_bytes == Path(outcome.files["artifact"]).stat().st_size
    assert [point[0] for point in series.curves["train_loss"]] == list(range(6))
    assert [point[0] for point in series.curves["validation_bpb"]] == [4]
    times = [point[1] for point in series.curves["ttt_bpb"]]
    assert all(before < after for before, after in pairwise(times)), "each chunk has its own time"
    assert outcome.cold
    assert outcome.computed == outcome.seconds
    assert outcome.check is not None
    assert outcome.check.failed_points == ()
    again, series_again = run(workload, spec_of(trial, tmp_path / "b"))
    assert without_seconds(outcome) == without_seconds(again)
    assert all((series.chunks[rung] == series_again.chunks[rung]).all() for rung in series.chunks)
    last = (tmp_path / "a" / LOG_FILE).read_text().splitlines()[-1]
    assert last == f"final_ttt_exact val_loss:{outcome.nats_per_token!r} val_bpb:{outcome.bpb!r}"


def test_over_the_cap_nothing_is_evaluated(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: an evaluation that is paid for in vain, or an overflow of another number of bytes."""
    config = replace(tiny, cap_bytes=20_000)
    workload = workload_of(config, data)

    def execute(request: StageRequest) -> None:
        assert request.stage == TRAIN
        in_process(workload)(request)

    outcome, _ = run(workload, spec_of(trial_of(config), tmp_path), execute)
    assert outcome.state == TrialState.INFEASIBLE
    assert outcome.size is not None
    over = outcome.size.artifact_bytes - 20_000
    assert outcome.size.over_bytes == over > 0
    assert f"{over:,}" in str(outcome.reason)
    assert outcome.bpb is None
    log = (tmp_path / LOG_FILE).read_text()
    assert f"Total submission size rans: {outcome.size.artifact_bytes} bytes" in log
    assert log.endswith(f"no result: infeasible, {outcome.reason}\n")


def test_a_diverged_trial_names_its_step(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a failed trial that ends the sweep, or hides why."""
    wild = override_all(tiny, {"optimizer.embedding_lr": 1e30, "optimizer.scalar_lr": 1e30})
    outcome, _ = run(workload_of(wild, data), spec_of(trial_of(wild), tmp_path))
    assert outcome.state == TrialState.FAILED
    assert str(outcome.reason).startswith("diverged: step 1")
    log = (tmp_path / LOG_FILE).read_text()
    assert "step:1/6 train_loss:" in log
    assert log.endswith(f"no result: failed, {outcome.reason}\n")


def test_diverged_ttt_is_of_the_kind_that_is_not_tried_again(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: an error of JSON's instead of a cause, for which each start of a sweep runs the trial again."""
    wild = override_all(tiny, {"ttt.lr": 1e30})
    outcome, _ = run(workload_of(wild, data), spec_of(trial_of(wild), tmp_path))
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.DIVERGED
    assert outcome.reason == "diverged: ttt, chunk 1: loss nan; lower ttt.lr or ttt.epochs"


def test_a_full_disk_is_named(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a cause that a person cannot act on."""

    def execute(request: StageRequest) -> None:
        Path("/dev/full").write_text("a state")

    outcome, _ = run(workload_of(tiny, data), spec_of(trial_of(tiny), tmp_path), execute)
    assert str(outcome.reason).startswith("disk full: OSError: [Errno 28]")
    log = Path(outcome.files["log"]).read_text()
    assert str(outcome.reason) in log
    assert 'write_text("a state")' in log, "the line that failed"


@pytest.mark.long
def test_a_finished_training_is_not_run_again(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a trial that was stopped in its evaluation trains again."""
    workload, spec, stages = workload_of(tiny, data), spec_of(trial_of(tiny), tmp_path), list[str]()

    def execute(request: StageRequest) -> None:
        stages.append(request.stage)
        if stages == [TRAIN, EVALUATE]:
            raise RuntimeError("killed")
        in_process(workload)(request)

    assert run(workload, spec, execute)[0].state == TrialState.FAILED
    trained = (tmp_path / "live.safetensors").stat().st_mtime_ns
    time.sleep(0.01)
    assert run(workload, spec, execute)[0].state == TrialState.DONE
    assert stages == [TRAIN, EVALUATE, EVALUATE]
    assert (tmp_path / "live.safetensors").stat().st_mtime_ns == trained


@pytest.mark.long
def test_threads_are_those_of_the_trial_s_cpus(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: OMP_NUM_THREADS of the shell changes the last bits of what a store shares as equal."""
    wide: dict[str, Any] = {"model.model_dim": 128, "model.mlp_hidden": 512, "schedule.steps": 3, "ttt": None}
    wide |= {"batch.tokens_per_step": 2048, "batch.sequence_length": 64, "schedule.warmdown_start": 0}
    config = replace(override_all(tiny, {**wide, "validate_every": None}), cap_bytes=10**7)
    workload, before, figures = workload_of(config, data), torch.get_num_threads(), {}
    try:
        for shell, own in ((1, 1), (2, 1), (1, 2)):
            torch.set_num_threads(shell)
            world = msgspec.structs.replace(workload.world, threads=own)
            outcome, _ = run(replace(workload, world=world), spec_of(trial_of(config), tmp_path / f"{shell}{own}"))
            assert str(outcome.device).endswith(f", {own} thread(s)")
            figures[shell, own] = outcome.bpb, outcome.artifact_bytes
    finally:
        torch.set_num_threads(before)
    assert figures[2, 1] == figures[1, 1]
    assert figures[1, 2] != figures[1, 1], "threads change nothing of this configuration: it shows nothing"
