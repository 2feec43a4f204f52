"""Stages on the ranks of a Ray Train worker group: the same code as under torchrun.

When a worker or its node is gone the stage begins again from its last saved state, on as many workers as there are
places for and the workload allows. Ray Train's own retries take any number of workers, so that each of its runs here is
one attempt and the next one is decided in `on_workers`. Before a node that is being taken away is gone, its workers
save. An error that would come again is recorded instead of tried again.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.exceptions import RayActorError
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from golf.runtime.errors import Diverged
from golf.runtime.files import read_json, write_bytes, write_json
from golf.runtime.process_group import ProcessGroup, current_group
from golf.train.loop import Preempted, PreemptionCheck
from tune.cache.world_history import record_world
from tune.cluster.ray_cluster import capacity, leaving, set_train_limits
from tune.cluster.retry_policy import RetryPolicy, RetryState
from tune.cluster.workers import Workers
from tune.records.entries import Failure, FailureKind
from tune.search.space import Trial
from tune.workloads.base import RankContext, Report, StageExecutor, StageFailed, StageRequest, TrialSpec, Workload
from tune.workloads.failures import Postmortem, explain, is_final
from tune.workloads.trial_process import STOPPED, STOPPED_EARLY, use_threads, write_failure_log

_PROCESSES = "processes"
"""Folder of what the workers say of themselves, in the trial's."""
_LOOK_SECONDS = 2.0
"""Between two looks whether this process's node is being taken away."""
_FETCH_SECONDS = 20.0
"""That a node gets to send a dead worker's last words."""
_WORDS_BYTES = 20_000
_terminated = threading.Event()
"""Whether this process got a SIGTERM."""


class _Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """The failure of a stage that would fail again."""

    failure: Failure
    traceback: str


def reporter(workload: Workload, trial: Trial, report: Callable[[dict[str, str | float]], None]) -> Report:
    """Returns a function that reports {"curve", "step", "value"} now and then, at the same points on all ranks."""

    def report_point(curve: str, step: int, value: float) -> None:
        if workload.is_reported(trial, curve, step):  # each report is waited for by all ranks
            report({"curve": curve, "step": step, "value": value})

    return report_point


class SignalConfig(TorchConfig):  # type: ignore[misc]
    """Ray Train's process group on workers that take a SIGTERM as a notice of preemption.

    Ray's own handler ends the process at once. A handler can be set in a process's main thread alone, where Ray Train
    runs its backend, while the training is a thread beside it.
    """

    @property
    def backend_cls(self) -> type:
        """The backend of the process group, which also sets the handler."""
        return _with_signals(super().backend_cls)


@functools.cache
def _with_signals(backend: type) -> type:
    class Backend(backend):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_listen)
            super().on_start(worker_group, backend_config)

    return Backend


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray Train with its controller in this process, and without the actors for datasets and for placement groups.

    Each of these is a process that takes seconds to start, at every stage. There are no datasets of Ray, and placement
    groups end with the process that made them.
    """

    def _create_default_callbacks(self) -> list[Any]:
        not_needed = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, not_needed)]

    def _initialize_and_run_controller(self, **arguments: Any) -> ray.train.Result:
        controller = TrainController(**arguments)
        asyncio.run(controller.run())
        return controller.get_result()


class _ReportToTune(ray.train.UserCallback):  # type: ignore[misc]
    """Passes what the first rank reports on to Ray Tune; Ray's own needs an actor for that."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        tune.report(dict(metrics[0]))


def _listen() -> None:
    """Take a SIGTERM of this process as a notice."""
    signal.signal(signal.SIGTERM, lambda number, frame: _terminated.set())


