"""MLflow as a view of the ledger: a run per trial, seed studies as parents of their trials.

Ledger entries and live curve points enter; what leaves goes to an MLflow database or server. The `Tracker` shows
running trials from its own thread, `sync` sends whatever of the ledger is not complete there. No number is ever read
back from MLflow, and MLflow being slow, away or broken must never stop or slow a trial: what was not sent stays in the
ledger.
"""

import functools
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.cli.terminal import python_line
from golf.config.config import to_plain
from tune.records.layout import Storage
from tune.records.redaction import redact
from tune.records.text import flat
from tune.search.space import Trial
from tune.study.verdict import VERDICT
from tune.tracking.connection import AWAY, complaint, connect, database_path, is_refusal
from tune.tracking.connection import default_uri as default_uri
from tune.tracking.experiment import Experiment, Start
from tune.tracking.run_fields import digest_of, identity_of
from tune.tracking.study_run import studies_in
from tune.tracking.views import runs_url
from tune.workloads.gepa.outcome import CURVES

_WAITING_POINTS = 50_000
"""Live points that wait at most; later ones are left to the finished entry's curves."""


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
class _Progress:
    trial: str
    metrics: Mapping[str, float]
    step: int
    time: float


class Tracker:
    """Shows trials in MLflow while they run. Every method but `close` returns at once and never raises."""

    def __init__(
        self, uri: str, experiment: str, storage: Storage | None = None, *, retry_seconds: float = 30.0
    ) -> None:
        """Args: uri: database or server; experiment: its name, made when missing; storage: where the entries' files
        lie (None: where an sqlite database lies); retry_seconds: pause between attempts while MLflow is away.
        """
        self._open: Callable[[], Experiment] = functools.partial(Experiment, uri, experiment, storage)
        self._uri = uri
        self._retry_seconds = retry_seconds
        self._experiment: Experiment | None = None
        self._retry_at = -math.inf
        self._away: str | None = None
        self._refused: str | None = None
        self._starts: dict[str, Start] = {}
        self._queue: queue.SimpleQueue[Start | _Progress | Mapping[str, Any] | None] = queue.SimpleQueue()
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
        self._queue.put(Start(sweep, trial, name, dict(parameters), dict(tags)))

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
            self._away = self._away or complaint(self._uri, TimeoutError(f"not done after {timeout:g} s"))

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
                    self._attempt(f"points of trial {trial}", Experiment.progress, self._starts[trial], curves)
            if item is None:
                return
            if isinstance(item, Start):
                self._starts[item.trial] = item
                self._attempt(f"the start of trial {item.trial}", Experiment.start, item)
            elif isinstance(item, Mapping):
                self._starts.pop(str(item.get("trial")), None)
                self._attempt(f"trial {item.get('trial')}", Experiment.finish, item)

    def _attempt(self, what: str, act: Callable[..., object], *arguments: object) -> None:
        """Run `act` on the experiment, opened when needed; note the problem instead of raising."""
        if self._experiment is None and time.monotonic() < self._retry_at:
            return
        try:
            if self._experiment is None:
                self._experiment = self._open()
                self._away = None
            act(self._experiment, *arguments)
        except AWAY as error:
            # Forgotten with all it knew of sent points: what arrived of a failed call is asked for on return.
            self._experiment = None
            if is_refusal(error):
                self._refused = complaint(self._uri, error, what)
            else:
                self._away = complaint(self._uri, error)
                self._retry_at = time.monotonic() + self._retry_seconds


class SweepTracker:
    """Shows one sweep's trials by a `Tracker`, from the events of the sweep."""

    def __init__(self, tracker: Tracker, sweep: str, preset: str, *, study: bool = False) -> None:
        """Args: study: whether the sweep is a seed study, whose trials are children of one run from the start."""
        self.tracker, self.sweep = tracker, sweep
        self.tags = {"preset": preset, **({"study": sweep} if study else {})}

    def started(self, trial: Trial) -> None:
        """A trial began."""
        parameters = flat(to_plain(trial.config)) | dict(trial.parameters)
        tags = self.tags | {"searched": ", ".join(trial.parameters)}
        self.tracker.start_trial(self.sweep, trial.trial, parameters, tags, trial.name)

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point; chunk by chunk figures below TTT are no curves of training."""
        if curve in CURVES:
            self.tracker.progress(trial.trial, {curve: value}, step, time.time())

    def ended(self, entry: Mapping[str, Any]) -> None:
        """A trial's entry is in the ledger."""
        self.tracker.finish(entry)


