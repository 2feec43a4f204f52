"""Who is at work: leases, so that one process computes a key, and pins, so that what a trial needs is not dropped.

A place, a key and patience enter; the right to compute leaves. Each holder writes a file of its own,

    leases/<key>.<generation>             in a folder
    leases/<key>.<generation>.<holder>    in a bucket, where no name can be taken exclusively

and renews it from a background thread ("beats 7"). The holder is whoever has the highest generation. A waiter that has
seen no change in it for the lease's time, by its own monotonic clock, takes the next generation; clocks of nodes are
never compared. On the holder's own machine nobody waits: there it shows whether that process is alive. A holder that
was replaced, paused and then woke, touches only its own file, so it disturbs nobody.

A folder gives a generation to one claimer by exclusive creation. In a bucket a claimer looks (a taken generation is
left alone), writes its claim, waits the settle time and looks again: the lowest name has it, the others withdraw.
A claimer whose look and write took longer than the settle time withdraws as well, so every rival of a winner has been
seen by it. Pins are files that their owner renews; they count while the storage's own clock says that they are fresh.
Leases and pins spare work; they must never be what the rightness of a result rests on.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tune.cache.backend import StorageBackend
from tune.cache.fingerprint import canonical, check_key

LEASES = "leases"
PINS = "pins"
_RELEASED = b"released"


@dataclass(frozen=True, kw_only=True)
class LeaseConfig:
    """How long is waited for what. All processes on one store use the same."""

    lease_seconds: float = 30.0
    """A holder that was silent for so long is taken for dead; it beats six times in that time. Above 0."""
    poll_seconds: float = 1.0
    """Longest time between two looks of a waiter; above 0 and below `lease_seconds`."""
    settle_seconds: float = 2.0
    """In a bucket: longest time between look and write of a claim; far above the time of a request there."""

    def __post_init__(self) -> None:
        for name in ("lease_seconds", "poll_seconds", "settle_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Patience.{name} must be above 0, got {getattr(self, name)!r}")
        if self.poll_seconds >= self.lease_seconds:
            raise ValueError(
                f"Patience.poll_seconds must be below lease_seconds {self.lease_seconds}, got {self.poll_seconds}"
            )

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
        """No beat is under way or follows on return."""
        self._stopped.set()
        self._thread.join()


class Lease:
    """The right to compute a key, held inside `with`: given up by an exception, cleared away at a good end."""

    def __init__(self, place: StorageBackend, key: str, path: str, generation: int, lease_config: LeaseConfig) -> None:
        self.place = place
        self.key = key
        self.path = path
        self.generation = generation
        self._patience = lease_config
        self._beats = 0

    def __enter__(self) -> "Lease":
        self._heart = Heartbeat(self._patience.beat_seconds, self._beat)
        return self

    def _beat(self) -> bool:
        self._beats += 1
        return self.place.overwrite(self.path, _content(self._beats))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._heart.stop()
        # What fails here costs the others the lease's time; it must not hide the error that is on its way.
        with contextlib.suppress(OSError):
            if kind is not None:
                self.place.overwrite(self.path, _RELEASED.ljust(len(_content(0))))
                return
            # The result is there, which every claimer looks for once more; one's own name is the last to go.
            ended = [path for path, generation in _claims(self.place, self.key) if generation <= self.generation]
            for path in sorted(ended):
                self.place.remove(path)


class LeaseAcquirer:
    """One process that wants to compute one key."""

    def __init__(self, place: StorageBackend, key: str, lease_config: LeaseConfig, say: Callable[[str], None]) -> None:
        self.place = place
        self.key = key
        self._patience = lease_config
        self._say = say
        self._seen: dict[str, bytes] = {}
        self._silent_seconds = 0.0
        self._looked = time.monotonic()

    def attempt(self) -> Lease | None:
        """The lease when it is free or its holder has been silent for too long; None while another holds it.

        Call it again and again: a holder's silence is what the calls have seen. Raises: StoreError.
        """
        looked = time.monotonic()
        claims = _claims(self.place, self.key)
        generation = max((number for _, number in claims), default=0)
        state = {path: self.place.read(path) or b"" for path, number in claims if number == generation}
        if not all(content.startswith(_RELEASED) for content in state.values()):
            silent = self._silence(state) > self._patience.lease_seconds
            if not (silent or all(content.startswith(_RELEASED) or _is_dead(content) for content in state.values())):
                return None
            held = ", ".join(content.decode(errors="replace").partition("  machine")[0] for content in state.values())
            self._say(
                f"the process computing {self.key[:12]} is {'silent' if silent else 'dead'} ({held}): computing it"
            )
        path = f"{LEASES}/{self.key}.{generation + 1:06d}"
        if self.place.exclusive:
            won = self.place.create(path, _content(0))
        else:
            path += f".{uuid.uuid4().hex}"
            won = self._settle(path, generation + 1, looked)
        return Lease(self.place, self.key, path, generation + 1, self._patience) if won else None

    def _silence(self, state: dict[str, bytes]) -> float:
        """Seconds for which the holder has been seen unchanged."""
        now = time.monotonic()
        # A long gap between two looks is this process's own pause and says little about the holder.
        gap = min(now - self._looked, 2 * self._patience.poll_seconds)
        self._silent_seconds = self._silent_seconds + gap if state == self._seen else 0.0
        self._seen, self._looked = state, now
        return self._silent_seconds

    def _settle(self, path: str, generation: int, looked: float) -> bool:
        """Claim a generation that was free at `looked`, where creation is not exclusive; whether it is ours."""
        try:
            self.place.create(path, _content(0))
            in_time = time.monotonic() - looked < self._patience.settle_seconds
            time.sleep(self._patience.settle_seconds)
            rivals = [name for name, number in _claims(self.place, self.key) if number >= generation]
            won = in_time and min(rivals, default="") == path
        except BaseException:
            with contextlib.suppress(OSError):  # a write that failed may still have arrived
                self.place.remove(path)
            raise
        if not won:
            self.place.remove(path)
        return won


class Pins:
    """Keys that unfinished trials need; one thread renews all pins of this process."""

    def __init__(self, place: StorageBackend, lease_config: LeaseConfig) -> None:
        self.place = place
        self._patience = lease_config
        self._mine: dict[str, tuple[str, bytes]] = {}
        self._lock = threading.Lock()
        self._heart: Heartbeat | None = None

    def pin(self, keys: Iterable[str], owner: str) -> None:
        """Keep entries of these keys, present or to come, from being dropped while this process lives.

        Args: owner: names who needs them, e.g. a trial; its earlier pins are replaced. Raises: ValueError; StoreError.
        """
        data = canonical({"owner": owner, "keys": sorted({check_key(key) for key in keys})})
        earlier = self._of(owner)
        path = f"{PINS}/{_file_name(owner)}.{uuid.uuid4().hex[:12]}"
        self.place.create(path, data)
        with self._lock:
            self._mine[owner] = path, data
            if self._heart is None:
                self._heart = Heartbeat(self._patience.beat_seconds, self._beat)
        for old in earlier:
            self.place.remove(old)

    def unpin(self, owner: str) -> None:
        """Drop an owner's pins; none is no error. Raises: StoreError."""
        with self._lock:
            self._mine.pop(owner, None)
        for path in self._of(owner):
            self.place.remove(path)

    def pinned(self) -> set[str]:
        """All keys that a living owner pins: one that renewed its pin within the lease's time. Raises: StoreError."""
        files = self.place.files(PINS)
        if not files:
            return set()
        oldest_ns = self.place.clock_ns() - round(self._patience.lease_seconds * 1e9)
        fresh = [name for name, state in files.items() if state.modified_ns >= oldest_ns]
        keys: set[str] = set()
        for name in fresh:
            keys |= _pinned_keys(self.place.read(f"{PINS}/{name}") or b"")
        return keys

    def _beat(self) -> bool:
        with self._lock:  # so that no pin is renewed while it is being dropped
            for path, data in self._mine.values():
                with contextlib.suppress(OSError):
                    self.place.overwrite(path, data)
            if not self._mine:
                self._heart = None
            return bool(self._mine)

    def _of(self, owner: str) -> list[str]:
        """The files of an owner's pins."""
        return [f"{PINS}/{name}" for name in self.place.files(PINS) if name.split(".")[0] == _file_name(owner)]


