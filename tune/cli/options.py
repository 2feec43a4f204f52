"""Where things are and what trials run on, as values of a parsed command line."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from golf.cli.inputs import check_built_in
from golf.cli.start import imported
from golf.config.config import RunConfig
from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_corpus
from golf.train.checkpoint_policy import CheckpointPolicy
from tune.cache.backend import absolute_address
from tune.cli.early_ray import EarlyRay
from tune.cluster.address import check_places, is_remote
from tune.cluster.limits import Limits
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.workers import Workers
from tune.records.layout import Storage
from tune.records.ledger import warn_of_damage
from tune.tracking.addresses import absolute_uri, default_uri


def run_anywhere(command: str, parsed: argparse.Namespace, act: Callable[[argparse.Namespace], int]) -> int:
    """Runs a command on the cluster that --address names, or here. Returns: its exit status.

    Args:
        command: the function of tune.cli.main.
        parsed: the parsed command line.
        act: runs the command here, its paths absolute.
    """
    check_places(parsed)
    if is_remote(parsed.address):
        status: int = imported("tune.cluster.remote_job:run_there")(command, parsed.words, parsed.address)
        return status
    local = resolved(parsed)
    warn_of_damage(Storage(local.storage).ledger)
    return act(local)


def resolved(parsed: argparse.Namespace) -> argparse.Namespace:
    """Returns the command line with every path absolute: trials run in directories of their own."""
    found = argparse.Namespace(**vars(parsed))
    found.storage = found.storage.resolve()
    found.data = found.data and found.data.resolve()
    found.store, found.mirror = (place and absolute_address(place) for place in (found.store, found.mirror))
    found.tracking_uri = found.tracking_uri and absolute_uri(found.tracking_uri)
    return found


def open_data(folder: Path | None, base: RunConfig, preset: str | None, storage: Storage) -> Dataset:
    """Returns the dataset in a folder; without one the built-in corpus, which is made when it is missing.

    Raises:
        ValueError: without training shards, or for a configuration that the built-in corpus is too small for.
    """
    if folder is None:
        check_built_in(base, preset)
        prepare_corpus(storage.data / CORPUS_NAME)
    dataset = open_dataset((folder or storage.data / CORPUS_NAME).resolve(), base.model.vocab_size)
    if dataset.train is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); add them or give another --data")
    return dataset


def limits_of(parsed: argparse.Namespace) -> Limits:
    """Returns the limits of a command line with the options of `add_limits`. Raises: ValueError without a price."""
    return Limits(
        max_hours=parsed.max_hours,
        max_dollars=parsed.max_dollars,
        dollars_per_gpu_hour=parsed.dollars_per_gpu_hour,
        stop_at=parsed.stop_at,
    )


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
    wandb: str | None = None
    """Project of Weights & Biases; None: it is not used."""


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
    early_ray: EarlyRay | None = None
    """The Ray of this machine, where it was started beside the imports."""

    def planned_workers(self, assume_gpus: bool = False) -> Workers:
        """Returns the processes of one trial as far as can be told before Ray is up."""
        gpus = float(torch.cuda.is_available() or assume_gpus)
        return Workers(
            self.workers, self.cpus_per_worker, gpus if self.gpus_per_worker is None else self.gpus_per_worker
        )

    def available_workers(self, has_gpus: bool) -> Workers:
        """Returns the processes of one trial. Args: has_gpus: whether the cluster that is connected has any."""
        gpus = float(has_gpus) if self.gpus_per_worker is None else self.gpus_per_worker
        return Workers(self.workers, self.cpus_per_worker, gpus)


def places_of(parsed: argparse.Namespace) -> Places:
    """Returns the places of a resolved command line with the options of `add_places`.

    Raises: ValueError for --wandb where nobody is logged in.
    """
    storage = Storage(parsed.storage)
    if parsed.wandb is not None:
        imported("tune.tracking.wandb_watcher:check_login")()
    return Places(
        storage=storage,
        tracking_uri=parsed.tracking_uri or default_uri(storage.root),
        store=parsed.store or str(storage.store),
        budget_bytes=None if parsed.store_gigabytes is None else int(parsed.store_gigabytes * 1e9),
        mirror=parsed.mirror,
        wandb=parsed.wandb,
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
        early_ray=getattr(parsed, "early_ray", None),
    )
