"""The order of trials by the tree of what they share, on grids of the demo."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf.config.presets import PRESETS
from tests.tune.entries import scored
from tune.cache.stage_graph import StageGraph, StageName, StageOutput
from tune.planning.order import TreeOrder
from tune.records.entries import WorldShape
from tune.search.search import Search, SearchConfig
from tune.search.space import Space, Trial
from tune.workloads.gepa.workload import GepaWorkload

WORKLOAD = GepaWorkload(
    base=PRESETS["demo"],
    preset="demo",
    data_directory=Path("nowhere"),
    data="ab" * 32,
    num_targets=1_000_000,
    world=WorldShape(ranks=1, cpus=1.0, device="cpu", threads=1),
)
SPACE: Space = {
    "schedule.steps": [12, 20],
    "schedule.warmdown_start": [4, 8],
    "split": ["pure-int6", "int8"],
    "ttt.epochs": [1, 2],
}


class Sweep:
    """The trials of a grid, each of whose outputs is stored when the test says so."""

    def __init__(self, space: Space = SPACE, screened: bool = False) -> None:
        self.search = Search(SearchConfig(spaces=(space,), strategy="grid"), WORKLOAD.trial)
        self.planned = self.search.planned()
        self.workload = WORKLOAD.for_trials(self.planned)
        self.graphs: dict[str, StageGraph] = {}
        self.stored: set[str] = set()
        self.seconds = 0.0
        self.order = TreeOrder(self.graph, lambda: self.stored, screened=screened, clock=lambda: self.seconds)
        self.search.order_by(self.order)

    def graph(self, trial: Trial) -> StageGraph:
        """The outputs of a trial."""
        if trial.trial not in self.graphs:
            self.graphs[trial.trial] = self.workload.stages(trial)
        return self.graphs[trial.trial]

    def ask(self) -> Trial | None:
        """Asks after the time between two looks."""
        self.seconds += 10.0
        return self.search.ask()

    def end(self, trial: Trial, works: bool = True, bpb: float = 2.0) -> None:
        """Ends a trial, with all its outputs stored or as a failure."""
        keys = tuple(self.graph(trial).keys) if works else ()
        self.stored |= set(keys)
        self.search.tell(scored(trial, bpb, keys=keys))


@settings(max_examples=30)
@given(st.data())
def test_every_trial_once_and_none_that_waits(data: st.DataObject) -> None:
    """Fault: a trial lost or given twice; one that starts to wait; a sweep that stands still with nothing running."""
    sweep, running, given_out = Sweep(), list[Trial](), list[str]()
    slots = data.draw(st.integers(1, 6))
    while True:
        while len(running) < slots and (trial := sweep.ask()) is not None:
            awaited = {key for other in running for key in sweep.graph(other).keys} - sweep.stored
            missing = sweep.graph(trial).missing(sweep.stored)
            inner = {output.key for output in missing if output.key in sweep.graph(trial).read}
            assert not inner & awaited, "another trial computes what it needs"
            running.append(trial)
            given_out.append(trial.trial)
        if not running:
            break
        event = data.draw(st.sampled_from(("end", "fail", "store")))
        chosen = data.draw(st.sampled_from(running))
        if event == "store":  # a state on the way, or a rung, in the order of the computation
            output = next(iter(sweep.graph(chosen).missing(sweep.stored)), None)
            sweep.stored |= {output.key} if output is not None else set()
            continue
        running.remove(chosen)
        sweep.end(chosen, works=event == "end")
    assert sorted(given_out) == sorted(trial.trial for trial in sweep.planned)
    assert not sweep.search.holds_back


def test_new_trainings_first_and_the_longest_of_them() -> None:
    """Fault: leaves of the first training before other trainings, whose own leaves then all come late."""
    sweep = Sweep({**SPACE, "seed": [1, 2]})
    first = [trial for trial in (sweep.ask(), sweep.ask()) if trial is not None]
    assert [trial.parameters["schedule.steps"] for trial in first] == [20, 20]
    assert {trial.parameters["seed"] for trial in first} == {1, 2}, "a second trial of one tree would wait"
    assert sweep.ask() is None
    assert sweep.search.holds_back
    chain = [output for output in sweep.graph(first[0]).outputs if output.name.steps is not None]
    assert chain, "its training is shared"
    sweep.stored.add(chain[0].key)
    parted = sweep.ask()
    assert parted is not None
    assert parted.parameters["seed"] == first[0].parameters["seed"]
    train = {output.key for output in sweep.graph(parted).outputs if str(output.name) == "train"}
    assert not train & set(sweep.graph(first[0]).keys), "a training of its own from the stored state"


def test_leaves_of_a_training_begin_with_another_artifact() -> None:
    """Fault: several trials of one artifact at once, all but one of which wait for it to be packed."""
    sweep = Sweep({**SPACE, "schedule.steps": [12], "schedule.warmdown_start": [4]})
    first = sweep.ask()
    assert first is not None
    assert sweep.ask() is None
    sweep.stored |= {output.key for output in sweep.graph(first).outputs if output.steps}
    second = sweep.ask()
    assert second is not None
    assert second.parameters["split"] != first.parameters["split"]
    assert sweep.ask() is None
    sweep.stored |= {output.key for output in sweep.graph(first).outputs if str(output.name) == "pack"}
    third = sweep.ask()
    assert third is not None
    assert third.parameters["split"] == first.parameters["split"], "it has a TTT of its own; shared rungs come in time"


@pytest.mark.parametrize(("screened", "third"), [(True, "pure-int6"), (False, "int8")])
def test_screened_trials_come_by_what_is_expected_of_them(screened: bool, third: str) -> None:
    """Fault: an unknown artifact before one that scored well, without whose trials few are compared with a good one."""
    space: Space = {"split": ["pure-int6", "int4", "int8"], "ttt.epochs": [1, 2]}
    sweep, splits = Sweep(space, screened), list[str]()
    for _ in range(3):
        trial = sweep.ask()
        assert trial is not None
        splits.append(trial.parameters["split"])
        sweep.end(trial, bpb=2.0 if splits[-1] == "pure-int6" else 3.0)
    assert splits == ["pure-int6", "int4", third]


def test_what_is_stored_comes_first_and_what_a_failure_left_is_taken_over() -> None:
    """Fault: results that are there shown last; a training that failed is waited for by all others for ever."""
    sweep = Sweep({**SPACE, "schedule.warmdown_start": [4]})
    stored = sweep.planned[-1]
    sweep.stored |= set(sweep.graph(stored).keys)
    assert sweep.ask() == stored
    sweep.end(stored)
    sweep.stored.clear()
    failing = sweep.ask()
    assert failing is not None
    sweep.end(failing, works=False)
    again = sweep.ask()
    assert again is not None
    assert sweep.graph(again).missing(sweep.stored)[0].key == sweep.graph(failing).missing(sweep.stored)[0].key


def opaque(trials: Sequence[Trial]) -> TreeOrder:
    """The order of trials that share nothing."""
    outputs = {trial.trial: StageOutput(StageName("run"), trial.trial, ("run.json",)) for trial in trials}
    return TreeOrder(lambda trial: StageGraph((outputs[trial.trial],)), lambda: ())


def test_trials_that_share_nothing_keep_their_order() -> None:
    """Fault: a random search, or a script's, reordered for no gain; points to come first that do not."""
    space: Space = {"seed": list(range(8))}
    for strategy in ("grid", "random"):
        config = SearchConfig(spaces=(space,), strategy=strategy, num_trials=6, enqueued=({"seed": 5},))
        plain, ordered = (Search(config, WORKLOAD.trial) for _ in range(2))
        planned = plain.planned()
        ordered.order_by(opaque(planned))
        assert list(iter(ordered.ask, None)) == planned
        assert planned[0].parameters == {"seed": 5}


