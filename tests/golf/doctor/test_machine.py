"""Limits of a machine, from the files and calls that tell them."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from golf.doctor.finding import State
from golf.doctor.machine import (
    check_clock,
    check_cpus,
    check_host_name,
    check_loopback,
    check_memory,
    check_open_files,
    check_shared_memory,
)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system in memory of this size; skips where none may be mounted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_containers_limits(tmp_path: Path) -> None:
    """Fault: the machine's CPUs and memory are taken for the container's, which has a part of them."""
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    cpus, memory = check_cpus(2, 0, tmp_path), check_memory(1, group=tmp_path)
    assert cpus.state == memory.state == State.WARNING
    assert "may use 0.5" in cpus.found
    assert "OMP_NUM_THREADS=1" in cpus.remedy
    assert "may use 1.0 GiB, 512.0 MiB of it are free" in memory.found
    for name in ("cpu.max", "memory.max"):
        (tmp_path / name).write_text("max 100000\n" if name == "cpu.max" else "max\n")
    assert check_cpus(1, 0, tmp_path).state == State.OK
    assert check_cpus(1, len(os.sched_getaffinity(0)) + 1, tmp_path).state == State.WARNING


def test_a_containers_shared_memory(tmp_path: Path) -> None:
    """Fault: Docker's 64 MiB are found when NCCL fails in the middle of a run."""
    with small_disk(tmp_path, "64m"):
        assert check_shared_memory(0, tmp_path).state == State.WARNING
        several = check_shared_memory(8, tmp_path)
        assert several.state == State.FAILED
        assert "--shm-size" in several.remedy
    assert check_shared_memory(0, tmp_path / "none").state == State.FAILED


def test_open_files() -> None:
    """Fault: a soft limit that a shell can raise and a hard one that it cannot get the same advice."""
    assert check_open_files((65536, 65536)).state == State.OK
    assert "ulimit -n 65536" in check_open_files((1024, 1048576)).remedy
    assert "--ulimit" in check_open_files((1024, 1024)).remedy


def test_the_own_network() -> None:
    """Fault: an address that nobody has, or a name without an address, passes."""
    assert check_loopback().state == State.OK
    assert check_loopback("192.0.2.1").state == State.FAILED  # RFC 5737: nobody's
    assert check_host_name(f"{'x' * 64}.invalid").state == State.WARNING


def test_clocks() -> None:
    """Fault: a machine that believes it is 1970, or whose clock is being set, passes."""
    assert check_clock(lambda: 1000.0 + time.monotonic()).state == State.FAILED
    assert check_clock(monotonic=lambda: 7.0).state == State.FAILED
    assert check_clock(lambda: 1.8e9 + 100 * time.monotonic()).state == State.WARNING
    assert check_clock(lambda: 1.8e9 + time.monotonic()).state == State.OK
    assert check_clock(lambda: 1e300).state == State.FAILED
