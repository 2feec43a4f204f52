"""A place where files are kept: a local folder, or anything else that pyarrow.fs reaches (s3://, gs://, hdfs://, ...).

Every failure is a `StoreError` that names the place and the remedy. `LocalStorage` has an exclusive create and renames;
`ObjectStorage` promises neither, because object stores behind pyarrow.fs have none.

Both show a file whole or not at all. No clock of a node is compared with another's: `clock_ns` is the time
that the storage itself writes on files. A place must never know what its files mean.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
from pyarrow import fs

from golf.cli.terminal import expanded
from tune.records.ledger import flush
from tune.records.redaction import redact

BLOCK_BYTES = 1 << 20
WORK = "work"
"""The folder of what is not finished; nobody reads it."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""Kinds of pyarrow file systems where a written file appears whole at its end and folders need not be made."""


class StoreError(OSError):
    """The place cannot be read or written; the message names it and the remedy."""


@dataclass(frozen=True)
class FileState:
    """What a listing says of a file."""

    num_bytes: int
    modified_ns: int
    """When it was last written, by the storage's own clock."""


class StorageBackend(ABC):
    """Files by relative path, with "/" between the parts."""

    exclusive: bool
    """Whether of several `create` of one path at the same time exactly one succeeds."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The place as people write it."""

    @abstractmethod
    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file in blocks. Raises: FileNotFoundError, StoreError."""

    @abstractmethod
    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file whose name nobody else uses and nobody reads yet; on return it is on the disk."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Let a new file appear whole; False, and nothing changed, when there is one."""

    @abstractmethod
    def overwrite(self, path: str, data: bytes) -> bool:
        """Replace a file's bytes by as many others, renewing its time; False, and nothing made, when there is none."""

    @abstractmethod
    def replace(self, path: str, data: bytes) -> None:
        """Put a file in the place of another, if there is one; after a kill at any time it is one or the other."""

    @abstractmethod
    def files(self, folder: str) -> dict[str, FileState]:
        """All files below `folder`, at any depth, by path relative to it; none when it is not there."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""

    @abstractmethod
    def remove_folder(self, path: str) -> None:
        """Remove a folder with all in it; one that is not there is no error."""

    @abstractmethod
    def scratch(self, name: str) -> Path:
        """A new local folder to compute in, as near to the place as can be."""

    def adopt(self, source: Path, path: str) -> None:
        """Keep the local file `source` as `path`; it may be moved away."""
        self.save(path, file_chunks(source))

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None when there is none."""
        try:
            return b"".join(self.chunks(path))
        except FileNotFoundError:
            return None

    def touch(self, path: str) -> None:
        """Make `path` the most recently written file, without meaning."""
        if not self.overwrite(path, b"\n"):
            self.create(path, b"\n")

    def clock_ns(self) -> int:
        """Now, by the clock that writes the times of `files`. Raises: StoreError where nothing can be written."""
        name = uuid.uuid4().hex
        self.create(f"{WORK}/{name}", b"\n")
        state = self.files(WORK).get(name)
        self.remove(f"{WORK}/{name}")
        assert state is not None, f"{self.name}/{WORK}/{name} vanished"
        return state.modified_ns

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        """Errors of the file system as a StoreError; a missing file stays FileNotFoundError when reading."""
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, StoreError) or (verb == "read" and isinstance(error, FileNotFoundError)):
                raise
            number = getattr(error, "errno", None) or errno.EIO
            reason = redact((getattr(error, "strerror", None) or str(error)).splitlines()[0])
            message = f"cannot {verb} {self.name}/{path}: {reason}; {_remedy(number)}"
            raise StoreError(number, message) from error


