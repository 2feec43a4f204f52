"""What was really computed, when and by which process: a log beside the storage, and what it shows after kills.

The wrappers here note every optimiser step and every scored chunk that a process computes, under the key of the stage
that it belongs to, in `work.log` above the storage root. A line is one write, so a kill never leaves half of it.

- Work is *redone* when a (key, step or chunk) stands in the log again. The seconds that a dead process lost are the
  seconds in which it computed what others computed again, and those of the step or chunk that it was in when it died.
- A stage is *recomputed* when a process computes a step or chunk of its key after the key's result was published, by
  the time of the marker in the store. A finished stage must never be.

Starting a process, reading a state and waiting for a lease are no work: they are lost with every kill, and told apart
from it by the sweep's wall clock.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import golf.pipeline.pack_stage
import tune.cluster.train_workers
import tune.workloads.gepa.workload
from golf.runtime.results import PackedModel
from tune.workloads.base import RankContext, StageExecutor, StageRequest, TrialSpec
from tune.workloads.gepa.settings import GepaSettings
from tune.workloads.gepa.stage_worker import EvaluateRequest
from tune.workloads.gepa.workload import GepaWorkload
from tune.workloads.trial_process import run_trial

LOG = "work.log"
BEGIN, DID, END = "begin", "did", "end"
_run_stage, _pack_stage, _work = (
    tune.workloads.gepa.workload.run_stage,
    golf.pipeline.pack_stage.pack_stage,
    tune.cluster.train_workers.work,
)


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    time: float
    process: int
    kind: str
    """BEGIN and END of a stage; DID: a step or chunk is computed."""
    key: str
    number: int
    """Of the step or chunk."""


class Log:
    """Writes the log of one storage."""

    def __init__(self, spec: TrialSpec) -> None:
        """Args: spec: its directory is STORAGE/sweeps/NAME/trials/TRIAL."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._handle = os.open(spec.directory.parents[4] / LOG, flags, 0o644)

    def note(self, kind: str, key: str = "-", number: int = 0) -> None:
        """Add a line."""
        os.write(self._handle, f"{time.time():.6f} {os.getpid()} {kind} {key} {number}\n".encode())

    def close(self) -> None:
        """No line follows."""
        os.close(self._handle)


def read_log(folder: Path) -> list[Line]:
    """The lines of the log in `folder`, in order."""
    path = folder / LOG
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Line(float(when), int(pid), kind, key, int(number)) for when, pid, kind, key, number in rows]


def key_finder(settings: GepaSettings, request: StageRequest) -> Callable[[str, int], str | None]:
    """Returns (curve, step or chunk) -> the key of the stage that computes it; None for a curve that is no work."""
    stages = settings.stages(request.spec.trial)
    first = isinstance(request, EvaluateRequest) and request.first_chunks is not None
    rungs = {output.name.kind: output.key for output in (stages.screens if first else stages.rungs)}

    def find(curve: str, number: int) -> str | None:
        if curve == "train_loss":
            return next(output.key for output in stages.training if output.steps > number)
        return rungs.get(curve.removesuffix("_bpb"))

    return find


def watched_run_stage(settings: GepaSettings, request: StageRequest, context: RankContext) -> None:
    """Runs a stage, its first rank's steps and chunks noted."""
    if not context.group.first or request.spec.cache is None:
        _run_stage(settings, request, context)
        return
    log, find = Log(request.spec), key_finder(settings, request)

    def seen(curve: str, number: int, value: float) -> None:
        key = find(curve, number)
        if key is not None:
            log.note(DID, key, number)
        context.report(curve, number, value)

    log.note(BEGIN)
    try:
        _run_stage(settings, request, replace(context, report=seen))
    finally:
        log.note(END)
        log.close()


def watch(settings: GepaSettings, spec: TrialSpec) -> None:
    """Has this process, which runs one trial, note when it really packs, trains or scores."""
    key = settings.stages(spec.trial).pack.key

    def pack(*arguments: Any) -> PackedModel:
        log = Log(spec)
        log.note(BEGIN)
        try:
            packed = _pack_stage(*arguments)
            log.note(DID, key, 0)
        finally:
            log.note(END)
            log.close()
        return packed

    golf.pipeline.pack_stage.pack_stage = pack
    tune.workloads.gepa.workload.run_stage = watched_run_stage


def watched_trial(workload: GepaWorkload, spec: TrialSpec, execute: StageExecutor) -> None:
    """Runs a trial in a process of Ray's, its work noted there and on its training workers."""
    watch(workload, spec)
    tune.cluster.train_workers.work = watched_worker
    run_trial(workload, spec, execute)


def watched_worker(arguments: dict[str, Any]) -> Any:
    """Runs a stage on a training worker, its work noted."""
    tune.workloads.gepa.workload.run_stage = watched_run_stage
    return _work(arguments)


@dataclass(frozen=True)
class Death:
    """A process that was killed."""

    time: float
    process: int


@dataclass(frozen=True)
class Account:
    """What the log of one sweep shows."""

    lost_seconds: dict[int, float]
    """By dead process: work that had to be done again."""
    redone: int
    """Steps and chunks that were computed again."""
    computed: int
    """All steps and chunks that were computed."""
    recomputed: list[str]
    """"PROCESS KEY" of finished stages that were computed again."""
    longest_seconds: float
    """Of one step or chunk."""
    working: int
    """Dead processes that died within a stage."""


def account(folder: Path, store: Path, deaths: list[Death]) -> Account:
    """What the log in `folder` shows, given the store of the sweep and the processes that were killed."""
    lines = read_log(folder)
    published = {path.stem: path.stat().st_mtime for path in (store / "entries").glob("*.json")}
    last: dict[int, Line] = {}
    seconds: dict[tuple[int, str, int], float] = {}
    doers: dict[tuple[str, int], list[int]] = defaultdict(list)
    again: set[tuple[int, str]] = set()
    for line in lines:
        if line.kind == DID:
            began = last.get(line.process)
            seconds[line.process, line.key, line.number] = 0.0 if began is None else line.time - began.time
            doers[line.key, line.number].append(line.process)
            if line.time > published.get(line.key, float("inf")) + 0.01:
                again.add((line.process, line.key))
        last[line.process] = line
    lost: dict[int, float] = defaultdict(float)
    for (key, number), processes in doers.items():
        for process in processes[:-1]:
            lost[process] += seconds[process, key, number]
    working = 0
    for death in deaths:
        line = last.get(death.process)
        if line is not None and line.kind != END:
            working += 1
            lost[death.process] += max(death.time - line.time, 0.0)
    return Account(
        dict(lost),
        sum(len(processes) - 1 for processes in doers.values()),
        sum(map(len, doers.values())),
        sorted(f"{process} {key}" for process, key in again),
        max(seconds.values(), default=0.0),
        working,
    )
