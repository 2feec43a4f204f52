"""What a person sees of a sweep."""

import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.tune.entries import entry_of
from tests.tune.made_ledger import made_sweep
from tune.cli.console import Console, best_of, ending_of, table
from tune.records.entries import ArtifactSize, Failure, FailureKind, TrialEntry
from tune.search.space import Trial


def made(name: str, state: str, bpb: float | None = None, size: int = 100, **fields: Any) -> TrialEntry:
    """A ledger entry under a cap of 300 bytes."""
    trial = Trial(trial=name, parameters={}, name=f"n{name}", config={})
    bytes_ = ArtifactSize(model_bytes=size - 50, code_bytes=50, cap_bytes=300)
    return entry_of(trial, state, bpb=bpb, size=bytes_, reason=None if state == "done" else "because", **fields)


ENTRIES = [made("a", "failed"), made("b", "infeasible", size=400), made("c", "done", 2.0), made("d", "done", 1.5, 150)]


def failed(name: str, kind: FailureKind, message: str) -> TrialEntry:
    """A failed trial's entry, as the ledger has it."""
    failure = Failure(kind=kind, message=message)
    files = {"log": f"sweeps/s/trials/{name}/failure.log"}
    return msgspec.structs.replace(made(name, "failed"), reason=str(failure), failure=failure, files=files)


def test_the_best_is_feasible() -> None:
    """Fault: a trial over the cap named the best, or the worst one."""
    best = best_of([*ENTRIES, made("x", "infeasible", 1.0, 999)])
    assert best is not None
    assert best.trial == "d"
    assert best_of([made("a", "failed")]) is None


def test_the_table_is_in_order_and_aligned() -> None:
    """Fault: rows out of order, a column that does not hold its title's figures."""
    lines = table(ENTRIES).splitlines()
    end = {match.group(): match.end() for match in re.finditer(r"\S+( \S+)*", lines[0])}
    assert [line.split()[-1] for line in lines[1:5]] == ["nd", "nc", "nb", "na"]
    assert lines[1][: end["BPB"]].endswith("1.5000")
    assert lines[1][: end["to the cap"]].endswith("+150")
    assert lines[3][: end["to the cap"]].endswith("-100")
    assert "because" in lines[-1]


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal(width: int) -> None:
    """Fault: rows that wrap, or the columns that decide left out."""
    entries = [entry for entry, _ in made_sweep("s", 6, ("done", "infeasible"))]
    entries = [msgspec.structs.replace(entry, name="steps=130 int5-mlp lr=0.01") for entry in entries]
    lines = table(entries, width=width).splitlines()[:7]
    assert max(map(len, lines)) <= width
    assert {"status", "BPB", "bytes", "name"} <= set(lines[0].split())
    assert ("ema" in lines[0]) == (width == 140)
    assert "ema" in table(entries, width=400)


def test_how_it_ended() -> None:
    """Fault: a sweep whose trials all failed says that none fits under the cap, and its status is 0."""
    root, one = Path("/st orage"), failed("a", FailureKind.DIVERGED, "step 3")
    other, third = (failed(name, FailureKind.ERROR, f"ValueError: {n} is odd") for name, n in (("b", 5), ("c", 7)))
    done, over, out = made("d", "done", 1.5), made("e", "infeasible"), made("f", "screened")
    told = ending_of([one, other, third], root)
    assert told.status == 1
    assert told.text.startswith("all 3 trials failed: 2 x error: ValueError: 5 is odd; 1 x diverged: step 3\n")
    assert "/st orage/sweeps/s/trials/a/failure.log and " in told.text
    assert "show --ledger '/st orage/ledger.jsonl' --sweep s --status failed" in told.text
    mixed = ending_of([one, over, out], root)
    assert mixed.status == 1
    assert mixed.text.startswith(
        "none of 3 trials gave a score: 1 over the cap of 300 bytes, 1 screened out, 1 failed: 1 x diverged: step 3"
    )
    assert ending_of([one], root, "run").text.startswith("1 run failed: ")
    partly = ending_of([done, one, over], root)
    assert (partly.status, partly.text.partition(":")[0]) == (0, "warning")
    assert "1 of 3 trials failed" in partly.text
    none = ending_of([over, over], root)
    assert (none.status, none.text) == (0, "none of 2 trials gave a score: 2 over the cap of 300 bytes")
    assert ending_of([done, over], root) == ending_of([], root)
    many = ending_of(
        [failed(str(n), FailureKind.ERROR, f"{word} of its own") for n, word in enumerate("abcdefghi")], root
    )
    assert "; 4 of other causes" in many.text


def describe(trial: Trial, curve: str, step: int) -> tuple[str, float]:
    """A trial of four steps."""
    return f"step {step}", (step + 1) / 5


def test_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a forecast that is off by a factor, negative, or made from nothing."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    trials = [Trial(trial=str(n), parameters={}, name=str(n), config={}) for n in range(4)]
    console = Console(4, 2, [], describe)
    assert console.seconds_left() is None
    console.started(trials[0])
    console.started(trials[1])
    assert console.seconds_left() is None
    clock[0] += 100
    console.ended(made(trials[0].trial, "done", 2.0))
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
