"""Storage for files by relative path: a local directory, or a bucket of an object store (s3://, gs://, az://).

Both show a file completely or not at all, and both create a file exclusively: of several processes that create one path
exactly one succeeds. Times of files are those of the storage's own clock; clocks of nodes are never compared. A backend
does not know what its files mean. Every failure is a `StoreError` that names the path and a remedy.
"""

import contextlib
import errno
import itertools
import os
import re
import shutil
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, S3Store, from_url
from pyarrow import fs

from golf.cli.start import imported
from golf.cli.terminal import expanded
from tune.records.ledger import flush
from tune.records.redaction import redact

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

BLOCK_BYTES = 1 << 20
WORK = "work"
"""The directory of unfinished files; nobody reads it."""
_SCHEMES = ("s3", "gs", "az")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_EPOCH = datetime.fromtimestamp(0, UTC)
# The limit on a request covers its body; a download that runs into it goes on from where it is, as a retry.
_CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(minutes=2)}
_RETRY: "RetryConfig" = {"max_retries": 6, "retry_timeout": timedelta(minutes=30)}


class StoreError(OSError):
    """The storage cannot be read or written; the message names the path and the remedy."""


@dataclass(frozen=True)
class FileState:
    """What a listing says about a file."""

    num_bytes: int
    modified_ns: int
    """When it was last written, by the storage's clock: nanoseconds since 1970."""


class StorageBackend(ABC):
    """Files by relative path, with "/" between the parts."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The address as people write it, without secrets."""

    @abstractmethod
    def chunks(self, path: str) -> Iterator[bytes]:
        """Yields the bytes of a file in blocks. Raises: FileNotFoundError, StoreError."""

    @abstractmethod
    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        """Writes a file under a name that nobody else uses and nobody reads yet; on return it is durable."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Creates a file exclusively; returns False, and changes nothing, when there is one.

        Args: data: unique to the caller where the answer matters: a request that was repeated by the network finds its
            own file, and knows it by its content.
        """

    @abstractmethod
    def overwrite(self, path: str, data: bytes) -> bool:
        """Replaces a file's bytes by as many others, renewing its time; returns False when there is no file."""

    @abstractmethod
    def replace(self, path: str, data: bytes) -> None:
        """Writes a file in the place of another, if there is one; after a kill at any time it is one or the other."""

    @abstractmethod
    def files(self, directory: str) -> dict[str, FileState]:
        """Returns all files below a directory, at any depth, by path relative to it; none when it does not exist."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file; a missing one is no error."""

    @abstractmethod
    def remove_directory(self, path: str) -> None:
        """Removes a directory with everything in it; a missing one is no error."""

    def read(self, path: str) -> bytes | None:
        """Returns the bytes of a file; None when there is none."""
        try:
            return b"".join(self.chunks(path))
        except FileNotFoundError:
            return None

    def touch(self, path: str) -> None:
        """Renews the time of a file without meaningful content, which need not exist."""
        if not self.overwrite(path, b"\n"):
            self.create(path, b"\n")

    def clock_ns(self) -> int:
        """Returns the present time by the storage's clock, in nanoseconds since 1970.

        Raises: StoreError where nothing can be written.
        """
        name = uuid.uuid4().hex
        self.create(f"{WORK}/{name}", b"\n")
        state = self.files(WORK).get(name)
        self.remove(f"{WORK}/{name}")
        assert state is not None, f"{self.name}/{WORK}/{name} vanished"
        return state.modified_ns

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        """Turns errors of the storage into a StoreError; a missing file stays FileNotFoundError when reading."""
        try:
            yield
        except (OSError, BaseError) as error:
            if isinstance(error, StoreError) or (verb == "read" and isinstance(error, FileNotFoundError)):
                raise
            number = _error_number(error)
            message = f"cannot {verb} {self.name}/{path}: {redact(_reason(error))}; {_remedy(number)}"
            raise StoreError(number, message) from error


