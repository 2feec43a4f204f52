"""The readers of weights that others may have written, each with an intact sample and the ways to spoil it.

Each sample makes spoiled bytes from a random source; `read` gives them to the real reader in a folder of its own.
Checksums are sealed again for most of them, because a reader that only its checksum defends is not defended from an
author.
"""

import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import zstandard

from benchmarks.mutations import EXTREMES, HUGE, spoil_bytes, spoil_json
from golf.artifact.codec import compress, decompress
from golf.artifact.container import ARTIFACT_CODECS, ARTIFACT_HEADER, ARTIFACT_MAGIC, MODELLED_HEAD
from golf.artifact.pack import pack, read_artifact
from golf.config.config import ModelConfig, OptimizerConfig, QuantConfig
from golf.model.gepa import build_model
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import read_stored, write_tensors
from golf.train.train_state import TrainState

MODEL = ModelConfig(
    vocab_size=300,
    num_layers=2,
    model_dim=32,
    num_heads=4,
    num_kv_heads=2,
    mlp_hidden=48,
    rope_dims=4,
    rope_train_length=16,
    bigram_buckets=64,
    bigram_dim=8,
    xsa_layers=1,
    value_dim=8,
    value_layers=(1,),
)
KEY = hashlib.sha256(b"a stage").hexdigest()


@dataclass(frozen=True)
class Reader:
    """A reader and how its files are spoiled."""

    spoil: Callable[[random.Random], bytes]
    """A hostile file."""
    read: Callable[[bytes], object]
    """Reads it; raises AssertionError where it took what it must not take."""
    path: Path
    """The file, which every error must name."""
    intact: bytes
    """A file that is read without an error."""


def artifact_reader(folder: Path) -> Reader:
    """An artifact: its header, its packed stream, its index and its tensors."""
    path = folder / "artifact.golf"
    weights = {name: parameter.detach() for name, parameter in build_model(MODEL, 1).named_parameters()}
    zstd, intact = (pack(weights, MODEL, QuantConfig(float_elements=300, codec=c)) for c in ("zstd", "rans"))
    payload = zstandard.ZstdDecompressor().decompress(zstd[ARTIFACT_HEADER.size :])
    end = 4 + int.from_bytes(payload[:4], "little")
    index, body = json.loads(payload[4:end]), payload[end:]
    kinds = [_spoil_file, _spoil_header, _spoil_stream, _spoil_payload, _spoil_index, _spoil_index, _spoil_model, _bomb]
    kinds += [_spoil_modelled, _spoil_modelled, _spoil_modelled, _bomb_modelled]

    def spoil(source: random.Random) -> bytes:
        return source.choice(kinds)(source, source.choice((zstd, intact)), index, body)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _, weights = read_artifact(path)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()), "NaN in the weights"

    return Reader(spoil, read, path, intact)


def sealed(payload: bytes, codec: int, packed: bytes | None = None, raw_bytes: int | None = None) -> bytes:
    """An artifact around a payload, or around any packed bytes, with a right checksum."""
    if packed is None:
        packed = compressed(payload, codec)
    size = len(payload) if raw_bytes is None else raw_bytes
    check = hashlib.sha256(packed).digest()
    return ARTIFACT_HEADER.pack(ARTIFACT_MAGIC, 1, codec, size % 2**64, len(packed), check) + packed


def compressed(payload: bytes, codec: int) -> bytes:
    """By the container's codec of that number."""
    name = ARTIFACT_CODECS.get(codec)
    if name == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(payload)
    if name == "rans":
        return MODELLED_HEAD.pack(len(payload), 0) + payload  # which is none
    return payload  # of a number that is no codec's


def _codec(source: random.Random) -> int:
    return source.choice((0, 0, 0, 0, 0, 0, 1, 3))


def _framed(index: bytes, body: bytes) -> bytes:
    return struct.pack("<I", len(index)) + index + body


def text_of(index: Any) -> bytes:
    return json.dumps(index, separators=(",", ":")).encode()


