"""Trainings that outlive their nodes, on a simulated cluster in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.runtime.files import read_json, write_json
from tests.tune.workloads.gepa.helpers import in_process, spec_of, trial_of, workload_of
from tune.workloads.gepa.stage_worker import TrainRequest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]


def test_a_training_outlives_its_nodes(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a lost node that loses the trial, its steps or its numbers; a notice that is not used to save.

    Four workers; the notice of a spot machine takes one, and two are left; their node is killed, and one is left, which
    gets a SIGTERM. After a notice not a single step is executed twice.
    """
    rates = {f"optimizer.{name}": 0.003 for name in ("matrix_lr", "embedding_lr", "scalar_lr")}
    changes = {
        "schedule.steps": 19,  # every step of fewer than 20 is told
        "schedule.warmdown_start": 10,
        "validate_every": None,
        "ttt": None,
        "seed": 1,
    } | rates
    config = override_all(tiny, {**changes, "cap_bytes": 20_000})
    write_json(tmp_path / "tiny.json", to_plain(config))
    command = [sys.executable, "-m", "tests.tune.nodes", f"{tmp_path}/tiny.json", str(data), f"{tmp_path}/storage"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert ran.returncode == 0, ran.stderr[-3000:]
    seen = json.loads(ran.stdout.splitlines()[-1])
    steps = [step for step, _ in seen["steps"]]

    request = TrainRequest(spec=spec_of(trial_of(config), tmp_path / "calm"))
    in_process(workload_of(config, data))(request)
    calm = [value for _, _, value in read_json(tmp_path / "calm" / "curves.json")["train_loss"]]
    assert seen["loss"] == pytest.approx(calm, rel=2e-4)
    assert [value for _, value in seen["steps"]] == pytest.approx([calm[step] for step in steps], rel=2e-4)

    ranks = seen["world_history"]
    assert ranks.count(" from step ") == 2, (ranks, seen["times"], seen["told"])
    four, two, one = (turn.split(" from step ") for turn in ranks.split(", "))
    assert (four[0], two[0], one[0]) == ("4", "2", "1")
    assert seen["device"].startswith("4 x ")
    preempted, killed = int(two[1]), int(one[1])
    again = len(steps) - (19 - killed)
    assert steps[again:] == list(range(killed, 19)), "from the last saved state on, through the SIGTERM"
    assert steps[:again] == list(range(again)), "saved within the notice"
    # What the killed group told last may not have come through.
    assert preempted < killed <= again + 2
    assert "its node is drained" in seen["told"]
