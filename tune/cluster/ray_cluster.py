"""One Ray for the laptop and the cluster, started quietly and closed to others, checked before anything is launched.

A trial's driver takes a `trial_slot` and no CPU, so that it never competes with its own training workers. What a
trial asks for must fit the cluster: that is refused at once here, because Ray would wait for ever. A Ray that is
started here answers only who has this user's token, and listens on the loopback alone. Later, when nodes come and go,
what the cluster still holds is counted here, node by node.
"""

import contextlib
import importlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private import ray_constants, utils
from ray._private.node import Node
from ray._private.state import available_resources_per_node, state, total_resources_per_node

from tune.cluster.autoscaler import grown, head_config
from tune.cluster.reaper import ReapedDirectory
from tune.cluster.workers import TRIAL_SLOT, Workers

_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The switch for `ray_constants.ENABLE_RAY_CLUSTER`."""
_THREADS = re.compile(r"(OMP|GOMP|KMP|MKL|OPENBLAS)_(NUM_THREADS|THREAD_LIMIT|DYNAMIC|DOMAIN_NUM_THREADS|CPU_AFFINITY)")
"""Variables of a shell that say how many threads a process has, where its trial does not."""
_kept: list[ReapedDirectory] = []
"""Folders of Rays that were started here."""


def start_ray(address: str | None, trial_slots: int, num_cpus: int | None = None, worker_groups: bool = True) -> None:
    """Connects to the cluster at `address`, or starts Ray on this machine, without its noise.

    Args: trial_slots: trials at a time that a Ray started here allows at most; num_cpus: CPUs it hands out, all by
        default; worker_groups: whether trials may have any: a Ray started here has its dashboard then.
    Raises: ConnectionError when there is no cluster at `address`; ValueError where the environment switches tokens
        off, and where this process is connected already.
    """
    if address is None:
        ensure_token()
    if ray.is_initialized():
        raise ValueError(
            "this process is already connected to a Ray; call ray.shutdown() before a sweep, which starts its own"
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    _kept.append(ReapedDirectory("golf-ray-"))
    services = contextlib.nullcontext() if worker_groups else _few_services()
    with _on_loopback(), without_thread_numbers(), services, _kept[-1].used():
        # "local", for else Ray joins whatever cluster was started last on this machine.
        # The dashboard serves the State API, without which stopped trials never give their workers back. It takes ten
        # processes and 2 s to start.
        local = {"address": "local", "include_dashboard": worker_groups, "dashboard_host": "127.0.0.1"}
        local |= {"_temp_dir": str(_kept[-1].path)}
        ray.init(num_cpus=num_cpus, resources={TRIAL_SLOT: trial_slots}, **local, **quiet)


def stop_ray() -> None:
    """Disconnects; ends a Ray that was started here, and removes its files."""
    ray.shutdown()
    while _kept:
        _kept.pop().remove()


def ensure_token() -> None:
    """Makes a token of this user's local clusters, readable by nobody else; with one, Ray asks for it by itself.

    Without a home folder that can be written, this process and what it starts have one of their own.

    Raises: ValueError when the environment switches tokens off: then anyone on this machine could run code here.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise ValueError(
            f"RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']!r}; unset it: Ray is started with a token only"
        )
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    try:
        _write_token(Path.home() / ".ray" / "auth_token")
    except (OSError, RuntimeError):  # no home, or one that this user may not write in
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _write_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:  # as Ray itself makes it
        path.chmod(0o600)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Gives a Ray that is started inside the loopback as its address: all its processes then listen only there.

    With an outer address they listen on every interface of the machine, and Ray replaces 127.0.0.1 by an outer one
    wherever clusters are enabled. This is the switch by which they are not, on Windows and macOS: as it stands in this
    process, and as the processes read it that are started.
    """
    enabled, before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_CLUSTERS)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[_CLUSTERS] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        del os.environ[_CLUSTERS]
        if before is not None:
            os.environ[_CLUSTERS] = before


@contextlib.contextmanager
def _few_services() -> Iterator[None]:
    """Leaves out services of a Ray that is started inside, each a process that takes a second of processor time.

    They are the autoscaler's monitor, the copying of logs, and the server of usage reports and the dashboard; the
    dashboard's agent is started as it is where the dashboard is not installed.
    """
    services = {name: getattr(Node, name) for name in ("start_monitor", "start_log_monitor", "start_api_server")}
    dependency_error = utils.get_dashboard_dependency_error
    for name in services:
        setattr(Node, name, lambda *_, **__: None)
    utils.get_dashboard_dependency_error = lambda: ImportError("the dashboard is not wanted")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = dependency_error
        for name, service in services.items():
            setattr(Node, name, service)


@contextlib.contextmanager
def without_thread_numbers() -> Iterator[None]:
    """Keeps this shell's numbers of threads from processes that are started inside: a trial has its own."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if _THREADS.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(taken)


