"""Screening: paired figures against an independent computation, and trials that stop or go on."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf.config.config import RunConfig, override_all
from golf.runtime.results import RungResult, read_result
from tests.tune.workloads.gepa.helpers import run, spec_of, trial_of, workload_of
from tune.records.entries import ScreeningEntry, TrialState
from tune.records.ledger import Ledger
from tune.search.successive_halving import LEAST_TRIALS, Chunks, SuccessiveHalving, screening_rank

SIZES = [(100, 240), (100, 250), (90, 200)]


def chunks(*nats: float) -> Chunks:
    """Chunks of one stream."""
    return [(value, *size) for value, size in zip(nats, SIZES, strict=True)]


def test_paired_figures() -> None:
    """Fault: a difference against the wrong trial, of the wrong sign or unit; an error that ignores the pairing."""
    screened = {"a": chunks(100, 200, 300), "b": chunks(110, 205, 309), "c": chunks(190, 190, 190)}
    rank = screening_rank("b", screened, SuccessiveHalving(top=0.5))
    differences = np.array([10, 5, 9]) / math.log(2) / 690
    assert (rank.rank, rank.num_trials, rank.against) == (3, 3, "c")
    against_a = screening_rank("b", {name: screened[name] for name in "ab"}, SuccessiveHalving(top=0.5))
    assert against_a.against == "a"
    assert against_a.difference_bpb == pytest.approx(differences.sum())
    assert against_a.standard_error_bpb == pytest.approx(differences.std(ddof=1) * math.sqrt(3))
    assert str(against_a) == "2nd of 2, 0.0502 +- 0.0096 BPB behind a"
    assert str(screening_rank("a", screened, SuccessiveHalving())) == "2nd of 3, 0.0627 +- 0.3621 BPB behind c"


def test_a_coin_flip_stops_nobody() -> None:
    """Fault: the second of two trials stopped, or one that is no further behind than chance takes it."""
    halving = SuccessiveHalving(top=0.5)
    four = {
        "a": chunks(100, 200, 300),
        "b": chunks(101, 201, 301),
        "c": chunks(104, 204, 304),
        "d": chunks(99, 290, 290),
    }
    for few in ("ac", "abc"):
        assert screening_rank("c", {name: four[name] for name in few}, halving).promoted, "too few to compare with"
    third = screening_rank("c", four, halving)
    assert (third.rank, third.against, third.promoted) == (3, "b", False), "behind the last one that goes on"
    assert third.difference_bpb == pytest.approx(9 / math.log(2) / 690)
    noisy = screening_rank("d", four, halving)
    assert (noisy.rank, noisy.against) == (4, "b")
    assert noisy.difference_bpb > 0
    assert noisy.promoted == (noisy.difference_bpb <= noisy.standard_error_bpb)
    assert screening_rank("d", {**four, "d": chunks(99, 150, 360)}, halving).promoted, "within the error"


def test_other_chunks_are_not_compared() -> None:
    """Fault: trials on other data, or on more chunks, that decide."""
    screened = {"a": chunks(100, 200, 300), "b": chunks(1, 2, 3)[:2], "c": [(1.0, 7, 7)] * 3}
    rank = screening_rank("a", screened, SuccessiveHalving())
    assert (rank.rank, rank.num_trials, rank.against) == (1, 1, "a")
    assert rank.promoted
    assert rank.difference_bpb == 0


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_best_always_goes_on(totals: list[int], top: float) -> None:
    """Fault: a sweep in which nobody finishes, or more go on than asked for when all are known."""
    screened = {str(n): chunks(total, total, total) for n, total in enumerate(totals)}
    promoted = [name for name in screened if screening_rank(name, screened, SuccessiveHalving(top=top)).promoted]
    best = str(totals.index(min(totals)))
    assert best in promoted
    if len(set(totals)) == len(totals):
        expected = len(totals) if len(totals) < LEAST_TRIALS else math.ceil(top * len(totals) - 1e-9)
        assert len(promoted) == expected


def test_how_many_chunks() -> None:
    """Fault: a screening on no chunk, or on as much as the whole evaluation."""
    assert SuccessiveHalving().chunk_counts(1893) == (190, 380, 760)
    assert SuccessiveHalving(fraction=0.5).chunk_counts(1893) == ()
    assert SuccessiveHalving(fraction=0.5).chunk_counts(1892) == (946,)
    assert SuccessiveHalving().chunk_counts(11) == (2, 4)
    assert SuccessiveHalving().chunk_counts(3) == ()


@pytest.mark.long
@pytest.mark.parametrize("share", [True, False])
def test_a_worse_trial_stops_and_can_go_on_later(tiny: RunConfig, data: Path, tmp_path: Path, share: bool) -> None:
    """Fault: a screened trial that is paid for in full, or that starts again when it is wanted after all."""
    screened = tmp_path / "screened.jsonl"
    halving = SuccessiveHalving(fraction=0.5, top=0.5)
    workload = workload_of(tiny, data, screening=halving, screening_file=screened)
    worse = override_all(tiny, {"optimizer.embedding_lr": 1e-6, "optimizer.matrix_lr": 1e-6})
    store = tmp_path / "store" if share else None
    specs = {
        name: spec_of(trial_of(config, name), tmp_path / name, store)
        for name, config in (("good", tiny), ("bad", worse))
    }
    good = run(workload, specs["good"])[0]
    for entry in Ledger(screened).screening():  # there must be some to stand against
        for name in ("alike", "same"):
            Ledger(screened).append(ScreeningEntry(trial=name, rung=entry.rung, chunks=entry.chunks))
    bad = run(workload, specs["bad"])[0]
    assert good.state == TrialState.DONE
    assert bad.state == TrialState.SCREENED
    assert re.fullmatch(
        r"stopped early: 4th of 4 on the first \d\d % of validation, 0\.\d{4} \+- 0\.\d{4} BPB behind alike "
        r"\(top 50 % go on; --no-screening runs all\)",
        str(bad.reason),
    ), bad.reason
    assert bad.bpb is None
    assert [score.name for score in bad.screening] == ["sliding"]
    assert len(Ledger(screened).screening()) == 7  # the worse one stops at its first rung
    later = run(replace(workload, screening=None), specs["bad"])
    alone = run(workload_of(worse, data), spec_of(trial_of(worse), tmp_path / "alone"))
    assert [(rung.name, rung.bpb) for rung in later[0].rungs] == [(rung.name, rung.bpb) for rung in alone[0].rungs]
    assert all((later[1].chunks[rung] == alone[1].chunks[rung]).all() for rung in alone[1].chunks)
    result = read_result(tmp_path / "bad" / "sliding.json", RungResult)
    assert result is not None
    assert result.seconds_before > 0


@pytest.mark.long
@pytest.mark.parametrize("share", [True, False])
def test_trials_are_compared_again_on_twice_as_many_chunks(
    tiny: RunConfig, data: Path, tmp_path: Path, share: bool
) -> None:
    """Fault: chunks of a later comparison that are scored anew, or counted twice; a trial that is not stopped there."""
    screened, store = tmp_path / "screened.jsonl", tmp_path / "store" if share else None
    tiny = override_all(tiny, {"score.chunk_tokens": 32})
    workload = workload_of(tiny, data, screening=SuccessiveHalving(fraction=0.1), screening_file=screened)
    counts = [count for rung, count in workload.screens(tiny) if rung == "ttt"]
    assert [rung for rung, _ in workload.screens(tiny)] == ["sliding", *["ttt"] * len(counts)]
    assert len(counts) >= 2
    whole = run(workload, spec_of(trial_of(tiny, "whole"), tmp_path / "whole", store))
    alone = run(workload_of(tiny, data), spec_of(trial_of(tiny), tmp_path / "alone"))
    assert whole[0].rungs[-1].bpb == alone[0].rungs[-1].bpb
    names = [*(f"ttt-{count}-screen" for count in counts), "ttt"]
    results = [read_result(tmp_path / "whole" / f"{name}.json", RungResult) for name in names]
    for earlier, later in itertools.pairwise(results):
        assert earlier is not None
        assert later is not None
        assert later.chunks[: len(earlier.chunks)] == earlier.chunks
        assert later.chunk_times[: len(earlier.chunks)] == earlier.chunk_times
        assert later.seconds_before == earlier.seconds < later.seconds
    entries = [entry for entry in Ledger(screened).screening() if entry.rung == "ttt"]
    assert [len(entry.chunks) for entry in entries] == counts
    better = tuple((nll - 50 - number, tokens, size) for number, (nll, tokens, size) in enumerate(entries[1].chunks))
    for rival in "abc":
        Ledger(screened).append(ScreeningEntry(trial=rival, rung="ttt", chunks=better))
    late = run(workload, spec_of(trial_of(tiny, "late"), tmp_path / "late", store))[0]
    assert late.state == TrialState.SCREENED
    fractions = [score.fraction for score in late.screening if score.name == "ttt"]
    assert fractions == [count * tiny.score.chunk_tokens / workload.num_targets for count in counts[:2]]
    percent = f"{100 * counts[1] * tiny.score.chunk_tokens / workload.num_targets:.0f}"
    assert f"of 5 on the first {percent} % of validation with TTT, " in str(late.reason)
    full = run(replace(workload, screening=None), spec_of(trial_of(tiny, "late"), tmp_path / "late", store))
    assert full[0].rungs[-1].bpb == alone[0].rungs[-1].bpb
    assert (full[1].chunks["ttt"] == alone[1].chunks["ttt"]).all()