def sync(entries: Iterable[Mapping[str, Any]], uri: str, experiment: str, storage: Storage | None = None) -> Synced:
    """Complete the run of every trial and seed study in the ledger's `entries`; of several of one the last counts.

    A run that is complete and lacks files of its entry gets them. Args: storage: where these lie (None: where an
    sqlite database lies).

    It also makes the database and the experiment, so that a sweep calls it once before anything else. Never raises for
    MLflow being away: a dead server costs seconds and is told in `problem`.
    """
    entries = list(entries)
    # Trials first: a study's run takes them as its children.
    latest = {
        identity_of(entry): entry for kind in ("trial", VERDICT) for entry in entries if entry.get("kind") == kind
    }
    sent = failed = 0
    problem = None
    try:
        runs = Experiment(uri, experiment, storage)
        complete = runs.complete()
    except AWAY as error:
        return Synced(0, 0, len(latest), complaint(uri, error))
    held = {who for who, run in complete.items() if who in latest and _holds(run, latest[who])}
    due = [entry for who, entry in latest.items() if who not in held]
    already = len(latest) - len(due)
    for position, entry in enumerate(due):
        try:
            done_now = _send(runs, entry, latest.values())
        except AWAY as error:
            if not is_refusal(error):
                return Synced(sent, already, failed + len(due) - position, complaint(uri, error))
            problem = complaint(uri, error, " ".join(("run", *identity_of(entry))).rstrip())
            failed += 1
        else:
            sent, already = sent + done_now, already + (not done_now)
    try:
        for who in held:
            runs.refill(complete[who], latest[who])
        _show(runs, latest.values(), studies_in(entries))
    except AWAY as error:
        problem = problem or complaint(uri, error, "the saved views or files")
    return Synced(sent, already, failed, problem)


def attach(uri: str, experiment: str, sweep: str, paths: Iterable[Path]) -> str | None:
    """Keep report files with a sweep or seed study in MLflow: in a study's run, else in one named after the sweep.

    Returns: one line for the user when MLflow does not take them, else None.
    """
    try:
        Experiment(uri, experiment, None).attach(sweep, paths)
    except AWAY as error:
        return complaint(uri, error, f"the report of {sweep}" if is_refusal(error) else None)
    return None


def runs_page(uri: str, experiment: str, sweep: str | None = None) -> str:
    """How to look at the runs: the commands, or the page where `uri` is a server with an answer.

    Args: sweep: whose view to open.
    """
    if database_path(uri) is not None:
        view = f", Views, {sweep}" if sweep else ""
        return f"in a browser: {ui_line(uri)}\n  then experiment {experiment}{view}"
    try:
        found = connect(uri).get_experiment_by_name(experiment)
    except AWAY:
        found = None
    return redact(f"in a browser: {runs_url(uri, found.experiment_id, sweep) if found else uri}", uri)


def ui_line(uri: str) -> str:
    """The command that shows a database in a browser."""
    return python_line("mlflow", "ui", "--backend-store-uri", uri)


def _holds(run: Any, entry: Mapping[str, Any]) -> bool:
    """Whether a complete run is that of the entry."""
    return bool(run.data.tags.get("entry", "") == digest_of(entry))


def _send(runs: Experiment, entry: Mapping[str, Any], latest: Iterable[Mapping[str, Any]]) -> bool:
    if entry["kind"] != VERDICT:
        return runs.finish(entry)
    study = entry.get("study")
    return runs.judge(entry, [trial for trial in latest if trial["kind"] == "trial" and trial.get("sweep") == study])


def _show(runs: Experiment, latest: Iterable[Mapping[str, Any]], studies: set[str]) -> None:
    """A view for every sweep, with the fields that its trials varied."""
    searched: dict[str, dict[str, None]] = {}
    for entry in latest:
        searched.setdefault(identity_of(entry)[0], {}).update(dict.fromkeys(entry.get("parameters") or ()))
    for sweep, names in searched.items():
        runs.show(sweep, names, sweep in studies)
