"""The artifact's file: a fixed header, one packed payload, and nothing that can be executed.

Tensors and the model's configuration enter `encode`, bytes leave; `decode` goes back. The layout is in
docs/artifact-format.md. Every size is checked before it is believed and the checksum before anything is
unpacked, so a damaged or hostile file ends in `ArtifactError`. Never reads pickles.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golf.artifact.codec import CodecError, compress, decompress
from golf.artifact.grid import Quantised, dequantise

ARTIFACT_MAGIC = b"GOLF"
ARTIFACT_VERSION = 1
ARTIFACT_HEADER = struct.Struct("<4sHBQQ32s")
"""Magic, version, codec's number, raw bytes, packed bytes, SHA-256 of the packed bytes."""
ARTIFACT_CODECS = ("zstd", "lzma", "zlib")
"""A codec's number is its place."""
LARGEST_PAYLOAD = 2**28
"""Bytes after unpacking; the weights in float32 take four times as much at most."""
LARGEST_INDEX = 2**20
"""Bytes of the JSON index."""
MOST_DIMENSIONS = 4
FLOAT_KINDS = {"f32": "<f4", "f16": "<f2"}


class ArtifactError(ValueError):
    """An artifact that cannot be read: damaged, of another version, or not an artifact."""


def tensor_entry(value: Quantised | Tensor) -> tuple[str, list[int], bytes, bytes]:
    """Kind, shape, head bytes (scales or floats) and int8 code bytes of one tensor.

    Raises: ValueError on a tensor that is neither float32 nor float16, has no elements, too many dimensions, or
        holds NaN or infinity.
    """
    head, codes, kind = (value.scale, value.codes, "q") if isinstance(value, Quantised) else (value, None, "f")
    if not isinstance(value, Quantised):
        kind = {torch.float32: "f32", torch.float16: "f16"}.get(value.dtype, "")
    elif value.scale.ndim:
        kind = "qr"
    shape = list((head if codes is None else codes).shape)
    if not kind or len(shape) > MOST_DIMENSIONS or 0 in shape:
        raise ValueError(f"cannot store a tensor of type {head.dtype} and shape {shape}")
    if not head.isfinite().all():
        raise ValueError("a tensor holds NaN or infinity, or a value beyond its stored type")
    stored = head.detach().cpu().numpy()
    head_bytes = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    return kind, shape, head_bytes, b"" if codes is None else codes.cpu().numpy().tobytes()


