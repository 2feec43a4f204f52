"""Stages on the ranks of a Ray Train worker group: the same code as under torchrun.

A trial's arguments enter as plain values, files in its folder leave. When a worker or its node is gone the stage begins
again from its last saved state, on as many workers as there are places for: the divisors of the micro-batches, with
each of which the batches are the same. Ray Train's own retries take any number of workers, so that each of its runs
here is one attempt and the next one is decided in `on_workers`. Before a node that is being taken away is gone, its
workers save. An error that would come again is written down instead of tried again.
"""

import contextlib
import functools
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayActorError
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from golf.config.config import RunConfig, from_plain
from golf.pipeline.stages import Event, RunFolder
from golf.runtime.errors import Diverged
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup, current_group
from golf.train.loop import Preempted, PreemptionCheck
from tune.cache.world_history import record_world
from tune.cluster.ray_cluster import Workers, capacity, leaving, set_train_limits
from tune.cluster.retry_policy import RetryPolicy, RetryState
from tune.workloads.failures import NO_RESOURCES, PREEMPTED, Postmortem, explain, is_final, kind_of
from tune.workloads.gepa.progress import progress, unfinished
from tune.workloads.gepa.runner import STOPPED, Failed, Runner, run_stage, write_log

_REPORTS = 10
"""Reports of a short training; each is waited for by all ranks."""
_STEPS_BETWEEN, _CHUNKS_BETWEEN = 50, 16
"""Steps and chunks between the reports of a long stage."""
_PROCESSES = "processes"
"""Folder of what the workers say of themselves, in the trial's."""
_LOOK_SECONDS = 2.0
"""Between two looks whether this process's node is being taken away."""
_FETCH_SECONDS = 20.0
"""That a node gets to send a dead worker's last words."""
_WORDS_BYTES = 20_000
_terminated = threading.Event()
"""Whether this process got a SIGTERM."""


