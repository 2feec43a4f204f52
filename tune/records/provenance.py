"""Which program computed a result: versions, commit and machine, looked up once, and whether another one did."""

import contextlib
import functools
import getpass
import platform
import sys
from importlib import metadata

import torch

from golf.cli.version import commit
from tune.records.entries import TrialEntry


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute the numbers."""
    packages = {name: metadata.version(name) for name in ("numpy", "sentencepiece", "zstandard", "ray")}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **packages}


@functools.cache
def environment() -> dict[str, str]:
    """Returns versions, host, user, program and, in a checkout, its commit: "-dirty" when files differ from it."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    found = {"versions": packages, "host": platform.node(), "source": sys.argv[0]}
    with contextlib.suppress(OSError, KeyError):  # a user without a name, as in some containers
        found["user"] = getpass.getuser()
    return found | ({"git_commit": known} if (known := commit()) else {})


def outdated(entry: TrialEntry, code: str) -> bool:
    """Returns whether another program made a ledger entry's numbers: its code or its version of torch differs.

    Args: entry: the trial's; code: digest of the code of all stages, as it is now.
    """
    return entry.code != code or entry.environment.get("torch") != versions()["torch"]
