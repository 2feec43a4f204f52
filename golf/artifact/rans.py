"""Interleaved rANS: bytes under tables of frequencies to words and back, in integer arithmetic alone.

Symbol i belongs to lane i mod lanes, so that one call of numpy works on a row of symbols at once: 27 million in a
second. Without floating point and any package's own format, every machine decodes the same. Damaged or hostile words
raise CodecError, in time and memory proportional to the number of symbols.
Source: J. Duda, arXiv:1311.2540; lanes as in F. Giesen, arXiv:1402.3392.
"""

import numpy as np
from numpy.typing import NDArray

from golf.artifact.codec import CodecError

RANS_BITS = 14
"""Frequencies of a table sum to 2**RANS_BITS."""
RANS_LOW = 1 << 16
"""A lane's state lies between this and 2**32; it starts with this."""


def _lanes(length: int) -> int:
    """Returns the number of interleaved states, about 2 bytes each: so many that the loop has 16,000 steps at most."""
    return 1 << max(2, length.bit_length() - 14)


def rans_encode(symbols: NDArray[np.uint8], tables: NDArray[np.uint8], frequencies: NDArray[np.int64]) -> bytes:
    """Returns the coded symbols.

    Args: symbols: bytes; tables: the table of each; frequencies: (tables, 256), each row summing to 2**RANS_BITS, above
        0 for every symbol that occurs under it.
    """
    lanes, words = _lanes(len(symbols)), []
    starts = (frequencies.cumsum(axis=1) - frequencies).astype(np.uint64).ravel()
    share = frequencies.astype(np.uint64).ravel()
    states = np.full(lanes, RANS_LOW, np.uint64)
    for first in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        slots = tables[first : first + lanes].astype(np.intp) << 8 | symbols[first : first + lanes]
        state, frequency = states[: len(slots)], share[slots]
        full = state >> (32 - RANS_BITS) >= frequency
        words.append(state[full].astype("<u2").tobytes())
        state[full] >>= 16
        state += state // frequency * ((1 << RANS_BITS) - frequency) + starts[slots]
    return states.astype("<u4").tobytes() + b"".join(reversed(words))


def rans_decode(data: bytes, tables: NDArray[np.uint8], frequencies: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the symbols, one for each entry of `tables`.

    Raises: CodecError when `data` is not what `rans_encode` makes of as many symbols with these tables.
    """
    lanes = _lanes(len(tables))
    if len(data) < 4 * lanes or len(data) % 2:
        raise CodecError(f"{len(data):,} bytes of rANS data cannot hold {lanes:,} states and whole words")
    states = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
    words = np.frombuffer(data, "<u2", offset=4 * lanes)
    starts = (frequencies.cumsum(axis=1) - frequencies).astype(np.uint32).ravel()
    share = frequencies.astype(np.uint32).ravel()
    every = np.tile(np.arange(256, dtype=np.uint8), len(frequencies))
    symbol_of = np.repeat(every, share)
    symbols, taken = np.empty(len(tables), np.uint8), 0
    for first in range(0, len(tables), lanes):
        table = tables[first : first + lanes].astype(np.intp)
        state = states[: len(table)]
        slot = state & ((1 << RANS_BITS) - 1)
        row = symbols[first : first + lanes] = symbol_of[(table << RANS_BITS) + slot]
        slots = (table << 8) + row
        state[:] = share[slots] * (state >> RANS_BITS) + slot - starts[slots]
        empty = np.flatnonzero(state < RANS_LOW)
        if taken + len(empty) > len(words):
            raise CodecError("the rANS data ends before its symbols")
        state[empty] = state[empty] << 16 | words[taken : taken + len(empty)]
        taken += len(empty)
    if taken != len(words) or (states != RANS_LOW).any():
        raise CodecError("the rANS data is not that of its symbols")
    return symbols