def reporter(config: RunConfig, report: Callable[[dict[str, Any]], None]) -> Event:
    """An event that reports {"curve", "step", "value"} now and then, at the same points on all ranks."""
    every = min(max(1, config.schedule.steps // _REPORTS), _STEPS_BETWEEN)

    def event(curve: str, step: int, value: float) -> None:
        due = (step + 1) % every == 0 if curve == "train_loss" else step % _CHUNKS_BETWEEN == 0
        if due or curve == "validation_bpb":
            report({"curve": curve, "step": step, "value": value})

    return event


class Listening(TorchConfig):  # type: ignore[misc]
    """Ray Train's process group on workers that take a SIGTERM as a notice.

    Ray's own handler ends the process at once. A handler can be set in a process's main thread alone, where Ray Train
    runs its backend, while the training is a thread beside it.
    """

    @property
    def backend_cls(self) -> type:
        """The backend of the process group, which also sets the handler."""
        return _listening(super().backend_cls)


@functools.cache
def _listening(backend: type) -> type:
    class Backend(backend):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_listen)
            super().on_start(worker_group, backend_config)

    return Backend


def _listen() -> None:
    """Take a SIGTERM of this process as a notice."""
    signal.signal(signal.SIGTERM, lambda number, frame: _terminated.set())


@contextlib.contextmanager
def preemption_check() -> Iterator[PreemptionCheck]:
    """Gives whether this process has to end soon: it got a SIGTERM, or Ray knows that its node is being taken away.

    Each rank looks for itself, beside its training: `ray.train.get_preemption_info` makes all ranks wait for each other
    at every call, and Ray Train's watcher behind it is one more process of each group.
    """
    node, told, ended = ray.get_runtime_context().get_node_id(), threading.Event(), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(Exception):  # a head that does not answer has no notice to give
                if leaving(node):
                    told.set()

    threading.Thread(target=look, name="notice", daemon=True).start()
    try:
        yield lambda: told.is_set() or _terminated.is_set()
    finally:
        ended.set()


def work(arguments: dict[str, Any]) -> str | None:
    """What Ray Train runs on every worker; what a notice stopped is returned."""
    spec, group = arguments["spec"], current_group(ray.train.torch.get_device())
    folder = RunFolder(Path(spec["folder"]))
    if folder.file(STOPPED).exists():
        return None
    _introduce(folder.path / _PROCESSES / f"{group.rank}.json")
    try:
        event = reporter(from_plain(RunConfig, spec["config"]), ray.train.report)
        with preemption_check() as preemption:
            run_stage(arguments["stage"], spec, group, event, preemption)
    except Preempted as preempted:
        return str(preempted)
    except Exception as error:
        if not is_final(error):
            raise
        write_json(folder.file(STOPPED), {"cause": explain(error), "trace": traceback.format_exc()})
        # Ranks that wait for this one only end when it dies; a divergence ends all alike.
        if not isinstance(error, Diverged) and group.world_size > 1:
            raise
    return None


def _introduce(path: Path) -> None:
    """Write down where this worker's last words are to be found when it is gone."""
    node, stderr = ray.get_runtime_context().get_node_id(), str(Path("/proc/self/fd/2").readlink())
    write_json(path, {"node": node, "pid": os.getpid(), "stderr": stderr, "oom_kills": _oom_kills()})


def _oom_kills() -> int:
    """Processes that this machine's kernel has killed for memory since it began; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _words_of(stderr: str) -> tuple[str, int]:
    """The end of a worker's log on this machine, and the kernel's kills."""
    try:
        text = Path(stderr).read_bytes()[-_WORDS_BYTES:].decode(errors="replace")
    except OSError as error:
        text = f"({error})"
    return text, _oom_kills()


def _last_words(folder: Path) -> Postmortem:
    """What the workers of the last attempt left, where their nodes still answer."""
    processes = {path.stem: read_json(path) for path in sorted((folder / _PROCESSES).glob("*.json"))}
    asked = {rank: _ask_for_words(process) for rank, process in processes.items()}
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_FETCH_SECONDS)
    words, kills, lost = {}, 0, False
    for rank, process in processes.items():
        try:
            text, after = ray.get(asked[rank], timeout=0)
            kills = max(kills, after - process["oom_kills"])
        except ray.exceptions.RayError as error:
            lost |= not isinstance(error, ray.exceptions.GetTimeoutError)  # a busy machine is slow to answer too
            text = f"(its machine does not answer: {type(error).__name__})"
            ray.cancel(asked[rank], force=True)
        words[f"rank {rank}, process {process['pid']}, standard error"] = text
    return Postmortem(words, kills, lost)


def _ask_for_words(process: Mapping[str, Any]) -> Any:
    there = NodeAffinitySchedulingStrategy(process["node"], soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_words_of).options(scheduling_strategy=there).remote(process["stderr"])


def on_workers(workers: Workers, folder: Path, retry_policy: RetryPolicy) -> Runner:
    """A runner on a worker group of its own for each attempt at a stage.

    Args: folder: Ray Train's bookkeeping of this trial.
    """
    attempts = RetryState(workers.num_workers, retry_policy)

    def run(stage: str, spec: Mapping[str, Any]) -> None:
        own, again, cause = Path(spec["folder"]), True, None
        set_train_limits(retry_policy.patience_seconds, retry_policy.timeout_seconds)
        attempts.begin()
        while again:
            room = capacity(workers)
            ranks = attempts.size(room.free, room.whole)
            for name, at in unfinished(stage, spec).items():
                record_world(own, name, ranks, at)
            shutil.rmtree(own / _PROCESSES, ignore_errors=True)
            cause = _attempt(workers, ranks, folder, stage, spec, retry_policy)
            if cause is None:
                shutil.rmtree(own / _PROCESSES, ignore_errors=True)
                return
            kind = kind_of(cause)
            again = attempts.waited() if kind == NO_RESOURCES else attempts.failed(kind, progress(stage, spec), ranks)
        raise Failed(cause)

    return run


def _attempt(
    workers: Workers, ranks: int, folder: Path, stage: str, spec: Mapping[str, Any], retry_policy: RetryPolicy
) -> str | None:
    """Run a stage on so many workers, once; None when it is done, else why not.

    Raises: Failed when it would end like this again.
    """
    # Ray Train would take an earlier end of the same name for this one's.
    shutil.rmtree(folder / stage, ignore_errors=True)
    backend, seconds = "nccl" if workers.gpus else "gloo", int(max(1, retry_policy.timeout_seconds))
    trainer = TorchTrainer(
        work,
        train_loop_config={"stage": stage, "spec": dict(spec)},
        torch_config=Listening(backend=backend, timeout_s=seconds),
        scaling_config=ray.train.ScalingConfig(
            num_workers=ranks,
            use_gpu=workers.gpus > 0,
            resources_per_worker=workers.resources,
        ),
        run_config=ray.train.RunConfig(
            name=stage,
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
            callbacks=[TuneReportCallback()],
        ),
    )
    own = RunFolder(Path(spec["folder"]))
    try:
        preempted = trainer.fit().return_value
        cause = None if preempted is None else f"{PREEMPTED}: {preempted}"
    except (TrainingFailedError, RayActorError) as error:  # of the workers, or of what leads them
        if kind_of(cause := explain(error)) != NO_RESOURCES:
            words = _last_words(own.path)
            cause = explain(error, words)
            write_log(own, cause, {"error": str(error), **words.by_process})
    if own.file(STOPPED).exists():
        stopped = read_json(own.file(STOPPED))
        write_log(own, stopped["cause"], {"traceback": stopped["trace"], **_last_words(own.path).by_process})
        raise Failed(stopped["cause"])
    return cause


def in_this_process(report: Callable[[dict[str, Any]], None]) -> Runner:
    """A runner without a worker group, for stages that one CPU process is enough for: a start costs 12 to 20 s.

    When this process's node is being taken away the stage saves and Preempted passes on to Ray Tune, which starts the
    trial again elsewhere.
    """

    def run(stage: str, spec: Mapping[str, Any]) -> None:
        event = reporter(from_plain(RunConfig, spec["config"]), report)
        with preemption_check() as preemption:
            run_stage(stage, spec, ProcessGroup(), event, preemption)

    return run
