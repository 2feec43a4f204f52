"""Marginal cost: what is shared is free, what is not is estimated from what was seen."""

from typing import Any

import pytest

from golf.config.config import RunConfig, to_plain
from tune.planning.cost import Costs
from tune.planning.stage_timings import StageTimings
from tune.search.search import Search
from tune.search.space import Space, Trial, make_trial, points_of
from tune.workloads.gepa.stages import GepaStages, branch_points, gepa_stages, training_key

SPACE: Space = {"schedule.steps": [8, 40], "schedule.warmdown_start": [4], "split": ["int4", "int8"]}
WORLD = {"ranks": 1, "cpus": 1, "device": "cpu"}


@pytest.fixture
def costs(tiny: RunConfig) -> Costs:
    """Nothing is computed, nothing seen."""
    points = branch_points(make_trial(tiny, point, "data").config for point in points_of(SPACE))

    def stages(trial: Trial) -> GepaStages:
        return gepa_stages(trial.config, "data", WORLD, points[training_key(trial.config)])

    return Costs(stages, StageTimings([], "data", WORLD))


def trial_of(tiny: RunConfig, steps: int, split: str) -> Trial:
    """A point."""
    return make_trial(tiny, {"schedule.steps": steps, "schedule.warmdown_start": 4, "split": split}, "data")


def entry_of(trial: Trial, **metrics: float) -> dict[str, Any]:
    """A ledger entry."""
    return {"trial": trial.trial, "config": to_plain(trial.config), "data": "data", "metrics": metrics}


def test_what_is_shared_is_free(tiny: RunConfig, costs: Costs) -> None:
    """Fault: a prefix, the weights or the artifact paid for twice, or not at all."""
    long, other, short = trial_of(tiny, 40, "int4"), trial_of(tiny, 40, "int8"), trial_of(tiny, 8, "int4")
    assert costs.seconds(long) == 40
    assert costs.seconds(short) == 8
    costs.take(short)
    assert costs.seconds(long) == 35  # the first 5 steps are the short one's
    costs.learn(entry_of(short, train_seconds=16.0, pack_seconds=1.0, live_seconds=2.0, ttt_seconds=5.0))
    assert costs.seconds(long) == 35 * 2 + 1 + 2 + 5
    costs.take(long)
    assert costs.seconds(long) == 0
    assert costs.seconds(other) == 1 + 5  # the weights and their float rungs are there


def test_tpe_takes_the_cheaper_of_equals(tiny: RunConfig, costs: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a search that pays for steps although as good a candidate is nearly free."""
    monkeypatch.setattr("tune.search.search._RANDOM_FIRST", 0)
    chosen = {}
    for cost in (None, costs):
        search = Search(tiny, SPACE, "tpe", 4, 1, "data")
        if cost is not None:
            search.price(cost)
        trials = []
        while (trial := search.ask()) is not None:
            trials.append(trial.config.schedule.steps)
        chosen[cost is not None] = trials
    assert sorted(chosen[True]) == sorted(chosen[False]) == [8, 8, 40, 40]
    assert chosen[True] == [8, 8, 40, 40]
