"""A storage folder: what the ledger, the store and saved states ask of its file system, tried there.

Everything is tried in a folder of its own, which is removed afterwards. A storage folder that does not exist yet is not
made: its nearest folder that exists is tried.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from golf.doctor.finding import Finding, failed, ok, size_words, warning

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "9p",
    "virtiofs",
    "afs",
    "wekafs",
)
LEAST_FREE_BYTES, ENOUGH_FREE_BYTES = 2**30, 20 * 2**30
"""FineWeb with 80 shards takes 16 GB."""
SLOW_SYNC_SECONDS = 0.25
SKEW_SECONDS, FAILED_SKEW_SECONDS = 2.0, 60.0
_SYNCS, _RENAMES = 5, 50
_PROBE_BYTES = 2**20
_LOCK_SECONDS = 60.0
_TRY_LOCK = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(10)
sys.exit(11)
"""
_REFUSED, _GRANTED = 10, 11
"""Exit statuses of that program: the lock is another's, or it was free."""


@dataclass(frozen=True)
class Mount:
    """The file system that a folder is on."""

    place: str
    """Where it is mounted."""
    kind: str
    """Such as "ext4" or "nfs4"."""


def check_storage(folder: Path) -> list[Finding]:
    """Returns the findings on a storage folder, which need not exist."""
    place = existing(folder.absolute())
    findings = [check_kind(place), check_space(place)]
    if not place.is_dir():
        return [*findings, failed("writable", f"{place} is a file", "give a folder")]
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".golf-doctor-", dir=place))
    except OSError as error:
        return [*findings, _refused("writable", place, error)]
    try:
        written = _tried("writable", place, lambda: check_writing(scratch, folder))
        findings.append(written)
        if written.remedy:
            return findings
        for name, check in (
            ("rename", check_rename),
            ("hard links", check_links),
            ("fsync", check_sync),
            ("locks", check_locks),
            ("clock of the files", check_skew),
        ):
            findings.append(_tried(name, place, lambda check=check: check(scratch)))  # type: ignore[misc]
        return findings
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def existing(path: Path) -> Path:
    """Returns the path, or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _tried(name: str, place: Path, check: Callable[[], Finding]) -> Finding:
    """Returns a check's finding; that of its error where the file system refuses something."""
    try:
        return check()
    except OSError as error:
        return _refused(name, place, error)


def _refused(name: str, place: Path, error: OSError) -> Finding:
    remedies = {
        errno.EROFS: "it is mounted read-only: mount it again with rw, or give another folder",
        errno.EACCES: f"give another folder, or: sudo chown $(id -u) {place}",
        errno.ENOSPC: "it is full: remove something, or give another folder",
        errno.EDQUOT: "your quota is used up: remove something, or give another folder",
    }
    text = f"{place}: {error.strerror or error}"
    return failed(name, text, remedies.get(error.errno or 0, "give a folder on another file system"))


def mount_of(folder: Path, mounts: Path = MOUNTS) -> Mount | None:
    """Returns the file system of a folder: the last one mounted nearest above it; None where that is not known."""
    found: Mount | None = None
    for line in mounts.read_text().splitlines() if mounts.is_file() else []:
        left, _, right = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), left.split(" ")[4])
        is_above = folder.resolve().is_relative_to(place)
        if is_above and (found is None or len(place) >= len(found.place)):
            found = Mount(place, right.split(" ")[0])
    return found


def check_kind(folder: Path, mounts: Path = MOUNTS) -> Finding:
    """Returns what kind of file system a folder is on, and whether it outlives the machine's end or a container's."""
    check, mount = "file system", mount_of(folder, mounts)
    if mount is None:
        return ok(check, f"{folder}, of a kind that is not known")
    text = f"{folder} is on {mount.place}, {mount.kind}"
    if mount.kind in ("overlay", "aufs"):
        return warning(check, text, "it goes with the container: mount a volume (docker run -v) and give its path")
    if mount.kind in ("tmpfs", "ramfs"):
        return warning(check, f"{text}: main memory", "it is empty after a restart: give a folder on a disk")
    if mount.kind.startswith("fuse"):
        return warning(
            check, text, "of many such file systems only a part works: see the checks below, or use --mirror"
        )
    return ok(check, f"{text}, over a network" if mount.kind in NETWORK else f"{text}, of this machine")


