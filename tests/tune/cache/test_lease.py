"""Leases with slow storage and holders that died, paused or gave up, and pins of owners that died."""

import contextlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tune.toy_stages import object_storage
from tune.cache.backend import FileState, LocalStorage, ObjectStorage, StorageBackend, StoreError
from tune.cache.lease import LEASES, Lease, LeaseAcquirer, LeaseConfig, Pins

ROOT = Path(__file__).parents[3]
KEY, OTHER = "1" * 64, "2" * 64
QUICK = LeaseConfig(lease_seconds=0.6, poll_seconds=0.05)
STEADY = LeaseConfig(lease_seconds=1.8, poll_seconds=0.05)
"""Where a beat that comes late, because the machine is busy, would look like a dead owner."""


class Given(Exception):
    """Ends a lease without a result."""


class SlowStorage(ObjectStorage):
    """A bucket whose requests take a random time."""

    def __init__(self, root: Path) -> None:
        super().__init__(object_storage(root).store, "slow")

    def files(self, directory: str) -> dict[str, FileState]:
        files = super().files(directory)
        time.sleep(random.random() ** 4 * 0.2)
        return files

    def create(self, path: str, data: bytes) -> bool:
        time.sleep(random.random() ** 4 * 0.2)
        return super().create(path, data)


