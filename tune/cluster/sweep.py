"""A sweep: Ray Tune asks a search for trials, each trains through Ray Train, and the ledger keeps what came out.

Settings and a search enter, ledger entries leave, one per trial. A trial that fails is recorded with its cause and the
sweep goes on; one over the cap is stopped before any evaluation. What was finished is never run again.
"""

import contextlib
import dataclasses
import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from golf.config.config import to_plain
from golf.data.dataset import open_dataset
from golf.pipeline.stages import RunFolder
from golf.runtime.files import read_json, write_json
from golf.train.checkpoint_policy import MTBF_HOURS
from tune.cache.backend import StoreError
from tune.cache.gc import tidy
from tune.cache.store import Store
from tune.cluster.ray_cluster import TRIAL_SLOT, Workers
from tune.cluster.retry_policy import RetryPolicy
from tune.cluster.train_workers import in_this_process, on_workers
from tune.planning.cost import Costs
from tune.planning.stage_timings import StageTimings
from tune.records.journal import Ledger
from tune.records.layout import Storage
from tune.records.provenance import environment, outdated, versions
from tune.records.queries import TRIAL, latest
from tune.search.search import Search
from tune.search.space import REPEAT, Point, Trial
from tune.search.successive_halving import SuccessiveHalving, first_chunks_of
from tune.workloads.failures import DIVERGED, explain
from tune.workloads.gepa.outcome import CONFIG, FAILED, SCREENED, failed
from tune.workloads.gepa.runner import OUTCOME, POINT, load_from_cache, run_trial, write_log
from tune.workloads.gepa.stages import GepaStages, branch_points, code_digest, gepa_stages, training_key


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep runs; nothing here changes a number."""

    name: str
    """The sweep's name: the same name continues it."""
    preset: str
    """The preset's name."""
    data: Path
    """The prepared dataset, absolute."""
    workers: Workers = field(default_factory=Workers)
    """Processes of one trial."""
    concurrent: int = 1
    """Trials at a time."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    """What a trial puts up with: failures, lost nodes, hung workers."""
    save_seconds: float | None = None
    """Between the saved states of a stage; None: chosen from what a save costs."""
    mtbf_hours: float = MTBF_HOURS
    """Mean time between failures of a trial's machines together, for that choice."""
    screening: SuccessiveHalving | None = None
    """How trials are screened on the first chunks; None: all run in full."""
    reuse: bool = True
    """Whether stages are shared through the store."""
    store: str | None = None
    """Path or URI of the store; None: below the storage root."""
    budget_bytes: int | None = None
    """Size that the store is kept below; None: no limit."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every trial's entry."""


class Watcher(Protocol):
    """Sees a sweep happen; must not raise."""

    def started(self, trial: Trial) -> None:
        """A trial began."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point of a curve."""

    def ended(self, entry: Mapping[str, Any]) -> None:
        """A trial's entry is in the ledger."""


def run_sweep(settings: SweepSettings, search: Search, storage: Storage, watchers: list[Watcher]) -> None:
    """Run the trials that `search` gives, each to its entry in the ledger; Ray must be up.

    Raises: ValueError when this sweep is already running; KeyboardInterrupt: what was finished is kept.
    """
    with only_driver(storage.sweep(settings.name)):
        search.resume(unfinished(settings, storage))
        book = SweepDriver(settings, storage, search, watchers)
        workers, retry_policy, ray_folder = settings.workers, settings.retry_policy, storage.ray(settings.name)

        def trainable(spec: dict[str, Any]) -> None:
            tune.report({"trial": spec["trial"]})  # Ray Tune prints a line for a trial that never reports
            train = on_workers(workers, ray_folder / "train" / spec["trial"], retry_policy)
            alone = workers.num_workers == 1 and not workers.gpus
            run_trial(spec, train, in_this_process(tune.report) if alone else train)

        tune.Tuner(
            tune.with_resources(trainable, {"CPU": 0, TRIAL_SLOT: 1}),
            tune_config=tune.TuneConfig(
                search_alg=RaySearcher(book),
                num_samples=-1,
                max_concurrent_trials=settings.concurrent,
                reuse_actors=True,  # a process that starts anew for every trial costs seconds
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(ray_folder),
                verbose=0,
                callbacks=[RayCallback(book)],
                failure_config=tune.FailureConfig(max_failures=retry_policy.max_failures),
            ),
        ).fit()
        book.store.unpin(f"sweep {settings.name}")
        with contextlib.suppress(StoreError):
            tidy(book.store, book.store.lease_config)
        shutil.rmtree(ray_folder, ignore_errors=True)


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Keep a second driver from running the same sweep; the kernel frees it when this process ends.

    Raises: ValueError naming the folder when there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "driver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"this sweep is already running in {folder}; wait for it, or give another --name"
            ) from error
        yield


