"""One Ray for the laptop and the cluster, started quietly and checked before anything is launched.

A trial's driver takes a `trial_slot` and no CPU, so that it never competes with its own training workers. What a
trial asks for must fit the cluster: that is refused at once here, because Ray would wait for ever. What a Ray started
here writes lies in a folder of its own and goes with it, also when this process is killed.
"""

import contextlib
import logging
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

TRIAL_SLOT = "trial_slot"
_LONGEST_PLACE = 16
"""Characters of a temporary folder in which the paths of Ray's sockets stay below the 107 that a system takes."""
_KEEPER = """
read -r line
for turn in 1 2 3 4 5 6 7 8 9; do
  found=$(grep -lsxz "TMPDIR=$1" /proc/[0-9]*/environ)
  for file in $found; do pid=${file#/proc/}; kill -9 "${pid%/environ}"; done
  rm -rf "$1"
  if [ -z "$found" ] && [ ! -e "$1" ]; then exit; fi
  sleep 0.3
done
"""
"""Waits for the end of its input, which is the end of this process, and ends what has the folder for its temporary
files: some of Ray's processes live on for minutes after a driver that was killed."""
_folders: "list[_Folder]" = []
"""Of the Ray that was started here."""


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
    _folders.append(_Folder())
    own = {"resources": {TRIAL_SLOT: trial_slots}, "include_dashboard": True, "_temp_dir": str(_folders[-1].path)}
    with _temporary(_folders[-1].path):
        ray.init(num_cpus=num_cpus, **own, **quiet)


def stop_ray() -> None:
    """Leave the cluster; end the Ray that was started here, and remove what it wrote for itself."""
    ray.shutdown()
    while _folders:
        _folders.pop().remove()


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Processes that are started here have `folder` for their temporary files."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


class _Folder:
    """The folder of a Ray's sockets, logs and temporary files; a shell removes it when this process is gone."""

    def __init__(self) -> None:
        place = tempfile.gettempdir()
        self.path = Path(tempfile.mkdtemp(prefix="golf-ray-", dir=place if len(place) <= _LONGEST_PLACE else "/tmp"))
        command = ["/bin/sh", "-c", _KEEPER, "sh", str(self.path)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
        # In a session of its own: Ctrl-C reaches all processes of the terminal's.
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **quiet)

    def remove(self) -> None:
        """Remove it now."""
        self._keeper.communicate()


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


def has_gpus() -> bool:
    """Whether the cluster has any GPU now."""
    return bool(ray.cluster_resources().get("GPU", 0.0))


def trials_at_once(workers: Workers) -> int:
    """How many trials the cluster holds at a time as it is now.

    Raises: ValueError naming the resource when not one fits.
    """
    have = ray.cluster_resources()
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
