"""How many workers an attempt gets, and when a stage is given up."""

import pytest

from golf.runtime.process_group import ProcessGroup
from tune.cluster.retry_policy import RetryPolicy, RetryState
from tune.records.entries import FailureKind
from tune.workloads.gepa.workload import GepaWorkload

SIZES = GepaWorkload.world_sizes
KILLED, LOST_PEER, PREEMPTED = FailureKind.KILLED, FailureKind.LOST_PEER, FailureKind.PREEMPTED


def test_the_sizes_are_those_a_group_takes() -> None:
    """Fault: a number of workers with which the batches are others, or one that is left out."""
    allowed = []
    for size in range(1, 100):
        try:
            allowed.append(ProcessGroup(world_size=size).world_size)
        except ValueError:
            continue
    assert sorted(SIZES) == allowed


def test_a_loss_is_waited_for_once_and_then_shrunk_to_the_largest_divisor() -> None:
    """Fault: seven of eight workers, none at all, a shrink at the first look, or a wait at every further attempt."""
    attempts = RetryState(8, SIZES, RetryPolicy())
    assert attempts.size(free=8, whole=8) == 8
    assert attempts.failed(KILLED, (0, 10), 8)
    assert attempts.size(free=7, whole=7) == 8
    assert attempts.waited()
    assert attempts.size(free=7, whole=7) == 4
    assert attempts.failed(KILLED, (0, 20), 4)
    assert attempts.size(free=3, whole=3) == 2
    assert attempts.failed(KILLED, (0, 30), 2)
    attempts.begin()
    assert attempts.size(free=1, whole=1) == 1
    assert attempts.failed(KILLED, (0, 1), 1)
    assert attempts.size(free=8, whole=9) == 8
    assert attempts.failed(KILLED, (0, 2), 8)
    assert attempts.size(free=4, whole=4) == 8, "a new loss is waited for again"


def test_what_others_hold_is_waited_for() -> None:
    """Fault: fewer workers, and other bits, because another trial was faster; a wait without end."""
    attempts = RetryState(8, SIZES, RetryPolicy(most_waits=3))
    for go_on in (True, True, False):
        assert attempts.size(free=1, whole=8) == 8
        assert attempts.waited() == go_on


def test_nothing_free_asks_for_all() -> None:
    """Fault: zero workers, which Ray Train would run in the trial's own process."""
    attempts = RetryState(4, SIZES, RetryPolicy())
    attempts.waited()
    assert attempts.size(free=0, whole=0) == 4


@pytest.mark.parametrize("kinds", [(KILLED,), (KILLED, LOST_PEER, PREEMPTED)])
def test_a_stage_that_comes_further_goes_on_all_night(kinds: tuple[FailureKind, ...]) -> None:
    """Fault: a spot cluster's third lost node that fails the trial."""
    attempts = RetryState(8, SIZES, RetryPolicy(max_failures=1))
    assert all(attempts.failed(kinds[step % len(kinds)], (0, step), 8) for step in range(50))


def test_a_cause_without_progress_gets_only_so_many_chances() -> None:
    """Fault: a stage that is begun again for ever, or one given up for two causes that are not its own."""
    attempts = RetryState(8, SIZES, RetryPolicy(max_failures=2))
    assert [attempts.failed(KILLED, (0, 7), 8) for _ in range(2)] == [True, True]
    assert attempts.failed(LOST_PEER, (0, 7), 8)
    assert not attempts.failed(KILLED, (0, 7), 8)
    again = RetryState(8, SIZES, RetryPolicy(max_failures=2))
    seen = [again.failed(KILLED, progress, 8) for progress in ((0, 5), (0, 9), (0, 8), (0, 9))]
    assert seen == [True, True, True, False], "to come as far as before is no progress"


def test_results_count_before_steps() -> None:
    """Fault: the second rung's first chunk taken for less than the first rung's last."""
    attempts = RetryState(8, SIZES, RetryPolicy(max_failures=0))
    assert not attempts.failed(KILLED, (0, 40), 8)
    begun = RetryState(8, SIZES, RetryPolicy(max_failures=1))
    assert [begun.failed(KILLED, progress, 8) for progress in ((0, 40), (1, 0), (1, 3))] == [True] * 3


@pytest.mark.parametrize("wrong", [{"max_failures": -1}, {"patience_seconds": 0.0}, {"timeout_seconds": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    """Fault: a wait that never ends or never begins."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
