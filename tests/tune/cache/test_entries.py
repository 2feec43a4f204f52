"""Entries that were damaged, half written or raced for, on disks that are full, read-only or fail."""

import errno
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.exceptions import GenericError

from tests.tune.full_disk import file_size_limit
from tests.tune.toy_stages import object_storage, record_of, storage_of
from tune.cache.backend import WORK, FileState, LocalStorage, ObjectStorage, StorageBackend, StoreError
from tune.cache.entries import Damaged, Entries
from tune.cache.entry import FILES, Entry, decode, encode, marker_path
from tune.cache.fingerprint import canonical
from tune.cache.world_history import WorldTurn

KEY, OTHER = "a" * 64, "b" * 64
CONTENT = {"state.safetensors": b"\x00\x01" * 3000, "deep/er/scores.json": b'{"bpb": 1.25}', "empty": b""}
RECORD = record_of("train", seconds=12, parents=(OTHER,), trial="t", world_history=(WorldTurn(8, 0), WorldTurn(4, 120)))

PLAIN = msgspec.to_builtins(RECORD) | {"seconds": 12.0}


def fill(directory: Path, content: dict[str, bytes]) -> Path:
    """Returns a directory with these files."""
    for name, data in content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """Returns all files below a directory."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


class Case:
    """Entries in a storage below `root`, their warnings, and a directory to publish."""

    def __init__(self, storage: StorageBackend, root: Path, source: Path) -> None:
        self.root, self.source, self.warnings = root, source, list[str]()
        self.entries = Entries(storage, self.warnings.append)

    def publish(self, entries: Entries | None = None) -> Entry:
        """Publishes the source directory as the entry of KEY."""
        return (entries or self.entries).publish(KEY, self.source, list(contents(self.source)), RECORD)

    def file(self, name: str) -> Path:
        """Returns where a file of the published entry lies."""
        (attempt,) = self.attempts()
        return self.root / FILES / attempt / name

    def attempts(self) -> set[str]:
        """Returns the directories that hold files of entries."""
        return {name.partition("/")[0] for name in contents(self.root / FILES)}

    @property
    def marker(self) -> Path:
        """Where the marker lies."""
        return self.root / marker_path(KEY)


@pytest.fixture(params=["local", "object"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A case in a directory, or in a bucket that lies in a directory."""
    root = tmp_path / "store"
    return Case(storage_of(request.param, root), root, fill(tmp_path / "source", CONTENT))


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
    assert (case.entries.find(OTHER), case.warnings) == (None, [])
    assert contents(case.root / WORK) == {}


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
    damaged = case.entries.find(KEY)
    into = tmp_path / "into"
    if damaged is not None:
        with pytest.raises(Damaged, match=name):
            case.entries.fetch(damaged, into)
        assert not (into / name).exists()
        assert not list(into.rglob("*.part"))
    assert case.entries.find(KEY) is None
    assert len(case.warnings) == 1
    assert name in case.warnings[0]
    assert case.publish() != entry
    case.entries.fetch(case.publish(), into)
    assert contents(into) == CONTENT
    assert len(case.attempts()) == 1


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
    assert len(case.warnings) == (0 if damage == "deleted" else 1)
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
            with pytest.raises(ValueError, match=r"its marker|a key has"):
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
    assert "belongs to" in case.warnings[0]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "."])
def test_a_marker_that_leads_elsewhere(case: Case, name: str) -> None:
    """Fault: a store that others write to makes a reader overwrite its own files."""
    entry = case.publish()
    case.marker.write_bytes(encode(Entry(KEY, entry.directory, {name: entry.files["empty"]}, RECORD)))
    assert case.entries.find(KEY) is None


def sealed(**content: Any) -> bytes:
    """Returns a marker with any content and a right checksum."""
    return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"


