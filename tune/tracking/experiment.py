"""One experiment in MLflow: trials, seed studies and sweeps become runs, completed and linked.

Every method may raise what `tune.tracking.connection.MLFLOW_ERRORS` names.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from tune.records.entries import Objective, Series, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.redaction import redact
from tune.search.space import Trial
from tune.tracking.addresses import database_path
from tune.tracking.connection import artifact_root, connect, exclusive_access, local_folder, relocate_files
from tune.tracking.metric_names import metric_name
from tune.tracking.registry import ARTIFACT_FILE, model_name, register_best
from tune.tracking.run_fields import (
    CONFIG,
    CURVES,
    STATUSES,
    STUDY,
    SWEEP,
    TRIAL,
    Curves,
    config_text,
    curves_of,
    describe,
    digest_of,
    files_of,
    metrics_of,
    origin_of,
    parameters_of,
    results_of,
    tags_of,
    title_of,
)
from tune.tracking.run_store import MISSING, RunStore, is_active, is_due
from tune.tracking.study_run import shared_parameters, study_metrics, study_tags, time_written
from tune.tracking.sweep_run import best_of, digest_of_sweep, sweep_metrics, sweep_tags
from tune.tracking.views import PRIMARY_METRIC, artifact_url, experiment_tags, quoted, view_tag

REPORT = "report"
"""The folder of a parent run with the report of its sweep or study."""
REPORT_PAGE = f"{REPORT}/report.html"
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class TrialStart:
    """A trial that begins."""

    sweep: str
    trial: Trial
    preset: str
    is_seed: bool = False
    """Whether `sweep` is a seed study, so that the trial is a child of the study's run."""
    objective: Objective | None = None
    """What counts in place of bits per byte."""
    workload: str = ""
    """Name of what the trial runs."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Who runs what, as in the entry that the trial will have."""


