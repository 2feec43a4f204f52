"""One Ray for the laptop and the cluster, started quietly and checked before anything is launched.

A trial's driver takes a `trial_slot` and no CPU, so that it never competes with its own training workers. What a
trial asks for must fit the cluster: that is refused at once here, because Ray would wait for ever.
"""

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import ray

TRIAL_SLOT = "trial_slot"


@dataclass(frozen=True)
class Workers:
    """What the training of one trial runs on."""

    num_workers: int = 1
    """Processes: 1, 2, 4 or 8."""
    cpus: float = 1.0
    """CPUs of each."""
    gpus: float = 0.0
    """GPUs of each."""


def start_ray(address: str | None, num_cpus: int | None, trial_slots: int) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine, without its noise."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    _ensure_token()
    # The dashboard serves the State API, without which stopped trials never give their workers back.
    ray.init(num_cpus=num_cpus, resources={TRIAL_SLOT: trial_slots}, include_dashboard=True, **quiet)


def _ensure_token() -> None:
    """Make the token of this user's local clusters, readable by nobody else, unless there is one."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    path = Path.home() / ".ray" / "auth_token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))


def check_fits(workers: Workers) -> None:
    """Raise ValueError unless one trial fits the cluster as it is now."""
    have = ray.cluster_resources()
    wants = {
        "CPU": workers.num_workers * workers.cpus,
        "GPU": workers.num_workers * workers.gpus,
        TRIAL_SLOT: 1.0,
    }
    for resource, amount in wants.items():
        if amount > have.get(resource, 0.0):
            raise ValueError(
                f"one trial needs {amount:g} {resource} ({workers.num_workers} workers), the cluster has "
                f"{have.get(resource, 0.0):g}; lower --workers, --cpus-per-worker or --gpus-per-worker, or add nodes"
            )
