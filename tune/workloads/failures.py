"""Why a trial failed: its kind, what happened and the remedy, from an exception and what its processes wrote last.

Failures are counted by kind. Whether to try again is up to the caller.
"""

import errno
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from golf.runtime.errors import Diverged, OutOfMemory
from tune.records.entries import Failure, FailureKind
from tune.records.redaction import redact

FINAL = (ValueError, TypeError, LookupError, AssertionError, MemoryError, torch.OutOfMemoryError, Diverged)
"""Errors that come again when the same work is tried again; others may be those of a dead peer."""
_FINAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOMEM)
"""Errors of the operating system that come again."""

_TAIL_LINES = 100
_LINE_CHARACTERS = 400

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
    (_MONITOR, FailureKind.OUT_OF_MEMORY),
    (_NODE, FailureKind.KILLED),
    (_MEMORY, FailureKind.OUT_OF_MEMORY),
    (r"No space left on device|Disk quota exceeded", FailureKind.DISK_FULL),
    (r"Read-only file system|Permission denied|Operation not permitted", FailureKind.NOT_WRITABLE),
    (r"PreemptionError|\bPreempted\b|interrupted by node preemption", FailureKind.PREEMPTED),
    (r"StartupTimeout|InsufficientClusterResources", FailureKind.NO_RESOURCES),
    (_DEAD, FailureKind.KILLED),
    (_PEER, FailureKind.LOST_PEER),
)
"""Patterns of an error's text and its kind, the most telling first: a dead worker's peers fail too."""
_REMEDIES = {
    FailureKind.OUT_OF_MEMORY: "use more workers or a smaller batch or model",
    FailureKind.DISK_FULL: "free space below the storage root",
    FailureKind.NOT_WRITABLE: "make the storage root writable",
    FailureKind.PREEMPTED: "its machine was taken away; the same command goes on from its last state",
    FailureKind.KILLED: "the same command tries it again",
    FailureKind.LOST_PEER: "a worker died or hung, or the network between the nodes is down; "
    "the same command tries it again",
    FailureKind.NO_RESOURCES: "its workers were not placed in time; check the cluster's nodes, free CPUs and GPUs",
}
_ECHOES = (FailureKind.KILLED, FailureKind.PREEMPTED, FailureKind.LOST_PEER)
"""Kinds that another worker's failure may have caused; of several failures these are reported last."""
_SIGNALS = (
    (r"Segmentation fault|SIGSEGV", "SIGSEGV, a crash in compiled code"),
    (r"Fatal Python error: Aborted|SIGABRT|terminate called", "SIGABRT, compiled code gave up"),
    (r"Bus error|SIGBUS", "SIGBUS, shared memory or a file it had mapped is gone or full"),
    (r"Floating.point exception|SIGFPE", "SIGFPE, a crash in compiled code"),
    (r"Illegal instruction|SIGILL", "SIGILL, a program for another processor"),
    (r"SIGTERM", "SIGTERM"),
)
"""What a dying process writes, and the signal that ended it; a process ended by SIGKILL writes nothing."""


@dataclass(frozen=True)
class Postmortem:
    """What is known of the processes of a worker group after its end."""

    by_process: Mapping[str, str] = field(default_factory=dict)
    """The end of the standard error of each process."""
    oom_kills: int = 0
    """Processes that the kernels of its machines killed for memory meanwhile."""
    node_lost: bool = False
    """Whether one of its machines is gone."""

    @property
    def silent(self) -> tuple[str, ...]:
        """The last output of the processes that did not end by an exception."""
        return tuple(text for text in self.by_process.values() if "Traceback (most recent call last)" not in text)


NOTHING_KNOWN = Postmortem()


def is_final(error: BaseException) -> bool:
    """Returns whether the same work would fail again."""
    if isinstance(error, OSError) and error.errno in _FINAL_NUMBERS:
        return True
    out_of_memory = isinstance(error, RuntimeError) and explain(error).kind == FailureKind.OUT_OF_MEMORY
    return isinstance(error, FINAL) or out_of_memory


