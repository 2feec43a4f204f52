"""Asking and telling: every point once, resumption, and a TPE that keeps below the cap."""

from typing import Any

import pytest

from golf.config.presets import PRESETS
from tune.search.search import STRATEGIES, Search
from tune.search.space import Space, Trial, space_of

BASE = PRESETS["demo"]
SPACE: Space = {"schedule.steps": [40, 60, 80], "schedule.warmdown_start": [20, 50], "split": ["pure-int6", "int8"]}


def entry_of(trial: Trial, bpb: float | None, over: int = 0) -> dict[str, Any]:
    """A ledger entry as a sweep writes it."""
    metrics = {"artifact_bytes": 500_000 + over, "overflow_bytes": over} | ({} if bpb is None else {"bpb": bpb})
    status = "infeasible" if over else "done"
    return {"trial": trial.trial, "parameters": dict(trial.parameters), "status": status, "metrics": metrics}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_valid_point_once(strategy: str) -> None:
    """Fault: a point given twice or never, or an invalid one (a warmdown at 50 of 40 steps) that stops the sweep."""
    search = Search(BASE, SPACE, strategy, 100, 0, "data")
    given = []
    while (trial := search.ask()) is not None:
        given.append(trial)
        search.tell(entry_of(trial, bpb=2.0 + len(given)))
    assert len({trial.trial for trial in given}) == len(given) == search.num_trials == 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_goes_on_after_an_interruption(strategy: str) -> None:
    """Fault: finished trials run again, an unfinished one forgotten, the number of trials exceeded."""
    first = Search(BASE, SPACE, strategy, 6, 1, "data")
    begun = [first.ask() for _ in range(4)]
    finished = [entry_of(trial, 2.5) for trial in begun[:3] if trial]
    second = Search(BASE, SPACE, strategy, 6, 1, "data", finished)
    assert begun[3] is not None
    second.resume([begun[3].parameters])
    rest = second.planned()
    assert rest[0] == begun[3]
    assert len(rest) == 3
    assert not {trial.trial for trial in rest} & {entry["trial"] for entry in finished}


def test_ignores_entries_of_other_data() -> None:
    """Fault: a result on other data taken for this search's."""
    trial = Search(BASE, SPACE, "grid", None, 0, "other").ask()
    assert trial is not None
    assert len(Search(BASE, SPACE, "grid", None, 0, "data", [entry_of(trial, 1.0)]).planned()) == 10


def test_tpe_learns_the_cap() -> None:
    """Fault: a constraint that is not told. More steps score better here and are over the cap above 100."""
    space: Space = {"schedule.steps": list(range(40, 240, 5)), "schedule.warmdown_start": [10, 20, 30]}
    late_feasible = {}
    for told in (True, False):
        search = Search(BASE, space, "tpe", 40, 3, "data")
        feasible = []
        while (trial := search.ask()) is not None:
            steps = trial.config.schedule.steps
            feasible.append(steps <= 100)
            over = max(0, steps - 100) * 1000
            search.tell(entry_of(trial, None, over) if told and over else entry_of(trial, 3 - steps / 200))
        late_feasible[told] = sum(feasible[20:])
    assert late_feasible[True] >= 2 * late_feasible[False]


def test_a_failed_trial_teaches_nothing() -> None:
    """Fault: a crash of the search over an entry without metrics."""
    search = Search(BASE, SPACE, "tpe", 3, 0, "data")
    trial = search.ask()
    assert trial is not None
    search.tell({"trial": trial.trial, "parameters": trial.parameters, "status": "failed", "metrics": {}})
    assert len(search.planned()) == 2


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
def test_names_what_is_wrong(space: Any, strategy: str, complaint: str) -> None:
    """Fault: a misspelt field that only fails in the first trial."""
    with pytest.raises(ValueError, match=complaint):
        Search(BASE, space, strategy, None, 0, "data")


def test_presets_spaces_are_valid() -> None:
    """Fault: a preset whose own sweep does not start."""
    for preset, base in PRESETS.items():
        assert Search(base, space_of(preset, {}), "grid", None, 0, "data").num_trials > 8


def test_several_spaces_are_one_search() -> None:
    """Fault: a point of the second space lost, or a finished one given again because the first has other fields."""
    spaces: list[Space] = [{"seed": [1, 2]}, {"seed": [1], "repeat": [1, 2]}]
    search = Search(BASE, spaces, "grid", None, 0, "data")
    given = search.planned()
    assert [dict(trial.parameters) for trial in given] == [
        {"seed": 1},
        {"seed": 2},
        {"seed": 1, "repeat": 1},
        {"seed": 1, "repeat": 2},
    ]
    known = [entry_of(given[1], 2.0), entry_of(given[3], 2.0)]
    known[1]["parameters"] = {"repeat": 2, "seed": 1}  # the ledger sorts names
    again = Search(BASE, spaces, "grid", None, 0, "data", known)
    assert [trial.trial for trial in again.planned()] == [given[0].trial, given[2].trial]
    with pytest.raises(ValueError, match="one space"):
        Search(BASE, spaces, "tpe", None, 0, "data")
