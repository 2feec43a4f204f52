"""The readers of files that others may have written, each with an intact sample and the ways to spoil it.

Each sample makes spoiled bytes from a random source; `read` gives them to the real reader in a folder of its own. A
reader must return, or raise one of its errors with the file's name in a message of bounded length.
"""

import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.model_readers import (
    KEY,
    MODEL,
    Reader,
    artifact_reader,
    state_reader,
    tensors_reader,
    text_of,
)
from benchmarks.mutations import EXTREMES, HUGE, spoil_bytes, spoil_json, spoil_value
from golf.cli.inputs import config_from
from golf.config.config import RunConfig, to_plain
from golf.data.dataset import DATASET_MANIFEST, open_dataset
from golf.data.shards import check_ids, token_stream, write_shard
from golf.data.text import prepare_text
from golf.data.token_bytes import ByteTable
from golf.runtime.results import TrainResult, read_result
from tests.tune.entries import scored
from tune.cache.backend import LocalStorage
from tune.cache.entry import Entry, EntryRecord, FileSum, decode
from tune.cache.entry import encode as marker
from tune.cache.fingerprint import canonical
from tune.cache.lease import LeaseConfig, Pins
from tune.cache.stage_graph import StageName
from tune.cli.ledger import listing
from tune.records.entries import ArtifactSize, Series
from tune.records.export import trial_table
from tune.records.ledger import SERIES, Ledger
from tune.records.lines import encode_line, with_checksum
from tune.search.space import Trial

LONGEST_MESSAGE = 2000
"""Characters of an error that still says something."""


def make_readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name, with its files below `folder`."""
    data = folder / "data"
    text = random.Random(1)
    words = ["".join(text.choices("etaoinshrdlu", k=text.randint(2, 8))) for _ in range(60)]
    texts = [(str(number), " ".join(text.choices(words, k=60))) for number in range(40)]
    prepare_text(texts, data, "words", vocab_size=MODEL.vocab_size, log=lambda line: None)
    return {
        "artifact": artifact_reader(folder),
        "tensors": tensors_reader(folder),
        "state": state_reader(folder),
        "shard": shard_reader(folder),
        "ledger": ledger_reader(folder),
        "series": series_reader(folder),
        "marker": marker_reader(folder),
        "pins": pins_reader(folder),
        "dataset": dataset_reader(data),
        "tokenizer": tokenizer_reader(folder, next(data.glob("*.model")).read_bytes()),
        "config": config_reader(folder),
        "result": result_reader(folder),
    }


def shard_reader(folder: Path) -> Reader:
    """A shard of tokens."""
    path = folder / "words_val_000000.bin"
    write_shard(path, np.arange(700, dtype=np.uint16) % 300)
    intact = path.read_bytes()

    def spoil(source: random.Random) -> bytes:
        kind = source.randrange(4)
        if kind == 0:
            return spoil_bytes(source, intact)
        header, tokens = list(struct.unpack("<256i", intact[:1024])), intact[1024:]
        if kind == 1:
            tokens = spoil_bytes(source, tokens)
            header[2] = len(tokens) // 2
        else:
            for place in source.sample(range(4), source.choice((1, 1, 2))):
                header[place] = (source.choice((*EXTREMES, *HUGE, -1, -(2**31))) + 2**31) % 2**32 - 2**31
            if kind == 3:
                header[:2] = struct.unpack("<2i", intact[:8])
                tokens = tokens[: 2 * max(0, min(header[2], 700))] + source.randbytes(source.choice((0, 1, 2)))
        return struct.pack("<256i", *header) + tokens

    def read(data: bytes) -> None:
        path.write_bytes(data)
        stream = token_stream([path], 300)
        check_ids(path, stream.shards[0], 300)
        assert stream.read(stream.num_tokens - 1, 5).max() < 300, "a token outside the vocabulary"

    return Reader(spoil, read, path, intact)


def a_trial() -> dict[str, Any]:
    """Returns a small trial's entry as the ledger has it, as JSON values."""
    trial = Trial(trial="0123456789ab", parameters={"schedule.steps": 6}, name="steps=6", config=to_plain(RunConfig()))
    size = ArtifactSize(model_bytes=800, code_bytes=100, cap_bytes=1000)
    record = scored(trial, 1.2, size=size, keys=(KEY,), seconds={"pack": 0.5}, tags={"host": "here"}, series=KEY)
    return json.loads(encode_line(record, "2026-01-01T00:00:00Z"))


def ledger_line(values: Any) -> bytes:
    """Returns JSON values as a line, with a right checksum where they are an object."""
    if not isinstance(values, Mapping):
        return json.dumps(values).encode()
    content = {name: value for name, value in values.items() if name != "crc32"}
    return with_checksum(json.dumps(content).encode())


