"""Published entries: files under a key, with their sizes, checksums and the record of what they cost.

A folder of files enters and leaves. Below the place stand

    entries/<key>.json           the marker: the entry is published because this is there; written last
    files/<key>.<attempt>/...    its files, under a name that only this marker knows
    uses/<key>                   touched at every use: the time of this file is the time of the last one
    work/...                     what is not finished

The marker holds every file's size and SHA-256, the record and its own checksum. A second publisher of a key gets the
first one's entry. What does not fit its marker is dropped, said, and computed again; it must never be handed out.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tune.cache.backend import StorageBackend, StoreError, file_chunks
from tune.cache.fingerprint import canonical, check_key

ENTRIES = "entries"
FILES = "files"
USES = "uses"
ENTRY_VERSION = 1
_TRIES = 5
_FOLDER = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{12}")
"""What `publish` calls the folder of an entry's files."""
_LONGEST_NAME = 255
"""Bytes of one part of a path on any file system."""
_SHOWN = 80
"""Characters of a hostile name in a message."""


class Damaged(Exception):
    """An entry's files are not those that were published; the entry was dropped."""


@dataclass(frozen=True)
class FileSum:
    """What a file must be."""

    num_bytes: int
    sha256: str
    """64 hexadecimal digits."""


@dataclass(frozen=True)
class Entry:
    """A published result."""

    key: str
    folder: str
    """Its folder below `files`."""
    files: dict[str, FileSum]
    """By path below the folder."""
    record: dict[str, Any]
    """What it cost and where it came from: plain JSON values."""

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.num_bytes for file in self.files.values())

    @property
    def path(self) -> str:
        """The folder below the place."""
        return f"{FILES}/{self.folder}"

    @property
    def marker(self) -> str:
        """The marker below the place."""
        return f"{ENTRIES}/{self.key}.json"


def encode(entry: Entry) -> bytes:
    """The marker's text: canonical JSON with the SHA-256 of that JSON as the field `sha256`."""
    content = {"version": ENTRY_VERSION, **asdict(entry)}
    return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"


def decode(key: str, data: bytes) -> Entry:
    """The entry in a marker. Raises: ValueError saying what is wrong unless every byte is as `encode` wrote it."""
    try:
        content = json.loads(data)
        files = {name: FileSum(file["num_bytes"], file["sha256"]) for name, file in content["files"].items()}
        entry = Entry(content["key"], content["folder"], files, dict(content["record"]))
        intact = encode(entry) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("its marker is not whole") from error
    if not intact:
        raise ValueError("its marker has changed, or another version wrote it")
    if entry.key != key:
        raise ValueError(f"its marker belongs to {str(entry.key)[:64]!r}")
    if not isinstance(entry.folder, str) or not _FOLDER.fullmatch(entry.folder) or not entry.folder.startswith(key):
        raise ValueError(f"its marker names the folder {str(entry.folder)[:_SHOWN]!r}, which is not its own")
    for name, file in files.items():
        _check_file(name, file)
    return entry


def _check_file(name: str, file: FileSum) -> None:
    """Raise ValueError when a file of a marker leads elsewhere or is no file's description."""
    if {"", ".", ".."} & set(name.split("/")) or "\0" in name or not _is_writable(name):
        raise ValueError(f"its marker names {name[:_SHOWN]!r}, which leads elsewhere")
    if type(file.num_bytes) is not int or file.num_bytes < 0 or not re.fullmatch("[0-9a-f]{64}", str(file.sha256)):
        raise ValueError(f"its marker gives no size and checksum of {name[:_SHOWN]!r}")


def _is_writable(name: str) -> bool:
    """Whether a file system can have a file of this name."""
    try:
        return all(len(os.fsencode(part)) <= _LONGEST_NAME for part in name.split("/"))
    except UnicodeEncodeError:
        return False


