"""The Ray that our commands start: who may talk to it, and from where."""

import ipaddress
import json
import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tune.cluster.ray_cluster import ensure_token, start_ray
from tune.records.redaction import redact

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[1]
STARTED = """
import json, sys
import psutil, ray
from ray.util.client.server.server import serve
from tune.cluster.ray_cluster import start_ray, stop_ray

start_ray(None, trial_slots=1, num_cpus=1)
client = serve("127.0.0.1", int(sys.argv[1]))
node = ray._private.worker._global_node
me = psutil.Process()
listening = [
    (process.name(), connection.laddr.ip, connection.laddr.port)
    for process in (me, *me.children(recursive=True))
    for connection in process.net_connections()
    if connection.status == psutil.CONN_LISTEN
]
raylet = ray.nodes()[0]["NodeManagerPort"]
print(json.dumps({"gcs": node.gcs_address, "dashboard": node.webui_url, "raylet": raylet, "listening": listening}))
sys.stdout.flush()
sys.stdin.read()
client.stop(0)
stop_ray()
"""
"""Starts Ray as a sweep does, and Ray's client server beside it; ends with its standard input."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Iterator[dict[str, Any]]:
    """A Ray of a user who has no token yet; where it listens, and that token."""
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STARTED, str(free_port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()[-3000:]
        token = home / ".ray" / "auth_token"
        yield {**json.loads(line), "client": f"127.0.0.1:{free_port}", "token": token}
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


CALLS = {
    "gcs": "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "raylet": "/ray.rpc.NodeManagerService/GetNodeStats",
    "client": "/ray.rpc.RayletDriver/ClusterInfo",
}
"""Of each port that speaks gRPC, a call that only tells something."""


def call(address: str, method: str, token: str | None) -> grpc.StatusCode:
    """How a server answers an empty request, made without any of Ray's own code."""
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def visit(url: str, token: str | None, data: bytes | None = None) -> int:
    """The status of a page."""
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_who_has_no_token_gets_nothing(started: dict[str, Any]) -> None:
    """Fault: anyone on this machine can run code in a sweep, read its data or submit a job; or the owner cannot."""
    token = started["token"].read_text()
    addresses = {**started, "raylet": f"127.0.0.1:{started['raylet']}"}
    for name, method in CALLS.items():
        for stranger in (None, "0" * len(token), ""):
            assert call(addresses[name], method, stranger) == grpc.StatusCode.UNAUTHENTICATED, (name, stranger)
        assert call(addresses[name], method, token) == grpc.StatusCode.OK, name
    dashboard = f"http://{started['dashboard']}"
    job = json.dumps({"entrypoint": "touch /tmp/a-stranger-was-here"}).encode()
    for stranger in (None, "0" * len(token)):
        for page in ("/api/jobs/", "/api/cluster_status", "/api/v0/actors", "/nodes?view=summary", "/logical/actors"):
            assert visit(dashboard + page, stranger) in (401, 403), (page, stranger)
        assert visit(f"{dashboard}/api/jobs/", stranger, job) in (401, 403)
    for page in ("/api/jobs/", "/api/cluster_status"):
        assert visit(dashboard + page, token) == 200, page


def test_everything_listens_on_the_loopback(started: dict[str, Any]) -> None:
    """Fault: a process of a sweep on a laptop can be reached from its network."""
    assert len(started["listening"]) >= 6
    for process, address, port in started["listening"]:
        assert ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback, (process, address, port)


def test_the_token_is_the_owners_alone(started: dict[str, Any]) -> None:
    """Fault: another user of the machine reads the token."""
    assert stat.S_IMODE(started["token"].stat().st_mode) == 0o600


def test_a_token_that_others_can_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the token that Ray itself makes, readable by all, stays so."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("f" * 64)
    token.chmod(0o644)
    ensure_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "f" * 64


@pytest.mark.parametrize("home", ["/proc/nohome", "/proc"])
def test_without_a_home_the_token_is_the_processes_own(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: Ray does not start where the home folder is not there or cannot be written; or it starts without one."""
    monkeypatch.setenv("HOME", home)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile goes with the test
        monkeypatch.delenv(name)
    ensure_token()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert redact(f"the token {token}") == "the token ***"


def test_a_user_without_a_name_can_import_all() -> None:
    """Fault: a container's user, who has no HOME and is in no list of users, gets MLflow's traceback."""
    program = "import pwd\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\nimport run_sweep\n"
    program += "from tune.report import document\n"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_ray_without_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a variable that someone once set silently opens every sweep."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ValueError, match="RAY_AUTH_MODE"):
        start_ray(None, trial_slots=1)
