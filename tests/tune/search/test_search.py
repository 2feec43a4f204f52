"""Asking and telling: every point once, resumption, and a TPE that keeps below the cap."""

import math
from collections.abc import Callable, Sequence

import msgspec
import pytest

from golf.config.config import RunConfig, override_all
from golf.config.presets import PRESETS
from tests.tune.entries import entry_of, over_cap, scored
from tune.records.entries import TrialEntry
from tune.search.search import STRATEGIES, Search, SearchConfig
from tune.search.space import Point, Range, Space, Trial
from tune.workloads.gepa.space import enqueued_points, make_trial, space_of

BASE = PRESETS["demo"]
BASE_60 = override_all(BASE, {"schedule.steps": 60, "schedule.warmdown_start": 50})
SPACE: Space = {"schedule.steps": [40, 60, 80], "schedule.warmdown_start": [20, 50], "split": ["pure-int6", "int8"]}


def maker(base: RunConfig = BASE, data: str = "data") -> Callable[[Point], Trial]:
    """Makes trials of a configuration."""
    return lambda point: make_trial(base, point, data)


def search_of(
    space: Space | tuple[Space, ...],
    strategy: str = "grid",
    num_trials: int | None = None,
    seed: int = 0,
    known: Sequence[TrialEntry] = (),
) -> Search:
    """A search of the demo."""
    spaces = space if isinstance(space, tuple) else (space,)
    return Search(SearchConfig(spaces=spaces, strategy=strategy, num_trials=num_trials, seed=seed), maker(), known)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_valid_point_once(strategy: str) -> None:
    """Fault: a point given twice or never, or an invalid one (a warmdown at 50 of 40 steps) that stops the sweep."""
    search = search_of(SPACE, strategy, 100)
    given = []
    while (trial := search.ask()) is not None:
        given.append(trial)
        search.tell(scored(trial, 2.0 + len(given)))
    assert len({trial.trial for trial in given}) == len(given) == search.num_trials == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_goes_on_after_an_interruption(strategy: str) -> None:
    """Fault: finished trials run again, an unfinished one forgotten, the number of trials exceeded."""
    first = search_of(SPACE, strategy, 6, 1)
    begun = [first.ask() for _ in range(4)]
    finished = [scored(trial, 2.5) for trial in begun[:3] if trial]
    second = search_of(SPACE, strategy, 6, 1, finished)
    assert begun[3] is not None
    second.resume([begun[3].parameters])
    rest = list(iter(second.ask, None))
    assert rest[0] == begun[3]
    assert len(rest) == 3
    assert not {trial.trial for trial in rest} & {entry.trial for entry in finished}


def test_ignores_entries_of_other_data() -> None:
    """Fault: a result on other data taken for this search's."""
    trial = Search(SearchConfig(spaces=(SPACE,), strategy="grid"), maker(data="other")).ask()
    assert trial is not None
    assert len(search_of(SPACE, known=[scored(trial, 1.0)]).planned()) == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_plan_gives_no_trial(strategy: str) -> None:
    """Fault: a question that changes the answer to the next one."""
    search = search_of(SPACE, strategy, 6, 1)
    planned = search.planned()
    assert planned == search.planned()
    assert len(planned) == 6
    assert search.ask() == planned[0]


def test_tpe_learns_the_cap() -> None:
    """Fault: a constraint that is not told. More steps score better here and are over the cap above 100."""
    space: Space = {"schedule.steps": list(range(40, 240, 5)), "schedule.warmdown_start": [10, 20, 30]}
    late_feasible = {}
    for told in (True, False):
        search = search_of(space, "tpe", 40, 3)
        feasible = []
        while (trial := search.ask()) is not None:
            steps = trial.config["schedule"]["steps"]
            feasible.append(steps <= 100)
            over = max(0, steps - 100) * 1000
            search.tell(over_cap(trial, over) if told and over else scored(trial, 3 - steps / 200))
        late_feasible[told] = sum(feasible[20:])
    assert late_feasible[True] >= 2 * late_feasible[False]


def test_a_failed_trial_teaches_nothing() -> None:
    """Fault: a crash of the search over an entry without a score."""
    search = search_of(SPACE, "tpe", 3)
    trial = search.ask()
    assert trial is not None
    search.tell(entry_of(trial, "failed"))
    assert len(list(iter(search.ask, None))) == 2


@pytest.mark.parametrize(
    ("space", "strategy", "complaint"),
    [
        (SPACE, "grdi", "grid"),
        ({"schedule.stesp": [1]}, "grid", "steps"),
        ({"split": ["pure-int5"]}, "grid", "pure-int6"),
        ({"schedule.steps": []}, "grid", "no choices"),
        ({"schedule.steps": [40], "schedule.warmdown_start": [50]}, "grid", "warmdown_start"),
    ],
)
def test_names_what_is_wrong(space: Space, strategy: str, complaint: str) -> None:
    """Fault: a misspelt field that only fails in the first trial."""
    with pytest.raises(ValueError, match=complaint):
        search_of(space, strategy)


def test_presets_spaces_are_valid() -> None:
    """Fault: a preset whose own sweep does not start."""
    for preset, base in PRESETS.items():
        config = SearchConfig(spaces=(space_of(preset, {}),), strategy="grid")
        assert Search(config, maker(base)).num_trials > 8


