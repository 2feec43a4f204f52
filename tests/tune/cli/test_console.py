"""What a person sees of a sweep."""

import io
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from golf.runtime.results import CheckpointCost
from tests.tune.entries import entry_of
from tests.tune.made_ledger import made_sweep, made_trial
from tune.cli.console import EventLines, LiveTable
from tune.cli.outcome_table import ending_of, table
from tune.cli.progress import SweepProgress, best_of
from tune.records.entries import ArtifactSize, Failure, FailureKind, RungScore, ScreeningScore, TrialEntry
from tune.search.space import Trial


def made(name: str, state: str, bpb: float | None = None, size: int = 100, **fields: Any) -> TrialEntry:
    """A ledger entry under a cap of 300 bytes."""
    trial = Trial(trial=name, parameters={}, name=f"n{name}", config={})
    artifact = ArtifactSize(model_bytes=size - 10, code_bytes=10, cap_bytes=300)
    values = {"reason": None if state == "done" else "because", "size": artifact, **fields}
    return entry_of(trial, state, bpb=bpb, **values)


ENTRIES = [
    made("a", "failed"),
    made("b", "infeasible", size=400),
    made("c", "done", 2.0),
    made("d", "done", 1.5, 150),
]


def test_the_best_is_feasible() -> None:
    """Fault: a trial over the cap named the best, or the worst one."""
    best = best_of([*ENTRIES, made("x", "infeasible", 1.0)])
    assert best is not None
    assert best.trial == "d"
    assert best_of([made("a", "failed")]) is None


def cells(line: str, titles: str) -> dict[str, str]:
    """Cells of a line by the title above them, of columns that are aligned to the right."""
    ends = {title: titles.index(title) + len(title) for title in ("BPB", "bytes", "to the cap") if title in titles}
    return {title: line[:end].rsplit(maxsplit=1)[-1] for title, end in ends.items()}


def test_the_table_is_in_order_and_aligned() -> None:
    """Fault: rows out of order, a column that does not hold its title's numbers."""
    titles, *lines = table(ENTRIES).splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["nd", "nc", "nb", "na"]
    assert cells(lines[0], titles) == {"BPB": "1.5000", "bytes": "150", "to the cap": "+150"}
    assert cells(lines[2], titles)["to the cap"] == "-100"
    assert "because" in lines[-1]


@pytest.mark.parametrize(
    ("width", "shown", "hidden"),
    [
        (300, ["live", "sliding", "bytes", "to the cap", "alone s", "now s"], []),
        (140, ["bytes", "to the cap", "ttt.lr"], ["now s"]),
        (100, ["bytes", "to the cap", "ttt.lr"], ["now s", "alone s", "live"]),
        (80, ["BPB", "bytes", "to the cap"], ["now s", "alone s", "sliding"]),
        (40, ["BPB", "trial"], ["bytes", "to the cap"]),
    ],
)
def test_a_narrow_terminal_gets_the_important_columns(width: int, shown: list[str], hidden: list[str]) -> None:
    """Fault: every line of the table is wrapped, or the scores are cut off."""
    entries = [entry for entry, _ in made_sweep("s", 12, ("done", "screened", "infeasible"))]
    lines = table(entries, width=width).partition("\ncomputed in ")[0].splitlines()
    assert max(map(len, lines)) <= width
    assert [title for title in shown if title not in lines[0]] == []
    assert [title for title in hidden if title in lines[0]] == []
    best = best_of(entries)
    assert best is not None
    assert f"{best.bpb:.4f}" in lines[1]
    assert best.trial[:6] in lines[1]


def test_a_workload_without_ladder_and_artifact() -> None:
    """Fault: columns of dashes for what a training script does not have, or an error."""
    entries = [msgspec.structs.replace(made(name, "done", bpb), size=None) for name, bpb in (("a", 2.0), ("b", 1.0))]
    assert table(entries).splitlines() == [
        "trial  state        BPB  settings",
        "b      finished  1.0000  nb",
        "a      finished  2.0000  na",
    ]
    assert ending_of(entries, Path()).text == ""


def failure(trial: str, kind: FailureKind, message: str) -> TrialEntry:
    """A failed trial's entry, as the ledger has it."""
    files = {"log": f"sweeps/s/trials/{trial}/failure.log"}
    cause = Failure(kind=kind, message=message)
    return made(trial, "failed", reason=str(cause), failure=cause, files=files)


def test_how_it_ended() -> None:
    """Fault: a sweep whose trials all failed says that none fits under the cap, and its status is 0."""
    root, diverged = Path("/st orage"), failure("a", FailureKind.DIVERGED, "step 3")
    other, third = (failure(name, FailureKind.ERROR, f"ValueError: {n} is odd") for name, n in (("b", 5), ("c", 7)))
    done, over, out = made("d", "done", 1.5), made("e", "infeasible"), made("f", "screened")
    ending = ending_of([diverged, other, third], root)
    assert ending.status == 1
    assert ending.text.startswith("all 3 trials failed: 2 x error: ValueError: 5 is odd; 1 x diverged: step 3\n")
    assert "/st orage/sweeps/s/trials/a/failure.log and " in ending.text
    assert "show --ledger '/st orage/ledger.jsonl' --sweep s --state failed" in ending.text
    mixed = ending_of([diverged, over, out], root)
    assert mixed.status == 1
    assert mixed.text.startswith(
        "none of 3 trials gave a score: 1 over the cap of 300 bytes, 1 stopped early, 1 failed: 1 x diverged: step 3"
    )
    assert ending_of([diverged], root, "run").text.startswith("1 run failed: ")
    partly = ending_of([done, diverged, over], root)
    assert (partly.status, partly.text.partition(":")[0]) == (0, "warning")
    assert "1 of 3 trials failed" in partly.text
    none = ending_of([over, over], root)
    assert (none.status, none.text) == (0, "none of 2 trials gave a score: 2 over the cap of 300 bytes")
    assert ending_of([done, over], root) == ending_of([], root)
    kinds = [kind for kind in FailureKind if kind != FailureKind.ERROR]
    many = ending_of([failure(str(n), kind, f"of its own {n}") for n, kind in enumerate(kinds)], root)
    assert f"; {len(kinds) - 5} for other reasons" in many.text


