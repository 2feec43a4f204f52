"""Leases where nothing is exclusive and everything is slow, and pins of owners that died."""

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from tune.cache.backend import LocalStorage, ObjectStorage, StorageBackend, StoreError
from tune.cache.lease import LEASES, Lease, LeaseAcquirer, LeaseConfig, Pins

ROOT = Path(__file__).parents[3]
KEY, OTHER = "1" * 64, "2" * 64
QUICK = LeaseConfig(lease_seconds=0.6, poll_seconds=0.05, settle_seconds=0.15)
STEADY = LeaseConfig(lease_seconds=1.8, poll_seconds=0.05, settle_seconds=0.15)
"""Where a beat that comes late, because the machine is busy, would look like a dead owner."""


class Given(Exception):
    """Ends a lease without a result."""


class SlowBucket(ObjectStorage):
    """A bucket whose requests take a random time, at times longer than the settle time."""

    def __init__(self, root: Path, longest_seconds: float) -> None:
        super().__init__(fs.LocalFileSystem(), str(root), str(root))
        self.longest_seconds = longest_seconds

    def _late(self) -> None:
        time.sleep(random.random() ** 4 * self.longest_seconds)

    def files(self, folder: str) -> Any:
        found = super().files(folder)
        self._late()
        return found

    def replace(self, path: str, data: bytes) -> None:
        self._late()
        super().replace(path, data)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty place of each kind."""
    return LocalStorage(tmp_path) if request.param == "folder" else SlowBucket(tmp_path, 0.0)


def claim(place: StorageBackend, lease_config: LeaseConfig = QUICK, seconds: float = 10.0) -> Lease:
    """The lease, waited for."""
    claimer = LeaseAcquirer(place, KEY, lease_config, print)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lease = claimer.attempt()
        if lease is not None:
            return lease
        time.sleep(lease_config.poll_seconds / 2)
    raise TimeoutError("no lease")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_two_never_hold_at_once(kind: str, tmp_path: Path) -> None:
    """Fault: two claimers of one generation both believe they have it, most likely where requests are slow."""
    lease_config = LeaseConfig(lease_seconds=30, poll_seconds=0.05, settle_seconds=0.1)
    inside: list[int] = []
    most: list[int] = []
    turns: list[int] = []

    def work(number: int) -> None:
        place = LocalStorage(tmp_path) if kind == "folder" else SlowBucket(tmp_path, 0.2)
        for _ in range(3):
            try:
                with claim(place, lease_config, 60.0):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.02)
                    inside.remove(number)
                    turns.append(number)
                    raise Given
            except Given:
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(turns) == 12
    assert max(most) == 1


class HookedBucket(ObjectStorage):
    """A bucket where something happens between a claimer's look and its write."""

    def __init__(self, root: Path, hook: Callable[[], object]) -> None:
        super().__init__(fs.LocalFileSystem(), str(root), str(root))
        self.hook = hook

    def replace(self, path: str, data: bytes) -> None:
        self.hook()
        super().replace(path, data)


@pytest.mark.parametrize("late", [False, True])
def test_a_rival_between_look_and_write(tmp_path: Path, late: bool) -> None:
    """Fault: a claim that nobody could see in time wins beside one that has won, or the winner did not wait for it."""
    for number in range(8):
        root = tmp_path / str(number)
        first: list[Lease | None] = []
        rival = threading.Thread(
            target=lambda root=root, first=first: first.append(
                LeaseAcquirer(ObjectStorage(fs.LocalFileSystem(), str(root), ""), KEY, QUICK, print).attempt()
            )
        )

        def hook(root: Path = root, rival: threading.Thread = rival) -> None:
            rival.start()
            while not LocalStorage(root).files(LEASES):
                time.sleep(0.002)
            if late:
                rival.join()

        second = LeaseAcquirer(HookedBucket(root, hook), KEY, QUICK, print).attempt()
        rival.join()
        won = [lease for lease in (*first, second) if lease is not None]
        assert len(won) == 1
        assert list(LocalStorage(root).files(LEASES)) == [won[0].path.removeprefix(f"{LEASES}/")]


def test_a_lease_is_kept_while_it_beats_and_passed_on_when_given_up(place: StorageBackend) -> None:
    """Fault: a computation longer than the lease's time loses it, or one that failed keeps others waiting."""
    with contextlib.suppress(Given), claim(place):
        with pytest.raises(TimeoutError):
            claim(place, QUICK, 3 * QUICK.lease_seconds)
        raise Given
    started = time.monotonic()
    with claim(place):
        assert time.monotonic() - started < QUICK.lease_seconds
    assert place.files(LEASES) == {}


