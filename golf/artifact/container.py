"""The artifact's file: a fixed header, the packed tensors, and nothing that can be executed.

zstd compresses everything as one payload; "rans" models the codes and compresses the rest as a head before them. The
layout is in docs/artifact-format.md. Every size is checked before memory is allocated for it, and the checksum before
anything is unpacked, so a damaged or hostile file raises `ArtifactError`. Never reads pickles.
"""

import hashlib
import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golf.artifact.codec import CodecError, compress, decompress
from golf.artifact.correction import restore
from golf.artifact.entropy_model import pack_codes, unpack_codes
from golf.artifact.quantizer import Quantised, dequantise

ModelFields = dict[str, Any]
"""Fields of the model's configuration, as JSON values."""
ARTIFACT_MAGIC = b"GOLF"
ARTIFACT_VERSION = 2
"""Version 1 had no rans; it is still read."""
ARTIFACT_HEADER = struct.Struct("<4sHBQQ32s")
"""Magic, version, codec's number, raw bytes, packed bytes, SHA-256 of the packed bytes."""
ARTIFACT_CODECS = {0: "zstd", 3: "rans"}
"""Codecs by the number in the header; 1 and 2 are no longer read."""
MODELLED_HEAD = struct.Struct("<II")
"""Of an artifact packed with rans: raw bytes and packed bytes of the head."""
LARGEST_PAYLOAD = 2**28
"""Bytes after unpacking; the weights in float32 take four times as much at most."""
LARGEST_INDEX = 2**20
"""Bytes of the JSON index."""
MOST_DIMENSIONS = 4
FLOAT_KINDS = {"f32": "<f4", "f16": "<f2"}


class TensorEntry(NamedTuple):
    """A tensor's entry in the index."""

    name: str
    kind: str
    """"f32", "f16", "q" (codes with one scale) or "qr" (codes with one scale per row)."""
    shape: list[int]

    @property
    def width(self) -> int:
        """Bytes of one of its floats or scales."""
        return 4 if self.kind == "f32" else 2

    @property
    def head_bytes(self) -> int:
        """Bytes of its floats, or of its scales."""
        if self.kind[0] == "q":
            return 2 * (self.shape[0] if self.kind == "qr" else 1)
        return math.prod(self.shape) * self.width

    @property
    def num_codes(self) -> int:
        """Number of its codes, a byte each before packing."""
        return math.prod(self.shape) if self.kind[0] == "q" else 0


Unpacked = tuple[ModelFields, list[TensorEntry], list[bytes], NDArray[np.int8]]
"""The model, the index, the head bytes of every tensor, and the codes of all quantised ones, one after another."""


class ArtifactError(ValueError):
    """An artifact that cannot be read: damaged, of another version, or not an artifact."""