def test_the_lines_of_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a person does not learn why a trial has no score, where its log is, or that its bits differ."""
    console = EventLines(SweepProgress(4, 2, [], lambda trial, curve, step: ("", 0.0)), Path("/root"))
    console.ended(failure("a", FailureKind.KILLED, "its machine was lost"))
    score = ScreeningScore(name="sliding", bpb=2.0, seconds=1.0, rank="rank 2 of 3")
    cost = CheckpointCost(saves=3, save_seconds=0.5, save_interval_seconds=60.0)
    screened = made("b", "screened", screening=(score,), world_history="8, 4")
    console.ended(msgspec.structs.replace(screened, computed={"train": 1.0}, checkpoints=cost))
    rungs = (RungScore(name="live", bpb=1.5, nats_per_token=2.0, seconds=1.0),)
    console.ended(made("c", "done", 1.5, rungs=rungs))
    lines = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    expected = (
        "failed        a  killed: its machine was lost  na",
        "                     its log: /root/sweeps/s/trials/a/failure.log",
        "stopped early b  because  nb",
        "                     nodes were lost, its ranks: 8, 4",
        "finished      c  1.5000 BPB, 100 bytes  nc",
        "3 of 4 trials | 0 running | 1 finished | 1 stopped early | 1 failed | best 1.5000 BPB (c)",
    )
    assert [line for line in expected if line not in lines] == []


def test_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a forecast that is off by a factor, negative, or made from nothing."""
    clock = [1000.0]
    for name in ("monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: clock[0])
    trials = [Trial(trial=str(n), parameters={}, name=f"n{n}", config={}) for n in range(2)]
    progress = SweepProgress(4, 2, [], lambda trial, curve, step: (f"training {step}/4", step / 4))
    console = EventLines(progress)
    assert progress.seconds_left() is None
    console.started(trials[0])
    console.started(trials[1])
    assert progress.seconds_left() is None
    clock[0] += 100
    console.ended(msgspec.structs.replace(made_trial("s", 0, "done", {})[0], trial="0", bpb=2.0))
    left = progress.seconds_left()
    assert left is not None
    assert 90 < left < 210  # two more of 100 s, two at a time, one of them nearly done
    console.point(trials[1], "train_loss", 2, 3.0)
    console.last_status = 0.0
    console.status()
    printed = capsys.readouterr().out
    assert "1 of 4 trials" in printed
    assert "best 2.0000" in printed
    assert "| about 2 min left | training 2/4" in printed
    clock[0] += 1000
    left = progress.seconds_left()
    assert left is not None
    assert left > 0


@pytest.mark.parametrize(("width", "settings"), [(80, ["pure-int6"]), (140, ["0.01", "pure-int6"])])
def test_the_live_table_fits_its_terminal(width: int, settings: list[str]) -> None:
    """Fault: a line that is wrapped, a trial without its id, stage or score, or more rows than a screen has."""
    entries = [entry for entry, _ in made_sweep("s", 6, ("done", "screened", "infeasible"))]
    progress = SweepProgress(60, 20, entries, lambda trial, curve, step: (f"scoring {curve} {step}", 0.5))
    screen = Console(file=io.StringIO(), width=width, height=40, force_terminal=True, color_system=None)
    live = LiveTable(progress, "sweep demo: 60 trials" + " and a long headline" * 9, Path(), screen)
    live.close()
    for number in range(20):
        point = {"split": "pure-int6", "ttt.lr": 0.01 if number % 2 == 0 else 0.02, "ttt.epochs": 3}
        trial = Trial(trial=f"{number:012x}", parameters=point, name="", config={})
        live.started(trial)
        live.point(trial, "sliding_bpb", 3, 2.5)
    with screen.capture() as captured:
        screen.print(live.render())
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 17
    running = next(line for line in lines if line.startswith("000000 scoring sliding_bpb"))
    assert "~2.5000" in running
    assert [value for value in ("0.01", "pure-int6") if value in running.split()] == settings
    assert sum("\u2501" in line for line in lines) == (9 if width > 110 else 1)
    best = best_of(entries)
    assert best is not None
    assert any(line.startswith(f"{best.trial[:6]} finished") and f"{best.bpb:.4f}" in line for line in lines)
    assert any("6 of 60 trials" in line for line in lines)


def test_the_live_table_prints_the_ends_above_itself() -> None:
    """Fault: what became of a trial is overwritten by the table, or the table stays behind."""
    screen = Console(file=io.StringIO(), width=100, force_terminal=True)
    live = LiveTable(SweepProgress(4, 2, [], lambda trial, curve, step: ("", 0.0)), "sweep s", Path("/root"), screen)
    live.ended(failure("abcdef012345", FailureKind.KILLED, "its machine was lost"))
    live.close()
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert "killed: its machine was lost" in text
    assert "its log: /root/sweeps/s/trials/abcdef012345/failure.log" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in text.splitlines()[-1]
