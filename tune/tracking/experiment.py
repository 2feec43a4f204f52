"""One experiment in MLflow: its runs of trials and seed studies are found or made, filled and linked.

Runs are found by their tags `sweep` and `trial`, never by a remembered id, so that another process or another day finds
the same ones. No number is ever read back. Every method may raise what `tune.tracking.connection.MLFLOW_ERRORS` names.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from tune.records.entries import Objective, Series, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.records.redaction import redact
from tune.search.space import Point, Trial
from tune.tracking.connection import (
    artifact_root,
    connect,
    database_path,
    exclusive_access,
    local_folder,
    relocate_files,
)
from tune.tracking.run_fields import (
    CURVES,
    NOTE,
    STUDY,
    TRIAL,
    VALUE_CHARACTERS,
    Curves,
    curves_of,
    dataset_of,
    digest_of,
    files_of,
    key_of,
    metrics_of,
    milliseconds,
    parameters_of,
    results_of,
    tags_of,
    text_of,
    title_of,
)
from tune.tracking.study_run import shared_parameters, study_metrics, study_tags, verdict_time
from tune.tracking.views import PRIMARY_METRIC, experiment_tags, quoted, view_tag

REPORT = "report"
"""Kind of a run that only carries a sweep's report, and the folder of its files."""
_REPORT_OF = "report_of"
"""Tag with the sweep's name of such a run, which has none of the tags by which trials are listed and drawn."""
_MISSING = "files_missing"
"""Tag with the names of files that were not there when the run was sent."""
_PARENT = "mlflow.parentRunId"
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100
"""MLflow's limits for one call."""
_PASSING_TAGS = frozenset({"reason", "failure", _MISSING, NOTE})
"""Tags that a later entry of the same trial may lack: they are removed then."""


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


