"""Which version of the project this is, and with which libraries it runs."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__version__ = "0.1.0"
LIBRARIES = ("torch", "ray", "mlflow")
_ROOT = Path(__file__).resolve().parents[2]
_BUILT = Path(__file__).resolve().parents[1] / "commit.txt"
"""Written into a built package, which has no repository around it."""


@functools.cache
def commit() -> str | None:
    """Returns the commit of the project, with "-dirty" when files of the checkout differ from it; None if unknown."""
    if _BUILT.is_file():
        return _BUILT.read_text().strip() or None
    git = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    if not (_ROOT / ".git").exists():
        return None
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def version_text() -> str:
    """Returns one line: version and commit of the project, and the versions of Python and of the libraries."""
    return f"golf-tune {__version__}, commit {commit() or 'unknown'}; Python {platform.python_version()}, " + (
        ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
