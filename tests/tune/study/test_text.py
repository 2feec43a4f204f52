"""The text of a verdict holds all of it, in lines that a terminal shows."""

from golf.config.rules import RECORD
from tests.tune.study.test_runs import NATS_PER_BPB, entry, study_entries
from tune.study.baseline import baseline_of
from tune.study.preregistration import Plan
from tune.study.runs import study_of
from tune.study.text import WIDTH, conclusion, verdict_text
from tune.study.verdict import judge


def test_every_run_fault_and_note_is_shown() -> None:
    """Fault: a failed seed, another run of the configuration or a fault that the reader never sees."""
    entries = [*study_entries("s", [1.2, 1.21, 1.22]), *study_entries("base", [1.3, 1.31, 1.32], code="other")]
    entries += [entry("s", 4, None, cause="diverged: " + "step 7 " * 40), entry("s", 5, None, status="infeasible")]
    entries += [entry("s", 0, 1.2, repeat=1), entry("s", 0, 1.2002, repeat=2), entry("t", 1, 1.21), entry("t", 3, 1.1)]
    baseline = baseline_of(["base"], entries, NATS_PER_BPB)
    study = study_of("s", entries)
    verdict = judge(study, Plan("c", "d", (0, 1, 2, 4, 5, 77)), baseline, track=RECORD)
    text = verdict_text(verdict)
    flat = " ".join(text.split())
    for run in (*verdict.rows, *verdict.repeats, *(other.run for other in verdict.others)):
        assert run.trial in text
        assert run.bpb is None or f"{run.bpb:.5f}" in text
    assert "77" in text
    assert len(verdict.faults) >= 3
    for said in (*verdict.faults, *verdict.notes):
        assert " ".join(said.split()) in flat
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_a_conclusion_never_claims_against_a_fault() -> None:
    """Fault: a sentence that says more than the verdict."""
    entries = [*study_entries("s", [1.2, 1.2001, 1.2002]), *study_entries("base", [1.3, 1.3001, 1.3002])]
    baseline = baseline_of(["base"], entries, NATS_PER_BPB)
    whole = judge(study_of("s", entries), None, baseline)
    assert whole.holds
    assert "nothing may be claimed" not in conclusion(whole)
    failed = judge(study_of("s", [*entries, entry("s", 9, None)]), None, baseline)
    assert failed.claim
    assert "nothing may be claimed" in conclusion(failed)
