"""The model of the codes: round trips at every shape, sizes against the entropy, and side parts made by an enemy."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from golf.artifact.byte_breakdown import entropy_bytes
from golf.artifact.codec import CodecError, compress
from golf.artifact.entropy_model import Codes, pack_codes, table_frequencies, unpack_codes
from golf.artifact.rans import RANS_BITS

DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[Any]]] = {
    "normal": lambda source, shape: source.normal(0, 9, shape),
    "zeros": lambda source, shape: np.zeros(shape),
    "one side": lambda source, shape: source.integers(90, 128, shape),
    "all": lambda source, shape: source.integers(-128, 128, shape),
    "rows and columns": lambda source, shape: (
        source.normal(0, 1, shape)
        * 2.0 ** source.uniform(-9, 9, (shape[0], 1))
        * 2.0 ** source.uniform(-9, 9, shape[1])
    ),
}


def drawn(kind: str, shape: tuple[int, int], seed: int = 0) -> Codes:
    """Codes of one kind."""
    return np.rint(DRAWS[kind](np.random.default_rng(seed), shape)).clip(-128, 127).astype(np.int8)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(list(DRAWS)), st.integers(1, 40), st.integers(1, 40)), max_size=4),
    st.integers(0, 99),
)
def test_round_trip(parts: list[tuple[str, int, int]], seed: int) -> None:
    """Catches a class without a table, a code that a table has no room for, and bytes that differ from call to call."""
    matrices = [drawn(kind, (rows, columns), seed) for kind, rows, columns in parts]
    side, words = pack_codes(matrices)
    assert (side, words) == pack_codes(matrices)
    found = unpack_codes(side, words, [matrix.shape for matrix in matrices])
    assert found.tobytes() == b"".join(matrix.tobytes() for matrix in matrices)


def packed_bytes(matrices: list[Codes]) -> int:
    """All that the codes take."""
    side, words = pack_codes(matrices)
    return len(compress(side, "lzma2")) + len(words)


def test_codes_without_order_take_their_entropy() -> None:
    """Catches a model that costs what it cannot save: 0.5 % over the order-0 entropy is the aim."""
    matrices = [drawn("normal", (512, 1024), seed) // (1 + seed) for seed in range(4)]
    entropy = sum(entropy_bytes(matrix) for matrix in matrices)
    assert packed_bytes(matrices) < 1.005 * entropy


def test_rows_and_columns_of_another_spread_are_used() -> None:
    """Catches spreads that tables do not follow: here they are worth a quarter of the order-0 entropy."""
    matrices = [drawn("rows and columns", (300, 500))]
    assert packed_bytes(matrices) < 0.75 * entropy_bytes(matrices[0])


def test_side_parts_of_an_enemy() -> None:
    """Catches spreads and tables that are believed, and errors of another type."""
    matrices = [drawn("normal", (20, 30)), drawn("all", (5, 7))]
    shapes = [matrix.shape for matrix in matrices]
    side, words = pack_codes(matrices)
    for bad in (b"", side[:-1], side + b"\0", side[: 20 + 30 + 5], b"\xff" * len(side), bytes(len(side))):
        with pytest.raises(CodecError):
            unpack_codes(bad, words, shapes)
    source = random.Random(5)
    for _ in range(300):
        spoiled = bytearray(side)
        for _ in range(source.randint(1, 4)):
            spoiled[source.randrange(len(spoiled))] = source.choice((0, 1, 55, 56, 255, source.randrange(256)))
        try:
            assert len(unpack_codes(bytes(spoiled), words, shapes)) == 20 * 30 + 5 * 7
        except CodecError:
            continue


def test_any_stored_table_is_a_distribution_or_refused() -> None:
    """Catches frequencies of zero or below, or of another sum, from which a decoder would take nonsense or hang."""
    source = np.random.default_rng(6)
    for number in range(400):
        stored = source.integers(0, 2 + number % 60, (3, 256)) * (source.random((3, 256)) < source.random())
        try:
            frequencies = table_frequencies(stored.astype(np.uint8))
        except CodecError:
            continue
        assert (frequencies.sum(axis=1) == 1 << RANS_BITS).all()
        assert ((frequencies > 0) == (stored > 0)).all()