class LocalStorage(StorageBackend):
    """A folder of this machine or of a mounted network file system (it must know hard links and renames)."""

    exclusive = True

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.root = root

    def chunks(self, path: str) -> Iterator[bytes]:
        with self._explained("read", path):
            file = self.root / path
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is not a regular file")
            yield from file_chunks(file)

    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        with self._explained("write", path):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            flush(target.parent)

    def adopt(self, source: Path, path: str) -> None:
        if not source.is_relative_to(self.root):
            super().adopt(source, path)
            return
        with self._explained("write", path):
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            flush(source)
            source.rename(target)
            flush(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        temporary = f"{WORK}/{uuid.uuid4().hex}"
        try:
            self.save(temporary, [data])
            with self._explained("write", path):
                return self._link(self.root / temporary, self.root / path)
        finally:
            with contextlib.suppress(OSError):
                self.remove(temporary)

    def _link(self, source: Path, target: Path) -> bool:
        """Give `source` its second name unless that is taken: link is exclusive and atomic, on NFS too."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            # A network file system may answer so to a repeated request whose first try succeeded.
            return source.stat().st_nlink > 1
        flush(target.parent)
        return True

    def overwrite(self, path: str, data: bytes) -> bool:
        with self._explained("write", path):
            try:
                # In place: no new file can come into being, and a full disk does not stop it.
                with (self.root / path).open("r+b") as file:
                    file.write(data)
            except FileNotFoundError:
                return False
            return True

    def replace(self, path: str, data: bytes) -> None:
        temporary = f"{WORK}/{uuid.uuid4().hex}"
        try:
            self.save(temporary, [data])
            with self._explained("write", path):
                target = self.root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                (self.root / temporary).rename(target)
                flush(target.parent)
        finally:
            with contextlib.suppress(OSError):
                self.remove(temporary)

    def files(self, folder: str) -> dict[str, FileState]:
        with self._explained("list", folder):
            return dict(_walk(self.root / folder, ""))

    def remove(self, path: str) -> None:
        with self._explained("remove", path):
            (self.root / path).unlink(missing_ok=True)

    def remove_folder(self, path: str) -> None:
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / path)

    def scratch(self, name: str) -> Path:
        with self._explained("write", f"{WORK}/{name}"):
            folder = self.root / WORK / name
            folder.mkdir(parents=True)
            return folder


class ObjectStorage(StorageBackend):
    """A path of a pyarrow file system. `create` looks and then writes: of two at the same time both may succeed."""

    exclusive = False

    def __init__(self, filesystem: Any, root: str, name: str) -> None:
        super().__init__(name)
        self.filesystem = filesystem
        self.root = root.rstrip("/")
        self._objects = filesystem.type_name in _OBJECT_STORES

    def chunks(self, path: str) -> Iterator[bytes]:
        with self._explained("read", path), self.filesystem.open_input_stream(self._full(path)) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        full = self._full(path)
        with self._explained("write", path):
            if not self._objects:
                self.filesystem.create_dir(str(PurePosixPath(full).parent), recursive=True)
            with self.filesystem.open_output_stream(full) as file:
                for block in chunks:
                    file.write(block)

    def create(self, path: str, data: bytes) -> bool:
        if self._exists(path):
            return False
        self.replace(path, data)
        return True

    def overwrite(self, path: str, data: bytes) -> bool:
        if not self._exists(path):
            return False
        self.replace(path, data)
        return True

    def replace(self, path: str, data: bytes) -> None:
        if self._objects:
            self.save(path, [data])
            return
        temporary = f"{WORK}/{uuid.uuid4().hex}"
        self.save(temporary, [data])
        with self._explained("write", path):
            self.filesystem.create_dir(str(PurePosixPath(self._full(path)).parent), recursive=True)
            self.filesystem.move(self._full(temporary), self._full(path))

    def _exists(self, path: str) -> bool:
        with self._explained("look for", path):
            return bool(self.filesystem.get_file_info(self._full(path)).type != fs.FileType.NotFound)

    def files(self, folder: str) -> dict[str, FileState]:
        full = self._full(folder)
        with self._explained("list", folder):
            listed = self.filesystem.get_file_info(fs.FileSelector(full, allow_not_found=True, recursive=True))
        found = [info for info in listed if info.type == fs.FileType.File]
        # Some file systems answer without the leading slash that they were asked with.
        start = len(full.strip("/")) + 1
        return {info.path.lstrip("/")[start:]: FileState(info.size, info.mtime_ns or 0) for info in found}

    def remove(self, path: str) -> None:
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._full(path))

    def remove_folder(self, path: str) -> None:
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(self._full(path))

    def scratch(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name[:12]}."))

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root else path


def absolute_address(where: str) -> str:
    """A local folder as an absolute path, "~" as the home folder; a URI stays as it is."""
    return where if "://" in where else str(expanded(where).absolute())


def open_storage(where: str | Path, filesystem: Any = None) -> StorageBackend:
    """The place at a local folder, at a URI that pyarrow knows, or at a path of the given pyarrow file system.

    Nothing is made or read there. Raises: ValueError naming `where` when the URI is not understood; StoreError.
    """
    text = str(where)
    if filesystem is None and "://" not in text:
        return LocalStorage(Path(absolute_address(text)))
    if filesystem is None:
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except OSError as error:
            message = redact(f"cannot reach {text}: {error}; check the address", text)
            raise StoreError(error.errno or errno.EIO, message) from None
        except (ValueError, NotImplementedError) as error:
            raise ValueError(redact(f"{text} is no place that pyarrow.fs reaches: {error}", text)) from None
    else:
        path = text
    # Without a user's secret and settings, which an address may hold and messages must not.
    name = re.sub("//[^/]*@", "//", text.partition("?")[0])
    return (
        LocalStorage(Path(path))
        if isinstance(filesystem, fs.LocalFileSystem)
        else ObjectStorage(filesystem, path, name)
    )


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a local file in blocks."""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, FileState]]:
    try:
        with os.scandir(folder) as found:
            items = list(found)
    except FileNotFoundError:
        return
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), f"{prefix}{item.name}/")
            continue
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            state = item.stat()
            yield prefix + item.name, FileState(state.st_size, state.st_mtime_ns)


def _remedy(number: int) -> str:
    if number in _FULL:
        return "free space there or give a smaller disk budget (python -m tune store gc shows what no result needs)"
    if number in _FORBIDDEN:
        return "make it readable and writable for this user or choose another storage"
    return "check that storage or choose another; nothing half-written is used"
