"""The commands at the top of the repository, each as a process that joins the tests' Ray."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.planted_secrets import SECRETS
from tune.cli.main import sweep

ROOT = Path(__file__).resolve().parents[1]
JOIN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_TOKEN": SECRETS["RAY_AUTH_TOKEN"]}
"""What a Ray on the loopback alone is joined with, and the token of the tests' Ray."""


def start(
    script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Starts a command of the repository; its standard output and error are one pipe."""
    command = [sys.executable, str(ROOT / script), *arguments]
    pipe, variables = subprocess.PIPE, {**os.environ, **JOIN, **(environment or {})}
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=variables)


def tool(name: str) -> Callable[[Sequence[str]], int]:
    """Returns a command of `python -m tune`, run in this process; it returns its exit status."""
    return lambda words: sweep([name, *words])


def read_until(process: "subprocess.Popen[str]", holds: Callable[[str], bool]) -> list[str]:
    """Returns the lines up to the first that `holds`. Raises: AssertionError when the output ends before."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if holds(line):
            return lines
    raise AssertionError("\n".join(lines))
