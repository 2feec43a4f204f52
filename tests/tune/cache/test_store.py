"""The store as a whole: its disk budget, what pins protect, and what looking at it leaves behind."""

import hashlib
import time
from pathlib import Path

import pytest

from tests.tune.toy_stages import KEY, object_storage, record_of
from tune.cache.backend import StoreError
from tune.cache.entry import FILES
from tune.cache.gc import tidy
from tune.cache.lease import LeaseAcquirer, LeaseConfig
from tune.cache.stage_graph import StageName
from tune.cache.store import Store

INTERIOR, RESULT = StageName("prefix", 2), StageName("train")


def numbered(number: int) -> str:
    """Returns a key."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def publish(store: Store, source: Path, number: int, num_bytes: int = 100, stage: StageName = INTERIOR) -> None:
    """Publishes so many bytes under a numbered key, a little later than what was done before."""
    source.mkdir(exist_ok=True)
    (source / "x").write_bytes(bytes([number]) * num_bytes)
    time.sleep(0.02)  # file times are as coarse as the kernel's tick
    store.publish(numbered(number), source, ["x"], record_of(stage))


def stored(store: Store) -> set[int]:
    """Returns the numbers of the keys that are stored."""
    return {number for number in range(20) if store.find(numbered(number)) is not None}


@pytest.mark.parametrize("bucket", [False, True])
def test_least_recently_used_interior_entries_go_first(tmp_path: Path, bucket: bool) -> None:
    """Fault: the budget is overrun, a result goes before an interior state, or the one just used goes first."""
    root, source = tmp_path / "store", tmp_path / "source"
    store = Store(object_storage(root) if bucket else root, budget_bytes=500)
    publish(store, source, 0, stage=RESULT)
    for number in (1, 2, 3, 4):
        publish(store, source, number)
    assert stored(store) == {0, 1, 2, 3, 4}
    time.sleep(0.02)
    first = store.find(numbered(1))
    assert first is not None
    store.fetch(first, tmp_path / "into")
    publish(store, source, 5)
    assert stored(store) == {0, 1, 3, 4, 5}
    publish(store, source, 3)  # by a second trial, which counts as a use
    publish(store, source, 6, stage=RESULT)
    assert stored(store) == {0, 1, 3, 5, 6}
    publish(store, source, 7, 250, stage=RESULT)
    assert stored(store) == {0, 6, 7}
    publish(store, source, 8, 250, stage=RESULT)
    assert stored(store) == {7, 8}
    assert len({name.partition("/")[0] for name in store.storage.files(FILES)}) == 2


def test_what_a_trial_needs_is_never_dropped(tmp_path: Path) -> None:
    """Fault: a pinned state goes, the one just published goes, or an overrun budget is not told."""
    warnings: list[str] = []
    lease_config = LeaseConfig(lease_seconds=1.0, poll_seconds=0.1)
    store = Store(tmp_path / "store", lease_config=lease_config, budget_bytes=250, warn=warnings.append)
    source = tmp_path / "source"
    other = Store(tmp_path / "store", lease_config=lease_config)
    other.pin([numbered(1), numbered(3)], "trial")
    for number in (1, 2, 3):
        publish(store, source, number)
    assert stored(store) == {1, 3}
    assert warnings == []
    publish(store, source, 4)
    assert stored(store) == {1, 3, 4}
    assert len(warnings) == 1
    time.sleep(1.5)
    publish(store, source, 5)
    assert stored(store) == {1, 3, 5}
    other.unpin("trial")
    publish(store, source, 6)
    assert stored(store) == {5, 6}


def test_a_store_that_may_not_drop_still_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a result that is there is reported as lost because an older one could not be removed."""
    warnings: list[str] = []
    store = Store(tmp_path / "store", budget_bytes=150, warn=warnings.append)
    publish(store, tmp_path / "source", 1)

    def refuse(path: str) -> None:
        raise StoreError(13, f"cannot remove {path}")

    monkeypatch.setattr(store.storage, "remove_directory", refuse)
    publish(store, tmp_path / "source", 2)
    assert 2 in stored(store)
    assert "cannot remove" in warnings[0]


def test_what_the_dead_left_is_tidied_when_nobody_is_at_work(tmp_path: Path) -> None:
    """Fault: leases and files of a killed sweep stay for ever, or those of one that is at work are taken away."""
    quick = LeaseConfig(lease_seconds=0.2, poll_seconds=0.1)
    store = Store(tmp_path / "store", lease_config=quick)
    publish(store, tmp_path / "source", 1)
    dead = f"{FILES}/{KEY}.{'0' * 12}/x"
    store.storage.save(dead, [b"x"])
    lease = LeaseAcquirer(store.storage, KEY, quick, print).attempt()
    assert lease is not None
    with lease:
        time.sleep(0.5)
        tidy(store, quick)
        assert store.storage.read(dead) == b"x"
        assert store.storage.read(lease.path) is not None
    store.storage.save(lease.path, [b"a dead one's"])
    time.sleep(0.3)
    tidy(store, quick)
    assert (store.storage.read(dead), store.storage.read(lease.path)) == (None, None)
    assert stored(store) == {1}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    """Fault: asking for a result, or opening a store, leaves empty directories behind."""
    store = Store(tmp_path / "store")
    assert store.find(KEY) is None
    assert (store.keys(), store.all(), store.faults(KEY), store.pinned()) == ([], [], [], set())
    assert list(tmp_path.iterdir()) == []
