"""General compressors on the validation text, in bits per byte: a figure to stand a model's beside.

They learn from the text while they compress it and know no other; a model was trained on other text, and its bytes do
not count in its BPB. The comparison shows scale, not merit.
"""

import importlib.util
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from golf.artifact import codec
from golf.data.text import VALIDATION_TEXT

Compress = Callable[[bytes], bytes]
PPMD_ORDER, PPMD_BYTES = 6, 64 << 20
"""Longest context in bytes, and memory of the context mixer."""


def compressors() -> dict[str, Compress]:
    """Returns the compressors by name, the context mixer where the package pyppmd is installed."""
    known: dict[str, Compress] = {
        "zlib": lambda text: zlib.compress(text, 9),
        "xz": lambda text: lzma.compress(text, preset=9),
        "zstd": lambda text: codec.compress(text, "zstd", 22),
    }
    if importlib.util.find_spec("pyppmd"):
        known["ppmd"] = _ppmd
    return known


def _ppmd(text: bytes) -> bytes:
    pyppmd = importlib.import_module("pyppmd")
    packed: bytes = pyppmd.compress(text, max_order=PPMD_ORDER, mem_size=PPMD_BYTES)
    return packed


def bits_per_byte(text: bytes) -> dict[str, float]:
    """Returns the size of the compressed text in bits per byte of it, by compressor, the largest first."""
    sizes = {name: 8 * len(compress(text)) / len(text) for name, compress in compressors().items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def compressors_line(dataset: Path) -> str | None:
    """Returns one line on a dataset made of text; None where its validation text was not kept."""
    path = dataset / VALIDATION_TEXT
    if not path.is_file():
        return None
    figures = ", ".join(f"{name} {bpb:.4f}" for name, bpb in bits_per_byte(path.read_bytes()).items())
    return f"the same text by general compressors, which learn from it as they go: {figures} bits per byte"
