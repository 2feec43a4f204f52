"""A sweep: Ray Tune asks a search for trials, each runs in a process of its own, and the ledger keeps its outcome.

A trial that fails is recorded with its cause and the sweep continues. What was finished is never run again.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.air._internal import usage
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from golf.runtime.files import read_json, write_bytes, write_json
from golf.train.checkpoint_policy import BY_COST, CheckpointPolicy
from tune.cache.backend import StoreError
from tune.cache.gc import tidy
from tune.cache.stage_graph import StageGraph
from tune.cache.store import Store
from tune.cluster.finished import finished
from tune.cluster.limits import Ended, LimitWatch, Stop
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.train_workers import in_this_process, on_workers
from tune.cluster.workers import TRIAL_SLOT, Workers
from tune.planning.forecast import Costs
from tune.planning.order import TreeOrder
from tune.planning.stage_timings import StageTimings
from tune.records.entries import REPEAT, Outcome, Series, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.provenance import environment, versions
from tune.search.search import Search
from tune.search.space import Point, Trial
from tune.workloads.base import CacheConfig, StageRequest, TrialSpec, Workload
from tune.workloads.failures import explain
from tune.workloads.trial_process import (
    CONFIG,
    OUTCOME,
    POINT,
    failed_outcome,
    load_trial_from_cache,
    read_outcome,
    run_trial,
    write_failure_log,
)


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How a sweep runs; nothing here changes a number."""

    name: str
    """The sweep's name: the same name continues it."""
    workers: Workers = field(default_factory=Workers)
    """Processes of one trial."""
    one_machine: bool = False
    """Whether trials run on the machine that has their CPUs: a worker that is alone there, without a GPU, is then the
    trial's own process, which spares the start of another one at every stage."""
    concurrent: int = 1
    """Trials at a time."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    """What a trial puts up with: failures, lost nodes, hung workers."""
    checkpoint_policy: CheckpointPolicy = BY_COST
    """When the state of a long stage is saved."""
    cache: CacheConfig | None = None
    """Where stages are shared; None: every trial computes everything itself."""
    keep_screened: bool = True
    """Whether trials that were screened out stay so; False: they are run in full."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every trial's entry; an entry with others is not taken for this sweep's."""


class Watcher(Protocol):
    """Sees a sweep happen; must not raise."""

    def started(self, trial: Trial) -> None:
        """A trial began."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point of a curve."""

    def ended(self, entry: TrialEntry) -> None:
        """A trial's entry is in the ledger."""


def run_sweep(
    config: SweepConfig,
    workload: Workload,
    search: Search,
    storage: Storage,
    watchers: Sequence[Watcher],
    limit_watch: LimitWatch | None = None,
) -> Ended:
    """Runs the trials that `search` gives, each to its entry in the ledger; Ray must be up.

    Args:
        config: how.
        workload: what a trial runs.
        search: which trials.
        storage: where everything goes.
        watchers: are told of what happens.
        limit_watch: says when the sweep has to stop; None: never.

    Returns: how it ended.

    Raises:
        ValueError: when this sweep is already running.
        KeyboardInterrupt: what was finished is kept.
    """
    with only_driver(storage.sweep(config.name)), stop_file(storage.stop_file(config.name)):
        search.resume(unfinished(config, storage, workload.code))
        workload = workload.for_trials(search.candidates())
        source = TrialSource(config, workload, search, storage, limit_watch)
        recorder = ResultRecorder(config, workload, storage, [source, *watchers])
        ray_directory = storage.ray(config.name)

        one_cpu = config.workers.is_one_cpu
        alone = workload.starts_processes or (one_cpu and config.one_machine)
        places = {"CPU": 0.0, TRIAL_SLOT: 1.0}
        if alone:
            places |= {name: number * config.workers.num_workers for name, number in config.workers.resources.items()}

        def trainable(trial_config: dict[str, TrialSpec]) -> None:
            spec = trial_config["spec"]
            tune.report({"trial": spec.trial.trial})  # Ray Tune prints a line for a trial that never reports
            directory = ray_directory / "train" / spec.trial.trial
            on_group = on_workers(workload, config.workers, directory, config.retry_policy)
            here = in_this_process(workload, tune.report, config.retry_policy)

            def execute(request: StageRequest) -> None:
                is_here = alone or (one_cpu and not request.distributed)
                (here if is_here else on_group)(request)

            run_trial(workload, spec, execute)

        tuner = tune.Tuner(
            tune.with_resources(trainable, places),
            tune_config=tune.TuneConfig(
                search_alg=RaySearcher(source, recorder),
                num_samples=-1,
                max_concurrent_trials=config.concurrent,
                trial_dirname_creator=lambda trial: trial.trial_id,
                reuse_actors=True,  # a process that starts anew for every trial costs seconds
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(ray_directory),
                verbose=0,
                callbacks=[RayCallback(recorder, source)],
                failure_config=tune.FailureConfig(max_failures=config.retry_policy.max_failures),
            ),
        )
        with _lean_tune(alone and config.one_machine):
            tuner.fit()
        source.close()
        shutil.rmtree(ray_directory, ignore_errors=True)
        return Ended(source.stop, recorder.num_stopped)


