"""The container: round trips, random damage, and files made by an enemy with a right checksum."""

import hashlib
import json
import lzma
import pickle
import random
import struct
from typing import Any

import pytest
import torch
import zstandard

from golf.artifact.codec import compress
from golf.artifact.container import ARTIFACT_CODECS, ArtifactError, decode, decode_stored, encode
from golf.artifact.quantizer import Quantised, dequantise, quantise
from golf.config.config import GridConfig

MODEL: dict[str, Any] = {"num_layers": 2, "value_layers": [1]}
HEADER = struct.Struct("<4sHBQQ32s")


def tensors() -> dict[str, Quantised | torch.Tensor]:
    """One tensor of each kind, a scalar and a name that is not ASCII."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 10, generator=generator)
    return {
        "rows": quantise(weight, GridConfig()),
        "gate": torch.tensor(0.25),
        "whole": quantise(weight.T.contiguous(), GridConfig(bits=8, per_row=False, percentiles=(1.0,))),
        "strided": weight.T[::2],
        "hälf": weight.half(),
    }


def forged(index: object, body: bytes = b"", raw: int | None = None) -> bytes:
    """An artifact with a right checksum around any index."""
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    payload = struct.pack("<I", len(text)) + text + body
    packed = zstandard.compress(payload)
    size = len(payload) if raw is None else raw
    return HEADER.pack(b"GOLF", 1, 0, size, len(packed), hashlib.sha256(packed).digest()) + packed


@pytest.mark.parametrize("codec", ARTIFACT_CODECS.values())
def test_round_trip(codec: str) -> None:
    """Catches values, shapes or names that change on the way, and bytes that differ from call to call."""
    stored = tensors()
    data = encode(stored, MODEL, codec, 6)
    assert data == encode(stored, MODEL, codec, 6)
    model, read = decode(data)
    assert model == MODEL
    assert list(read) == list(stored)
    for name, value in stored.items():
        wanted = dequantise(value) if isinstance(value, Quantised) else value.float()
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name], wanted)
    kept = decode_stored(data)[1]
    assert encode(kept, MODEL, codec, 6) == data
    assert type(kept["rows"]) is Quantised


@pytest.mark.parametrize("codec", ARTIFACT_CODECS.values())
def test_random_damage(codec: str) -> None:
    """Catches any damage that gives other weights, or an error of another type."""
    data = encode(tensors(), MODEL, codec, 6)
    _, wanted = decode(data)
    source = random.Random(7)
    for _ in range(400):
        bad = bytearray(data)
        kind = source.randrange(4)
        at = source.randrange(len(bad))
        if kind == 0:
            for _ in range(source.randint(1, 4)):
                bad[source.randrange(len(bad))] ^= 1 << source.randrange(8)
        elif kind == 1:
            del bad[at : at + source.randint(1, 60)]
        elif kind == 2:
            bad[at:at] = source.randbytes(source.randint(1, 9))
        else:
            bad[source.randrange(60)] = source.randrange(256)
        try:
            model, read = decode(bytes(bad))
        except ArtifactError:
            continue
        assert model == MODEL
        assert all(torch.equal(read[name], wanted[name]) for name in wanted)


def test_random_damage_under_a_right_checksum() -> None:
    """Catches errors of another type from a payload that an enemy changed and signed again."""
    data = encode(tensors(), MODEL, "zstd", 6)
    payload = zstandard.decompress(data[HEADER.size :])
    source = random.Random(8)
    for _ in range(600):
        bad = bytearray(payload)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(bad) if source.random() < 0.3 else 260)
            bad[at] = source.choice(b'0129[]{}",:x\xff') if source.random() < 0.7 else source.randrange(256)
        packed = zstandard.compress(bytes(bad), 1)
        header = HEADER.pack(b"GOLF", 1, 0, len(bad), len(packed), hashlib.sha256(packed).digest())
        try:
            _, read = decode(header + packed)
        except ArtifactError:
            continue
        assert all(bool(value.isfinite().all()) for value in read.values())


def test_version_1_is_read() -> None:
    """Catches old artifacts that are lost: version 1 has the layout of zstd."""
    data = bytearray(encode(tensors(), MODEL, "zstd", 6))
    data[4] = 1
    assert list(decode(bytes(data))[1]) == list(tensors())


def sealed_rans(head: bytes, words: bytes, raw_bytes: int, head_bytes: int | None = None) -> bytes:
    """An artifact of "rans" with a right checksum."""
    packed = compress(head, "lzma2", 6)
    packed = struct.pack("<II", len(head) if head_bytes is None else head_bytes, len(packed)) + packed + words
    return HEADER.pack(b"GOLF", 2, 3, raw_bytes, len(packed), hashlib.sha256(packed).digest()) + packed


def test_damage_inside_rans_under_a_right_checksum() -> None:
    """Catches errors of another type from a head or words that an enemy changed and signed again."""
    data = encode(tensors(), MODEL, "rans", 6)
    raw_bytes = HEADER.unpack_from(data)[3]
    head_bytes, packed_bytes = struct.unpack_from("<II", data, HEADER.size)
    start = HEADER.size + 8
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]
    head = lzma.decompress(data[start : start + packed_bytes], lzma.FORMAT_RAW, filters=filters)
    words = data[start + packed_bytes :]
    assert len(head) == head_bytes
    assert sealed_rans(head, words, raw_bytes) == data
    source = random.Random(9)
    for number in range(600):
        bad, bad_words = bytearray(head), bytearray(words)
        for _ in range(source.randint(1, 3)):
            part = bad_words if number % 4 == 0 else bad
            part[source.randrange(len(part))] = source.choice((0, 1, 55, 255, source.randrange(256)))
        if number % 10 == 0:
            bad, bad_words = bad[: source.randrange(len(bad))], bad_words[: source.randrange(len(bad_words))]
        promised = source.choice((None, None, 0, 2**28, 2**32 - 1, head_bytes + 1))
        try:
            _, read = decode(sealed_rans(bytes(bad), bytes(bad_words), raw_bytes + number % 3 // 2, promised))
        except ArtifactError:
            continue
        assert all(bool(value.isfinite().all()) for value in read.values())
    for cut in (HEADER.size, HEADER.size + 4, start, start + packed_bytes, len(data) - 2):
        packed = data[HEADER.size : cut]
        with pytest.raises(ArtifactError):
            decode(HEADER.pack(b"GOLF", 2, 3, raw_bytes, len(packed), hashlib.sha256(packed).digest()) + packed)


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("unpickled",)


def test_pickles_and_archives_are_refused() -> None:
    """Catches a reader that executes what it is given."""
    for bad in (pickle.dumps(Trap()), b"PK\x03\x04" + bytes(100)):
        with pytest.raises(ArtifactError, match="not executed"):
            decode(bad)


def test_other_versions_and_sizes() -> None:
    """Catches a believed size, and bytes read by the wrong version's rules."""
    data = encode(tensors(), MODEL, "zstd", 6)
    magic, version, codec, raw, packed, check = HEADER.unpack_from(data)
    body = data[HEADER.size :]
    for fields in (
        (b"GULF", version, codec, raw, packed, check),
        (magic, 0, codec, raw, packed, check),
        (magic, 3, codec, raw, packed, check),
        (magic, version, 1, raw, packed, check),
        (magic, version, 4, raw, packed, check),
        (magic, version, codec, 2**63, packed, check),
        (magic, version, codec, raw + 1, packed, check),
        (magic, version, codec, raw, 2**63, check),
    ):
        with pytest.raises(ArtifactError):
            decode(HEADER.pack(*fields) + body)
    for bad in (b"", b"GOLF", data[:-1], data[: HEADER.size], data + b"\0"):
        with pytest.raises(ArtifactError):
            decode(bad)