class LocalStorage(StorageBackend):
    """A directory of this machine or of a mounted network file system with hard links and renames."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.root = root

    def chunks(self, path: str) -> Iterator[bytes]:
        with self._explained("read", path):
            full = self.root / path
            if not stat.S_ISREG(full.stat().st_mode):  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is not a regular file")
            with full.open("rb") as file:
                yield from read_blocks(file)

    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        with self._explained("write", path):
            target = self._target(path)
            with target.open("xb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            flush(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        with self._temporary(data) as temporary, self._explained("write", path):
            target = self._target(path)
            try:
                os.link(temporary, target)  # exclusive and atomic, on NFS too
            except FileExistsError:
                # A network file system may answer so to a repeated request whose first try succeeded.
                return temporary.stat().st_nlink > 1
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
        with self._temporary(data) as temporary, self._explained("write", path):
            target = self._target(path)
            temporary.rename(target)
            flush(target.parent)

    def _target(self, path: str) -> Path:
        """Returns the full path of a file to write, in a directory that exists."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """Yields a file with this content that is removed, unless it was renamed."""
        path = f"{WORK}/{uuid.uuid4().hex}"
        try:
            self.save(path, [data])
            yield self.root / path
        finally:
            with contextlib.suppress(OSError):
                self.remove(path)

    def files(self, directory: str) -> dict[str, FileState]:
        top, states = str(self.root / directory), {}
        start = len(top) + 1
        with self._explained("list", directory):
            for parent, _, names in os.walk(top, onerror=_raise_unless_missing):
                for path in (f"{parent}/{name}" for name in names):
                    with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                        state = os.lstat(path)
                        states[path[start:]] = FileState(state.st_size, state.st_mtime_ns)
        return states

    def remove(self, path: str) -> None:
        with self._explained("remove", path):
            (self.root / path).unlink(missing_ok=True)

    def remove_directory(self, path: str) -> None:
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / path)


class ObjectStorage(StorageBackend):
    """A part of a bucket, where writes are atomic and a write may be conditional on there being no such object.

    The library's threads do not survive a fork: a process that has used one must start others by spawning.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        """Args: store: with the prefix of the part, so that paths are relative to it."""
        super().__init__(name)
        self.store = store

    def chunks(self, path: str) -> Iterator[bytes]:
        with self._explained("read", path):
            for block in obstore.get(self.store, path).stream(min_chunk_size=BLOCK_BYTES):
                yield bytes(block)

    def save(self, path: str, chunks: Iterable[bytes]) -> None:
        with self._explained("write", path):
            blocks = iter(chunks)
            first, second = next(blocks, b""), next(blocks, None)
            # An iterator is uploaded in parts, which takes three requests even for one byte.
            obstore.put(self.store, path, first if second is None else itertools.chain((first, second), blocks))

    def create(self, path: str, data: bytes) -> bool:
        with self._explained("write", path):
            try:
                obstore.put(self.store, path, data, mode="create")
            except AlreadyExistsError:
                return self.read(path) == data
            return True

    def overwrite(self, path: str, data: bytes) -> bool:
        with self._explained("write", path):
            try:
                obstore.head(self.store, path)
            except FileNotFoundError:
                return False
            obstore.put(self.store, path, data)
            return True

    def replace(self, path: str, data: bytes) -> None:
        self.save(path, [data])

    def files(self, directory: str) -> dict[str, FileState]:
        with self._explained("list", directory):
            listed = [item for batch in obstore.list(self.store, directory or None) for item in batch]
        start = len(directory) + 1 if directory else 0
        return {
            item["path"][start:]: FileState(
                item["size"], (item["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
            )
            for item in listed
        }

    def remove(self, path: str) -> None:
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.store, path)

    def remove_directory(self, path: str) -> None:
        names = [f"{path}/{name}" for name in self.files(path)]
        with self._explained("remove", path), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.store, names)


def absolute_address(address: str) -> str:
    """Returns a local directory as an absolute path, "~" as the home directory; a URI stays as it is."""
    return address if "://" in address else str(expanded(address).absolute())


def open_storage(address: str | Path) -> StorageBackend:
    """Returns the storage at a local directory or a URI: file://, s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH.

    Nothing is written or read there. Credentials and settings come from the environment and the files of the cloud's
    tools. Raises: ValueError naming the address when it is not understood; StoreError.
    """
    text = str(address)
    if "://" not in text:
        return LocalStorage(Path(absolute_address(text)))
    parts = urlsplit(text)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        return LocalStorage(Path(parts.path))
    shown = redact(text, text)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        kinds = ", ".join(f"{scheme}://" for scheme in ("file", *_SCHEMES))
        raise ValueError(f"{shown} is no address of a storage; give a directory or one of {kinds}")
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            f"{shown} holds credentials or settings; give them in the environment, such as AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
        )
    try:
        is_s3 = parts.scheme == "s3"
        store = _open_s3(text) if is_s3 else from_url(text, client_options=_CLIENT, retry_config=_RETRY)
        return ObjectStorage(store, text.rstrip("/"))
    except (OSError, BaseError) as error:
        reason = redact(str(error).splitlines()[0], text)
        raise StoreError(
            _error_number(error), f"cannot reach {text}: {reason}; check address and credentials"
        ) from None


def _open_s3(address: str) -> ObjectStore:
    """Returns the store at s3://BUCKET/PATH, of Amazon's S3 or what speaks its protocol.

    As with the tools of AWS, credentials come from the environment, a profile or the role of the machine, and the
    variable AWS_ENDPOINT_URL names another server. Raises: OSError when there are no credentials or no such bucket.
    """
    try:
        credentials = imported("obstore.auth.boto3:Boto3CredentialProvider")()
    except ValueError as error:
        raise OSError("there are no credentials for it in the environment or in ~/.aws") from error
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    settings: S3Config = {}
    if endpoint is None:
        settings = {"region": fs.resolve_s3_region(urlsplit(address).netloc)}  # no redirection to it is followed
    client = _CLIENT | ({"allow_http": True} if (endpoint or "").startswith("http://") else {})
    return S3Store.from_url(
        address, config=settings, client_options=client, retry_config=_RETRY, credential_provider=credentials
    )


def read_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the bytes of an open file in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _reason(error: Exception) -> str:
    """Returns an error's text in one line, with the code of an object store's answer instead of its XML."""
    text = getattr(error, "strerror", None) or str(error)
    code = re.search("<Code>(.*?)</Code>", text)
    return text.splitlines()[0].partition(": <?xml")[0] + (f" ({code[1]})" if code else "")


def _error_number(error: Exception) -> int:
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return errno.EACCES
    return getattr(error, "errno", None) or errno.EIO


def _remedy(number: int) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space there or give a smaller disk budget (python -m tune store gc shows what no result needs)"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make it readable and writable for this user or choose another storage"
    return "check that storage or choose another; nothing half-written is used"
