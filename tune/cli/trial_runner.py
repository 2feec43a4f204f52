"""Runs the trials of a command on a Ray that is connected, shown on the screen and in MLflow."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from golf.cli.start import imported
from tune.cli.background import BackgroundWatcher
from tune.cli.console import open_console, say
from tune.cli.options import Machines, Places
from tune.cli.progress import SweepProgress
from tune.cli.runs import Runs
from tune.cli.status import StatusFile
from tune.cluster.limits import Ended, LimitWatch
from tune.cluster.ray_cluster import has_gpus, stop_ray, trials_at_once
from tune.cluster.sweep import SweepConfig, Watcher, run_sweep
from tune.cluster.workers import MAX_SLOTS
from tune.records.entries import TrialEntry
from tune.records.provenance import environment
from tune.workloads.base import CacheConfig, Workload

if TYPE_CHECKING:
    from tune.cli.mirror import Mirror
    from tune.tracking.tracker import Tracker

_SENDING_SECONDS = 30.0
"""That MLflow gets at the end to take what waits."""


class TrialRunner:
    """Ray and MLflow from the first trials of a session on; both are ended by `close`."""

    def __init__(self, places: Places, machines: Machines, preset: str, mirror: "Mirror | None") -> None:
        """Args: as of `Session`; mirror: is told of every trial's end. Ray must be up."""
        self.places, self.machines, self.preset, self.mirror = places, machines, preset, mirror
        self.storage = places.storage
        self.workers = machines.available_workers(has_gpus(machines.address is not None))
        """Processes of one trial."""
        self.interrupted = False
        """Whether Ctrl-C ended the runs."""
        self._tracker: Tracker | None = None
        """Shows trials in MLflow; None before the first one has begun."""

    def close(self) -> None:
        """Sends to MLflow what waits, and ends Ray or disconnects."""
        try:
            if self._tracker is not None:
                self._tracker.close(_SENDING_SECONDS)
        finally:
            stop_ray()

    def run(self, runs: Runs, known: Sequence[TrialEntry]) -> Ended:
        """Runs the trials of a search, each to its ledger entry.

        Args: runs: the trials; known: entries of those that are not run again.
        Returns: how the runs ended, other than by Ctrl-C.
        """
        search, name, address, workers = runs.search, runs.name, self.machines.address, self.workers
        workload = runs.make_workload(workers.world)
        slots = trials_at_once(workers, address is not None, workload.starts_processes)
        concurrent = min(self.machines.concurrent or MAX_SLOTS, slots, search.num_trials)
        cache = CacheConfig(store=self.places.store, budget_bytes=self.places.budget_bytes)
        config = SweepConfig(
            name=name,
            workers=workers,
            one_machine=address is None,
            concurrent=concurrent,
            retry_policy=self.machines.retry_policy,
            checkpoint_policy=self.machines.checkpoint_policy,
            cache=cache if runs.share else None,
            keep_screened=runs.keep_screened,
            tags=runs.tags,
        )
        gpus = workers.num_workers * (workers.gpus or 1.0)
        limit_watch = LimitWatch(runs.limits, self.storage.used(name), gpus, workload.objective, known)
        progress = SweepProgress(search.num_trials, concurrent, known, workload.describe_progress)
        title = f"{runs.what} {name}: {search.num_trials} trials, {concurrent} at a time{runs.headline}"
        tracked = BackgroundWatcher(lambda: self._tracked(name, workload, config.tags))
        console = open_console(progress, title, self.storage.root)
        project = self.places.wandb
        wandb = None
        if project is not None:
            wandb = imported("tune.tracking.wandb_watcher:WandbWatcher")(project, name, self.storage.root)
        try:
            watchers: list[Watcher] = [console, tracked]
            watchers += [self.mirror] if self.mirror else []
            watchers += [wandb] if wandb else []
            with StatusFile(self.storage.status(name), progress), graceful_interrupt(limit_watch, progress):
                return run_sweep(config, workload, search, self.storage, watchers, limit_watch)
        except KeyboardInterrupt:
            self.interrupted = True
            return Ended()
        finally:
            self.interrupted = self.interrupted or limit_watch.interrupted
            limit_watch.write()
            console.close()
            tracked.close(_SENDING_SECONDS)
            if wandb is not None:
                wandb.close(_SENDING_SECONDS)
                print(wandb.problem or f"also in Weights & Biases, project {project}, group {name}")

    def _tracked(self, name: str, workload: Workload, tags: Mapping[str, str]) -> Watcher:
        """Returns what shows trials in MLflow; at first, what is in the ledger already is sent."""
        if self._tracker is None:
            uri = self.places.tracking_uri
            imported("tune.tracking.tracker:send")(name, uri, self.preset, self.storage)
            wanted = imported("tune.tracking.system_metrics:wants_system_metrics")(self.workers.gpus > 0)
            # With a cluster, trials may not be on this machine.
            measures = wanted and self.machines.address is None
            tracker = imported("tune.tracking.tracker:Tracker")
            self._tracker = tracker(uri, self.preset, self.storage, system_metrics=measures)
        watcher: Watcher = imported("tune.tracking.tracker:SweepTracker")(
            tracker=self._tracker,
            sweep=name,
            preset=self.preset,
            workload=workload.name,
            is_study="study" in tags,
            objective=workload.objective,
            tags=environment(),
        )
        return watcher


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
