"""Why a trial failed: one line with the kind, what happened and the remedy, and the last words of its processes.

An exception, or the text of one from another process, enters with what its worker wrote last; text leaves. The first
words, up to the colon, are the kind: by it failures are counted. Judges nothing by itself: who tries again is the
caller's business.
"""

import errno
import re
import time
from collections.abc import Mapping

import torch

from golf.train.loop import Diverged

FINAL = (ValueError, TypeError, LookupError, AssertionError, MemoryError, torch.OutOfMemoryError, Diverged)
"""Errors that come again when the same work is tried again; others may be a dead peer's."""
_FINAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOMEM)
"""Of the operating system's errors, those that come again."""

DIVERGED = "diverged"
"""The kind of the one cause that comes again however often a trial is tried."""
OUT_OF_MEMORY, DISK_FULL, NOT_WRITABLE = "out of memory", "disk full", "storage not writable"
PREEMPTED, KILLED, LOST_PEER, NO_RESOURCES, ERROR = "preempted", "killed", "lost peer", "no resources", "error"

_TAIL_LINES = 100
_LINE_CHARACTERS, _CAUSE_CHARACTERS = 400, 600

_MEMORY = r"out ?of ?memory|MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc"
_DEAD = (
    r"ActorDied|ActorUnavailable|actor (has )?died|WorkerDied|worker died|SYSTEM_ERROR|UnhealthyWorker|SIGKILL"
    r"|Worker health check|failed to initialize|process was killed|LocalRayletDied|NodeDied"
)
_PEER = (
    r"DistBackendError|DistNetworkError|ncclRemoteError|ncclSystemError|NCCL\b.*(timeout|timed out|error)"
    r"|Watchdog caught|\bgloo\b|Connection (closed|reset) by (remote )?peer|Broken pipe|Timed out waiting|collective operation timeout"
    r"|CollectiveTimeoutError|SynchronizationBarrierReset"
)
_KINDS = (
    (r"running low on memory|NODE_OUT_OF_MEMORY|memory monitor", OUT_OF_MEMORY),
    (r"node has died|node was terminated|NodeDied", KILLED),
    (_MEMORY, OUT_OF_MEMORY),
    (r"No space left on device|Disk quota exceeded", DISK_FULL),
    (r"Read-only file system|Permission denied|Operation not permitted", NOT_WRITABLE),
    (r"PreemptionError|\bPreempted\b|interrupted by node preemption", PREEMPTED),
    (r"StartupTimeout|InsufficientClusterResources", NO_RESOURCES),
    (_DEAD, KILLED),
    (_PEER, LOST_PEER),
)
"""What an error's text says, by what tells most: a dead worker's peers fail too."""
_REMEDIES = {
    OUT_OF_MEMORY: "use more workers or a smaller batch or model",
    DISK_FULL: "free space below the storage root",
    NOT_WRITABLE: "make the storage root writable",
    PREEMPTED: "its machine was taken away; the same command goes on from its last state",
    KILLED: "the same command tries it again",
    LOST_PEER: "a worker died or hung, or the network between the nodes is down; the same command tries it again",
    NO_RESOURCES: "its workers got no places in time; check the cluster's nodes, free CPUs and GPUs",
}
_TOLD_LAST = (KILLED, PREEMPTED, LOST_PEER)
"""Kinds that may be what another worker's failure brought about."""
_SIGNALS = (
    (r"Segmentation fault|SIGSEGV", "SIGSEGV, a crash in compiled code"),
    (r"Fatal Python error: Aborted|SIGABRT|terminate called", "SIGABRT, compiled code gave up"),
    (r"Bus error|SIGBUS", "SIGBUS, shared memory or a file it had mapped is gone or full"),
    (r"Floating.point exception|SIGFPE", "SIGFPE, a crash in compiled code"),
    (r"Illegal instruction|SIGILL", "SIGILL, a program for another processor"),
    (r"SIGTERM", "SIGTERM"),
)
"""What a dying process writes, and the signal that it is by; SIGKILL alone leaves no words."""


def is_final(error: BaseException) -> bool:
    """Whether trying again is in vain."""
    if isinstance(error, OSError) and error.errno in _FINAL_NUMBERS:
        return True
    return isinstance(error, FINAL) or (isinstance(error, RuntimeError) and kind_of(explain(error)) == OUT_OF_MEMORY)


def kind_of(cause: str) -> str:
    """The kind of failure that a cause begins with."""
    return cause.partition(":")[0]


def explain(error: BaseException | str, words: str = "", oom_kills: int = 0) -> str:
    """The failure in one line: its kind, what happened, what to do.

    Args: words: what its worker wrote last; oom_kills: processes that the kernel of its machine killed for memory.
    """
    if isinstance(error, Diverged):
        return f"{DIVERGED}: {error}"
    inner = getattr(error, "worker_failures", None)
    if inner:
        return min((explain(one, words, oom_kills) for one in inner.values()), key=_order)
    within = getattr(error, "controller_failure", None)
    if within is not None:
        return explain(within, words, oom_kills)
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    last = _last_line(text)
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, text, re.IGNORECASE)), ERROR)
    if kind == KILLED:
        return _killed(text, words, oom_kills)
    if kind == OUT_OF_MEMORY and re.search(_KINDS[0][0], text):
        return f"{kind}: Ray's memory monitor killed a worker, its machine ran low on memory; {_REMEDIES[kind]}"
    if kind == ERROR:
        return f"{kind}: {last}"
    return f"{kind}: {last}; {_REMEDIES[kind]}"[:_CAUSE_CHARACTERS]


def _killed(text: str, words: str, oom_kills: int) -> str:
    """The cause of a process that is gone: what it wrote last says more than that it is gone."""
    if re.search(_KINDS[1][0], text, re.IGNORECASE):
        return f"{KILLED}: its machine was lost; {_REMEDIES[KILLED]}"
    if oom_kills:
        return f"{OUT_OF_MEMORY}: the kernel's OOM killer ended a process of it; {_REMEDIES[OUT_OF_MEMORY]}"
    for pattern, kind in _KINDS:
        found = re.search(f"^.*({pattern}).*$", words, re.IGNORECASE | re.MULTILINE)
        if found and kind in (OUT_OF_MEMORY, DISK_FULL, LOST_PEER):
            return f"{kind}: {found[0].strip()[:_LINE_CHARACTERS]}; {_REMEDIES[kind]}"
    told = words + (
        "SIGTERM" if "receives a SIGTERM" in text else ""
    )  # Ray's text names SIGSEGV as one of many guesses
    signal = next((name for pattern, name in _SIGNALS if re.search(pattern, told)), None)
    by = signal or "SIGKILL, without a last word: by hand, or by its machine's end"
    return f"{KILLED}: its process was ended by {by}; {_REMEDIES[KILLED]}"


def _order(cause: str) -> int:
    """Of several workers' causes, the one to tell first."""
    kind = kind_of(cause)
    return _TOLD_LAST.index(kind) + 1 if kind in _TOLD_LAST else 0


def _last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LINE_CHARACTERS] if lines else "no message"


def last_words(cause: str, parts: Mapping[str, str]) -> str:
    """The text of a failure's log: when, the cause, then the end of each part under its title."""
    lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}  {cause}"]
    for title, text in parts.items():
        lines += ["", f"--- {title}", *(text.strip().splitlines()[-_TAIL_LINES:] or ["(nothing)"])]
    return re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:***@", "\n".join(lines)) + "\n"
