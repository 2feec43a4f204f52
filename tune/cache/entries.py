"""Published entries: the files of an output under its key, with their checksums and the record of what they cost.

The storage holds

    entries/<key>.json           the marker: the entry is published because this exists; written last
    files/<key>.<attempt>/...    its files, in a directory that only this marker names
    uses/<key>                   touched at every use: the time of this file is the time of the last one
    work/...                     unfinished files

A second publisher of a key gets the first one's entry. What does not fit its marker is dropped with a warning and
computed again; it is never handed out.
"""

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tune.cache.backend import StorageBackend, StoreError, read_blocks
from tune.cache.entry import ENTRIES, FILES, Entry, EntryRecord, FileSum, decode, encode, marker_path
from tune.cache.fingerprint import check_key

USES = "uses"
_TRIES = 5


class Damaged(Exception):
    """An entry's files are not those that were published; the entry was dropped."""


class Entries:
    """The entries in a storage."""

    def __init__(self, storage: StorageBackend, warn: Callable[[str], None]) -> None:
        self.storage, self.warn = storage, warn
        self._known: dict[str, Entry] = {}

    def find(self, key: str) -> Entry | None:
        """Returns the entry of a key, its marker intact and its files present in full size; None without one.

        A damaged one is dropped with a warning. Raises: StoreError when the storage cannot be read.
        """
        data = self.storage.read(marker_path(check_key(key)))
        while data is not None:
            try:
                entry = self._check(key, data)
            except ValueError as error:
                latest = self.storage.read(marker_path(key))
                if latest == data:
                    self._drop_damaged(key, data, str(error))
                    return None
                data = latest  # replaced or removed meanwhile: that was no damage
            else:
                self._known[key] = entry
                return entry
        return None

    def _check(self, key: str, data: bytes) -> Entry:
        """Returns the entry in a marker. Raises: ValueError when the marker is damaged or a file of it is."""
        entry = decode(key, data)
        sizes = {name: state.num_bytes for name, state in self.storage.files(entry.path).items()}
        for name, file in entry.files.items():
            if name not in sizes:
                raise ValueError(f"its file {name} is missing")
            if sizes[name] != file.num_bytes:
                raise ValueError(f"its file {name} has {sizes[name]} bytes instead of {file.num_bytes}")
        return entry

    def publish(self, key: str, directory: Path, files: Sequence[str], record: EntryRecord) -> Entry:
        """Copies files below a directory into the entry of `key`, which appears with all of them or not at all.

        Returns: the new entry, or the intact one that was there first.
        Raises: OSError for a file that cannot be read; StoreError when the storage cannot be written: then nothing was
            published.
        """
        check_key(key)
        first = self.find(key)
        if first is not None:
            self._warn_of_difference(first, {name: sum_of_file(directory / name) for name in files})
            return first
        record = msgspec.convert(msgspec.to_builtins(record), EntryRecord)  # as readers will get it
        entry = self._save_files(key, directory, files, record)
        try:
            published = self._write_marker(entry)
        except BaseException:
            self._remove_files(entry.directory)
            raise
        if published is not entry:
            self._remove_files(entry.directory)
            self._warn_of_difference(published, entry.files)
        return published

    def _write_marker(self, entry: Entry) -> Entry:
        """Returns the entry that is published after the attempt to publish `entry`: this one or another's."""
        path = marker_path(entry.key)
        for _ in range(_TRIES):
            if self.storage.create(path, encode(entry)):
                return entry
            published = self.find(entry.key)
            if published is not None:
                return published
        message = f"cannot write {self.storage.name}/{path}: a damaged one cannot be replaced; remove it"
        raise StoreError(errno.EIO, message)

    def _remove_files(self, directory: str) -> None:
        """Removes files that no marker names."""
        with contextlib.suppress(OSError):
            self.storage.remove_directory(f"{FILES}/{directory}")

    def _save_files(self, key: str, directory: Path, files: Sequence[str], record: EntryRecord) -> Entry:
        """Copies files to the storage, where no marker names them yet."""
        target = f"{key}.{uuid.uuid4().hex[:12]}"
        sums = {}
        try:
            for name in files:
                digest = _Sum()
                with (directory / name).open("rb") as file:
                    self.storage.save(f"{FILES}/{target}/{name}", digest.through(read_blocks(file)))
                sums[name] = digest.result()
        except BaseException:
            self._remove_files(target)
            raise
        return Entry(key, target, sums, record)

    def _warn_of_difference(self, first: Entry, sums: Mapping[str, FileSum]) -> None:
        names = sorted(name for name in {*first.files, *sums} if first.files.get(name) != sums.get(name))
        if names:
            self.warn(f"{first.key[:12]} was computed twice and differs in {', '.join(names)}: the first result stays")

    def fetch(self, entry: Entry, into: Path, names: Iterable[str] | None = None) -> None:
        """Copies an entry's files into a local directory; each appears there once its checksum has proved right.

        Args: names: the files to copy; None: all.
        Raises: Damaged after the entry was dropped with a warning; OSError naming what cannot be read or written.
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
        """Returns the bytes of one of an entry's files.

        Raises: KeyError when the entry has no such file; Damaged as `fetch`; StoreError when it cannot be read.
        """
        return b"".join(list(self._verified(entry, name)))

    def _verified(self, entry: Entry, name: str) -> Iterator[bytes]:
        """Yields the blocks of a file; raises Damaged at their end, or before, unless they are what was published."""
        try:
            yield from self._blocks(entry, name)
        except ValueError as error:
            self._drop_damaged(entry.key, encode(entry), str(error))
            raise Damaged(f"entry {entry.key} at {self.storage.name}: {error}; it has to be computed again") from error

    def _blocks(self, entry: Entry, name: str) -> Iterator[bytes]:
        """Yields the blocks of a file. Raises: ValueError at their end unless they are what was published."""
        expected, digest = entry.files[name], _Sum()
        try:
            yield from digest.through(self.storage.chunks(f"{entry.path}/{name}"))
        except FileNotFoundError:
            raise ValueError(f"its file {name} is missing") from None
        if digest.result() != expected:
            raise ValueError(f"the bytes of its file {name} have changed")

    def faults(self, key: str) -> list[str]:
        """Returns all that is wrong with the entry of a key, after reading every byte; drops nothing."""
        data = self.storage.read(marker_path(key))
        if data is None:
            return []
        try:
            entry = decode(key, data)
        except ValueError as error:
            return [str(error)]
        faults = []
        for name in entry.files:
            try:
                for _ in self._blocks(entry, name):
                    pass
            except ValueError as error:
                faults.append(str(error))
        return faults

    def _drop_damaged(self, key: str, data: bytes, reason: str) -> None:
        outcome = "dropped, it will be computed again"
        try:
            if not self.drop(key, data):
                return  # someone else removed it meanwhile: that was no damage
        except StoreError as error:
            outcome = f"not used, and it cannot be removed ({error.strerror})"
        self.warn(f"{self.storage.name}/{marker_path(key)}: {reason}; {outcome}")

    def drop(self, key: str, data: bytes | None = None) -> bool:
        """Removes an entry: the marker first, so that nobody finds a part of it.

        Args: data: only if the marker still holds these bytes.
        Returns: whether there was one. Raises: StoreError when it cannot be removed.
        """
        marker = self.storage.read(marker_path(key))
        self._known.pop(key, None)
        if marker is None or (data is not None and marker != data):
            return False
        self.storage.remove(marker_path(key))
        with contextlib.suppress(ValueError):
            self.storage.remove_directory(decode(key, marker).path)
        self.storage.remove(f"{USES}/{key}")
        return True

    def use(self, key: str) -> None:
        """Records that an entry is used now."""
        # A store that cannot be written can still be read.
        with contextlib.suppress(StoreError):
            self.storage.touch(f"{USES}/{key}")

    def last_used_ns(self) -> dict[str, int]:
        """Returns when each key was last used, by the storage's clock: nanoseconds since 1970."""
        return {name: state.modified_ns for name, state in self.storage.files(USES).items()}

    def keys(self) -> list[str]:
        """Returns all keys with a marker, damaged ones too, sorted."""
        return sorted(name.removesuffix(".json") for name in self.storage.files(ENTRIES) if name.endswith(".json"))

    def all(self) -> list[Entry]:
        """Returns all entries whose markers are intact; their files are not looked at."""
        keys = self.keys()
        for key in keys:
            if key not in self._known:
                with contextlib.suppress(ValueError):
                    self._known[key] = decode(key, self.storage.read(marker_path(key)) or b"")
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


def sum_of_file(path: Path) -> FileSum:
    """Returns size and checksum of a local file."""
    with path.open("rb") as file:
        return FileSum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
