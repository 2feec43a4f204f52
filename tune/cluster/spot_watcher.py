"""Watches for the notice that a spot machine gets two minutes before it is taken away, and has Ray leave it in time.

The cloud's metadata service is asked; on its notice the node is drained through Ray with the deadline: Ray places
nothing on it any more, and Ray Train tells the workers, which save their state and go on elsewhere. To be run beside
Ray on every spot machine: `python -m tune.cluster.spot_watcher`. Imports no Ray, so that it costs a machine next to
nothing. Source: Amazon EC2 user guide, "Spot Instance interruption notices" and "Instance Metadata Service Version 2".
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

from golf.cli.options import Parser, above

ENDPOINT = "http://169.254.169.254"
"""Of EC2's metadata service: the same on every machine, reachable from nowhere else."""
_ACTION, _TOKEN = "/latest/meta-data/spot/instance-action", "/latest/api/token"
_TOKEN_SECONDS = 300
_ANSWER_SECONDS = 2.0
_NOTICE_SECONDS = 120
"""Of a notice whose time cannot be read."""
_DRAIN_SECONDS = 60.0


def ask(endpoint: str) -> datetime | None:
    """When this machine is taken away, None while nobody wants it.

    Raises: OSError when the service does not answer.
    """
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    wish = urllib.request.Request(endpoint + _TOKEN, headers=lifetime, method="PUT")
    with urllib.request.urlopen(wish, timeout=_ANSWER_SECONDS) as answer:
        token = answer.read().decode()
    asked = urllib.request.Request(endpoint + _ACTION, headers={"X-aws-ec2-metadata-token": token})
    try:
        with urllib.request.urlopen(asked, timeout=_ANSWER_SECONDS) as answer:
            return time_of(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def time_of(notice: bytes) -> datetime:
    """The time in a notice; one that cannot be read counts as two minutes from now: a notice it is."""
    try:
        found = datetime.fromisoformat(json.loads(notice)["time"])
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, LookupError):
        return datetime.fromtimestamp(time.time() + _NOTICE_SECONDS, UTC)


def drain(deadline: datetime, node: str | None, address: str | None) -> str | None:
    """Have Ray leave the node until the deadline; what Ray says when it does not.

    Args: node: its hex id, that of this machine by default; address: the cluster's, this machine's by default.
    """
    left = max(0, int((deadline - datetime.now(UTC)).total_seconds()))
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot interruption notice"]
    command += ["--deadline-remaining-seconds", str(left)]
    command += ["--node-id", node] if node else []
    command += ["--address", address] if address else []
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_DRAIN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer in {_DRAIN_SECONDS:.0f} s"
    return None if ended.returncode == 0 else (ended.stderr or ended.stdout).strip()[-500:]


def watch(endpoint: str, seconds: float, node: str | None, address: str | None) -> None:
    """Ask every so many seconds; return when the notice has come and Ray has taken it."""
    silent = False
    while True:
        try:
            deadline, silent = ask(endpoint), False
        except OSError as error:
            if not silent:
                say(f"{endpoint} does not answer ({error}); is asked again every {seconds:g} s")
            deadline, silent = None, True
        if deadline is not None:
            problem = drain(deadline, node, address)
            if problem is None:
                say(f"this machine is taken away at {deadline:%H:%M:%S} UTC: Ray leaves it")
                return
            say(f"this machine is taken away at {deadline:%H:%M:%S} UTC, but Ray does not leave it: {problem}")
        time.sleep(seconds)


def say(text: str) -> None:
    """One line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Watch until the notice."""
    parser = Parser("python -m tune.cluster.spot_watcher", description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint", default=ENDPOINT, help="of the metadata service (%(default)s)")
    parser.add_argument("--seconds", type=above("seconds"), default=5.0, help="between two questions (%(default)s)")
    parser.add_argument("--node-id", help="of the node to drain (this machine's)")
    parser.add_argument("--address", help="of the cluster (this machine's)")
    parsed = parser.parse_args(arguments)
    watch(parsed.endpoint.rstrip("/"), parsed.seconds, parsed.node_id, parsed.address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
