"""Verdicts against scipy and by simulation; faults that forbid a claim; looks that stay valid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from golf.config.rules import MARGIN_NATS, NON_RECORD, RECORD
from golf.submission.study import Decision, StudyVerdict
from tests.tune.made_ledger import Made
from tests.tune.study.made_runs import NATS_PER_BPB, InLedger, changed, made_run, made_runs
from tune.records.entries import ArtifactSize, Device, SequentialPlan, Series, StudyPlan, VerdictEntry
from tune.records.ledger import Ledger
from tune.study.baseline import Baseline, baseline_of
from tune.study.runs import Study, study_of
from tune.study.sequential_test import NO_GAIN_ALPHA, sequential_decision
from tune.study.verdict import due_seeds, judge

MARGIN_BPB = MARGIN_NATS / NATS_PER_BPB
VALUES, OTHERS = [1.2001, 1.2012, 1.2007], [1.2081, 1.2075, 1.2092, 1.2077]
Judged = Callable[..., StudyVerdict]


@pytest.fixture
def judged(in_ledger: InLedger) -> Judged:
    """Judges the study "s" among runs, against the baseline that names or values name."""

    def judge_runs(
        runs: Sequence[Made], names: Sequence[str] = (), in_nats: bool = False, **options: Any
    ) -> StudyVerdict:
        ledger = in_ledger(runs)
        baseline = baseline_of(names, ledger, NATS_PER_BPB, in_nats) if names else None
        return judge(study_of("s", ledger), baseline=baseline, **options)

    return judge_runs


def plan_of(*seeds: int, test: SequentialPlan | None = None) -> StudyPlan:
    """Returns a plan of these seeds."""
    return StudyPlan(configuration="c", data="d", seeds=seeds, sequential=test)


def with_values(study: Study, values: Sequence[float]) -> Study:
    """Returns the study with other results."""
    rows = [
        msgspec.structs.replace(row, bpb=value, nats_per_token=value * NATS_PER_BPB)
        for row, value in zip(study.rows, values, strict=True)
    ]
    return replace(study, rows=tuple(rows))


def test_the_test_against_scipy(judged: Judged) -> None:
    """Fault: the margin in the wrong unit or with the wrong sign, BPB tested against nats, the other tail."""
    verdict = judged([*made_runs("s", VALUES), *made_runs("base", OTHERS)], ["base"])
    nats, base_nats = ([value * NATS_PER_BPB for value in values] for values in (VALUES, OTHERS))
    shifted = [value + MARGIN_NATS for value in nats]
    expected = stats.ttest_ind(base_nats, shifted, equal_var=False, alternative="greater").pvalue
    span = stats.ttest_ind(base_nats, nats, equal_var=False).confidence_interval(0.95)
    comparison = verdict.comparison
    assert comparison is not None
    assert comparison.gain_nats.p == comparison.gain_bpb.p == pytest.approx(expected, rel=1e-9)
    assert comparison.gain_nats.interval == pytest.approx((span.low, span.high), rel=1e-9)
    assert comparison.gain_bpb.gain == pytest.approx(np.mean(OTHERS) - np.mean(VALUES), rel=1e-9)
    assert comparison.gain_nats.gain == pytest.approx(comparison.gain_bpb.gain * NATS_PER_BPB, rel=1e-12)
    assert (comparison.claim, comparison.loose) == (expected < 0.01, expected < 0.25)
    assert (comparison.values, comparison.seeds) == (tuple(OTHERS), (0, 1, 2, 3))
    assert verdict.bpb is not None
    assert verdict.nats is not None
    assert verdict.bpb.standard_deviation == pytest.approx(np.std(VALUES, ddof=1), rel=1e-9)
    assert verdict.nats.mean == pytest.approx(np.mean(nats), rel=1e-12)


def test_values_in_any_form_are_one_baseline(judged: Judged) -> None:
    """Fault: given values, the same in nats and the ledger's seeds judged differently; a mean tested as a sample."""
    runs = [*made_runs("s", VALUES), *made_runs("base", OTHERS)]
    in_nats = [f"{value * NATS_PER_BPB:.12f}" for value in OTHERS]
    verdicts = [judged(runs, ["base"]), judged(runs, [f"{value:.4f}" for value in OTHERS]), judged(runs, in_nats, True)]
    by_name, by_value, by_nats = (verdict.comparison.gain_nats.p for verdict in verdicts if verdict.comparison)
    assert by_name == pytest.approx(by_value, rel=1e-9)
    assert by_name == pytest.approx(by_nats, rel=1e-6)
    mean = judged(runs, ["1.21"])
    expected = stats.ttest_1samp(VALUES, 1.21 - MARGIN_BPB, alternative="less").pvalue
    assert mean.comparison is not None
    assert mean.comparison.gain_nats.p == pytest.approx(expected, rel=1e-9)
    assert any("exact" in note for note in mean.notes)


