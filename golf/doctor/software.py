"""Python, the libraries and their versions; Ray and MLflow are not imported to tell theirs."""

import ctypes
import re
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from golf.doctor.finding import Finding, failed, ok, printable, warning

PROJECT = "golf-tune"
NEEDED_FOR: Mapping[str, str] = MappingProxyType(
    {
        "ray": "sweeps and seed studies (run_sweep.py, run_seeds.py)",
        "mlflow": "sweeps and seed studies, whose trials it shows",
        "zstandard": "packing with the codec zstd",
    }
)
"""Libraries without which a part of the project works: what it is that does not."""
FIRST_PYTHON, AFTER_PYTHON = (3, 11), (3, 14)
LIBCUDA = "libcuda.so.1"
DRIVER_VERSION = Path("/sys/module/nvidia/version")
_CONSTRAINTS = "pip install --constraint cluster/constraints.txt --editable ."


def installed_version(name: str) -> str | None:
    """Returns the version of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def asked_versions() -> Mapping[str, str]:
    """Returns what this project asks for, such as ">=2.9,<2.14", by distribution; nothing where it is not installed."""
    try:
        lines = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*([=<>!~][^;]*)", line) for line in lines if "extra ==" not in line)
    return {match[1].lower().replace("_", "-"): match[2].strip() for match in found if match}


def check_python(version: tuple[int, int, int]) -> Finding:
    """Returns whether this Python runs the project."""
    text = ".".join(map(str, version))
    if FIRST_PYTHON <= version[:2] < AFTER_PYTHON:
        return ok("Python", text)
    wanted = " to ".join(".".join(map(str, pair)) for pair in (FIRST_PYTHON, (3, AFTER_PYTHON[1] - 1)))
    return failed("Python", text, f"install one of {wanted}: https://docs.astral.sh/uv fetches any")


def check_library(
    name: str, needed_for: str, asked: str | None, version: Callable[[str], str | None] = installed_version
) -> Finding:
    """Returns whether a library is there, in a version that is asked for.

    Args: name: of its distribution; needed_for: what does not work without it; asked: a specifier such as
        ">=2.9,<2.14", or None where it is not known; version: returns that of an installed distribution.
    """
    found = version(name)
    if found is None:
        return warning(name, "not installed", f"needed for {needed_for}: {_CONSTRAINTS}")
    number = _numbers(found)
    if number is None:
        return warning(name, f'"{printable(found)}", which is no version', f"install it again: {_CONSTRAINTS}")
    if asked is not None and not _fulfils(number, asked):
        return warning(name, f"{printable(found)}, but {asked} is asked for", _CONSTRAINTS)
    return ok(name, printable(found))


def _numbers(version: str) -> tuple[int, ...] | None:
    """Returns the release of a version: 2.9.0+cu130 is (2, 9, 0); None where it has none."""
    match = re.match(r"\d{1,9}(\.\d{1,9})*(?=$|[-+.a-z])", version, re.ASCII)
    return tuple(map(int, match[0].split("."))) if match else None


def _fulfils(number: tuple[int, ...], asked: str) -> bool:
    """Returns whether a release fulfils clauses with ==, >=, > or <; others are taken as fulfilled."""
    for clause in asked.split(","):
        operator, wanted = re.match(r"\s*([=<>!~]*)\s*", clause), _numbers(clause.strip().lstrip("=<>!~ "))
        if operator is None or wanted is None:
            continue
        width = max(len(number), len(wanted))
        left, right = (part + (0,) * (width - len(part)) for part in (number, wanted))
        holds = {"==": left == right, ">=": left >= right, ">": left > right, "<": left < right, "<=": left <= right}
        if not holds.get(operator[1], True):
            return False
    return True


def driver_cuda_version(library: str = LIBCUDA) -> tuple[int, int] | None:
    """Returns the newest CUDA version that the installed NVIDIA driver runs; None without a driver.

    Source: CUDA driver API, cuDriverGetVersion: 1000 * major + 10 * minor.
    """
    try:
        driver, number = ctypes.CDLL(library), ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def check_driver(torch: Any, driver_cuda: tuple[int, int] | None, driver_file: Path = DRIVER_VERSION) -> Finding:
    """Returns whether the driver runs what torch was built with.

    Within a major version of CUDA an older driver runs newer builds (NVIDIA, "CUDA Compatibility").

    Args: torch: the library; driver_cuda: the newest CUDA version of the driver; None: there is no driver;
        driver_file: with the driver's own version.
    """
    check, built = "CUDA driver", torch.version.cuda
    name = f"driver {driver_file.read_text().strip()}" if driver_file.is_file() else "driver"
    if driver_cuda is None:
        if built is None or not driver_file.is_file():
            return ok(check, "none: runs are on CPUs")
        remedy = "in a container, start it with --gpus all (NVIDIA Container Toolkit)"
        return failed(check, f"the {name} is loaded, but {LIBCUDA} is not there", remedy)
    newest = ".".join(map(str, driver_cuda))
    if built is None:
        remedy = "install torch's CUDA build: https://pytorch.org/get-started/locally"
        return failed(check, f"{name} for CUDA {newest}, but torch is a build without CUDA", remedy)
    if driver_cuda[0] < int(built.split(".")[0]):
        remedy = (
            "rent a machine with a newer driver, or install torch for an older CUDA (index-url of download.pytorch.org)"
        )
        return failed(check, f"{name} for CUDA {newest} at most; torch was built for {built}", remedy)
    if not torch.cuda.is_available():
        remedy = "see what nvidia-smi says; CUDA_VISIBLE_DEVICES may be empty; an updated driver needs a reboot"
        return failed(check, f"{name} for CUDA {newest}, torch for {built}, but torch finds no GPU", remedy)
    return ok(check, f"{name} for CUDA {newest}, torch for {built}")
