"""How a trial of a script is started: its command, its environment, its working directory.

The environment holds what was given and what a process needs to find its programs, its GPUs and its peers; nothing else
of this process's environment, which may hold secrets, reaches the script.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from golf.scripts.inputs import read_inputs, with_constants
from tune.workloads.script.files import place
from tune.workloads.script.settings import ScriptSettings

TORCHRUN, PYTHON = "torchrun", "python"
RUN_ID = "RUN_ID"
"""Variable after which scripts name their log."""
_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH"),
        *("VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
        *("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
        *("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME"),
    }
)
"""Variables that a script gets as this process has them."""
_PASSED_PREFIXES = re.compile(r"^(?:LC|NCCL|GLOO|UCX|FI)_(?!.*(?:TOKEN|SECRET|KEY|PASSWORD))")
"""Variables of the language and of the networks between GPUs."""


def command_of(settings: ScriptSettings, arguments: Mapping[str, str], resumes: bool = False) -> list[str]:
    """Returns the command that runs a trial, in its working directory.

    Args:
        settings: of the script.
        arguments: its flags without dashes -> values; those of switches are 0 or 1.
        resumes: whether it goes on from what an interrupted run left.
    """
    words: list[str] = []
    for name, value in arguments.items():
        if name not in settings.switches:
            words += [f"--{name}", value]
        elif value.lower() in ("1", "true"):
            words.append(f"--{name}")
    if resumes and settings.resume_argument is not None:
        words += shlex.split(settings.resume_argument)
    script, processes = settings.files.script, str(settings.nproc)
    if settings.launcher == PYTHON:
        return [sys.executable, "-u", script, *words]
    if settings.launcher == TORCHRUN:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        return [sys.executable, *launch, script, *words]
    parts: list[str] = []
    for part in shlex.split(settings.launcher):
        parts += words if part == "{args}" else [part.replace("{script}", script).replace("{nproc}", processes)]
    return parts if "{args}" in settings.launcher else [*parts, *words]


def environment_of(
    settings: ScriptSettings, variables: Mapping[str, str], run_id: str, temporary: Path, threads: int
) -> dict[str, str]:
    """Returns all variables of a trial's environment.

    Args:
        settings: of the script.
        variables: those of the trial.
        run_id: names the run.
        temporary: directory for its temporary files.
        threads: of each process.
    """
    own = os.environ
    passed = {name: own[name] for name in own if name in _PASSED or _PASSED_PREFIXES.search(name)}
    passed |= {name: own[name] for name in settings.passed if name in own}
    made = {RUN_ID: run_id, "TMPDIR": str(temporary), "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    made |= {"PYTHONDONTWRITEBYTECODE": "1", "MASTER_ADDR": "127.0.0.1"}
    return {**passed, **made, **variables}


def make_directory(settings: ScriptSettings, constants: Mapping[str, str], directory: Path) -> bytes:
    """Makes a trial's working directory of the script, its constants changed, and the files beside it.

    Returns: the script as it runs.
    """
    script = (Path(settings.files.folder) / settings.files.script).read_bytes()
    if constants:
        script = with_constants(script, read_inputs(script).constants, constants)
    place(settings.files, directory, script)
    return script