def test_a_replaced_holder_disturbs_nobody(place: StorageBackend) -> None:
    """Fault: a holder that was paused renews, releases or clears the lease of the one that replaced it."""
    paused = claim(place)  # its heart never starts: so it looks to the others
    with claim(place):
        before = set(place.files(LEASES))
        with paused:
            time.sleep(2 * QUICK.beat_seconds)
        left = set(place.files(LEASES))
        assert left < before
        assert len(left) == 1
        with pytest.raises(TimeoutError):
            claim(place, QUICK, 2 * QUICK.lease_seconds)
    assert place.files(LEASES) == {}
    assert not place.overwrite(paused.path, b"x")


def test_a_waiter_that_was_paused_does_not_blame_the_holder(
    place: StorageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a suspended machine wakes and every waiter takes every lease, though all holders live."""
    claim(place)
    now = 0.0
    monkeypatch.setattr("tune.cache.lease.time.monotonic", lambda: now)
    claimer = LeaseAcquirer(place, KEY, QUICK, print)
    assert claimer.attempt() is None
    now += 3600
    assert claimer.attempt() is None
    for _ in range(20):
        now += QUICK.poll_seconds
        lease = claimer.attempt()
        if lease is not None:
            break
    assert lease is not None
    assert now - 3600 <= QUICK.lease_seconds + QUICK.poll_seconds


def test_keys_do_not_share_leases(place: StorageBackend) -> None:
    """Fault: one long training holds up every other key."""
    with claim(place):
        assert LeaseAcquirer(place, OTHER, QUICK, print).attempt() is not None


PIN = """
import sys, time
from pathlib import Path
from tune.cache.lease import Patience, Pins
from tune.cache.backend import Folder
pins = Pins(Folder(Path(sys.argv[1])), Patience(lease_seconds=float(sys.argv[2]), poll_seconds=0.05))
pins.pin([sys.argv[3]], "trial 1/of its sweep")
print(flush=True)
time.sleep(600)
"""


def test_pins_live_as_long_as_their_owner(tmp_path: Path) -> None:
    """Fault: a long trial's pins run out, or a killed trial's never do."""
    pins = Pins(LocalStorage(tmp_path), QUICK)
    pins.pin([OTHER], "mine")
    command = [sys.executable, "-c", PIN, str(tmp_path), str(QUICK.lease_seconds), KEY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        end = time.monotonic() + 3 * QUICK.lease_seconds
        while time.monotonic() < end:
            assert pins.pinned() == {KEY, OTHER}
        owner.kill()
        owner.wait()
        while KEY in pins.pinned():
            assert time.monotonic() < end + 10
    assert pins.pinned() == {OTHER}


def test_pins_of_several_owners(place: StorageBackend) -> None:
    """Fault: one owner's unpinning frees what another needs, or an owner's new pins leave the old ones there."""
    pins = Pins(place, STEADY)
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
    assert place.files("pins") == {}
    pins.pin([KEY], "a")
    time.sleep(2 * STEADY.lease_seconds)
    assert pins.pinned() == {KEY}
    pins.unpin("a")


def test_a_place_without_room_gives_no_lease(tmp_path: Path) -> None:
    """Fault: a store below a file, or a full one, lets everyone wait for ever."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        claim(LocalStorage(tmp_path / "file" / "store"))


@pytest.mark.parametrize("wrong", [{"lease_seconds": 0.0}, {"poll_seconds": 40.0}, {"settle_seconds": -1.0}])
def test_impatience_is_refused(wrong: dict[str, float]) -> None:
    """Fault: a lease that runs out between two looks makes every waiter compute."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LeaseConfig(**wrong)


def test_a_dead_holder_of_this_machine_is_seen_at_once(place: StorageBackend) -> None:
    """Fault: after a kill everyone waits out the lease's time; or a living holder is taken for a dead one."""
    patient = LeaseConfig(lease_seconds=600, poll_seconds=0.05, settle_seconds=0.15)
    held = claim(place, patient)
    mine = place.read(held.path) or b""
    place.overwrite(held.path, mine.replace(b"beats 000000000", b"beats 000000007"))
    assert LeaseAcquirer(place, KEY, patient, print).attempt() is None, "it lives"
    gone = subprocess.Popen(["true"])
    gone.wait()
    pid = gone.pid
    words = mine.split()
    strange = mine.replace(words[7], b"x" * len(words[7])).replace(words[5], str(pid).encode())
    place.overwrite(held.path, strange)
    assert LeaseAcquirer(place, KEY, patient, print).attempt() is None, "it may live on another machine"
    place.overwrite(held.path, mine.replace(words[5], str(pid).encode()))
    assert LeaseAcquirer(place, KEY, patient, print).attempt() is not None
