"""Processors, memory, limits, the loopback network and the clock."""

import os
import resource
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from golf.doctor.finding import Finding, failed, ok, size_words, warning

GROUP = Path("/sys/fs/cgroup")
"""Limits of this container or service (version 2 of control groups)."""
MEMORY = Path("/proc/meminfo")
SHARED_MEMORY = Path("/dev/shm")
GPU_PROCESS_BYTES = 4 * 2**30
"""Main memory for a training process, as a rule of thumb."""
LEAST_SHARED_BYTES = 2**30
"""For NCCL's buffers and Ray's objects; Docker gives 64 MiB unless told otherwise."""
LEAST_OPEN_FILES = 4096
"""A Ray cluster's processes hold a connection to each other."""
YEARS = range(2026, 2046)
_LOOPBACK_SECONDS = 5.0
_CLOCK_SECONDS, _CLOCK_DRIFT = 0.1, 0.5


def check_cpus(num_threads: int, num_gpus: int, group: Path = GROUP) -> Finding:
    """Returns how many CPUs this process may use.

    Args: num_threads: of torch; num_gpus: processes that a run here has; group: folder of the control group's limits.
    """
    usable, quota = float(len(os.sched_getaffinity(0))), _cpu_quota(group)
    text = f"{usable:g} of {os.cpu_count()} usable, torch takes {num_threads} threads"
    if quota is not None and quota < usable:
        usable, text = quota, f"{text}; the container may use {quota:g}"
        if num_threads > quota:
            remedy = f"export OMP_NUM_THREADS={max(1, int(quota))}: more threads than CPUs wait for each other"
            return warning("CPUs", text, remedy)
    if usable < num_gpus:
        return warning("CPUs", f"{text}, for {num_gpus} GPUs", "each GPU's process needs a CPU: take more")
    return ok("CPUs", text)


def _cpu_quota(group: Path) -> float | None:
    """Returns the CPUs that a control group may use; None: no limit."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def check_memory(num_gpus: int, listing: Path = MEMORY, group: Path = GROUP) -> Finding:
    """Returns how much main memory is there and available, to this container where it has a limit."""
    lines = dict(line.split(":", 1) for line in listing.read_text().splitlines() if ":" in line)
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    text = f"{size_words(available)} of {size_words(total)} available"
    limit = _number(group / "memory.max")
    if limit is not None and limit < total:
        available = min(available, max(0, limit - (_number(group / "memory.current") or 0)))
        text += f"; the container may use {size_words(limit)}, {size_words(available)} of it are free"
    wanted = GPU_PROCESS_BYTES * max(1, num_gpus)
    if available < wanted:
        return warning("memory", text, f"a run here takes about {size_words(wanted)}: end other programs, or take more")
    return ok("memory", text)


def _number(path: Path) -> int | None:
    """Returns the number in a file; None where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def check_shared_memory(num_gpus: int, folder: Path = SHARED_MEMORY) -> Finding:
    """Returns how much shared memory is there, through which NCCL and Ray pass data."""
    check, remedy = "/dev/shm", "start the container with --shm-size=16g, or --ipc=host"
    try:
        space = os.statvfs(folder)
    except OSError as error:
        return failed(check, f"{folder}: {error.strerror}", remedy)
    size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    text = f"{size_words(free)} of {size_words(size)} free"
    if size < LEAST_SHARED_BYTES:
        what = "NCCL and Ray need more" if num_gpus > 1 else "Ray puts its objects on the disk instead"
        return (failed if num_gpus > 1 else warning)(check, f"{text}: {what}", remedy)
    if free < LEAST_SHARED_BYTES:
        return warning(check, text, f"programs that crashed left files there: ls -l {folder}")
    return ok(check, text)


def check_open_files(limits: tuple[int, int] | None = None) -> Finding:
    """Returns how many files a process may hold open. Args: limits: soft and hard; None: those of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE) if limits is None else limits
    check, text = "open files", f"at most {_limit_words(soft)} (to be raised to {_limit_words(hard)})"
    if soft == resource.RLIM_INFINITY or soft >= LEAST_OPEN_FILES:
        return ok(check, text)
    if hard != resource.RLIM_INFINITY and hard < LEAST_OPEN_FILES:
        return warning(check, text, "start the container with --ulimit nofile=65536, or raise it in limits.conf")
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    return warning(check, text, f"run `ulimit -n {wanted}` in the shell that starts sweeps")


def _limit_words(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def check_loopback(address: str = "127.0.0.1") -> Finding:
    """Returns whether processes of this machine reach each other by its own address."""
    check = "loopback"
    try:
        with (
            socket.create_server((address, 0)) as server,
            socket.create_connection(server.getsockname()[:2], timeout=_LOOPBACK_SECONDS) as sender,
        ):
            server.settimeout(_LOOPBACK_SECONDS)
            receiver = server.accept()[0]
            with receiver:
                receiver.settimeout(_LOOPBACK_SECONDS)
                sender.sendall(b"golf")
                if receiver.recv(4, socket.MSG_WAITALL) != b"golf":
                    return failed(check, f"{address} answers something else", "a proxy or firewall changes it")
    except OSError as error:
        remedy = "torchrun and Ray need it: `ip link set lo up`, and no firewall on the machine's own connections"
        return failed(check, f"no connection to {address}: {error.strerror or error}", remedy)
    return ok(check, f"{address} answers")


def check_host_name(name: str | None = None) -> Finding:
    """Returns whether this machine's name has an address, by which gloo's processes find each other."""
    name = socket.gethostname() if name is None else name
    try:
        address = socket.getaddrinfo(name, None)[0][4][0]
    except (OSError, UnicodeError):
        remedy = f"add a line to /etc/hosts: 127.0.1.1 {name}"
        return warning("host name", f"{name} has no address, which runs on several processes need", remedy)
    return ok("host name", f"{name} is {address}")


def check_clock(now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> Finding:
    """Returns whether the date can be right and the clock runs evenly.

    Args: now: seconds since 1970; monotonic: seconds that nothing sets back.
    """
    remedy = "set it: `timedatectl set-ntp true`, or chrony; certificates and credentials are refused otherwise"
    first, began = now(), monotonic()
    time.sleep(_CLOCK_SECONDS)
    passed, wall = monotonic() - began, now() - first
    try:
        date = datetime.fromtimestamp(first, UTC)
    except (ValueError, OverflowError, OSError):
        return failed("clock", f"{first} seconds since 1970 is no date", remedy)
    text = f"{date:%Y-%m-%d %H:%M:%S} UTC"
    if date.year not in YEARS:
        return failed("clock", f"{text} cannot be", remedy)
    if passed <= 0:
        return failed("clock", "the monotonic clock stands still", "restart the machine, or take another")
    if abs(wall - passed) > _CLOCK_DRIFT:
        return warning("clock", f"{text}; it moved {wall:.2f} s in {passed:.2f} s", "wait until it is set")
    return ok("clock", text)
