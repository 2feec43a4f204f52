"""The cluster of docs/cluster-onprem.yaml on one machine: `ray up`, sweeps from a laptop, strangers, `ray down`.

    sudo .venv/bin/python -m benchmarks.loopback_cluster

Needs Linux, root, sshd, rsync and ip. A laptop, a head and a worker are network, process and mount namespaces of their
own, joined by virtual cables; so Ray's own commands, which end every Ray process that they see, see nothing else, and
nothing but files below one temporary folder is written. What is used is the file as it stands, with its marked lines
filled in. The environment of this process is taken as the one that cluster/setup.sh would build.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from golf.config.config import to_plain
from golf.data.text import prepare_text
from golf.runtime.files import write_json
from tests.conftest import TINY
from tune.records.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
LAPTOP, HEAD, WORKER = "10.77.0.254", "10.77.0.1", "10.77.0.2"
SHARED = "/mnt/golf"
SPACE = ["--search", "grid", "--space", "seed=1,2,3", "split=int4", "--no-screening"]
SSHD = """
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
"""


class Machine:
    """A process that keeps the namespaces of one machine, and sshd in them."""

    def __init__(self, name: str, address: str, root: Path) -> None:
        self.name, self.address, self.root = name, address, root / name
        home, scratch = self.root / "home", self.root / "tmp"
        for folder in (home, scratch):
            folder.mkdir(parents=True)
        shutil.copy("/etc/skel/.profile", home)
        shutil.copy("/etc/skel/.bashrc", home)
        _lend_environment(home / "golf-env")
        users = Path("/etc/passwd").read_text()
        (self.root / "passwd").write_text(re.sub(r"(?m)^(root(?::[^:]*){4}):[^:]*", rf"\1:{home}", users))
        self._ssh_files(root)
        script = f"""
            mkdir -p {SHARED} /run/sshd
            mount --bind {root}/shared {SHARED}
            mount --bind {self.root}/passwd /etc/passwd
            mount --bind {scratch} /tmp
            mount -t tmpfs none /dev/shm
            hostname {name}; ip link set lo up
            exec /usr/sbin/sshd -D -e -f {self.root}/sshd_config
        """
        namespaces = ["--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child"]
        log = (self.root / "sshd.log").open("w")
        self.process = subprocess.Popen(["unshare", *namespaces, "bash", "-ec", script], stdout=log, stderr=log)
        self.pid = _child_of(self.process.pid)

    def _ssh_files(self, root: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / "host_key"], check=True)
        shutil.copy(root / "key.pub", self.root / "authorized_keys")
        (self.root / "sshd_config").write_text(SSHD.format(folder=self.root))

    def connect(self) -> None:
        """Plug it into the laptop's bridge."""
        outer, inner = f"to-{self.name}", "eth0"
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", str(self.pid))
        _run("ip", "link", "set", outer, "master", "bridge", "up")
        inside = ["nsenter", "--target", str(self.pid), "--net", "ip"]
        _run(*inside, "addr", "add", f"{self.address}/24", "dev", inner)
        _run(*inside, "link", "set", inner, "up")
        # Ray asks by which address it would reach the world.
        _run(*inside, "route", "add", "default", "via", LAPTOP)

    def processes(self) -> list[str]:
        """Command lines of Ray's processes on it."""
        inside = ["nsenter", "--target", str(self.pid), "--pid", "--mount", "ps", "-eo", "args"]
        lines = subprocess.run(inside, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if re.search(r"gcs_server|raylet|ray::|autoscaler.*monitor|dashboard", line)]


def _lend_environment(folder: Path) -> None:
    """This process's environment under the name that cluster/setup.sh looks for."""
    parts = ("pyproject.toml", "cluster/constraints.txt", "cluster/setup.sh")
    key = hashlib.sha256(b"".join((ROOT / part).read_bytes() for part in parts)).hexdigest()[:12]
    (folder / key).mkdir(parents=True)
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / key / part).symlink_to(Path(sys.prefix) / part)
    (folder / key / ".complete").touch()


