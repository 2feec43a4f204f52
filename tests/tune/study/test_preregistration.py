"""Plans of studies: fixed before the first value, kept in the ledger, not to be changed after it."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from golf.config.config import RunConfig, override_all, to_plain
from golf.config.rules import MARGIN_NATS, P_CLAIM
from tests.tune.study.made_runs import made_run
from tune.records.entries import PlanEntry, SequentialPlan, StudyPlan
from tune.records.ledger import Ledger
from tune.study.conditions import configuration_key
from tune.study.preregistration import SEEDS, agreed_plan, fixed_seeds, fresh_seeds, known_seeds
from tune.study.sequential_test import NO_GAIN_ALPHA

TEST = SequentialPlan(
    looks=(3, 4, 5),
    baseline="base",
    baseline_bpb=(1.21, 1.2103),
    published=False,
    margin_nats=MARGIN_NATS,
    alpha=P_CLAIM,
    no_gain_alpha=NO_GAIN_ALPHA,
)
PLAN = StudyPlan(configuration="config", data="data", seeds=(1, 2, 3, 4, 5), sequential=TEST)
FIXED = StudyPlan(configuration="config", data="data", seeds=(42, 7), repeats=3)


def test_a_plan_comes_back_from_the_ledger(tmp_path: Path) -> None:
    """Fault: the same command is refused because its own plan came back changed."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for study, plan in (("a", FIXED), ("b", PLAN)):
        ledger.append(PlanEntry(study=study, plan=plan))
        assert [entry.plan for entry in ledger.plans(study)] == [plan]
    assert agreed_plan("b", ledger.plans("b")[-1].plan, PLAN, 3) == PLAN


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("seeds", {"seeds": (1, 2, 3, 5, 4)}),
    ("configuration", {"configuration": "other"}),
    ("data", {"data": "other"}),
    ("cold", {"cold": True}),
    ("repeats", {"repeats": 2}),
    ("fixed number", {"sequential": None}),
    ("looks", {"sequential": replace(TEST, looks=(3, 4, 5, 6))}),
    ("margin nats", {"sequential": replace(TEST, margin_nats=0.001)}),
    ("alpha", {"sequential": replace(TEST, alpha=0.05)}),
    ("baseline bpb", {"sequential": replace(TEST, baseline_bpb=(1.21, 1.3))}),
]


@pytest.mark.parametrize(("named", "change"), CHANGES)
def test_a_sequential_plan_stays(named: str, change: dict[str, Any]) -> None:
    """Fault: looks, margin, order or baseline changed once values were seen, which voids the error rate."""
    with pytest.raises(ValueError, match=named):
        agreed_plan("s", PLAN, replace(PLAN, **change), 3)
    if named != "cold":
        assert agreed_plan("s", PLAN, replace(PLAN, **change), 0) == replace(PLAN, **change)


def test_a_sequential_plan_comes_before_the_values() -> None:
    """Fault: a plan of looks made for values that are known."""
    fixed = replace(PLAN, sequential=None)
    for earlier, message in ((None, "3 runs"), (fixed, "fixed number")):
        with pytest.raises(ValueError, match=message):
            agreed_plan("s", earlier, PLAN, 3)


def test_a_fixed_study_grows_and_forgets_nothing() -> None:
    """Fault: a planned seed dropped by naming fewer the next time."""
    grown = agreed_plan("s", FIXED, replace(FIXED, seeds=(9, 7), repeats=0), 2)
    assert grown == replace(FIXED, seeds=(42, 7, 9))
    with pytest.raises(ValueError, match="configuration"):
        agreed_plan("s", FIXED, replace(FIXED, configuration="other"), 2)


def test_seeds_go_on_in_one_order() -> None:
    """Fault: which seeds come next is anybody's choice, or a seed comes twice."""
    for num in (3, 10, 40):
        seeds = fixed_seeds(SEEDS, num)
        assert len(set(seeds)) == len(seeds) == num
        assert seeds[:3] == SEEDS
        assert fixed_seeds(SEEDS, num + 5)[:num] == seeds
        assert fixed_seeds((2025, 3), num)[:2] == (2025, 3)
        assert len(set(fixed_seeds((2025, 3), num))) == num
    for wrong in ([1, 1], [-1], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="seeds"):
            fixed_seeds(wrong, 3)


def test_a_sequential_plan_takes_fresh_seeds() -> None:
    """Fault: a plan of looks at values that another study has shown already, under the names of the same seeds."""
    configuration = configuration_key(to_plain(override_all(RunConfig(), {"cap_bytes": 1000})), "gepa")
    runs = [made_run("sweep", 42, 1.2), made_run("other", 7, 1.2), made_run("s", 5, 1.2), made_run("other", 9, None)]
    runs.append(made_run("other", 11, 1.2, fields={"schedule.steps": 8000}))
    known = known_seeds(configuration, "s", [entry for entry, _ in runs])
    assert known == {42: "sweep", 7: "other"}
    seeds = fresh_seeds(None, 12, known, None)
    assert len(set(seeds)) == 12
    assert not set(seeds) & set(known)
    assert seeds[:2] == (1337, 2025)
    assert fresh_seeds((3, 4), 6, known, None)[:2] == (3, 4)
    with pytest.raises(ValueError, match=r'42 \(in "sweep"\)'):
        fresh_seeds((3, 42), 6, known, None)
    for given in (None, (1, 2)):  # the plan was there before another study ran its seeds
        assert fresh_seeds(given, 5, {1: "later"}, PLAN) == PLAN.seeds
    everything = dict.fromkeys(fixed_seeds(SEEDS, 30), "other")
    assert not set(fresh_seeds(None, 9, everything, None)) & set(everything)
