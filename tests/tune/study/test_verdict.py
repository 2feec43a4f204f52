"""Verdicts against scipy and by simulation; faults that forbid a claim; looks that stay valid."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from golf.config.rules import MARGIN_NATS, NON_RECORD, RECORD
from tests.tune.study.test_runs import NATS_PER_BPB, entry, study_entries
from tune.records.ledger import Ledger
from tune.study.baseline import Baseline, baseline_of
from tune.study.preregistration import Plan, Sequential
from tune.study.runs import Study, study_of
from tune.study.sequential_test import Verdict as Decision
from tune.study.sequential_test import sequential_decision
from tune.study.verdict import Verdict, due, judge, plain

MARGIN_BPB = MARGIN_NATS / NATS_PER_BPB
VALUES, OTHERS = [1.2001, 1.2012, 1.2007], [1.2081, 1.2075, 1.2092, 1.2077]


def judged(entries: list[dict[str, Any]], words: list[str] | None = None, **options: Any) -> Verdict:
    """The verdict on the study "s"."""
    baseline = None if words is None else baseline_of(words, entries, NATS_PER_BPB, options.pop("in_nats", False))
    return judge(study_of("s", entries), baseline=baseline, **options)


def with_values(study: Study, values: list[float]) -> Study:
    """The study with other results."""
    rows = tuple(
        replace(row, bpb=value, nats=value * NATS_PER_BPB) for row, value in zip(study.rows, values, strict=True)
    )
    return replace(study, rows=rows)


def test_the_test_against_scipy() -> None:
    """Fault: the margin in the wrong unit or with the wrong sign, BPB tested against nats, the other tail."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS)]
    verdict = judged(entries, ["base"])
    nats, base_nats = ([value * NATS_PER_BPB for value in values] for values in (VALUES, OTHERS))
    shifted = [value + MARGIN_NATS for value in nats]
    expected = stats.ttest_ind(base_nats, shifted, equal_var=False, alternative="greater").pvalue
    span = stats.ttest_ind(base_nats, nats, equal_var=False).confidence_interval(0.95)
    assert verdict.gain_nats is not None
    assert verdict.gain_bpb is not None
    assert verdict.gain_nats.p == verdict.gain_bpb.p == pytest.approx(expected, rel=1e-9)
    assert verdict.gain_nats.interval == pytest.approx((span.low, span.high), rel=1e-9)
    assert verdict.gain_bpb.gain == pytest.approx(np.mean(OTHERS) - np.mean(VALUES), rel=1e-9)
    assert verdict.gain_nats.gain == pytest.approx(verdict.gain_bpb.gain * NATS_PER_BPB, rel=1e-12)
    assert (verdict.claim, verdict.loose) == (expected < 0.01, expected < 0.25)
    assert verdict.bpb is not None
    assert verdict.nats is not None
    assert verdict.bpb.standard_deviation == pytest.approx(np.std(VALUES, ddof=1), rel=1e-9)
    assert verdict.nats.mean == pytest.approx(np.mean(nats), rel=1e-12)
    assert [row.nats for row in verdict.rows] == pytest.approx(nats, rel=1e-12)


