"""Paired comparisons against direct computation: by chunk, by seed, and of many."""

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.tune.made_ledger import Made
from tests.tune.study.made_runs import CHUNKS, NATS_PER_BPB, InLedger, made_run, made_runs
from tune.records.entries import Series
from tune.study.paired import compare

A, B, C = [1.21, 1.2103, 1.2096], [1.2051, 1.2049, 1.2058], [1.2098, 1.2101, 1.2099]


def with_chunks(made: Made, sums: NDArray[np.float64]) -> Made:
    """Returns a run with other chunk sums of the rung that counts."""
    return made[0], Series({}, made[1].chunks | {"ttt": sums})


def test_pairs_are_of_one_seed_and_one_stream(in_ledger: InLedger) -> None:
    """Fault: seeds crossed, a sign turned, or the mean over seeds taken of other runs than those shown."""
    runs, others = made_runs("a", A), []
    for made, shift in zip(made_runs("b", B), (0.2, -0.1, 0.3), strict=True):
        sums = made[1].chunks["ttt"].copy()
        sums[:, 0] += shift * np.sin(sums[:, 2])
        others.append(with_chunks(made, sums))
    (comparison,) = compare(["a", "b"], in_ledger([*runs, *others]))
    assert [pair.seeds for pair in comparison.pairs] == ["0", "1", "2", "mean of 3"]
    num_bytes = sum(chunk[1] for chunk in CHUNKS)
    for seed in range(3):
        sums_of = [math.fsum(made[1].chunks["ttt"][:, 0]) for made in (runs[seed], others[seed])]
        difference = comparison.pairs[seed].difference
        assert difference.bpb == pytest.approx((sums_of[0] - sums_of[1]) / math.log(2) / num_bytes, rel=1e-9)
        assert difference.bpb_interval is not None
        assert difference.bpb_interval[0] <= difference.bpb <= difference.bpb_interval[1]
    mean = np.mean([pair.difference.bpb for pair in comparison.pairs[:3]])
    assert comparison.pairs[3].difference.bpb == pytest.approx(mean, rel=1e-9)


def test_the_test_by_seed_against_scipy(in_ledger: InLedger) -> None:
    """Fault: an unpaired test where seeds are paired, the wrong margin, or Holm over other p values than these."""
    ledger = in_ledger([*made_runs("a", A), *made_runs("b", B), *made_runs("c", C)])
    comparisons = compare(["a", "b", "c"], ledger, 0.001)
    margin = 0.001 / NATS_PER_BPB
    p_values = [stats.ttest_rel(A, np.add(other, margin), alternative="greater").pvalue for other in (B, C)]
    for comparison, p in zip(comparisons, p_values, strict=True):
        assert comparison.gain_nats is not None
        assert comparison.gain_nats.p == pytest.approx(p, rel=1e-6)
    small, large = p_values
    assert small < large
    assert [one.p_holm for one in comparisons] == pytest.approx([2 * small, max(2 * small, large)], rel=1e-6)
    assert compare(["a", "b"], ledger)[0].p_holm is None


def test_seeds_on_one_side_are_not_dropped(in_ledger: InLedger) -> None:
    """Fault: the seed that has no partner, or no result, vanishes from the comparison."""
    runs = [*made_runs("a", A), *made_runs("b", B), made_run("b", 7, 1.5), made_run("b", 8, None)]
    (comparison,) = compare(["a", "b"], in_ledger(runs))
    expected = stats.ttest_ind(A, [*B, 1.5], equal_var=False, alternative="greater").pvalue
    assert comparison.gain_bpb is not None
    assert comparison.gain_bpb.p == pytest.approx(expected, rel=1e-9)
    assert "7" in comparison.test
    assert any("seed 8" in note for note in comparison.notes)
    assert [pair.seeds for pair in comparison.pairs][-1] == "mean of 3"


def test_two_single_runs(in_ledger: InLedger) -> None:
    """Fault: a claim about configurations from one run each, or a repeat that cannot be named itself."""
    runs = [made_run("sweep", 1, 1.21), made_run("sweep", 2, 1.2, repeat=1, fields={"schedule.steps": 8000})]
    (comparison,) = compare([entry.trial for entry, _ in runs], in_ledger(runs))
    assert comparison.gain_nats is None
    assert [pair.seeds for pair in comparison.pairs] == ["2 against 1"]
    assert comparison.pairs[0].difference.bpb == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("fault", ["a token in the next chunk", "one chunk less"])
def test_other_chunks_are_refused(fault: str, in_ledger: InLedger) -> None:
    """Fault: chunk differences of chunks that hold other text."""
    runs = [*made_runs("a", A), *made_runs("b", B)]
    sums = runs[4][1].chunks["ttt"].copy()
    sums[3:5, 1] += (1, -1)
    runs[4] = with_chunks(runs[4], sums[:-1] if fault == "one chunk less" else sums)
    ledger = in_ledger([*runs, made_run("c", 0, None)])
    with pytest.raises(ValueError, match="same validation stream"):
        compare(["a", "b"], ledger)
    with pytest.raises(ValueError, match="different names"):
        compare(["a", "a"], ledger)
    with pytest.raises(ValueError, match="no finished run"):
        compare(["a", "c"], ledger)


def test_runs_without_chunk_sums_are_compared_by_their_scores(in_ledger: InLedger) -> None:
    """Fault: a comparison of chunks that nobody kept, or scores of two streams taken for those of one."""
    b = [(entry, Series()) for entry, _ in made_runs("b", B)]
    (comparison,) = compare(["a", "b"], in_ledger([*made_runs("a", A), *b]))
    assert not comparison.has_chunks
    assert comparison.pairs == ()
    assert comparison.gain_bpb is not None
    assert comparison.gain_bpb.gain == pytest.approx(np.mean(A) - np.mean(B))
    other = [
        (msgspec.structs.replace(entry, nats_per_token=(entry.nats_per_token or 0) * 1.1), Series()) for entry, _ in b
    ]
    with pytest.raises(ValueError, match="same validation stream"):
        compare(["a", "b"], in_ledger([*made_runs("a", A), *other]))
