"""Whole files: killed writers, full disks, folders that cannot be written, readers beside writers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from golf.runtime.files import read_json, write_bytes, write_json, write_whole

OLD = b"old " * 1000
KILLED = """
import os, sys, time
from pathlib import Path
from golf.runtime.files import write_whole

def half(file):
    file.write(b"new " * 500)
    file.flush()
    print("half", flush=True)
    time.sleep(60)

write_whole(Path(sys.argv[1]), half)
"""
FULL = """
import io, resource, sys
from pathlib import Path
import torch
from golf.runtime.files import write_bytes, write_json
from golf.runtime.tensors import write_tensors

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
writers = {
    "bytes": lambda: write_bytes(path, bytes(60_000)),
    "json": lambda: write_json(path, "x" * 60_000),
    "tensors": lambda: write_tensors(path, {str(i): torch.ones(5000) for i in range(5)}),
}
try:
    writers[sys.argv[2]]()
except OSError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there already."""
    (tmp_path / "value.bin").write_bytes(OLD)
    return tmp_path / "value.bin"


def names(folder: Path) -> list[str]:
    """All names in a folder, hidden ones too."""
    return sorted(entry.name for entry in folder.iterdir())


def test_a_killed_writer_leaves_the_old_file(path: Path) -> None:
    """Catches a write in place: SIGKILL in the middle would leave half of the new file."""
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes() == OLD
    write_bytes(path, b"next")
    assert path.read_bytes() == b"next"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bytes", "json", "tensors"])
def test_a_full_disk_leaves_the_old_file(path: Path, kind: str) -> None:
    """Catches a truncated or lost file, litter that keeps the disk full, and an error that does not name the file."""
    command = [sys.executable, "-c", FULL, str(path), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write {path}" in done.stdout
    assert path.read_bytes() == OLD
    assert names(path.parent) == ["value.bin"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), MemoryError()])
def test_a_writer_that_fails_leaves_the_old_file(path: Path, error: BaseException) -> None:
    """Catches half a file, or a forgotten temporary one, after Ctrl-C or an error in the writer."""

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        write_whole(path, write)
    assert caught.value is error
    assert path.read_bytes() == OLD
    assert names(path.parent) == ["value.bin"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Catches an error without the file's name, and litter, where the place is a file, a folder or not writable."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    places = [tmp_path / "file" / "value.bin", tmp_path / "folder", Path("/proc/value.bin")]
    if os.geteuid() != 0:  # root writes everywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        places.append(tmp_path / "closed" / "value.bin")
    for place in places:
        with pytest.raises(OSError, match=f"cannot write {place}"):
            write_bytes(place, b"new")
    assert [name for name in names(tmp_path) if name != "closed"] == ["file", "folder"]
    assert names(tmp_path / "folder") == ["inner"]


def test_readers_see_whole_files(tmp_path: Path) -> None:
    """Catches a moment in which a file is missing, empty or mixed of two writes; two writers at once."""
    path = tmp_path / "deep" / "er" / "value.json"
    write_json(path, ["start"] * 2000)
    stop = threading.Event()

    def write(word: str) -> None:
        while not stop.is_set():
            write_json(path, [word] * 2000)

    writers = [threading.Thread(target=write, args=(word,)) for word in ("a", "b")]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    deadline = time.monotonic() + 60  # on a busy machine the writers may start late
    try:
        while len(seen) < 200 or (set(seen) == {"start"} and time.monotonic() < deadline):
            value = read_json(path)
            assert value == value[:1] * 2000
            seen.append(value[0])
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert set(seen) & {"a", "b"}
    assert names(path.parent) == ["value.json"]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {1, 2}}])
def test_what_json_does_not_have(path: Path, value: object) -> None:
    """Catches a file that other programs cannot read, and an old file lost to a value that cannot be written."""
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[1] 2", b"[" * 100_000])
def test_a_damaged_json_file_is_named(path: Path, data: bytes) -> None:
    """Catches a traceback that says neither which file is damaged nor what to do."""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"value\.bin"):
        read_json(path)


def test_json_round_trip(tmp_path: Path) -> None:
    """Catches text or numbers that come back changed."""
    value = {"ü": [1, -0.1, 1e-300, None, True, "日本\n\u2028"], "": {}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == value
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "other.json")