def test_values_in_any_form_are_one_baseline() -> None:
    """Fault: given values, the same in nats and the ledger's seeds judged differently; a mean tested as a sample."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS)]
    by_name = judged(entries, ["base"]).gain_nats
    by_value = judged(entries, [f"{value:.4f}" for value in OTHERS]).gain_nats
    by_nats = judged(entries, [f"{value * NATS_PER_BPB:.12f}" for value in OTHERS], in_nats=True).gain_nats
    assert by_name is not None
    assert by_value is not None
    assert by_nats is not None
    assert by_name.p == pytest.approx(by_value.p, rel=1e-9)
    assert by_name.p == pytest.approx(by_nats.p, rel=1e-6)
    mean = judged(entries, ["1.21"])
    expected = stats.ttest_1samp(VALUES, 1.21 - MARGIN_BPB, alternative="less").pvalue
    assert mean.gain_nats is not None
    assert mean.gain_nats.p == pytest.approx(expected, rel=1e-9)
    assert any("exact" in note for note in mean.notes)


@pytest.mark.parametrize(("published", "num_seeds"), [(False, 4), (True, 3)])
def test_no_gain_is_claimed_as_seldom_as_it_says(published: bool, num_seeds: int) -> None:
    """Fault: anywhere from ledger to verdict, an error rate at p < 0.01 that is not that of the test itself."""
    rounds = 2000
    drawn = np.random.default_rng(num_seeds).normal(1.2, 0.0007, (rounds, 2 * num_seeds))
    entries = [*study_entries("s", [1.2] * num_seeds), *study_entries("base", [1.3] * num_seeds)]
    study, base = study_of("s", entries), study_of("base", entries)
    claims = loose = 0
    for values in drawn.tolist():
        others = [value + MARGIN_BPB for value in values[num_seeds:]]
        names = Baseline(
            "base", (1.2 + MARGIN_BPB,) if published else tuple(others), None, published, None if published else base
        )
        verdict = judge(with_values(study, values[:num_seeds]), baseline=names)
        claims += verdict.holds is True
        loose += verdict.loose is True
    # Welch's test is a little off at so few seeds: its own rate, of the same size, is taken from scipy.
    sides = (drawn[:, num_seeds:], drawn[:, :num_seeds])
    if published:
        p_values = stats.ttest_1samp(sides[1], 1.2, axis=1, alternative="less").pvalue
    else:
        p_values = stats.ttest_ind(*sides, axis=1, equal_var=False, alternative="greater").pvalue
    assert claims == (p_values < 0.01).sum()
    assert loose == (p_values < 0.25).sum()
    assert claims / rounds < 0.01 + 4 * math.sqrt(0.01 * 0.99 / rounds)
    assert abs(loose / rounds - 0.25) < 0.03


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("failed", {"status": "failed"}, "seed 7 has no result: failed"),
    ("infeasible", {"status": "infeasible"}, "seed 7 has no result: infeasible"),
    ("screened", {"status": "screened"}, "seed 7 has no result: screened"),
]


@pytest.mark.parametrize(("status", "changes", "told"), FAULTS)
def test_a_seed_without_a_result_forbids_the_claim(status: str, changes: dict[str, Any], told: str) -> None:
    """Fault: the seeds that went well are published, the one that did not is forgotten."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS)]
    assert judged(entries, ["base"], margin_nats=0.0).holds is True
    worse = judged([*entries, entry("s", 7, None, **changes)], ["base"], margin_nats=0.0)
    assert worse.claim is True
    assert worse.holds is False
    assert [row.status for row in worse.rows] == ["done"] * 3 + [status]
    assert any(fault.startswith(told) for fault in worse.faults)
    of_base = judged([*entries, entry("base", 7, None, **changes)], ["base"], margin_nats=0.0)
    assert any("seed 7 of the baseline" in note for note in of_base.notes)


def test_planned_seeds_that_never_ran_are_told() -> None:
    """Fault: a study stopped after its good seeds passes for a whole one."""
    plan = Plan("c", "d", (0, 1, 2, 3))
    verdict = judged(
        [*study_entries("s", VALUES), *study_entries("base", OTHERS)], ["base"], plan=plan, margin_nats=0.0
    )
    assert verdict.missing == (3,)
    assert verdict.holds is False


def test_fewer_than_three_seeds_are_no_claim() -> None:
    """Fault: two lucky seeds."""
    entries = [*study_entries("s", [1.2, 1.20001]), *study_entries("base", OTHERS)]
    verdict = judged(entries, ["base"], margin_nats=0.0)
    assert (verdict.claim, verdict.holds) == (True, False)


