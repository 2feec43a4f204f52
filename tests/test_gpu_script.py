"""The script that measures everything on a GPU, tried on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import OPTIONAL, SECTIONS, run_section

ROOT = Path(__file__).resolve().parents[1]
ABSENT = f"""
import sys

class Without:
    def __init__(self, inner):
        self.inner = inner

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {OPTIONAL} else self.inner.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
if "benchmarks.scoring" in sys.orig_argv:
    raise SystemExit("a card fell off the bus")
"""
"""A sitecustomize.py: without the packages that a GPU's machine may lack, and with a section that fails."""


@pytest.mark.long
def test_whole_script_with_torch_alone(tmp_path: Path) -> None:
    """Fault: on the day when a GPU is at hand, a section needs what is not installed, or stops those after it."""
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    command = ["sh", "benchmarks/gpu.sh", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    text = Path(told["file"]).read_text()
    failed = {name for name, outcome in told["sections"].items() if outcome != "ok"}
    assert failed == {"scoring"}, text
    assert list(told["sections"]) == [section.name for section in SECTIONS]
    assert done.returncode == 1
    assert f"not installed: {', '.join(OPTIONAL)}." in text
    assert "a card fell off the bus" in text
    summary = text.partition("## Summary")[2]
    assert summary.rstrip().endswith("FAILED: scoring.")
    for figure in ("seconds_per_step", "share_of_matrix_rate", "ttt_bpb", "pack_seconds", "last_loss"):
        assert figure in summary, summary


def test_section_that_does_not_end_is_stopped() -> None:
    """Fault: one section that hangs takes the time of all others."""
    result = run_section(SECTIONS[0], limit=0.1, on_cpu=True, quick=True)
    assert result.outcome == "FAILED: not done after 0 s"
    assert result.seconds < 5
