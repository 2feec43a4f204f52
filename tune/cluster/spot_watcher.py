"""Watches for the interruption notice of a spot machine, two minutes before its end, and drains its Ray node in time.

It polls the cloud's metadata service. On a notice the node is drained through Ray with the deadline: Ray places nothing
on it any more, and Ray Train notifies the workers, which save their state and continue elsewhere. It runs beside Ray on
every spot machine, `python -m tune.cluster.spot_watcher`, and imports no Ray, so that it costs next to nothing.
Source: Amazon EC2 user guide, "Spot Instance interruption notices" and "Instance Metadata Service Version 2".
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
"""Address of EC2's metadata service: the same on every machine, reachable from nowhere else."""
_ACTION, _TOKEN = "/latest/meta-data/spot/instance-action", "/latest/api/token"
_TOKEN_SECONDS = 300
_ANSWER_SECONDS = 2.0
_NOTICE_SECONDS = 120
"""Time until the end where a notice's own cannot be read."""
_DRAIN_SECONDS = 60.0


def interruption_time(endpoint: str) -> datetime | None:
    """Returns when this machine is taken away; None without a notice.

    Raises: OSError when the service does not answer.
    """
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    request = urllib.request.Request(endpoint + _TOKEN, headers=lifetime, method="PUT")
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
        token = answer.read().decode()
    request = urllib.request.Request(endpoint + _ACTION, headers={"X-aws-ec2-metadata-token": token})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            return time_of(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def time_of(notice: bytes) -> datetime:
    """Returns the time in a notice; two minutes from now where it cannot be read, because a notice it is."""
    try:
        time_given = datetime.fromisoformat(json.loads(notice)["time"])
        return time_given if time_given.tzinfo else time_given.replace(tzinfo=UTC)
    except (ValueError, TypeError, LookupError):
        return datetime.fromtimestamp(time.time() + _NOTICE_SECONDS, UTC)


def drain(deadline: datetime, node: str | None, address: str | None) -> str | None:
    """Drains the node until the deadline. Returns Ray's message where Ray refuses.

    Args:
        deadline: when the machine is taken away.
        node: hex id of the node; None: this machine's.
        address: of the cluster; None: this machine's.
    """
    left = max(0, int((deadline - datetime.now(UTC)).total_seconds()))
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot interruption notice"]
    command += ["--deadline-remaining-seconds", str(left)]
    command += ["--node-id", node] if node else []
    command += ["--address", address] if address else []
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DRAIN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer in {_DRAIN_SECONDS:.0f} s"
    return None if result.returncode == 0 else (result.stderr or result.stdout).strip()[-500:]


def watch(endpoint: str, seconds: float, node: str | None, address: str | None) -> None:
    """Polls every so many seconds; returns when a notice has come and the node is drained."""
    silent = False
    while True:
        try:
            deadline, silent = interruption_time(endpoint), False
        except OSError as error:
            if not silent:
                say(f"{endpoint} does not answer ({error}); it is asked again every {seconds:g} s")
            deadline, silent = None, True
        if deadline is not None:
            problem = drain(deadline, node, address)
            if problem is None:
                say(f"this machine is taken away at {deadline:%H:%M:%S} UTC: its node is drained")
                return
            say(f"this machine is taken away at {deadline:%H:%M:%S} UTC, but its node is not drained: {problem}")
        time.sleep(seconds)


def say(text: str) -> None:
    """Prints one line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Watches until a notice."""
    parser = Parser("python -m tune.cluster.spot_watcher", description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint", default=ENDPOINT, help="of the metadata service (%(default)s)")
    parser.add_argument("--seconds", type=above("seconds"), default=5.0, help="between two requests (%(default)s)")
    parser.add_argument("--node-id", help="of the node to drain (this machine's)")
    parser.add_argument("--address", help="of the cluster (this machine's)")
    parsed = parser.parse_args(arguments)
    watch(parsed.endpoint.rstrip("/"), parsed.seconds, parsed.node_id, parsed.address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