def _spoil_file(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    return spoil_bytes(source, intact)


def _spoil_header(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    fields: list[Any] = list(ARTIFACT_HEADER.unpack_from(intact))
    limits = {1: 2**16, 2: 2**8, 3: 2**64, 4: 2**64}
    for place in source.sample(list(limits), source.randint(1, 3)):
        fields[place] = source.choice((*EXTREMES, *HUGE, fields[place] + 1, fields[place] - 1)) % limits[place]
    return ARTIFACT_HEADER.pack(*fields) + intact[ARTIFACT_HEADER.size :]


def _spoil_stream(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    payload, codec = _framed(text_of(index), body), _codec(source)
    raw_bytes = len(payload) if source.random() < 0.7 else source.choice((*EXTREMES, *HUGE))
    return sealed(payload, codec, spoil_bytes(source, compressed(payload, codec)), raw_bytes)


def _spoil_payload(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    payload = spoil_bytes(source, _framed(text_of(index), body))
    if source.random() < 0.2:
        payload = struct.pack("<I", source.choice(EXTREMES) % 2**32) + payload[4:]
    return sealed(payload, _codec(source))


def _spoil_index(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    text = spoil_json(source, index)
    if source.random() < 0.1:
        body = body[len(body) // 2 :] + body[: len(body) // 2]
    return sealed(_framed(text, body), _codec(source))


def _spoil_model(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    """One or two fields of the model's shape; the tensors stay, so that only the model is at fault."""
    model = json.loads(text_of(index["model"]))
    for name in source.sample(list(model), source.choice((1, 1, 2))):
        model[name] = source.choice((*EXTREMES, *HUGE, -1, 0.5, float("inf"), float("nan"), None, True, [], [0] * 5000))
    return sealed(_framed(text_of({**index, "model": model}), body), _codec(source))


def _bomb(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    """A payload that unpacks to far more than its bytes, or than its header says; a model far larger than it is."""
    rows = source.choice((2**10, 2**18, 2**22))
    kind, width = source.choice((("q", 1), ("qr", 1), ("f16", 2), ("f32", 4)))
    shape = [1, rows] if kind == "q" else [rows, 1] if kind == "qr" else [rows]
    heads = {"q": 2, "qr": 2 * rows}.get(kind, 0)
    payload = _framed(
        text_of({"model": index["model"], "tensors": [["bomb", kind, shape]]}), bytes(heads + width * rows)
    )
    right, codec = len(payload), source.choice((0, 0, 0, 1))
    raw_bytes = source.choice((right, right, 100, right - 1, right + 1, 2**28, 2**30))
    packed = compressed(payload, codec)
    if codec == 0 and source.random() < 0.5:  # the frame repeats what the header says
        frame = zstandard.get_frame_parameters(packed)
        at = packed.find(frame.content_size.to_bytes(4, "little"))
        packed = packed[:at] + struct.pack("<I", raw_bytes % 2**32) + packed[at + 4 :] if at > 0 else packed
    return sealed(payload, codec, packed, raw_bytes)


def modelled(head: bytes, words: bytes, raw_bytes: int, sizes: tuple[int, int] | None = None) -> bytes:
    """An artifact of "rans" around a head and words, with a right checksum."""
    packed_head = compress(head, "lzma2", 0)
    packed = MODELLED_HEAD.pack(*(sizes or (len(head), len(packed_head)))) + packed_head + words
    check = hashlib.sha256(packed).digest()
    number = next(number for number, name in ARTIFACT_CODECS.items() if name == "rans")
    return ARTIFACT_HEADER.pack(ARTIFACT_MAGIC, 2, number, raw_bytes % 2**64, len(packed), check) + packed


def _spoil_modelled(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    """Any part of an artifact of "rans": the index, floats, spreads and tables of its head, the states and words."""
    if ARTIFACT_CODECS[intact[6]] != "rans":
        return _spoil_stream(source, intact, index, body)
    raw_bytes, (size, packed) = (
        ARTIFACT_HEADER.unpack_from(intact)[3],
        MODELLED_HEAD.unpack_from(intact, ARTIFACT_HEADER.size),
    )
    begin = ARTIFACT_HEADER.size + MODELLED_HEAD.size
    head, words = decompress(intact[begin : begin + packed], "lzma2", size), intact[begin + packed :]
    end = 4 + int.from_bytes(head[:4], "little")
    kind = source.randrange(6)
    if kind == 0:
        return modelled(head, spoil_bytes(source, words), raw_bytes)
    if kind == 1:
        text = spoil_json(source, json.loads(head[4:end]))
        changed = struct.pack("<I", len(text)) + text + head[end:]
        return modelled(changed, words, raw_bytes + len(text) + 4 - end)
    if kind == 2:
        sizes = tuple(source.choice((*EXTREMES, size, packed)) % 2**32 for _ in range(2))
        return modelled(head, words, raw_bytes, (sizes[0], sizes[1]))
    if kind == 3:
        spoiled = bytearray(head)
        for _ in range(source.randint(1, 8)):
            spoiled[source.randrange(end, len(head))] = source.choice((0, 1, 55, 56, 127, 255))
        return modelled(bytes(spoiled), words, raw_bytes)
    tail = head[:end] + spoil_bytes(source, head[end:])
    return modelled(tail, words, raw_bytes if kind == 4 else source.choice((*EXTREMES, *HUGE)))


def _bomb_modelled(source: random.Random, intact: bytes, index: Any, body: bytes) -> bytes:
    """Codes that take no bits at all, in numbers from few to too many."""
    side = 2 ** source.choice((4, 8, 11, 12, 13, 15, 20))
    text = text_of({"model": index["model"], "tensors": [["bomb", "q", [side, side]]]})
    table = bytes([1]) + bytes(255)
    head = struct.pack("<I", len(text)) + text + bytes(2) + bytes(2 * min(side, 2**16)) + table
    lanes = 1 << max(2, (side * side).bit_length() - 14)
    return modelled(head, struct.pack("<I", 2**16) * min(lanes, 2**16), 4 + len(text) + 2 + side * side)


def tensors_reader(folder: Path) -> Reader:
    """A file of tensors and plain values."""
    path = folder / "average.safetensors"
    tensors = {"a": torch.arange(6.0).view(2, 3), "b/c": torch.ones(4, dtype=torch.int64), "d": torch.zeros(0, 5)}
    write_tensors(path, {**tensors, "e": torch.tensor(1.5, dtype=torch.bfloat16)}, {"step": 3, "identity": KEY})
    return _tensors_reader(path, lambda: read_stored(path))


def state_reader(folder: Path) -> Reader:
    """A training state of the right run whose tensors are not."""
    path = folder / "state.safetensors"
    state = TrainState(build_model(MODEL, 1), OptimizerConfig(), ProcessGroup())
    state.save(path, {"seed": 1})

    def read() -> None:
        state.load(path, lambda step: {"seed": 1})
        assert state.step >= 0, "a step that is none"

    return _tensors_reader(path, read)


def _tensors_reader(path: Path, load: Callable[[], object]) -> Reader:
    """Spoils the header, the plain values in it and the rest of a file of tensors."""
    intact = path.read_bytes()
    end = 8 + int.from_bytes(intact[:8], "little")
    header, body = json.loads(intact[8:end]), intact[end:]

    def spoil(source: random.Random) -> bytes:
        kind = source.randrange(6)
        if kind == 0:
            return spoil_bytes(source, intact)
        if kind == 1:
            plain = spoil_json(source, json.loads(header["__metadata__"]["plain"]))
            text = text_of({**header, "__metadata__": {"plain": plain.decode(errors="replace")}})
        else:
            text = spoil_json(source, header)
        length = len(text) if source.random() < 0.9 else source.choice((*EXTREMES, *HUGE[:5])) % 2**64
        return length.to_bytes(8, "little") + text + (spoil_bytes(source, body) if kind == 2 else body)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load()

    return Reader(spoil, read, path, intact)
