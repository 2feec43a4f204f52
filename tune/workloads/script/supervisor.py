"""Runs a command so that no process of it outlives its trial: `python -I -S supervisor.py STATUS GRACE COMMAND...`.

The standard library alone, for it starts with every trial. It ends all descendants of the command, those that detached
themselves included, when the command ends, or when its own standard input is closed: by whoever started it, or by the
kernel because that one died. STATUS becomes a JSON file with the exit status of the command (negative: the signal that
ended it), and the number of processes that the command left behind.
"""

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
_LOOK_SECONDS = 0.02


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
    status, deadline = None, time.monotonic() + grace_seconds
    send(descendants(), signal.SIGTERM)
    while descendants() and time.monotonic() < deadline:
        status = reap(main) or status
        time.sleep(_LOOK_SECONDS)
    while left := descendants():
        send(left, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
        found = reap(main)
        status = found if found is not None else status
    return status


def main(status_path: str, grace_seconds: float, command: list[str]) -> None:
    """Runs the command to its end, or ends it when the standard input closes."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def die_with_parent() -> None:
        libc.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
    )
    ended = os.pidfd_open(child.pid)
    ready, _, _ = select.select([0, ended], [], [])
    status = reap(child.pid) if ended in ready else None
    left_behind = len(descendants()) if ended in ready else 0
    status = end_all(grace_seconds if ended not in ready else 0.0, child.pid) if status is None else status
    if left_behind:
        end_all(0.0, child.pid)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    path = Path(status_path)
    path.with_suffix(".new").write_text(json.dumps({"code": code, "left_behind": left_behind}))
    path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
