"""Screening: paired figures against an independent computation, and trials that stop or go on."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf.config.config import RunConfig, override_all
from golf.runtime.files import read_json
from tests.tune.workloads.gepa.test_runner import here, spec_of
from tests.tune.workloads.gepa.test_sharing import figures, shared_spec
from tune.records.journal import Ledger
from tune.search.space import Trial
from tune.search.successive_halving import SuccessiveHalving, screening_rank, stride_error
from tune.workloads.gepa.runner import OUTCOME, run_trial
from tune.workloads.gepa.stages import gepa_stages

SIZES = [(100, 240), (100, 250), (90, 200)]


def chunks(*nats: float) -> list[list[float]]:
    """Chunks of one stream."""
    return [[value, *size] for value, size in zip(nats, SIZES, strict=True)]


def test_paired_figures() -> None:
    """Fault: a difference against the wrong trial, of the wrong sign or unit; an error that ignores the pairing."""
    screened = {"a": chunks(100, 200, 300), "b": chunks(110, 205, 309), "c": chunks(190, 190, 190)}
    rank = screening_rank("b", screened, SuccessiveHalving(top=0.5))
    differences = np.array([10, 5, 9]) / math.log(2) / 690
    assert (rank.place, rank.num_trials, rank.best) == (3, 3, "c")
    against_a = screening_rank("b", {name: screened[name] for name in "ab"}, SuccessiveHalving(top=0.5))
    assert against_a.best == "a"
    assert against_a.difference_bpb == pytest.approx(differences.sum())
    assert against_a.standard_error_bpb == pytest.approx(differences.std(ddof=1) * math.sqrt(3))
    assert not against_a.promoted
    assert screening_rank("a", screened, SuccessiveHalving(top=0.5)).promoted


def test_other_chunks_are_not_compared() -> None:
    """Fault: trials on other data, or on more chunks, that decide."""
    screened = {"a": chunks(100, 200, 300), "b": chunks(1, 2, 3)[:2], "c": [[1.0, 7, 7]] * 3}
    rank = screening_rank("a", screened, SuccessiveHalving())
    assert (rank.place, rank.num_trials, rank.best) == (1, 1, "a")
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
        assert len(promoted) == math.ceil(top * len(totals))


def test_how_many_chunks() -> None:
    """Fault: a screening on no chunk, or on as much as the whole evaluation."""
    assert SuccessiveHalving().num_chunks(1893) == 190
    assert SuccessiveHalving().num_chunks(11) == 2
    assert SuccessiveHalving().num_chunks(3) is None


@pytest.mark.parametrize(("share", "stride"), [(True, None), (False, None), (True, 16)])
def test_a_worse_trial_stops_and_can_go_on_later(
    tiny: RunConfig, data: Path, tmp_path: Path, share: bool, stride: int | None
) -> None:
    """Fault: a screened trial that is paid for in full, or that starts again when it is wanted after all; a score by
    the ranking stride in a final figure.
    """
    settings = {"fraction": 0.5, "top": 0.5, "stride": stride}
    screening = {"screening": settings, "screened": str(tmp_path / "screened.jsonl")}
    good = Trial("good", {}, tiny)
    bad = Trial("bad", {}, override_all(tiny, {"optimizer.embedding_lr": 1e-6, "optimizer.matrix_lr": 1e-6}))
    specs = {}
    for trial in (good, bad):
        more = (
            shared_spec(trial, [good, bad], data, tmp_path)
            if share
            else spec_of(trial.config, data, tmp_path / trial.trial)
        )
        specs[trial.trial] = more | {"trial": trial.trial} | screening
        run_trial(specs[trial.trial], here, here)
    assert read_json(tmp_path / "good" / OUTCOME)["status"] == "done"
    outcome = read_json(tmp_path / "bad" / OUTCOME)
    assert outcome["status"] == "screened"
    assert "place 2 of 2" in outcome["cause"]
    assert "against good" in outcome["cause"]
    assert "bpb" not in outcome["metrics"]
    assert len(Ledger(tmp_path / "screened.jsonl").entries()) == 3  # the worse one stops at its first rung
    run_trial({**specs["bad"], "screening": None}, here, here)
    run_trial(spec_of(bad.config, data, tmp_path / "alone"), here, here)
    later = {name: value for name, value in figures(tmp_path / "bad").items() if name != "bpb_stride_error"}
    assert later == figures(tmp_path / "alone")
    assert (read_json(tmp_path / "bad" / "sliding.json")["result"]["seconds_before"] > 0) == (stride is None)
    metrics, rank = (
        read_json(tmp_path / "good" / OUTCOME)["metrics"],
        read_json(tmp_path / "good" / "sliding-screen.json"),
    )
    exact = read_json(tmp_path / "good" / "sliding.json")["result"]["chunks"][: len(rank["result"]["chunks"])]
    error = rank["result"]["bpb"] - sum(nats for nats, _, _ in exact) / math.log(2) / sum(size for *_, size in exact)
    assert metrics.get("bpb_stride_error", 0.0) == pytest.approx(error, abs=1e-12)
    assert (error == pytest.approx(0, abs=1e-12)) == (stride is None)
    told = stride_error([{"metrics": metrics}])
    assert told is None if stride is None else f"{error:+.4f} BPB" in str(told)


def test_a_ranking_stride_has_results_of_its_own(tiny: RunConfig) -> None:
    """Fault: chunks scored by one stride taken for those of another, or an exact result computed twice for it."""
    world = {"ranks": 1, "cpus": 1, "device": "cpu"}
    own, ranked, other = (gepa_stages(tiny, "data", world, [2], 3, stride) for stride in (None, 16, 12))
    assert own.rungs == ranked.rungs
    first = [{str(screen.name): screen.key for screen in stages.screens} for stages in (own, ranked, other)]
    assert len({keys["sliding-screen"] for keys in first}) == 3
    assert len({keys["ttt-screen"] for keys in first}) == 1
