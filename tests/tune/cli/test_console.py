"""What a person sees of a sweep."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig
from tune.cli.console import Console, best_of, ending_of, table
from tune.search.space import Trial, make_trial


def entry_of(trial: str, status: str, bpb: float | None = None, size: int = 100) -> dict[str, Any]:
    """A ledger entry."""
    metrics = {"artifact_bytes": size} | ({} if bpb is None else {"bpb": bpb})
    cause = None if status == "done" else "because"
    return {"trial": trial, "name": f"n{trial}", "status": status, "cause": cause, "metrics": metrics}


ENTRIES = [
    entry_of("a", "failed"),
    entry_of("b", "infeasible", size=400),
    entry_of("c", "done", 2.0),
    entry_of("d", "done", 1.5, 150),
]


def test_the_best_is_feasible() -> None:
    """Fault: a trial over the cap named the best, or the worst one."""
    over = {**entry_of("x", "infeasible", 1.0), "metrics": {"bpb": 1.0, "artifact_bytes": 999}}
    best = best_of([*ENTRIES, over])
    assert best is not None
    assert best["trial"] == "d"
    assert best_of([entry_of("a", "failed")]) is None


def test_the_table_is_in_order_and_aligned() -> None:
    """Fault: rows out of order, a column that does not hold its title's figures."""
    lines = table(ENTRIES, 300).splitlines()
    titles = [(match.group(), match.end()) for match in re.finditer(r"\S+( \S+)*", lines[0])]
    assert [line.split()[-1] for line in lines[1:5]] == ["nd", "nc", "nb", "na"]
    end = dict(titles)
    assert lines[1][: end["BPB"]].endswith("1.5000")
    assert lines[1][: end["to the cap"]].endswith("+150")
    assert lines[3][: end["to the cap"]].endswith("-100")
    assert "because" in lines[-1]


def failure(trial: str, cause: str) -> dict[str, Any]:
    """A failed trial's entry, as the ledger has it."""
    files = {"log": f"sweeps/s/trials/{trial}/failure.log"}
    return entry_of(trial, "failed") | {"sweep": "s", "cause": cause, "files": files}


def test_how_it_ended() -> None:
    """Fault: a sweep whose trials all failed says that none fits under the cap, and its status is 0."""
    root, one = Path("/st orage"), failure("a", "diverged: step 3")
    other, third = failure("b", "error: ValueError: 5 is odd"), failure("c", "error: ValueError: 7 is odd")
    done, over, out = entry_of("d", "done", 1.5), entry_of("e", "infeasible"), entry_of("f", "screened")
    told = ending_of([one, other, third], 300, root)
    assert told.status == 1
    assert told.text.startswith("all 3 trials failed: 2 x error: ValueError: 5 is odd; 1 x diverged: step 3\n")
    assert "/st orage/sweeps/s/trials/a/failure.log and " in told.text
    assert "show --ledger '/st orage/ledger.jsonl' --sweep s --status failed" in told.text
    mixed = ending_of([one, over, out], 300, root)
    assert mixed.status == 1
    assert mixed.text.startswith(
        "none of 3 trials gave a score: 1 over the cap of 300 bytes, 1 screened out, 1 failed: 1 x diverged: step 3"
    )
    assert ending_of([one], 300, root, "run").text.startswith("1 run failed: ")
    partly = ending_of([done, one, over], 300, root)
    assert (partly.status, partly.text.partition(":")[0]) == (0, "warning")
    assert "1 of 3 trials failed" in partly.text
    none = ending_of([over, over], 300, root)
    assert (none.status, none.text) == (0, "none of 2 trials gave a score: 2 over the cap of 300 bytes")
    assert ending_of([done, over], 300, root) == ending_of([], 300, root)
    many = ending_of([failure(str(n), f"kind {n}: of its own") for n in range(9)], 300, root)
    assert "; 4 of other causes" in many.text


@pytest.fixture
def trials(tiny: RunConfig) -> list[Trial]:
    """Four trials."""
    return [make_trial(tiny, {"schedule.steps": 4 + n}, "data") for n in range(4)]


def test_time_left(trials: list[Trial], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a forecast that is off by a factor, negative, or made from nothing."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    console = Console(4, 2, [])
    assert console.seconds_left() is None
    console.started(trials[0])
    console.started(trials[1])
    assert console.seconds_left() is None
    clock[0] += 100
    console.ended(entry_of(trials[0].trial, "done", 2.0))
    left = console.seconds_left()
    assert left is not None
    assert 90 < left < 210  # two more of 100 s, two at a time, one of them nearly done
    console.point(trials[1], "train_loss", 1, 3.0)
    printed = capsys.readouterr().out
    assert "1 of 4 trials" in printed
    assert "best 2.0000" in printed
    clock[0] += 1000
    left = console.seconds_left()
    assert left is not None
    assert left > 0
