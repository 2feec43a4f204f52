"""MLflow as a view of the ledger: one run for each trial, seed studies as parents of their trials.

The `Tracker` shows running trials from its own thread, `sync` sends whatever of the ledger is not complete there. No
number is ever read back from MLflow, and MLflow being slow, away or broken must never stop or slow a trial: what was
not sent stays in the ledger.
"""

import functools
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf.cli.terminal import python_line
from tune.records.entries import Objective, Record, TrialEntry, VerdictEntry
from tune.records.layout import Storage
from tune.records.redaction import redact
from tune.search.space import Trial
from tune.tracking.connection import MLFLOW_ERRORS, connect, database_path, is_refusal, problem_line
from tune.tracking.connection import default_uri as default_uri
from tune.tracking.experiment import Experiment, TrialStart
from tune.tracking.run_fields import digest_of, identity_of
from tune.tracking.study_run import study_names
from tune.tracking.views import runs_url

_WAITING_POINTS = 50_000
"""Most live points that wait; later ones come with the finished entry's curves."""


@dataclass(frozen=True)
class SyncResult:
    """How much of the ledger MLflow holds."""

    sent: int
    """Runs made complete now."""
    already: int
    """Runs that were complete before, or that the user deleted in MLflow."""
    failed: int
    """Trials that MLflow does not hold in full; the next sync tries again."""
    problem: str | None
    """One line for the user; None when all went well."""


@dataclass(frozen=True)
class _Point:
    trial: str
    curve: str
    step: int
    time: float
    value: float


