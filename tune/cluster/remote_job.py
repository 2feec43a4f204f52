"""A command that runs on a cluster: submitted as a job, or held by Ray's client as long as this terminal stays.

The words of a command line and an address enter; the command's lines and exit code leave. On the cluster the same
script runs with `--address auto` and this machine's code, which goes up with it; every path means a path there. A job
outlives this process, a held command must not. What can go wrong with an address is told in one line.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import ray
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

JOB, CLIENT, AUTO = "job", "ray://", "auto"
ADDRESS_HELP = (
    "where trials run: auto, the cluster that this machine belongs to; job or job:http://HOST:8265, submit this "
    "command to a cluster as a job; ray://HOST:10001, run it there as long as this terminal stays. All paths are then "
    "paths on the cluster. By default Ray is started here"
)
DASHBOARD = "http://127.0.0.1:8265"
"""Where `ray dashboard` brings a cluster's own."""
ROOT = Path(__file__).resolve().parents[2]
_EXCLUDED = [
    *("/.git", "/.venv", "/storage", "/data", "/runs", "/build", "/docs", "/tests", "/benchmarks"),
    *("**/__pycache__", "**/.*_cache", "**/.hypothesis"),
]
"""What of the project a command on the cluster does not need."""
_PATIENCE_SECONDS = 60.0
"""That a cluster may take to begin, and a job's log be out of reach."""
_HEAD = {"node:__internal_head__": 0.001}


def is_remote(address: str | None) -> bool:
    """Whether the command itself is to run elsewhere."""
    return address is not None and (address == JOB or address.startswith((f"{JOB}:", CLIENT)))


def check_places(parsed: argparse.Namespace) -> None:
    """Refuse paths that cannot be meant for a cluster.

    Raises: ValueError naming the option.
    """
    if parsed.address is None:
        return
    for option in ("storage", "data", "store", "mirror"):
        path = getattr(parsed, option, None)
        if path is not None and "://" not in str(path) and not Path(path).is_absolute():
            raise ValueError(
                f"--{option} {path}: with --address it is a path on the cluster, which all its machines see, "
                f"and must be absolute, e.g. --{option} /mnt/golf"
            )


def run_there(script: str, words: Sequence[str], address: str) -> int:
    """Run a script of the project on the cluster at `address` and show its lines.

    Args: script: its file name; words: its arguments.
    Returns: its exit code; 130 after Ctrl-C.
    Raises: ConnectionError, ValueError saying what is wrong with the address, the token or the versions.
    """
    command = [script, *words, "--address", AUTO]
    logging.disable(logging.WARNING)  # modules of Ray set levels of their own
    try:
        if address.startswith(CLIENT):
            return _hold(command, address)
        return _submit(command, address.partition(":")[2] or DASHBOARD)
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """What Ray raises when it cannot reach or enter a cluster, as one line with the remedy.

    Raises: ConnectionError, PermissionError, ValueError.
    """
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        yield
    except AuthenticationError as error:
        raise PermissionError(f"the cluster at {address} refused the token; {_TOKEN}") from error
    except (ConnectionError, RuntimeError, RayError, TimeoutError, aiohttp.ClientError) as error:
        text = " ".join(_told(error).split())
        if "token" in text.lower():
            raise PermissionError(f"the cluster at {address} refused the token; {_TOKEN}") from error
        if "ersion mismatch" in text or "same version" in text:
            raise ValueError(f"the cluster at {address} runs other versions: {text[:300]}; {_VERSIONS}") from error
        # To a stranger Ray's client port says nothing at all.
        if address.startswith(CLIENT) and _listens(address.removeprefix(CLIENT)):
            raise PermissionError(f"the cluster at {address} refused the token, or is no cluster; {_TOKEN}") from error
        raise ConnectionError(f"no cluster answers at {address} ({text[:160]}); {_remedy(address)}") from error


def _told(error: BaseException) -> str:
    """Its words and those of what it came from."""
    earlier = error.__cause__ or error.__context__
    return f"{error} {_told(earlier)}" if earlier else str(error)


_TOKEN = "copy ~/.ray/auth_token of the machine that ran `ray up` to this one, readable by you alone"
_VERSIONS = "install what cluster/constraints.txt of the cluster's project says"


def _listens(place: str) -> bool:
    """Whether anything takes a connection at HOST:PORT."""
    host, _, port = place.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