@contextlib.contextmanager
def _lean_tune(own_processes: bool) -> Iterator[None]:
    """Spares trials of Ray Tune what they would wait for.

    To count callbacks for usage reports, which are off, it imports what it has for MLflow, Weights & Biases and Comet:
    that takes a second, and leaves temporary folders where the process is killed. And it gives trials variables for
    other machines and libraries; with any, a new process is started for them, where Ray has some ready.

    Args: own_processes: whether trials need none of these variables.
    """
    kept = usage.tag_callbacks, class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    usage.tag_callbacks = lambda callbacks: False
    if own_processes:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        usage.tag_callbacks, class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = kept


@contextlib.contextmanager
def stop_file(path: Path) -> Iterator[Path]:
    """Gives the path of the file that asks running trials to end; there is none before and after."""
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_driver(directory: Path) -> Iterator[None]:
    """Keeps a second driver from running the same sweep; the kernel frees it when this process ends.

    Raises: ValueError naming the directory when there is one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "driver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"this sweep is already running in {directory}; wait for it, or give another --name"
            ) from error
        yield


def unfinished(config: SweepConfig, storage: Storage, code: str) -> list[Point]:
    """Returns the points of trials that were begun and have no lasting entry: they are tried first."""
    done = {entry.trial for entry in finished(config.name, storage, code, config.keep_screened, config.tags)}
    points = sorted(storage.sweep(config.name).glob(f"trials/*/{POINT}"), key=lambda path: path.stat().st_mtime)
    return [read_json(path) for path in points if path.parent.name not in done]


def is_repeat(trial: Trial) -> bool:
    """Returns whether a trial is run for its noise, so that another's result must not stand for it."""
    return trial.parameters.get(REPEAT, 0) > 0


