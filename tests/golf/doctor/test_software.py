"""Versions, the driver and GPUs: a driver's library made by a C compiler, and what torch tells of GPUs stood in for."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from golf.doctor.finding import State, finding_lines
from golf.doctor.gpus import Product, check_gpu, check_links, check_products, multiply
from golf.doctor.software import asked_versions, check_driver, check_library, check_python, driver_cuda_version

DRIVER = "int cuDriverGetVersion(int *version) { *version = %d; return %d; }\n"


def test_the_python() -> None:
    """Fault: a Python that the project does not run on passes, or one that it does run on does not."""
    states = [check_python((3, minor, 1)).state for minor in range(10, 15)]
    assert states == [State.FAILED, State.OK, State.OK, State.OK, State.FAILED]


@pytest.mark.parametrize(
    ("found", "asked", "state"),
    [
        ("2.9.0+cu130", ">=2.9,<2.14", State.OK),
        ("2.14.0", ">=2.9,<2.14", State.WARNING),
        ("2.8.9", ">=2.9,<2.14", State.WARNING),
        ("2.10", ">=2.9", State.OK),
        ("2.60.0.dev1", "==2.60.0", State.OK),
        ("3.17", "==3.17.2", State.WARNING),
        ("2.60.0", None, State.OK),
        ("\x1b[2Jnot a version", "==1.0", State.WARNING),
        ("9" * 5000, "==1.0", State.WARNING),
        ("", None, State.WARNING),
        (None, "==1.0", State.WARNING),
    ],
)
def test_versions(found: str | None, asked: str | None, state: State) -> None:
    """Fault: versions compared as texts; a hostile version stops the check or steers the terminal."""
    finding = check_library("ray", "sweeps", asked, lambda name: found)
    assert finding.state == state
    assert "\x1b" not in "".join(finding_lines([finding]))
    assert ("needed for sweeps" in finding.remedy) == (found is None)


def test_what_the_project_asks_for() -> None:
    """Fault: the exact versions are not read from the package, so that every one passes."""
    asked = asked_versions()
    assert asked["ray"] == "==2.60.0"
    assert asked["torch"] in (">=2.9,<2.14", "<2.14,>=2.9")
    assert "pytest" not in asked


def driver(folder: Path, version: int, code: int = 0) -> str:
    """The path of a library with a driver's function."""
    (folder / "driver.c").write_text(DRIVER % (version, code))
    library = folder / f"libcuda-{version}-{code}.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(folder / "driver.c")], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler to make a driver's library")
    return str(library)


def test_the_drivers_version(tmp_path: Path) -> None:
    """Fault: the number is read wrongly, or an error of the driver is taken for a version."""
    assert driver_cuda_version(driver(tmp_path, 12080)) == (12, 8)
    assert driver_cuda_version(driver(tmp_path, 13000, 100)) is None
    assert driver_cuda_version(str(tmp_path / "none.so")) is None


def gpus(built: str | None, found: bool = True, free: float = 1.0, linked: bool = True) -> Any:
    """What torch tells on a machine with GPUs."""
    properties = SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0)
    cuda = SimpleNamespace(
        is_available=lambda: found,
        get_device_properties=lambda number: properties,
        mem_get_info=lambda number: (int(free * 80 * 2**30), 80 * 2**30),
        can_device_access_peer=lambda a, b: linked or {a, b} != {0, 3},
        nccl=SimpleNamespace(version=lambda: (2, 27, 5)),
    )
    distributed = SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: True)
    return SimpleNamespace(version=SimpleNamespace(cuda=built), cuda=cuda, distributed=distributed)


@pytest.mark.parametrize(
    ("built", "newest", "found", "state"),
    [
        ("13.0", (12, 8), False, State.FAILED),
        ("12.8", (12, 4), True, State.OK),
        ("12.8", (13, 0), True, State.OK),
        ("12.8", (12, 8), False, State.FAILED),
        (None, (12, 8), False, State.FAILED),
        (None, None, False, State.OK),
    ],
)
def test_torch_against_the_driver(built: str | None, newest: tuple[int, int] | None, found: bool, state: State) -> None:
    """Fault: a paid GPU stays unused without a word, because torch's build and the driver do not fit."""
    assert check_driver(gpus(built, found), newest, Path("/none")).state == state


def test_memory_and_links() -> None:
    """Fault: a GPU that somebody else uses, or a pair without a direct link, passes."""
    assert check_gpu(gpus("13.0"), 0).state == State.OK
    assert check_gpu(gpus("13.0", free=0.5), 0).state == State.WARNING
    links = check_links(gpus("13.0", linked=False), 4)
    assert (links.state, "between 0-3" in links.found) == (State.WARNING, True)
    assert "all 6 pairs" in check_links(gpus("13.0"), 4).found


def test_products() -> None:
    """Fault: a device that computes wrongly, fails or is slow passes; on this one the product is exact."""
    assert multiply(torch, "cpu", 64).exact
    products: dict[str, Product | str] = {
        "GPU 0": Product(True, 700.0),
        "GPU 1": Product(True, 300.0),
        "GPU 2": Product(False, 700.0),
        "GPU 3": "CUDA error: uncorrectable ECC error",
    }
    states = [finding.state for finding in check_products(products)]
    assert states == [State.OK, State.WARNING, State.FAILED, State.FAILED]
