"""MLflow as a view of the ledger: one run for each trial, sweeps and seed studies as parents of their trials.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tune.records.entries import Objective, Record, TrialEntry, VerdictEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.redaction import redact
from tune.search.space import Trial
from tune.tracking.addresses import database_page, database_path
from tune.tracking.connection import MLFLOW_ERRORS, connect, is_refusal, problem_line
from tune.tracking.experiment import REPORT, REPORT_PAGE, Experiment, TrialStart
from tune.tracking.metric_names import PROGRESS
from tune.tracking.run_fields import STUDY, digest_of, identity_of
from tune.tracking.study_run import study_names
from tune.tracking.system_metrics import log_system_metrics
from tune.tracking.views import artifact_url, quoted, runs_url

_WAITING_POINTS = 50_000
"""Most live points that wait; later ones come with the finished entry's curves."""


@dataclass(frozen=True)
class SyncResult:
    """How much of the ledger MLflow holds."""

    sent: int
    """Runs of trials and seed studies made complete now."""
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
        self,
        uri: str,
        experiment: str,
        storage: Storage | None = None,
        *,
        retry_seconds: float = 30.0,
        system_metrics: bool = False,
    ) -> None:
        """Starts the thread.

        Args:
            uri: database or server.
            experiment: its name; made when missing.
            storage: where the ledger and the trials' files are (None: where an SQLite database is).
            retry_seconds: pause between attempts while MLflow does not answer.
            system_metrics: whether MLflow logs the load of this machine with every trial that runs.
        """
        self._open: Callable[[], Experiment] = functools.partial(Experiment, uri, experiment, storage)
        self._uri = uri
        self._retry_seconds = retry_seconds
        self._experiment: Experiment | None = None
        self._retry_at = -math.inf
        self._unreachable: str | None = None
        self._refused: str | None = None
        self._starts: dict[str, TrialStart] = {}
        self._system_metrics = system_metrics
        self._monitored: set[str] = set()
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
                run_id = self._attempt(f"the start of trial {item.trial.trial}", Experiment.start, item)
                if self._system_metrics and isinstance(run_id, str) and run_id not in self._monitored:
                    self._monitored.add(run_id)
                    log_system_metrics(self._uri, run_id)
            elif isinstance(item, TrialEntry):
                self._starts.pop(item.trial, None)
                self._attempt(f"trial {item.trial}", Experiment.finish, item)

    def _attempt(self, what: str, act: Callable[..., object], *arguments: object) -> object:
        """Runs `act` on the experiment, opened when needed; an error is noted, not raised.

        Returns: what it returns; None after an error.
        """
        if self._experiment is None and time.monotonic() < self._retry_at:
            return None
        try:
            if self._experiment is None:
                self._experiment = self._open()
                self._unreachable = None
            return act(self._experiment, *arguments)
        except MLFLOW_ERRORS as error:
            # Opened anew, with nothing known of sent points: which of a failed call arrived is asked for then.
            self._experiment = None
            if is_refusal(error):
                self._refused = problem_line(self._uri, error, what)
            else:
                self._unreachable = problem_line(self._uri, error)
                self._retry_at = time.monotonic() + self._retry_seconds
            return None


@dataclass(frozen=True, kw_only=True)
class SweepTracker:
    """Shows one sweep's trials by a `Tracker`, as a watcher of the sweep."""

    tracker: Tracker
    sweep: str
    preset: str
    workload: str = ""
    """Name of what the trials run."""
    is_study: bool = False
    """Whether the sweep is a seed study."""
    objective: Objective | None = None
    """What counts in place of bits per byte."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Who runs what, as in the trials' entries."""

    def started(self, trial: Trial) -> None:
        """Shows a trial that began."""
        self.tracker.start(
            TrialStart(self.sweep, trial, self.preset, self.is_study, self.objective, self.workload, self.tags)
        )

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Shows a point of a curve that the ledger will have, too."""
        if curve not in PROGRESS:
            self.tracker.add_point(trial.trial, curve, step, time.time(), value)

    def ended(self, entry: TrialEntry) -> None:
        """Completes the run of a trial that is in the ledger."""
        self.tracker.finish(entry)


def sync(records: Iterable[Record], uri: str, experiment: str, storage: Storage | None = None) -> SyncResult:
    """Completes the run of every trial, sweep and seed study among the ledger's records.

    The last of several entries of a trial counts. A run that is complete and lacks files of its entry gets them. The
    database and the experiment are made when missing. Never raises for MLflow: a server that does not answer costs
    seconds and is reported in `problem`.

    Args: records: of the ledger, all of each sweep; uri: database or server; experiment: its name; storage: where the
        ledger and the trials' files are (None: where an SQLite database is).
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
        studies = study_names(records)
        for sweep, trials in _by_sweep(latest.values()).items():
            is_study = sweep in studies or any(STUDY in trial.tags for trial in trials)
            if trials and not is_study:
                runs.finish_sweep(sweep, trials)
            _show_view(runs, sweep, trials, is_study)
    except MLFLOW_ERRORS as error:
        problem = problem or problem_line(uri, error, "the runs of sweeps, saved views or files")
    return SyncResult(sent, already, failed, problem)


