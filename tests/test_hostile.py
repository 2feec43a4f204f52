"""Hostile files, for every reader: a small share of `benchmarks.hostile`, and what it has found, one by one."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.hostile import Worker, hostile, judge, plan_of, summary
from benchmarks.model_readers import KEY, MODEL, Reader, modelled, sealed
from benchmarks.readers import a_trial, ledger_line, make_readers, tokenizer_reader
from golf.artifact.container import LARGEST_PAYLOAD, ArtifactError
from golf.artifact.pack import unpack
from golf.config.config import to_plain
from golf.data.dataset import open_dataset
from golf.data.token_bytes import ByteTable
from golf.runtime.results import TrainResult, read_result
from tests.tune.toy_stages import record_of
from tune.cache.backend import LocalStorage, StoreError
from tune.cache.entry import ENTRY_VERSION, decode
from tune.cache.fingerprint import canonical
from tune.cache.lease import LeaseAcquirer, LeaseConfig, Pins
from tune.records.layout import Storage
from tune.records.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """All readers."""
    return make_readers(tmp_path_factory.mktemp("hostile"))


@pytest.mark.long
def test_no_reader_is_harmed(readers: dict[str, Reader]) -> None:
    """Fault: a spoiled file, sealed again or not, gives an error of another kind or without its name, or is taken."""
    for name, number in plan_of(1500):
        fault = judge(readers[name], hostile(readers[name], name, 77, number))
        assert fault is None, f"python -m benchmarks.hostile --seed 77 --only {name}:{number}: {fault}"


def test_intact_files_are_read(readers: dict[str, Reader]) -> None:
    """Fault: a reader that refuses all passes every other test here."""
    for reader in readers.values():
        assert judge(reader, reader.intact) is None


def broken(folder: Path) -> dict[str, Reader]:
    """Readers that crash, hang, take memory, fail in another way or take what they must not, and a good one."""

    def fail(error: Exception) -> Callable[[bytes], object]:
        def read(data: bytes) -> None:
            raise error

        return read

    reads: dict[str, Callable[[bytes], object]] = {
        "artifact": lambda data: os.kill(os.getpid(), signal.SIGSEGV),
        "shard": lambda data: time.sleep(60),
        "ledger": lambda data: len(bytearray(4 << 30)),
        "marker": fail(KeyError("x")),
        "pins": fail(ValueError("says nothing")),
        "config": fail(AssertionError("NaN")),
        "result": fail(ValueError(f"{folder / 'file'} is damaged")),
    }
    return {name: reader_of(read, folder / "file") for name, read in reads.items()}


def reader_of(read: Callable[[bytes], object], path: Path) -> Reader:
    """A reader that takes its intact file, and of every hostile one does as it is told."""
    return Reader(lambda source: b"", lambda data: data or read(data), path, b"intact")


@pytest.mark.long
def test_the_harness_sees_every_kind_of_crash() -> None:
    """Fault: a crash, a hang or a memory error that is counted as read."""
    plan = [(name, 5) for name in ("artifact", "shard", "ledger", "marker", "pins", "config", "result")]
    worker = Worker(plan, 0, seconds=1.0, make=broken)
    try:
        while worker.attend():
            time.sleep(0.05)
    finally:
        worker.stop()
    assert [crash.reader for crash in worker.crashes] == [name for name, _ in plan[:-1]]
    assert all(word in crash.what for word, crash in zip(("-11", "1 s", "Memory"), worker.crashes, strict=False))
    assert summary(worker.answers, worker.crashes)["hostile_inputs"] == len(plan)


def artifact(model: dict[str, Any], tensors: list[Any] | None = None, body: bytes = b"") -> bytes:
    """An artifact with a right checksum."""
    index = json.dumps({"model": {**to_plain(MODEL), **model}, "tensors": tensors or []}).encode()
    return sealed(len(index).to_bytes(4, "little") + index + body, 0)


@pytest.mark.parametrize(
    "model",
    [
        {"vocab_size": 300, "model_dim": 2**53, "num_layers": 2},
        {"mlp_hidden": 2**63},
        {"mlp_hidden": 10**400},
        {"bigram_dim": 2**62, "bigram_buckets": 2**62},
        {"depth_scaled_norm": [0] * 5000},
        {"k" * 100_000: 1},
    ],
)
def test_a_model_of_an_impossible_shape(model: dict[str, Any]) -> None:
    """Fault: torch's own error, or a message as long as the file."""
    tensors = [["a", "f32", [1]], ["b", "f32", [1]]]
    with pytest.raises(ArtifactError) as caught:
        unpack(artifact(model, tensors, bytes(8)))
    assert len(str(caught.value)) < 1000