def one(kind: object, shape: object, name: object = "a") -> dict[str, Any]:
    """An index of one tensor."""
    return {"model": {}, "tensors": [[name, kind, shape]]}


@pytest.mark.parametrize(
    ("index", "body"),
    [
        (one("f32", [2**40]), b""),
        (one("f32", [2**20, 2**20, 2**20, 2**20]), b""),
        (one("f32", [0, 2**29]), b""),
        (one("f32", [-1, -1]), bytes(4)),
        (one("f32", [True]), bytes(4)),
        (one("f32", [1.0]), bytes(4)),
        (one("f32", "1"), bytes(4)),
        (one("f32", [1] * 5), bytes(4)),
        (one("f64", [1]), bytes(8)),
        (one(["f32"], [1]), bytes(4)),
        (one("q", [4]), bytes(6)),
        (one("f32", [1], 7), bytes(4)),
        (one("f32", [1]), bytes(5)),
        (one("f32", [1]), bytes(3)),
        (one("f32", [1]), struct.pack("<f", float("nan"))),
        (one("q", [1, 1]), b"\x00\x7c\x01"),
        ({"model": {}, "tensors": [["a", "f16", [1]], ["a", "f16", [1]]]}, bytes(4)),
        ({"model": {}, "tensors": [["a"]]}, b""),
        ({"model": {}, "tensors": {}}, b""),
        ({"model": [], "tensors": []}, b""),
        ({"tensors": []}, b""),
        ([], b""),
        (b"[" * 100_000, b""),
        (b'{"model":{},"tensors":[["a","f32",[' + b"9" * 5000 + b"]]]}", b""),
        (b"\xff\xfe", b""),
        (b" " * (2**20 + 1) + b'{"model":{},"tensors":[]}', b""),
    ],
)
def test_forged_index(index: object, body: bytes) -> None:
    """Catches an index that is believed: allocation by its word, other exceptions, NaN in the weights."""
    with pytest.raises(ArtifactError):
        decode(forged(index, body))


def test_index_beyond_the_payload() -> None:
    """Catches an index length that reaches past the end, and a payload too short to have one."""
    for payload in (b"\xff\xff\xff\xff{}", b"\x03\0\0\0{}", b"ab"):
        packed = zstandard.compress(payload)
        check = hashlib.sha256(packed).digest()
        with pytest.raises(ArtifactError):
            decode(HEADER.pack(b"GOLF", 1, 0, len(payload), len(packed), check) + packed)


@pytest.mark.parametrize(
    "bad",
    [
        torch.tensor([float("nan")]),
        torch.tensor([1e9]).half(),
        torch.ones(2).bfloat16(),
        torch.zeros(0),
        torch.arange(3),
    ],
)
def test_encode_refuses_what_decode_would(bad: torch.Tensor) -> None:
    """Catches an artifact that is written and cannot be read; the message names the tensor."""
    with pytest.raises(ValueError, match=r"^gate\.w: "):
        encode({"gate.w": bad}, MODEL, "zstd", 6)
