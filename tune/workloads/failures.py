"""Why a trial failed: one line with the kind, what happened and the remedy, and the last words of its processes.

An exception, or the text of one from another process, enters with what its worker wrote last; text leaves. The first
words, up to the colon, are the kind: by it failures are counted. Judges nothing by itself: who tries again is the
caller's business.
"""

import errno
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from golf.runtime.errors import Diverged, OutOfMemory
from tune.records.redaction import redact

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

_MONITOR = r"running low on memory|NODE_OUT_OF_MEMORY|memory monitor"
_NODE = r"node has died|node was terminated|NodeDied"
_GONE = re.compile(r"closed by (remote )?peer|reset by peer|Broken pipe", re.IGNORECASE)
_MEMORY = r"out ?of ?memory|MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc"
_DEAD = (
    r"ActorDied|ActorUnavailable|actor (has )?died|WorkerDied|worker died|SYSTEM_ERROR|UnhealthyWorker|SIGKILL"
    r"|Worker health check|failed to initialize|process was killed|LocalRayletDied|NodeDied"
)
_PEER = (
    r"DistBackendError|DistNetworkError|ncclRemoteError|ncclSystemError|NCCL\b.*(timeout|timed out|error)"
    r"|Watchdog caught|\bgloo\b|Connection (closed|reset) by (remote )?peer|Broken pipe|Timed out waiting"
    r"|collective operation timeout|CollectiveTimeoutError|SynchronizationBarrierReset"
)
_KINDS = (
    (_MONITOR, OUT_OF_MEMORY),
    (_NODE, KILLED),
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


@dataclass(frozen=True)
class Postmortem:
    """What is known of the processes of a worker group after its end."""

    by_process: Mapping[str, str] = field(default_factory=dict)
    """The end of what each wrote to its standard error."""
    oom_kills: int = 0
    """Processes that the kernel of one of their machines killed for memory meanwhile."""
    node_lost: bool = False
    """Whether one of their machines is gone."""

    @property
    def silent(self) -> tuple[str, ...]:
        """The words of those that did not end by an exception."""
        return tuple(text for text in self.by_process.values() if "Traceback (most recent call last)" not in text)


SILENCE = Postmortem()


def is_final(error: BaseException) -> bool:
    """Whether trying again is in vain."""
    if isinstance(error, OSError) and error.errno in _FINAL_NUMBERS:
        return True
    return isinstance(error, FINAL) or (isinstance(error, RuntimeError) and kind_of(explain(error)) == OUT_OF_MEMORY)


def kind_of(cause: str) -> str:
    """The kind of failure that a cause begins with."""
    return cause.partition(":")[0]


def explain(error: BaseException | str, words: Postmortem = SILENCE) -> str:
    """The failure in one line: its kind, what happened, what to do.

    Args: words: what is known of the processes of a worker group whose end the error is.
    """
    if isinstance(error, Diverged):
        return f"{DIVERGED}: {error}"
    inner = getattr(error, "worker_failures", None)
    if inner:
        return min((explain(one, words) for one in inner.values()), key=_order)
    within = getattr(error, "controller_failure", None)
    if within is not None:
        return explain(within, words)
    text = redact(error if isinstance(error, str) else f"{type(error).__name__}: {error}")
    last = _last_line(text)
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, text, re.IGNORECASE)), ERROR)
    if kind == KILLED or (kind == LOST_PEER and (words.node_lost or (_GONE.search(text) and words.silent))):
        return _killed(text, words)
    if kind == OUT_OF_MEMORY and re.search(_MONITOR, text, re.IGNORECASE):
        return f"{kind}: Ray's memory monitor killed a worker, its machine ran low on memory; {_REMEDIES[kind]}"
    if isinstance(error, OutOfMemory) or kind == ERROR:
        return f"{kind}: {error if isinstance(error, OutOfMemory) else last}"
    if kind == NO_RESOURCES:
        last = last.partition(". ")[0]  # Ray's advice for its own settings follows
    return f"{kind}: {last}; {_REMEDIES[kind]}"[:_CAUSE_CHARACTERS]


def _killed(text: str, words: Postmortem) -> str:
    """The cause of a process that is gone: what it wrote last says more than that it is gone."""
    if words.node_lost or re.search(_NODE, text, re.IGNORECASE):
        return f"{KILLED}: its machine was lost; {_REMEDIES[KILLED]}"
    if words.oom_kills:
        return f"{OUT_OF_MEMORY}: the kernel's OOM killer ended a process of it; {_REMEDIES[OUT_OF_MEMORY]}"
    told = "\n".join(words.silent)
    for pattern, kind in _KINDS:
        found = re.search(f"^.*({pattern}).*$", told, re.IGNORECASE | re.MULTILINE)
        if found and kind in (OUT_OF_MEMORY, DISK_FULL, LOST_PEER):
            return f"{kind}: {found[0].strip()[:_LINE_CHARACTERS]}; {_REMEDIES[kind]}"
    # Of what Ray tells itself only this is seen; the rest of its text is guesses, SIGSEGV among them.
    told += "SIGTERM" if "receives a SIGTERM" in text else ""
    signal = next((name for pattern, name in _SIGNALS if re.search(pattern, told)), None)
    by = signal or "SIGKILL, which leaves no last word"
    return f"{KILLED}: its process was ended by {by}; {_REMEDIES[KILLED]}"


def _order(cause: str) -> int:
    """Of several workers' causes, the one to tell first."""
    kind = kind_of(cause)
    return _TOLD_LAST.index(kind) + 1 if kind in _TOLD_LAST else 0


def _last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LINE_CHARACTERS] if lines else "no message"


def log_text(cause: str, parts: Mapping[str, str]) -> str:
    """The text of a failure's log: when, the cause, then the end of each part under its title."""
    lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}  {cause}"]
    for title, text in parts.items():
        lines += ["", f"--- {title}", *(text.strip().splitlines()[-_TAIL_LINES:] or ["(nothing)"])]
    return redact("\n".join(lines)) + "\n"