def _child_of(pid: int) -> int:
    """The first child of a process, once it is there."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (children := path.read_text().split()):
        time.sleep(0.05)
    return int(children[0])


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


class Laptop:
    """The user's side: a home with key and token, commands with their time and output."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.told: list[dict[str, Any]] = []

    def environment(self, home: Path | None = None) -> dict[str, str]:
        """Variables of a command; `home`: of somebody else."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = f"{Path(sys.prefix) / 'bin'}:{kept['PATH']}"
        return kept | {"HOME": str(home or self.home), "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(self, *words: str, home: Path | None = None, more: Mapping[str, str] | None = None) -> tuple[int, str]:
        """A command in the project's folder, its exit code and output; kept in `told`."""
        began = time.monotonic()
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=self.environment(home) | (more or {}),
            check=False,
        )
        seconds = time.monotonic() - began
        shown = re.sub(r"\x1b\[[0-9;]*m", "", re.sub(r"\b[0-9a-f]{64}\b", "TOKEN", done.stdout))
        print(f"\n$ {' '.join(words)}\n{shown.rstrip()}\n-> {done.returncode}, {seconds:.1f} s", flush=True)
        self.told.append({"command": " ".join(words), "code": done.returncode, "seconds": round(seconds, 1)})
        return done.returncode, done.stdout

    @contextlib.contextmanager
    def forwarding(self, port: int, *words: str) -> Iterator[None]:
        """A command that brings a port of the head here, while the block lasts."""
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for("127.0.0.1", port)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait_for(host: str, port: int, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not _answers(host, port):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing listens at {host}:{port}")
        time.sleep(0.2)


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def filled_in(root: Path) -> Path:
    """docs/cluster-onprem.yaml for these machines."""
    text = (ROOT / "docs" / "cluster-onprem.yaml").read_text()
    values = {
        "head_ip": HEAD,
        "worker_ips": f"[{WORKER}]",
        "ssh_user": "root",
        "ssh_private_key": str(root / "key"),
    }
    for name, value in values.items():
        text = re.sub(rf"(?m)^(  {name}:).*# EDIT.*$", rf"\1 {value}", text)
    assert "# EDIT" not in text
    path = root / "cluster.yaml"
    path.write_text(text)
    return path


def numbers(storage: Path) -> dict[str, Any]:
    """Scores and sizes of every trial."""
    entries = Ledger(storage / "ledger.jsonl").latest("tiny")
    return {
        entry.name: ([(rung.name, rung.bpb, rung.nats_per_token) for rung in entry.rungs], entry.size)
        for entry in entries
    }


def status_of(url: str) -> int:
    """The HTTP status that somebody without a token gets."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def observe(root: Path, laptop: Laptop, machines: list[Machine], quick: bool) -> dict[str, Any]:
    """All that is tried, one after the other."""
    file, python = str(filled_in(root)), sys.executable
    up = {"RAY_UP_enable_autoscaler_v2": "0"}
    sweep = [python, "run_sweep.py", f"{SHARED}/tiny.json", "--data", f"{SHARED}/words", *SPACE]
    seen: dict[str, Any] = {}
    laptop.run("ray", "get-auth-token", "--generate")
    if laptop.run("ray", "up", "--yes", "--no-config-cache", file, more=up)[0]:
        raise SystemExit("ray up failed")
    with laptop.forwarding(8265, "ray", "dashboard", file):
        token = {"RAY_AUTH_MODE": "token"}
        job = ["ray", "job", "submit", "--address", "http://127.0.0.1:8265"]
        seen["two_machines"] = laptop.run(*job, "--", "python", "-c", NODES, more=token)[0] == 0
        if quick:
            seen["job_refused"] = (
                laptop.run(*sweep, "--storage", "/x", "--address", "job", home=root / "shared")[0] == 2
            )
            return end(laptop, machines, file, seen)
        submitted = [*sweep, "--address", "job", "--storage", f"{SHARED}/job", "--mirror", f"{SHARED}/copy"]
        seen["job"] = laptop.run(*submitted)[0] == 0
        seen["again"] = laptop.run(*submitted)[0] == 0
        seen["stopped_job"] = _stop_following(laptop, [*sweep, "--address", "job", "--storage", f"{SHARED}/stopped"])
        strangers(root, laptop, [*sweep, "--storage", f"{SHARED}/stranger"], seen)
    end(laptop, machines, file, seen)
    seen["after_down"] = after_down(root, laptop)
    seen["alone"] = laptop.run(*sweep, "--storage", str(root / "alone"))[0] == 0
    reference = numbers(root / "alone")
    seen["equal"] = numbers(root / "shared" / "job") == reference
    seen["trials"] = len(reference)
    return seen


def end(laptop: Laptop, machines: list[Machine], file: str, seen: dict[str, Any]) -> dict[str, Any]:
    """`ray up` once more, which builds nothing, and `ray down`, which leaves nothing running."""
    up = {"RAY_UP_enable_autoscaler_v2": "0"}
    again = laptop.run("ray", "up", "--yes", "--no-config-cache", file, more=up)
    seen["up_again"] = again[0] == 0 and "building environment" not in again[1]
    seen["down"] = laptop.run("ray", "down", "--yes", file)[0] == 0
    began = time.monotonic()
    while (left := [line for machine in machines for line in machine.processes()]) and time.monotonic() < began + 180:
        time.sleep(1)
    seen["left_running"], seen["seconds_until_none_ran"] = left, round(time.monotonic() - began)
    return seen


def after_down(root: Path, laptop: Laptop) -> bool:
    """Whether the copy of the job's results is all that a laptop needs."""
    results = str(root / "results")
    commands = (
        ("tune", "mirror", "fetch", str(root / "shared" / "copy"), results),
        ("tune", "ledger", "show", "--ledger", f"{results}/ledger.jsonl"),
        ("tune", "report", "tiny", "--storage", results),
    )
    return all(laptop.run(sys.executable, "-m", *words)[0] == 0 for words in commands)


NODES = """
import ray, time
ray.init("auto")
while len([node for node in ray.nodes() if node["Alive"]]) < 2: time.sleep(0.5)
print([(node["NodeManagerAddress"], node["Resources"].get("CPU")) for node in ray.nodes()])
"""
"""Waits for both machines."""


def _stop_following(laptop: Laptop, words: list[str]) -> dict[str, Any]:
    """Ctrl-C of a followed job; the job goes on, and `ray job stop` ends it as Ctrl-C would."""
    process = subprocess.Popen(
        words, cwd=ROOT, env=laptop.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " started " in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=300)[0]
    print("".join(lines) + rest)
    found = re.search(r"stop: +\S+ (ray job stop (\S+).*)", rest)
    assert found, "no command to stop it"
    token = {"RAY_AUTH_MODE": "token"}
    laptop.run(*found[1].split(), more=token)
    log = laptop.run("ray", "job", "logs", found[2], "--address", "http://127.0.0.1:8265", more=token)[1]
    return {"code": process.returncode, "ended_cleanly": "the same command continues" in log}


def strangers(root: Path, laptop: Laptop, sweep: list[str], seen: dict[str, Any]) -> None:
    """What clients without the token, and with another, get."""
    nobody, other = root / "nobody", root / "other"
    (other / ".ray").mkdir(parents=True)
    nobody.mkdir()
    (other / ".ray" / "auth_token").write_text("0" * 64)
    refused = {}
    for name, home in (("without a token", nobody), ("with another token", other)):
        code, text = laptop.run(*sweep, "--address", "job", home=home)
        refused[f"job {name}"] = code == 2 and "refused the token" in text and text.count("\n") == 1
        gcs = laptop.run(sys.executable, "-c", f"import ray; ray.init('{HEAD}:6379'); print(ray.nodes())", home=home)
        refused[f"GCS {name}"] = gcs[0] != 0 and "NodeID" not in gcs[1]
    refused["jobs over HTTP"] = status_of("http://127.0.0.1:8265/api/jobs/") == 401
    refused["dashboard from outside"] = not _answers(HEAD, 8265)
    seen["refused"] = refused


@contextlib.contextmanager
def network(root: Path) -> Iterator[list[Machine]]:
    """A head and a worker beside this process, which is the laptop."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "bridge", "type", "bridge")
    _run("ip", "addr", "add", f"{LAPTOP}/24", "dev", "bridge")
    _run("ip", "link", "set", "bridge", "up")
    machines = []
    try:
        for name, address in (("head", HEAD), ("worker", WORKER)):
            machines.append(Machine(name, address, root))
            machines[-1].connect()
            _wait_for(address, 22)
        yield machines
    finally:
        for machine in machines:
            machine.process.kill()  # unshare does not hear a SIGTERM; with it go all processes of the machine
            machine.process.wait()


def inside(root: Path, quick: bool) -> None:
    """In the laptop's namespaces: make the machines, look, and print."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "key"], check=True)
    shared = root / "shared"
    shared.mkdir()
    write_json(shared / "tiny.json", to_plain(TINY))
    _make_data(shared / "words")
    laptop = Laptop(root / "laptop")
    Path(SHARED).mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(shared), SHARED)
    with network(root) as machines:
        seen = observe(root, laptop, machines, quick)
    print(json.dumps(seen | {"commands": laptop.told}))


def _make_data(folder: Path) -> None:
    """The dataset of made-up sentences that the tests use."""
    words = "the quick brown fox jumps over a lazy dog while seven wizards brew potions near old castle walls"
    texts = [
        (f"d{n}", " ".join(words.split()[(n * 7 + i * i * (n % 5 + 1)) % 18] for i in range(60))) for n in range(40)
    ]
    prepare_text(texts, folder, "words", vocab_size=300, log=lambda line: None)


def main() -> None:
    """Start this again in namespaces of its own."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="no sweep: up, a stranger, up again, down")
    parsed = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background was told to ignore it
    if parsed.inside:
        inside(parsed.inside, parsed.quick)
        return
    with tempfile.TemporaryDirectory(prefix="golf-", dir="/var/tmp") as folder:
        words = [sys.executable, "-m", "benchmarks.loopback_cluster", "--inside", folder, *sys.argv[1:]]
        namespaces = ["--net", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
        # Whatever ends this process ends all of it.
        alone = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces]
        sys.exit(subprocess.run([*alone, *words], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
