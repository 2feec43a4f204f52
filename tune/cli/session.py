"""Ray and MLflow around the runs of a command."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from golf.cli.terminal import python_line
from tune.cli.console import open_console, say
from tune.cli.mirror import Mirror
from tune.cli.options import Machines, Places
from tune.cli.progress import SweepProgress
from tune.cli.status import StatusFile
from tune.cluster.limits import NO_LIMITS, Limits, LimitWatch
from tune.cluster.ray_cluster import Workers, start_ray, stop_ray, trials_at_once
from tune.cluster.remote_job import explained
from tune.cluster.sweep import Ended, SweepConfig, Watcher, run_sweep
from tune.records.entries import Record, TrialEntry, WorldShape
from tune.records.ledger import Ledger, warn_of_damage
from tune.records.provenance import environment
from tune.search.search import Search
from tune.tracking.system_metrics import wants_system_metrics
from tune.tracking.tracker import SweepTracker, Tracker, sync
from tune.tracking.wandb_watcher import WandbWatcher
from tune.workloads.base import CacheConfig, Workload

MAX_SLOTS = 64
"""Trials at a time that a Ray started here can be asked for."""
_SENDING_SECONDS = 30.0
"""That MLflow gets at the end to take what waits."""
_COPYING_SECONDS = 300.0
"""That the mirror gets at the end."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Trials to be run under one name."""

    name: str
    search: Search
    make_workload: Callable[[WorldShape], Workload]
    """Makes what they run, for the machines of one trial."""
    known: Sequence[TrialEntry]
    """Entries of earlier starts that stay."""
    what: str = "sweep"
    """The kind of thing that is run, for the screen."""
    headline: str = ""
    """More about it, for the screen."""
    share: bool = True
    """Whether stages are shared through the store."""
    keep_screened: bool = True
    """Whether trials that were screened out stay so."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every entry."""
    limits: Limits = NO_LIMITS
    """What ends them before the last trial."""


class Session:
    """Ray and MLflow for as long as the block lasts, started with the first trials: without any, nothing is started."""

    def __init__(self, places: Places, machines: Machines, preset: str) -> None:
        """Args: places: where results go; machines: what trials run on; preset: names the MLflow experiment."""
        self.places, self.machines, self.preset = places, machines, preset
        self.storage, self.uri = places.storage, places.tracking_uri
        self.stopped = False
        """Whether Ctrl-C ended the runs."""
        self.ended = Ended()
        """How the last runs ended otherwise."""
        self._mirror = None if places.mirror is None else Mirror(places.storage, places.mirror, self.uri, warn=say)
        self._workers: Workers | None = None
        self._tracker: Tracker | None = None
        self._ray = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._tracker is not None:
                self._tracker.close(_SENDING_SECONDS)
        finally:
            if self._ray:
                stop_ray()

    def run(self, runs: Runs) -> None:
        """Runs the trials of a search, each to its ledger entry; nothing where all are there."""
        search, name, address = runs.search, runs.name, self.machines.address
        if len(search.given) >= search.num_trials:
            return
        warn_of_damage(self.storage.screened(name))
        planned = self._workers or self.machines.planned_workers()
        known = [entry for entry in runs.known if entry.trial in search.given]
        reached = LimitWatch(
            runs.limits, self.storage.used(name), 0, runs.make_workload(planned.world).objective, known
        )
        if reached.stop is not None:
            self.ended = Ended(reached.stop)
            return
        if not self._ray:
            self._ray = True
            with explained(address) if address else contextlib.nullcontext():
                start_ray(address, MAX_SLOTS)
        workers = self._workers = self._workers or self.machines.available_workers()
        workload = runs.make_workload(workers.world)
        slots = trials_at_once(workers, address is not None, workload.starts_processes)
        concurrent = min(self.machines.concurrent or MAX_SLOTS, slots, search.num_trials)
        cache = CacheConfig(store=self.places.store, budget_bytes=self.places.budget_bytes)
        config = SweepConfig(
            name=name,
            workers=workers,
            concurrent=concurrent,
            retry_policy=self.machines.retry_policy,
            checkpoint_policy=self.machines.checkpoint_policy,
            cache=cache if runs.share else None,
            keep_screened=runs.keep_screened,
            tags=runs.tags,
        )
        gpus = workers.num_workers * (workers.gpus or 1.0)
        limit_watch = LimitWatch(runs.limits, self.storage.used(name), gpus, workload.objective, known)
        if self._tracker is None:
            self.send(name)
            # With a cluster, trials may not be on this machine.
            measures = address is None and wants_system_metrics(workers.gpus > 0)
            self._tracker = Tracker(self.uri, self.preset, self.storage, system_metrics=measures)
        progress = SweepProgress(search.num_trials, concurrent, known, workload.describe_progress)
        title = f"{runs.what} {name}: {search.num_trials} trials, {concurrent} at a time{runs.headline}"
        console = open_console(progress, title, self.storage.root)
        wandb = None if self.places.wandb is None else WandbWatcher(self.places.wandb, name, self.storage.root)
        try:
            tracked = SweepTracker(
                tracker=self._tracker,
                sweep=name,
                preset=self.preset,
                workload=workload.name,
                is_study="study" in config.tags,
                objective=workload.objective,
                tags=environment(),
            )
            watchers: list[Watcher] = [console, tracked]
            watchers += [self._mirror] if self._mirror else []
            watchers += [wandb] if wandb else []
            with StatusFile(self.storage.status(name), progress), graceful_interrupt(limit_watch, progress):
                self.ended = run_sweep(config, workload, search, self.storage, watchers, limit_watch)
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            self.stopped = self.stopped or limit_watch.interrupted
            limit_watch.write()
            console.close()
            if wandb is not None:
                wandb.close(_SENDING_SECONDS)
                print(wandb.problem or f"also in Weights & Biases, project {self.places.wandb}, group {name}")

    def finish_mirror(self) -> None:
        """Copies all that is there at the end, where there is a mirror, and says whether it worked; call it last."""
        where = self.places.mirror
        if self._mirror is not None and where is not None:
            fetch = f"copied to {where}; {python_line('tune', 'mirror', 'fetch', where)} FOLDER brings it back"
            print(self._mirror.close(_COPYING_SECONDS) or fetch)

    def send(self, name: str) -> str | None:
        """Completes a sweep's or study's runs in MLflow. Returns: what to tell the user if that failed."""
        ledger = Ledger(self.storage.ledger)
        records: list[Record] = [*ledger.trials(name), *ledger.plans(name), *ledger.verdicts(name)]
        return sync(records, self.uri, self.preset, self.storage).problem


@contextlib.contextmanager
def graceful_interrupt(limit_watch: LimitWatch, progress: SweepProgress) -> Iterator[None]:
    """Takes Ctrl-C within the block as the end of the sweep, answers at once, and lets running trials save their state.

    Raises: KeyboardInterrupt at a second Ctrl-C.
    """

    def take(number: int, frame: object) -> None:
        if limit_watch.interrupted:
            raise KeyboardInterrupt
        limit_watch.interrupt()
        count = len(progress.running)
        with contextlib.suppress(RuntimeError):  # the signal came while a line was printed
            say(f"stopping: saving {count} running trial{'' if count == 1 else 's'} (Ctrl-C again ends at once)")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
