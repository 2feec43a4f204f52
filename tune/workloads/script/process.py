"""A script's process: started under a supervisor, its output followed line by line and kept within bounds."""

import io
import itertools
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
_DRAINED_READS = 64
"""Reads of what an ended command left in its pipe; a process that outlived its supervisor may write for ever."""
_TAIL_SHARE = 4
"""The end of an output that is too large gets this fraction of its bytes."""
_MOST_LINES = 200_000
"""Lines of an output that are looked at when it has ended: as many first as last ones."""
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
    """Its output, without what was left out: the first and the last lines where there are very many."""


class BoundedLog:
    """A file that takes the beginning and the end of an output of any size; both end and begin with a whole line."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._file, self._tail_bytes = path.open("wb"), most_bytes // _TAIL_SHARE
        self._head_left = most_bytes - self._tail_bytes
        self._tail = deque[bytearray]()
        self._kept, self._left_out = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            if self._left_out:
                tail = b"".join(self._tail)
                begin = tail.find(b"\n") + 1
                self._left_out += begin
                file.write(f"\n[{self._left_out:,} bytes of output are left out here]\n".encode())
                file.write(memoryview(tail)[begin:])
            else:
                file.writelines(self._tail)

    def write(self, data: bytes) -> None:
        """Adds to the output."""
        if self._head_left >= len(data):
            self._file.write(data)
            self._file.flush()
            self._head_left -= len(data)
            return
        if self._head_left:  # the last part of the beginning
            last = (data.rfind(b"\n", 0, self._head_left) + 1) or (data.find(b"\n") + 1)
            self._file.write(data[:last])
            self._head_left, data = 0, data[last:]
        if not self._tail or len(self._tail[-1]) >= _READ_BYTES:
            self._tail.append(bytearray())
        self._tail[-1] += data
        self._kept += len(data)
        while (excess := self._kept - self._tail_bytes) > 0:
            first = self._tail[0]
            dropped = min(excess, len(first))
            del first[:dropped]
            if not first:
                self._tail.popleft()
            self._kept -= dropped
            self._left_out += dropped


def lines_of(log: Path, most_bytes: int) -> tuple[str, ...]:
    """Returns the lines of a file, without their ends: the first and the last ones where it is larger.

    Args:
        log: the file.
        most_bytes: that are read of it.
    """
    tail_bytes = most_bytes // _TAIL_SHARE
    with log.open("rb") as file:
        data = file.read(most_bytes - tail_bytes)
        rest = os.fstat(file.fileno()).st_size - len(data)
        file.seek(max(0, rest - tail_bytes), os.SEEK_CUR)
        end = file.read(tail_bytes)
    if rest > tail_bytes:  # no parts of lines
        data, end = data[: data.rfind(b"\n") + 1], end[end.find(b"\n") + 1 :]
    lines = io.TextIOWrapper(io.BytesIO(data + end), "utf-8", "replace")
    half = _MOST_LINES // 2
    first = [line.rstrip("\n") for line in itertools.islice(lines, half)]
    return (*first, *(line.rstrip("\n") for line in deque(lines, maxlen=half)))


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
    status = log.absolute().with_name(STATUS_FILE)  # another directory is the command's
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
            stopped = _follow(process, output, limits, watch, should_stop)
            process.stdin.close()  # the supervisor then ends what is left
            _drain(process, output)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
    left = json.loads(status.read_text()) if status.exists() else {}
    return Ended(left.get("code"), stopped, left.get("left_behind", 0), lines_of(log, 2 * limits.output_bytes))


def _follow(
    process: "subprocess.Popen[bytes]",
    output: BoundedLog,
    limits: Limits,
    watch: Callable[[str], str | bool],
    should_stop: Callable[[], str | None],
) -> str | None:
    """Reads the output to its end. Returns: why the command has to stop; None where the output ended by itself."""
    assert process.stdout is not None
    descriptor, pending, progress, looked = process.stdout.fileno(), b"", time.monotonic(), time.monotonic()
    while True:
        ready, _, _ = select.select([descriptor], [], [], _LOOK_SECONDS)
        data = os.read(descriptor, _READ_BYTES) if ready else b""
        output.write(data)
        *lines, pending = _ENDS.split(pending + data)
        # Without its supervisor, which somebody killed, what it left may hold the output open.
        ended = not data and (bool(ready) or process.poll() is not None)
        if ended or len(pending) > _LONGEST_LINE:
            lines, pending = [*lines, pending], b""
        for line in filter(None, lines):
            heard = watch(line.decode("utf-8", "replace"))
            if isinstance(heard, str):
                return heard
            progress = time.monotonic() if heard else progress
        if ended:
            return None
        now = time.monotonic()
        if now - looked > _LOOK_SECONDS:
            looked, reason = now, should_stop()
            if reason is not None:
                return reason
        if now - progress > limits.no_progress_seconds:
            return f"no progress in its output for {limits.no_progress_seconds:g} s"


def _drain(process: "subprocess.Popen[bytes]", output: BoundedLog) -> None:
    """Takes what a stopped command still writes, so that it does not hang on a full pipe, until its supervisor ends."""
    assert process.stdout is not None
    left = _DRAINED_READS
    while left:
        ended = process.poll() is not None
        ready, _, _ = select.select([process.stdout], [], [], 0.0 if ended else 0.02)
        data = os.read(process.stdout.fileno(), _READ_BYTES) if ready else b""
        output.write(data)
        if ready and not data:
            process.wait()
        if ended:
            left = left - 1 if data else 0
