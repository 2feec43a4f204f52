"""Addresses of clusters on a command line; Ray is not needed for them."""

import argparse
from pathlib import Path

JOB = "job"
_CLIENT = "ray://"


def is_remote(address: str | None) -> bool:
    """Returns whether the command itself is to run elsewhere."""
    return address is not None and (address == JOB or address.startswith(f"{JOB}:"))


def check_places(parsed: argparse.Namespace) -> None:
    """Refuses addresses and paths that cannot be meant for a cluster.

    Raises: ValueError naming the option.
    """
    if parsed.address is None:
        return
    if parsed.address.startswith(_CLIENT):
        raise ValueError(
            f"--address {parsed.address}: commands do not run through Ray's client; give --address job, with "
            "`ray dashboard cluster.yaml` running in another terminal, or --address auto on a machine of the cluster"
        )
    for option in ("storage", "data", "store", "mirror"):
        path = getattr(parsed, option, None)
        if path is not None and "://" not in str(path) and not Path(path).is_absolute():
            raise ValueError(
                f"--{option} {path}: with --address it is a path on the cluster, which all its machines see, "
                f"and must be absolute, e.g. --{option} /mnt/golf"
            )
