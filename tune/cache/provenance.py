"""What made a ledger entry: versions, code, commit and machine, and whether another program made it.

Nothing enters but the running program; plain values leave, looked up once.
"""

import functools
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tune.cache.stage_graph import code_digest


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    found = {name: metadata.version(name) for name in ("numpy", "sentencepiece", "zstandard", "ray")}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **found}


@functools.cache
def environment() -> dict[str, str]:
    """Versions, and the commit of the project where it is a checkout: "-dirty" when files differ from it."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {"versions": packages, "host": platform.node()} | ({"git_commit": commit} if commit else {})


def outdated(entry: Mapping[str, Any]) -> bool:
    """Whether another program made the entry's numbers, by its code or its version of torch."""
    code, torch_version = code_digest(), versions()["torch"]
    return bool(
        entry.get("code", code) != code or entry.get("environment", {}).get("torch", torch_version) != torch_version
    )
