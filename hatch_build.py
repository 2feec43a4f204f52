"""What a built package holds besides its modules: the commit it was built from, and the files that `ray up` needs."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds them to wheels and source distributions; an editable installation reads the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds files to a build. Args: version: "editable" or "standard"; build_data: of hatchling."""
        if version == "editable":
            return
        root, included = Path(self.root), build_data["force_include"]
        if self.target_name == "wheel":
            names = runpy.run_path(str(root / "tune" / "cli" / "cluster_files.py"))["FILES"]
            included |= {str(root / name): f"tune/project/{name}" for name in names}
        if not (root / "golf" / "commit.txt").exists():
            commit = runpy.run_path(str(root / "golf" / "cli" / "version.py"))["commit"]
            with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
                file.write(commit() or "")
            included[file.name] = "golf/commit.txt"
