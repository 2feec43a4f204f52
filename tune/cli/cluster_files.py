"""`python -m tune cluster`: writes the folder that `ray up` is run in, from a checkout or an installed package.

The build of the package runs this file for `FILES`: it imports only the standard library.
"""

import argparse
import shutil
from pathlib import Path

FILES = (
    *("cluster.yaml", "cluster", "docs/cluster-onprem.yaml", "docs/cluster.md"),
    *("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "run_sweep.py", "run_seeds.py"),
)
"""What the folder holds beside the two packages."""
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGED = Path(__file__).resolve().parents[1] / "project"
"""Where a built package holds the files that lie at the top of a checkout."""


def cluster_command(parsed: argparse.Namespace) -> None:
    """Writes the folder. Raises: FileExistsError where there is one."""
    folder: Path = parsed.folder
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: give a new folder")
    top = _PACKAGED if _PACKAGED.is_dir() else _ROOT
    ignored = shutil.ignore_patterns("__pycache__", "project")
    for source, names in ((top, FILES), (_ROOT, ("golf", "tune"))):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, folder / name, ignore=ignored)
            else:
                shutil.copy(source / name, folder / name)
    print(f"{folder} has cluster.yaml and all that it sends to a cluster; read {folder}/docs/cluster.md, then")
    print(f"  cd {folder} && ray up cluster.yaml")
