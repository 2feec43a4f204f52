"""What one trial runs on, as a value; Ray is not needed for it."""

import os
from dataclasses import dataclass

from tune.records.entries import WorldShape

TRIAL_SLOT = "trial_slot"
"""Resource that the driver of a trial takes."""
MAX_SLOTS = 64
"""Trials at a time that a Ray started here can be asked for."""
KERNEL_SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
"""Variables by which the libraries below torch choose their kernels, and with them the last bits of a sum."""


@dataclass(frozen=True)
class Workers:
    """What one trial runs on."""

    num_workers: int = 1
    """Processes: 1, 2, 4 or 8."""
    cpus: float = 1.0
    """CPUs of each."""
    gpus: float = 0.0
    """GPUs of each."""

    @property
    def is_one_cpu(self) -> bool:
        """Whether this is one process without a GPU."""
        return self.num_workers == 1 and not self.gpus

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one process, as Ray names them."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def world(self) -> WorldShape:
        """What of it changes the bits of a result."""
        return WorldShape(
            ranks=self.num_workers,
            cpus=self.cpus,
            device="cuda" if self.gpus else "cpu",
            threads=max(1, int(self.cpus)),
            switches={name: os.environ[name] for name in KERNEL_SWITCHES if name in os.environ},
        )