@contextlib.contextmanager
def preemption_check(spec: TrialSpec) -> Iterator[PreemptionCheck]:
    """Gives whether this process has to end soon: its sweep stops, it got a SIGTERM, or its node is being taken away.

    Each rank looks for itself, beside its training: `ray.train.get_preemption_info` makes all ranks wait for each other
    at every call, and Ray Train's watcher behind it is one more process of each group.
    """
    node, leaves, ended = ray.get_runtime_context().get_node_id(), threading.Event(), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(Exception):  # a head that does not answer has no notice to give
                if spec.is_stopped or leaving(node):
                    leaves.set()

    threading.Thread(target=look, name="notice", daemon=True).start()
    try:
        yield lambda: leaves.is_set() or _terminated.is_set()
    finally:
        ended.set()


def _run_stage(
    workload: Workload, request: StageRequest, group: ProcessGroup, report: Callable[[dict[str, str | float]], None]
) -> None:
    """Runs a stage on this rank, which looks for notices of its end beside it."""
    reporting = reporter(workload, request.spec.trial, report)
    with preemption_check(request.spec) as preemption:
        workload.run_stage(request, RankContext(group, reporting, preemption))


def _record_worlds(workload: Workload, request: StageRequest, ranks: int) -> None:
    """Records on how many ranks an attempt goes on with what the stage has not completed."""
    for name, at in workload.progress(request).pending.items():
        record_world(request.spec.directory, name, ranks, at)


def work(arguments: dict[str, Any]) -> str | None:
    """Runs a stage on a worker of Ray Train. Returns: what a preemption stopped; None for a stage that ended."""
    workload: Workload = arguments["workload"]
    request: StageRequest = arguments["request"]
    group, directory = current_group(ray.train.torch.get_device()), request.spec.directory
    if (directory / STOPPED).exists():
        return None
    use_threads(workload.world)
    _introduce(directory / _PROCESSES / f"{group.rank}.json")
    try:
        _run_stage(workload, request, group, ray.train.report)
    except Preempted as preempted:
        return str(preempted)
    except Exception as error:
        if not is_final(error):
            raise
        stopped = _Stopped(failure=explain(error), traceback=traceback.format_exc())
        write_bytes(directory / STOPPED, msgspec.json.encode(stopped))
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


def _stderr_of(stderr: str) -> tuple[str, int]:
    """The end of a worker's log on this machine, and the kernel's kills."""
    try:
        text = Path(stderr).read_bytes()[-_WORDS_BYTES:].decode(errors="replace")
    except OSError as error:
        text = f"({error})"
    return text, _oom_kills()


def _postmortem(directory: Path) -> Postmortem:
    """What the workers of the last attempt left, where their nodes still answer."""
    processes = {path.stem: read_json(path) for path in sorted((directory / _PROCESSES).glob("*.json"))}
    asked = {rank: _request_stderr(process) for rank, process in processes.items()}
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_FETCH_SECONDS)
    texts, kills, lost = {}, 0, False
    for rank, process in processes.items():
        try:
            text, after = ray.get(asked[rank], timeout=0)
            kills = max(kills, after - process["oom_kills"])
        except ray.exceptions.RayError as error:
            lost |= not isinstance(error, ray.exceptions.GetTimeoutError)  # a busy machine is slow to answer too
            text = f"(its machine does not answer: {type(error).__name__})"
            ray.cancel(asked[rank], force=True)
        texts[f"rank {rank}, process {process['pid']}, standard error"] = text
    return Postmortem(texts, kills, lost)


def _request_stderr(process: Mapping[str, Any]) -> Any:
    there = NodeAffinitySchedulingStrategy(process["node"], soft=False)
    return (
        ray.remote(num_cpus=0, max_retries=0)(_stderr_of).options(scheduling_strategy=there).remote(process["stderr"])
    )