def explain(error: BaseException | str, postmortem: Postmortem = NOTHING_KNOWN) -> Failure:
    """Returns the failure behind an error, without secrets.

    Args: error: an exception, or the text of one from another process; postmortem: what is known of the processes of
        the worker group that the error ended.
    """
    if isinstance(error, Diverged):
        return Failure(kind=FailureKind.DIVERGED, message=str(error))
    if isinstance(error, OutOfMemory):
        return Failure(kind=FailureKind.OUT_OF_MEMORY, message=redact(str(error)))
    by_worker = getattr(error, "worker_failures", None)
    if by_worker:
        return min((explain(failure, postmortem) for failure in by_worker.values()), key=_order)
    controller_failure = getattr(error, "controller_failure", None)
    if controller_failure is not None:
        return explain(controller_failure, postmortem)
    return _explain_text(redact(error if isinstance(error, str) else f"{type(error).__name__}: {error}"), postmortem)


def _explain_text(text: str, postmortem: Postmortem) -> Failure:
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, text, re.IGNORECASE)), FailureKind.ERROR)
    peer_gone = postmortem.node_lost or (_GONE.search(text) and postmortem.silent)
    if kind == FailureKind.KILLED or (kind == FailureKind.LOST_PEER and peer_gone):
        return _explain_death(text, postmortem)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = lines[-1][:_LINE_CHARACTERS] if lines else "no message"  # a traceback says last what happened
    if kind == FailureKind.OUT_OF_MEMORY and re.search(_MONITOR, text, re.IGNORECASE):
        message = "Ray's memory monitor killed a worker, its machine ran low on memory"
    if kind == FailureKind.NO_RESOURCES:
        message = message.partition(". ")[0]  # Ray's advice for its own settings follows
    return _failure(kind, message)


def _explain_death(text: str, postmortem: Postmortem) -> Failure:
    """Returns the failure of a process that is gone; what it wrote last says more than the error of who waited."""
    if postmortem.node_lost or re.search(_NODE, text, re.IGNORECASE):
        return _failure(FailureKind.KILLED, "its machine was lost")
    if postmortem.oom_kills:
        return _failure(FailureKind.OUT_OF_MEMORY, "the kernel's OOM killer ended a process of it")
    last_output = "\n".join(postmortem.silent)
    for pattern, kind in _KINDS:
        match = re.search(f"^.*({pattern}).*$", last_output, re.IGNORECASE | re.MULTILINE)
        if match and kind in (FailureKind.OUT_OF_MEMORY, FailureKind.DISK_FULL, FailureKind.LOST_PEER):
            return _failure(kind, redact(match[0].strip()[:_LINE_CHARACTERS]))
    # Of Ray's own text only this is evidence; the rest of it is guesses, SIGSEGV among them.
    last_output += "SIGTERM" if "receives a SIGTERM" in text else ""
    signal = next((name for pattern, name in _SIGNALS if re.search(pattern, last_output)), None)
    return _failure(
        FailureKind.KILLED, f"its process was ended by {signal or 'SIGKILL, after which nothing is written'}"
    )


def _failure(kind: FailureKind, message: str) -> Failure:
    return Failure(kind=kind, message=message, remedy=_REMEDIES.get(kind))


def _order(failure: Failure) -> int:
    """Returns a sort key by which causes come before their echoes."""
    return _ECHOES.index(failure.kind) + 1 if failure.kind in _ECHOES else 0


def log_text(failure: Failure, parts: Mapping[str, str]) -> str:
    """Returns the text of a failure's log: the time, the failure, then the end of each part under its title."""
    lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}  {failure}"]
    for title, text in parts.items():
        lines += ["", f"--- {title}", *(text.strip().splitlines()[-_TAIL_LINES:] or ["(nothing)"])]
    return redact("\n".join(lines)) + "\n"
