"""Processes of the tests: run under the supervisor, and found again by a mark in their environment."""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tune.workloads.script.process import Ended, Limits, run_process

SECONDS = 20.0
"""Deadline of what a test waits for."""


def never() -> str | None:
    """Stops nothing."""
    return None


def always_progress(line: str) -> str | bool:
    """Takes every line for progress."""
    return True


def marked(mark: str) -> list[psutil.Process]:
    """The living processes with a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, psutil.Error):
            if f"MARK={mark}".encode() in path.read_bytes().split(b"\0"):  # a zombie has none
                found.append(psutil.Process(int(path.parent.name)))
    return found


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> float:
    """Waits until a condition holds. Returns: the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come in time"
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass
class Run:
    """Runs Python code in a directory, under the supervisor."""

    directory: Path
    limits: Limits = field(default_factory=lambda: Limits(grace_seconds=0.5, no_progress_seconds=SECONDS))
    watch: Callable[[str], str | bool] = always_progress
    should_stop: Callable[[], str | None] = never
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    seconds: float = 0.0

    def __call__(self, code: str, command: list[str] | None = None) -> Ended:
        """Runs it to its end; nothing of it is alive afterwards."""
        words = command or [sys.executable, "-u", "-c", code]
        environment = {"PATH": os.environ["PATH"], "MARK": self.mark}
        began = time.monotonic()
        ended = run_process(words, self.directory, environment, self.log, self.limits, self.watch, self.should_stop)
        self.seconds = time.monotonic() - began
        assert not marked(self.mark), "processes of it are alive"
        zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
        assert not zombies
        return ended

    @property
    def log(self) -> Path:
        """File with its output."""
        return self.directory / "output.log"