def test_a_marker_of_another_version_is_explained(case: Case) -> None:
    """Fault: results of an earlier program end the sweep, or go without a word."""
    record = {"stage": "train", "seconds": 1.0, "kind": "interior"}
    fill(case.root, {marker_path(KEY): sealed(version=1, key=KEY, folder=f"{KEY}.{'0' * 12}", files={}, record=record)})
    assert case.entries.faults(KEY) == ["its marker has the form 1, and this program reads form 2 only"]
    assert case.entries.all() == []
    assert case.entries.find(KEY) is None
    assert "form 1" in case.warnings[0]
    assert marker_path(KEY) in case.warnings[0]
    case.publish()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"seconds": "1"}, r"Expected `float`, got `str` - at `\$.record.seconds`"),
        ({"stage": {"kind": 1}}, r"Expected `str`, got `int` - at `\$.record.stage.kind`"),
        ({"stage": None}, r"at `\$.record.stage`"),
        ({"parents": ["../x"]}, "64 hexadecimal"),
        ({"unknown": 1}, "has changed"),
    ],
)
def test_a_record_of_another_form_is_refused(record: dict[str, Any], reason: str) -> None:
    """Fault: a number of another type, or a field that nobody reads, travels on from a store that others write to."""
    data = sealed(version=2, key=KEY, directory=f"{KEY}.{'0' * 12}", files={}, record=PLAIN | record)
    with pytest.raises(ValueError, match=reason):
        decode(KEY, data)


def test_the_first_of_two_publishers_stays(case: Case, tmp_path: Path) -> None:
    """Fault: a late publisher changes what others already read, leaves its files there, or a difference goes unsaid."""
    first = case.publish()
    assert case.entries.publish(KEY, case.source, list(CONTENT), record_of("other")) == first
    assert case.warnings == []
    (case.source / "state.safetensors").write_bytes(b"other")
    assert case.publish() == first
    assert len(case.warnings) == 1
    assert "state.safetensors" in case.warnings[0]
    assert len(case.attempts()) == 1


