"""The text of a verdict holds all of it, in lines that a terminal shows."""

from golf.config.rules import RECORD
from tests.tune.study.made_runs import NATS_PER_BPB, InLedger, made_run, made_runs
from tune.records.entries import StudyPlan
from tune.study.baseline import baseline_of
from tune.study.noise import PUBLISHED, seeds_table
from tune.study.paired import compare
from tune.study.runs import study_of
from tune.study.text import WIDTH, comparison_text, conclusion, power_text, verdict_text
from tune.study.verdict import judge


def test_every_run_fault_and_note_is_shown(in_ledger: InLedger) -> None:
    """Fault: a failed seed, another run of the configuration or a fault that the reader never sees."""
    runs = [*made_runs("s", [1.2, 1.21, 1.22]), *made_runs("base", [1.3, 1.31, 1.32], code="other")]
    runs += [made_run("s", 4, None, reason="diverged: " + "step 7 " * 40), made_run("s", 5, None, state="infeasible")]
    runs += [made_run("s", 0, 1.2, repeat=1), made_run("s", 0, 1.2002, repeat=2)]
    ledger = in_ledger([*runs, made_run("t", 1, 1.21), made_run("t", 3, 1.1)])
    study = study_of("s", ledger)
    plan = StudyPlan(configuration="c", data="d", seeds=(0, 1, 2, 4, 5, 77))
    verdict = judge(study, plan, baseline_of(["base"], ledger, NATS_PER_BPB), track=RECORD)
    text = verdict_text(study, verdict)
    flat = " ".join(text.split())
    for run in (*study.entries, *(other.entry for other in study.others)):
        assert run.trial in text
        assert run.bpb is None or f"{run.bpb:.5f}" in text
    assert "77" in text
    assert len(verdict.faults) >= 3
    for remark in (*verdict.faults, *verdict.notes):
        assert " ".join(remark.split()) in flat
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_a_conclusion_never_claims_against_a_fault(in_ledger: InLedger) -> None:
    """Fault: a sentence that says more than the verdict."""
    runs = [*made_runs("s", [1.2, 1.2001, 1.2002]), *made_runs("base", [1.3, 1.3001, 1.3002])]
    verdicts = []
    for ledger in (in_ledger(runs), in_ledger([*runs, made_run("s", 9, None)])):
        baseline = baseline_of(["base"], ledger, NATS_PER_BPB)
        verdicts.append(judge(study_of("s", ledger), None, baseline))
    complete, failed = verdicts
    assert complete.holds
    assert "nothing may be claimed" not in conclusion(complete)
    assert failed.comparison is not None
    assert failed.comparison.claim
    assert "nothing may be claimed" in conclusion(failed)


def test_columns_hold_their_figures(in_ledger: InLedger) -> None:
    """Fault: a figure below another column's head, or a number that a table library rounds or aligns as it likes."""
    ledger = in_ledger([*made_runs("a", [1.21, 1.2103, 1.2096]), *made_runs("b", [1.20510, 1.2049, 1.2058])])
    lines = comparison_text(compare(["a", "b"], ledger)).splitlines()
    assert lines[0] == "b against a, on one validation stream"
    assert lines[1].split("  ")[0] == "seed"
    assert lines[2].split()[:2] == ["0", "+0.00490"]
    text = power_text(PUBLISHED, seeds_table(0.0007, 0.003, [0.0065]), 0.005, 1.6, "made up", None).splitlines()
    head = next(number for number, line in enumerate(text) if "true gain" in line)
    assert text[head + 1].split() == ["nats/token", "BPB", "as", "many", "a", "mean", "as", "many", "a", "mean"]
    assert text[head + 2].split()[:2] == ["0.0104", "0.00650"]
    assert len({len(line) for line in text[head : head + 3]}) == 1  # all to the right