class Entries:
    """The entries at a place."""

    def __init__(self, place: StorageBackend, say: Callable[[str], None]) -> None:
        self.place = place
        self.say = say
        self._known: dict[str, Entry] = {}

    def find(self, key: str) -> Entry | None:
        """The entry of a key, its marker intact and its files there in full size; None without one.

        A damaged one is dropped and said. Raises: StoreError when the place cannot be read.
        """
        marker = f"{ENTRIES}/{check_key(key)}.json"
        data = self.place.read(marker)
        while data is not None:
            found = self._judge(key, data)
            if isinstance(found, Entry):
                self._known[key] = found
                return found
            latest = self.place.read(marker)
            if latest == data:
                self._drop_damaged(key, data, found)
                return None
            data = latest  # replaced or removed meanwhile: that was no damage
        return None

    def _judge(self, key: str, data: bytes) -> Entry | str:
        """The entry in a marker, or what is wrong with it."""
        try:
            entry = decode(key, data)
        except ValueError as error:
            return str(error)
        sizes = {name: state.num_bytes for name, state in self.place.files(entry.path).items()}
        for name, file in entry.files.items():
            if name not in sizes:
                return f"its file {name} is missing"
            if sizes[name] != file.num_bytes:
                return f"its file {name} has {sizes[name]} bytes instead of {file.num_bytes}"
        return entry

    def publish(self, key: str, folder: Path, record: Mapping[str, Any], move: bool = False) -> Entry:
        """Let all files below `folder` appear as the entry of `key`, whole or not at all.

        Args: folder: regular files, at any depth; empty folders are not kept; record: plain JSON values; move: whether
            the files may be moved away.
        Returns: the new entry, or the intact one that was there first.
        Raises: TypeError or ValueError for a record or a file that cannot be kept; StoreError naming the place: then
            nothing was published.
        """
        check_key(key)
        plain = json.loads(canonical(dict(record)))  # as readers will get it
        sources = _regular_files(folder)
        found = self.find(key)
        if found is not None:
            self._say_difference(found, {name: sum_of(file_chunks(path)) for name, path in sources.items()})
            return found
        entry = self._keep(key, sources, plain, move)
        try:
            found = self._mark(entry)
        except BaseException:
            self._forget(entry.folder)
            raise
        if found is not entry:
            self._forget(entry.folder)
            self._say_difference(found, entry.files)
        return found

    def _mark(self, entry: Entry) -> Entry:
        """Write the marker of `entry`; the entry that is published then: this one or another's."""
        for _ in range(_TRIES):
            if self.place.create(entry.marker, encode(entry)):
                return entry
            found = self.find(entry.key)
            if found is not None:
                return found
        message = f"cannot write {self.place.name}/{entry.marker}: a damaged one stays in its place; remove it"
        raise StoreError(errno.EIO, message)

    def _forget(self, folder: str) -> None:
        """Remove files that no marker knows."""
        with contextlib.suppress(OSError):
            self.place.remove_folder(f"{FILES}/{folder}")

    def _keep(self, key: str, sources: dict[str, Path], record: dict[str, Any], move: bool) -> Entry:
        """Copy or move the files to where they stay; nothing knows them yet."""
        folder = f"{key}.{uuid.uuid4().hex[:12]}"
        sums = {}
        try:
            for name, source in sources.items():
                path = f"{FILES}/{folder}/{name}"
                if move:
                    sums[name] = sum_of(file_chunks(source))
                    self.place.adopt(source, path)
                else:
                    digest = _Sum()
                    self.place.save(path, digest.through(file_chunks(source)))
                    sums[name] = digest.result()
        except BaseException:
            self._forget(folder)
            raise
        return Entry(key, folder, sums, record)

    def _say_difference(self, found: Entry, sums: dict[str, FileSum]) -> None:
        names = sorted(name for name in {*found.files, *sums} if found.files.get(name) != sums.get(name))
        if names:
            self.say(f"{found.key[:12]} was computed twice and differs in {', '.join(names)}: the first result stays")

    def fetch(self, entry: Entry, into: Path, names: Iterable[str] | None = None) -> None:
        """Copy an entry's files into a local folder; each appears there once its checksum has proved right.

        Args: names: of the files to copy, all by default.
        Raises: Damaged after the entry was dropped and that was said; OSError naming what cannot be read or written.
        """
        into.mkdir(parents=True, exist_ok=True)
        for name in entry.files if names is None else names:
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
            try:
                with part.open("xb") as file:
                    file.writelines(self._verified(entry, name))
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)
        self.use(entry.key)

    def read(self, entry: Entry, name: str) -> bytes:
        """The bytes of one of an entry's files.

        Raises: KeyError when the entry has no such file; Damaged as `fetch`; StoreError when it cannot be read.
        """
        return b"".join(list(self._verified(entry, name)))

    def _verified(self, entry: Entry, name: str) -> Iterator[bytes]:
        """The blocks of a file; Damaged at their end, or before, unless they are what was published."""
        expected, found = entry.files[name], None
        with contextlib.suppress(FileNotFoundError):
            digest = _Sum()
            yield from digest.through(self.place.chunks(f"{entry.path}/{name}"))
            found = digest.result()
        if found != expected:
            reason = f"its file {name} is missing" if found is None else f"the bytes of its file {name} have changed"
            self._drop_damaged(entry.key, encode(entry), reason)
            raise Damaged(f"entry {entry.key} at {self.place.name}: {reason}; it has to be computed again")

    def faults(self, key: str) -> list[str]:
        """All that is wrong with the entry of a key, every byte read; nothing is dropped."""
        data = self.place.read(f"{ENTRIES}/{key}.json")
        if data is None:
            return []
        try:
            entry = decode(key, data)
        except ValueError as error:
            return [str(error)]
        found = []
        for name, file in entry.files.items():
            try:
                if sum_of(self.place.chunks(f"{entry.path}/{name}")) != file:
                    found.append(f"the bytes of its file {name} have changed")
            except FileNotFoundError:
                found.append(f"its file {name} is missing")
        return found

    def _drop_damaged(self, key: str, data: bytes, reason: str) -> None:
        outcome = "dropped, it will be computed again"
        try:
            if not self.drop(key, data):
                return  # someone else removed it meanwhile: that was no damage
        except StoreError as error:
            outcome = f"not used, and it cannot be removed ({error.strerror})"
        self.say(f"entry {key[:12]} at {self.place.name} is damaged: {reason}; {outcome}")

    def drop(self, key: str, data: bytes | None = None) -> bool:
        """Remove an entry: the marker first, so that nobody finds half of it.

        Args: data: only if the marker still holds these bytes.
        Returns: whether there was one. Raises: StoreError when it cannot be removed.
        """
        marker = f"{ENTRIES}/{key}.json"
        found = self.place.read(marker)
        self._known.pop(key, None)
        if found is None or (data is not None and found != data):
            return False
        self.place.remove(marker)
        with contextlib.suppress(ValueError):
            self.place.remove_folder(decode(key, found).path)
        self.place.remove(f"{USES}/{key}")
        return True

    def use(self, key: str) -> None:
        """Note that an entry is used now."""
        # A store that cannot be written can still be read.
        with contextlib.suppress(StoreError):
            self.place.touch(f"{USES}/{key}")

    def last_used_ns(self) -> dict[str, int]:
        """When each key was last used, by the storage's clock."""
        return {name: state.modified_ns for name, state in self.place.files(USES).items()}

    def keys(self) -> list[str]:
        """All keys with a marker, damaged ones too, sorted."""
        names = [name.removesuffix(".json") for name in self.place.files(ENTRIES) if name.endswith(".json")]
        return sorted(names)

    def all(self) -> list[Entry]:
        """All entries whose markers are intact; their files are not looked at."""
        keys = self.keys()
        for key in keys:
            if key not in self._known:
                with contextlib.suppress(ValueError):
                    self._known[key] = decode(key, self.place.read(f"{ENTRIES}/{key}.json") or b"")
        return [self._known[key] for key in keys if key in self._known]


class _Sum:
    """Size and checksum of blocks that pass through."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._num_bytes = 0

    def through(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._hash.update(block)
            self._num_bytes += len(block)
            yield block

    def result(self) -> FileSum:
        return FileSum(self._num_bytes, self._hash.hexdigest())


def sum_of(blocks: Iterable[bytes]) -> FileSum:
    """Size and checksum of a file's blocks."""
    digest = _Sum()
    for _ in digest.through(blocks):
        pass
    return digest.result()


def _regular_files(folder: Path) -> dict[str, Path]:
    """The files below a folder, by relative path, sorted. Raises: ValueError for a link, a pipe and the like."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is neither a regular file nor a folder, so it cannot be kept; copy what it means")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder that holds the files to publish")
    return found