def test_several_spaces_are_one_search() -> None:
    """Fault: a point of the second space lost, or a finished one given again because the first has other fields."""
    spaces: tuple[Space, ...] = ({"seed": [1, 2]}, {"seed": [1], "repeat": [1, 2]})
    search = search_of(spaces)
    given = search.planned()
    assert [dict(trial.parameters) for trial in given] == [
        {"seed": 1},
        {"seed": 2},
        {"seed": 1, "repeat": 1},
        {"seed": 1, "repeat": 2},
    ]
    reordered = msgspec.structs.replace(scored(given[3], 2.0), parameters={"repeat": 2, "seed": 1})
    again = search_of(spaces, known=[scored(given[1], 2.0), reordered])
    assert [trial.trial for trial in again.planned()] == [given[0].trial, given[2].trial]
    with pytest.raises(ValueError, match="one space"):
        search_of(spaces, "tpe")


RANGES: Space = {"ttt.lr": Range(low=1e-4, high=1e-1, log=True), "ttt.epochs": Range(low=1, high=9, step=2)}


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_ranges_are_searched_and_gone_on_with(strategy: str) -> None:
    """Fault: a point outside its range, one given twice, or a point of an earlier start not known again."""
    first = search_of(RANGES, strategy, 12, 3)
    begun = [trial for _ in range(8) if (trial := first.ask())]
    finished = [scored(trial, 2.0) for trial in begun[:6]]
    second = search_of(RANGES, strategy, 12, 3, finished)
    second.resume([trial.parameters for trial in begun[6:]])
    rest = list(iter(second.ask, None))
    assert [trial.trial for trial in rest[:2]] == [trial.trial for trial in begun[6:]]
    every = [*begun[:6], *rest]
    assert len({trial.trial for trial in every}) == len(every) == second.num_trials == 12
    assert all(trial.parameters[field] in RANGES[field] for trial in every for field in RANGES)


def test_tpe_finds_the_bottom_of_a_range() -> None:
    """Fault: numbers of a range proposed or told as something else, so that nothing is learned of them."""

    def best(strategy: str, seed: int) -> float:
        search = search_of({"ttt.lr": Range(low=1e-4, high=1e-1, log=True)}, strategy, 30, seed)
        losses = []
        while (trial := search.ask()) is not None:
            losses.append(abs(math.log10(trial.parameters["ttt.lr"]) + 2.3))
            search.tell(scored(trial, 2.0 + losses[-1]))
        return sum(losses[15:]) / len(losses[15:])

    assert sum(best("tpe", seed) for seed in range(5)) < 0.6 * sum(best("random", seed) for seed in range(5))


def test_a_grid_takes_no_range_of_any_numbers() -> None:
    """Fault: a grid of the two ends passes for a search of the range."""
    with pytest.raises(ValueError, match=r"ttt\.lr is a range, a grid takes choices"):
        search_of(RANGES)
    assert search_of({"ttt.epochs": RANGES["ttt.epochs"]}).num_trials == 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_enqueued_points_come_first(strategy: str) -> None:
    """Fault: a hand-picked point forgotten, given twice, run on top of the number of trials, or after a random one."""
    points = enqueued_points(["schedule.warmdown_start=20,split=int8", "schedule.steps=60"], SPACE, BASE_60)
    assert points == [
        {"schedule.steps": 60, "schedule.warmdown_start": 20, "split": "int8"},
        {"schedule.steps": 60, "schedule.warmdown_start": 50, "split": "pure-int6"},
    ]
    config = SearchConfig(spaces=(SPACE,), strategy=strategy, num_trials=5, enqueued=tuple(points))
    search = Search(config, maker(BASE_60))
    given = list(iter(search.ask, None))
    assert [dict(trial.parameters) for trial in given[:2]] == points
    assert len({trial.trial for trial in given}) == len(given) == search.num_trials == 5
    again = Search(config, maker(BASE_60), [scored(given[0], 2.0)])
    again.resume([given[3].parameters])
    assert [trial.trial for trial in (again.ask(), again.ask()) if trial] == [given[3].trial, given[1].trial]


def test_enqueued_points_lie_in_ranges_too() -> None:
    """Fault: a point of a range that is not given, or not known again."""
    points = tuple(enqueued_points(["ttt.lr=0.02", "ttt.lr=0.05,ttt.epochs=9"], RANGES, PRESETS["pr1493"]))
    assert points[0] == {"ttt.lr": 0.02, "ttt.epochs": 3}
    config = SearchConfig(spaces=(RANGES,), num_trials=4, enqueued=points)
    search = Search(config, maker())
    assert len(search.planned()) == search.num_trials == 4
    assert [dict(trial.parameters) for trial in search.planned()[:2]] == list(points)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schedule.steps", "FIELD=VALUE"),
        ("schedule.step=60", r"schedule\.step is not searched; did you mean schedule\.steps"),
        ("schedule.steps=70", r"the space has schedule\.steps=40,60,80; widen it"),
        ("schedule.steps=60,schedule.steps=40", "given twice"),
        ("split=int9", "did you mean"),
        ("split=int8", r"give schedule\.steps=40,60,80 too, its own value 200 is none of them"),
    ],
)
def test_what_cannot_be_enqueued_is_said(text: str, told: str) -> None:
    """Fault: a point outside the space in silence, or one that only fails when it runs."""
    with pytest.raises(ValueError, match=told):
        enqueued_points([text], SPACE, BASE)