class TrialSource:
    """What the sweep's next trial is to do, from the search; keeps in the store what trials to come need."""

    def __init__(
        self,
        config: SweepConfig,
        workload: Workload,
        search: Search,
        storage: Storage,
        limit_watch: LimitWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.workload, self.search, self.storage = config, workload, search, storage
        self.limit_watch, self.stop_file = limit_watch, storage.stop_file(config.name)
        self.store = None if config.cache is None else Store(config.cache.store)
        self.waiting = {trial.trial: trial for trial in search.certain() if trial.trial not in search.given}
        self._graphs: dict[str, StageGraph] = {}
        if config.cache is not None and self.store is not None:
            order = TreeOrder(
                self._stages,
                self.store.keys,
                screened=workload.screening_odds(1) is not None,
                look_seconds=config.cache.lease_config.poll_seconds,
                clock=clock,
            )
            search.order_by(order)
            if search.learns:  # what trials cost is asked by no other
                timings = StageTimings(workload, Ledger(storage.ledger).trials())
                search.price(Costs(self._stages, timings, self._is_stored))
            self._pin()

    def next(self) -> TrialSpec | None:
        """Returns what the next trial is to do, its configuration and point written to its directory.

        Returns: None at the end, and while all trials that are left would wait for running ones (`is_over`).
        """
        trial = None if self.stop is not None else self.search.ask()
        if trial is None:
            return None
        directory = self.storage.trial(self.config.name, trial.trial)
        write_json(directory / CONFIG, dict(trial.config))
        write_json(directory / POINT, dict(trial.parameters))
        (directory / OUTCOME).unlink(missing_ok=True)
        cache = None if is_repeat(trial) else self.config.cache
        return TrialSpec(
            trial=trial,
            directory=directory,
            checkpoint_policy=self.config.checkpoint_policy,
            cache=cache,
            stop_file=self.stop_file,
        )

    @property
    def is_over(self) -> bool:
        """Whether no further trial will start."""
        return self.stop is not None or not self.search.holds_back

    @property
    def stop(self) -> Stop | None:
        """Why no further trial starts."""
        return None if self.limit_watch is None else self.limit_watch.stop

    def check_limits(self, num_running: int) -> None:
        """Asks running trials to end where a limit is reached. Args: num_running: trials that hold their machines."""
        if self.limit_watch is None:
            return
        stop = self.limit_watch.check(num_running)
        if stop is not None and stop.ends_running and not self.stop_file.exists():
            write_bytes(self.stop_file, f"{stop.reason}\n".encode())

    def started(self, trial: Trial) -> None:
        """Does nothing: a trial that began still needs what it needs."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Does nothing, as above."""

    def ended(self, entry: TrialEntry) -> None:
        """Tells the search of a trial's end, and no longer keeps what only that trial needed."""
        self.search.tell(entry)
        self._graphs.pop(entry.trial, None)
        if self.limit_watch is not None:
            self.limit_watch.learn(entry)
        if self.waiting.pop(entry.trial, None) is not None:
            self._pin()

    def close(self) -> None:
        """Frees what was kept for trials to come, and removes what dead processes left in the store."""
        if self.store is not None:
            self.store.unpin(f"sweep {self.config.name}")
            with contextlib.suppress(StoreError):
                tidy(self.store, self.store.lease_config)

    def _stages(self, trial: Trial) -> StageGraph:
        """Returns the outputs of a trial that can be shared, worked out once."""
        if trial.trial not in self._graphs:
            self._graphs[trial.trial] = StageGraph(()) if is_repeat(trial) else self.workload.stages(trial)
        return self._graphs[trial.trial]

    def _is_stored(self, key: str) -> bool:
        return self.store is not None and self.store.find(key) is not None

    def _pin(self) -> None:
        """Keeps what trials to come need from being dropped for the store's budget."""
        if self.store is not None and self.config.cache is not None and self.config.cache.budget_bytes is not None:
            graphs = map(self._stages, self.waiting.values())
            needed = {key for graph in graphs for key in graph.needed(self._is_stored)}
            self.store.pin(needed, f"sweep {self.config.name}")


class ResultRecorder:
    """Writes the outcome of each trial to the ledger, and tells watchers."""

    def __init__(self, config: SweepConfig, workload: Workload, storage: Storage, watchers: Sequence[Watcher]) -> None:
        self.config, self.workload, self.storage, self.watchers = config, workload, storage, watchers
        self.ledger = Ledger(storage.ledger)
        self.num_stopped = 0
        """Trials that ended without an outcome because the sweep stops."""
        self._started: dict[str, float] = {}

    def begin(self, trial: Trial) -> None:
        """Records that a trial begins."""
        self._started.setdefault(trial.trial, time.time())
        for watcher in self.watchers:
            watcher.started(trial)

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Passes on a point that a trial reported."""
        for watcher in self.watchers:
            watcher.point(trial, curve, step, value)

    def end(self, spec: TrialSpec, error: str | None = None) -> None:
        """Records the end of a trial: what it left in its directory, or why it left nothing.

        Args:
            spec: what it was to do.
            error: of its process; None where that ended by itself.
        """
        left = read_outcome(spec.directory) if error is None else None
        if left is None and error is None and spec.is_stopped:
            self.num_stopped += 1
            return
        if left is None:
            failure = explain(error or "its process ended without a result")
            write_failure_log(spec.directory, failure, {"error": error or ""})
            left = failed_outcome(failure, spec.directory), Series()
        entry = self.ledger.append(self._entry(spec.trial, left[0]), left[1])
        assert isinstance(entry, TrialEntry)
        for watcher in self.watchers:
            watcher.ended(entry)

    def _entry(self, trial: Trial, outcome: Outcome) -> TrialEntry:
        # Relative paths are right wherever the storage is copied to.
        files = {use: self.storage.relative(Path(path)) for use, path in outcome.files.items()}
        fields = {name: getattr(outcome, name) for name in Outcome.__struct_fields__} | {"files": files}
        return TrialEntry(
            **fields,
            sweep=self.config.name,
            trial=trial.trial,
            name=trial.name,
            preset=self.workload.preset,
            workload=self.workload.name,
            parameters=dict(trial.parameters),
            config=dict(trial.config),
            data=self.workload.data,
            dataset=self.workload.dataset,
            code=self.workload.code,
            environment=versions(),
            tags={**environment(), **self.config.tags},
            started=self._started.get(trial.trial, time.time()),
            ended=time.time(),
        )


class RaySearcher(Searcher):  # type: ignore[misc]
    """Gives Ray Tune the trials of a search."""

    def __init__(self, source: TrialSource, recorder: ResultRecorder) -> None:
        super().__init__()
        self.source, self.recorder = source, recorder

    def suggest(self, trial_id: str) -> Any:
        spec = self.source.next()
        # A trial of Ray's would take seconds where all results are stored.
        while spec is not None and spec.cache is not None and load_trial_from_cache(self.source.workload, spec):
            self.recorder.end(spec)
            spec = self.source.next()
        if spec is None:
            return Searcher.FINISHED if self.source.is_over else None  # Ray Tune asks again after None
        return {"spec": spec}

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Ray Tune pickles its parts for a restore of its own, which is never asked for."""
        return {}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Does nothing: the search learns from the ledger's entries."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger is what a search continues from."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, as above."""


class RayCallback(tune.Callback):  # type: ignore[misc]
    """Passes Ray Tune's events on to the recorder."""

    def __init__(self, recorder: ResultRecorder, source: TrialSource) -> None:
        self.recorder, self.source = recorder, source

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        self.source.check_limits(sum(trial.status == RayTrial.RUNNING for trial in trials))

    def __getstate__(self) -> dict[str, object]:
        """Nothing, as above."""
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.recorder.begin(trial.config["spec"].trial)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        if "curve" in result:
            self.recorder.point(trial.config["spec"].trial, result["curve"], result["step"], result["value"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.recorder.end(trial.config["spec"])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        path = Path(str(trial.error_file))
        self.recorder.end(trial.config["spec"], path.read_text() if path.is_file() else "its process was killed")