@pytest.mark.parametrize("state", ["failed", "infeasible", "screened"])
def test_a_seed_without_a_result_forbids_the_claim(state: str, judged: Judged) -> None:
    """Fault: the seeds that went well are published, the one that did not is forgotten."""
    runs = [*made_runs("s", VALUES), *made_runs("base", OTHERS)]
    assert judged(runs, ["base"], margin_nats=0.0).holds is True
    worse = judged([*runs, made_run("s", 7, None, state=state)], ["base"], margin_nats=0.0)
    assert worse.comparison is not None
    assert worse.comparison.claim is True
    assert worse.holds is False
    assert worse.seeds == (0, 1, 2, 7)
    assert any(fault.startswith(f"seed 7 has no result: {state}") for fault in worse.faults)
    of_base = judged([*runs, made_run("base", 7, None, state=state)], ["base"], margin_nats=0.0)
    assert any("seed 7 of the baseline" in note for note in of_base.notes)


def test_planned_seeds_that_never_ran_are_told(judged: Judged) -> None:
    """Fault: a study stopped after its good seeds passes for a whole one."""
    runs = [*made_runs("s", VALUES), *made_runs("base", OTHERS)]
    verdict = judged(runs, ["base"], plan=plan_of(0, 1, 2, 3), margin_nats=0.0)
    assert verdict.missing == (3,)
    assert verdict.holds is False


def test_fewer_than_three_seeds_are_no_claim(judged: Judged) -> None:
    """Fault: two lucky seeds."""
    verdict = judged([*made_runs("s", [1.2, 1.20001]), *made_runs("base", OTHERS)], ["base"], margin_nats=0.0)
    assert verdict.comparison is not None
    assert (verdict.comparison.claim, verdict.holds) == (True, False)


def test_bytes_over_all_seeds_and_the_cap(judged: Judged) -> None:
    """Fault: the risk computed without the seed that is over the cap, or with repeats that are no seeds."""
    too_large = ArtifactSize(model_bytes=910, code_bytes=100, cap_bytes=1000)
    runs = [*made_runs("s", VALUES), made_run("s", 7, None, state="infeasible", size=too_large)]
    cap = judged([*runs, *(made_run("s", 0, 1.2, repeat=k) for k in (1, 2, 3))]).cap
    assert cap is not None
    sizes = [900, 901, 902, 1010]
    spread = np.std(sizes, ddof=1) * math.sqrt(1 + 1 / 4)
    assert (cap.largest_bytes, cap.margin_bytes) == (1010, -10)
    assert cap.probability == pytest.approx(stats.t.sf((1000 - np.mean(sizes)) / spread, 3), rel=1e-9)


def test_seconds_of_the_track(judged: Judged) -> None:
    """Fault: a run over the record's seconds, or on other machines, that passes for a record."""
    runs = made_runs("s", VALUES)
    runs[0] = changed(runs[0], seconds={"train": 601.0, "pack": 0.0})
    runs[1] = changed(runs[1], rungs=(msgspec.structs.replace(runs[1][0].rungs[-1], seconds=600.5),))
    base, options = made_runs("base", OTHERS), {"margin_nats": 0.0}
    assert judged([*runs, *base], ["base"], track=NON_RECORD, **options).holds is True
    record = judged([*runs, *base], ["base"], track=RECORD, **options)
    assert record.holds is False
    assert len(record.faults) == 2
    assert not any("timed on" in note for note in record.notes)
    for method, num_faults in (("clip", 2), ("gptq", 4)):  # calibration on training data is training
        quant = runs[0][0].config["quant"] | {"mlp": runs[0][0].config["quant"]["mlp"] | {"method": method}}
        packed = [
            changed(made, config={**made[0].config, "quant": quant}, seconds={**made[0].seconds, "pack": 100.5})
            for made in runs
        ]
        assert len(judged([*packed, *base], ["base"], track=RECORD, **options).faults) == num_faults
    slow = [changed(made, device=Device(count=1, name="CPU", kind="cpu")) for made in [*runs, *base]]
    assert any("timed on 8 x H100" in note for note in judged(slow, ["base"], track=RECORD, **options).notes)