class Tracker:
    """Shows trials in MLflow while they run. Every method but `close` returns at once and never raises."""

    def __init__(
        self, uri: str, experiment: str, storage: Storage | None = None, *, retry_seconds: float = 30.0
    ) -> None:
        """Starts the thread.

        Args:
            uri: database or server.
            experiment: its name; made when missing.
            storage: where the ledger and the trials' files are (None: where an SQLite database is).
            retry_seconds: pause between attempts while MLflow does not answer.
        """
        self._open: Callable[[], Experiment] = functools.partial(Experiment, uri, experiment, storage)
        self._uri = uri
        self._retry_seconds = retry_seconds
        self._experiment: Experiment | None = None
        self._retry_at = -math.inf
        self._unreachable: str | None = None
        self._refused: str | None = None
        self._starts: dict[str, TrialStart] = {}
        self._queue: queue.SimpleQueue[TrialStart | _Point | TrialEntry | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-tracker", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """One line for the user while MLflow does not take what it is sent, else None."""
        return self._unreachable or self._refused

    def start(self, start: TrialStart) -> None:
        """Shows a trial as running, in the run it already has or in a new one."""
        self._queue.put(start)

    def add_point(self, trial: str, curve: str, step: int, time: float, value: float) -> None:
        """Adds a point to a curve of a started trial; one that is not finite is left out. Time in unix seconds."""
        if self._queue.qsize() < _WAITING_POINTS:
            self._queue.put(_Point(trial, curve, step, time, value))

    def finish(self, entry: TrialEntry) -> None:
        """Completes the run of a trial in the ledger."""
        self._queue.put(entry)

    def close(self, timeout: float) -> None:
        """Sends what waits, for at most `timeout` seconds; the rest is left to `sync`."""
        self._queue.put(None)
        self._thread.join(timeout)
        self._closed.set()
        if self._thread.is_alive():
            error = TimeoutError(f"not done after {timeout:g} s")
            self._unreachable = self._unreachable or problem_line(self._uri, error)

    def _work(self) -> None:
        waiting: dict[str, dict[str, list[Sequence[float]]]] = {}
        while not self._closed.is_set():
            item = self._queue.get()
            if isinstance(item, _Point):
                curves = waiting.setdefault(item.trial, defaultdict(list))
                curves[item.curve].append((item.step, item.time, item.value))
                if not self._queue.empty():
                    continue
            for trial in list(waiting):
                curves = waiting.pop(trial)
                if trial in self._starts:
                    self._attempt(f"points of trial {trial}", Experiment.add_points, self._starts[trial], curves)
            if item is None:
                return
            if isinstance(item, TrialStart):
                self._starts[item.trial.trial] = item
                self._attempt(f"the start of trial {item.trial.trial}", Experiment.start, item)
            elif isinstance(item, TrialEntry):
                self._starts.pop(item.trial, None)
                self._attempt(f"trial {item.trial}", Experiment.finish, item)

    def _attempt(self, what: str, act: Callable[..., object], *arguments: object) -> None:
        """Runs `act` on the experiment, opened when needed; an error is noted, not raised."""
        if self._experiment is None and time.monotonic() < self._retry_at:
            return
        try:
            if self._experiment is None:
                self._experiment = self._open()
                self._unreachable = None
            act(self._experiment, *arguments)
        except MLFLOW_ERRORS as error:
            # Opened anew, with nothing known of sent points: which of a failed call arrived is asked for then.
            self._experiment = None
            if is_refusal(error):
                self._refused = problem_line(self._uri, error, what)
            else:
                self._unreachable = problem_line(self._uri, error)
                self._retry_at = time.monotonic() + self._retry_seconds


class SweepTracker:
    """Shows one sweep's trials by a `Tracker`, as a watcher of the sweep."""

    def __init__(
        self, tracker: Tracker, sweep: str, preset: str, *, study: bool = False, objective: Objective | None = None
    ) -> None:
        """Args: study: whether the sweep is a seed study, whose trials are children of one run from the start;
        objective: what counts in place of bits per byte.
        """
        self.tracker, self.sweep, self.preset = tracker, sweep, preset
        self.is_study, self.objective = study, objective

    def started(self, trial: Trial) -> None:
        """Shows a trial that began."""
        self.tracker.start(TrialStart(self.sweep, trial, self.preset, self.is_study, self.objective))

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Shows a point of a curve."""
        self.tracker.add_point(trial.trial, curve, step, time.time(), value)

    def ended(self, entry: TrialEntry) -> None:
        """Completes the run of a trial that is in the ledger."""
        self.tracker.finish(entry)


def sync(records: Iterable[Record], uri: str, experiment: str, storage: Storage | None = None) -> SyncResult:
    """Completes the run of every trial and seed study among the ledger's records.

    The last of several entries of a trial counts. A run that is complete and lacks files of its entry gets them. The
    database and the experiment are made when missing. Never raises for MLflow: a server that does not answer costs
    seconds and is reported in `problem`.

    Args: records: of the ledger; uri: database or server; experiment: its name; storage: where the ledger and the
        trials' files are (None: where an SQLite database is).
    """
    records = list(records)
    # Trials first: a study's run takes them as its children.
    latest: dict[tuple[str, str], TrialEntry | VerdictEntry] = {
        identity_of(record): record for record in records if isinstance(record, TrialEntry)
    }
    latest |= {identity_of(record): record for record in records if isinstance(record, VerdictEntry)}
    sent = failed = 0
    problem = None
    try:
        runs = Experiment(uri, experiment, storage)
        complete = runs.complete_runs()
    except MLFLOW_ERRORS as error:
        return SyncResult(0, 0, len(latest), problem_line(uri, error))
    held = {
        who for who, run in complete.items() if who in latest and run.data.tags.get("entry") == digest_of(latest[who])
    }
    due = [entry for who, entry in latest.items() if who not in held]
    already = len(latest) - len(due)
    for position, entry in enumerate(due):
        try:
            is_new = _send(runs, entry, latest.values())
        except MLFLOW_ERRORS as error:
            if not is_refusal(error):
                return SyncResult(sent, already, failed + len(due) - position, problem_line(uri, error))
            problem = problem_line(uri, error, " ".join(("run", *identity_of(entry))).rstrip())
            failed += 1
        else:
            sent, already = sent + is_new, already + (not is_new)
    try:
        for who in held:
            if isinstance(entry := latest[who], TrialEntry):
                runs.refill(complete[who], entry)
        _show_views(runs, latest.values(), study_names(records))
    except MLFLOW_ERRORS as error:
        problem = problem or problem_line(uri, error, "the saved views or files")
    return SyncResult(sent, already, failed, problem)


def attach(uri: str, experiment: str, sweep: str, paths: Iterable[Path]) -> str | None:
    """Keeps report files with a sweep or seed study in MLflow: in a study's run, else in one named after the sweep.

    Returns: one line for the user when MLflow does not take them, else None.
    """
    try:
        Experiment(uri, experiment, None).attach(sweep, paths)
    except MLFLOW_ERRORS as error:
        return problem_line(uri, error, f"the report of {sweep}" if is_refusal(error) else None)
    return None


def runs_page(uri: str, experiment: str, sweep: str | None = None) -> str:
    """Returns how to look at the runs: the command, or the page where `uri` is a server that answers.

    Args: uri: database or server; experiment: its name; sweep: whose view to open.
    """
    if database_path(uri) is not None:
        view = f", Views, {sweep}" if sweep else ""
        return f"in a browser: {ui_line(uri)}\n  then experiment {experiment}{view}"
    try:
        stored = connect(uri).get_experiment_by_name(experiment)
    except MLFLOW_ERRORS:
        stored = None
    return redact(f"in a browser: {runs_url(uri, stored.experiment_id, sweep) if stored else uri}", uri)


def ui_line(uri: str) -> str:
    """Returns the command that shows a database in a browser."""
    return python_line("mlflow", "ui", "--backend-store-uri", uri)


def _send(runs: Experiment, entry: TrialEntry | VerdictEntry, latest: Iterable[TrialEntry | VerdictEntry]) -> bool:
    if isinstance(entry, TrialEntry):
        return runs.finish(entry)
    trials = [trial for trial in latest if isinstance(trial, TrialEntry) and trial.sweep == entry.study]
    return runs.finish_study(entry, trials)


def _show_views(runs: Experiment, latest: Iterable[TrialEntry | VerdictEntry], studies: set[str]) -> None:
    """Keeps a view of every sweep, with the fields that its trials varied as columns."""
    searched: dict[str, dict[str, None]] = {}
    for entry in latest:
        parameters = entry.parameters if isinstance(entry, TrialEntry) else {}
        searched.setdefault(identity_of(entry)[0], {}).update(dict.fromkeys(parameters))
    for sweep, names in searched.items():
        runs.show_view(sweep, names, sweep in studies)