def _pinned_keys(data: bytes) -> set[str]:
    """The keys in a pin; none in what is no pin, such as one that was removed meanwhile."""
    try:
        keys = json.loads(data)["keys"]
        return {check_key(key) for key in keys}
    except (ValueError, TypeError, LookupError, RecursionError):
        return set()


def _file_name(owner: str) -> str:
    """A name that every file system takes for an owner of any name."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def _claims(place: StorageBackend, key: str) -> list[tuple[str, int]]:
    """(path, generation) of every claim on a key."""
    names = [name for name in place.files(LEASES) if re.fullmatch(rf"{key}\.[0-9]{{6,12}}(\.[0-9a-f]+)?", name)]
    return [(f"{LEASES}/{name}", int(name.split(".")[1])) for name in names]


def is_over(place: StorageBackend, path: str) -> bool:
    """Whether a lease was given up, or its holder is a process of this machine that is gone."""
    content = place.read(path) or _RELEASED
    return content.startswith(_RELEASED) or _is_dead(content)


def _content(beats: int) -> bytes:
    """What a holder's file says; always as long, so that it can be replaced in place."""
    pid = os.getpid()
    process = f"host {socket.gethostname()}  process {pid}  machine {_machine()}  begun {_begun(pid)}"
    return f"beats {beats:09d}  {process}\n".encode()


def _is_dead(content: bytes) -> bool:
    """Whether a holder's file is of a process of this machine that is gone."""
    found = re.search(rb"  process (\d{1,9})  machine (\S+)  begun (\d+)$", content.rstrip())
    if found is None or found[2].decode(errors="replace") != _machine():
        return False
    return _begun(int(found[1])) != int(found[3])


@functools.cache
def _machine() -> str:
    """Names what process ids mean something in: this start of this kernel, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return uuid.uuid4().hex


def _begun(pid: int) -> int:
    """When a process began, in the kernel's ticks: an id is used again, the two together are not. 0 for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
