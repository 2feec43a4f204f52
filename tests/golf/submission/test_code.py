"""The shipped file in its forms, and what it needs."""

import subprocess
import sys
from pathlib import Path

from golf.submission.code import packages_of, packed_code, requirements_of


def test_the_packed_file_is_the_program(tmp_path: Path) -> None:
    """Fault: a size is told of a file that does not run, or runs something else."""
    source = (
        "import sys\nif __name__ == '__main__':\n    print('é' * 3, sys.argv[1:], __file__.endswith('packed.py'))\n"
    )
    path = tmp_path / "packed.py"
    path.write_bytes(packed_code(source.encode()))
    command = [sys.executable, "-I", "-X", "utf8", str(path), "a b"]
    done = subprocess.run(command, capture_output=True, encoding="utf8", check=False)
    assert done.stdout == "ééé ['a b'] True\n", done.stderr


def test_only_what_is_imported_and_needed_is_required() -> None:
    """Fault: a package is missing in a clean environment, or one is asked for that nothing uses."""
    source = """
import json, torch.nn.functional as F
from numpy import array
try:
    import zstandard
except ModuleNotFoundError:
    zstandard = None
def late():
    import sentencepiece.trainer
"""
    assert packages_of(source, "rans") == ("numpy", "sentencepiece", "torch")
    assert packages_of(source, "zstd") == ("numpy", "sentencepiece", "torch", "zstandard")


def test_pins_are_those_that_ran_without_the_build() -> None:
    """Fault: a version that no index has, or a version where none is known."""
    versions = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "ray": "2.60.0"}
    assert requirements_of(("numpy", "sentencepiece", "torch"), versions).split() == [
        "numpy==2.4.6",
        "sentencepiece",
        "torch==2.13.0",
    ]
