"""A script's process: started under a supervisor, its output followed line by line and kept within bounds."""

import json
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

SUPERVISOR = Path(__file__).with_name("supervisor.py")
STATUS_FILE = "status.json"
_READ_BYTES = 1 << 16
_LONGEST_LINE = 1 << 16
"""Bytes after which a line is cut where no line end comes."""
_LOOK_SECONDS = 0.5
_TAIL_SHARE = 4
"""The end of an output that is too large gets this fraction of its bytes."""
_ENDS = re.compile(rb"\r\n|\r|\n")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a script may take."""

    no_progress_seconds: float = 1800.0
    """Seconds without a line that says anything new of it, after which it is stopped."""
    grace_seconds: float = 5.0
    """Seconds between SIGTERM and SIGKILL when it is stopped."""
    output_bytes: int = 64 << 20
    """Bytes of its output that are kept: the beginning and the end."""


@dataclass(frozen=True)
class Ended:
    """How a script ended."""

    code: int | None
    """Exit status; negative: the signal that ended it; None where it is not known."""
    stopped: str | None
    """Why it was stopped, in one line; None where it ended by itself."""
    left_behind: int
    """Processes that it left; they were ended."""
    lines: tuple[str, ...]
    """Its output, without what was left out."""


class BoundedLog:
    """A file that takes the beginning and the end of an output of any size."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._file, self._tail_bytes = path.open("wb"), most_bytes // _TAIL_SHARE
        self._head_left = most_bytes - self._tail_bytes
        self._tail: deque[bytes] = deque()
        self._kept, self._left_out = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._left_out:
            self._file.write(f"\n[{self._left_out:,} bytes of output are left out here]\n".encode())
        for part in self._tail:
            self._file.write(part)
        self._file.close()

    def write(self, data: bytes) -> None:
        """Adds to the output."""
        if self._head_left >= len(data) and not self._tail:
            self._file.write(data)
            self._file.flush()
            self._head_left -= len(data)
            return
        self._tail.append(data)
        self._kept += len(data)
        while self._kept > self._tail_bytes and len(self._tail) > 1:
            dropped = len(self._tail.popleft())
            self._kept -= dropped
            self._left_out += dropped


def run_process(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    log: Path,
    limits: Limits,
    watch: Callable[[str], str | bool],
    should_stop: Callable[[], str | None],
) -> Ended:
    """Runs a command to its end.

    Args:
        command: the program and its arguments.
        directory: its working directory.
        environment: all of its environment.
        log: file for its standard output and error.
        limits: what it may take.
        watch: called with every line; returns why the command has to stop, or whether the line is progress.
        should_stop: called now and then; returns why the command has to stop, None otherwise.

    Raises:
        OSError: when the command or its files cannot be started.
    """
    status = log.with_name(STATUS_FILE)
    status.unlink(missing_ok=True)
    supervised = [sys.executable, "-I", "-S", str(SUPERVISOR), str(status), str(limits.grace_seconds), *command]
    process = subprocess.Popen(
        supervised,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stopped: str | None = None
    try:
        with BoundedLog(log, limits.output_bytes) as output:
            stopped = _follow(process.stdout.fileno(), output, limits, watch, should_stop)
            process.stdin.close()  # the supervisor then ends what is left
            _drain(process, output, limits.grace_seconds)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
    left = json.loads(status.read_text()) if status.exists() else {}
    lines = tuple(log.read_text(errors="replace").splitlines())
    return Ended(left.get("code"), stopped, left.get("left_behind", 0), lines)


def _follow(
    descriptor: int,
    output: BoundedLog,
    limits: Limits,
    watch: Callable[[str], str | bool],
    should_stop: Callable[[], str | None],
) -> str | None:
    """Reads the output to its end. Returns: why the command has to stop; None where the output ended by itself."""
    pending, progress, looked = b"", time.monotonic(), time.monotonic()
    while True:
        ready, _, _ = select.select([descriptor], [], [], _LOOK_SECONDS)
        if ready:
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                if pending:
                    watch(pending.decode("utf-8", "replace"))
                return None
            output.write(data)
            *lines, pending = _ENDS.split(pending + data)
            if len(pending) > _LONGEST_LINE:
                lines, pending = [*lines, pending], b""
            for line in lines:
                heard = watch(line.decode("utf-8", "replace"))
                if isinstance(heard, str):
                    return heard
                progress = time.monotonic() if heard else progress
        now = time.monotonic()
        if now - looked > _LOOK_SECONDS:
            looked, reason = now, should_stop()
            if reason is not None:
                return reason
        if now - progress > limits.no_progress_seconds:
            return f"no progress in its output for {limits.no_progress_seconds:g} s"


def _drain(process: "subprocess.Popen[bytes]", output: BoundedLog, grace_seconds: float) -> None:
    """Takes what a stopped command still writes, so that it does not hang on a full pipe."""
    assert process.stdout is not None
    deadline = time.monotonic() + grace_seconds + 60.0
    while process.poll() is None and time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.02)
        if ready:
            data = os.read(process.stdout.fileno(), _READ_BYTES)
            if not data:
                process.wait(timeout=max(1.0, deadline - time.monotonic()))
                return
            output.write(data)