BOMB = """
import resource, sys
from pathlib import Path
from golf.artifact.pack import read_artifact
limit = int(sys.argv[1])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
now = int(status["VmSize"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))
for path in sys.argv[2:]:
    try:
        read_artifact(Path(path))
    except ValueError as error:
        print(error)
"""


@pytest.mark.long
def test_a_bomb_takes_what_is_stated(tmp_path: Path) -> None:
    """Fault: a file of kilobytes takes all memory; docs/security.md states 2 GB."""
    rows, halves = LARGEST_PAYLOAD - 2000, LARGEST_PAYLOAD // 2 - 1000
    bombs = {"codes": (["bomb", "q", [1, rows]], rows + 2), "floats": (["bomb", "f16", [halves]], 2 * halves)}
    for name, (tensor, size) in bombs.items():
        (tmp_path / name).write_bytes(artifact({}, [tensor], bytes(size)))
        assert (tmp_path / name).stat().st_size < 100_000
    text = json.dumps({"model": to_plain(MODEL), "tensors": [["bomb", "q", [16_380, 16_380]]]}).encode()
    head = len(text).to_bytes(4, "little") + text + bytes(2 + 2 * 16_380) + bytes([1]) + bytes(255)
    words = struct.pack("<I", 2**16) * 2**14
    (tmp_path / "modelled").write_bytes(modelled(head, words, 4 + len(text) + 2 + 16_380**2))
    bombs |= {"modelled": ([], 0)}
    command = [sys.executable, "-c", BOMB, str(2 * 10**9), *(str(tmp_path / name) for name in bombs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(str(tmp_path / name) in done.stdout for name in bombs)


def resealed(**changes: Any) -> bytes:
    """The marker of an entry with other fields and a right checksum."""
    content: dict[str, Any] = {
        "version": ENTRY_VERSION,
        "key": KEY,
        "directory": f"{KEY}.0123456789ab",
        "files": {"live.pt": {"num_bytes": 10, "sha256": KEY}},
        "record": msgspec.to_builtins(record_of()),
    } | changes
    return canonical({**content, "sha256": hashlib.sha256(canonical(content)).hexdigest()}) + b"\n"


def test_a_marker_that_was_sealed_again() -> None:
    """Fault: a store that others write to names files elsewhere, another entry's, or sizes that are none."""
    assert decode(KEY, resealed()).directory.startswith(KEY)
    good = {"num_bytes": 10, "sha256": KEY}
    names = ["../x", "/etc/passwd", "a/../../b", "a//b", ".", "", "a\0b", "\ud800", "x" * 256, "a/" + "y" * 300]
    changes: list[dict[str, Any]] = [{"files": {name: good}} for name in names]
    sizes: tuple[Any, ...] = (-1, 1.5, "10", True, None, [], {})
    changes += [{"files": {"a": {**good, "num_bytes": size}}} for size in sizes]
    changes += [{"files": {"a": {**good, "sha256": value}}} for value in ("", "0", KEY.upper(), KEY + "0", 5, None)]
    directories = [KEY, f"{KEY}/..", f"{KEY}.0123456789ab/..", "..", f"{'0' * 64}.0123456789ab", 5, None, {}]
    changes += [{"directory": directory} for directory in directories]
    for change in changes:
        with pytest.raises(ValueError, match="its marker"):
            decode(KEY, resealed(**change))


def test_pins_and_leases_of_others(tmp_path: Path) -> None:
    """Fault: one file in a shared store stops every sweep that uses it."""
    storage, config = LocalStorage(tmp_path), LeaseConfig(lease_seconds=100.0)
    hostile_pins = (b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": [[]]}', b'{"keys": ["../x"]}', b"[" * 5000, b"\xff")
    for number, data in enumerate(hostile_pins):
        storage.create(f"pins/hostile.{number}", data)
    pins = Pins(storage, config)
    pins.pin([KEY], "honest")
    assert pins.pinned() == {KEY}
    pins.unpin("honest")
    for name in (f"{KEY}.", f"{KEY}.x", f"{KEY}.9x", f"{KEY}.{'9' * 5000}"[:250], f"{KEY}.0001"):
        storage.create(f"leases/{name}", b"beats")
    assert LeaseAcquirer(storage, KEY, config, lambda text: None).attempt() is not None


def test_a_pipe_in_a_store(tmp_path: Path) -> None:
    """Fault: a reader waits for ever for a writer of what is no file."""
    place = LocalStorage(tmp_path)
    (tmp_path / "entries").mkdir()
    os.mkfifo(tmp_path / "entries" / f"{KEY}.json")
    with pytest.raises(StoreError, match="not a regular file"):
        place.read(f"entries/{KEY}.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", [1]),
        ("bpb", "1.2"),
        ("bpb", True),
        ("bpb", 10**400),
        ("size", {"model_bytes": 1.5, "code_bytes": 1, "cap_bytes": 1}),
        ("rungs", [{"name": "ttt"}]),
        ("series", 5),
        ("state", "finished"),
        ("tags", "host"),
        ("trial", 5),
        ("sweep", {}),
        ("started", "now"),
        ("keys", [[]]),
        ("parameters", []),
    ],
)
def test_a_trial_that_no_program_wrote(tmp_path: Path, field: str, value: Any) -> None:
    """Fault: a line whose checksum is right and whose types are not stops every report of the ledger."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"\n".join((ledger_line(a_trial()), ledger_line({**a_trial(), field: value}), b"")))
    ledger = Ledger(path)
    assert len(ledger.trials()) == 1
    assert ledger.damaged[0].line_number == 2
    assert field in ledger.damaged[0].reason


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1500, 100_000])
def test_a_deep_line(tmp_path: Path, depth: int) -> None:
    """Fault: a value that is read but not written again ends the program."""
    path, inner = tmp_path / "ledger.jsonl", b"[" * depth + b"]" * depth
    path.write_bytes(b'{"a":' + inner + b',"crc32":"00000000"}\n' + ledger_line(a_trial()) + b"\n")
    ledger = Ledger(path)
    assert len(ledger.trials()) == 1
    assert len(ledger.damaged) == 1


def test_a_piece_that_is_no_text(readers: dict[str, Reader], tmp_path: Path) -> None:
    """Fault: sentencepiece's error, which names no file, and sizes of pieces that wrap around."""
    intact = readers["tokenizer"].intact
    path = tokenizer_reader(tmp_path, intact).path
    at = intact.index(b"<s>")
    for spoiled in (
        intact[:at] + b"\xff\xfe>" + intact[at + 3 :],
        intact.replace(b"\x01e", b"\x01\xe0", 1),
        b"",
        b"\n" * 9,
    ):
        path.write_bytes(spoiled)
        try:
            ByteTable.of_tokenizer(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - some are read, as pieces that are never used


@pytest.mark.parametrize("described", [{"bytes": "9", "sha256": KEY}, {"bytes": 9, "sha256": "x"}, {"bytes": 9}, 5, []])
def test_a_manifest_that_describes_nothing(readers: dict[str, Reader], described: Any) -> None:
    """Fault: any text passes as a dataset's hash, and with it as its identity."""
    path = readers["dataset"].path
    manifest = json.loads(readers["dataset"].intact)
    name = next(iter(manifest["files"]))
    path.write_text(json.dumps({**manifest, "files": {**manifest["files"], name: described}}))
    with pytest.raises(ValueError, match="no manifest"):
        open_dataset(path.parent)


@pytest.mark.parametrize("name", ["..", "../../x", "/etc", "a/b", ".", "", "a\0b", "x" * 256])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    """Fault: a sweep, a study or a trial of an entry writes outside of the storage."""
    storage = Storage(tmp_path)
    for place in (storage.sweep, storage.ray, storage.screened, lambda trial: storage.trial("demo", trial)):
        with pytest.raises(ValueError, match="one folder's name"):
            place(name)
    assert storage.report(name).parent == tmp_path / "reports"


@pytest.mark.parametrize("result", [[], 5, None, "text"])
def test_a_result_that_is_no_object(tmp_path: Path, result: Any) -> None:
    """Fault: a damaged result is taken for one, and the trial ends with an error of its reader."""
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"identity": KEY, "result": result}))
    assert read_result(path, TrainResult, KEY) is None
