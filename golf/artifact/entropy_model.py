"""Matrices of int8 codes to bytes and back: each code is coded under a table for the spread of its row and column.

The packed form is a side part (a byte for each row and column, and the tables) and the coded words. A code's class
is its row's byte plus its column's, and each class has a table of frequencies, all small integers. Rows of an embedding
and columns of a matrix differ in their spread; a class for each quarter octave takes 3 % off the order-0 entropy of the
demo's codes. All tensors share the tables, which pays for them. Only the writer uses floating point, to choose bytes.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from golf.artifact.codec import CodecError
from golf.artifact.rans import RANS_BITS, rans_decode, rans_encode

SPREADS_PER_OCTAVE = 4
"""Classes for each doubling of the spread."""
MOST_CLASSES = 256
SMALL_SQUARE = 0.02
"""Added to the square of every code, so that a row of zeros has a spread, too."""
TABLE_WEIGHTS = np.array([q if q < 8 else (4 + q % 4) << (q // 4 - 1) for q in range(56)], dtype=np.int64)
"""Meaning of a byte of a stored table: a relative frequency, to a quarter of its power of two."""

Codes = NDArray[np.int8]
Spread = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""A byte for each row and a byte for each column of a matrix."""


def pack_codes(matrices: Sequence[Codes]) -> tuple[bytes, bytes]:
    """Returns the side part, which is still to be compressed, and the words, which are compressed."""
    spreads = code_spreads(matrices)
    tables = class_tables(matrices, spreads)
    codes = np.concatenate([np.zeros(0, np.int8), *(codes.ravel() for codes in matrices)]).view(np.uint8)
    words = rans_encode(codes, code_classes(spreads), table_frequencies(tables))
    return b"".join(part.tobytes() for part in (*itertools.chain(*spreads), tables)), words


def unpack_codes(side: bytes, words: bytes, shapes: Sequence[tuple[int, int]]) -> Codes:
    """Returns the codes of all matrices of these shapes, one after another.

    Raises: CodecError when `side` and `words` are not those of such matrices.
    """
    bounds = np.cumsum([size for shape in shapes for size in shape], dtype=int)
    cut = np.split(np.frombuffer(side, np.uint8), bounds)
    spreads = list(zip(cut[:-1:2], cut[1::2], strict=True))
    if sum(map(len, cut[:-1])) != sum(map(sum, shapes)) or len(cut[-1]) != 256 * num_classes(spreads):
        raise CodecError(f"{len(side):,} bytes of spreads and tables are not those of the matrices")
    frequencies = table_frequencies(cut[-1].reshape(-1, 256))
    return rans_decode(words, code_classes(spreads), frequencies).view(np.int8)


def code_spreads(matrices: Sequence[Codes]) -> list[Spread]:
    """Returns the spread of every matrix; the smallest class of all is 0."""
    exponents = []
    for codes in matrices:
        square = codes.astype(np.float32) ** 2 + SMALL_SQUARE
        columns = np.ones(codes.shape[1], np.float32)
        for _ in range(2):
            rows = (square / columns).mean(axis=1)
            columns = (square / rows[:, None]).mean(axis=0)
        exponents.append([np.rint(np.log2(part) * (SPREADS_PER_OCTAVE / 2)).astype(int) for part in (rows, columns)])
    least = min((rows.min() + columns.min() for rows, columns in exponents), default=0)
    return [
        ((rows + (columns.min() - least)).astype(np.uint8), (columns - columns.min()).astype(np.uint8))
        for rows, columns in exponents
    ]


def num_classes(parts: Sequence[Spread]) -> int:
    """Returns the number of classes, from 0 to the largest.

    Raises: CodecError when there are more than MOST_CLASSES.
    """
    number = 1 + max((int(rows.max()) + int(columns.max()) for rows, columns in parts), default=0)
    if number > MOST_CLASSES:
        raise CodecError(f"the spreads of rows and columns make {number} classes, more than {MOST_CLASSES}")
    return number


def code_classes(parts: Sequence[Spread]) -> NDArray[np.uint8]:
    """Returns the class of every code, matrix after matrix, row by row."""
    return np.concatenate([np.zeros(0, np.uint8), *(np.add.outer(*spread).ravel() for spread in parts)])


def class_tables(matrices: Sequence[Codes], parts: Sequence[Spread]) -> NDArray[np.uint8]:
    """Returns the stored table of each class, (classes, 256), by a code's unsigned byte."""
    counts = np.zeros((num_classes(parts), 256), np.int64)
    for codes, spread in zip(matrices, parts, strict=True):
        counts += class_counts(codes, spread, len(counts))
    counts[counts.sum(axis=1) == 0, 0] = 1
    wanted = -(-(counts << RANS_BITS) // counts.sum(axis=1, keepdims=True))
    return np.searchsorted(TABLE_WEIGHTS[1:] + TABLE_WEIGHTS[:-1], 2 * wanted).clip(counts > 0).astype(np.uint8)


def class_counts(codes: Codes, spread: Spread, number: int) -> NDArray[np.int64]:
    """Returns how often each byte occurs in each class of one matrix, (number, 256)."""
    places = np.add.outer(*spread).astype(np.intp) << 8 | codes.view(np.uint8)
    return np.bincount(places.ravel(), minlength=256 * number).reshape(number, 256)


def table_frequencies(stored: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the tables' frequencies, (classes, 256), each row summing to 2**RANS_BITS.

    Raises: CodecError on bytes that `class_tables` does not make.
    """
    if (stored >= len(TABLE_WEIGHTS)).any() or not stored.any(axis=1).all():
        raise CodecError("a table of frequencies is empty, or holds a byte without a meaning")
    weights = TABLE_WEIGHTS[stored]
    frequencies = np.where(weights > 0, np.maximum(1, (weights << RANS_BITS) // weights.sum(axis=1, keepdims=True)), 0)
    largest = np.arange(len(frequencies)), frequencies.argmax(axis=1)
    frequencies[largest] += (1 << RANS_BITS) - frequencies.sum(axis=1)
    if (frequencies[largest] < 1).any():
        raise CodecError("a table of frequencies has no room for all its symbols")
    return frequencies
