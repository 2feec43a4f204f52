"""MLflow as a view of the ledger: one flat run per trial, findable by its tags `sweep` and `trial`.

Ledger entries and live curve points enter; what leaves goes to an MLflow database or server. The `Tracker` shows
running trials from its own thread, `sync` sends whatever of the ledger is not complete there. No number is ever read
back from MLflow, and MLflow being slow, away or broken must never stop or slow a trial: what was not sent stays in the
ledger. No global MLflow state is used, so that two sweeps in one process do not mix.
"""

import contextlib
import functools
import logging
import math
import queue
import re
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow import environment_variables as mlflow_settings
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from golf.config import to_plain
from tune.ledger import locked
from tune.runs import (
    VALUE_CHARACTERS,
    Points,
    digest_of,
    files_of,
    flat,
    identity_of,
    key_of,
    milliseconds,
    results_of,
    tags_of,
    text_of,
)
from tune.space import Trial
from tune.trial import CURVES

RUN_STATUS = {"done": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
_AWAY = (MlflowException, SQLAlchemyError, OSError)
"""What an MLflow call raises; the errors of `requests` are OSErrors."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Error codes that speak of one entry and not of all MLflow."""
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100
"""MLflow's limits for one call."""
_PASSING_TAGS = frozenset({"cause", "files_missing", "mlflow.note.content"})
"""Tags that a later entry of the same trial may lack: they go when it comes."""
_WAITING_POINTS = 50_000
"""Live points that wait at most; later ones are left to the finished entry's curves."""
_opening = threading.Lock()


@dataclass(frozen=True)
class Synced:
    """What became of the ledger's trials."""

    sent: int
    """Runs made complete now."""
    already: int
    """Runs that were complete before, or that the user deleted in MLflow."""
    failed: int
    """Trials that MLflow does not hold in full; the next sync tries again."""
    problem: str | None
    """One line for the user, None when all went well."""


@dataclass(frozen=True)
class _Start:
    sweep: str
    trial: str
    name: str | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class _Progress:
    trial: str
    metrics: Mapping[str, float]
    step: int
    time: float


def default_uri(storage: Path) -> str:
    """The address of the MLflow database in the folder `storage`."""
    return f"sqlite:///{storage.absolute() / 'mlflow.db'}"


class Tracker:
    """Shows trials in MLflow while they run. Every method but `close` returns at once and never raises."""

    def __init__(
        self, uri: str, experiment: str, artifact_root: Path | None = None, *, retry_seconds: float = 30.0
    ) -> None:
        """Args: uri: database or server; experiment: its name, made when missing; artifact_root: where a new
        experiment keeps files (None: beside an sqlite database, else where the server says); retry_seconds: pause
        between attempts while MLflow is away.
        """
        self._open: Callable[[], _View] = functools.partial(_View, uri, experiment, artifact_root)
        self._uri = uri
        self._retry_seconds = retry_seconds
        self._view: _View | None = None
        self._retry_at = -math.inf
        self._away: str | None = None
        self._refused: str | None = None
        self._starts: dict[str, _Start] = {}
        self._queue: queue.SimpleQueue[_Start | _Progress | Mapping[str, Any] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-tracker", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """One line for the user while MLflow does not take what it is sent, else None."""
        return self._away or self._refused

    def start_trial(
        self, sweep: str, trial: str, parameters: Mapping[str, Any], tags: Mapping[str, str], name: str | None = None
    ) -> None:
        """Show the trial as running, in the run it already has or in a new one called `name` (None: the trial's id)."""
        self._queue.put(_Start(sweep, trial, name, dict(parameters), dict(tags)))

    def progress(self, trial: str, metrics: Mapping[str, float], step: int, time: float) -> None:
        """Add live points to a started trial's curves.

        Args: metrics: curve's name -> value, non-finite ones are left out; time: unix seconds.
        """
        if self._queue.qsize() < _WAITING_POINTS:
            self._queue.put(_Progress(trial, dict(metrics), step, time))

    def finish(self, entry: Mapping[str, Any]) -> None:
        """Complete the run of the ledger's trial `entry`."""
        self._queue.put(entry)

    def close(self, timeout: float) -> None:
        """Send what waits, for at most `timeout` seconds; the rest is for `sync`."""
        self._queue.put(None)
        self._thread.join(timeout)
        self._closed.set()
        if self._thread.is_alive():
            self._away = self._away or _complaint(self._uri, TimeoutError(f"not done after {timeout:g} s"))

    def _work(self) -> None:
        waiting: dict[str, dict[str, list[Sequence[float]]]] = {}
        while not self._closed.is_set():
            item = self._queue.get()
            if isinstance(item, _Progress):
                curves = waiting.setdefault(item.trial, defaultdict(list))
                for name, value in item.metrics.items():
                    curves[name].append((item.step, item.time, value))
                if not self._queue.empty():
                    continue
            for trial in list(waiting):
                curves = waiting.pop(trial)
                if trial in self._starts:
                    self._attempt(f"points of trial {trial}", _View.progress, self._starts[trial], curves)
            if item is None:
                return
            if isinstance(item, _Start):
                self._starts[item.trial] = item
                self._attempt(f"the start of trial {item.trial}", _View.start, item)
            elif isinstance(item, Mapping):
                self._starts.pop(str(item.get("trial")), None)
                self._attempt(f"trial {item.get('trial')}", _View.finish, item)

    def _attempt(self, what: str, act: Callable[..., object], *arguments: object) -> None:
        """Run `act` on the view, opened when needed; note the problem instead of raising."""
        if self._view is None and time.monotonic() < self._retry_at:
            return
        try:
            if self._view is None:
                self._view = self._open()
                self._away = None
            act(self._view, *arguments)
        except _AWAY as error:
            # Forgotten with all it knew of sent points: what arrived of a failed call is asked for on return.
            self._view = None
            if _is_refusal(error):
                self._refused = _complaint(self._uri, error, what)
            else:
                self._away = _complaint(self._uri, error)
                self._retry_at = time.monotonic() + self._retry_seconds


class SweepTracker:
    """Shows one sweep's trials by a `Tracker`, from the events of the sweep."""

    def __init__(self, tracker: Tracker, sweep: str, preset: str) -> None:
        self.tracker, self.sweep, self.preset = tracker, sweep, preset

    def started(self, trial: Trial) -> None:
        """A trial began."""
        parameters = flat(to_plain(trial.config)) | dict(trial.parameters)
        self.tracker.start_trial(self.sweep, trial.trial, parameters, {"preset": self.preset}, trial.name)

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point; chunk by chunk figures below TTT are no curves of training."""
        if curve in CURVES:
            self.tracker.progress(trial.trial, {curve: value}, step, time.time())

    def ended(self, entry: Mapping[str, Any]) -> None:
        """A trial's entry is in the ledger."""
        self.tracker.finish(entry)


def sync(entries: Iterable[Mapping[str, Any]], uri: str, experiment: str, artifact_root: Path | None = None) -> Synced:
    """Complete the run of every trial in the ledger's `entries`; of several entries of one trial the last counts.

    It also makes the database and the experiment, so that a sweep calls it once before anything else. Never raises for
    MLflow being away: a dead server costs seconds and is told in `problem`.
    """
    latest = {identity_of(entry): entry for entry in entries if entry.get("kind") == "trial"}
    sent = failed = 0
    problem = None
    try:
        view = _View(uri, experiment, artifact_root)
        complete = view.complete()
    except _AWAY as error:
        return Synced(0, 0, len(latest), _complaint(uri, error))
    due = [entry for who, entry in latest.items() if complete.get(who) != digest_of(entry)]
    already = len(latest) - len(due)
    for position, entry in enumerate(due):
        try:
            done_now = view.finish(entry)
        except _AWAY as error:
            if not _is_refusal(error):
                return Synced(sent, already, failed + len(due) - position, _complaint(uri, error))
            problem = _complaint(uri, error, f"trial {entry.get('trial')}")
            failed += 1
        else:
            sent, already = sent + done_now, already + (not done_now)
    return Synced(sent, already, failed, problem)


def runs_page(uri: str, experiment: str) -> str:
    """How to look at the runs: the commands, or the page where `uri` is a server with an answer."""
    if _database_path(uri) is not None:
        return f"in a browser: mlflow ui --backend-store-uri {uri}, then experiment {experiment}"
    try:
        found = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    except _AWAY:
        found = None
    return f"in a browser: {uri}/#/experiments/{found.experiment_id}/runs" if found else f"in a browser: {uri}"


class _View:
    """One experiment in MLflow; every method may raise `_AWAY`."""

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None) -> None:
        _prepare_mlflow()
        self.uri = uri
        with _opened_alone(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment(experiment, artifact_root)
        self._runs: dict[tuple[str, str], str | None] = {}
        self._new: set[str] = set()
        self._sent: dict[str, dict[str, set[tuple[int, float]]]] = defaultdict(dict)

    def _experiment(self, name: str, artifact_root: Path | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            database = _database_path(self.uri)
            if artifact_root is None and database is not None:
                artifact_root = database.parent / "mlartifacts"
            location = None if artifact_root is None else artifact_root.absolute().as_uri()
            try:
                self.client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise MlflowException(f'experiment "{name}" is deleted there; restore it or give another name')
        return str(found.experiment_id)

    def complete(self) -> dict[tuple[str, str], str]:
        """(sweep, trial) -> digest of the entry, of every complete run."""
        found: dict[tuple[str, str], str] = {}
        token = None
        while True:
            runs = self._search("tags.complete = 'true'", token)
            for tags in (run.data.tags for run in runs):
                found[tags.get("sweep", ""), tags.get("trial", "")] = tags.get("entry", "")
            token = runs.token
            if not token:
                return found

    def _search(self, condition: str, token: str | None = None) -> Any:
        return self.client.search_runs([self.experiment_id], condition, ViewType.ALL, page_token=token)

    def _find(self, sweep: str, trial: str) -> Any:
        """The trial's run, or None. Were there two, every caller would take the same one."""
        runs = [run for run in self._search(f"tags.trial = '{trial}'") if run.data.tags.get("sweep") == sweep]
        return min(runs, key=lambda run: (run.info.lifecycle_stage != "active", run.info.run_id), default=None)

    def _find_or_create(self, sweep: str, trial: str, name: str | None, started: float) -> Any:
        with _opened_alone(self.uri):
            run = self._find(sweep, trial)
            if run is None:
                tags = {"sweep": sweep, "trial": trial, "status": "running", "complete": "false"}
                run = self.client.create_run(self.experiment_id, milliseconds(started), tags, name or trial)
                self._new.add(run.info.run_id)
        return run

    def start(self, start: _Start) -> str | None:
        """Show the trial as running; its run's id, None where the user deleted the run."""
        run = self._find_or_create(start.sweep, start.trial, start.name, time.time())
        active = run.info.lifecycle_stage == "active"
        if active:
            self._describe(run, start.parameters, {**start.tags, "status": "running", "complete": "false"})
            self.client.update_run(run.info.run_id, "RUNNING", start.name)
        run_id = str(run.info.run_id) if active else None
        self._runs[start.sweep, start.trial] = run_id
        return run_id

    def progress(self, start: _Start, curves: Points) -> None:
        """Add points to a started trial's curves."""
        who = start.sweep, start.trial
        run_id = self._runs[who] if who in self._runs else self.start(start)
        if run_id is not None:
            self._send(run_id, self._unsent(run_id, curves))

    def finish(self, entry: Mapping[str, Any]) -> bool:
        """Complete the trial's run; False when it already was, or when the user deleted it."""
        sweep, trial = identity_of(entry)
        ended = float(entry.get("ended") or time.time())
        run = self._find_or_create(sweep, trial, entry.get("name"), float(entry.get("started") or ended))
        digest, known = digest_of(entry), run.data.tags
        if run.info.lifecycle_stage != "active" or (known.get("complete"), known.get("entry")) == ("true", digest):
            return False
        run_id = run.info.run_id
        parameters = {**flat(entry.get("config") or {}), **(entry.get("parameters") or {})}
        self._describe(run, parameters, tags_of(entry))
        curves = entry.get("curves") or {}
        self._send(run_id, self._unsent(run_id, curves))
        self._send(run_id, [Metric(*result) for result in results_of(entry.get("metrics") or {}, curves, ended)])
        for path in files_of(entry):
            self.client.log_artifact(run_id, str(path))
        if entry.get("name"):
            self.client.update_run(run_id, name=entry["name"])
        self.client.set_terminated(run_id, RUN_STATUS.get(entry.get("status", ""), "FINISHED"), milliseconds(ended))
        # Last, so that a run cut short anywhere above is sent again.
        self.client.log_batch(run_id, tags=[RunTag("entry", digest), RunTag("complete", "true")])
        self._sent.pop(run_id, None)
        return True

    def _describe(self, run: Any, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Set tags, and the parameters that the run has not yet: MLflow refuses to change one."""
        for name in _PASSING_TAGS.intersection(run.data.tags) - tags.keys():
            self.client.delete_tag(run.info.run_id, name)
        missing = {
            key_of(name): text_of(value) for name, value in parameters.items() if key_of(name) not in run.data.params
        }
        parts = [Param(name, value) for name, value in missing.items()]
        labels = [RunTag(key_of(name), str(value)[:VALUE_CHARACTERS]) for name, value in tags.items()]
        self.client.log_batch(run.info.run_id, params=parts[:_BATCH_PARAMS], tags=labels)
        for begin in range(_BATCH_PARAMS, len(parts), _BATCH_PARAMS):
            self.client.log_batch(run.info.run_id, params=parts[begin : begin + _BATCH_PARAMS])

    def _unsent(self, run_id: str, curves: Points) -> list[Metric]:
        """The points that the run does not hold: a resumed trial passes steps again, at other times."""
        metrics: list[Any] = []
        for name, points in curves.items():
            key = key_of(name)
            sent = self._sent[run_id].get(key)
            if sent is None:
                history = [] if run_id in self._new else self.client.get_metric_history(run_id, key)
                sent = self._sent[run_id][key] = {(metric.step, metric.value) for metric in history}
            for step, when, value in points:
                if math.isfinite(value) and (int(step), float(value)) not in sent:
                    sent.add((int(step), float(value)))
                    metrics.append(Metric(key, float(value), milliseconds(when), int(step)))
        return metrics

    def _send(self, run_id: str, metrics: list[Metric]) -> None:
        for begin in range(0, len(metrics), _BATCH_METRICS):
            self.client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH_METRICS])


def _database_path(uri: str) -> Path | None:
    """The file of an sqlite address, else None."""
    return Path(make_url(uri).database or "mlflow.db") if uri.startswith("sqlite:") else None


@contextlib.contextmanager
def _opened_alone(uri: str) -> Iterator[None]:
    """Keep other threads, and for sqlite other processes, from making the same table, experiment or run.

    Two processes that make the tables of one new sqlite file at once break it.
    """
    with _opening, contextlib.ExitStack() as stack:
        database = _database_path(uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(database.with_name(database.name + ".lock")))
        yield


def _prepare_mlflow() -> None:
    """Short waits, no chatter, no reports to MLflow's makers; a user's own MLFLOW_ settings stand."""
    for setting, value in (
        (mlflow_settings.MLFLOW_HTTP_REQUEST_TIMEOUT, 10),
        (mlflow_settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1),
        (mlflow_settings.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, "true"),
        (mlflow_settings.MLFLOW_DISABLE_TELEMETRY, "true"),
    ):
        if not setting.is_set():
            setting.set(value)
    if mlflow_settings.MLFLOW_DISABLE_TELEMETRY.get():
        set_telemetry_client()
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def _complaint(uri: str, error: Exception, what: str | None = None) -> str:
    """One line for the user, without a password that `uri` may hold."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    told = cause if isinstance(cause, (OSError, sqlite3.Error)) else error
    reason = (str(told).strip() or type(told).__name__).splitlines()[0][:200]
    fault = "does not answer" if what is None else f"refused {what}"
    line = f"MLflow at {uri} {fault} ({reason}); the runs are kept in the ledger and sent at the next start"
    return re.sub(r"//[^/@\s]*@", "//***@", line)
