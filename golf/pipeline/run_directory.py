"""An artifact that lies alone, read like the folder of a run."""

from dataclasses import dataclass
from pathlib import Path

from golf.pipeline.stages import RunFolder


@dataclass(frozen=True)
class LooseArtifact(RunFolder):
    """An artifact without its run: `path` is the file, whatever its name."""

    def file(self, name: str) -> Path:
        """The artifact itself; every other file of a run is missing beside it."""
        return self.path if name == "artifact.golf" else self.path / name
