"""What the commands that run trials have in common: their places and machines, and Ray with MLflow around the runs.

A parsed command line enters; a dataset, settings and finished trials leave. What is searched and what is said of it is
the command's own.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from golf.cli.commands import check_built_in
from golf.cli.options import above, cpus, gpus, ranks, real, whole
from golf.cli.terminal import expand_paths, python_line
from golf.config.config import RunConfig
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.train.checkpoint_policy import MTBF_HOURS, CheckpointPolicy
from tune.cache.backend import absolute_address
from tune.cli.console import Console, say, text_read
from tune.cli.mirror import Mirror
from tune.cluster.ray_cluster import Workers, has_gpus, start_ray, stop_ray, trials_at_once
from tune.cluster.remote_job import ADDRESS_HELP, check_places, explained, is_remote, run_there
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.sweep import SweepSettings, Watcher, run_sweep
from tune.records.journal import Ledger, tell_damage
from tune.records.layout import Storage
from tune.records.redaction import open_address, redact
from tune.search.search import Search
from tune.search.successive_halving import SuccessiveHalving
from tune.study.preregistration import PLAN
from tune.study.verdict import VERDICT
from tune.tracking.connection import absolute_uri
from tune.tracking.tracker import SweepTracker, Tracker, default_uri, sync

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
        tell_damage(Storage(local.storage).ledger)
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


def make_workers(parsed: argparse.Namespace) -> Workers:
    """The processes of one trial; Ray must be up."""
    gpus = parsed.gpus_per_worker if parsed.gpus_per_worker is not None else float(has_gpus(parsed.address is not None))
    return Workers(parsed.workers, parsed.cpus_per_worker, gpus)


class Session:
    """Ray and MLflow for as long as the block lasts, started with the first trials: without any, nothing is started."""

    def __init__(self, parsed: argparse.Namespace, storage: Storage, preset: str) -> None:
        """Args: parsed: with the options of `add_places` and `add_machines`; preset: names the MLflow experiment."""
        self.parsed, self.storage, self.preset = parsed, storage, preset
        self.saving = CheckpointPolicy(seconds=parsed.save_seconds, mtbf_hours=parsed.mtbf_hours)
        self.retry_policy = RetryPolicy(
            patience_seconds=parsed.patience_seconds, timeout_seconds=parsed.timeout_seconds
        )
        self.uri = parsed.tracking_uri or default_uri(storage.root)
        self.stopped = False
        """Whether Ctrl-C ended the runs."""
        self._mirror = None if parsed.mirror is None else Mirror(storage, parsed.mirror, self.uri, say=say)
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

    def run(
        self,
        name: str,
        search: Search,
        dataset: Dataset,
        known: list[dict[str, Any]],
        *,
        what: str = "sweep",
        screening: SuccessiveHalving | None = None,
        reuse: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Run what `search` gives under the sweep's `name`, each to its ledger entry; nothing where all are there.

        Args: known: entries of earlier starts; what: the kind of thing that is run, for the screen; tags: of every
            entry.
        """
        if len(search.given) >= search.num_trials:
            return
        address = self.parsed.address
        tell_damage(self.storage.screened(name))
        if not self._ray:
            self._ray = True
            with explained(address) if address else contextlib.nullcontext():
                start_ray(address, MAX_SLOTS)
        workers = self._workers = self._workers or make_workers(self.parsed)
        budget = self.parsed.store_gigabytes
        concurrent = min(
            self.parsed.concurrent or MAX_SLOTS, trials_at_once(workers, address is not None), search.num_trials
        )
        settings = SweepSettings(
            name,
            self.preset,
            dataset.folder,
            workers,
            concurrent,
            retry_policy=self.retry_policy,
            save_seconds=self.saving.seconds,
            mtbf_hours=self.saving.mtbf_hours,
            screening=screening,
            reuse=reuse,
            store=self.parsed.store,
            budget_bytes=None if budget is None else int(budget * 1e9),
            tags=tags or {},
        )
        trials, cap = f"{search.num_trials} trials, {concurrent} at a time", search.base.cap_bytes
        say(f"{what} {name}: {trials}, cap {cap:,} bytes; {text_read(search.configs(), dataset)}")
        ours = [entry for entry in known if entry["trial"] in search.given]
        if self._tracker is None:
            self.send(name)
            self._tracker = Tracker(self.uri, self.preset, self.storage)
        console = Console(search.num_trials, concurrent, ours, self.storage.root)
        try:
            shown = SweepTracker(self._tracker, name, self.preset, study="study" in settings.tags)
            watchers: list[Watcher] = [console, shown]
            run_sweep(settings, search, self.storage, watchers + ([self._mirror] if self._mirror else []))
        except KeyboardInterrupt:
            self.stopped = True

    def finish_mirror(self) -> None:
        """Copy all that is there at the end, where there is a mirror, and say whether it worked; call it last."""
        if self._mirror is not None:
            where = self.parsed.mirror
            fetch = f"copied to {where}; {python_line('tune', 'mirror', 'fetch', where)} FOLDER brings it back"
            print(self._mirror.close(_COPYING_SECONDS) or fetch)

    def send(self, name: str) -> str | None:
        """Complete a sweep's or study's runs in MLflow; what to tell the user if that failed."""
        ledger = Ledger(self.storage.ledger).entries()
        ours = [entry for entry in ledger if name in (entry.get("sweep"), entry.get("study"))]
        entries = [entry for entry in ours if entry.get("kind") in SHOWN]
        return sync(entries, self.uri, self.preset, self.storage).problem


SHOWN = ("trial", PLAN, VERDICT)
"""Kinds of entries that MLflow takes; a plan says that its runs are a study's."""
