"""The golden numbers, where they are at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"


@pytest.mark.parametrize("kind", ["forward_gepa", "train_gepa", "ttt_gepa", "kernels", "fineweb_bytes"])
def test_golden_numbers(kind: str) -> None:
    """Fault: golf/ computes another recipe than the published trainer."""
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden numbers at {GOLDEN.relative_to(ROOT.parent)}")
    script = [sys.executable, str(ROOT / "tests" / "golden.py"), str(GOLDEN / f"{kind}.safetensors")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