def resources(grows: bool) -> dict[str, float]:
    """Returns what the cluster has of each resource; if it `grows`, with the machines that its autoscaler may start."""
    now = ray.cluster_resources()
    return grown(now, head_config()) if grows else now


def has_gpus(grows: bool = False) -> bool:
    """Whether the cluster has any GPU. Args: grows: see `resources`."""
    return bool(resources(grows).get("GPU", 0.0))


def trials_at_once(workers: Workers, grows: bool = False, one_node: bool = False) -> int:
    """Returns how many trials the cluster holds at a time.

    Args: grows: see `resources`; one_node: whether all workers of a trial are on one node.
    Raises: ValueError naming the resource when not one fits.
    """
    have = resources(grows)
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
    if one_node and not grows:
        nodes = total_resources_per_node().values()
        fit = sum(int(min(node.get(name, 0.0) // amount for name, amount in wants.items() if amount)) for node in nodes)
        if not fit:
            raise ValueError(f"no node alone has what one trial needs: {wants}; lower --nproc, or add larger nodes")
        return fit
    return int(min(have[resource] // amount for resource, amount in wants.items() if amount))


@dataclass(frozen=True)
class Capacity:
    """How many workers of one kind the nodes hold that are alive and are not being taken away."""

    whole: int
    """Number with nothing else on the nodes."""
    free: int
    """Number beside what runs there now."""


def capacity(workers: Workers) -> Capacity:
    """Returns how many workers like these the cluster holds now, none of them across two nodes."""
    leaving = state.get_draining_nodes()

    def count(nodes: dict[str, dict[str, float]]) -> int:
        wants = {name: amount for name, amount in workers.resources.items() if amount}
        staying = [have for node, have in nodes.items() if node not in leaving]
        # Ray counts in ten-thousandths; what is left of a node is a little less than whole numbers at times.
        return sum(int(min(have.get(name, 0.0) / amount for name, amount in wants.items()) + 1e-3) for have in staying)

    return Capacity(count(total_resources_per_node()), count(available_resources_per_node()))


def set_train_limits(patience_seconds: float, timeout_seconds: float) -> None:
    """Sets how long the Ray Train of this process waits: for the places of its workers, and for a hung worker.

    Ray Train reads both from the environment alone; a limit for hung workers that is there already is kept.
    """
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(patience_seconds)
    os.environ.setdefault("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", str(timeout_seconds))


def accelerators() -> str:
    """Returns the kinds of GPUs that trials may run on, such as "H100": the cluster's, else this machine's."""
    kind = "accelerator_type:"
    if ray.is_initialized():
        return ", ".join(sorted(name.removeprefix(kind) for name in ray.cluster_resources() if name.startswith(kind)))
    cuda = importlib.import_module("torch.cuda")  # not beside the imports of a command that needs Ray first
    return str(cuda.get_device_name()) if cuda.is_available() else ""


def leaving(node: str) -> bool:
    """Whether a node (its hex id) is being taken away."""
    return node in state.get_draining_nodes()
