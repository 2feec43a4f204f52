"""Failures as they really happen, and how they are explained."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import torch

from golf.runtime.errors import Diverged, OutOfMemory
from tune.records.entries import Failure, FailureKind
from tune.workloads.failures import Postmortem, explain, is_final, log_text

PEER = """
import os, signal, sys, time
from datetime import timedelta
import torch, torch.distributed
rank, act = int(sys.argv[2]), sys.argv[3]
store = "file://" + sys.argv[1]
limit = timedelta(seconds=2 if act == "hang" else 60)
torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=limit)
torch.distributed.all_reduce(torch.ones(1))
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL if act == "die" else signal.SIGSTOP)
torch.distributed.all_reduce(torch.ones(1))
"""


@pytest.mark.long
@pytest.mark.parametrize("act", ["die", "hang"])
def test_a_peer_that_dies_or_hangs(act: str, tmp_path: Path) -> None:
    """Fault: a dead or hung rank reported as an error of the program on the remaining rank, or waited for for ever."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, str(tmp_path / "store"), str(rank), act], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        stderr = processes[0].communicate(timeout=60)[1]
    finally:
        processes[1].kill()
        processes[1].communicate()
    assert processes[0].returncode == 1
    assert explain(stderr).kind == "lost peer"
    failure = explain(stderr, Postmortem({"rank 0": stderr, "rank 1": ""}))
    assert failure.kind == ("killed" if act == "die" else "lost peer"), "who ended silently is why the other failed"


def test_more_memory_than_there_is() -> None:
    """Fault: memory that is not there, tried for again and again."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**46)
    assert str(explain(raised.value)).startswith("out of memory: RuntimeError")
    assert "use more workers" in str(explain(raised.value).remedy)
    assert is_final(raised.value)
    assert not is_final(RuntimeError("something else"))


def test_the_largest_batch_that_fits_is_reported_unchanged() -> None:
    """Fault: the one useful figure cut off, or general advice in its place."""
    error = OutOfMemory("786,432 tokens a step do not fit; 524,288 would have: batch.tokens_per_step")
    assert explain(error) == Failure(kind=FailureKind.OUT_OF_MEMORY, message=str(error))
    assert is_final(error)


def test_a_disk_that_is_full_or_read_only(tmp_path: Path) -> None:
    """Fault: a cause that a person cannot act on; a write tried again in vain."""
    with pytest.raises(OSError, match="No space") as full:
        Path("/dev/full").write_text("x")
    with pytest.raises(OSError, match=r"Read-only|Permission denied|not permitted|Invalid") as fixed:
        Path("/proc/sys/kernel/ostype").write_text("x")
    assert (explain(full.value).kind, explain(fixed.value).kind) == ("disk full", "storage not writable")
    assert is_final(full.value)
    assert is_final(fixed.value)


@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_the_signal_that_ended_a_worker(cluster: None, number: int, said: str) -> None:
    """Fault: a crash of compiled code reported as a machine's end, and the other way round."""

    class Worker:
        def stderr(self) -> str:
            return str(Path("/proc/self/fd/2").readlink())

        def end(self) -> None:
            os.kill(os.getpid(), number)

    worker = ray.remote(num_cpus=0, max_restarts=0)(Worker).remote()
    log = Path(ray.get(worker.stderr.remote()))
    with pytest.raises(ray.exceptions.RayActorError) as died:
        ray.get(worker.end.remote())
    failure = explain(died.value, Postmortem({"rank 0": log.read_text(errors="replace")}))
    assert (failure.kind, failure.message[: 25 + len(said)]) == ("killed", f"its process was ended by {said}")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Traceback ...\nray.exceptions.ActorDiedError: The actor died unexpectedly before finishing", "killed"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out of memory"),
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", "out of memory"),
        ("OSError: [Errno 28] No space left on device: 'x'", "disk full"),
        ("The actor died because its node has died. Node Id: 1f", "killed"),
        ("[rank3]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", "lost peer"),
        ("torch.distributed.DistBackendError: NCCL error in: remote process exited", "lost peer"),
        ("The worker group startup timed out: WorkerGroupStartupTimeoutError", "no resources"),
        ("KeyError: 'x'", "error"),
        ("", "error"),
    ],
)
def test_causes(text: str, kind: str) -> None:
    """Fault: a death taken for an error of the program, or the other way round."""
    assert explain(text).kind == kind
    assert "\n" not in str(explain(text))


def test_of_several_workers_the_cause_is_reported_and_not_its_echo() -> None:
    """Fault: "connection closed" in the table where one worker's memory was the reason."""

    class ProcessGroup(Exception):
        worker_failures = {  # noqa: RUF012
            0: RuntimeError("gloo: Connection closed by peer"),
            1: ValueError("ActorDiedError"),
            2: torch.OutOfMemoryError("CUDA out of memory"),
        }

    assert explain(ProcessGroup()).kind == "out of memory"
    del ProcessGroup.worker_failures[2]
    assert explain(ProcessGroup()).kind == "killed"


def test_what_the_machine_knows_of_a_silent_end() -> None:
    """Fault: a worker that the kernel's OOM killer ended reported as killed by hand, a lost machine as a worker."""
    dead = "ray.exceptions.ActorDiedError: Worker unexpectedly exits: OOM killer, SIGSEGV or other errors"
    assert "SIGKILL" in explain(dead, Postmortem({"rank 0": ""})).message
    assert str(explain(dead, Postmortem({"rank 0": ""}, oom_kills=1))).startswith("out of memory: the kernel")
    assert "machine was lost" in explain(dead, Postmortem({"rank 0": ""}, node_lost=True)).message
    full = "terminate called after throwing an instance\nwrite: No space left on device"
    assert explain(dead, Postmortem({"rank 0": full})).kind == "disk full"


def test_a_diverged_trial_is_not_tried_again() -> None:
    """Fault: a training that diverges twice."""
    assert str(explain(Diverged("step 3: loss nan"))) == "diverged: step 3: loss nan"
    assert is_final(Diverged("step 3"))


def test_the_log_holds_the_end_and_no_password() -> None:
    """Fault: a log of gigabytes, one without its last line, an address with its password."""
    text = "\n".join(f"line {n}" for n in range(1000)) + "\npostgresql://user:geheim@host/db is away"
    log = log_text(Failure(kind=FailureKind.KILLED, message="x"), {"rank 0": text, "rank 1": ""})
    assert len(log.splitlines()) < 110
    assert "line 999" in log
    assert "geheim" not in log
    assert "postgresql://***@host/db is away" in log
