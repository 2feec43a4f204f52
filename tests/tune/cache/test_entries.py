"""Entries that were damaged, half written or raced for, on disks that are full, read-only or fail."""

import errno
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from tests.tune.full_disk import file_size_limit
from tune.cache.backend import WORK, LocalStorage, ObjectStorage, StorageBackend, StoreError, open_storage
from tune.cache.entries import ENTRIES, FILES, Damaged, Entries, Entry, decode, encode

KEY, OTHER = "a" * 64, "b" * 64
CONTENT = {"state.safetensors": b"\x00\x01" * 3000, "deep/er/scores.json": b'{"bpb": 1.25}', "empty": b""}
RECORD = {"stage": "tail", "seconds": 12.5, "parents": [OTHER], "arguments": {"lr": 0.1}}


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Case:
    """Entries at a place below `root`, what they said, and a folder to publish."""

    def __init__(self, place: StorageBackend, root: Path, source: Path) -> None:
        self.root = root
        self.source = source
        self.said: list[str] = []
        self.entries = Entries(place, self.said.append)

    def publish(self) -> Entry:
        """The entry of KEY, published from the source folder."""
        return self.entries.publish(KEY, self.source, RECORD)

    def file(self, name: str) -> Path:
        """A file of the published entry, where it lies."""
        (folder,) = (self.root / FILES).iterdir()
        return folder / name

    @property
    def marker(self) -> Path:
        """The marker, where it lies."""
        return self.root / ENTRIES / f"{KEY}.json"