def test_publishers_at_the_same_moment(case: Case, tmp_path: Path) -> None:
    """Fault: two publishers mix their files, or each gets another entry."""
    barrier, published = threading.Barrier(6), list[Entry]()

    def work(number: int) -> None:
        source = fill(tmp_path / str(number), {"x": b"%d" % number * 50_000, "y": b"%d" % number})
        entries = Entries(case.entries.storage, case.warnings.append)
        barrier.wait()
        published.append(entries.publish(KEY, source, ["x", "y"], record_of(seconds=number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entry = case.entries.find(KEY)
    assert entry is not None
    assert case.entries.faults(KEY) == []
    assert case.entries.read(entry, "y") == b"%d" % entry.record.seconds
    assert published == [entry] * 6
    assert len(case.attempts()) == 1


@pytest.mark.parametrize("again", [False, True])
def test_an_entry_dropped_while_it_is_looked_at(case: Case, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """Fault: what another process dropped for the budget is reported as damage, or a newer entry goes with the old."""
    case.publish()
    other = Entries(case.entries.storage, case.warnings.append)
    listing = case.entries.storage.files

    def files(directory: str) -> dict[str, FileState]:
        monkeypatch.undo()
        other.drop(KEY)
        if again:
            case.publish(other)
        return listing(directory)

    monkeypatch.setattr(case.entries.storage, "files", files)
    assert not other.drop(KEY, b"an earlier marker")
    assert (case.entries.find(KEY) is not None) == again
    assert case.warnings == []
    assert (other.find(KEY) is not None) == again


@pytest.mark.parametrize("key", ["", "../" + KEY, KEY[1:], KEY.upper(), "a" * 63 + "/"])
def test_what_is_no_key_is_refused(case: Case, key: str) -> None:
    """Fault: a name leads out of the store."""
    with pytest.raises(ValueError, match="64 hexadecimal"):
        case.entries.find(key)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        case.entries.publish(key, case.source, [], RECORD)


def test_what_cannot_be_published_is_refused(case: Case) -> None:
    """Fault: a missing file leaves a part of an entry, or a record that no JSON holds is found later as damage."""
    with pytest.raises(FileNotFoundError, match="nothing"):
        case.entries.publish(KEY, case.source, [*CONTENT, "nothing"], RECORD)
    with pytest.raises(ValueError, match="finite"):
        case.entries.publish(KEY, case.source, list(CONTENT), record_of(seconds=float("nan")))
    assert case.entries.find(KEY) is None
    assert contents(case.root / FILES) == {}


class FailingStorage(ObjectStorage):
    """A bucket whose changes fail after the first few, as where a quota is reached or a network goes away."""

    def __init__(self, root: Path, allowed: int, once: bool) -> None:
        super().__init__(object_storage(root).store, "a bucket")
        self.left, self.once = allowed, once

    def _change(self, path: str) -> None:
        self.left -= 1
        with self._explained("change", path):
            if self.left == -1 or (self.left < 0 and not self.once):
                raise GenericError("Generic S3 error: no answer")

    def save(self, path: str, chunks: Any) -> None:
        self._change(path)
        super().save(path, chunks)

    def create(self, path: str, data: bytes) -> bool:
        self._change(path)
        return super().create(path, data)

    def remove(self, path: str) -> None:
        self._change(path)
        super().remove(path)

    def remove_directory(self, path: str) -> None:
        self._change(path)
        super().remove_directory(path)


@pytest.mark.parametrize("once", [False, True])
def test_a_bucket_that_fails_at_any_change(tmp_path: Path, once: bool) -> None:
    """Fault: a publication that broke off is found, blocks its key, leaves files, or the error names no path."""
    source = fill(tmp_path / "source", CONTENT)
    for allowed in range(100):
        root = tmp_path / str(allowed)
        sound = Case(object_storage(root), root, source)
        try:
            entry = sound.publish(Entries(FailingStorage(root, allowed, once), sound.warnings.append))
        except StoreError as error:
            assert "a bucket/" in str(error)  # noqa: PT017 - also the success of later rounds is tested
            assert sound.entries.find(KEY) is None
            assert not once or contents(root / FILES) == {}
            entry = sound.publish()
        else:
            break
        sound.entries.fetch(entry, root / "into")
        assert contents(root / "into") == CONTENT
    assert allowed > len(CONTENT)
    assert sound.entries.find(KEY) == entry


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


def test_a_process_that_dies_at_any_moment(tmp_path: Path) -> None:
    """Fault: a kill between two operations leaves something that is taken for an entry, or that blocks the key."""
    source = fill(tmp_path / "source", CONTENT)
    for count in range(200):
        root = tmp_path / str(count)
        case = Case(LocalStorage(root), root, source)
        ended = crash_after(count, case.publish, root)
        entry = case.entries.find(KEY)
        assert case.warnings == []
        assert entry is not None or not ended
        case.entries.fetch(entry or case.publish(), root / "into")
        assert contents(root / "into") == CONTENT
        if ended:
            break
    assert count > 10


@pytest.mark.parametrize("room", [0, 10, 5000])
def test_a_full_disk(case: Case, tmp_path: Path, room: int) -> None:
    """Fault: a part of an entry stays and takes the last room, is found, or the error does not say where."""
    with file_size_limit(room), pytest.raises(StoreError, match="File too large") as caught:
        case.publish()
    assert caught.value.errno == errno.EFBIG or isinstance(case.entries.storage, ObjectStorage)
    assert case.entries.storage.name in str(caught.value)
    assert case.entries.find(KEY) is None
    assert contents(case.root / FILES) == {}
    entry = case.publish()
    with file_size_limit(room), pytest.raises(OSError, match="File too large"):
        case.entries.fetch(entry, tmp_path / "into")
    assert not list((tmp_path / "into").rglob("*.part"))
    assert case.entries.find(KEY) == entry, "a full local disk is no damage of the store"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@settings(max_examples=25)
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
