"""One Ray for the laptop and the cluster, started quietly and checked before anything is launched.

A trial's driver takes a `trial_slot` and no CPU, so that it never competes with its own training workers. What a
trial asks for must fit the cluster: that is refused at once here, because Ray would wait for ever.
"""

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from tune.autoscaler import grown, head_config

TRIAL_SLOT = "trial_slot"


@dataclass(frozen=True)
class Workers:
    """What one trial runs on."""

    num_workers: int = 1
    """Processes: 1, 2, 4 or 8."""
    cpus: float = 1.0
    """CPUs of each."""
    gpus: float = 0.0
    """GPUs of each."""

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one process, as Ray names them."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def world(self) -> dict[str, Any]:
        """What of it changes the bits of a result."""
        return {"ranks": self.num_workers, "cpus": self.cpus, "device": "cuda" if self.gpus else "cpu"}


def start_ray(address: str | None, trial_slots: int, num_cpus: int | None = None) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine, without its noise.

    Args: trial_slots: trials at a time that a Ray started here allows at most; num_cpus: CPUs it hands out, all by
        default.
    Raises: ConnectionError when there is no cluster at `address`.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    _ensure_token()
    # The dashboard serves the State API, without which stopped trials never give their workers back.
    ray.init(num_cpus=num_cpus, resources={TRIAL_SLOT: trial_slots}, include_dashboard=True, **quiet)


def stop_ray() -> None:
    """Leave the cluster; end the Ray that was started here."""
    ray.shutdown()


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


def resources(grows: bool) -> dict[str, float]:
    """What the cluster has of each resource; if it `grows`, with the machines that its autoscaler may start."""
    now = ray.cluster_resources()
    return grown(now, head_config()) if grows else now


def has_gpus(grows: bool = False) -> bool:
    """Whether the cluster has any GPU. Args: grows: see `resources`."""
    return bool(resources(grows).get("GPU", 0.0))


def trials_at_once(workers: Workers, grows: bool = False) -> int:
    """How many trials the cluster holds at a time.

    Args: grows: see `resources`.
    Raises: ValueError naming the resource when not one fits.
    """
    have = resources(grows)
    wants = {name: workers.num_workers * amount for name, amount in workers.resources.items()} | {TRIAL_SLOT: 1.0}
    for resource, amount in wants.items():
        if amount > have.get(resource, 0.0):
            remedy = "lower --workers, --cpus-per-worker or --gpus-per-worker, or add nodes"
            if resource == TRIAL_SLOT:
                remedy = f"start its nodes with ray start --resources '{{\"{TRIAL_SLOT}\": 8}}'"
            raise ValueError(
                f"one trial needs {amount:g} {resource} ({workers.num_workers} workers), the cluster has "
                f"{have.get(resource, 0.0):g}; {remedy}"
            )
    return int(min(have[resource] // amount for resource, amount in wants.items() if amount))
