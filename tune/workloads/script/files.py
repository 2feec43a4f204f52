"""The script and the files beside it: copied for every trial, so that no run sees another's files.

Files beside the script count with it as code. Folders are linked where they hold data, copied where they hold Python,
and left out where a run writes into them.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from golf.runtime.results import digest

_LEFT_OUT = frozenset(
    {
        *("logs", "log", "wandb", "mlruns", "runs", "storage", "checkpoints", "outputs", "__pycache__", "node_modules"),
        *("records", "build", "dist"),
    }
)
"""Folders that runs write into, or that hold other work."""
_MADE_BY_RUNNING = (".pt", ".pth", ".ptz", ".ckpt", ".log", ".tmp", ".golf")
"""Endings of files that a run writes."""
_HEAD_BYTES = 1 << 16
"""Of a data file that are looked at: shards of gigabytes are told apart by their sizes and beginnings."""
_LARGEST_FILE = 64 << 20
_MOST_BYTES = 512 << 20
_MOST_FILES = 5000


class ScriptFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial's directory is made of."""

    folder: str
    """Folder of the copies or, before they are made, of the originals."""
    script: str
    """Name of the script in it."""
    files: dict[str, str]
    """Relative path -> SHA-256 of the files that are copied, the script's among them."""
    links: dict[str, str]
    """Name -> folder with data, which is linked."""

    @property
    def digest(self) -> str:
        """Digest of the names and contents of the copied files."""
        return digest(self.files)

    @property
    def script_bytes(self) -> int:
        """Size of the script."""
        return (Path(self.folder) / self.script).stat().st_size

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules beside the script."""
        return tuple(sorted({name.split("/")[0].removesuffix(".py") for name in self.files if name.endswith(".py")}))


@dataclass(frozen=True)
class _Found:
    files: list[Path]
    links: dict[str, str]


def find_files(script: Path) -> ScriptFiles:
    """Returns the script and what is beside it.

    Raises:
        ValueError: when there is too much beside it to be copied for every trial.
        OSError: when a file cannot be read.
    """
    if not script.is_file():
        raise ValueError(f"there is no script {script}")
    folder = script.resolve().parent
    found = _beside(folder)
    size = sum(path.stat().st_size for path in found.files)
    if size > _MOST_BYTES or len(found.files) > _MOST_FILES:
        raise ValueError(
            f"{folder} has {len(found.files):,} files of {size:,} bytes beside {script.name}, which every trial would "
            f"copy (at most {_MOST_FILES:,} files of {_MOST_BYTES:,} bytes); move the script to a folder of its own"
        )
    files = {str(path.relative_to(folder)): _sha256(path) for path in {*found.files, folder / script.name}}
    return ScriptFiles(folder=str(folder), script=script.name, files=dict(sorted(files.items())), links=found.links)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(folder: Path) -> _Found:
    files, links = list[Path](), dict[str, str]()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_OUT:
            continue
        if path.is_file():
            if path.suffix not in _MADE_BY_RUNNING and path.stat().st_size <= _LARGEST_FILE:
                files.append(path)
        elif path.is_dir():
            inner = [
                Path(root) / name for root, _, names in os.walk(path) for name in names if "__pycache__" not in root
            ]
            if any(file.suffix == ".py" for file in inner):
                files += [file for file in inner if file.suffix not in _MADE_BY_RUNNING]
            else:
                links[path.name] = str(path.resolve())
    return _Found(files, links)


def keep_copy(files: ScriptFiles, folder: Path) -> ScriptFiles:
    """Returns the files as copied to `folder`, from which trials on any node take them."""
    if not folder.exists():
        new = folder.with_name(f"{folder.name}.{os.getpid()}.new")
        shutil.rmtree(new, ignore_errors=True)
        place(files, new)
        try:
            new.rename(folder)
        except OSError:  # another driver was first
            shutil.rmtree(new)
    return msgspec.structs.replace(files, folder=str(folder))


def data_manifest(paths: Iterable[Path]) -> str:
    """Returns a digest of what lies at paths: the names, sizes and first bytes of all files below them."""
    files: dict[str, list[object]] = {}
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in below:
            with file.open("rb") as content:
                head = hashlib.sha256(content.read(_HEAD_BYTES)).hexdigest()
            files[f"{path.name}/{file.relative_to(path)}"] = [file.stat().st_size, head]
    return digest(files)


def place(files: ScriptFiles, directory: Path, script: bytes | None = None) -> None:
    """Makes a directory of the files.

    Args:
        files: what it is made of.
        directory: a new one.
        script: other content of the script, as where constants are changed.
    """
    directory.mkdir(parents=True)
    for name in files.files:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(files.folder) / name, target)
    for name, folder in files.links.items():
        (directory / name).symlink_to(folder)
    if script is not None:
        (directory / files.script).write_bytes(script)