def payload_parts(tensors: Mapping[str, Quantised | Tensor], model: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    """The index (JSON), all head bytes and all code bytes, in the order of `tensors`.

    Raises: ValueError naming the tensor that cannot be stored, or when the index is too long.
    """
    rows, heads, codes = [], [], []
    for name, value in tensors.items():
        try:
            kind, shape, head, code = tensor_entry(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        rows.append([name, kind, shape])
        heads.append(head)
        codes.append(code)
    content = {"model": dict(model), "tensors": rows}
    index = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    if len(index) > LARGEST_INDEX:
        raise ValueError(f"the index has {len(index):,} bytes, more than {LARGEST_INDEX:,}; use fewer tensors")
    return index, b"".join(heads), b"".join(codes)


def encode(tensors: Mapping[str, Quantised | Tensor], model: Mapping[str, Any], codec: str, level: int) -> bytes:
    """The artifact's bytes; the same for the same arguments.

    Args: tensors: quantised matrices, and float32 or float16 tensors; model: JSON values; codec, level: see
        `compress`.
    Raises: ValueError on what the format cannot hold; CodecError on an unknown or missing codec.
    """
    index, heads, codes = payload_parts(tensors, model)
    payload = struct.pack("<I", len(index)) + index + heads + codes
    if len(payload) > LARGEST_PAYLOAD:
        raise ValueError(f"the payload has {len(payload):,} bytes, more than {LARGEST_PAYLOAD:,}")
    packed = compress(payload, codec, level)
    check = hashlib.sha256(packed).digest()
    number = ARTIFACT_CODECS.index(codec)
    fields = (ARTIFACT_MAGIC, ARTIFACT_VERSION, number, len(payload), len(packed), check)
    return ARTIFACT_HEADER.pack(*fields) + packed


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The model's configuration as JSON values, and its tensors as float32.

    Raises: ArtifactError on anything but an intact artifact of this version. A missing zstandard is one, too.
    """
    codec, raw_bytes = _check_header(data)
    try:
        payload = decompress(data[ARTIFACT_HEADER.size :], codec, raw_bytes)
    except CodecError as error:
        raise ArtifactError(str(error)) from error
    if len(payload) < 4:
        raise ArtifactError("the payload has no index")
    end = 4 + int.from_bytes(payload[:4], "little")
    if end > min(len(payload), 4 + LARGEST_INDEX):
        raise ArtifactError(f"the index ends at byte {end:,}, beyond the payload or the largest index")
    model, rows = _read_index(payload[4:end])
    heads = [_head_bytes(kind, shape) for _, kind, shape in rows]
    codes = [math.prod(shape) if kind[0] == "q" else 0 for _, kind, shape in rows]
    if end + sum(heads) + sum(codes) != len(payload):
        raise ArtifactError(f"the index describes {sum(heads) + sum(codes):,} bytes, not {len(payload) - end:,}")
    tensors, head_at, code_at = {}, end, end + sum(heads)
    for (name, kind, shape), head, code in zip(rows, heads, codes, strict=True):
        floats = np.frombuffer(payload, FLOAT_KINDS.get(kind, "<f2"), head // (4 if kind == "f32" else 2), head_at)
        if not np.isfinite(floats).all():
            raise ArtifactError(f"tensor {name!r} holds NaN or infinity")
        if code:
            grid = torch.from_numpy(np.frombuffer(payload, np.int8, code, code_at).reshape(shape).copy())
            scale = torch.from_numpy(floats.astype(np.float16).reshape(shape[:1] if kind == "qr" else ()))
            tensors[name] = dequantise(Quantised(grid, scale))
        else:
            tensors[name] = torch.from_numpy(floats.astype(np.float32).reshape(shape))
        head_at, code_at = head_at + head, code_at + code
    return model, tensors


def _check_header(data: bytes) -> tuple[str, int]:
    """The codec and the payload's size, once magic, version, sizes and checksum hold."""
    for start, what in ((b"\x80", "a pickle"), (b"PK", "a zip archive (as torch.save writes)")):
        if data.startswith(start):
            raise ArtifactError(f"this is {what}, not an artifact: refused, not executed")
    if data[:4] != ARTIFACT_MAGIC:
        raise ArtifactError(f"not an artifact: it begins with {data[:4]!r}, not {ARTIFACT_MAGIC!r}")
    if len(data) < ARTIFACT_HEADER.size:
        raise ArtifactError(f"cut short: {len(data)} bytes, less than the header's {ARTIFACT_HEADER.size}")
    _, version, codec, raw_bytes, packed_bytes, check = ARTIFACT_HEADER.unpack_from(data)
    if version != ARTIFACT_VERSION:
        raise ArtifactError(f"version {version} is not the {ARTIFACT_VERSION} that this code reads")
    if codec >= len(ARTIFACT_CODECS):
        raise ArtifactError(f"codec number {codec} is unknown (known: 0 to {len(ARTIFACT_CODECS) - 1})")
    if raw_bytes > LARGEST_PAYLOAD:
        raise ArtifactError(f"promises {raw_bytes:,} bytes unpacked, more than {LARGEST_PAYLOAD:,}")
    found = len(data) - ARTIFACT_HEADER.size
    if found != packed_bytes:
        problem = "cut short" if found < packed_bytes else "trailing bytes"
        raise ArtifactError(f"{problem}: {found:,} packed bytes, the header says {packed_bytes:,}; copy it again")
    if hashlib.sha256(memoryview(data)[ARTIFACT_HEADER.size :]).digest() != check:
        raise ArtifactError("damaged: the packed bytes do not have the header's SHA-256; copy it again")
    return ARTIFACT_CODECS[codec], raw_bytes


def _read_index(index: bytes) -> tuple[dict[str, Any], list[tuple[str, str, list[int]]]]:
    """The model and the rows (name, kind, shape), each checked, from the JSON index."""
    try:
        content = json.loads(index)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the index is not JSON: {error}") from error
    if not isinstance(content, dict) or content.keys() != {"model", "tensors"}:
        raise ArtifactError('the index must hold "model" and "tensors"')
    model, rows = content["model"], content["tensors"]
    if not isinstance(model, dict) or not isinstance(rows, list):
        raise ArtifactError('the index\'s "model" must be an object and its "tensors" a list')
    checked: dict[str, tuple[str, str, list[int]]] = {}
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
        checked[name] = (name, kind, shape)
    return model, list(checked.values())


def _head_bytes(kind: str, shape: list[int]) -> int:
    """Bytes of a tensor's floats, or of its scales."""
    if kind[0] == "q":
        return 2 * (shape[0] if kind == "qr" else 1)
    return math.prod(shape) * (4 if kind == "f32" else 2)
