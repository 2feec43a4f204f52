"""What the commands that run trials have in common: their options, and Ray with MLflow around the runs."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from golf.cli.commands import check_built_in
from golf.cli.options import above, cpus, gpus, ranks, real, whole
from golf.cli.terminal import expand_paths, python_line
from golf.config.config import RunConfig
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.train.checkpoint_policy import MTBF_HOURS, CheckpointPolicy
from tune.cache.backend import absolute_address
from tune.cli.console import Console, say
from tune.cli.mirror import Mirror
from tune.cluster.ray_cluster import Workers, has_gpus, start_ray, stop_ray, trials_at_once
from tune.cluster.remote_job import ADDRESS_HELP, check_places, explained, is_remote, run_there
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.sweep import SweepConfig, Watcher, run_sweep
from tune.records.entries import TrialEntry, WorldShape
from tune.records.layout import Storage
from tune.records.ledger import Ledger, warn_of_damage
from tune.records.redaction import open_address, redact
from tune.search.search import Search
from tune.tracking.connection import absolute_uri
from tune.tracking.tracker import SweepTracker, Tracker, default_uri, sync
from tune.workloads.base import CacheConfig, Workload

MAX_SLOTS = 64
"""Trials at a time that a Ray started here can be asked for."""
_SENDING_SECONDS = 30.0
"""That MLflow gets at the end to take what waits."""
_COPYING_SECONDS = 300.0
"""That the mirror gets at the end."""


def guarded(act: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    """What `act` returns; an error of input is one line and exit code 2, Ctrl-C outside the runs 130."""
    try:
        return act(parsed)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first trial; the same command starts again", file=sys.stderr)
        return 130


def guarded_anywhere(
    script: str, words: Sequence[str], act: Callable[[argparse.Namespace], int], parsed: argparse.Namespace
) -> int:
    """As `guarded`; the command runs on the cluster that --address names, or here.

    Args: script: its file name in the project; words: its arguments, as `parsed` has them.
    """

    def there_or_here(parsed: argparse.Namespace) -> int:
        check_places(parsed)
        if is_remote(parsed.address):
            return run_there(script, words, parsed.address)
        local = resolved(parsed)
        warn_of_damage(Storage(local.storage).ledger)
        return act(local)

    return guarded(there_or_here, parsed)


def resolved(parsed: argparse.Namespace) -> argparse.Namespace:
    """The command line with every path absolute, once and for all: trials run in folders of their own."""
    found = expand_paths(parsed)
    found.storage = found.storage.resolve()
    found.data = found.data and found.data.resolve()
    found.store, found.mirror = (place and absolute_address(place) for place in (found.store, found.mirror))
    found.tracking_uri = found.tracking_uri and absolute_uri(found.tracking_uri)
    return found


def add_places(parser: argparse.ArgumentParser, name: str) -> Any:
    """Add the options that say where things are; the group, for a command's own.

    Args: name: help of --name.
    """
    places = parser.add_argument_group("places")
    places.add_argument("--name", help=name)
    places.add_argument("--data", type=Path, help="a prepared dataset (the built-in corpus, made when missing)")
    places.add_argument("--storage", type=Path, default=Path("storage"), help="folder for all results (%(default)s)")
    places.add_argument("--tracking-uri", help="an MLflow server (a SQLite file in the storage)")
    places.add_argument(
        "--store", type=open_address, help="where shared stages are kept: a folder or s3://, gs:// (in the storage)"
    )
    mirror = "a folder or s3://, gs:// where ledger, MLflow database, reports and artifacts are copied, trial by trial"
    places.add_argument("--mirror", type=open_address, metavar="URI", help=mirror)
    places.add_argument(
        "--store-gigabytes", type=above("gigabytes"), help="size that the store is kept below (no limit)"
    )
    return places


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a trial runs on."""
    work = parser.add_argument_group("machines")
    work.add_argument("--address", help=ADDRESS_HELP)
    work.add_argument("--workers", type=ranks, default=1, help="processes of a trial: 1, 2, 4 or 8 (%(default)s)")
    work.add_argument("--cpus-per-worker", type=cpus, default=1.0, help="whole ones, a thread each (%(default)g)")
    work.add_argument("--gpus-per-worker", type=gpus, help="(1 where there are GPUs)")
    work.add_argument("--concurrent", type=whole(least=1), help="trials at a time (as many as fit)")
    work.add_argument(
        "--save-seconds", type=real(unit="seconds"), help="between saved states (chosen from what a save costs)"
    )
    mtbf = "mean time between failures of a trial's machines together, for that choice (%(default)g)"
    work.add_argument("--mtbf-hours", type=above("hours"), default=MTBF_HOURS, help=mtbf)
    patience = "that a lost node is waited for before fewer workers go on (%(default)g)"
    work.add_argument("--patience-seconds", type=above("seconds"), default=RetryPolicy.patience_seconds, help=patience)
    hung = "after which a worker that does not answer the others is given up (%(default)g)"
    work.add_argument("--timeout-seconds", type=above("seconds"), default=RetryPolicy.timeout_seconds, help=hung)


