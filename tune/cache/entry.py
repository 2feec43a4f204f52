"""What a store knows about one output, as its marker holds it: the files' sizes and checksums, and what it cost."""

import hashlib
import os
import re
from typing import Annotated

import msgspec

from tune.cache.fingerprint import canonical, check_key
from tune.cache.stage_graph import StageName
from tune.cache.world_history import WorldHistory

ENTRIES = "entries"
FILES = "files"
ENTRY_VERSION = 2
_DIRECTORY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{12}")
"""The form of the name of the directory of an entry's files."""
_LONGEST_NAME = 255
"""Bytes of one part of a path on any file system."""
_SHOWN = 80
"""Characters of a hostile name in a message."""


class FileSum(msgspec.Struct, frozen=True):
    """Size and checksum of a file."""

    num_bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class EntryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an output cost and where it came from."""

    stage: StageName
    seconds: float
    """Seconds of computing it from what it reads."""
    parents: tuple[str, ...] = ()
    """Keys of what it reads."""
    trial: str = ""
    """Id of the trial that computed it."""
    host: str = ""
    """Name of the machine of that trial's driver."""
    time: float = 0.0
    """When it was published: seconds since 1970, by that machine's clock."""
    world_history: WorldHistory = ()


class Entry(msgspec.Struct, frozen=True):
    """A published output."""

    key: str
    directory: str
    """The directory of its files, below `files`."""
    files: dict[str, FileSum]
    """By path below that directory."""
    record: EntryRecord

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.num_bytes for file in self.files.values())

    @property
    def path(self) -> str:
        """The directory's path in the storage."""
        return f"{FILES}/{self.directory}"


class _Version(msgspec.Struct, frozen=True):
    version: int


def marker_path(key: str) -> str:
    """Returns the path of a key's marker in the storage."""
    return f"{ENTRIES}/{key}.json"


def encode(entry: Entry) -> bytes:
    """Returns the marker's text: canonical JSON with the SHA-256 of that JSON as the field `sha256`."""
    content = {"version": ENTRY_VERSION, **msgspec.to_builtins(entry)}
    return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"


def decode(key: str, data: bytes) -> Entry:
    """Returns the entry in a marker. Raises: ValueError with a reason unless every byte is as `encode` wrote it."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version != ENTRY_VERSION:
            raise ValueError(f"its marker has the form {version}, and this program reads form {ENTRY_VERSION} only")
        entry = msgspec.json.decode(data, type=Entry)
        intact = encode(entry) == data
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"its marker is damaged ({error})") from error
    if not intact:
        raise ValueError("its marker has changed")
    if entry.key != key:
        raise ValueError(f"its marker belongs to {entry.key[:64]!r}")
    if not _DIRECTORY.fullmatch(entry.directory) or not entry.directory.startswith(key):
        raise ValueError(f"its marker names the directory {entry.directory[:_SHOWN]!r}, which is not its own")
    for name in entry.files:
        if {"", ".", ".."} & set(name.split("/")) or "\0" in name or not _is_writable(name):
            raise ValueError(f"its marker names {name[:_SHOWN]!r}, which leads elsewhere")
    for parent in entry.record.parents:
        check_key(parent)
    return entry


def _is_writable(name: str) -> bool:
    """Returns whether a file system can have a file of this name."""
    try:
        return all(len(os.fsencode(part)) <= _LONGEST_NAME for part in name.split("/"))
    except UnicodeEncodeError:
        return False
