"""A command that runs on a cluster as a submitted job, followed from this terminal.

On the cluster the same command runs with `--address auto` and this machine's code, which goes up with it; every path is
a path there. The job outlives this process. What can go wrong with an address is reported in one line.
"""

import asyncio
import contextlib
import logging
import shlex
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

AUTO = "auto"
DASHBOARD = "http://127.0.0.1:8265"
"""Where `ray dashboard` forwards the dashboard of a cluster to."""
ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("golf", "tune")
"""What a command on the cluster needs of the project."""
_ENTRY = "from tune.cli.main import {0}; raise SystemExit({0}())"
_WAIT_SECONDS = 60.0
"""Longest time for a cluster to begin, and for a job's log to be out of reach."""
_TOKEN = "copy ~/.ray/auth_token of the machine that ran `ray up` to this one, readable by you alone"
_VERSIONS = "install what cluster/constraints.txt of the cluster's project says"


def run_there(command: str, arguments: Sequence[str], address: str) -> int:
    """Runs a command of the project on a cluster and prints its lines.

    Args:
        command: the function of `tune.cli.main`.
        arguments: of the command line.
        address: job, or job: and the URL of a dashboard.

    Returns: its exit status; 130 after Ctrl-C.

    Raises: ConnectionError, ValueError saying what is wrong with the address, the token or the versions.
    """
    logging.disable(logging.WARNING)  # modules of Ray set levels of their own
    try:
        return _submit(
            ["python3", "-c", _ENTRY.format(command), *arguments, "--address", AUTO],
            address.partition(":")[2] or DASHBOARD,
        )
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what Ray raises when it cannot reach or enter a cluster into one line with the remedy.

    Raises: ConnectionError, PermissionError, ValueError.
    """
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        yield
    except AuthenticationError as error:
        raise PermissionError(f"the cluster at {address} refused the token; {_TOKEN}") from error
    except (ConnectionError, RuntimeError, RayError, TimeoutError, aiohttp.ClientError) as error:
        text = " ".join(_messages(error).split())
        if "token" in text.lower():
            raise PermissionError(f"the cluster at {address} refused the token; {_TOKEN}") from error
        if "ersion mismatch" in text or "same version" in text:
            raise ValueError(f"the cluster at {address} runs other versions: {text[:300]}; {_VERSIONS}") from error
        raise ConnectionError(f"no cluster answers at {address} ({text[:160]}); {_remedy(address)}") from error


def _messages(error: BaseException) -> str:
    """Returns the text of an error and of those that it came from."""
    earlier = error.__cause__ or error.__context__
    return f"{error} {_messages(earlier)}" if earlier else str(error)


def _remedy(address: str) -> str:
    if address == AUTO:
        return "run this on a machine of the cluster, or give --address job"
    forward = "`ray dashboard cluster.yaml`"
    return f"start it with ray up, and keep {forward} running in another terminal so that port 8265 is reachable"


def _submit(command: list[str], url: str) -> int:
    with explained(url):
        client = JobSubmissionClient(url)
        with tempfile.TemporaryDirectory() as code:
            for package in _PACKAGES:
                shutil.copytree(ROOT / package, Path(code) / package, ignore=shutil.ignore_patterns("__pycache__"))
            job = _submit_when_ready(client, command, code)
    follow, stop = (f"RAY_AUTH_MODE=token ray job {what} {job} --address {url}" for what in ("logs --follow", "stop"))
    print(f"job {job} at {url}; Ctrl-C stops following it and leaves it running", flush=True)
    try:
        return _follow(client, job, url)
    except KeyboardInterrupt:
        print(f"\nno longer followed, still running\nfollow: {follow}\nstop:   {stop}", flush=True)
        return 130
    except OSError as error:
        raise ConnectionError(f"{error}; the job may still be running; follow it: {follow}") from error


def _submit_when_ready(client: Any, command: list[str], code: str) -> str:
    """Submits a command, also to a cluster that has only just begun. Returns the job's id.

    Args: code: the folder that goes up with it.
    """
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return str(client.submit_job(entrypoint=shlex.join(command), runtime_env={"working_dir": code}))
        except RuntimeError as error:
            if "try again later" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(1)


def _follow(client: Any, job: str, url: str) -> int:
    """Prints a job's log to its end. Returns its exit status."""
    log, lost = _Log(), None
    while True:
        try:
            asyncio.run(log.show(client.tail_job_logs(job)))
            info = client.get_job_info(job)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _WAIT_SECONDS:
                raise ConnectionError(f"{url} does not answer any more ({error})") from error
            time.sleep(2)
            continue
        lost = None
        if info.status.is_terminal():
            break
    if info.status == JobStatus.STOPPED:
        print(f"job {job} was stopped; what was finished is kept, the same command continues")
        return 130
    if info.driver_exit_code is None and info.status == JobStatus.FAILED:
        raise ValueError(f"job {job} failed before the command began: {' '.join(str(info.message).split())[:300]}")
    return int(info.driver_exit_code or 0)


class _Log:
    """A job's log on this terminal; a stream that begins again is printed from where the last one broke."""

    def __init__(self) -> None:
        self.shown = 0

    async def show(self, stream: AsyncIterator[str]) -> None:
        """Prints what is new in a stream of the log from its beginning."""
        position = 0
        async for text in stream:
            print(text[max(0, self.shown - position) :], end="", flush=True)
            position += len(text)
            self.shown = max(self.shown, position)