@pytest.fixture(params=["folder", "bucket"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A case in a folder, or in a bucket that lies in a folder."""
    root = tmp_path / "store"
    place = (
        LocalStorage(root) if request.param == "folder" else ObjectStorage(fs.LocalFileSystem(), str(root), "bucket")
    )
    return Case(place, root, fill(tmp_path / "source", CONTENT))


def test_files_and_record_come_back(case: Case, tmp_path: Path) -> None:
    """Fault: a nested or empty file, a byte or a number of the record is lost on the way."""
    assert case.entries.find(KEY) is None
    entry = case.publish()
    assert entry == case.entries.find(KEY)
    assert entry.record == RECORD
    assert entry.num_bytes == sum(map(len, CONTENT.values()))
    case.entries.fetch(entry, tmp_path / "into")
    assert contents(tmp_path / "into") == CONTENT
    assert {name: case.entries.read(entry, name) for name in CONTENT} == CONTENT
    assert contents(case.source) == CONTENT
    assert case.entries.faults(KEY) == []
    assert case.entries.all() == [entry]
    assert (case.entries.find(OTHER), case.said) == (None, [])
    assert not list((case.root / WORK).iterdir())


def test_an_entry_of_no_files(case: Case, tmp_path: Path) -> None:
    """Fault: a result that is all in its record cannot be kept."""
    (tmp_path / "none").mkdir()
    entry = case.entries.publish(KEY, tmp_path / "none", {"bpb": 1.0})
    assert case.entries.find(KEY) == entry
    case.entries.fetch(entry, tmp_path / "into")
    assert contents(tmp_path / "into") == {}


def test_moving_leaves_no_copy(tmp_path: Path) -> None:
    """Fault: what was computed inside the store is there twice, or its checksum is of something else."""
    case = Case(LocalStorage(tmp_path), tmp_path, fill(tmp_path / WORK / "x", CONTENT))
    entry = case.entries.publish(KEY, case.source, RECORD, move=True)
    assert contents(case.source) == {}
    assert case.entries.faults(KEY) == []
    case.entries.fetch(entry, tmp_path / "into")
    assert contents(tmp_path / "into") == CONTENT


def flip(position: float) -> Callable[[Path], None]:
    """Flips one bit at this share of a file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[round(position * (len(data) - 1))] ^= 1 << round(position * 7)
        path.write_bytes(data)

    return damage


def truncate(path: Path) -> None:
    """Lose the last byte."""
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"\n")


DAMAGES = {
    "first bit": flip(0.0),
    "middle bit": flip(0.47),
    "last bit": flip(1.0),
    "truncated": truncate,
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lengthen,
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.safetensors", "deep/er/scores.json"])
def test_a_damaged_file_is_never_handed_out(case: Case, tmp_path: Path, name: str, damage: str) -> None:
    """Fault: changed weights are used, or the damaged entry stays so that nobody computes it again."""
    entry = case.publish()
    DAMAGES[damage](case.file(name))
    assert any(name in fault for fault in case.entries.faults(KEY))
    found = case.entries.find(KEY)
    into = tmp_path / "into"
    if found is not None:
        with pytest.raises(Damaged, match=name):
            case.entries.fetch(found, into)
        assert not (into / name).exists()
        assert not list(into.rglob("*.part"))
    assert case.entries.find(KEY) is None
    assert len(case.said) == 1
    assert name in case.said[0]
    assert case.publish() != entry
    case.entries.fetch(case.publish(), into)
    assert contents(into) == CONTENT
    assert len(list((case.root / FILES).iterdir())) == 1


@pytest.mark.parametrize("name", ["state.safetensors", "empty"])
def test_a_file_lost_after_it_was_found(case: Case, tmp_path: Path, name: str) -> None:
    """Fault: a reader takes a missing file for an empty one."""
    entry = case.publish()
    case.file(name).unlink()
    with pytest.raises(Damaged, match=name):
        case.entries.read(entry, name)
    with pytest.raises(Damaged):
        case.entries.fetch(entry, tmp_path / "into")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_marker_is_no_entry(case: Case, damage: str) -> None:
    """Fault: an entry is trusted on the word of a changed marker, or such a marker blocks its key."""
    case.publish()
    DAMAGES[damage](case.marker)
    assert case.entries.find(KEY) is None
    assert len(case.said) == (0 if damage == "deleted" else 1)
    entry = case.publish()
    assert case.entries.find(KEY) == entry
    assert case.entries.faults(KEY) == []


def test_every_bit_of_a_marker_counts(case: Case) -> None:
    """Fault: a changed record or checksum parses to something that is trusted."""
    data = encode(case.publish())
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(ValueError, match="its marker"):
                decode(KEY, bytes(flipped))


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"files": []}', b"[" * 100_000])
def test_a_marker_of_garbage(case: Case, garbage: bytes) -> None:
    """Fault: bytes that are no marker stop the program instead of being dropped."""
    case.publish()
    case.marker.write_bytes(garbage)
    assert case.entries.faults(KEY)
    assert case.entries.find(KEY) is None
    assert case.entries.all() == []


def test_a_marker_under_another_key(case: Case) -> None:
    """Fault: a file that was renamed or copied serves one stage's result for another."""
    case.publish()
    case.marker.rename(case.marker.with_name(f"{OTHER}.json"))
    assert case.entries.find(OTHER) is None
    assert "belongs to" in case.said[0]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "."])
def test_a_marker_that_leads_elsewhere(case: Case, tmp_path: Path, name: str) -> None:
    """Fault: a store that others write to makes a reader overwrite its own files."""
    entry = case.publish()
    forged = Entry(KEY, entry.folder, {name: entry.files["empty"]}, {})
    case.marker.write_bytes(encode(forged))
    assert case.entries.find(KEY) is None


def test_the_first_of_two_publishers_stays(case: Case, tmp_path: Path) -> None:
    """Fault: a late publisher changes what others already read, leaves its files there, or a difference goes unsaid."""
    first = case.publish()
    assert case.entries.publish(KEY, case.source, {"seconds": 1.0}) == first
    assert case.said == []
    (case.source / "state.safetensors").write_bytes(b"other")
    assert case.publish() == first
    assert len(case.said) == 1
    assert "state.safetensors" in case.said[0]
    assert len(list((case.root / FILES).iterdir())) == 1


