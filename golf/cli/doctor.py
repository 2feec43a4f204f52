"""The command `doctor`: whether this machine and a storage folder are fit for runs."""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from golf.doctor.finding import Finding, State, failed, finding_lines
from golf.doctor.gpus import check_gpus
from golf.doctor.machine import (
    check_clock,
    check_cpus,
    check_host_name,
    check_loopback,
    check_memory,
    check_open_files,
    check_shared_memory,
)
from golf.doctor.software import (
    NEEDED_FOR,
    asked_versions,
    check_driver,
    check_library,
    check_python,
    driver_cuda_version,
)
from golf.doctor.storage import check_storage


def doctor_command(arguments: argparse.Namespace) -> None:
    """Checks everything and prints a line for each; exit code 1 when something failed."""
    findings = list(all_findings(arguments.path))
    counts = {state: sum(finding.state == state for finding in findings) for state in State}
    if arguments.json:
        plain = [{**asdict(finding), "state": str(finding.state)} for finding in findings]
        print(json.dumps({"findings": plain, **{str(state): number for state, number in counts.items()}}))
    else:
        print("\n".join(finding_lines(findings)))
        print(", ".join(f"{number} {state}" for state, number in counts.items()))
    if counts[State.FAILED]:
        raise SystemExit(1)


def all_findings(folder: Path) -> Iterator[Finding]:
    """Returns the findings of every check. Args: folder: of the storage that is to be used."""
    asked = asked_versions()
    yield check_python(sys.version_info[:3])
    torch = _torch()
    if torch is None or isinstance(torch, str):
        yield failed("torch", torch or "not installed", "pip install --constraint cluster/constraints.txt --editable .")
        num_gpus, num_threads = 0, 1
    else:
        yield check_library("torch", "everything", asked.get("torch"))
        num_gpus, num_threads = torch.cuda.device_count(), torch.get_num_threads()
    for name, needed_for in NEEDED_FOR.items():
        yield check_library(name, needed_for, asked.get(name))
    if torch is not None and not isinstance(torch, str):
        yield check_driver(torch, driver_cuda_version())
        yield from check_gpus(torch)
    yield check_cpus(num_threads, num_gpus)
    yield check_memory(num_gpus)
    yield check_shared_memory(num_gpus)
    yield check_open_files()
    yield check_loopback()
    yield check_host_name()
    yield check_clock()
    yield from check_storage(folder)


def _torch() -> Any:
    """Returns torch; the error in words where it cannot be imported, None where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        return None if error.name == "torch" else str(error)
    except (ImportError, OSError, RuntimeError) as error:  # a shared library that is missing or another's
        return str(error)
