"""How a trial of a script is started: its command, its environment, its working directory.

The environment holds what was given and what a process needs to find its programs, its GPUs and its peers; nothing else
of this process's environment, which may hold secrets, reaches the script.
"""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from golf.scripts.inputs import read_inputs, with_constants
from tune.records.redaction import redact
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
_PASSED_PREFIXES = ("LC_", "NCCL_", "GLOO_", "UCX_", "FI_")
"""Variables of the language and of the networks between GPUs, without those that hold secrets."""
_PORTS = ("MASTER_PORT", "PET_MASTER_PORT")
"""Variables with the port at which processes meet, torchrun's own the last."""


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
            words += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
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
        filled = part.replace("{script}", script).replace("{nproc}", processes)
        parts += words if part == "{args}" else [filled.replace("{args}", shlex.join(words))]
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
    passed = {name: own[name] for name in own if name in _PASSED}
    networks = {name: value for name, value in own.items() if name.startswith(_PASSED_PREFIXES)}
    passed |= {name: value for name, value in networks.items() if redact(f"{name}={value}") == f"{name}={value}"}
    passed |= {name: own[name] for name in settings.passed if name in own}
    made = {RUN_ID: run_id, "TMPDIR": str(temporary), "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    made |= {"PYTHONDONTWRITEBYTECODE": "1", "MASTER_ADDR": "127.0.0.1"} | dict.fromkeys(_PORTS, _free_port())
    return {**passed, **made, **variables}


def _free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def make_directory(settings: ScriptSettings, constants: Mapping[str, str], directory: Path) -> bytes:
    """Makes a trial's working directory, whole, of the script, its constants changed, and the files beside it.

    Returns: the script as it runs.
    """
    script = (Path(settings.files.folder) / settings.files.script).read_bytes()
    if constants:
        script = with_constants(script, read_inputs(script).constants, constants)
    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    place(settings.files, new, script)
    new.rename(directory)
    return script