def _remedy(address: str) -> str:
    if address == AUTO:
        return "run this on a machine of the cluster, or give --address job or ray://HOST:10001"
    port = 10001 if address.startswith(CLIENT) else 8265
    forward = "ray dashboard cluster.yaml" if port == 8265 else f"ray attach cluster.yaml --port-forward {port}"
    return f"start it with ray up, and keep `{forward}` running in another terminal so that port {port} is reachable"


def _submit(command: list[str], url: str) -> int:
    with explained(url):
        client = JobSubmissionClient(url)
        job = _submit_when_ready(client, command)
    follow, stop = (f"RAY_AUTH_MODE=token ray job {what} {job} --address {url}" for what in ("logs --follow", "stop"))
    print(f"job {job} at {url}; Ctrl-C stops following it and leaves it running", flush=True)
    try:
        return _follow(client, job, url)
    except KeyboardInterrupt:
        print(f"\nno longer followed, still running\nfollow: {follow}\nstop:   {stop}", flush=True)
        return 130
    except OSError as error:
        raise ConnectionError(f"{error}; the job may still be running; follow it: {follow}") from error


def _submit_when_ready(client: Any, command: list[str]) -> str:
    """Submit a command, to a cluster that has only just begun, too; the job's id."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return str(
                client.submit_job(
                    entrypoint=shlex.join(["python3", *command]),
                    runtime_env={"working_dir": str(ROOT), "excludes": _EXCLUDED},
                )
            )
        except RuntimeError as error:
            if "try again later" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(1)


def _follow(client: Any, job: str, url: str) -> int:
    """Show a job's log to its end; its exit code."""
    log, lost = _Log(), None
    while True:
        try:
            asyncio.run(log.show(client.tail_job_logs(job)))
            info = client.get_job_info(job)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _PATIENCE_SECONDS:
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
    """A job's log on this terminal; a stream that begins anew is shown from where the last one broke."""

    def __init__(self) -> None:
        self.shown = 0

    async def show(self, stream: AsyncIterator[str]) -> None:
        """Print what is new in a stream of the whole log."""
        position = 0
        async for text in stream:
            print(text[max(0, self.shown - position) :], end="", flush=True)
            position += len(text)
            self.shown = max(self.shown, position)


class Command:
    """A command on the head machine: started, read, interrupted. It ends with the process that holds it."""

    def __init__(self, command: list[str]) -> None:
        settings = {"runtime_env": {"working_dir": ray.get_runtime_context().runtime_env["working_dir"]}}
        settings_text = json.dumps(settings | {"metadata": {}})
        # The new driver hands this machine's code on to its own workers, as one of a submitted job does.
        words = ["env", f"RAY_JOB_CONFIG_JSON_ENV_VAR={settings_text}", "PYTHONUNBUFFERED=1", sys.executable, *command]
        # Ray's workers block it, and a new process inherits that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "INT", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def read(self, seconds: float) -> tuple[str, int | None]:
        """The next lines, waited for at most so long, and the exit code after the last."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while (line := self.lines.get(timeout=seconds)) is not None:
                lines.append(line)
                seconds = 0.05
            return "".join(lines), self.process.wait()
        return "".join(lines), None

    def interrupt(self) -> None:
        """What Ctrl-C does to it."""
        self.process.send_signal(signal.SIGINT)


def _hold(command: list[str], address: str) -> int:
    # Ray's warning of a time-out says no more than the error that follows.
    with explained(address), warnings.catch_warnings(action="ignore"):
        ray.init(
            address,
            runtime_env={"working_dir": str(ROOT), "excludes": _EXCLUDED},
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    try:
        held = ray.remote(num_cpus=0, resources=_HEAD, max_concurrency=2)(Command).remote(command)
        asked = held.read.remote(1.0)
        while True:
            try:
                text, code = ray.get(asked)
            except KeyboardInterrupt:  # what was asked for still comes
                held.interrupt.remote()
                continue
            asked = held.read.remote(1.0)
            print(text, end="", flush=True)
            if code is not None:
                return int(code)
    except (RayError, ConnectionError) as error:
        text = " ".join(str(error).split())[:300]
        raise ConnectionError(f"the connection to {address} broke ({text}); the command there has ended") from error
    finally:
        ray.shutdown()