def test_publishers_at_the_same_moment(case: Case, tmp_path: Path) -> None:
    """Fault: two publishers mix their files, or each is told another entry (in a folder)."""
    barrier, found = threading.Barrier(6), []

    def work(number: int) -> None:
        source = fill(tmp_path / str(number), {"x": b"%d" % number * 50_000, "y": b"%d" % number})
        entries = Entries(case.entries.place, case.said.append)
        barrier.wait()
        found.append(entries.publish(KEY, source, {"number": number}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    entry = case.entries.find(KEY)
    assert entry is not None
    assert case.entries.faults(KEY) == []
    assert case.entries.read(entry, "y") == b"%d" % entry.record["number"]
    if isinstance(case.entries.place, LocalStorage):
        assert all(one == entry for one in found)
        assert len(list((case.root / FILES).iterdir())) == 1


@pytest.mark.parametrize("again", [False, True])
def test_an_entry_dropped_while_it_is_looked_at(case: Case, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """Fault: what another process dropped for the budget is reported as damage, or a newer entry goes with the old."""
    case.publish()
    other = Entries(case.entries.place, case.said.append)
    listing = case.entries.place.files

    def files(folder: str) -> Any:
        monkeypatch.undo()
        other.drop(KEY)
        if again:
            other.publish(KEY, case.source, RECORD)
        return listing(folder)

    monkeypatch.setattr(case.entries.place, "files", files)
    assert not other.drop(KEY, b"an earlier marker")
    assert (case.entries.find(KEY) is not None) == again
    assert case.said == []
    assert (other.find(KEY) is not None) == again


@pytest.mark.parametrize("key", ["", "../" + KEY, KEY[1:], KEY.upper(), "a" * 63 + "/"])
def test_what_is_no_key_is_refused(case: Case, key: str) -> None:
    """Fault: a name leads out of the store."""
    with pytest.raises(ValueError, match="64 hexadecimal"):
        case.entries.find(key)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        case.entries.publish(key, case.source, {})


def test_what_cannot_be_kept_is_refused(case: Case, tmp_path: Path) -> None:
    """Fault: a link is kept as what it happened to point to, or a record that no JSON holds."""
    with pytest.raises(TypeError, match=r"files\.state"):
        case.entries.publish(KEY, case.source, {"files": {"state": tmp_path}})
    (case.source / "link").symlink_to(case.source / "state.safetensors")
    with pytest.raises(ValueError, match="link"):
        case.publish()
    with pytest.raises(ValueError, match="nothing"):
        case.entries.publish(KEY, tmp_path / "nothing", {})
    assert case.entries.find(KEY) is None


class Failing(fs.FileSystemHandler):  # type: ignore[misc]
    """A file system below a folder whose changes fail after the first few, as on a disk that fills or goes away."""

    def __init__(self, root: Path, allowed: int, number: int, once: bool = False) -> None:
        self.inner = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        self.left = allowed
        self.number = number
        self.once = once

    def _change(self) -> None:
        self.left -= 1
        if self.left == -1 or (self.left < 0 and not self.once):
            raise OSError(self.number, os.strerror(self.number))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def get_type_name(self) -> str:
        return "failing"

    def get_file_info(self, paths: list[str]) -> Any:
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.inner.get_file_info(selector)

    def open_input_stream(self, path: str) -> Any:
        return self.inner.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self.inner.open_input_file(path)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._change()
        self.inner.create_dir(path, recursive=recursive)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self._change()
        return self.inner.open_output_stream(path, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError

    def move(self, src: str, dest: str) -> None:
        self._change()
        self.inner.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._change()
        self.inner.delete_file(path)

    def delete_dir(self, path: str) -> None:
        self._change()
        self.inner.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def normalize_path(self, path: str) -> str:
        return path


@pytest.mark.parametrize(("number", "once"), [(errno.ENOSPC, False), (errno.EROFS, False), (errno.EIO, True)])
def test_a_bucket_that_fails_at_any_change(tmp_path: Path, number: int, once: bool) -> None:
    """Fault: a publication that broke off is found, blocks its key, leaves files, or the error names no place."""
    source = fill(tmp_path / "source", CONTENT)
    for allowed in range(100):
        root = tmp_path / f"{number}.{allowed}"
        root.mkdir()
        said: list[str] = []
        failing = Entries(open_storage("a bucket", fs.PyFileSystem(Failing(root, allowed, number, once))), said.append)
        sound = Entries(open_storage("a bucket", fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())), said.append)
        try:
            entry = failing.publish(KEY, source, RECORD)
        except StoreError as error:
            assert "a bucket/" in str(error)  # noqa: PT017 - also the success of later rounds is tested
            assert error.errno == number  # noqa: PT017
            assert sound.find(KEY) is None
            assert not once or contents(root / "a bucket" / FILES) == {}
            entry = sound.publish(KEY, source, RECORD)
        else:
            break
        sound.fetch(entry, root / "into")
        assert contents(root / "into") == CONTENT
    assert allowed > len(CONTENT)
    assert sound.find(KEY) == entry


def crash_after(count: int, publish: Callable[[], object], root: Path) -> bool:
    """Whether `publish`, in a process that is gone at its `count`th change below `root`, got to its end."""
    process = os.fork()
    if process == 0:
        left = count

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            changes = event in ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir")
            if changes or (event == "open" and str(root) in str(arguments[0])):
                left -= 1
                if left < 0:
                    os._exit(9)

        status = 9
        try:
            sys.addaudithook(hook)
            publish()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(process, 0)[1] == 0


@pytest.mark.parametrize("move", [False, True])
def test_a_process_that_dies_at_any_moment(tmp_path: Path, move: bool) -> None:
    """Fault: a kill between two operations leaves something that is taken for an entry, or that blocks the key."""
    for count in range(200):
        root = tmp_path / str(count)
        source = fill(root / WORK / "mine" if move else tmp_path / "source", CONTENT)
        case = Case(LocalStorage(root), root, source)
        ended = crash_after(count, partial(case.entries.publish, KEY, source, RECORD, move), root)
        found = case.entries.find(KEY)
        assert case.said == []
        assert found is not None or not ended
        entry = found or case.entries.publish(KEY, fill(tmp_path / "source", CONTENT), RECORD)
        case.entries.fetch(entry, root / "into")
        assert contents(root / "into") == CONTENT
        if ended:
            break
    assert count > 10


@pytest.mark.parametrize("room", [0, 10, 5000])
def test_a_full_disk(case: Case, tmp_path: Path, room: int) -> None:
    """Fault: a part of an entry stays and takes the last room, is found, or the error does not say where."""
    with file_size_limit(room), pytest.raises(StoreError) as caught:
        case.publish()
    assert caught.value.errno == errno.EFBIG
    assert str(case.entries.place.name) in str(caught.value)
    assert case.entries.find(KEY) is None
    assert contents(case.root / FILES) == {}
    entry = case.publish()
    with file_size_limit(room), pytest.raises(OSError, match="File too large"):
        case.entries.fetch(entry, tmp_path / "into")
    assert not list((tmp_path / "into").rglob("*.part"))
    assert case.entries.find(KEY) == entry, "a full local disk is no damage of the store"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name not in (".", "..")), st.binary(max_size=100), max_size=4))
def test_any_names_and_bytes(content: dict[str, bytes]) -> None:
    """Fault: a name with a line break, a leading dot or odd letters is lost or collides with a temporary file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        content = {name: data for name, data in content.items() if len(name.encode()) < 100}
        case = Case(LocalStorage(folder / "store"), folder / "store", fill(folder / "source", content))
        case.entries.fetch(case.publish(), folder / "into")
        assert contents(folder / "into") == content
