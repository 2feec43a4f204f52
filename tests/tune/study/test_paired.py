"""Paired comparisons against direct computation: by chunk, by seed, and of many."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.tune.study.test_runs import CHUNKS, NATS_PER_BPB, entry, study_entries
from tune.study.paired import compare

A, B, C = [1.21, 1.2103, 1.2096], [1.2051, 1.2049, 1.2058], [1.2098, 1.2101, 1.2099]


def test_pairs_are_of_one_seed_and_one_stream() -> None:
    """Fault: seeds crossed, a sign turned, or the mean over seeds taken of other runs than those shown."""
    entries = [*study_entries("a", A), *study_entries("b", B)]
    for one, shift in zip(entries[3:], (0.2, -0.1, 0.3), strict=True):
        for chunk in one["chunks"]["ttt"]:
            chunk[0] += shift * math.sin(chunk[2])
    (found,) = compare(["a", "b"], entries)
    assert [pair.seeds for pair in found.pairs] == ["0", "1", "2", "mean of 3"]
    num_bytes = sum(chunk[1] for chunk in CHUNKS)
    for seed in range(3):
        sums = [math.fsum(chunk[0] for chunk in one["chunks"]["ttt"]) for one in (entries[seed], entries[3 + seed])]
        assert found.pairs[seed].difference.bpb == pytest.approx(
            (sums[0] - sums[1]) / math.log(2) / num_bytes, rel=1e-9
        )
        interval = found.pairs[seed].difference.bpb_interval
        assert interval is not None
        assert interval[0] <= found.pairs[seed].difference.bpb <= interval[1]
    mean = np.mean([pair.difference.bpb for pair in found.pairs[:3]])
    assert found.pairs[3].difference.bpb == pytest.approx(mean, rel=1e-9)


def test_the_test_by_seed_against_scipy() -> None:
    """Fault: an unpaired test where seeds are paired, the wrong margin, or Holm over other p values than these."""
    entries = [*study_entries("a", A), *study_entries("b", B), *study_entries("c", C)]
    found = compare(["a", "b", "c"], entries, 0.001)
    margin = 0.001 / NATS_PER_BPB
    p_values = [stats.ttest_rel(A, np.add(other, margin), alternative="greater").pvalue for other in (B, C)]
    for one, p in zip(found, p_values, strict=True):
        assert one.gain_nats is not None
        assert one.gain_nats.p == pytest.approx(p, rel=1e-6)
    small, large = p_values
    assert small < large
    assert [one.p_holm for one in found] == pytest.approx([2 * small, max(2 * small, large)], rel=1e-6)
    assert compare(["a", "b"], entries)[0].p_holm is None


def test_seeds_on_one_side_are_not_dropped() -> None:
    """Fault: the seed that has no partner, or no result, vanishes from the comparison."""
    entries = [*study_entries("a", A), *study_entries("b", B), entry("b", 7, 1.5), entry("b", 8, None)]
    (found,) = compare(["a", "b"], entries)
    expected = stats.ttest_ind(A, [*B, 1.5], equal_var=False, alternative="greater").pvalue
    assert found.gain_bpb is not None
    assert found.gain_bpb.p == pytest.approx(expected, rel=1e-9)
    assert "7" in found.test
    assert any("seed 8" in note for note in found.notes)
    assert [pair.seeds for pair in found.pairs][-1] == "mean of 3"


def test_two_single_runs() -> None:
    """Fault: a claim about configurations from one run each."""
    entries = [entry("sweep", 1, 1.21), entry("sweep", 2, 1.2, set={"schedule.steps": 8000})]
    (found,) = compare([one["trial"] for one in entries], entries)
    assert found.gain_nats is None
    assert [pair.seeds for pair in found.pairs] == ["2 against 1"]
    assert found.pairs[0].difference.bpb == pytest.approx(0.01, rel=1e-6)


def other_tokens(chunks: list[Any]) -> None:
    """One token counted in the next chunk."""
    chunks[3][1] += 1
    chunks[4][1] -= 1


def one_chunk_less(chunks: list[Any]) -> None:
    """The last chunk is missing."""
    chunks.pop()


@pytest.mark.parametrize("change", [other_tokens, one_chunk_less])
def test_other_chunks_are_refused(change: Any) -> None:
    """Fault: chunk differences of chunks that hold other text."""
    entries = [*study_entries("a", A), *study_entries("b", B)]
    change(entries[4]["chunks"]["ttt"])
    with pytest.raises(ValueError, match="same validation stream"):
        compare(["a", "b"], entries)
    with pytest.raises(ValueError, match="different names"):
        compare(["a", "a"], entries)
    with pytest.raises(ValueError, match="no finished run"):
        compare(["a", "c"], [*entries, entry("c", 0, None)])