def test_a_look_costs_a_tenth_of_the_time_at_most() -> None:
    """Fault: a slow bucket that is listed again and again while trials are held back."""
    sweep, looks = Sweep({**SPACE, "schedule.warmdown_start": [4]}), list[float]()

    def slow() -> set[str]:
        looks.append(sweep.seconds)
        sweep.seconds += 2.0
        return set()

    order = TreeOrder(sweep.graph, slow, clock=lambda: sweep.seconds)
    first = order.choose(sweep.planned)
    assert first is not None
    order.start(first)
    rest = [trial for trial in sweep.planned if trial != first]
    for _ in range(100):
        sweep.seconds += 1.0
        assert order.choose(rest) is None
    assert 4 <= len(looks) <= 6


def test_a_store_that_does_not_answer_costs_no_trial() -> None:
    """Fault: a bucket out of reach for a moment that ends the sweep, or holds trials back for ever."""

    def fail() -> set[str]:
        raise OSError("no route to host")

    sweep = Sweep()
    sweep.search.order_by(TreeOrder(sweep.graph, fail, clock=lambda: sweep.seconds))
    given_out = []
    while (trial := sweep.ask()) is not None:
        given_out.append(trial.trial)
        sweep.end(trial)
    assert sorted(given_out) == sorted(trial.trial for trial in sweep.planned)