@pytest.fixture(params=["local", "object"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty storage of each kind."""
    return LocalStorage(tmp_path) if request.param == "local" else object_storage(tmp_path)


def acquire(storage: StorageBackend, config: LeaseConfig = QUICK, seconds: float = 10.0) -> Lease:
    """Waits for the lease."""
    acquirer = LeaseAcquirer(storage, KEY, config, print)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lease = acquirer.attempt()
        if lease is not None:
            return lease
        time.sleep(config.poll_seconds / 2)
    raise TimeoutError("no lease")


@pytest.mark.parametrize("kind", [LocalStorage, SlowStorage])
def test_two_never_hold_at_once(kind: type[LocalStorage | SlowStorage], tmp_path: Path) -> None:
    """Fault: two acquirers of one generation both believe they have it, most likely where requests are slow."""
    config = LeaseConfig(lease_seconds=30, poll_seconds=0.05)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with contextlib.suppress(Given), acquire(kind(tmp_path), config, 60.0):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)
                inside.remove(number)
                raise Given

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12


def test_a_lease_is_kept_while_it_beats_and_passed_on_when_given_up(storage: StorageBackend) -> None:
    """Fault: a computation longer than the lease's time loses it, or one that failed keeps others waiting."""
    with contextlib.suppress(Given), acquire(storage):
        with pytest.raises(TimeoutError):
            acquire(storage, QUICK, 3 * QUICK.lease_seconds)
        raise Given
    started = time.monotonic()
    with acquire(storage):
        assert time.monotonic() - started < QUICK.lease_seconds
    assert storage.files(LEASES) == {}


def test_a_replaced_holder_disturbs_nobody(storage: StorageBackend) -> None:
    """Fault: a holder that was paused renews, releases or clears the lease of the one that replaced it."""
    paused = acquire(storage)  # its heartbeat never starts: so it looks to the others
    with acquire(storage):
        before = set(storage.files(LEASES))
        with paused:
            time.sleep(2 * QUICK.beat_seconds)
        left = set(storage.files(LEASES))
        assert left < before
        assert len(left) == 1
        with pytest.raises(TimeoutError):
            acquire(storage, QUICK, 2 * QUICK.lease_seconds)
    assert storage.files(LEASES) == {}
    assert not storage.overwrite(paused.path, b"x")


def test_a_waiter_that_was_paused_does_not_blame_the_holder(
    storage: StorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a suspended machine wakes and every waiter takes every lease, though all holders live."""
    acquire(storage)
    now = 0.0
    monkeypatch.setattr("tune.cache.lease.time.monotonic", lambda: now)
    acquirer = LeaseAcquirer(storage, KEY, QUICK, print)
    assert acquirer.attempt() is None
    now += 3600
    assert acquirer.attempt() is None
    for _ in range(20):
        now += QUICK.poll_seconds
        lease = acquirer.attempt()
        if lease is not None:
            break
    assert lease is not None
    assert now - 3600 <= QUICK.lease_seconds + QUICK.poll_seconds


def test_keys_do_not_share_leases(storage: StorageBackend) -> None:
    """Fault: one long training holds up every other key."""
    with acquire(storage):
        assert LeaseAcquirer(storage, OTHER, QUICK, print).attempt() is not None


def test_a_dead_holder_of_this_machine_is_seen_at_once(storage: StorageBackend) -> None:
    """Fault: after a kill everyone waits out the lease's time; or a living holder is taken for a dead one."""
    patient = LeaseConfig(lease_seconds=600, poll_seconds=0.05)
    held = acquire(storage, patient)
    own = storage.read(held.path) or b""
    storage.overwrite(held.path, own.replace(b"beats 000000000", b"beats 000000007"))
    assert LeaseAcquirer(storage, KEY, patient, print).attempt() is None, "it lives"
    gone = subprocess.Popen(["true"])
    gone.wait()
    pid, fields = str(gone.pid).encode(), own.split()
    foreign = own.replace(fields[7], b"x" * len(fields[7])).replace(fields[5], pid)
    storage.overwrite(held.path, foreign)
    assert LeaseAcquirer(storage, KEY, patient, print).attempt() is None, "it may live on another machine"
    storage.overwrite(held.path, own.replace(fields[5], pid))
    assert LeaseAcquirer(storage, KEY, patient, print).attempt() is not None


def test_a_storage_without_room_gives_no_lease(tmp_path: Path) -> None:
    """Fault: a store below a file, or a full one, lets everyone wait for ever."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        acquire(LocalStorage(tmp_path / "file" / "store"))


@pytest.mark.parametrize("wrong", [{"lease_seconds": 0.0}, {"poll_seconds": 40.0}])
def test_impossible_times_are_refused(wrong: dict[str, float]) -> None:
    """Fault: a lease that runs out between two looks makes every waiter compute."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LeaseConfig(**wrong)


PIN = """
import sys, time
from pathlib import Path
from tune.cache.lease import LeaseConfig, Pins
from tune.cache.backend import LocalStorage
pins = Pins(LocalStorage(Path(sys.argv[1])), LeaseConfig(lease_seconds=float(sys.argv[2]), poll_seconds=0.05))
pins.pin([sys.argv[3]], "trial 1/of its sweep")
print("pinned", flush=True)
time.sleep(600)
"""


@pytest.mark.long
def test_pins_live_as_long_as_their_owner(tmp_path: Path) -> None:
    """Fault: a long trial's pins run out, or a killed trial's never do."""
    pins = Pins(LocalStorage(tmp_path), STEADY)
    pins.pin([OTHER], "this process")
    command = [sys.executable, "-c", PIN, str(tmp_path), str(STEADY.lease_seconds), KEY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"pinned\n"
        end = time.monotonic() + 2 * STEADY.lease_seconds
        while time.monotonic() < end:
            assert pins.pinned() == {KEY, OTHER}
            time.sleep(0.05)
        owner.kill()
        owner.wait()
        while KEY in pins.pinned():
            assert time.monotonic() < end + 10
            time.sleep(0.05)
    assert pins.pinned() == {OTHER}


@pytest.mark.long
def test_pins_of_several_owners(storage: StorageBackend) -> None:
    """Fault: one owner's unpinning frees what another needs, or an owner's new pins leave the old ones there."""
    pins = Pins(storage, STEADY)
    pins.pin([KEY], "a")
    pins.pin([KEY, OTHER], "b")
    pins.unpin("b")
    assert pins.pinned() == {KEY}
    pins.pin([OTHER], "a")
    time.sleep(2 * STEADY.lease_seconds)
    assert pins.pinned() == {OTHER}
    pins.unpin("a")
    pins.unpin("never")
    assert pins.pinned() == set()
    time.sleep(2 * STEADY.beat_seconds)
    assert storage.files("pins") == {}
    pins.pin([KEY], "a")
    time.sleep(2 * STEADY.lease_seconds)
    assert pins.pinned() == {KEY}
    pins.unpin("a")
