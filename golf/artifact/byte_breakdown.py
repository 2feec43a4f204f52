"""How many bytes of an artifact each tensor takes, from the artifact's bytes alone.

The rows sum to the file's size. What a codec packs together belongs to no tensor alone: each gets a share of it, by its
bits under the codec's tables (rans) or by its size when compressed alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from golf.artifact.codec import compress
from golf.artifact.container import (
    ARTIFACT_CODECS,
    ARTIFACT_HEADER,
    MODELLED_HEAD,
    TensorEntry,
    byte_planes,
    decode_stored,
    index_bytes,
    stored_floats,
)
from golf.artifact.entropy_model import class_counts, class_tables, code_spreads, table_frequencies
from golf.artifact.pack import FLOAT_GROUP, group_of
from golf.artifact.quantizer import Quantised
from golf.artifact.rans import RANS_BITS

LEDGER_HEADER = "header"
"""Name of the row of the file's header and its index."""
LEDGER_LEVEL = 6
"""Compression level for parts that are compressed alone, where only the share matters."""


def byte_ledger(data: bytes) -> dict[str, dict[str, float]]:
    """Returns the rows by name of the tensor, and LEDGER_HEADER last.

    Returns: "elements"; "bits", of a code or a float; "raw_bytes", codes (a byte each), scales and floats;
        "packed_bytes", the part of the file; of quantised tensors also "entropy_bytes", the order-0 entropy of the
        codes, which is the least without a model, and "code_bytes", those of the codes after the codec.
    Raises: ArtifactError as `decode`.
    """
    model, tensors = decode_stored(data)
    stored = {name: stored_floats(tensor) for name, tensor in tensors.items()}
    entries = [TensorEntry(name, kind, shape) for name, (kind, shape, _) in stored.items()]
    codes = {name: tensor.codes.numpy() for name, tensor in tensors.items() if isinstance(tensor, Quantised)}
    codec, size = ARTIFACT_CODECS[data[6]], len(data) - ARTIFACT_HEADER.size
    bare = "lzma2" if codec == "rans" else codec
    heads = {entry.name: _alone(byte_planes([entry], [stored[entry.name][2]]), bare) for entry in entries}
    heads[LEDGER_HEADER] = _alone(index_bytes(model, entries), bare)
    if codec == "rans":
        side, weights = _modelled(list(codes.values()))
        head = MODELLED_HEAD.unpack_from(data, ARTIFACT_HEADER.size)[1]
        heads = _shared(head, heads | {"": side})
        coded = _shared(size - MODELLED_HEAD.size - head + heads[""], dict(zip(codes, weights, strict=True)))
    else:
        code_parts = {f"{name}/codes": _alone(grid.tobytes(), codec) for name, grid in codes.items()}
        heads = _shared(size, heads | code_parts)
        coded = {name: heads[f"{name}/codes"] for name in codes}
    rows: dict[str, dict[str, float]] = {}
    for entry in entries:
        name, elements = entry.name, float(math.prod(entry.shape))
        rows[name] = {"elements": elements, "bits": 8.0 * entry.width, "raw_bytes": float(entry.head_bytes)}
        rows[name]["packed_bytes"] = float(int(heads[name] + coded.get(name, 0.0)))
        if name in codes:
            rows[name]["bits"] = float(max(int(codes[name].max()), ~int(codes[name].min())).bit_length() + 1)
            rows[name]["raw_bytes"] += elements
            rows[name] |= {"entropy_bytes": entropy_bytes(codes[name]), "code_bytes": coded[name]}
    rest = len(data) - sum(row["packed_bytes"] for row in rows.values())
    raw = float(ARTIFACT_HEADER.size + len(index_bytes(model, entries)))
    return rows | {LEDGER_HEADER: {"elements": 0.0, "raw_bytes": raw, "packed_bytes": rest}}


def group_ledger(data: bytes) -> dict[str, dict[str, float]]:
    """Returns `byte_ledger` summed by tensor group ("float" for what is not quantised), without the bits."""
    groups: dict[str, dict[str, float]] = {}
    for name, row in byte_ledger(data).items():
        floats = name if name == LEDGER_HEADER else FLOAT_GROUP
        group = groups.setdefault(group_of(name) if "entropy_bytes" in row else floats, {})
        group |= {field: group.get(field, 0.0) + value for field, value in row.items() if field != "bits"}
    return {group: {"entropy_bytes": 0.0} | row for group, row in groups.items()}


def ledger_lines(rows: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yields the rows of `byte_ledger` as a table with the distance of the codes to their entropy, and the sums."""
    summed = ("elements", "entropy_bytes", "code_bytes", "packed_bytes")
    total = {field: sum(row.get(field, 0.0) for row in rows.values()) for field in summed}
    width = max(map(len, rows))
    titles = f"{'elements':>11s} {'bits':>4s} {'codes':>11s} {'entropy':>11s} {'distance':>9s} {'all bytes':>11s}"
    yield f"{'tensor':{width}s} {titles}"
    for name, row in [*rows.items(), ("sum", total)]:
        entropy, codes = row.get("entropy_bytes", 0.0), row.get("code_bytes", 0.0)
        distance = f"{100 * (codes / entropy - 1):+.2f} %" if entropy else ""
        bits = f"{row['bits']:.0f}" if "bits" in row else ""
        parts = f"{codes:11,.0f} {entropy:11,.0f}" if codes else 23 * " "
        yield f"{name:{width}s} {row['elements']:11,.0f} {bits:>4s} {parts} {distance:>9s} {row['packed_bytes']:11,.0f}"


def entropy_bytes(codes: NDArray[np.int8]) -> float:
    """Returns the order-0 entropy of all the codes together, in bytes."""
    counts = np.bincount(codes.ravel().view(np.uint8)).astype(float)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum()) / 8


def _modelled(matrices: Sequence[NDArray[np.int8]]) -> tuple[float, list[float]]:
    """Returns the bytes of spreads and tables alone, and what each matrix costs under them with its own spreads."""
    spreads = code_spreads(matrices)
    tables = class_tables(matrices, spreads)
    frequencies = table_frequencies(tables)
    bits = RANS_BITS - np.log2(np.maximum(frequencies, 1))
    sides = [b"".join(part.tobytes() for part in spread) for spread in spreads]
    weights = [
        float((class_counts(codes, spread, len(tables)) * bits).sum()) / 8 + _alone(side, "lzma2")
        for codes, spread, side in zip(matrices, spreads, sides, strict=True)
    ]
    return _alone(b"".join(sides) + tables.tobytes(), "lzma2"), weights


def _alone(data: bytes, codec: str) -> float:
    return float(len(compress(data, codec, LEDGER_LEVEL))) if data else 0.0


def _shared(size: float, alone: Mapping[str, float]) -> dict[str, float]:
    """Returns `size` bytes divided in the proportions of `alone`."""
    total = sum(alone.values())
    return {name: size * part / total for name, part in alone.items()}