class Experiment:
    """The experiment `name`, made when missing."""

    def __init__(self, uri: str, name: str, storage: Storage | None) -> None:
        """Args: storage: with the ledger and the trials' files (None: where an SQLite database is, else nowhere)."""
        self.uri, self.name, database = uri, name, database_path(uri)
        self.storage = Storage(database.parent) if storage is None and database is not None else storage
        client = connect(uri)
        with exclusive_access(uri):
            if database is not None:
                relocate_files(database, PRIMARY_METRIC)
            self.runs = RunStore(uri, client, _find_or_create_experiment(client, name, database))
        self._run_ids: dict[tuple[str, str], str | None] = {}
        self._begun: set[str] = set()
        self._parents: dict[str, str | None] = {}

    def complete_runs(self) -> dict[tuple[str, str], Any]:
        """Returns (sweep, trial) -> run, of every complete run; its tag `entry` is the digest of its entry."""
        runs = self.runs.search("tags.complete = 'true'")
        return {(run.data.tags.get("sweep", ""), run.data.tags.get("trial", "")): run for run in runs}

    def show_view(
        self, sweep: str, searched: Iterable[str], is_study: bool, objective: Objective | None = None
    ) -> None:
        """Keeps the view of a sweep in the experiment; an equal one is not written again."""
        key, value = view_tag(sweep, list(searched), is_study, objective)
        for last in (False, True):
            if self.runs.client.get_experiment(self.runs.experiment_id).tags.get(key) == value:
                return
            try:
                self.runs.client.set_experiment_tag(self.runs.experiment_id, key, value)
            except MlflowException:  # of two programs that write a tag for the first time, databases refuse one
                if last:
                    raise

    def start(self, start: TrialStart) -> str | None:
        """Shows a trial as running. Returns its run's id; None where the user deleted the run."""
        sweep, trial = start.sweep, start.trial
        parent = self._parent(sweep, STUDY if start.is_seed else SWEEP, time.time())
        if sweep not in self._begun:
            self._begun.add(sweep)
            self.show_view(sweep, trial.parameters, start.is_seed, start.objective)
            self._begin(parent, start)
        title = title_of(trial.name, trial.trial, sweep if start.is_seed else None)
        tags = {
            **origin_of(start.tags),
            "preset": start.preset,
            "searched": ", ".join(trial.parameters),
            "state": "running",
            "complete": "false",
            **({STUDY: sweep} if start.is_seed else {}),
            **({} if parent is None else {_PARENT: parent}),
        }
        run = self.runs.find_or_create(sweep, TRIAL, title, time.time(), trial.trial)
        run_id = str(run.info.run_id) if is_active(run) else None
        if run_id is not None:
            self.runs.describe(run, parameters_of(trial, start.preset, start.workload), tags)
            self.runs.client.log_text(run_id, config_text(trial.config), CONFIG)
            self.runs.client.update_run(run_id, "RUNNING", title)
        self._run_ids[sweep, trial.trial] = run_id
        return run_id

    def _begin(self, parent: str | None, start: TrialStart) -> None:
        """Shows the parent of a trial as running."""
        if parent is not None:
            tags = {**origin_of(start.tags), "preset": start.preset, "state": "running", "complete": "false"}
            self.runs.client.log_batch(parent, tags=[RunTag(name, redact(value)) for name, value in tags.items()])
            self.runs.client.update_run(parent, "RUNNING")

    def add_points(self, start: TrialStart, curves: Curves) -> None:
        """Adds points to the curves of a trial that was started."""
        identity = start.sweep, start.trial.trial
        run_id = self._run_ids[identity] if identity in self._run_ids else self.start(start)
        if run_id is not None:
            named = {metric_name(name): points for name, points in curves.items()}
            self.runs.send(run_id, self.runs.unsent(run_id, named))

    def finish(self, entry: TrialEntry) -> bool:
        """Completes a trial's run. Returns False when it already was, or when the user deleted it."""
        title, digest = title_of(entry.name, entry.trial, entry.tags.get(STUDY)), digest_of(entry)
        parent = self._parent(entry.sweep, STUDY if STUDY in entry.tags else SWEEP, entry.started)
        run = self.runs.find_or_create(entry.sweep, TRIAL, title, entry.started, entry.trial)
        if not is_due(run, digest):
            return False
        run_id, series = run.info.run_id, self._series(entry)
        curves = curves_of(entry, series or Series())
        paths, missing = files_of(entry, self.storage)
        missing += [CURVES] if series is None else []
        tags = tags_of(entry) | ({MISSING: ", ".join(missing)} if missing else {})
        tags |= {} if parent is None else {_PARENT: parent}
        self.runs.describe(run, parameters_of(entry, entry.preset, entry.workload), tags)
        self.runs.send(run_id, [Metric(*result) for result in results_of(metrics_of(entry), curves, entry.ended)])
        self.runs.send(run_id, self.runs.unsent(run_id, curves))
        self.runs.log_dataset(run_id, entry)
        self._log_files(run_id, entry, paths)
        self.runs.complete(run_id, digest, title, STATUSES[entry.state], entry.ended)
        self.runs.sent.pop(run_id, None)
        return True

    def _log_files(self, run_id: str, entry: TrialEntry, paths: Iterable[Path], there: Path | None = None) -> None:
        """Keeps files and the configuration with a run. Args: there: the folder of those that it has already."""

        def is_there(name: str) -> bool:
            return there is not None and (there / name).is_file()

        for path in paths:
            if path.name != CONFIG and not is_there(path.name):
                self.runs.client.log_artifact(run_id, str(path))
        if not is_there(CONFIG):
            self.runs.client.log_text(run_id, config_text(entry.config), CONFIG)

    def refill(self, run: Any, entry: TrialEntry) -> None:
        """Sends the files that a complete run lacks: they were not there, or its storage was fetched without them."""
        folder, missing = local_folder(run.info.artifact_uri), run.data.tags.get(MISSING, "")
        if not is_active(run) or (folder is None and not missing):
            return
        paths, still_missing = files_of(entry, self.storage)
        self._log_files(run.info.run_id, entry, paths, folder)
        series = self._series(entry) if CURVES in missing.split(", ") else Series()
        still_missing += [CURVES] if series is None else []
        if series:
            self.runs.send(run.info.run_id, self.runs.unsent(run.info.run_id, curves_of(entry, series)))
        if missing and not still_missing:
            self.runs.client.delete_tag(run.info.run_id, MISSING)

    def finish_study(self, entry: VerdictEntry, trials: Sequence[TrialEntry]) -> bool:
        """Completes the run of a seed study and makes the study's trials its children.

        Args: entry: the verdict on the study; trials: the study's, for what their configurations share.
        Returns: False when it already was, or when the user deleted it.
        """
        study, digest = entry.study, digest_of(entry)
        started = min((trial.started for trial in trials), default=time.time())
        ended = max((trial.ended for trial in trials), default=started)
        run = self.runs.find_or_create(study, STUDY, study, started)
        if not is_due(run, digest):
            return False
        run_id = run.info.run_id
        self.runs.describe(run, shared_parameters(trials), study_tags(entry, trials))
        # A later verdict has a later time.
        self.runs.summarise(run, study_metrics(entry.verdict), time_written(entry) or ended)
        if trials:
            self.runs.log_dataset(run_id, trials[-1])
        for child in self.runs.search(f"tags.sweep = {quoted(study)}"):
            if child.data.tags.get("kind") == TRIAL and child.data.tags.get(STUDY) != study:
                self.runs.client.log_batch(child.info.run_id, tags=[RunTag(_PARENT, run_id), RunTag(STUDY, study)])
        self.runs.complete(run_id, digest, study, "FINISHED", ended)
        return True

    def finish_sweep(self, sweep: str, trials: Sequence[TrialEntry]) -> None:
        """Completes the run of a sweep, the parent of its trials, and registers its best model.

        Args: trials: the last entries of all its trials.
        """
        run = self.runs.find_or_create(sweep, SWEEP, sweep, min(trial.started for trial in trials))
        digest = digest_of_sweep(trials)
        if not is_due(run, digest):
            return
        ended, best = max(trial.ended for trial in trials), best_of(trials)
        model = None if best is None else self._register(sweep, best)
        report = artifact_url("", self.runs.experiment_id, run.info.run_id, REPORT_PAGE).lstrip("/")
        searched = {name for trial in trials for name in trial.parameters}
        shared = {name: value for name, value in shared_parameters(trials).items() if name not in searched}
        self.runs.describe(run, shared, sweep_tags(trials, best, model, report))
        self.runs.summarise(run, sweep_metrics(trials, best), max(time_written(trial) or ended for trial in trials))
        self.runs.log_dataset(run.info.run_id, trials[-1])
        has_result = any(trial.state != TrialState.FAILED for trial in trials)
        self.runs.complete(run.info.run_id, digest, sweep, "FINISHED" if has_result else "FAILED", ended)

    def _register(self, sweep: str, best: TrialEntry) -> str | None:
        """Has the model registry name the best artifact, where its file is there. Returns: the model's name."""
        paths = {} if self.storage is None else self.storage.files(best)
        run = self.runs.find(best.sweep, TRIAL, best.trial)
        if ARTIFACT_FILE not in paths or not paths[ARTIFACT_FILE].is_file() or run is None or not is_active(run):
            return None
        name = model_name(self.name, sweep)
        with exclusive_access(self.uri):
            register_best(self.runs.client, name, run, paths[ARTIFACT_FILE].name, describe(best))
        return name

    def attach(self, sweep: str, paths: Iterable[Path], is_study: bool) -> None:
        """Keeps files in the folder `report` of the run of a sweep or study."""
        parent = self._parent(sweep, STUDY if is_study else SWEEP, time.time())
        for path in () if parent is None else paths:
            self.runs.client.log_artifact(parent, str(path), REPORT)
        if parent in self.runs.new:
            self.runs.client.set_terminated(parent)

    def _series(self, entry: TrialEntry) -> Series | None:
        """Returns the trial's curves; None where their file is missing or damaged."""
        if self.storage is None:
            return None if entry.series else Series()
        try:
            return Ledger(self.storage.ledger).series(entry)
        except (OSError, ValueError):
            return None

    def _parent(self, sweep: str, kind: str, started: float) -> str | None:
        """Returns the id of the run of a sweep or study, made when missing; None where the user deleted it."""
        if sweep not in self._parents:
            run = self.runs.find_or_create(sweep, kind, sweep, started)
            self._parents[sweep] = str(run.info.run_id) if is_active(run) else None
        return self._parents[sweep]


def _find_or_create_experiment(client: Any, name: str, database: Path | None) -> str:
    """Returns the id of an experiment. Args: database: where MLflow is a file."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None if database is None else artifact_root(database)  # else where the server says
        try:
            client.create_experiment(name, artifact_location=location, tags=experiment_tags())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise MlflowException(f'experiment "{name}" is deleted there; restore it or give another name')
    return str(experiment.experiment_id)
