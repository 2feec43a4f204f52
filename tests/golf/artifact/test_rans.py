"""rANS against a decoder of plain integers, at its limits, and with damaged words."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from golf.artifact.codec import CodecError
from golf.artifact.rans import RANS_BITS, rans_decode, rans_encode

Case = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]


def case(length: int, num_tables: int, symbols: int, seed: int) -> Case:
    """Symbols, their tables and the frequencies, some of them 1; a table of one symbol has the whole range."""
    source = np.random.default_rng(seed)
    frequencies = np.zeros((num_tables, 256), np.int64)
    for row in frequencies:
        used = source.choice(256, symbols, replace=False)
        row[used] = 1 + np.floor(source.dirichlet(np.full(symbols, 0.2)) * ((1 << RANS_BITS) - symbols))
        row[used[0]] += (1 << RANS_BITS) - row.sum()
    tables = source.integers(0, num_tables, length).astype(np.uint8)
    places = source.integers(0, 1 << RANS_BITS, length)
    ends = frequencies.cumsum(axis=1)
    drawn = (places[:, None] >= ends[tables]).sum(axis=1).astype(np.uint8)
    return drawn, tables, frequencies


def plain_decode(data: bytes, tables: list[int], frequencies: list[list[int]]) -> list[int]:
    """The documented decoder, one symbol at a time, in Python's integers."""
    lanes = 1 << max(2, len(tables).bit_length() - 14)
    states = [int.from_bytes(data[4 * lane : 4 * lane + 4], "little") for lane in range(lanes)]
    words = [int.from_bytes(data[at : at + 2], "little") for at in range(4 * lanes, len(data), 2)]
    found = []
    for number, table in enumerate(tables):
        state, slot, symbol, start = states[number % lanes], states[number % lanes] % 2**14, 0, 0
        while start + frequencies[table][symbol] <= slot:
            start, symbol = start + frequencies[table][symbol], symbol + 1
        state = frequencies[table][symbol] * (state // 2**14) + slot - start
        states[number % lanes] = state * 2**16 + words.pop(0) if state < 2**16 else state
        found.append(symbol)
    assert not words
    assert states == [2**16] * lanes
    return found


@settings(max_examples=30)
@given(
    st.sampled_from([0, 1, 2, 700, 3000]), st.integers(1, 5), st.sampled_from([1, 2, 3, 60, 256]), st.integers(0, 2**32)
)
def test_round_trip_and_plain_decoder(length: int, num_tables: int, symbols: int, seed: int) -> None:
    """Catches a lost symbol, arithmetic that overflows, and a format that is not the documented one."""
    drawn, tables, frequencies = case(length, num_tables, symbols, seed)
    data = rans_encode(drawn, tables, frequencies)
    assert data == rans_encode(drawn, tables, frequencies)
    assert np.array_equal(rans_decode(data, tables, frequencies), drawn)
    assert plain_decode(data, tables.tolist(), frequencies.tolist()) == drawn.tolist()


def test_the_bytes_are_the_information() -> None:
    """Catches a coder that wastes bits: more than the information and two bytes a lane."""
    drawn, tables, frequencies = case(70_000, 9, 64, 1)
    bits = (RANS_BITS - np.log2(frequencies[tables, drawn])).sum()
    lanes = 1 << (len(drawn).bit_length() - 14)
    assert len(rans_encode(drawn, tables, frequencies)) <= bits / 8 * 1.0001 + 4 * lanes


@pytest.mark.filterwarnings("error")
def test_damage_is_refused_or_harmless() -> None:
    """Catches an index error, a hang or another length from words, states or tables that are not the encoder's."""
    drawn, tables, frequencies = case(600, 3, 30, 2)
    data = rans_encode(drawn, tables, frequencies)
    for bad in (b"", data[:3], data[:-1], data[:-2], data + b"\0", data + b"\0\0", data[: len(data) // 2]):
        with pytest.raises(CodecError):
            rans_decode(bad, tables, frequencies)
    source, refused = random.Random(3), 0
    for _ in range(300):
        spoiled = bytearray(data)
        for _ in range(source.randint(1, 3)):
            spoiled[source.randrange(len(spoiled))] = source.choice((0, 255, source.randrange(256)))
        try:
            assert len(rans_decode(bytes(spoiled), tables, frequencies)) == len(tables)
        except CodecError:
            refused += 1
    assert refused > 200
