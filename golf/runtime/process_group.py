"""Ranks and reductions: the same calls on one process and on many.

`join` reads what torchrun (or Ray Train) set up; every operation here is skipped on one rank, so that no
caller has a second path.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from golf.config.config import MICRO_BATCHES


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that compute one result together."""

    rank: int = 0
    """Rank of this process, 0 to world_size - 1."""
    world_size: int = 1
    """Number of processes: 1, 2, 4 or 8."""
    device: torch.device = torch.device("cpu")
    """Device of this process."""

    def __post_init__(self) -> None:
        if self.world_size < 1 or MICRO_BATCHES % self.world_size:
            known = "1, 2, 4 or 8"
            raise ValueError(
                f"world size must divide the {MICRO_BATCHES} micro-batches ({known}), got {self.world_size}"
            )

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Replaces `tensor` by its sum over the ranks."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def any(self, condition: bool) -> bool:
        """Returns whether `condition` is true on any rank."""
        return bool(self.sum(torch.tensor(float(condition), device=self.device)))

    def broadcast(self, data: bytes) -> bytes:
        """Returns the first rank's `data` on every rank; what the others pass is not used."""
        if self.world_size == 1:
            return data
        num_bytes = int(self.sum(torch.tensor(len(data) if self.first else 0, device=self.device)))
        buffer = torch.zeros(num_bytes, dtype=torch.uint8, device=self.device)
        if self.first:
            buffer.copy_(torch.from_numpy(np.frombuffer(data, np.uint8).copy()))
        torch.distributed.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()

    def check_same(self, number: int, what: str) -> None:
        """Raises ValueError unless all ranks have the same `number`: shared storage may show an old file to some."""
        total = self.sum(torch.tensor(float(number), dtype=torch.float64, device=self.device))
        if float(total) != number * self.world_size:
            raise ValueError(f"{what}: {number} on rank {self.rank}, others have another number; try again")

    def wait(self) -> None:
        """Waits until every rank has called it."""
        if self.world_size > 1:
            torch.distributed.barrier()


def pick_device(local_rank: int = 0) -> torch.device:
    """Returns this process's GPU where there are GPUs, else the CPU."""
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """Returns the GPU's name, or the CPU's with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", listing.read_text()) if listing.exists() else None
    return f"{match[1] if match else platform.machine()}, {torch.get_num_threads()} thread(s)"


def current_group(device: torch.device | None = None) -> ProcessGroup:
    """Returns the group of an already initialised process group, or one process."""
    if device is None:
        device = pick_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not torch.distributed.is_initialized():
        return ProcessGroup(device=device)
    return ProcessGroup(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


@contextlib.contextmanager
def join() -> Iterator[ProcessGroup]:
    """Joins torchrun's process group for the block (nccl on GPUs, gloo on CPUs); outside torchrun, a group of one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    device = pick_device(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ProcessGroup(world_size=world_size)
    if world_size == 1:
        yield ProcessGroup(device=device)
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield current_group(device)
    finally:
        torch.distributed.destroy_process_group()