def check_space(folder: Path) -> Finding:
    """Returns how much is free."""
    usage = shutil.disk_usage(folder)
    text = f"{size_words(usage.free)} of {size_words(usage.total)} free"
    if usage.free < LEAST_FREE_BYTES:
        return failed("free space", text, "remove something, or give another folder")
    if usage.free < ENOUGH_FREE_BYTES:
        remedy = "FineWeb with its 80 shards takes 16 GB; see --train-shards, and --store-gigabytes of sweeps"
        return warning("free space", text, remedy)
    return ok("free space", text)


def check_writing(scratch: Path, folder: Path) -> Finding:
    """Returns whether what is written can be read again."""
    content = os.urandom(_PROBE_BYTES)
    with (scratch / "written").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if (scratch / "written").read_bytes() != content:
        return failed("writable", f"{folder}: other bytes are read than were written", "give another folder")
    return ok("writable", f"{folder}" if folder.exists() else f"{folder} can be made")


def check_rename(scratch: Path) -> Finding:
    """Returns whether a reader sees the old file or the new one while it is replaced, and never none or a part."""
    path, seen, done = scratch / "renamed", set[bytes](), threading.Event()
    contents = [bytes([letter]) * 4096 for letter in b"abcdef"]
    path.write_bytes(contents[0])

    def read() -> None:
        while not done.is_set():
            try:
                seen.add(path.read_bytes())
            except OSError:
                seen.add(b"")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(_RENAMES):
            (scratch / "new").write_bytes(contents[number % len(contents)])
            os.replace(scratch / "new", path)
    finally:
        done.set()
        reader.join()
    if seen - set(contents):
        text = "while a file is replaced, readers see none or a part of it"
        return failed("rename", text, "results can be lost there: give a folder on another file system")
    return ok("rename", "a file is replaced at once")


def check_links(scratch: Path) -> Finding:
    """Returns whether a file can have two names: so the store makes an entry that nobody else has made."""
    (scratch / "first").write_bytes(b"golf")
    try:
        os.link(scratch / "first", scratch / "second")
    except OSError as error:
        remedy = "sweeps need them for the store and saved states: give a folder on another file system"
        return failed("hard links", f"none: {error.strerror}", remedy)
    return ok("hard links", "a file can have two names")


def check_sync(scratch: Path) -> Finding:
    """Returns how long it takes until a small file is on the disk, as after every trial."""
    seconds = []
    for number in range(_SYNCS):
        began = time.perf_counter()
        with (scratch / f"synced-{number}").open("wb") as file:
            file.write(b"golf" * 1024)
            file.flush()
            os.fsync(file.fileno())
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    text = f"{1000 * median:.2g} ms until a small file is on the disk"
    if median > SLOW_SYNC_SECONDS:
        return warning("fsync", text, "every saved state and result waits for it: give a folder on a faster disk")
    return ok("fsync", text)


def check_locks(scratch: Path) -> Finding:
    """Returns whether a lock, such as the ledger's, keeps other processes of this machine out, and is free after it."""
    path = scratch / "locked"
    remedy = "sweeps would spoil each other's ledger: mount it with locks (NFS 4.1), or another"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        while_held = _try_lock(path)
    except OSError as error:
        return failed("locks", f"none: {error.strerror}", remedy)
    finally:
        os.close(handle)
    if while_held == _GRANTED:
        return failed("locks", "two processes get the same lock", remedy)
    if while_held != _REFUSED or _try_lock(path) != _GRANTED:
        return failed("locks", "a lock that was given back is not free", remedy)
    return ok("locks", "a lock keeps other processes of this machine out")


def _try_lock(path: Path) -> int:
    """Returns the exit status of another process that tries to lock a file."""
    words = [sys.executable, "-I", "-S", "-c", _TRY_LOCK, str(path)]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(words, capture_output=True, timeout=_LOCK_SECONDS, check=False).returncode
    return -1


def check_skew(scratch: Path, now: Callable[[], float] = time.time) -> Finding:
    """Returns how far the clock that dates files, a server's on a network, is from this machine's."""
    check, path = "clock of the files", scratch / "dated"
    before = now()
    path.write_bytes(b"golf")
    written, after = path.stat().st_mtime, now()
    skew = max(before - written, written - after, 0.0)
    text = f"{skew:.1f} s from this machine's"
    if skew > SKEW_SECONDS:
        report = failed if skew > FAILED_SKEW_SECONDS else warning
        return report(check, text, "set both clocks (chrony): what is newer is told by the files' times")
    return ok(check, text)
