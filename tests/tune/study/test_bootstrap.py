"""The block bootstrap against the exact moments of its own law, and its coverage on correlated streams."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tune.study.bootstrap import MIN_CHUNKS, block_length, paired_bootstrap

Floats = NDArray[np.float64]
TOKENS, BYTES = 1000, 2436


def autoregressive(count: int, length: int, correlation: float, seed: int) -> Floats:
    """Returns [count, length] stationary AR(1) streams of mean 0 and variance 1."""
    noise = np.random.default_rng(seed).normal(size=(count, length))
    noise[:, 1:] *= math.sqrt(1.0 - correlation**2)
    for step in range(1, length):
        noise[:, step] += correlation * noise[:, step - 1]
    return noise


def of_differences(nats: Floats, **options: Any) -> tuple[float, float, float]:
    """Returns estimate and interval in nats per token, from gains per chunk alike in tokens and bytes."""
    ones = np.ones(len(nats))
    got = paired_bootstrap(3000.0 - nats, np.full(len(nats), 3000.0), BYTES * ones, TOKENS * ones, **options)
    assert got.nats_interval is not None
    return got.nats_per_token, *got.nats_interval


def test_ratio_of_sums() -> None:
    """Fault: a mean of ratios, chunks of unequal length weighted alike, bits and nats mixed, the sign turned."""
    nats, tokens, byte_counts = np.array([[700.0, 90.0], [720.0, 80.0]]), [400, 20], [900, 60]
    got = paired_bootstrap(nats[0], nats[1], byte_counts, tokens, block=1)
    assert got.nats_per_token == pytest.approx(10.0 / 420, rel=1e-12)
    assert got.bpb == pytest.approx(10.0 / math.log(2) / 960, rel=1e-12)
    assert got.bpb_interval is None


@pytest.mark.parametrize(("length", "total"), [(1, 60), (7, 60), (40, 60), (60, 60)])
def test_replicates_have_the_exact_law(length: int, total: int) -> None:
    """Fault: blocks that end at the end of the stream (edges drawn less often), a last block not cut, a wrong count.

    The sum of a replicate has the stream's own mean, and the variance of its blocks, each over all starts.
    """
    gains = autoregressive(1, total, 0.7, 3)[0]
    ring = np.tile(gains, 2)
    variance = 0.0
    for size in [length] * (total // length) + [total % length] * (total % length > 0):
        variance += np.var([sum(ring[start : start + size]) for start in range(total)])
    per_token = TOKENS * total
    mean, low, high = of_differences(gains * per_token, block=length, replicates=20_000, level=0.6827)
    assert mean == pytest.approx(gains.sum(), rel=1e-9)
    assert (low + high) / 2 == pytest.approx(mean, abs=0.04 * math.sqrt(variance) + 1e-9)
    assert (high - low) / 2 == pytest.approx(math.sqrt(variance), rel=0.06, abs=1e-9)


def coverage(streams: Floats, block: int | None) -> float:
    """Returns how often a 95 % interval holds the mean 0."""
    intervals = [of_differences(row, seed=seed, block=block, replicates=250) for seed, row in enumerate(streams)]
    return sum(low <= 0.0 <= high for _, low, high in intervals) / len(streams)


@pytest.mark.long
@pytest.mark.parametrize(("correlation", "expected"), [(0.0, 0.95), (0.6, 0.91), (-0.4, 0.95)])
def test_coverage_on_correlated_streams(correlation: float, expected: float) -> None:
    """Fault: intervals as if chunks were independent, or twice as wide as needed.

    At a correlation of 0.6 and 800 chunks the method itself falls short of 0.95 by 0.04; the Monte Carlo margin is 3
    standard errors of 200 streams. Chunks drawn singly must fail the same test, or it could not find the fault.
    """
    streams = autoregressive(200, 800, correlation, 11)
    margin = 3 * math.sqrt(expected * (1 - expected) / 200)
    assert coverage(streams, None) == pytest.approx(expected, abs=margin)
    if correlation == 0.6:
        assert coverage(streams[:40], 1) < expected - margin


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.8])
def test_block_length_against_theory(correlation: float) -> None:
    """Fault: the wrong power of n, the constant of another bootstrap, a window that cuts the memory off.

    For AR(1), G / g = 2 r / (1 - r^2).
    """
    length = 4000
    expected = (1.5 * (2 * correlation / (1 - correlation**2)) ** 2 * length) ** (1 / 3)
    got = [block_length(stream) for stream in autoregressive(60, length, correlation, 7)]
    assert np.median(got) == pytest.approx(expected, rel=0.2)


def test_block_length_of_hard_streams() -> None:
    """Fault: a division by 0, or a block longer than the stream."""
    assert block_length(np.full(50, 0.1)) == 1
    for length in range(1, 30):
        for kind in (np.arange(length), np.arange(length) % 2, np.arange(length) == 0):
            assert 1 <= block_length(kind) <= max(1, length / 3)
    assert np.median([block_length(stream) for stream in autoregressive(50, 1000, 0.0, 1)]) <= 3


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_equivariance(seed: int, factor: float) -> None:
    """Fault: a result that depends on who is called candidate, on the unit, or on what both models share."""
    generator = np.random.default_rng(seed)
    one, two = generator.integers(0, 4096, (2, 40)) / 16.0
    tokens = generator.integers(900, 1000, 40)
    got = paired_bootstrap(one, two, 2 * tokens, tokens, replicates=50)
    turned = paired_bootstrap(two, one, 2 * tokens, tokens, replicates=50)
    assert got.bpb_interval is not None
    assert turned.bpb_interval is not None
    assert turned.bpb == -got.bpb
    assert turned.bpb_interval == pytest.approx((-got.bpb_interval[1], -got.bpb_interval[0]), rel=1e-9, abs=1e-12)
    harder = paired_bootstrap(factor * one + 512.0, factor * two + 512.0, 2 * tokens, tokens, replicates=50)
    assert harder.nats_interval == pytest.approx(tuple(factor * end for end in got.nats_interval or ()), rel=1e-9)
    assert harder.block_chunks == got.block_chunks


def test_repeats_bitwise() -> None:
    """Fault: an interval that changes from report to report, or one that no seed moves."""
    stream = autoregressive(1, 200, 0.5, 2)[0]
    assert of_differences(stream, seed=3) == of_differences(stream, seed=3)
    assert of_differences(stream, seed=3) != of_differences(stream, seed=4)


def test_few_chunks_give_no_interval() -> None:
    """Fault: an interval of width 0 from a stream in one block."""
    few = np.ones(MIN_CHUNKS - 1)
    assert paired_bootstrap(few, 2 * few, few, few).nats_interval is None
    assert paired_bootstrap([1.0], [2.0], [3], [2]).nats_per_token == 0.5


@pytest.mark.parametrize(
    ("nats", "counts", "block"),
    [
        ([1.0, 2.0], [1.0], None),
        ([], [], None),
        ([math.nan, 1.0], [1.0, 1.0], None),
        ([1.0, 2.0], [0.0, 0.0], None),
        ([1.0, 2.0], [1.0, 1.0], 0),
        ([1.0, 2.0], [1.0, 1.0], 3),
    ],
)
def test_refuses(nats: list[float], counts: list[float], block: int | None) -> None:
    """Fault: streams of different chunks compared, or a nan in the report."""
    with pytest.raises(ValueError, match=r"must be"):
        paired_bootstrap(nats, [1.0, 2.0][: len(nats)], counts, counts, block=block)