def ledger_reader(folder: Path) -> Reader:
    """A line of the ledger between two intact ones, and what lists and exports it."""
    path = folder / "ledger.jsonl"
    beside = [ledger_line({**a_trial(), "trial": letter * 12}) for letter in "ab"]

    def spoil(source: random.Random) -> bytes:
        if source.random() < 0.2:
            return spoil_bytes(source, ledger_line(a_trial()))
        if source.random() < 0.2:
            return spoil_json(source, a_trial())
        try:
            return ledger_line(spoil_value(source, spoil_value(source, a_trial())))
        except (ValueError, TypeError, RecursionError):
            return spoil_json(source, a_trial())

    def read(data: bytes) -> None:
        path.write_bytes(b"\n".join((beside[0], data, beside[1], b"")))
        ledger = Ledger(path)
        entries = ledger.trials()
        assert {"a" * 12, "b" * 12} <= {entry.trial for entry in entries}, "an intact line is lost"
        assert all(len(line.reason) + len(line.text) <= LONGEST_MESSAGE for line in ledger.damaged), "a long message"
        trial_table(entries)
        listing(entries, 120)

    return Reader(spoil, read, path, ledger_line(a_trial()))


def series_reader(folder: Path) -> Reader:
    """The curves and chunk sums of a trial, in a file under the SHA-256 of what it holds."""
    ledger, trial = Ledger(folder / "ledger.jsonl"), Trial(trial="a" * 12, parameters={}, name="a", config={})
    points = [[step, 1.5 + step, 5.0 / (step + 1)] for step in range(20)]
    intact = Series({"train_loss": points, "ttt_bpb": points[:3]}, {"ttt": points[:4]}).encode()

    def spoil(source: random.Random) -> bytes:
        if source.random() < 0.3:
            return spoil_bytes(source, intact)
        file = io.BytesIO()  # the archive's own checksums are right
        with zipfile.ZipFile(io.BytesIO(intact)) as before, zipfile.ZipFile(file, "w") as after:
            for name in before.namelist():
                after.writestr(name, spoil_bytes(source, before.read(name)))
        return file.getvalue()

    def read(data: bytes) -> None:
        path = ledger.series_path(hashlib.sha256(data).hexdigest())
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        try:
            series = ledger.series(scored(trial, 1.2, series=path.stem))
        finally:
            path.unlink()
        for rows in (*series.curves.values(), *series.chunks.values()):
            assert rows.shape[1:] == (3,), "rows of another width"
            assert np.isfinite(rows).all(), "a number that is none"

    return Reader(spoil, read, ledger.path.parent / SERIES, intact)


def marker_reader(folder: Path) -> Reader:
    """The marker of a store entry."""
    into, path = folder / "into", folder / f"{KEY}.json"
    files = {"live.pt": FileSum(10, KEY), "a/b.json": FileSum(3, KEY)}
    record = EntryRecord(stage=StageName("train"), seconds=2.5, parents=(KEY,))
    intact = marker(Entry(KEY, f"{KEY}.0123456789ab", files, record))

    def spoil(source: random.Random) -> bytes:
        if source.random() < 0.2:
            return spoil_bytes(source, intact)
        content = json.loads(intact)
        try:
            content = spoil_value(source, content)
            if isinstance(content, dict):
                content.pop("sha256", None)
                content["sha256"] = hashlib.sha256(canonical(content)).hexdigest()
            return canonical(content) + b"\n"
        except (ValueError, TypeError, RecursionError):
            return spoil_json(source, json.loads(intact))

    def read(data: bytes) -> None:
        try:
            entry = decode(KEY, data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error  # as its caller says it
        assert entry.num_bytes >= 0, "a negative size"
        assert entry.directory.startswith(KEY), "another entry's folder"
        for name in entry.files:
            assert (into / name).resolve().is_relative_to(into.resolve()), "a file outside its folder"

    return Reader(spoil, read, path, intact)


def pins_reader(folder: Path) -> Reader:
    """A pin: which keys an unfinished trial needs."""
    place = LocalStorage(folder / "store")
    pins = Pins(place, LeaseConfig(lease_seconds=1000.0))
    place.create("pins/hostile.0", b"")
    path = folder / "store" / "pins" / "hostile.0"
    intact = {"owner": "trial", "keys": [KEY]}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert all(isinstance(key, str) for key in pins.pinned()), "a key that is no text"

    return Reader(lambda source: spoil_json(source, intact), read, path, canonical(intact))


def dataset_reader(folder: Path) -> Reader:
    """A prepared folder whose manifest is hostile."""
    path = folder / DATASET_MANIFEST
    intact = json.loads(path.read_bytes())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert len(open_dataset(folder, 300).digest) == 64, "no digest"

    return Reader(lambda source: spoil_json(source, intact), read, path, text_of(intact))


def tokenizer_reader(folder: Path, intact: bytes) -> Reader:
    """A tokenizer's model."""
    path = folder / "words.model"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        table = ByteTable.of_tokenizer(path)
        assert table.base.min() >= 0, "a negative number of bytes"

    return Reader(lambda source: spoil_bytes(source, intact), read, path, intact)


def config_reader(folder: Path) -> Reader:
    """The configuration of a run."""
    path = folder / "config.json"
    intact = to_plain(RunConfig())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        config_from(path)

    return Reader(lambda source: spoil_json(source, intact), read, path, text_of(intact))


def result_reader(folder: Path) -> Reader:
    """A stage's kept result."""
    path = folder / "train.json"
    intact = {"identity": KEY, "result": {"seconds": 2.5, "steps": 6, "tokens": 768, "device": "1 x cpu", "log": []}}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_result(path, TrainResult, KEY)

    return Reader(lambda source: spoil_json(source, intact), read, path, text_of(intact))
