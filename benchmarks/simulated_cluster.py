"""A cluster in simulated time, whose nodes run the trials of a real driver: stages only last, as long as the record's.

Real: the search, the keys of stages, the order of trials, the driver's own code around Ray Tune, the store with its
files, the ledger. Simulated: Ray and the trials' processes. A trial does here what `tune.cache.cached_runner` does: it
trains on from the longest stored state once nobody else computes what it needs, shares every output as soon as it is
there, and waits in its place for what others compute.
"""

import heapq
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.ledger_open import record_size_series, record_size_trial
from golf.runtime.files import write_bytes
from tune.cache.entry import EntryRecord
from tune.cache.stage_graph import StageOutput
from tune.cluster.sweep import RaySearcher, ResultRecorder, TrialSource
from tune.records.entries import Outcome
from tune.search.space import Trial
from tune.workloads.base import TrialSpec
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.stages import GepaStages
from tune.workloads.trial_process import OUTCOME, SERIES

STEP_SECONDS = 0.5
"""Of an optimiser step; this and what follows on a node of 8 GPUs."""
TTT_SECONDS, TTT_EPOCHS = 2194.0, 10
"""Of test-time training with so many epochs; fewer take less in proportion."""
STAGE_SECONDS = {"pack": 60.0, "live": 30.0, "ema": 30.0, "quantised": 30.0, "sliding": 240.0}
START_SECONDS = 15.0
"""Of starting a worker group, for a training and again for the scores of a trial."""
PACKED = json.dumps({"result": {"model_bytes": 15_850_000, "seconds": STAGE_SECONDS["pack"]}}).encode()
"""What a store holds of an artifact of the record's size."""
LOOK_SECONDS = 1.0
"""Between two looks of the driver at the store."""


def seconds_of(trial: Trial, output: StageOutput) -> float:
    """Returns the seconds of an output; of a state of a training, all since its first step."""
    if output.steps:
        return STEP_SECONDS * output.steps
    if output.name.kind != "ttt":
        return STAGE_SECONDS[output.name.kind]
    ttt = config_of(trial).ttt
    assert ttt is not None
    return TTT_SECONDS * ttt.epochs / TTT_EPOCHS


@dataclass
class Account:
    """What became of the nodes' seconds, and of the driver's."""

    makespan: float = 0.0
    computed: float = 0.0
    """Seconds of nodes that computed what was stored then."""
    waited: float = 0.0
    """Seconds of nodes that a trial held while it waited for another one's output."""
    lost: float = 0.0
    """Seconds of nodes that computed what a kill destroyed."""
    available: float = 0.0
    """Seconds of nodes that were there."""
    num_ended: int = 0
    driver_cpu: float = 0.0
    """CPU seconds of the driver's code, in its calls alone."""

    def share(self, seconds: float) -> float:
        """Returns the percentage that some of the nodes' seconds are."""
        return 100 * seconds / self.available


@dataclass
class _Run:
    """A trial on a node."""

    spec: TrialSpec
    life: Iterator[float | None]
    waits_since: float | None = None
    began: float = 0.0
    """When what it computes at the moment began."""
    leases: set[str] = field(default_factory=set)
    due: int = -1
    """Number of the event at which it goes on."""


OpenDriver = Callable[[Callable[[], float]], tuple[TrialSource, ResultRecorder]]
"""Makes the driver's parts, which go by the clock that is given."""
T = TypeVar("T")


