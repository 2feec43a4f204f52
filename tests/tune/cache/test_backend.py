"""Storages: what a directory, a bucket in a directory and a server of S3's protocol promise alike."""

import errno
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tune.s3_server import BUCKET, s3_server
from tests.tune.toy_stages import Settings, ToyProcesses, object_storage
from tune.cache.backend import BLOCK_BYTES, LocalStorage, ObjectStorage, StorageBackend, StoreError, open_storage


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The environment of a server with a bucket."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set for this process."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=["local", "object", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageBackend:
    """An empty storage of each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    return LocalStorage(tmp_path / "store") if request.param == "local" else object_storage(tmp_path / "store")


def test_files_come_back(storage: StorageBackend) -> None:
    """Fault: bytes, sizes, nested paths or an empty file are lost; a neighbour's files are listed or removed."""
    large = bytes(range(256)) * (12 * BLOCK_BYTES // 256) + b"end"
    storage.save("a/large", (large[at : at + BLOCK_BYTES] for at in range(0, len(large), BLOCK_BYTES)))
    storage.save("a/b/empty", [])
    storage.save("ab/other", [b"1"])
    assert storage.read("a/large") == large
    assert {name: state.num_bytes for name, state in storage.files("a").items()} == {"large": len(large), "b/empty": 0}
    assert set(storage.files("")) == {"a/large", "a/b/empty", "ab/other"}
    assert (storage.files("nothing"), storage.read("a/nothing")) == ({}, None)
    storage.remove_directory("a")
    storage.remove_directory("a")
    storage.remove("a/large")
    assert set(storage.files("")) == {"ab/other"}


def test_of_many_that_create_a_file_one_succeeds(storage: StorageBackend) -> None:
    """Fault: two processes both believe that they hold a lease, or both publish a marker."""
    for number in range(5):
        barrier, created = threading.Barrier(8), []

        def create(own: bytes, path: str = f"leases/{number}", barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            if storage.create(path, own):
                created.append(own)  # noqa: B023 - joined below

        threads = [threading.Thread(target=create, args=(b"%d" % own,)) for own in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert created == [storage.read(f"leases/{number}")]


def test_a_creation_that_was_repeated_by_the_network_is_one_s_own(storage: StorageBackend) -> None:
    """Fault: a request whose answer was lost makes its owner wait for itself."""
    assert storage.create("a", b"unique to the caller")
    assert not storage.create("a", b"of another")
    assert storage.create("a", b"unique to the caller") == isinstance(storage, ObjectStorage), "links count in files"
    assert storage.read("a") == b"unique to the caller"


def test_changes_of_a_file(storage: StorageBackend) -> None:
    """Fault: a beat brings back a lease that was taken away, or a renewed file keeps its old time."""
    assert not storage.overwrite("a", b"1")
    assert storage.files("") == {}
    storage.replace("a", b"12")
    before = storage.files("")["a"].modified_ns
    time.sleep(1.1)  # S3's times are whole seconds
    assert storage.overwrite("a", b"34")
    assert storage.read("a") == b"34"
    assert before < storage.files("")["a"].modified_ns <= storage.clock_ns() + 10**9
    storage.replace("a", b"5")
    storage.touch("uses/a")
    storage.touch("uses/a")
    assert {name: state.num_bytes for name, state in storage.files("").items()} == {"a": 1, "uses/a": 1}


def test_processes_on_a_server_compute_once(server: dict[str, str], tmp_path: Path) -> None:
    """Fault: what holds in a directory does not hold through the protocol of S3: two compute, or a dead one holds."""
    settings = Settings(f"s3://{BUCKET}/{tmp_path.name}", tmp_path, poll_seconds=0.3, environment=server)
    processes = ToyProcesses(settings)
    try:
        holder = processes.start_computing()
        waiting = processes.start_waiting(3)
        time.sleep(0.5)
        holder.send_signal(signal.SIGKILL)
        results = [process.result() for process in waiting]
        assert results == [("done", *results[0][1:])] * 3
        assert processes.computations == 2
    finally:
        processes.end()


def test_errors_of_a_server_name_path_and_cause(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a missing bucket passes for an empty one; a server that is down, or a refusal, for a missing file."""
    missing = open_storage("s3://no-such-bucket/x")
    with pytest.raises(StoreError, match=r"cannot write s3://no-such-bucket/x/a: .*\(NoSuchBucket\); check"):
        missing.create("a", b"1")
    with pytest.raises(StoreError, match=r"cannot list .*\(NoSuchBucket\)"):
        missing.files("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=f"cannot read s3://{BUCKET}/x/a: .*after"):
        open_storage(f"s3://{BUCKET}/x").read("a")


@pytest.mark.parametrize(
    "address", ["s3x://bucket", "http://host/x", "hdfs://host/x", "://", "file://host/x", "s3:///x"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """Fault: a misspelt address becomes a local directory of that name."""
    with pytest.raises(ValueError, match=f"{address} is no address of a storage; give a directory or one of file://"):
        open_storage(address)


@pytest.mark.parametrize("address", ["s3://user:secret-word@bucket/x", "s3://bucket/x?secret_key=secret-word"])
def test_an_address_with_a_secret_is_refused(address: str) -> None:
    """Fault: the secret key in a store's address is kept, or printed with the refusal."""
    with pytest.raises(ValueError, match="give them in the environment") as caught:
        open_storage(address)
    assert "secret-word" not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Fault: an error of the system without the path, or a wrong errno."""
    (tmp_path / "a").mkdir()
    with pytest.raises(StoreError, match=f"cannot read {tmp_path}/a: it is not a regular file") as caught:
        LocalStorage(tmp_path).read("a")
    assert caught.value.errno == errno.EINVAL