def on_workers(workload: Workload, workers: Workers, directory: Path, retry_policy: RetryPolicy) -> StageExecutor:
    """Returns an executor that runs each attempt at a stage on a worker group of its own.

    Args:
        workload: what the trial runs.
        workers: the group that is asked for.
        directory: of Ray Train's bookkeeping of this trial.
        retry_policy: when another attempt is made.
    """
    attempts = RetryState(workers.num_workers, workload.world_sizes, retry_policy)

    def run(request: StageRequest) -> None:
        own = request.spec.directory
        set_train_limits(retry_policy.patience_seconds, retry_policy.timeout_seconds)
        attempts.begin()
        while True:
            available = capacity(workers)
            ranks = attempts.size(available.free, available.whole)
            _record_worlds(workload, request, ranks)
            shutil.rmtree(own / _PROCESSES, ignore_errors=True)
            failure = _attempt(replace(workers, num_workers=ranks), directory, workload, request, retry_policy)
            if failure is None:
                shutil.rmtree(own / _PROCESSES, ignore_errors=True)
                return
            asked = request.spec.is_stopped or (own / STOPPED_EARLY).exists()
            if asked and failure.kind == FailureKind.PREEMPTED:
                raise Preempted(failure.message)
            if failure.kind == FailureKind.NO_RESOURCES:
                again = attempts.waited()
            else:
                again = attempts.failed(failure.kind, workload.progress(request).furthest, ranks)
            if not again:
                raise StageFailed(failure)

    return run


def _attempt(
    workers: Workers, directory: Path, workload: Workload, request: StageRequest, retry_policy: RetryPolicy
) -> Failure | None:
    """Runs a stage on a group of workers, once. Returns: None when it is done, else why not.

    Raises: StageFailed when it would end like this again.
    """
    # Ray Train would take an earlier end of the same name for this one's.
    shutil.rmtree(directory / request.stage, ignore_errors=True)
    backend, seconds = "nccl" if workers.gpus else "gloo", int(max(1, retry_policy.timeout_seconds))
    trainer = _Trainer(
        work,
        train_loop_config={"workload": workload, "request": request},
        torch_config=SignalConfig(backend=backend, timeout_s=seconds),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers, use_gpu=workers.gpus > 0, resources_per_worker=workers.resources
        ),
        run_config=ray.train.RunConfig(
            name=request.stage,
            storage_path=str(directory),
            failure_config=ray.train.FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
            callbacks=[_ReportToTune()],
        ),
    )
    own = request.spec.directory
    try:
        preempted = trainer.fit().return_value
        failure = None if preempted is None else Failure(kind=FailureKind.PREEMPTED, message=str(preempted))
    except (TrainingFailedError, RayActorError) as error:  # of the workers, or of what leads them
        failure = explain(error)
        if failure.kind != FailureKind.NO_RESOURCES:
            postmortem = _postmortem(own)
            failure = explain(error, postmortem)
            write_failure_log(own, failure, {"error": str(error), **postmortem.by_process})
    if (own / STOPPED).exists():
        stopped = msgspec.json.decode((own / STOPPED).read_bytes(), type=_Stopped)
        parts = {"traceback": stopped.traceback, **_postmortem(own).by_process}
        write_failure_log(own, stopped.failure, parts)
        raise StageFailed(stopped.failure)
    return failure


def in_this_process(
    workload: Workload, report: Callable[[dict[str, str | float]], None], retry_policy: RetryPolicy
) -> StageExecutor:
    """Returns an executor without a worker group, whose start would cost seconds.

    When this process's node is being taken away the stage saves and Preempted passes on to Ray Tune, which starts the
    trial again elsewhere.
    """
    attempts = RetryState(1, [1], retry_policy)

    def run(request: StageRequest) -> None:
        attempts.begin()
        while True:
            if request.distributed:
                _record_worlds(workload, request, 1)
            try:
                _run_stage(workload, request, ProcessGroup(), report)
                return
            except Exception as error:
                if isinstance(error, (Preempted, StageFailed)) or is_final(error):
                    raise
                if not attempts.failed(explain(error).kind, workload.progress(request).furthest, 1):
                    raise

    return run