def test_results_from_the_store_are_told_on_the_record_track(judged: Judged) -> None:
    """Fault: a run that took results from the store passes for one that computed all itself."""
    runs = made_runs("s", VALUES)
    runs[1] = changed(runs[1], cold=False)
    assert any("seeds 1 took results from the store" in note for note in judged(runs, track=RECORD).notes)
    assert not any("store" in note for note in judged(made_runs("s", VALUES), track=RECORD).notes)


def test_same_seed_noise_stands_beside_seed_noise(judged: Judged) -> None:
    """Fault: a repeat counted as a seed, or the seed's own run as a repeat."""
    again = [1.2003, 1.2004, 1.2002]
    verdict = judged(
        [*made_runs("s", VALUES), *(made_run("s", 0, value, repeat=k + 1) for k, value in enumerate(again))]
    )
    assert verdict.noise_bpb is not None
    assert verdict.bpb is not None
    assert verdict.noise_bpb.repeat_sd == pytest.approx(np.std(again, ddof=1), rel=1e-9)
    assert verdict.noise_bpb.seeds_sd == pytest.approx(np.std(VALUES, ddof=1), rel=1e-9)
    assert verdict.bpb.num_values == 3
    assert [(run.seed, run.repeat, run.bpb) for run in verdict.others] == [(0, k + 1, v) for k, v in enumerate(again)]


def test_another_stream_is_refused(judged: Judged) -> None:
    """Fault: bits per byte of other bytes compared."""
    for num_bytes, is_same in ((1, False), (0, True)):  # other chunks of the same text: another score.chunk_tokens
        base = []
        for entry, series in made_runs("base", OTHERS):
            sums = series.chunks["ttt"].copy()
            sums[5:7, 2] += (1, num_bytes - 1)
            base.append((entry, Series({}, {"ttt": sums})))
        if is_same:
            assert judged([*made_runs("s", VALUES), *base], ["base"]).comparison is not None
        else:
            with pytest.raises(ValueError, match="not scored on the same validation stream"):
                judged([*made_runs("s", VALUES), *base], ["base"])


def test_a_study_is_not_its_own_baseline(judged: Judged) -> None:
    """Fault: a gain of nothing over itself, tested as if the runs were independent."""
    runs = made_runs("s", VALUES)
    for name in ("s", runs[0][0].trial):
        with pytest.raises(ValueError, match="shares runs"):
            judged(runs, [name])


def test_what_differs_from_the_baseline_and_what_was_seen_before_is_told(judged: Judged) -> None:
    """Fault: a gain of other code or machines, of a seed that was chosen by its value, or of the third try."""
    runs = [*made_runs("s", VALUES), *made_runs("base", OTHERS, code="other"), made_run("sweep", 1, VALUES[1])]
    runs.append(made_run("sweep", 1, 1.5, fields={"schedule.steps": 8000}))
    first = judged([*runs[:2], *runs[3:]], ["base"])
    notes = judged(runs, ["base"], history=[first]).notes
    assert any("differs in code" in note for note in notes)
    assert any("seed 1 is also" in note for note in notes)
    assert any("seen before at 2 seeds" in note for note in notes)
    assert not any("seen before" in note for note in judged(runs, ["base"], history=[judged(runs, ["base"])]).notes)


def test_without_nats_per_token_there_is_no_test(judged: Judged) -> None:
    """Fault: a margin in nats applied to scores of a workload that knows bits per byte only."""
    runs = [changed(made, nats_per_token=None) for made in [*made_runs("s", VALUES), *made_runs("base", OTHERS)]]
    verdict = judged(runs, ["base"])
    assert (verdict.comparison, verdict.holds) == (None, None)
    assert any("nats per token" in note for note in verdict.notes)