def send(name: str, uri: str, experiment: str, storage: Storage) -> SyncResult:
    """Completes the runs of one sweep or seed study from the storage's ledger; see `sync`."""
    ledger = Ledger(storage.ledger)
    return sync([*ledger.trials(name), *ledger.plans(name), *ledger.verdicts(name)], uri, experiment, storage)


def attach(uri: str, experiment: str, sweep: str, paths: Iterable[Path], is_study: bool = False) -> str | None:
    """Keeps report files in MLflow, in the run of their sweep or seed study.

    Returns: one line for the user when MLflow does not take them, else None.
    """
    try:
        Experiment(uri, experiment, None).attach(sweep, paths, is_study)
    except MLFLOW_ERRORS as error:
        return problem_line(uri, error, f"the report of {sweep}" if is_refusal(error) else None)
    return None


def runs_page(uri: str, experiment: str, sweep: str | None = None) -> str:
    """Returns how to look at the runs: the command that shows them, or the page where `uri` is a server that answers.

    Args: uri: database or server; experiment: its name; sweep: whose table to open.
    """
    database = database_path(uri)
    if database is not None:
        return database_page(uri, database, sweep)
    pages = pages_of(uri, uri, experiment, sweep)
    return redact(shown_pages(pages or [uri]), uri)


def shown_pages(pages: Sequence[str]) -> str:
    """Returns the addresses of `pages_of` as lines for a person."""
    return "\n".join(f"{what}: {page}" for what, page in zip(("in a browser", "its report"), pages, strict=False))


def pages_of(uri: str, server: str, experiment: str, sweep: str | None) -> list[str]:
    """Returns the addresses of the table of an experiment or sweep, and of the sweep's report.

    Args: uri: database or server; server: address at which its pages are; experiment: its name; sweep: whose table.
    Returns: none where MLflow does not answer or does not have the experiment, one without a report.
    """
    try:
        client = connect(uri)
        stored = client.get_experiment_by_name(experiment)
        if stored is None:
            return []
        number = stored.experiment_id
        table = runs_url(server, number, sweep)
        parent = f"tags.sweep = {quoted(sweep or '')} AND tags.kind != 'trial'"
        for run in client.search_runs([number], parent, max_results=1) if sweep else []:
            if any(file.path == REPORT_PAGE for file in client.list_artifacts(run.info.run_id, REPORT)):
                return [table, artifact_url(server, number, run.info.run_id, REPORT_PAGE)]
    except MLFLOW_ERRORS:
        return []
    return [table]


def _send(runs: Experiment, entry: TrialEntry | VerdictEntry, latest: Iterable[TrialEntry | VerdictEntry]) -> bool:
    if isinstance(entry, TrialEntry):
        return runs.finish(entry)
    trials = [trial for trial in latest if isinstance(trial, TrialEntry) and trial.sweep == entry.study]
    return runs.finish_study(entry, trials)


def _by_sweep(latest: Iterable[TrialEntry | VerdictEntry]) -> dict[str, list[TrialEntry]]:
    """Returns sweeps and studies with their trials; a study may have none."""
    trials: dict[str, list[TrialEntry]] = {}
    for entry in latest:
        trials.setdefault(identity_of(entry)[0], []).extend([entry] if isinstance(entry, TrialEntry) else [])
    return trials


def _show_view(runs: Experiment, sweep: str, trials: Sequence[TrialEntry], is_study: bool) -> None:
    """Keeps a view of a sweep, with the fields that its trials varied as columns."""
    searched = dict.fromkeys(name for trial in trials for name in trial.parameters)
    objective = next((trial.objective for trial in trials if trial.objective is not None), None)
    runs.show_view(sweep, searched, is_study, objective)
