"""The shipped file in its forms, and what it needs."""

import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from golf.pipeline.bundle import COUNTED
from golf.submission.code import LOWEST, packages_of, packed_code, readable_source, requirements_of


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


def test_requirements_leave_what_a_machine_has() -> None:
    """Fault: a pin replaces a machine's own torch, which was built for its GPUs; or a bound is above what ran."""
    assert requirements_of(("numpy", "torch")) == f"numpy>={LOWEST['numpy']}\ntorch>={LOWEST['torch']}\n"
    for name, lowest in LOWEST.items():
        here = [int(part) for part in metadata.version(name).split("+")[0].split(".")[:2]]
        assert [int(part) for part in lowest.split(".")] <= here, name


def test_the_readable_source_is_that_of_all_modules() -> None:
    """Fault: readers are shown another source than what was joined."""
    text = readable_source()
    for module in COUNTED:
        source = Path(find_spec(module).origin).read_text()  # type: ignore[union-attr,arg-type]
        assert source.rstrip() in text, module
