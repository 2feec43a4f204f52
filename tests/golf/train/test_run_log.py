"""A run's log: whole after every stop, the same whoever computed its parts, in the forms that others read."""

import contextlib
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from golf.config.config import RunConfig
from golf.data.dataset import open_dataset
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup
from golf.train.hooks import Hooks
from golf.train.loop import Preempted
from golf.train.run_log import LogFile, has_log_line, step_line


def at_call(number: int) -> Callable[[], bool]:
    """Returns a preemption check that is true at the call of that number."""
    calls = itertools.count(1)
    return lambda: next(calls) == number


def steps_of(lines: list[str]) -> list[tuple[str, str]]:
    """(step/steps, name of the first figure) of a training's lines."""
    return re.findall(r"^step:(\S+) (\w+):", "\n".join(lines), re.MULTILINE)


def test_kept_results_give_the_same_log(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: a run that is given again, or whose parts come from the store, has no log or half of one."""
    run = StageContext(config=tiny, dataset=open_dataset(data), directory=RunDirectory(tmp_path / "run"))
    logs = []
    for number in range(2):
        log = LogFile(tmp_path / f"{number}.txt", ProcessGroup())
        run_stages(run, b"code", Hooks(log=log))
        logs.append((tmp_path / f"{number}.txt").read_text())
    assert logs[0] == logs[1]
    lines = logs[0].splitlines()
    wanted = [(f"{n}/6", "train_loss") for n in range(1, 7)]
    assert steps_of(lines) == [*wanted[:4], ("4/6", "val_loss"), *wanted[4:]]
    assert lines[0] == "seed:42"
    assert [line.split()[0] for line in lines[-5:]] == [
        f"final_{rung}_exact" for rung in ("live", "ema", "quantised", "sliding", "ttt")
    ]


def test_a_run_that_was_stopped_has_one_log(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: steps are logged twice or never, seconds begin anew, or nothing says that the run was interrupted."""
    run = StageContext(config=tiny, dataset=open_dataset(data), directory=RunDirectory(tmp_path / "run"))
    stops = 0
    while not run.directory.file("train.json").exists():
        log = LogFile(tmp_path / "log.txt", ProcessGroup())
        with contextlib.suppress(Preempted):
            train_stage(run, Hooks(preemption=at_call(1 + stops), log=log))
            continue
        stops += 1
    assert stops > 2
    lines = (tmp_path / "log.txt").read_text().splitlines()
    wanted = [(f"{n}/6", "train_loss") for n in range(1, 7)]
    assert steps_of(lines) == [*wanted[:4], ("4/6", "val_loss"), *wanted[4:]]
    assert sum(line.startswith("started: ") for line in lines) == 1
    assert sum(line.startswith("continued: ") for line in lines) == stops
    times = [int(time) for time in re.findall(r"train_time:(\d+)ms", "\n".join(lines))]
    assert times == sorted(times)
    assert read_json(run.directory.file("train.json"))["result"]["log"] == lines


def test_what_another_training_began_has_the_length_of_this_one(tiny: RunConfig, data: Path, tmp_path: Path) -> None:
    """Fault: lines after the saved state are logged twice, or those before it name another number of steps."""
    run = StageContext(config=tiny, dataset=open_dataset(data), directory=RunDirectory(tmp_path / "run"))
    kept = tmp_path / "kept"
    train_stage(run, snapshots={2: kept})
    curves = read_json(kept / "curves.json")
    curves["log"] += [
        step_line(number, 6, 1.0, train_loss=9.0) for number in (3, 4)
    ]  # killed before the state was saved
    write_json(kept / "curves.json", curves)
    longer = replace(tiny, schedule=replace(tiny.schedule, steps=8), validate_every=None)
    result = train_stage(replace(run, config=longer, directory=RunDirectory(tmp_path / "longer")), start=kept)
    assert [place for place, _ in steps_of(list(result.log))] == [f"{number}/8" for number in range(1, 9)]
    assert "9.0000" not in "\n".join(result.log)


def test_long_runs_log_some_steps() -> None:
    """Fault: a log of a line a step for millions of steps, or none of the last."""
    logged = [step for step in range(1, 7001) if has_log_line(step, 7000)]
    assert logged[:11] == [*range(1, 11), 14]
    assert logged[-1] == 7000
    assert len(logged) < 520
    assert all(has_log_line(step, 200) for step in range(1, 201))


def test_one_process_writes(tmp_path: Path) -> None:
    """Fault: every rank writes each line."""
    said: list[str] = []
    for rank in (1, 0):
        log = LogFile(tmp_path / "logs" / "x.txt", ProcessGroup(rank, 2), said.append)
        log("a line")
    assert (tmp_path / "logs" / "x.txt").read_text() == "a line\n"
    assert said == ["a line"]
    LogFile(tmp_path / "logs" / "x.txt", ProcessGroup(), append=True)("another")
    assert (tmp_path / "logs" / "x.txt").read_text() == "a line\nanother\n"
