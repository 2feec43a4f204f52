"""Processes that are known by a mark in their environment, whoever started them; a server and a wire that can be cut.

Finds the living processes with a mark, by their kind, and ends them.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

MARK = "GOLF_FAULTS_MARK"
TITLES = {
    "trial": r"^ray::(ImplicitFunc|trainable)",
    "worker": r"^ray::.*RayTrainWorker",
    "raylet": r"/raylet/raylet ",
    "gcs": r"/gcs/gcs_server ",
}
"""What the command lines of Ray's processes look like."""


def marked(mark: str) -> list[psutil.Process]:
    """All living processes with a mark, but this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def of_kind(kind: str, mark: str) -> list[int]:
    """Ids of the living processes of a kind in TITLES, in order."""
    found = []
    for process in marked(mark):
        try:
            if re.search(TITLES[kind], " ".join(process.cmdline())):
                found.append(process.pid)
        except psutil.Error:
            continue
    return sorted(found)


def end(pid: int) -> None:
    """Kill -9; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def end_marked(mark: str) -> None:
    """Kill all that is left with a mark."""
    deadline = time.monotonic() + 30
    while (left := marked(mark)) and time.monotonic() < deadline:
        for process in left:
            end(process.pid)
        time.sleep(0.2)


class Server:
    """An MLflow server on the loopback that can be killed and comes back on the same port with what it held."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self.mark, self.port = folder, mark, free_port()
        folder.mkdir(parents=True)
        self.start()

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        command += ["--default-artifact-root", str(self.folder / "files")]
        environment = os.environ | {MARK: self.mark, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds: float = 120.0) -> None:
        """Return when it answers. Raises: TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise TimeoutError(f"no MLflow server on port {self.port}; see {self.folder / 'server.log'}")

    def kill(self) -> None:
        """Kill -9 of all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Wire:
    """A port that passes everything on to another one until it is cut; then it takes nothing and drops what it has."""

    def __init__(self, port: int) -> None:
        self.target, self.cut = port, False
        self._ends: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            if self.cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends = [*self._ends[-200:], near, far]
            for source, drain in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, drain), daemon=True).start()

    def sever(self) -> None:
        """Cut it."""
        self.cut = True
        for one in self._ends:
            _shut(one)
        self._ends = []

    def mend(self) -> None:
        """Let it pass again."""
        self.cut = False

    def close(self) -> None:
        """End it for good."""
        self.sever()
        self._door.close()


def _pump(source: socket.socket, drain: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            drain.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(drain)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
