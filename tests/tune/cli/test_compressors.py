"""Compressors beside the model, on the text that is scored."""

import zlib
from pathlib import Path

import pytest

from golf.data.text import VALIDATION_TEXT
from tune.cli.compressors import bits_per_byte, compressors_line


def test_figures_are_bits_per_byte_of_the_text(tmp_path: Path) -> None:
    """Fault: a figure in bytes, of another text, or in an order that hides the best."""
    text = b"the quick brown fox jumps over the lazy dog; " * 40 + bytes(range(256)) * 4
    figures = bits_per_byte(text)
    assert figures["zlib"] == pytest.approx(8 * len(zlib.compress(text, 9)) / len(text))
    assert list(figures.values()) == sorted(figures.values(), reverse=True)
    assert {"zlib", "xz", "zstd", "ppmd"} == set(figures)
    assert compressors_line(tmp_path) is None
    (tmp_path / VALIDATION_TEXT).write_bytes(text)
    assert f"zlib {figures['zlib']:.4f}" in str(compressors_line(tmp_path))
