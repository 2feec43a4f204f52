"""Part A: many kills of real trials without Ray. The sweep's own driver logic over processes forked from a warm parent.

Takes a grid and a random generator, returns an account of the kills. The driver uses the sweep's own parts: same
search, ledger, store, leases and resume; in the place of Ray it forks a process for every trial and starts one that
dies again. A child of a fork has torch imported already, so that a start costs 0.1 s and not 5.
The parent must have no threads.
Now and then one of these gets a kill -9: a random trial, the trial that holds a lease of the store, or the
driver, whose trials die with it; the driver is then started again as a person would.
"""

import ctypes
import os
import random
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.grid import NAME, Grid, ledger_of
from benchmarks.faults.processes import end
from benchmarks.faults.work import Account, Death, account, watch
from golf.config.config import override_all
from golf.data.dataset import open_dataset
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.runtime.process_group import ProcessGroup
from golf.train.hooks import discard_point
from tune.cluster.sweep import ResultRecorder, TrialSource, only_driver, unfinished
from tune.records.layout import Storage
from tune.workloads.base import RankContext, StageRequest, TrialSpec
from tune.workloads.gepa.workload import GepaWorkload
from tune.workloads.trial_process import load_trial_from_cache, run_trial

CONCURRENT = 3
KINDS = {"trial": 0.6, "lease holder": 0.25, "driver": 0.15}
"""What is killed, with its share."""
MOST_FAILURES = 2
"""Errors, as against kills, after which a trial is recorded as failed."""
_PDEATHSIG = 1
_LIMIT_SECONDS = 900.0


@dataclass
class Killed:
    """A disturbed sweep."""

    kinds: Counter[str] = field(default_factory=Counter)
    deaths: list[Death] = field(default_factory=list)
    """All processes that died; with a driver die its trials."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The ledger without times."""
    account: Account | None = None
    seconds: float = 0.0


def forked(act: Callable[[], None]) -> int:
    """Run `act` in a child that dies with this process; the child's id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children itself
        os.closerange(3, 256)  # the driver's lock is not the trials'
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def warm(grid: Grid, folder: Path) -> None:
    """Have this process load what a run loads late, by a short run in `folder`; a child of a fork then has it."""
    torch.set_num_threads(1)
    config = override_all(grid.base, {"schedule.steps": 2, "schedule.warmdown_start": 1})
    run_stages(StageContext(config=config, dataset=open_dataset(grid.data), directory=RunDirectory(folder)), b"")
    assert threading.active_count() == 1, f"{threading.active_count()} threads: a fork would copy one only"


def trial(workload: GepaWorkload, spec: TrialSpec) -> None:
    """Runs a trial in this process, its work noted."""
    watch(workload, spec)

    def execute(request: StageRequest) -> None:
        workload.run_stage(request, RankContext(ProcessGroup(), discard_point))

    run_trial(workload, spec, execute)


def drive(grid: Grid, storage: Storage) -> None:
    """The driver: the sweep to its end, a process for each trial, one that dies being started again."""
    search, config, workload = grid.search(storage), grid.config(CONCURRENT, storage), grid.workload()
    with only_driver(storage.sweep(NAME)):
        search.resume(unfinished(config, storage, workload.code))
        source = TrialSource(config, workload, search, storage)
        recorder = ResultRecorder(config, workload, storage, [source])
        running, failures = dict[int, TrialSpec](), Counter[str]()

        def start(spec: TrialSpec) -> None:
            running[forked(lambda: trial(workload, spec))] = spec

        while True:
            while len(running) < CONCURRENT and (spec := source.next()) is not None:
                if load_trial_from_cache(workload, spec):
                    recorder.end(spec)
                else:
                    recorder.begin(spec.trial)
                    start(spec)
            if not running:
                return
            pid, status = os.wait()
            ended = running.pop(pid, None)
            if ended is None:  # a helper's end
                continue
            name = ended.trial.trial
            failures[name] += os.WIFEXITED(status) and status != 0
            if status == 0:
                recorder.end(ended)
            elif failures[name] > MOST_FAILURES:
                recorder.end(ended, "its process ended with an error again and again")
            else:
                start(ended)


def children(pid: int) -> list[int]:
    """The living children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def holders(store: Path, among: list[int]) -> list[int]:
    """Those processes that hold a lease."""
    found = set()
    for path in (store / "leases").glob("*"):
        try:
            match = re.search(r"process (\d+)", path.read_text())
        except FileNotFoundError:
            continue
        if match:
            found.add(int(match.group(1)))
    return sorted(found & set(among))


def undisturbed(grid: Grid, root: Path) -> Killed:
    """The same sweep without a kill."""
    return run(grid, root, None, 0)


def run(grid: Grid, root: Path, chance: random.Random | None, most: int, every_seconds: float = 1.2) -> Killed:
    """The sweep in a fresh storage below `root`, killed at random by `chance` at most `most` times.

    Args: every_seconds: mean time between two kills.
    Raises: RuntimeError when the driver fails or the sweep does not end.
    """
    storage, killed = Storage(root / "storage"), Killed()
    storage.root.mkdir(parents=True)
    began = time.monotonic()
    driver = forked(lambda: drive(grid, storage))
    try:
        due = _next(chance, every_seconds)
        while True:
            pid, status = os.waitpid(driver, os.WNOHANG)
            if pid and status == 0:
                break
            if pid and os.WIFSIGNALED(status):
                driver = forked(lambda: drive(grid, storage))
            elif pid:
                raise RuntimeError(f"the driver failed with status {status}")
            if time.monotonic() - began > _LIMIT_SECONDS:
                raise RuntimeError(f"the sweep in {root} does not end")
            if chance is not None and time.monotonic() >= due and sum(killed.kinds.values()) < most:
                _kill(chance, driver, storage, killed)
                due = _next(chance, every_seconds)
            time.sleep(0.01)
    finally:
        for pid in (*children(driver), driver):
            end(pid)
    killed.seconds = time.monotonic() - began
    killed.entries = ledger_of(storage)
    killed.account = account(root, storage.store, killed.deaths)
    return killed


def _next(chance: random.Random | None, every_seconds: float) -> float:
    """When the next kill is due."""
    return time.monotonic() + (0.0 if chance is None else min(chance.expovariate(1 / every_seconds), 4 * every_seconds))


def _kill(chance: random.Random, driver: int, storage: Storage, killed: Killed) -> None:
    """Kill a process of a random kind."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    trials = children(driver)
    if kind == "driver":
        victims, target = [driver, *trials], driver
    else:
        choice = holders(storage.store, trials) if kind == "lease holder" else trials
        if not choice:
            return
        target = chance.choice(choice)
        victims = [target]
    now = time.time()
    end(target)
    killed.kinds[kind] += 1
    killed.deaths += [Death(now, pid) for pid in victims]
