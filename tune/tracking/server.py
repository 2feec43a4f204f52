"""An MLflow server on the loopback for as long as a person looks at a database."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

from mlflow import environment_variables as mlflow_settings

HOST = "127.0.0.1"
_START_SECONDS = 90.0
_STOP_SECONDS = 5.0
_LOG_CHARACTERS = 2000


def free_port() -> int:
    """Returns a port of the loopback that nothing listens on."""
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running_server(uri: str, port: int | None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Starts a server for a database, and ends all its processes with the block.

    Args: uri: of the database, whose tables are there; port: of the loopback (None: a free one).
    Yields: its address once it answers, and its process.
    Raises: OSError when the port is taken or the server does not start.
    """
    if port is not None:
        with socket.create_server((HOST, port)):  # a server that finds it taken says so in a traceback
            pass
    port = free_port() if port is None else port
    for setting in (mlflow_settings.MLFLOW_SERVER_ENABLE_JOB_EXECUTION, mlflow_settings.MLFLOW_DISABLE_TELEMETRY):
        if not setting.is_set():  # jobs take eight more processes, for evaluations that nobody here asks for
            setting.set(str(setting is mlflow_settings.MLFLOW_DISABLE_TELEMETRY).lower())
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile() as log:
        # In a group of its own: Ctrl-C in a terminal reaches this process alone, which ends the group.
        server = subprocess.Popen(
            [*command, "--backend-store-uri", uri], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
        try:
            address = f"http://{HOST}:{port}"
            _wait(server, address)
            yield address, server
        except _Ended as error:
            log.seek(0)
            text = log.read().decode(errors="replace").strip()[-_LOG_CHARACTERS:]
            raise OSError(f"the MLflow server {error}: {text}") from error
        finally:
            _end(server)


class _Ended(Exception):
    """A server that does not serve."""


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    """Returns once the server answers. Raises: _Ended."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
            return
        if server.poll() is not None:
            raise _Ended("ended at its start")
        if time.monotonic() > deadline:
            raise _Ended(f"did not answer in {_START_SECONDS:g} s")
        time.sleep(0.1)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server's processes, whose group has the number of the first one."""
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
