"""One trial in this process: its outcome, whatever happens."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from golf.config.config import RunConfig, override_all, to_plain
from golf.pipeline.stages import RunFolder
from golf.runtime.files import read_json
from golf.runtime.process_group import ProcessGroup
from golf.train.run_log import LOG_FILE
from tune.workloads.gepa.runner import EVALUATE, OUTCOME, TRAIN, run_stage, run_trial


def spec_of(config: RunConfig, data: Path, folder: Path) -> dict[str, Any]:
    """A trial's arguments."""
    return {"trial": "t", "config": to_plain(config), "data": str(data), "folder": str(folder), "save_seconds": 60.0}


def here(stage: str, spec: Mapping[str, Any]) -> None:
    """A runner in this process."""
    run_stage(stage, spec, ProcessGroup(), lambda curve, step, value: None, lambda: False)


def outcome_of(spec: Mapping[str, Any], train: Any = here, evaluate: Any = here) -> dict[str, Any]:
    """Run a trial and read what it left."""
    run_trial(spec, train, evaluate)
    outcome: dict[str, Any] = read_json(RunFolder(Path(spec["folder"])).file(OUTCOME))
    return outcome


def test_a_whole_trial(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a rung or curve missing, figures that do not belong together, a second run that gives others."""
    spec = spec_of(tiny, data, tmp_path / "a")
    outcome = outcome_of(spec)
    metrics = outcome["metrics"]
    assert outcome["status"] == "done"
    assert metrics["bpb"] == metrics["bpb_ttt"] == outcome["curves"]["ttt_bpb"][-1][2]
    assert metrics["artifact_bytes"] == metrics["model_bytes"] + metrics["code_bytes"]
    assert metrics["artifact_bytes"] == Path(outcome["files"]["artifact"]).stat().st_size + metrics["code_bytes"]
    assert [point[0] for point in outcome["curves"]["train_loss"]] == list(range(6))
    assert [point[0] for point in outcome["curves"]["validation_bpb"]] == [4]
    again = outcome_of(spec_of(tiny, data, tmp_path / "b"))
    timeless = {name: value for name, value in metrics.items() if "seconds" not in name}
    assert timeless == {name: value for name, value in again["metrics"].items() if "seconds" not in name}
    assert outcome["chunks"] == again["chunks"]
    last = (tmp_path / "a" / LOG_FILE).read_text().splitlines()[-1]
    assert last == f"final_ttt_exact val_loss:{metrics['nats']!r} val_bpb:{metrics['bpb']!r}"


def test_over_the_cap_nothing_is_evaluated(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: an evaluation that is paid for in vain, or an overflow of another number of bytes."""

    def evaluate(stage: str, spec: Mapping[str, Any]) -> None:
        raise AssertionError("evaluated")

    outcome = outcome_of(spec_of(replace(tiny, cap_bytes=60_000), data, tmp_path), evaluate=evaluate)
    assert outcome["status"] == "infeasible"
    over = outcome["metrics"]["artifact_bytes"] - 60_000
    assert outcome["metrics"]["overflow_bytes"] == over > 0
    assert f"{over:,}" in outcome["cause"]
    assert "bpb" not in outcome["metrics"]
    log = (tmp_path / LOG_FILE).read_text()
    assert f"Total submission size rans: {outcome['metrics']['artifact_bytes']} bytes" in log
    assert log.endswith(f"no result: infeasible, {outcome['cause']}\n")


def test_a_diverged_trial_names_its_step(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a failed trial that ends the sweep, or hides why."""
    wild = override_all(tiny, {"optimizer.embedding_lr": 1e30, "optimizer.scalar_lr": 1e30})
    outcome = outcome_of(spec_of(wild, data, tmp_path))
    assert outcome["status"] == "failed"
    assert outcome["cause"].startswith("diverged: step 1")
    log = (tmp_path / LOG_FILE).read_text()
    assert "step:1/6 train_loss:" in log
    assert log.endswith(f"no result: failed, {outcome['cause']}\n")


def test_a_diverged_adaptation_is_of_the_kind_that_is_not_tried_again(
    tiny: RunConfig, data: Path, tmp_path: Path
) -> None:
    """Fault: an error of JSON's instead of a cause, for which each start of a sweep runs the trial again."""
    outcome = outcome_of(spec_of(override_all(tiny, {"ttt.lr": 1e30}), data, tmp_path))
    assert outcome["status"] == "failed"
    assert outcome["cause"] == "diverged: ttt, chunk 1: loss nan; lower ttt.lr or ttt.epochs"


def test_a_full_disk_is_named(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a cause that a person cannot act on."""

    def train(stage: str, spec: Mapping[str, Any]) -> None:
        Path("/dev/full").write_text("a state")

    outcome = outcome_of(spec_of(tiny, data, tmp_path), train=train)
    assert outcome["cause"].startswith("disk full: OSError: [Errno 28]")
    log = Path(outcome["files"]["log"]).read_text()
    assert outcome["cause"] in log
    assert 'write_text("a state")' in log, "the line that failed"


def test_a_finished_training_is_not_run_again(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a trial that was stopped in its evaluation trains again."""
    spec, stages = spec_of(tiny, data, tmp_path), []

    def stopped(stage: str, spec: Mapping[str, Any]) -> None:
        raise RuntimeError("killed")

    def counted(stage: str, spec: Mapping[str, Any]) -> None:
        stages.append(stage)
        here(stage, spec)

    assert outcome_of(spec, counted, stopped)["status"] == "failed"
    trained = (tmp_path / "live.safetensors").stat().st_mtime_ns
    time.sleep(0.01)
    assert outcome_of(spec, counted, counted)["status"] == "done"
    assert stages == [TRAIN, EVALUATE]
    assert (tmp_path / "live.safetensors").stat().st_mtime_ns == trained


def test_threads_are_those_of_the_trial_s_cpus(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: OMP_NUM_THREADS of the shell changes the last bits of what a store shares as equal."""
    wide: dict[str, Any] = {
        "model.model_dim": 128,
        "model.mlp_hidden": 512,
        "batch.tokens_per_step": 2048,
        "schedule.steps": 3,
    }
    wide |= {"batch.sequence_length": 64, "schedule.warmdown_start": 0, "ttt": None, "validate_every": None}
    config = replace(override_all(tiny, wide), cap_bytes=10**7)
    before, figures = torch.get_num_threads(), {}
    try:
        for shell, own in ((1, 1), (2, 1), (1, 2)):
            torch.set_num_threads(shell)
            spec = spec_of(config, data, tmp_path / f"{shell}{own}") | {"world": {"ranks": 1, "threads": own}}
            outcome = outcome_of(spec)
            assert outcome["tags"]["device"].endswith(f", {own} thread(s)")
            figures[shell, own] = outcome["metrics"]["bpb"], outcome["metrics"]["model_bytes"]
    finally:
        torch.set_num_threads(before)
    assert figures[2, 1] == figures[1, 1]
    assert figures[1, 2] != figures[1, 1], "threads change nothing of this configuration: it shows nothing"
