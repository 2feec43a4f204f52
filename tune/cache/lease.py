"""Leases, so that one process at a time computes a key, and pins, so that what a trial needs is not dropped.

A lease is the file `leases/<key>.<generation>`, created exclusively; the highest generation holds. Its holder rewrites
it from a background thread ("beats 7"). A waiter that has seen no change for the lease's time, by its own monotonic
clock, creates the next generation; clocks of nodes are never compared. On the holder's own machine nobody waits for
that: there it shows whether the process is alive. A holder that was replaced, paused and then woke, touches only its
own file, so it disturbs nobody.

Pins are files that their owner rewrites; they count while the storage's own clock says that they are fresh. Leases and
pins save work; the correctness of a result never rests on them.
"""

import contextlib
import functools
import hashlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tune.cache.backend import StorageBackend
from tune.cache.fingerprint import check_key

LEASES = "leases"
PINS = "pins"
_RELEASED = b"released"


@dataclass(frozen=True, kw_only=True)
class LeaseConfig:
    """Times of leases and pins. All processes on one store use the same."""

    lease_seconds: float = 30.0
    """A holder that was silent for so long is taken for dead; it beats six times in that time. Above 0."""
    poll_seconds: float = 1.0
    """Longest time between two looks of a waiter; above 0 and below `lease_seconds`."""

    def __post_init__(self) -> None:
        if not 0 < self.poll_seconds < self.lease_seconds:
            seconds = f"{self.poll_seconds} and {self.lease_seconds}"
            raise ValueError(f"LeaseConfig needs poll_seconds above 0 and below lease_seconds, got {seconds}")

    @property
    def beat_seconds(self) -> float:
        """Time between two beats."""
        return self.lease_seconds / 6


class Heartbeat:
    """Calls `beat` from a background thread until stopped or until it returns False."""

    def __init__(self, seconds: float, beat: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._beat = beat
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="store-heartbeat")
        self._thread.start()

    def _run(self) -> None:
        alive = True
        while alive and not self._stopped.wait(self._seconds):
            # A beat that fails is a missed one; where all fail, others take over, as they should.
            with contextlib.suppress(OSError):
                alive = self._beat()

    def stop(self) -> None:
        """Ends the beats: on return none is under way."""
        self._stopped.set()
        self._thread.join()


class Lease:
    """The right to compute a key, held inside `with`: given up by an exception, cleared away at a good end."""

    def __init__(self, storage: StorageBackend, key: str, generation: int, config: LeaseConfig) -> None:
        self.storage, self.key, self.generation = storage, key, generation
        self.path = f"{LEASES}/{key}.{generation:06d}"
        self._config = config
        process = (
            f"host {socket.gethostname()}  process {os.getpid()}  machine {_machine()}  begun {_begun(os.getpid())}"
        )
        self._holder = f"{process}  token {uuid.uuid4().hex}"  # the token tells two leases of one process apart
        self._beats = 0

    def create(self) -> bool:
        """Creates the lease's file; returns False when another process has this generation."""
        return self.storage.create(self.path, self._content())

    def _content(self) -> bytes:
        """Returns the file's content, which always has the same length, so that it can be replaced in place."""
        return f"beats {self._beats:09d}  {self._holder}\n".encode()

    def __enter__(self) -> "Lease":
        self._heartbeat = Heartbeat(self._config.beat_seconds, self._beat)
        return self

    def _beat(self) -> bool:
        self._beats += 1
        return self.storage.overwrite(self.path, self._content())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._heartbeat.stop()
        # What fails here costs the others the lease's time; it must not hide the error that is on its way.
        with contextlib.suppress(OSError):
            if kind is not None:
                self.storage.overwrite(self.path, _RELEASED.ljust(len(self._content())))
                return
            # The result is published, and every acquirer looks for it once more; this lease's name is the last to go.
            claims = _claims(self.storage, self.key)
            for generation in sorted(number for number in claims if number <= self.generation):
                self.storage.remove(claims[generation])


class LeaseAcquirer:
    """One process that wants to compute one key."""

    def __init__(self, storage: StorageBackend, key: str, config: LeaseConfig, warn: Callable[[str], None]) -> None:
        self.storage, self.key = storage, key
        self._config, self._warn = config, warn
        self._generation, self._content = 0, _RELEASED
        """The highest generation at the last look, and what its file said."""
        self._silent_seconds = 0.0
        self._looked = time.monotonic()

    def is_free(self) -> bool:
        """Returns whether nobody holds the lease, or its holder is dead or has been silent for too long.

        Call it again and again: a holder's silence is what the calls have seen. Raises: StoreError.
        """
        claims = _claims(self.storage, self.key)
        generation = max(claims, default=0)
        content = (self.storage.read(claims[generation]) if claims else None) or _RELEASED
        now = time.monotonic()
        # A long gap between two looks is this process's own pause and says little about the holder.
        gap = min(now - self._looked, 2 * self._config.poll_seconds)
        unchanged = (generation, content) == (self._generation, self._content)
        self._silent_seconds = self._silent_seconds + gap if unchanged else 0.0
        self._generation, self._content, self._looked = generation, content, now
        return content.startswith(_RELEASED) or self._is_silent or _is_dead(content)

    @property
    def _is_silent(self) -> bool:
        return self._silent_seconds > self._config.lease_seconds

    def attempt(self) -> Lease | None:
        """Returns the lease when it is free; None while another process holds it, or was quicker.

        Raises: StoreError.
        """
        if not self.is_free():
            return None
        lease = Lease(self.storage, self.key, self._generation + 1, self._config)
        if not lease.create():
            return None
        if not self._content.startswith(_RELEASED):
            holder = self._content.decode(errors="replace").partition("  machine")[0]
            state = "silent" if self._is_silent else "dead"
            self._warn(f"the process computing {self.key[:12]} is {state} ({holder}): computing it")
        return lease


