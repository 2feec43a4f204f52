"""Runs a command so that no process of it outlives its trial: `python -I -S supervisor.py STATUS GRACE COMMAND...`.

The standard library alone, for it starts with every trial. It ends all descendants of the command, those that detached
themselves included, when the command ends, when its own standard input is closed, or when the process that started it
is gone: that one may have forked children which hold the input open. STATUS becomes a JSON file with the exit status of
the command (negative: the signal that ended it; 127: it could not be started), and the number of processes that the
command left behind.

It is two processes, each of which ends what is left when the other is killed: Ray kills the direct children of a worker
that exits, and the ranks of a torchrun would go on without anybody.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_SUBREAPER, _PARENT_DEATH = 36, 1
"""Operations of prctl(2)."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that reach the command only by way of its end."""
_LOOK_SECONDS = 0.02
_LEAVE_SECONDS = 1.0
"""Time in which what the command started may end by itself after it, as helpers of multiprocessing do."""
_KILL_SECONDS = 10.0
"""Time after SIGKILL; a process that a device holds in the kernel then stays."""
NOT_STARTED = 127
"""Exit status of a command that could not be started, as in a shell."""


def descendants() -> list[int]:
    """Returns the processes below this one, its zombies left out."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(path.parent.name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def send(processes: list[int], number: int) -> None:
    """Sends a signal to processes; those that are gone are left out."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def reap(main: int) -> int | None:
    """Collects ended children. Returns: the wait status of `main` where it is among them, else None."""
    status = None
    while True:
        try:
            process, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if process == 0:
            return status
        if process == main:
            status = ended


def end_all(grace_seconds: float, main: int) -> int | None:
    """Ends all descendants: by SIGTERM, then by SIGKILL. Returns: the wait status of `main` if it ended here."""
    send(descendants(), signal.SIGTERM)
    status, deadline = await_end(grace_seconds, main), time.monotonic() + _KILL_SECONDS
    while (left := descendants()) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        found = await_end(_LOOK_SECONDS, main)
        status = found if status is None else status
    found = reap(main)
    return found if status is None else status


def await_end(seconds: float, main: int) -> int | None:
    """Waits until all descendants ended, so many seconds at most. Returns: the wait status of `main` if it did."""
    status, deadline = None, time.monotonic() + seconds
    while descendants() and time.monotonic() < deadline:
        found = reap(main)
        status = found if status is None else status
        time.sleep(_LOOK_SECONDS)
    return status


def main(status_path: str, grace_seconds: float, command: list[str]) -> None:
    """Runs the command to its end, or ends it when the standard input closes or the starter dies."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    watched = [sys.stdin.fileno(), *parent()]
    adopt_orphans()
    supervisor = os.fork()
    if supervisor:
        os.waitpid(supervisor, 0)
        end_all(0.0, supervisor)
    else:
        adopt_orphans()
        supervise(status_path, grace_seconds, command, [*watched, *parent()])


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose parent ends."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def parent() -> list[int]:
    """Returns a descriptor that is ready when this process's parent is gone; none for one that cannot be seen."""
    with contextlib.suppress(OSError):
        return [os.pidfd_open(os.getppid())]
    return []


def supervise(status_path: str, grace_seconds: float, command: list[str], watched: list[int]) -> None:
    """Runs the command to its end, or ends it when one of the descriptors is ready."""
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{type(error).__name__}: {error}; the command is {command[0]}", flush=True)
        write_status(status_path, NOT_STARTED, 0)
        return
    ended = os.pidfd_open(child.pid)
    ready, _, _ = select.select([*watched, ended], [], [])
    status = reap(child.pid) if ended in ready else None
    left_behind = 0
    if status is None:
        status = end_all(grace_seconds, child.pid)
    else:
        await_end(_LEAVE_SECONDS, child.pid)
        left_behind = len(descendants())
        end_all(0.0, child.pid)
    write_status(status_path, None if status is None else os.waitstatus_to_exitcode(status), left_behind)


def write_status(status_path: str, code: int | None, left_behind: int) -> None:
    """Writes how the command ended."""
    path = Path(status_path)
    path.with_suffix(".new").write_text(json.dumps({"code": code, "left_behind": left_behind}))
    path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