def entries_of(sweep: str, storage: Storage) -> list[dict[str, Any]]:
    """The last ledger entry of each trial of a sweep."""
    return latest(Ledger(storage.ledger).entries(), sweep)


def finished(sweep: str, storage: Storage, screening: bool = False) -> list[dict[str, Any]]:
    """The entries of trials that are not run again: all but those that failed of outer causes or are outdated.

    Args: screening: whether those that were screened out stay so; without it they are run in full.
    """

    def stands(entry: Mapping[str, Any]) -> bool:
        if outdated(entry, code_digest()):
            return False
        if entry["status"] == SCREENED:
            return screening
        return bool(entry["status"] != FAILED or entry["cause"].startswith(DIVERGED))

    return [entry for entry in entries_of(sweep, storage) if stands(entry)]


def unfinished(settings: SweepSettings, storage: Storage) -> list[Point]:
    """The points of trials that were begun and are not in the ledger, or failed there: they are tried first."""
    done = {entry["trial"] for entry in finished(settings.name, storage, settings.screening is not None)}
    folders = sorted(storage.sweep(settings.name).glob(f"trials/*/{POINT}"), key=lambda path: path.stat().st_mtime)
    return [read_json(path) for path in folders if path.parent.name not in done]


class SweepDriver:
    """The sweep's trials on their way from the search to the ledger."""

    def __init__(self, settings: SweepSettings, storage: Storage, search: Search, watchers: list[Watcher]) -> None:
        self.settings, self.storage, self.search, self.watchers = settings, storage, search, watchers
        self.ledger = Ledger(storage.ledger)
        self.trials: dict[str, Trial] = {}
        self.started: dict[str, float] = {}
        self.branches = branch_points(search.configs())
        self.store = Store(settings.store or str(storage.store))
        self.num_targets = len(open_dataset(settings.data).validation) - 1
        self.waiting = {trial.trial: trial for trial in search.certain() if trial.trial not in search.given}
        if settings.reuse:
            pace = StageTimings(self.ledger.find(kind=TRIAL), search.data, settings.workers.world)
            search.price(Costs(self.stages, pace, self.stored))
            self.pin()

    def next(self) -> dict[str, Any] | None:
        """The arguments of the next trial, its configuration and point written to its folder."""
        trial = self.search.ask()
        if trial is None:
            return None
        self.trials[trial.trial], plain = trial, to_plain(trial.config)
        folder = self.storage.trial(self.settings.name, trial.trial)
        write_json(folder / CONFIG, plain)
        write_json(folder / POINT, dict(trial.parameters))
        (folder / OUTCOME).unlink(missing_ok=True)
        places = {"data": str(self.settings.data), "folder": str(folder)}
        spec: dict[str, Any] = {"trial": trial.trial, "config": plain, **places, "world": self.settings.workers.world}
        spec |= {"save_seconds": self.settings.save_seconds, "mtbf_hours": self.settings.mtbf_hours}
        screening = self.settings.screening
        if screening is not None:
            kept = str(self.storage.screened(self.settings.name))
            spec |= {"screening": dataclasses.asdict(screening), "screened": kept}
        # The noise of a repeat is what it is run for: another's result must not stand for it.
        alone = trial.parameters.get(REPEAT, 0) > 0 or not self.settings.reuse
        return spec | ({} if alone else self._sharing(trial))

    def stages(self, trial: Trial) -> GepaStages:
        """The stages of a trial and their keys."""
        branches, world = self.branches[training_key(trial.config)], self.settings.workers.world
        screening = self.settings.screening
        first_chunks = first_chunks_of(screening, trial.config, self.num_targets)
        stride = None if screening is None else screening.stride
        return gepa_stages(trial.config, self.search.data, world, branches, first_chunks, stride)

    def stored(self, key: str) -> bool:
        """Whether the store holds a key."""
        return self.store.find(key) is not None

    def pin(self) -> None:
        """Keep what trials to come need from being dropped for the store's budget."""
        if self.settings.reuse and self.settings.budget_bytes is not None:
            needed = {key for trial in self.waiting.values() for key in self.stages(trial).needed(self.stored)}
            self.store.pin(needed, f"sweep {self.settings.name}")

    def _sharing(self, trial: Trial) -> dict[str, Any]:
        """What a trial needs to share its stages."""
        return {
            "store": self.settings.store or str(self.storage.store),
            "budget_bytes": self.settings.budget_bytes,
            "branches": self.branches[training_key(trial.config)],
        }

    def load_from_cache(self, spec: Mapping[str, Any]) -> bool:
        """End a trial all of whose results are stored; False when something of it has to be computed."""
        if "store" not in spec or not load_from_cache(spec):
            return False
        self.end(spec["trial"], None)
        return True

    def begin(self, name: str) -> None:
        """Trial `name` begins."""
        self.started.setdefault(name, time.time())
        for watcher in self.watchers:
            watcher.started(self.trials[name])

    def point(self, name: str, curve: str, step: int, value: float) -> None:
        """Trial `name` reported a point."""
        for watcher in self.watchers:
            watcher.point(self.trials[name], curve, step, value)

    def end(self, name: str, error: str | None) -> None:
        """Record the end of trial `name`: what it left in its folder, or why it left nothing."""
        folder = RunFolder(self.storage.trial(self.settings.name, name))
        if folder.file(OUTCOME).exists() and error is None:
            outcome = read_json(folder.file(OUTCOME))
        else:
            cause = explain(error or "its process ended without a result")
            write_log(folder, cause, {"error": error or ""})
            outcome = failed(cause, folder)
        entry = (
            self.entry(self.trials[name])
            | outcome
            | {"tags": {**environment(), **outcome["tags"], **self.settings.tags}}
            # Relative, so that they hold wherever the storage is copied to.
            | {"files": {kind: self.storage.relative(Path(path)) for kind, path in outcome["files"].items()}}
        )
        self.ledger.append(entry)
        self.search.tell(entry)
        if self.waiting.pop(name, None) is not None:
            self.pin()
        for watcher in self.watchers:
            watcher.ended(entry)

    def entry(self, trial: Trial) -> dict[str, Any]:
        """A ledger entry without its outcome."""
        return {
            "kind": TRIAL,
            "sweep": self.settings.name,
            "trial": trial.trial,
            "key": trial.trial,
            "name": trial.name,
            "preset": self.settings.preset,
            "parameters": dict(trial.parameters),
            "config": to_plain(trial.config),
            "data": self.search.data,
            "dataset": self.settings.data.name,
            "code": code_digest(),
            "environment": versions(),
            "started": self.started.get(trial.trial, time.time()),
            "ended": time.time(),
        }


class RaySearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's way to the search."""

    def __init__(self, book: SweepDriver) -> None:
        super().__init__()
        self.book = book

    def suggest(self, trial_id: str) -> Any:
        spec = self.book.next()
        while spec is not None and self.book.load_from_cache(spec):  # a trial of Ray's would take seconds
            spec = self.book.next()
        return Searcher.FINISHED if spec is None else spec

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles its parts for a restore of its own, which is never asked for."""
        return {}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: the search learns from the ledger's entries."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a search goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class RayCallback(tune.Callback):  # type: ignore[misc]
    """Ray Tune's events, passed on."""

    def __init__(self, book: SweepDriver) -> None:
        self.book = book

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as above."""
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.book.begin(trial.config["trial"])

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        if "curve" in result:
            self.book.point(trial.config["trial"], result["curve"], result["step"], result["value"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.book.end(trial.config["trial"], None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        path = Path(str(trial.error_file))
        self.book.end(trial.config["trial"], path.read_text() if path.is_file() else "its process was killed")
