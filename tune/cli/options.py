"""Options of the commands that run trials: where things are and what trials run on, parsed into values."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from golf.cli.inputs import check_built_in
from golf.cli.options import above, cpus, gpus, ranks, real, whole
from golf.cli.terminal import expand_paths
from golf.config.config import RunConfig
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.train.checkpoint_policy import MTBF_HOURS, CheckpointPolicy
from tune.cache.backend import absolute_address
from tune.cluster.ray_cluster import Workers, has_gpus
from tune.cluster.remote_job import ADDRESS_HELP, check_places, is_remote, run_there
from tune.cluster.retry_policy import RetryPolicy
from tune.records.layout import Storage
from tune.records.ledger import warn_of_damage
from tune.records.redaction import open_address, redact
from tune.tracking.connection import absolute_uri
from tune.tracking.tracker import default_uri


def guarded(act: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    """Returns what `act` returns; an error of input is one line and exit status 2, Ctrl-C outside the runs 130."""
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
    """Runs a command on the cluster that --address names, or here; errors as in `guarded`.

    Args:
        script: its file name in the project.
        words: its arguments, as `parsed` has them.
        act: runs it here.
        parsed: the parsed command line.
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
    """Returns the command line with every path absolute: trials run in directories of their own."""
    found = expand_paths(parsed)
    found.storage = found.storage.resolve()
    found.data = found.data and found.data.resolve()
    found.store, found.mirror = (place and absolute_address(place) for place in (found.store, found.mirror))
    found.tracking_uri = found.tracking_uri and absolute_uri(found.tracking_uri)
    return found


def add_places(parser: argparse.ArgumentParser, name: str) -> Any:
    """Adds the options that say where things are. Returns: their group, for a command's own.

    Args:
        parser: of the command.
        name: help of --name.
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
    """Adds the options that say what a trial runs on."""
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


def open_data(folder: Path | None, base: RunConfig, preset: str | None, storage: Storage) -> Dataset:
    """Returns the dataset in a folder; without one the built-in corpus, which is made when it is missing.

    Raises:
        ValueError: without training shards, or for a configuration that the built-in corpus is too small for.
    """
    if folder is None:
        check_built_in(base, preset)
        prepare_text(documents(), storage.data / CORPUS_NAME, CORPUS_NAME)
    dataset = open_dataset((folder or storage.data / CORPUS_NAME).resolve(), base.model.vocab_size)
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
        return Workers(
            self.workers, self.cpus_per_worker, gpus if self.gpus_per_worker is None else self.gpus_per_worker
        )

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
        retry_policy=RetryPolicy(patience_seconds=parsed.patience_seconds, timeout_seconds=parsed.timeout_seconds),
    )
