"""The stages of one trial as outputs that a store can share: their keys, what they read and their files.

A workload says what its stages are. An opaque one, which only runs as a whole, has a graph of one output.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property

from golf.runtime.results import SCREEN


@dataclass(frozen=True)
class StageName:
    """Names an output of a trial; its text is also the name of a directory or the start of a file name."""

    kind: str
    """The stage, such as "train" or "pack"."""
    steps: int | None = None
    """Optimiser steps behind a state that is kept on the way, or chunks where `first_chunks`; None: the whole stage."""
    first_chunks: bool = False
    """Whether only the first chunks of the data were used, to screen trials."""

    @property
    def interior(self) -> bool:
        """Whether it is a means to another output: a state on the way, or the first chunks."""
        return self.steps is not None or self.first_chunks

    def __str__(self) -> str:
        steps = "" if self.steps is None else f"-{self.steps}"
        return f"{self.kind}{steps}{SCREEN if self.first_chunks else ''}"


@dataclass(frozen=True)
class StageOutput:
    """What one stage leaves in the trial's directory."""

    name: StageName
    key: str
    """Identity of everything that its bits depend on: 64 hexadecimal digits; the store files it under this key."""
    files: tuple[str, ...]
    """Paths below the trial's directory. The last one is written last: where it is, all are."""
    parents: tuple[str, ...] = ()
    """Keys of the outputs that the stage reads."""
    steps: int = 0
    """Optimiser steps behind it; 0 where the stage does not train."""

    @property
    def results(self) -> tuple[str, ...]:
        """The files that hold numbers (JSON). The others are large, and only later stages read them."""
        return tuple(name for name in self.files if name.endswith(".json"))

    @property
    def interior(self) -> bool:
        """Whether it is a means to another output."""
        return self.name.interior


@dataclass(frozen=True)
class StageGraph:
    """All outputs of a trial."""

    outputs: tuple[StageOutput, ...]
    """Each comes after those that it reads."""

    @property
    def keys(self) -> list[str]:
        """The keys of all outputs, in order."""
        return [output.key for output in self.outputs]

    @cached_property
    def read(self) -> frozenset[str]:
        """The keys of outputs that other outputs of the trial read."""
        return frozenset(parent for output in self.outputs for parent in output.parents)

    def missing(self, stored: Container[str]) -> list[StageOutput]:
        """Returns what has to be computed, in order: all that is not stored, but interior outputs that nothing needs.

        Args: stored: keys of the outputs that are there.
        """
        demanded: set[str] = set()
        missing = []
        for output in reversed(self.outputs):
            if output.key not in stored and (not output.interior or output.key in demanded):
                missing.append(output)
                demanded.update(output.parents)
        return missing[::-1]

    def needed(self, stored: Callable[[str], bool]) -> list[str]:
        """Returns the keys that the trial still needs in the store, in order.

        An interior output that others read is needed only while something that is not stored depends on it.
        """
        read = self.read
        demanded: set[str] = set()
        needed = []
        for output in reversed(self.outputs):
            if not output.interior or output.key not in read:
                needed.append(output.key)
                demanded.update(() if stored(output.key) else output.parents)
            elif output.key in demanded:
                needed.append(output.key)
                demanded.update(output.parents)
        return needed[::-1]
