"""Which program computed a result: versions, commit and machine, looked up once, and whether another one did."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from tune.records.entries import TrialEntry


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute the numbers."""
    packages = {name: metadata.version(name) for name in ("numpy", "sentencepiece", "zstandard", "ray")}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **packages}


@functools.cache
def environment() -> dict[str, str]:
    """Returns versions, host and, in a checkout, the commit of the project: "-dirty" when files differ from it."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {"versions": packages, "host": platform.node()} | ({"git_commit": commit} if commit else {})


def outdated(entry: TrialEntry, code: str) -> bool:
    """Returns whether another program made a ledger entry's numbers: its code or its version of torch differs.

    Args: entry: the trial's; code: digest of the code of all stages, as it is now.
    """
    return entry.code != code or entry.environment.get("torch") != versions()["torch"]
