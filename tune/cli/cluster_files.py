"""`python -m tune cluster`: writes the folder that `ray up` is run in, from a checkout or an installed package."""

import argparse
import shutil
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGED = Path(__file__).resolve().parents[1] / "project"
"""Where a built package holds the files that lie at the top of a checkout."""


def cluster_command(parsed: argparse.Namespace) -> None:
    """Writes the folder. Raises: FileExistsError where there is one."""
    folder: Path = parsed.folder
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: give a new folder")
    if _PACKAGED.is_dir():
        shutil.copytree(_PACKAGED, folder)
    else:
        (folder / "docs").mkdir(parents=True)
        for path in (*_ROOT.glob("*.*"), _ROOT / "LICENSE", *_ROOT.glob("docs/cluster*")):
            if path.is_file() and not path.name.startswith("."):
                shutil.copy(path, folder / path.relative_to(_ROOT))
        shutil.copytree(_ROOT / "cluster", folder / "cluster")
    for package in ("golf", "tune"):
        ignored = shutil.ignore_patterns("__pycache__", "project")
        shutil.copytree(_ROOT / package, folder / package, ignore=ignored)
    print(f"{folder} has cluster.yaml and all that it sends to a cluster; read {folder}/docs/cluster.md, then")
    print(f"  cd {folder} && ray up cluster.yaml")
