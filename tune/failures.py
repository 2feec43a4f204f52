"""Why a trial failed, in one line with its remedy.

An exception, or the text of one from another process, enters; a line leaves, its first word the kind of failure.
"""

import errno
import re

import torch

from golf.train.loop import Diverged
from tune.redaction import redact

FINAL = (ValueError, TypeError, LookupError, AssertionError, MemoryError, torch.OutOfMemoryError, Diverged)
"""Errors that come again when the same work is tried again; others may be a dead peer's."""

DIVERGED = "diverged"
"""The first word of the one cause that comes again however often a trial is tried."""

_KINDS = (
    (r"out ?of ?memory|OutOfMemory|MemoryError", "out of memory", "use more workers or a smaller batch or model"),
    (r"No space left on device", "disk full", "free space below the storage root"),
    (r"Read-only file system|Permission denied", "storage not writable", "make the storage root writable"),
    (
        r"ActorDied|WorkerDied|worker died|SYSTEM_ERROR|ActorUnavailable|UnhealthyWorker|SIGKILL|Worker health check",
        "killed",
        "its process died (killed, preempted or out of memory); the same command tries it again",
    ),
    (r"StartupTimeout", "no resources", "its workers did not start in time; check the cluster's free CPUs and GPUs"),
)


def is_final(error: BaseException) -> bool:
    """Whether trying again is in vain."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT)
    return full or isinstance(error, FINAL)


def explain(error: BaseException | str) -> str:
    """The failure in one line: its kind, what happened, what to do."""
    if isinstance(error, Diverged):
        return f"{DIVERGED}: {error}"
    inner = getattr(error, "worker_failures", None)
    if inner:
        return explain(next(iter(inner.values())))
    text = redact(error if isinstance(error, str) else f"{type(error).__name__}: {error}")
    last = _last_line(text)
    for pattern, kind, remedy in _KINDS:
        if re.search(pattern, text):
            return f"{kind}: {last}; {remedy}"[:600]
    return f"error: {last}"


def _last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "no message"
