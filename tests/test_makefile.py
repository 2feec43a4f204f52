"""The Makefile tells what fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUB = """#!/bin/sh
# Stands for python: "-m venv FOLDER" makes an environment whose python is this file.
case "$*" in
  "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip "*) echo "pip was here" >&2; exit "$PIP_STATUS" ;;
esac
"""


@pytest.mark.parametrize(("status", "made"), [(0, True), (1, False)])
def test_pip_that_fails_fails_make(tmp_path: Path, status: int, made: bool) -> None:
    """Fault: an environment that pip could not fill counts as complete, and the next command fails for no reason."""
    for name in ("Makefile", "pyproject.toml", "cluster/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    environment = os.environ | {"PIP_STATUS": str(status), "PATH": os.defpath}  # where uv is not
    command = ["make", "venv", f"PYTHON={stub}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "pip was here" in done.stderr
    assert (done.returncode == 0) == (tmp_path / ".venv" / ".complete").exists() == made, done.stdout + done.stderr