def sequential_plan(values: Sequence[float], looks: range) -> StudyPlan:
    """Returns a plan of seeds 0, 1, 2, ... against a baseline's values."""
    test = SequentialPlan(
        looks=tuple(looks),
        baseline="given",
        baseline_bpb=tuple(values),
        published=len(values) == 1,
        margin_nats=0.0,
        alpha=0.01,
        no_gain_alpha=NO_GAIN_ALPHA,
    )
    return plan_of(*range(looks[-1]), test=test)


def test_looks_go_by_the_plan(in_ledger: InLedger) -> None:
    """Fault: values after the decision, after a failed seed or out of order change what was decided."""
    given = (1.21, 1.2103, 1.2097)
    plan, baseline = sequential_plan(given, range(3, 7)), Baseline(name="given", bpb=given)

    def study(runs: Sequence[Made]) -> Study:
        return study_of("s", in_ledger(runs))

    assert due_seeds(None, plan) == (0, 1, 2)
    near = [1.21, 1.2101, 1.2098]
    assert due_seeds(study(made_runs("s", near)), plan) == (0, 1, 2, 3)
    clear = study(made_runs("s", [1.2, 1.2001, 1.1999]))
    assert due_seeds(clear, plan) == ()
    later = study(made_runs("s", [1.2, 1.2001, 1.1999, 1.4, 1.5]))
    gap = study([*made_runs("s", near), made_run("s", 4, 1.0), made_run("s", 5, 1.0), made_run("s", 3, None)])
    verdicts = [judge(runs, plan, baseline, 0.0) for runs in (clear, later, gap)]
    decisions = [v.comparison.sequential.decision for v in verdicts if v.comparison and v.comparison.sequential]
    assert decisions == [Decision.GAIN, Decision.GAIN, Decision.CONTINUE]
    assert [verdict.holds for verdict in verdicts] == [True, True, False]
    assert verdicts[0].missing == ()


def test_looking_again_is_the_sequential_test(in_ledger: InLedger) -> None:
    """Fault: on the way from plan to verdict a look is lost, doubled or taken at other values than the test's own.

    The error rate of the test itself is simulated in `test_sequential_test`.
    """
    looks, drawn = range(3, 8), np.random.default_rng(5).normal(1.2, 0.0007, (60, 12))
    base = study_of("s", in_ledger(made_runs("s", [1.2] * looks[-1])))
    for values in drawn.tolist():
        plan, study, num = sequential_plan(values[7:], looks), with_values(base, values[:7]), looks[0]
        while due := due_seeds(replace(study, rows=study.rows[:num]), plan):
            num = len(due)
        baseline = Baseline(name="b", bpb=tuple(values[7:]))
        verdict = judge(replace(study, rows=study.rows[:num]), plan, baseline, 0.0)
        direct = sequential_decision(values[:7], values[7:], 0.0, looks=looks)
        assert verdict.comparison is not None
        assert verdict.comparison.sequential == direct
        assert num == direct.looks[-1].num_seeds


def test_the_verdict_fits_the_ledger(judged: Judged, tmp_path: Path) -> None:
    """Fault: a verdict that cannot be written, or comes back changed."""
    runs = [*made_runs("s", VALUES), *made_runs("base", OTHERS), made_run("s", 0, 1.2, repeat=1)]
    verdict = judged(runs, ["base"], plan=sequential_plan((1.21, 1.22), range(3, 5)))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(VerdictEntry(study="s", verdict=verdict))
    assert [entry.verdict for entry in ledger.verdicts("s")] == [verdict]


def test_a_seed_whose_nodes_were_lost_is_told(judged: Judged) -> None:
    """Fault: seconds of other machines taken for the track's, or a study refused because a spot machine went."""
    runs = made_runs("s", VALUES)
    usual = judged(runs)
    assert not any("ranks" in note for note in usual.notes)
    runs[1] = changed(runs[1], world_history="8, 4 from step 120")
    verdict = judged(runs)
    assert any("8, 4 from step 120" in note for note in verdict.notes)
    assert verdict.faults == usual.faults
