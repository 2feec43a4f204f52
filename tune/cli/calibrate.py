"""`run_sweep.py --calibrate`: a few steps and chunks of a preset in processes of their own on this machine."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from golf.config.config import from_plain, to_plain
from golf.pipeline.machine_seconds import ERROR_FILE, MachineSeconds
from golf.runtime.files import read_json, write_json
from tune.workloads.gepa.workload import GepaWorkload

_MODULE = "golf.pipeline.machine_seconds"
_ROOT = Path(__file__).resolve().parents[2]
"""Where a process finds the packages, whether installed or not."""
_LAST_LINES = 5


def calibrate(workload: GepaWorkload) -> MachineSeconds:
    """Measures the workload's base configuration on as many processes as a trial has.

    Raises: ValueError where this machine is not what a trial runs on, or the measurement fails.
    """
    world, num_gpus = workload.world, torch.cuda.device_count()
    if world.device == "cuda" and num_gpus < world.ranks:
        raise ValueError(f"--calibrate needs a GPU for each of the {world.ranks} --workers; here are {num_gpus}")
    if world.device == "cpu" and num_gpus:
        raise ValueError("--calibrate measures on the GPUs of this machine: leave --gpus-per-worker out")
    with tempfile.TemporaryDirectory(prefix="golf-") as folder:
        config, out = Path(folder) / "config.json", Path(folder) / "seconds.json"
        write_json(config, to_plain(workload.base))
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world.ranks}"]
        words = [sys.executable, *(launcher if world.ranks > 1 else []), "-m", _MODULE]
        words += [str(config), str(workload.data_directory), str(world.threads), str(out)]
        done = subprocess.run(words, cwd=_ROOT, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode != 0:
            told = out.with_name(ERROR_FILE)
            last = "\n".join(done.stderr.splitlines()[-_LAST_LINES:])
            raise ValueError(f"the measurement failed: {told.read_text() if told.is_file() else last}")
        return from_plain(MachineSeconds, read_json(out))
