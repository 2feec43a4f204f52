"""The directory of a run: names of its files, stored results, and models read back from weights or artifact."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from golf.artifact.pack import LARGEST_ARTIFACT, read_artifact
from golf.config.config import ModelConfig, RunConfig, from_plain, to_plain
from golf.data.dataset import hash_file
from golf.model.compile import activation_dtype
from golf.model.gepa import GEPA
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import WEIGHTS, read_result, write_result
from golf.runtime.tensors import read_tensors

T = TypeVar("T")


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    path: Path

    def file(self, name: str) -> Path:
        """Returns the path of a file of the run: STATE, WEIGHTS, "curves.json", "artifact.golf", "<stage>.json"."""
        return self.path / name


@dataclass(frozen=True)
class LooseArtifact(RunDirectory):
    """An artifact without its run: `path` is the file, whatever its name."""

    def file(self, name: str) -> Path:
        """Returns the artifact's own path; every other file of a run is missing below it."""
        return self.path if name == "artifact.golf" else self.path / name


@dataclass(frozen=True)
class Artifact:
    """An artifact by its bytes, wherever its file is: whoever reads the same one again shares its decoding."""

    sha256: str
    path: Path = field(compare=False)

    @classmethod
    def of(cls, path: Path) -> "Artifact":
        """Returns the artifact in a file; one that is too large to be any is not read."""
        return cls(hash_file(path) if path.stat().st_size <= LARGEST_ARTIFACT else "", path)


@lru_cache(maxsize=1)
def decoded(artifact: Artifact) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Returns `read_artifact` of its file, the last one without decoding it again; nobody changes the tensors."""
    return read_artifact(artifact.path)


def stored_result(path: Path, kind: type[T], identity: str, group: ProcessGroup) -> T | None:
    """Returns on every rank the result that the first rank reads, or None where there is none of this identity.

    Only one rank reads: shared storage may show an old file, or none, to the others for a while.
    """
    result = read_result(path, kind, identity) if group.first else None
    plain = json.loads(group.broadcast(json.dumps(None if result is None else to_plain(result)).encode()))
    return None if plain is None else from_plain(kind, plain)


def compute_once(
    path: Path, kind: type[T], identity: str, group: ProcessGroup, compute: Callable[[], T], first_rank_only: bool
) -> T:
    """Returns the stored result, or computes it and stores it.

    Args:
        path: file of the result.
        kind: its class.
        identity: digest of what it is computed from.
        group: the ranks; all get the result of the first one.
        compute: computes it.
        first_rank_only: whether the first rank computes it alone, instead of all ranks together.

    Raises: FileNotFoundError naming the file where what was just written cannot be read back.
    """
    result = stored_result(path, kind, identity, group)
    if result is not None:
        return result
    if group.first:
        write_result(path, identity, compute())
    elif not first_rank_only:
        compute()
    result = stored_result(path, kind, identity, group)
    if result is None:
        raise FileNotFoundError(f"{path} was written and cannot be read back; does another run use this directory?")
    return result


def load_model(directory: RunDirectory, rung: str, config: RunConfig, group: ProcessGroup) -> GEPA:
    """Returns the model of a rung: live or averaged weights, or the artifact read back from the disk.

    Raises: ValueError naming the file when it is damaged or of another model.
    """
    if rung in WEIGHTS:
        file, shape = directory.file(WEIGHTS[rung]), config.model
        weights = read_tensors(file)
    else:
        file = directory.file("artifact.golf")
        shape, weights = decoded(Artifact.of(file))
    model = GEPA(shape, activation_dtype(group.device))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} holds the weights of another model: {error}") from error
    return model.to(group.device)