class Pin(msgspec.Struct, frozen=True):
    """Keys that one owner needs."""

    owner: str
    keys: tuple[str, ...]


class Pins:
    """Keys that unfinished trials need; one thread renews all pins of this process."""

    def __init__(self, storage: StorageBackend, config: LeaseConfig) -> None:
        self.storage = storage
        self._config = config
        self._own: dict[str, tuple[str, bytes]] = {}
        """(path, content) of this process's pins, by owner."""
        self._lock = threading.Lock()
        self._heartbeat: Heartbeat | None = None

    def pin(self, keys: Iterable[str], owner: str) -> None:
        """Keeps entries of these keys, present or to come, from being dropped while this process lives.

        Pin before looking for an entry, not after.

        Args: owner: names who needs them, such as a trial; its earlier pins are replaced.
        Raises: ValueError; StoreError.
        """
        data = msgspec.json.encode(Pin(owner, tuple(sorted({check_key(key) for key in keys}))))
        earlier = self._paths(owner)
        path = f"{PINS}/{_file_name(owner)}.{uuid.uuid4().hex[:12]}"
        self.storage.create(path, data)
        with self._lock:
            self._own[owner] = path, data
            if self._heartbeat is None:
                self._heartbeat = Heartbeat(self._config.beat_seconds, self._beat)
        for old in earlier:
            self.storage.remove(old)

    def unpin(self, owner: str) -> None:
        """Drops an owner's pins; none is no error. Raises: StoreError."""
        with self._lock:
            self._own.pop(owner, None)
        for path in self._paths(owner):
            self.storage.remove(path)

    def pinned(self) -> set[str]:
        """Returns all keys that a living owner pins, one that renewed its pin within the lease's time.

        Raises: StoreError.
        """
        files = self.storage.files(PINS)
        if not files:
            return set()
        oldest_ns = self.storage.clock_ns() - round(self._config.lease_seconds * 1e9)
        fresh = [name for name, state in files.items() if state.modified_ns >= oldest_ns]
        return {key for name in fresh for key in _pinned_keys(self.storage.read(f"{PINS}/{name}") or b"")}

    def _beat(self) -> bool:
        with self._lock:  # so that no pin is renewed while it is being dropped
            for path, data in self._own.values():
                with contextlib.suppress(OSError):
                    self.storage.overwrite(path, data)
            if not self._own:
                self._heartbeat = None
            return bool(self._own)

    def _paths(self, owner: str) -> list[str]:
        """Returns the files of an owner's pins."""
        return [f"{PINS}/{name}" for name in self.storage.files(PINS) if name.split(".")[0] == _file_name(owner)]


def _pinned_keys(data: bytes) -> list[str]:
    """Returns the keys in a pin; none in what is no pin, such as one that was removed meanwhile."""
    try:
        return [check_key(key) for key in msgspec.json.decode(data, type=Pin).keys]
    except (ValueError, RecursionError):
        return []


def _file_name(owner: str) -> str:
    """Returns a name that every file system takes for an owner of any name."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def _claims(storage: StorageBackend, key: str) -> dict[int, str]:
    """Returns the files of all claims on a key by generation."""
    names = [name for name in storage.files(LEASES) if re.fullmatch(rf"{key}\.[0-9]{{6,12}}", name)]
    return {int(name.split(".")[1]): f"{LEASES}/{name}" for name in names}


def is_over(storage: StorageBackend, path: str) -> bool:
    """Returns whether a lease was given up, or its holder is a process of this machine that is gone."""
    content = storage.read(path) or _RELEASED
    return content.startswith(_RELEASED) or _is_dead(content)


def _is_dead(content: bytes) -> bool:
    """Returns whether a lease's content is of a process of this machine that is gone."""
    match = re.search(rb"  process (\d{1,9})  machine (\S+)  begun (\d+)  token", content)
    if match is None or match[2].decode(errors="replace") != _machine():
        return False
    return _begun(int(match[1])) != int(match[3])


@functools.cache
def _machine() -> str:
    """Returns a name of what process ids are valid in: this start of this kernel, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return uuid.uuid4().hex


def _begun(pid: int) -> int:
    """Returns when a process began, in the kernel's ticks, because its id may be used again; 0 for a dead process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
