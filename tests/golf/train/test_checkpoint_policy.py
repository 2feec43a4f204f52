"""The interval between saves against a search for the least loss, and its measured cost."""

import math
import random
import time
from functools import partial

import pytest

from golf.runtime.results import CheckpointCost
from golf.train.checkpoint_policy import FIRST_SAVE_SECONDS, CheckpointPolicy, CheckpointTimer


def lost_share(interval: float, save: float, mtbf: float) -> float:
    """Share of the time that is lost to saves and to work after the last one, by simulated failures."""
    chance, useful, clock = random.Random(1), 0.0, 0.0
    for _ in range(20_000):
        up = chance.expovariate(1 / mtbf)
        useful += interval * math.floor(up / (interval + save))
        clock += up
    return 1 - useful / clock


@pytest.mark.parametrize(("save", "mtbf_hours"), [(0.1, 0.1), (2.0, 2.0), (30.0, 24.0)])
def test_no_other_interval_loses_less(save: float, mtbf_hours: float) -> None:
    """Fault: seconds for hours, a forgotten factor of two: intervals apart from the best one lose more."""
    interval, mtbf = CheckpointPolicy(mtbf_hours=mtbf_hours).interval_seconds(save), 3600 * mtbf_hours
    best = lost_share(interval, save, mtbf)
    assert all(lost_share(interval * factor, save, mtbf) > best for factor in (0.5, 0.6, 1.7, 2.0))


def test_the_first_save_comes_early_and_tells_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the cost is never measured, is that of one save only, or counts as work."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    saves = CheckpointTimer(CheckpointPolicy(mtbf_hours=1.0))
    assert saves.cost == CheckpointCost()
    assert not saves.due
    now[0] += FIRST_SAVE_SECONDS
    assert saves.due
    for seconds in (1.0, 3.0):
        saves.save(partial(now.__setitem__, 0, now[0] + seconds))
    interval = math.sqrt(2 * 2.0 * 3600)
    assert saves.cost == CheckpointCost(saves=2, save_seconds=2.0, save_interval_seconds=interval)
    now[0] += interval - 1
    assert not saves.due
    now[0] += 1
    assert saves.due


def test_a_fixed_interval_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a wish that the measured cost overrules; 0 that means never."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    saves, always = CheckpointTimer(CheckpointPolicy(seconds=60.0)), CheckpointTimer(CheckpointPolicy(seconds=0.0))
    now[0] += 59
    assert (saves.due, always.due) == (False, True)
    now[0] += 1
    assert saves.due
    saves.save(lambda: now.__setitem__(0, now[0] + 1000))
    assert not saves.due
    assert saves.cost.save_interval_seconds == 60.0


@pytest.mark.parametrize(
    "wrong", [{"seconds": -1.0}, {"seconds": math.nan}, {"mtbf_hours": 0}, {"mtbf_hours": math.inf}]
)
def test_impossible_wishes_are_refused(wrong: dict[str, float]) -> None:
    """Fault: a stage that never saves, or fails at its first save."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CheckpointPolicy(**wrong)