class Experiment:
    """The experiment `name`, made when missing."""

    def __init__(self, uri: str, name: str, storage: Storage | None) -> None:
        """Args: storage: with the ledger and the trials' files (None: where an SQLite database is, else nowhere)."""
        self.uri, database = uri, database_path(uri)
        self.storage = Storage(database.parent) if storage is None and database is not None else storage
        self.client = connect(uri)
        with exclusive_access(uri):
            if database is not None:
                relocate_files(database, PRIMARY_METRIC)
            self.experiment_id = self._find_or_create_experiment(name, database)
        self._run_ids: dict[tuple[str, str], str | None] = {}
        self._new: set[str] = set()
        self._sent: dict[str, dict[str, set[tuple[int, float]]]] = defaultdict(dict)
        self._viewed: set[str] = set()

    def _find_or_create_experiment(self, name: str, database: Path | None) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = None if database is None else artifact_root(database)  # else where the server says
            try:
                self.client.create_experiment(name, artifact_location=location, tags=experiment_tags())
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self.client.get_experiment_by_name(name)
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f'experiment "{name}" is deleted there; restore it or give another name')
        return str(experiment.experiment_id)

    def complete_runs(self) -> dict[tuple[str, str], Any]:
        """Returns (sweep, trial) -> run, of every complete run; its tag `entry` is the digest of its entry."""
        runs = self._search("tags.complete = 'true'")
        return {(run.data.tags.get("sweep", ""), run.data.tags.get("trial", "")): run for run in runs}

    def show_view(
        self, sweep: str, searched: Iterable[str], is_study: bool, objective: Objective | None = None
    ) -> None:
        """Keeps the view of a sweep in the experiment; an equal one is not written again."""
        key, value = view_tag(sweep, list(searched), is_study, objective)
        for last in (False, True):
            if self.client.get_experiment(self.experiment_id).tags.get(key) == value:
                return
            try:
                self.client.set_experiment_tag(self.experiment_id, key, value)
            except MlflowException:  # of two programs that write a tag for the first time, databases refuse one
                if last:
                    raise

    def start(self, start: TrialStart) -> str | None:
        """Shows a trial as running. Returns its run's id; None where the user deleted the run."""
        sweep, trial = start.sweep, start.trial
        if sweep not in self._viewed:
            self._viewed.add(sweep)
            self.show_view(sweep, trial.parameters, start.is_seed, start.objective)
        title = title_of(trial.name, trial.trial, sweep if start.is_seed else None)
        tags = {
            "preset": start.preset,
            "searched": ", ".join(trial.parameters),
            "state": "running",
            "complete": "false",
        }
        if start.is_seed:
            study = self._find_or_create(sweep, STUDY, sweep, time.time())
            tags |= {"study": sweep} | ({_PARENT: study.info.run_id} if _is_active(study) else {})
        run = self._find_or_create(sweep, TRIAL, title, time.time(), trial.trial)
        if _is_active(run):
            self._describe(run, parameters_of(trial), tags)
            self.client.update_run(run.info.run_id, "RUNNING", title)
        run_id = str(run.info.run_id) if _is_active(run) else None
        self._run_ids[sweep, trial.trial] = run_id
        return run_id

    def add_points(self, start: TrialStart, curves: Curves) -> None:
        """Adds points to the curves of a trial that was started."""
        identity = start.sweep, start.trial.trial
        run_id = self._run_ids[identity] if identity in self._run_ids else self.start(start)
        if run_id is not None:
            self._send(run_id, self._unsent(run_id, curves))

    def finish(self, entry: TrialEntry) -> bool:
        """Completes a trial's run. Returns False when it already was, or when the user deleted it."""
        title = title_of(entry.name, entry.trial, entry.tags.get(STUDY))
        run = self._find_or_create(entry.sweep, TRIAL, title, entry.started, entry.trial)
        if not _is_due(run, entry):
            return False
        run_id, series = run.info.run_id, self._series(entry)
        curves = curves_of(entry, series or Series())
        paths, missing = files_of(entry, self.storage)
        missing += [CURVES] if series is None else []
        self._describe(run, parameters_of(entry), tags_of(entry) | ({_MISSING: ", ".join(missing)} if missing else {}))
        self._send(run_id, [Metric(*result) for result in results_of(metrics_of(entry), curves, entry.ended)])
        self._send(run_id, self._unsent(run_id, curves))
        self._log_dataset(run_id, entry)
        for path in paths:
            self.client.log_artifact(run_id, str(path))
        status = "FAILED" if entry.state == TrialState.FAILED else "FINISHED"
        self._complete(run_id, entry, title, status, entry.ended)
        self._sent.pop(run_id, None)
        return True

    def refill(self, run: Any, entry: TrialEntry) -> None:
        """Sends the files that a complete run lacks: they were not there, or its storage was fetched without them."""
        folder, missing = local_folder(run.info.artifact_uri), run.data.tags.get(_MISSING, "")
        if not _is_active(run) or (folder is None and not missing):
            return
        paths, still_missing = files_of(entry, self.storage)
        for path in paths:
            if folder is None or not (folder / path.name).is_file():
                self.client.log_artifact(run.info.run_id, str(path))
        series = self._series(entry) if CURVES in missing.split(", ") else Series()
        still_missing += [CURVES] if series is None else []
        if series:
            self._send(run.info.run_id, self._unsent(run.info.run_id, curves_of(entry, series)))
        if missing and not still_missing:
            self.client.delete_tag(run.info.run_id, _MISSING)

    def finish_study(self, entry: VerdictEntry, trials: Sequence[TrialEntry]) -> bool:
        """Completes the run of a seed study and makes the study's trials its children.

        Args: entry: the verdict on the study; trials: the study's, for what their configurations share.
        Returns: False when it already was, or when the user deleted it.
        """
        study = entry.study
        started = min((trial.started for trial in trials), default=time.time())
        ended = max((trial.ended for trial in trials), default=started)
        run = self._find_or_create(study, STUDY, study, started)
        if not _is_due(run, entry):
            return False
        run_id, metrics = run.info.run_id, study_metrics(entry.verdict)
        self._describe(run, shared_parameters(trials), study_tags(entry, trials))
        if trials:
            self._log_dataset(run_id, trials[-1])
        # A metric cannot be taken back: what this verdict does not have becomes NaN. A later verdict has a later time.
        stale = {name: math.nan for name in run.data.metrics if name not in map(key_of, metrics)}
        when = milliseconds(verdict_time(entry) or ended)
        self._send(run_id, [Metric(key_of(name), value, when, 0) for name, value in (metrics | stale).items()])
        for child in self._search(f"tags.sweep = {quoted(study)}"):
            if child.data.tags.get("kind") == TRIAL and child.data.tags.get(_PARENT) != run_id:
                self.client.log_batch(child.info.run_id, tags=[RunTag(_PARENT, run_id), RunTag(STUDY, study)])
        self._complete(run_id, entry, study, "FINISHED", ended)
        return True

    def attach(self, sweep: str, paths: Iterable[Path]) -> None:
        """Keeps files in the folder `report` of a study's run, or of a run that only carries a sweep's report."""
        run = self._find(sweep, STUDY) or self._report_run(sweep)
        for path in paths:
            self.client.log_artifact(run.info.run_id, str(path), REPORT)
        if run.info.status == "RUNNING" and run.data.tags.get("kind") == REPORT:
            self.client.set_terminated(run.info.run_id)

    def _report_run(self, sweep: str) -> Any:
        """Returns the run that carries a sweep's report; the view, a filter by the tag `sweep`, leaves it out."""
        with exclusive_access(self.uri):
            runs = [run for run in self._search(f"tags.kind = '{REPORT}'") if run.data.tags.get(_REPORT_OF) == sweep]
            if runs:
                return min(runs, key=_preference)
            tags = {"kind": REPORT, _REPORT_OF: sweep, "state": TrialState.DONE.value, NOTE: f"Report on {sweep}"}
            return self.client.create_run(self.experiment_id, milliseconds(time.time()), tags, report_run(sweep))

    def _series(self, entry: TrialEntry) -> Series | None:
        """Returns the trial's curves; None where their file is missing or damaged."""
        if self.storage is None:
            return None if entry.series else Series()
        try:
            return Ledger(self.storage.ledger).series(entry)
        except (OSError, ValueError):
            return None

    def _find_or_create(self, sweep: str, kind: str, name: str, started: float, trial: str | None = None) -> Any:
        with exclusive_access(self.uri):
            run = self._find(sweep, kind, trial)
            if run is None:
                own = {STUDY: sweep} if trial is None else {"trial": trial}
                tags = {"sweep": sweep, "kind": kind, "state": "running", "complete": "false", **own}
                run = self.client.create_run(self.experiment_id, milliseconds(started), tags, name)
                self._new.add(run.info.run_id)
        return run

    def _find(self, sweep: str, kind: str, trial: str | None = None) -> Any:
        """Returns the run, or None. Were there two, every caller would take the same one."""
        condition = f"tags.kind = '{kind}'" if trial is None else f"tags.trial = '{trial}'"
        runs = [run for run in self._search(condition) if run.data.tags.get("sweep") == sweep]
        return min(runs, key=_preference, default=None)

    def _search(self, condition: str) -> list[Any]:
        """Returns all runs that meet the condition, deleted ones too."""
        runs, page = list[Any](), None
        while page is None or page.token:
            token = None if page is None else page.token
            page = self.client.search_runs([self.experiment_id], condition, ViewType.ALL, page_token=token)
            runs += page
        return runs

    def _log_dataset(self, run_id: str, entry: TrialEntry) -> None:
        """Adds the dataset to the run; the same one again changes nothing."""
        dataset = dataset_of(entry)
        if dataset is not None:
            name, digest, source = dataset
            inputs = DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])
            self.client.log_inputs(run_id, [inputs])

    def _complete(self, run_id: str, entry: TrialEntry | VerdictEntry, name: str, status: str, ended: float) -> None:
        self.client.update_run(run_id, name=name)
        self.client.set_terminated(run_id, status, milliseconds(ended))
        # Last, so that a run cut short anywhere above is sent again.
        self.client.log_batch(run_id, tags=[RunTag("entry", digest_of(entry)), RunTag("complete", "true")])

    def _describe(self, run: Any, parameters: Point, tags: Mapping[str, str]) -> None:
        """Sets tags, and the parameters that the run has not yet: MLflow refuses to change one."""
        for name in _PASSING_TAGS.intersection(run.data.tags) - tags.keys():
            self.client.delete_tag(run.info.run_id, name)
        missing = {
            key_of(name): text_of(value) for name, value in parameters.items() if key_of(name) not in run.data.params
        }
        params = [Param(name, value) for name, value in missing.items()]
        labels = [RunTag(key_of(name), redact(value)[:VALUE_CHARACTERS]) for name, value in tags.items()]
        self.client.log_batch(run.info.run_id, params=params[:_BATCH_PARAMS], tags=labels)
        for begin in range(_BATCH_PARAMS, len(params), _BATCH_PARAMS):
            self.client.log_batch(run.info.run_id, params=params[begin : begin + _BATCH_PARAMS])

    def _unsent(self, run_id: str, curves: Curves) -> list[Metric]:
        """Returns the points that the run does not hold: a resumed trial passes steps again, at other times."""
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


def report_run(sweep: str) -> str:
    """Returns the name of the run that carries the report of a sweep, which has no run of its own."""
    return f"{sweep}: report"


def _is_active(run: Any) -> bool:
    """Whether the user did not delete the run."""
    return bool(run.info.lifecycle_stage == "active")


def _preference(run: Any) -> tuple[bool, str]:
    """Sort key by which one of several equal runs is taken."""
    return not _is_active(run), run.info.run_id


def _is_due(run: Any, entry: TrialEntry | VerdictEntry) -> bool:
    """Whether the run is there and does not hold the entry yet."""
    known = run.data.tags
    return _is_active(run) and (known.get("complete"), known.get("entry")) != ("true", digest_of(entry))