def open_data(parsed: argparse.Namespace, base: RunConfig, storage: Storage) -> Dataset:
    """The dataset, the built-in one being made when it is missing; it must have training shards."""
    if parsed.data is None:
        check_built_in(base, parsed.preset)
        prepare_text(documents(), storage.data / CORPUS_NAME, CORPUS_NAME)
    dataset = open_dataset((parsed.data or storage.data / CORPUS_NAME).resolve(), base.model.vocab_size)
    if dataset.train is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); add them or give another --data")
    return dataset


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are; every path is absolute."""

    storage: Storage
    tracking_uri: str
    """Address of MLflow."""
    store: str
    """Path or URI of the store of shared stages."""
    budget_bytes: int | None
    """Size that the store is kept below; None: no limit."""
    mirror: str | None
    """Folder or URI of the copies; None: none are made."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What trials run on."""

    address: str | None
    """A running cluster; None: Ray is started on this machine."""
    workers: int
    """Processes of a trial."""
    cpus_per_worker: float
    gpus_per_worker: float | None
    """None: 1 where there are GPUs."""
    concurrent: int | None
    """Trials at a time; None: as many as fit."""
    checkpoint_policy: CheckpointPolicy
    retry_policy: RetryPolicy

    def planned_workers(self, assume_gpus: bool = False) -> Workers:
        """Returns the processes of one trial as far as can be told before Ray is up."""
        gpus = float(torch.cuda.is_available() or assume_gpus)
        return Workers(self.workers, self.cpus_per_worker, gpus if self.gpus_per_worker is None else self.gpus_per_worker)

    def available_workers(self) -> Workers:
        """Returns the processes of one trial; Ray must be up."""
        gpus = self.gpus_per_worker
        found = float(has_gpus(self.address is not None)) if gpus is None else gpus
        return Workers(self.workers, self.cpus_per_worker, found)


def places_of(parsed: argparse.Namespace) -> Places:
    """Returns the places of a resolved command line with the options of `add_places`."""
    storage = Storage(parsed.storage)
    return Places(
        storage=storage,
        tracking_uri=parsed.tracking_uri or default_uri(storage.root),
        store=parsed.store or str(storage.store),
        budget_bytes=None if parsed.store_gigabytes is None else int(parsed.store_gigabytes * 1e9),
        mirror=parsed.mirror,
    )


def machines_of(parsed: argparse.Namespace) -> Machines:
    """Returns the machines of a command line with the options of `add_machines`."""
    return Machines(
        address=parsed.address,
        workers=parsed.workers,
        cpus_per_worker=parsed.cpus_per_worker,
        gpus_per_worker=parsed.gpus_per_worker,
        concurrent=parsed.concurrent,
        checkpoint_policy=CheckpointPolicy(seconds=parsed.save_seconds, mtbf_hours=parsed.mtbf_hours),
        retry_policy=RetryPolicy(
            patience_seconds=parsed.patience_seconds, timeout_seconds=parsed.timeout_seconds
        ),
    )


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


class Session:
    """Ray and MLflow for as long as the block lasts, started with the first trials: without any, nothing is started."""

    def __init__(self, places: Places, machines: Machines, preset: str) -> None:
        """Args: places: where results go; machines: what trials run on; preset: names the MLflow experiment."""
        self.places, self.machines, self.preset = places, machines, preset
        self.storage, self.uri = places.storage, places.tracking_uri
        self.stopped = False
        """Whether Ctrl-C ended the runs."""
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
        if not self._ray:
            self._ray = True
            with explained(address) if address else contextlib.nullcontext():
                start_ray(address, MAX_SLOTS)
        workers = self._workers = self._workers or self.machines.available_workers()
        slots = trials_at_once(workers, address is not None)
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
        workload = runs.make_workload(workers.world)
        say(f"{runs.what} {name}: {search.num_trials} trials, {concurrent} at a time{runs.headline}")
        known = [entry for entry in runs.known if entry.trial in search.given]
        if self._tracker is None:
            self.send(name)
            self._tracker = Tracker(self.uri, self.preset, self.storage)
        console = Console(search.num_trials, concurrent, known, workload.describe_progress, self.storage.root)
        try:
            tracked = SweepTracker(self._tracker, name, self.preset, study="study" in config.tags)
            watchers: list[Watcher] = [console, tracked]
            run_sweep(config, workload, search, self.storage, watchers + ([self._mirror] if self._mirror else []))
        except KeyboardInterrupt:
            self.stopped = True

    def finish_mirror(self) -> None:
        """Copies all that is there at the end, where there is a mirror, and says whether it worked; call it last."""
        if self._mirror is not None:
            where = self.places.mirror
            fetch = f"copied to {where}; {python_line('tune', 'mirror', 'fetch', where)} FOLDER brings it back"
            print(self._mirror.close(_COPYING_SECONDS) or fetch)

    def send(self, name: str) -> str | None:
        """Completes a sweep's or study's runs in MLflow. Returns: what to tell the user if that failed."""
        ledger = Ledger(self.storage.ledger)
        records = [*ledger.trials(name), *ledger.plans(name), *ledger.verdicts(name)]
        return sync(records, self.uri, self.preset, self.storage).problem