class SimulatedCluster:
    """Nodes that run one trial each."""

    def __init__(
        self, num_nodes: int, graphs: Mapping[str, GepaStages], open_driver: OpenDriver, kill_at: float | None = None
    ) -> None:
        """Args: graphs: trial -> its stages; kill_at: when a tenth of the nodes is lost for good; None: never."""
        self.num_nodes, self.graphs, self.kill_at = num_nodes, graphs, kill_at
        self.now, self.account = 0.0, Account()
        self.source, self.recorder = self._driver(lambda: open_driver(lambda: self.now))
        self.searcher = RaySearcher(self.source, self.recorder)
        self._events: list[tuple[float, int, _Run | None]] = []
        self._number = itertools.count()
        self._running: list[_Run] = []
        self._again: list[TrialSpec] = []
        """Trials of lost nodes, which Ray Tune starts again."""
        self._leased: set[str] = set()
        self._stored: set[str] = set()
        self._series = record_size_series().encode()

    def run(self) -> Account:
        """Returns what became of the seconds of all trials that the driver gives."""
        self._fill()
        if self.kill_at is not None:
            self._push(self.kill_at, None)
        while self._running:
            then, number, run = heapq.heappop(self._events)
            self.account.available += self.num_nodes * (then - self.now)
            self.now = then
            if self.kill_at is not None and then == self.kill_at:
                self._kill(max(1, self.num_nodes // 10))
            elif run is not None and run.due == number:
                self._go_on(run)
            self._fill()
        self.account.makespan = self.now
        return self.account

    def _push(self, then: float, run: _Run | None) -> None:
        number = next(self._number)
        if run is not None:
            run.due = number
        heapq.heappush(self._events, (then, number, run))

    def _driver(self, call: Callable[[], T]) -> T:
        """Calls the driver and counts its CPU seconds."""
        began = time.thread_time()
        try:
            return call()
        finally:
            self.account.driver_cpu += time.thread_time() - began

    def _fill(self) -> None:
        """Starts trials while nodes are free and the driver gives some."""
        while len(self._running) < self.num_nodes:
            if self._again:
                spec = self._again.pop(0)
            else:
                suggested = self._driver(lambda: self.searcher.suggest(""))
                if not isinstance(suggested, dict):
                    return
                spec = suggested["spec"]
                self._driver(partial(self.recorder.begin, spec.trial))
            run = _Run(spec, iter(()))
            run.life = self._life(run)
            self._running.append(run)
            self._go_on(run)

    def _go_on(self, run: _Run) -> None:
        """Has a trial go on to what it computes or waits for next, or to its end."""
        if run.waits_since is not None:
            self.account.waited += self.now - run.waits_since
        run.waits_since = None
        try:
            seconds = next(run.life)
        except StopIteration:
            self._running.remove(run)
            self._finish(run.spec)
            return
        if seconds is None:
            run.waits_since = self.now
        else:
            run.began = self.now
            self._push(self.now + seconds, run)

    def _life(self, run: _Run) -> Iterator[float | None]:
        """Yields the seconds of what a trial computes; None where it waits until something is stored or given up."""
        stages = self.graphs[run.spec.trial.trial]
        while (missing := self._untrained(stages)) and any(output.key in self._leased for output in missing):
            yield None
        if missing:
            yield START_SECONDS
            missing = self._untrained(stages)
            self._lease(run, *missing)
            first = stages.training.index(missing[0])
            done = stages.training[first - 1].steps if first else 0
            for output in missing:
                yield STEP_SECONDS * (output.steps - done)
                self._store(run, output, STEP_SECONDS * (output.steps - done))
                done = output.steps
        for together in ([stages.pack], stages.rungs):
            is_started = False
            while missing := [output for output in together if output.key not in self._stored]:
                own = [output for output in missing if output.key not in self._leased]
                if not own:
                    yield None
                    continue
                self._lease(run, *own)
                if len(together) > 1 and not is_started:
                    yield START_SECONDS
                is_started = True
                for output in own:
                    seconds = seconds_of(run.spec.trial, output)
                    yield seconds
                    self._store(run, output, seconds)

    def _untrained(self, stages: GepaStages) -> tuple[StageOutput, ...]:
        """Returns the states of a training after the last one that is stored."""
        last = max((n for n, output in enumerate(stages.training) if output.key in self._stored), default=-1)
        return stages.training[last + 1 :]

    def _lease(self, run: _Run, *outputs: StageOutput) -> None:
        run.leases |= {output.key for output in outputs}
        self._leased |= {output.key for output in outputs}

    def _store(self, run: _Run, output: StageOutput, seconds: float) -> None:
        """Stores an output; those that wait for it go on, and the driver looks a moment later."""
        self.account.computed += seconds
        self._stored.add(output.key)
        run.leases.discard(output.key)
        self._leased.discard(output.key)
        self._save(run.spec, output, seconds)
        self._wake()
        self._push(self.now + LOOK_SECONDS, None)

    def _save(self, spec: TrialSpec, output: StageOutput, seconds: float) -> None:
        """Puts an output into the real store, with small files."""
        for name in output.files:
            path = spec.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PACKED if name == "pack.json" else b"{}")
        record = EntryRecord(
            stage=output.name, seconds=seconds, parents=output.parents, trial=spec.trial.trial, host="node", time=0.0
        )
        assert self.source.store is not None
        self.source.store.publish(output.key, spec.directory, output.files, record)

    def _wake(self) -> None:
        for run in self._running:
            if run.waits_since is not None:
                self._push(self.now, run)
                self.account.waited += self.now - run.waits_since
                run.waits_since = self.now

    def _finish(self, spec: TrialSpec) -> None:
        """Has the driver record a trial's outcome, which is as large as one of the record."""
        number = self.account.num_ended
        self.account.num_ended += 1
        write_outcome(spec.directory, number, tuple(self.graphs[spec.trial.trial].keys), self._series)
        self._driver(lambda: self.recorder.end(spec))
        shutil.rmtree(spec.directory)

    def _kill(self, count: int) -> None:
        """Takes nodes away with the trials on them, which begin again elsewhere, from what is stored."""
        self.num_nodes -= count
        for run in self._running[:count]:
            run.due = -1
            if run.waits_since is None:
                self.account.lost += self.now - run.began
            self._leased -= run.leases
            self._again.append(run.spec)
        del self._running[:count]
        self._wake()


def write_outcome(directory: Path, number: int, keys: tuple[str, ...], series: bytes) -> None:
    """Writes an outcome as large as that of a run of the record, with its series."""
    entry = record_size_trial(number)
    values = {name: getattr(entry, name) for name in Outcome.__struct_fields__} | {"keys": keys}
    write_bytes(directory / SERIES, series)
    write_bytes(directory / OUTCOME, msgspec.json.encode(Outcome(**values)))
