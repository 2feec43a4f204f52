"""Trials of a script on simulated nodes, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import os, time
with open(os.environ["STARTS"], "a") as file:
    file.write(f"{os.getpid()} {os.environ['WORLD_SIZE']}\\n")
seed = int(os.environ.get("SEED", 1))
time.sleep(4)
if os.environ["RANK"] == "0":
    print(f"seed:{seed}")
    print(f"final_exact val_loss:2.0 val_bpb:{1 + seed / 10}")
"""


def test_a_lost_node_begins_its_trial_anew(tmp_path: Path) -> None:
    """Fault: ranks of one trial on two nodes, a script that outlives its node, or a trial lost with it."""
    script = tmp_path / "own" / "train.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "tests.tune.script_nodes", str(script), str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert ran.returncode == 0, ran.stderr[-3000:]
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert seen["at_once"] == 4  # two trials of two ranks fill two nodes of two CPUs
    assert seen["seconds_until_gone"] < 30
    done = {seed: (state, bpb) for seed, (state, bpb, _) in seen["entries"].items()}
    assert done == {seed: ("done", pytest.approx(1 + int(seed) / 10)) for seed in ("1", "2", "3")}
    assert all(device.startswith("2 x ") for _, _, device in seen["entries"].values())
    assert seen["starts"] == 2 * 4  # the one that was cut off began anew, no other did
