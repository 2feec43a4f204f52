"""The command of --then: run in a shell when a sweep has ended, however it ended."""

import os
import subprocess
from types import TracebackType
from typing import Self

from tune.cli.console import say
from tune.cli.progress import best_of
from tune.cli.session import Session
from tune.cli.sweep_report import entries_of
from tune.search.search import Search

FINISHED, LIMIT, INTERRUPTED, FAILED = "finished", "limit", "interrupted", "failed"
"""Values of GOLF_SWEEP_STATE."""


class Afterwards:
    """Runs a command at the end of the block; not after a second Ctrl-C.

    GOLF_SWEEP_NAME, GOLF_SWEEP_STATE and GOLF_SWEEP_BEST_BPB (empty without a trial that has one) are in its
    environment. Its exit status is told and changes nothing.
    """

    def __init__(self, command: str | None, session: Session, name: str, search: Search) -> None:
        """Args: command: for /bin/sh, None to run nothing; session: of the sweep; name: of it; search: its trials."""
        self.command, self.session, self.name, self.search = command, session, name, search
        self.status: int | None = None
        """Exit status of the sweep, once it is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        again = isinstance(error, KeyboardInterrupt) and self.session.stopped
        if self.command is None or again:
            return
        best = best_of(entries_of(self.session.storage, self.name, self.search))
        told = {
            "GOLF_SWEEP_NAME": self.name,
            "GOLF_SWEEP_STATE": self._state(error),
            "GOLF_SWEEP_BEST_BPB": "" if best is None or best.bpb is None else str(best.bpb),
        }
        say(f"--then: {self.command}")
        ended = subprocess.run(self.command, shell=True, env={**os.environ, **told}, check=False)
        if ended.returncode:
            say(f"--then ended with status {ended.returncode}")

    def _state(self, error: BaseException | None) -> str:
        if self.session.stopped or isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        if error is not None or self.status:
            return FAILED
        return FINISHED if self.session.ended.stop is None else LIMIT
