"""The script and the files beside it: copied for every trial, so that no run sees another's files.

Files beside the script count with it as code. Folders and large files are linked where they are data, copied where they
hold Python, and left out where a run writes into them.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from golf.runtime.results import digest

_LEFT_OUT = frozenset(
    {
        *("logs", "log", "wandb", "mlruns", "runs", "storage", "checkpoints", "outputs", "__pycache__", "node_modules"),
        *("records", "build", "dist", "output", "out", "ckpt", "ckpts", "lightning_logs"),
    }
)
"""Folders that runs write into, or that hold other work."""
_MADE_BY_RUNNING = (".pt", ".pth", ".ptz", ".ckpt", ".log", ".out", ".tmp", ".golf")
"""Endings of files that a run writes."""
_HEAD_BYTES = 1 << 16
"""Of a data file that are looked at: shards of gigabytes are told apart by their sizes and beginnings."""
_LARGEST_FILE = 64 << 20
"""Bytes of a file that is copied; a larger one is data."""
_PYTHON_WITHIN = 20_000
"""Files of a folder among which Python is looked for."""
_VIRTUAL = "pyvenv.cfg"
"""Marks the folder of a Python environment, which is no code of the script's."""
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
    """Relative path -> folder or file with data, which is linked."""

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
    """What is beside a script, as far as it was looked at."""

    top: Path
    exclude: Path | None = None
    """A folder that is no part of the script's."""
    files: list[Path] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    """Bytes of the files in each folder of the top."""

    def add(self, file: Path) -> None:
        """Adds a file that is copied. Raises: ValueError when there are too many, or too large ones."""
        self.files.append(file)
        self.sizes[file.relative_to(self.top).parts[0]] += file.stat().st_size
        if len(self.files) > _MOST_FILES or self.sizes.total() > _MOST_BYTES:
            counts = Counter(path.relative_to(self.top).parts[0] for path in self.files)
            ((most, _),) = (counts if len(self.files) > _MOST_FILES else self.sizes).most_common(1)
            raise ValueError(
                f"every trial copies what is in {self.top}: there are more than {_MOST_FILES:,} files or "
                f"{_MOST_BYTES >> 20:,} MiB, most of them in {most}; move the script to a folder of its own"
            )

    def link(self, path: Path) -> None:
        """Adds data that is linked."""
        self.links[path.relative_to(self.top).as_posix()] = str(path.resolve())


def find_files(script: Path, exclude: Path | None = None) -> ScriptFiles:
    """Returns the script and what is beside it, but what this process or a run writes there.

    Args:
        script: the file.
        exclude: a folder that is left out, such as that of the results.

    Raises:
        ValueError: when there is too much beside it to be copied for every trial, or a name is no text.
        OSError: when a file cannot be read.
    """
    if not script.is_file():
        raise ValueError(f"there is no script {script}")
    script = script.resolve()
    folder = script.parent
    found = _Found(folder, exclude)
    _look(folder, found, (folder,))
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted({*found.files, script})}
    for name in (*files, *found.links):
        if not name.encode("utf-8", "replace").decode() == name:
            raise ValueError(f"the file {name!r} in {folder} has a name that is no UTF-8; rename it")
    return ScriptFiles(folder=str(folder), script=script.name, files=files, links=found.links)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _look(folder: Path, found: _Found, above: tuple[Path, ...]) -> None:
    """Adds what a folder holds. Args: above: it and the folders that led to it, links resolved."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_OUT or path == found.exclude or _is_output(path):
            continue
        if path.is_file() and path.suffix not in _MADE_BY_RUNNING:
            (found.add if path.stat().st_size <= _LARGEST_FILE else found.link)(path)
        elif path.is_dir() and not (path / _VIRTUAL).exists():
            real = path.resolve()
            if any(one.is_relative_to(real) for one in above):
                continue  # a link to a folder above has no end
            if _holds_python(path):
                _look(path, found, (*above, real))
            else:
                found.link(path)


def _is_output(path: Path) -> bool:
    """Whether a file is where this process's own output goes."""
    with contextlib.suppress(OSError):
        if path.is_file():
            return any(os.path.samestat(path.stat(), os.fstat(number)) for number in (1, 2))
    return False


def _holds_python(folder: Path) -> bool:
    """Whether there is Python among the first files of a folder."""
    return any(path.suffix == ".py" for path in itertools.islice(_below(folder), _PYTHON_WITHIN))


def _below(folder: Path, follows: bool = False) -> Iterator[Path]:
    """Yields what is in a folder and the folders below it. Args: follows: whether links to folders are followed."""
    seen = set[Path]()
    for root, folders, names in os.walk(folder, followlinks=follows):
        real = Path(root).resolve()
        folders[:] = [] if real in seen else sorted(folders)
        yield from () if real in seen else (Path(root) / name for name in sorted(names))
        seen.add(real)


def keep_copy(files: ScriptFiles, folder: Path) -> ScriptFiles:
    """Returns the files as copied to `folder`, from which trials on any node take them.

    Raises: ValueError where the copies are not what was read: a file has changed meanwhile.
    """
    kept = msgspec.structs.replace(files, folder=str(folder))
    if not folder.exists():
        new = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.new")
        try:
            place(files, new)
            _check(msgspec.structs.replace(files, folder=str(new)), f"{files.folder} changes; start again")
            new.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    _check(kept, f"it is no copy of {files.folder} any more; remove {folder}")
    return kept


def _check(files: ScriptFiles, remedy: str) -> None:
    for name, expected in files.files.items():
        path = Path(files.folder) / name
        if not path.is_file() or _sha256(path) != expected:
            raise ValueError(f"{path} is not what was read: {remedy}")


def data_manifest(paths: Iterable[Path]) -> str:
    """Returns a digest of what lies at paths: the names, sizes and first bytes of all files below them."""
    files: list[list[object]] = []
    for path in paths:
        for file in _below(path, follows=True) if path.is_dir() else [path]:
            if not file.is_file():  # such as a pipe that nobody writes to
                continue
            with file.open("rb") as content:
                head = hashlib.sha256(content.read(_HEAD_BYTES)).hexdigest()
            files.append([f"{path.name}/{file.relative_to(path).as_posix()}", file.stat().st_size, head])
    return digest(sorted(files, key=repr))


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
        target.chmod(target.stat().st_mode | 0o200)  # a run may write into its own copy
    for name, folder in files.links.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).symlink_to(folder)
    if script is not None:
        (directory / files.script).write_bytes(script)
