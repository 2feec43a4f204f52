"""What a built package holds besides its modules: the commit it was built from, and the files that `ray up` needs."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOR_A_CLUSTER = (
    *("cluster.yaml", "cluster", "docs/cluster-onprem.yaml", "docs/cluster.md"),
    *("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "run_sweep.py", "run_seeds.py"),
)
"""Files of the project that `golf-sweep cluster FOLDER` writes beside the two packages."""


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds them to wheels and source distributions; an editable installation reads the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds files to a build. Args: version: "editable" or "standard"; build_data: of hatchling."""
        if version == "editable":
            return
        root, included = Path(self.root), build_data["force_include"]
        if self.target_name == "wheel":
            included |= {str(root / name): f"tune/project/{name}" for name in FOR_A_CLUSTER}
        if not (root / "golf" / "commit.txt").exists():
            with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
                file.write(_commit(root))
            included[file.name] = "golf/commit.txt"


def _commit(root: Path) -> str:
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