def test_bytes_over_all_seeds_and_the_cap() -> None:
    """Fault: the risk computed without the seed that is over the cap, or with repeats that are no seeds."""
    entries = [*study_entries("s", VALUES), entry("s", 7, None, status="infeasible")]
    entries[-1]["metrics"]["artifact_bytes"] = 1010
    entries += [entry("s", 0, 1.2, repeat=k) for k in (1, 2, 3)]
    cap = judged(entries).cap
    assert cap is not None
    sizes = [900, 901, 902, 1010]
    spread = np.std(sizes, ddof=1) * math.sqrt(1 + 1 / 4)
    assert (cap.largest_bytes, cap.margin_bytes) == (1010, -10)
    assert cap.probability == pytest.approx(stats.t.sf((1000 - np.mean(sizes)) / spread, 3), rel=1e-9)


def test_seconds_of_the_track() -> None:
    """Fault: a run over the record's seconds, or on other machines, that passes for a record."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS)]
    entries[0]["metrics"]["train_seconds"] = 601.0
    entries[1]["metrics"]["ttt_seconds"] = 600.5
    options = {"margin_nats": 0.0}
    assert judged(entries, ["base"], track=NON_RECORD, **options).holds is True
    record = judged(entries, ["base"], track=RECORD, **options)
    assert record.holds is False
    assert len(record.faults) == 2
    assert not any("timed on" in note for note in record.notes)
    for method, faults in (("clip", 2), ("gptq", 4)):  # calibration on training data is training
        for one in entries[: len(VALUES)]:
            one["config"]["quant"]["mlp"]["method"] = method
            one["metrics"]["pack_seconds"] = 100.5
        assert len(judged(entries, ["base"], track=RECORD, **options).faults) == faults
    for one in entries:
        one["tags"]["device"] = "1 x CPU"
    assert any("timed on 8 x H100" in note for note in judged(entries, ["base"], track=RECORD, **options).notes)


def test_same_seed_noise_stands_beside_seed_noise() -> None:
    """Fault: a repeat counted as a seed, or the seed's own run as a repeat."""
    again = [1.2003, 1.2004, 1.2002]
    entries = [*study_entries("s", VALUES), *(entry("s", 0, value, repeat=k + 1) for k, value in enumerate(again))]
    verdict = judged(entries)
    assert verdict.noise_bpb is not None
    assert verdict.bpb is not None
    assert verdict.noise_bpb.repeat_sd == pytest.approx(np.std(again, ddof=1), rel=1e-9)
    assert verdict.noise_bpb.seeds_sd == pytest.approx(np.std(VALUES, ddof=1), rel=1e-9)
    assert verdict.bpb.num_values == 3


def test_another_stream_is_refused() -> None:
    """Fault: bits per byte of other bytes compared."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS)]
    for one in entries[3:]:
        for chunks in one["chunks"].values():
            chunks[5][2] += 1
    with pytest.raises(ValueError, match="not scored on the same validation stream"):
        judged(entries, ["base"])
    for one in entries[3:]:
        for chunks in one["chunks"].values():
            chunks[6][2] -= 1  # other chunks of the same text are what a change of score.chunk_tokens makes
    assert judged(entries, ["base"]).gain_bpb is not None


def test_a_study_is_not_its_own_baseline() -> None:
    """Fault: a gain of nothing over itself, tested as if the runs were independent."""
    entries = study_entries("s", VALUES)
    for name in ("s", entries[0]["trial"]):
        with pytest.raises(ValueError, match="shares runs"):
            judged(entries, [name])


def test_what_differs_from_the_baseline_and_what_was_seen_before_is_told() -> None:
    """Fault: a gain of other code or machines, of a seed that was chosen by its value, or of the third try."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS, code="other")]
    entries += [entry("sweep", 1, VALUES[1]), entry("sweep", 1, 1.5, set={"schedule.steps": 8000})]
    first = plain(judged([*entries[:2], *entries[3:]], ["base"]))
    notes = judged(entries, ["base"], history=[first]).notes
    assert any("differs in code" in note for note in notes)
    assert any("seed 1 is also" in note for note in notes)
    assert any("seen before at 2 seeds" in note for note in notes)
    assert not any(
        "seen before" in note for note in judged(entries, ["base"], history=[plain(judged(entries, ["base"]))]).notes
    )


