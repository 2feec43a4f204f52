"""Limits of a sweep: counted over its starts, told in words."""

from pathlib import Path

import pytest

from tests.tune.entries import entry_of, scored
from tune.cluster.limits import Limits, LimitWatch, read_used
from tune.records.entries import Objective, TrialEntry
from tune.search.space import Trial


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def done(loss: float) -> TrialEntry:
    """A finished trial."""
    return scored(Trial(trial="0" * 12, parameters={}, name="x=1", config={}), loss)


def test_hours_and_dollars_count_over_all_starts(tmp_path: Path) -> None:
    """Fault: a second start that gets the whole budget again, or time between two starts that is counted."""
    clock, file = Clock(), tmp_path / "sweeps" / "s" / "used.json"
    limits = Limits(max_hours=3, max_dollars=70, dollars_per_gpu_hour=2.0)
    first = LimitWatch(limits, file, 8.0, clock=clock)
    for running in (0, 1, 2):  # 1 h each
        clock.now += 3600
        first.check(running)
        assert (first.stop is None) == (running < 2)
    assert first.stop is not None
    assert "the 3 h of --max-hours are used" in first.stop.reason
    assert first.stop.ends_running
    first.write()
    assert read_used(file).hours == pytest.approx(3.0)
    assert read_used(file).gpu_hours == pytest.approx(24.0)

    clock.now += 1e6
    dearer = Limits(max_hours=5, max_dollars=70, dollars_per_gpu_hour=2.0)
    second = LimitWatch(dearer, file, 8.0, clock=clock)
    assert second.stop is None
    clock.now += 3600
    stop = second.check(1)  # 32 GPU-hours at 2 dollars
    assert stop is None
    clock.now += 1800
    stop = second.check(1)  # 36
    assert stop is not None
    assert "the 70 dollars of --max-dollars are used (36.00 GPU-hours of trials, 72.00 dollars" in stop.reason
    assert "larger --max-dollars" in stop.remedy


def test_a_score_that_is_good_enough(tmp_path: Path) -> None:
    """Fault: a failed or worse trial that ends the sweep, a larger score that is better taken for a worse one."""
    watch = LimitWatch(Limits(stop_at=1.2), tmp_path / "used.json", 1.0)
    watch.learn(done(1.25))
    watch.learn(entry_of(Trial(trial="1" * 12, parameters={}, name="y", config={}), "failed"))
    assert watch.stop is None
    watch.learn(done(1.2))
    assert watch.stop is not None
    assert not watch.stop.ends_running
    assert watch.stop.reason == "x=1 has 1.2000 BPB, which --stop-at 1.2 asks for"
    assert LimitWatch(Limits(stop_at=1.2), tmp_path / "used.json", 1.0, known=[done(1.1)]).stop is not None
    accuracy = Objective(name="acc", maximize=True)
    for value, enough in ((0.7, False), (0.9, True)):
        entry = entry_of(
            Trial(trial="2" * 12, parameters={}, name="z", config={}),
            "done",
            objective=accuracy,
            metrics={"acc": value},
        )
        watch = LimitWatch(Limits(stop_at=0.8), tmp_path / "used.json", 1.0, accuracy, [entry])
        assert (watch.stop is not None) == enough


def test_what_cannot_be_counted_is_said(tmp_path: Path) -> None:
    """Fault: a budget without a price that never ends, a damaged file that is taken for nothing used."""
    with pytest.raises(ValueError, match="--dollars-per-gpu-hour"):
        Limits(max_dollars=10)
    (tmp_path / "used.json").write_text("{hours")
    with pytest.raises(ValueError, match=r"used\.json: .*delete it"):
        read_used(tmp_path / "used.json")