def encode(
    tensors: Mapping[str, Quantised | Tensor], model: Mapping[str, Any], codec: str, level: int | None = None
) -> bytes:
    """Returns the artifact's bytes; the same for the same arguments.

    Args: tensors: quantised matrices, and float32 or float16 tensors; model: JSON values; codec: one of
        ARTIFACT_CODECS; level: see `compress`.
    Raises: ValueError on what the format cannot hold; CodecError on an unknown or missing codec.
    """
    entries, heads, matrices = [], [], []
    for name, value in tensors.items():
        try:
            kind, shape, head = stored_floats(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if isinstance(value, Quantised):
            matrices.append(value.codes.cpu().numpy())
        entries.append(TensorEntry(name, kind, shape))
        heads.append(head)
    index = index_bytes(model, entries)
    raw_bytes = len(index) + sum(entry.head_bytes + entry.num_codes for entry in entries)
    if raw_bytes > LARGEST_PAYLOAD:
        raise ValueError(f"the payload has {raw_bytes:,} bytes, more than {LARGEST_PAYLOAD:,}")
    if codec == "rans":
        side, words = pack_codes(matrices)
        raw = index + byte_planes(entries, heads) + side
        head = compress(raw, "lzma2", level)
        packed = MODELLED_HEAD.pack(len(raw), len(head)) + head + words
    else:
        packed = compress(b"".join([index, *heads, *(codes.tobytes() for codes in matrices)]), codec, level)
    check = hashlib.sha256(packed).digest()
    number = next(number for number, name in ARTIFACT_CODECS.items() if name == codec)
    return ARTIFACT_HEADER.pack(ARTIFACT_MAGIC, ARTIFACT_VERSION, number, raw_bytes, len(packed), check) + packed


def index_bytes(model: Mapping[str, Any], entries: Sequence[TensorEntry]) -> bytes:
    """Returns the index with its length before it."""
    text = json.dumps({"model": dict(model), "tensors": entries}, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LARGEST_INDEX:
        raise ValueError(f"the index has {len(text):,} bytes, more than {LARGEST_INDEX:,}; use fewer tensors")
    return len(text).to_bytes(4, "little") + text


def byte_planes(entries: Sequence[TensorEntry], heads: Sequence[bytes]) -> bytes:
    """Returns the bytes of all 4-byte floats, then of all 2-byte ones, by position: exponents are alike, last bits
    noise.
    """
    planes = []
    for width in (4, 2):
        floats = b"".join(head for entry, head in zip(entries, heads, strict=True) if entry.width == width)
        planes.append(np.frombuffer(floats, np.uint8).reshape(-1, width).T.tobytes())
    return b"".join(planes)


def stored_floats(value: Quantised | Tensor) -> tuple[str, list[int], bytes]:
    """Returns kind, shape and head bytes (scales or floats) of one tensor.

    Raises: ValueError on a tensor that is neither float32 nor float16, has no elements, too many dimensions, or
        holds NaN or infinity.
    """
    if isinstance(value, Quantised):
        head, shape, kind = value.scale, value.codes.shape, "qr" if value.scale.ndim else "q"
    else:
        head, shape, kind = value, value.shape, {torch.float32: "f32", torch.float16: "f16"}.get(value.dtype, "")
    if not kind or len(shape) > MOST_DIMENSIONS or 0 in shape:
        raise ValueError(f"cannot store a tensor of type {head.dtype} and shape {list(shape)}")
    if not head.isfinite().all():
        raise ValueError("a tensor holds NaN or infinity, or a value beyond its stored type")
    stored = head.detach().cpu().numpy()
    return kind, list(shape), stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def decode(
    data: bytes, known_codec: str | None = None, corrected: bool = True
) -> tuple[ModelFields, dict[str, Tensor]]:
    """Returns the model's configuration as JSON values, and its tensors as float32.

    Args: known_codec: of an artifact that the caller made; None: as its header says; corrected: whether it may have a
        low-rank correction.
    Raises: ArtifactError on anything but an intact artifact of a version known here. A missing zstandard is one, too.
    """
    model, tensors = decode_stored(data, known_codec)
    if not corrected:
        return model, {n: dequantise(t) if isinstance(t, Quantised) else t.float() for n, t in tensors.items()}
    try:
        return model, restore(tensors)
    except ValueError as error:
        raise ArtifactError(str(error)) from error


def decode_stored(data: bytes, known_codec: str | None = None) -> tuple[ModelFields, dict[str, Quantised | Tensor]]:
    """Returns the same as `decode`, with the tensors as they are stored."""
    stored_codec, raw_bytes = _check_header(data)
    codec = stored_codec if known_codec is None else known_codec
    packed = data[ARTIFACT_HEADER.size :]
    try:
        read = _read_modelled(packed, raw_bytes) if codec == "rans" else _read_payload(packed, codec, raw_bytes)
    except CodecError as error:
        raise ArtifactError(str(error)) from error
    model, entries, heads, codes = read
    tensors: dict[str, Quantised | Tensor] = {}
    taken = 0
    for entry, head in zip(entries, heads, strict=True):
        kind = FLOAT_KINDS.get(entry.kind, "<f2")
        floats = torch.from_numpy(np.frombuffer(head, kind).astype(kind[1:]))
        if not floats.isfinite().all():
            raise ArtifactError(f"tensor {entry.name!r} holds NaN or infinity")
        if entry.num_codes:
            grid = torch.from_numpy(codes[taken : taken + entry.num_codes].reshape(entry.shape).copy())
            tensors[entry.name] = Quantised(grid, floats.reshape(entry.shape[:1] if entry.kind == "qr" else ()))
            taken += entry.num_codes
        else:
            tensors[entry.name] = floats.reshape(entry.shape)
    return model, tensors


def _read_payload(packed: bytes, codec: str, raw_bytes: int) -> Unpacked:
    """Returns the content of a payload that was compressed as a whole."""
    payload = decompress(packed, codec, raw_bytes)
    model, entries, at = _read_index(payload)
    heads = []
    for entry in entries:
        heads.append(payload[at : at + entry.head_bytes])
        at += entry.head_bytes
    code_bytes, described = len(payload) - at, sum(entry.num_codes for entry in entries)
    if code_bytes != described:
        raise ArtifactError(f"the index describes {described:,} bytes of codes, not {code_bytes:,}")
    return model, entries, heads, np.frombuffer(payload, np.int8, offset=at)


def _read_modelled(packed: bytes, raw_bytes: int) -> Unpacked:
    """Returns the content of an artifact packed with "rans".

    Its parts are sizes, then a head of the index, the floats by their planes and the side part, then words.
    """
    if len(packed) < MODELLED_HEAD.size:
        raise ArtifactError(f"cut short: {len(packed)} packed bytes have no head")
    head_bytes, end = MODELLED_HEAD.unpack_from(packed)
    end += MODELLED_HEAD.size
    if end > len(packed) or head_bytes > LARGEST_PAYLOAD:
        raise ArtifactError(f"the head promises {head_bytes:,} bytes and ends at packed byte {end:,}")
    raw = decompress(packed[MODELLED_HEAD.size : end], "lzma2", head_bytes)
    model, entries, at = _read_index(raw)
    described = at + sum(entry.head_bytes + entry.num_codes for entry in entries)
    if described != raw_bytes:
        raise ArtifactError(f"the index describes {described:,} bytes, not the header's {raw_bytes:,}")
    streams = {}
    for width in (4, 2):
        size = sum(entry.head_bytes for entry in entries if entry.width == width)
        if at + size > len(raw):
            raise ArtifactError("the head ends before its floats")
        streams[width] = io.BytesIO(np.frombuffer(raw, np.uint8, size, at).reshape(width, -1).T.tobytes())
        at += size
    heads = [streams[entry.width].read(entry.head_bytes) for entry in entries]
    shapes = [(entry.shape[0], entry.shape[1]) for entry in entries if entry.num_codes]
    return model, entries, heads, unpack_codes(raw[at:], packed[end:], shapes)


def _check_header(data: bytes) -> tuple[str, int]:
    """Returns the codec and the payload's size, after magic, version, sizes and checksum are checked."""
    for start, what in ((b"\x80", "a pickle"), (b"PK", "a zip archive (as torch.save writes)")):
        if data.startswith(start):
            raise ArtifactError(f"this is {what}, not an artifact: refused, not executed")
    if data[:4] != ARTIFACT_MAGIC:
        raise ArtifactError(f"not an artifact: it begins with {data[:4]!r}, not {ARTIFACT_MAGIC!r}")
    if len(data) < ARTIFACT_HEADER.size:
        raise ArtifactError(f"cut short: {len(data)} bytes, less than the header's {ARTIFACT_HEADER.size}")
    _, version, codec, raw_bytes, packed_bytes, check = ARTIFACT_HEADER.unpack_from(data)
    if not 1 <= version <= ARTIFACT_VERSION:
        raise ArtifactError(f"version {version} is none that this code reads (1 to {ARTIFACT_VERSION})")
    if codec not in ARTIFACT_CODECS:
        raise ArtifactError(f"codec number {codec} is unknown (known: {list(ARTIFACT_CODECS)})")
    if raw_bytes > LARGEST_PAYLOAD:
        raise ArtifactError(f"promises {raw_bytes:,} bytes unpacked, more than {LARGEST_PAYLOAD:,}")
    body_bytes = len(data) - ARTIFACT_HEADER.size
    if body_bytes != packed_bytes:
        problem = "cut short" if body_bytes < packed_bytes else "trailing bytes"
        raise ArtifactError(f"{problem}: {body_bytes:,} packed bytes, the header says {packed_bytes:,}; copy it again")
    if hashlib.sha256(memoryview(data)[ARTIFACT_HEADER.size :]).digest() != check:
        raise ArtifactError("damaged: the packed bytes do not have the header's SHA-256; copy it again")
    return ARTIFACT_CODECS[codec], raw_bytes


def _read_index(payload: bytes) -> tuple[ModelFields, list[TensorEntry], int]:
    """Returns the model and the tensors of the JSON index that begins a payload, each checked, and the index's end."""
    end = 4 + int.from_bytes(payload[:4], "little")
    if end > min(len(payload), 4 + LARGEST_INDEX):
        raise ArtifactError(f"the index ends at byte {end:,}, beyond the payload or the largest index")
    try:
        content = json.loads(payload[4:end])
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the index is not JSON: {error}") from error
    if not isinstance(content, dict) or content.keys() != {"model", "tensors"}:
        raise ArtifactError('the index must hold "model" and "tensors"')
    model, rows = content["model"], content["tensors"]
    if not isinstance(model, dict) or not isinstance(rows, list):
        raise ArtifactError('the index\'s "model" must be an object and its "tensors" a list')
    checked: dict[str, TensorEntry] = {}
    for row in rows:
        if not isinstance(row, list) or len(row) != 3 or not isinstance(row[0], str):
            raise ArtifactError(f"a tensor must be [name, kind, shape], got {str(row)[:80]}")
        name, kind, shape = row
        if kind not in ("f32", "f16", "q", "qr"):
            raise ArtifactError(f"tensor {name!r} is of unknown kind {str(kind)[:20]!r}")
        right = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
        right = right and all(type(d) is int and 1 <= d <= LARGEST_PAYLOAD for d in shape)
        if not right or (kind[0] == "q" and len(shape) != 2):
            raise ArtifactError(f"tensor {name!r} of kind {kind} has the impossible shape {str(shape)[:80]}")
        if name in checked:
            raise ArtifactError(f"tensor {name!r} is there twice")
        checked[name] = TensorEntry(name, kind, shape)
    return model, list(checked.values()), end