def sequential_plan(words: tuple[float, ...], looks: range) -> Plan:
    """A plan of seeds 0, 1, 2, ..."""
    test = Sequential(tuple(looks), "given", words, len(words) == 1, 0.0)
    return Plan("c", "d", tuple(range(looks[-1])), sequential=test)


def test_looks_go_by_the_plan() -> None:
    """Fault: values after the decision, after a failed seed or out of order change what was decided."""
    plan = sequential_plan((1.21, 1.2103, 1.2097), range(3, 7))
    assert due(None, plan) == (0, 1, 2)
    near = [1.21, 1.2101, 1.2098]
    entries = study_entries("s", near)
    assert due(study_of("s", entries), plan) == (0, 1, 2, 3)
    clear = study_of("s", study_entries("s", [1.2, 1.2001, 1.1999]))
    assert due(clear, plan) == ()
    baseline = Baseline("given", (1.21, 1.2103, 1.2097), None, False, None)
    verdict = judge(clear, plan, baseline, 0.0)
    assert verdict.sequential is not None
    assert verdict.sequential.verdict == Decision.GAIN
    assert verdict.holds is True
    assert verdict.missing == ()
    later = judge(study_of("s", study_entries("s", [1.2, 1.2001, 1.1999, 1.4, 1.5])), plan, baseline, 0.0)
    assert later.sequential is not None
    assert later.sequential.verdict == Decision.GAIN
    gap = [*study_entries("s", near), entry("s", 4, 1.0), entry("s", 5, 1.0), entry("s", 3, None)]
    blocked = judge(study_of("s", gap), plan, baseline, 0.0)
    assert blocked.sequential is not None
    assert blocked.sequential.verdict == Decision.CONTINUE
    assert blocked.holds is False


def test_looking_again_keeps_the_error_rate() -> None:
    """Fault: on the way from plan to verdict a look is lost, doubled or taken at other values than the test's own.

    The error rate of the test itself is simulated in `test_allocation`.
    """
    rounds, looks, claims = 300, range(3, 8), 0
    drawn = np.random.default_rng(5).normal(1.2, 0.0007, (rounds, 12))
    study = study_of("s", study_entries("s", [1.2] * looks[-1]))
    for values in drawn.tolist():
        plan, found, num = sequential_plan(tuple(values[7:]), looks), with_values(study, values[:7]), looks[0]
        while wanted := due(replace(found, rows=found.rows[:num]), plan):
            num = len(wanted)
        baseline = Baseline("b", tuple(values[7:]), None, False, None)
        verdict = judge(replace(found, rows=found.rows[:num]), plan, baseline, 0.0)
        direct = sequential_decision(values[:7], values[7:], 0.0, looks=looks)
        assert verdict.sequential is not None
        assert verdict.sequential.verdict == direct.verdict
        assert len(verdict.sequential.looks) == len(direct.looks)
        assert num == direct.looks[-1].num_seeds
        claims += verdict.holds is True
    assert claims / rounds < 0.01 + 4 * math.sqrt(0.01 * 0.99 / rounds)


def test_the_verdict_fits_the_ledger(tmp_path: Path) -> None:
    """Fault: a verdict that cannot be written, or comes back changed."""
    entries = [*study_entries("s", VALUES), *study_entries("base", OTHERS), entry("s", 0, 1.2, repeat=1)]
    plan = sequential_plan((1.21, 1.22), range(3, 5))
    written = plain(judged(entries, ["base"], plan=plan))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(written)
    (read,) = ledger.find(kind="seeds", study="s")
    assert {field: read[field] for field in written} == written
    assert json.dumps(written).count("chunks") == 0


def test_a_seed_whose_nodes_were_lost_is_told() -> None:
    """Fault: seconds of other machines taken for the track's, or a study refused because a spot machine went."""
    entries = study_entries("s", VALUES)
    assert not any("ranks" in note for note in judged(entries).notes)
    entries[1]["tags"]["ranks"] = "8, 4 from step 120"
    verdict = judged(entries)
    assert any("8, 4 from step 120" in note for note in verdict.notes)
    assert verdict.faults == judged(study_entries("s", VALUES)).faults
