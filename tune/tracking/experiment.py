"""One experiment in MLflow: runs of trials and of seed studies found or made, filled, linked.

Methods take entries and live points, and return whether something was sent to MLflow. Each may raise what
`tune.tracking.connection.AWAY` names. Runs are found by their tags `sweep` and `trial`, never by a remembered id, so
that another process or another day finds the same ones. No number is ever read back.
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

from tune.records.layout import Storage
from tune.records.redaction import redact
from tune.study.verdict import VERDICT
from tune.tracking.connection import (
    artifact_root,
    bring_places_home,
    connect,
    database_path,
    local_folder,
    opened_alone,
)
from tune.tracking.run_fields import (
    NOTE,
    VALUE_CHARACTERS,
    Points,
    curves_of,
    dataset_of,
    digest_of,
    files_of,
    identity_of,
    key_of,
    metrics_of,
    milliseconds,
    parameters_of,
    results_of,
    tags_of,
    text_of,
    title_of,
)
from tune.tracking.study_run import figures_of, shared_parameters, spoken_of, study_tags
from tune.tracking.views import PRIMARY_METRIC, experiment_tags, quoted, view_tag

RUN_STATUS = {"done": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
REPORT = "report"
"""Kind of a run that only carries a sweep's report, and the folder of its files."""
_REPORT_OF = "report_of"
"""Tag with the sweep's name of such a run, which has none of the tags by which trials are listed and drawn."""
_MISSING = "files_missing"
"""Tag with the names of files that were not there when the run was sent."""
_PARENT = "mlflow.parentRunId"
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100
"""MLflow's limits for one call."""
_PASSING_TAGS = frozenset({"cause", _MISSING, NOTE})
"""Tags that a later entry of the same trial may lack: they go when it comes."""


@dataclass(frozen=True)
class Start:
    """A trial that begins."""

    sweep: str
    trial: str
    name: str | None
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    """With `study`, the trial is a child of that study's run."""


class Experiment:
    """The experiment `name`, made when missing."""

    def __init__(self, uri: str, name: str, storage: Storage | None) -> None:
        """Args: storage: where the entries' files lie (None: where an sqlite database lies, else nowhere)."""
        self.uri, database = uri, database_path(uri)
        self.storage = Storage(database.parent) if storage is None and database is not None else storage
        self.client = connect(uri)
        with opened_alone(uri):
            if database is not None:
                bring_places_home(database, PRIMARY_METRIC)
            self.experiment_id = self._find_or_create_experiment(name, database)
        self._runs: dict[tuple[str, str], str | None] = {}
        self._new: set[str] = set()
        self._sent: dict[str, dict[str, set[tuple[int, float]]]] = defaultdict(dict)
        self._viewed: set[str] = set()

    def _find_or_create_experiment(self, name: str, database: Path | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = None if database is None else artifact_root(database)  # else where the server says
            try:
                self.client.create_experiment(name, artifact_location=location, tags=experiment_tags())
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise MlflowException(f'experiment "{name}" is deleted there; restore it or give another name')
        return str(found.experiment_id)

    def complete(self) -> dict[tuple[str, str], Any]:
        """(sweep, trial) -> run, of every complete run; its tag `entry` is the digest of the entry that it holds."""
        runs = self._search("tags.complete = 'true'")
        return {(run.data.tags.get("sweep", ""), run.data.tags.get("trial", "")): run for run in runs}

    def refill(self, run: Any, entry: Mapping[str, Any]) -> None:
        """Keep the files of the entry that its complete run lacks: they were not there, or the storage was fetched."""
        place, missing = local_folder(run.info.artifact_uri), run.data.tags.get(_MISSING)
        if run.info.lifecycle_stage != "active" or (place is None and missing is None):
            return
        paths, gone = files_of(entry, self.storage)
        for path in paths:
            if place is None or not (place / path.name).is_file():
                self.client.log_artifact(run.info.run_id, str(path))
        if missing is not None and not gone:
            self.client.delete_tag(run.info.run_id, _MISSING)

    def show(self, sweep: str, searched: Iterable[str], study: bool) -> None:
        """Keep the view of a sweep in the experiment; one that is there already is written again only if changed."""
        key, value = view_tag(sweep, list(searched), study)
        for last in (False, True):
            if self.client.get_experiment(self.experiment_id).tags.get(key) == value:
                return
            try:
                self.client.set_experiment_tag(self.experiment_id, key, value)
            except MlflowException:  # of two programs that write a tag for the first time, databases refuse one
                if last:
                    raise

    def start(self, start: Start) -> str | None:
        """Show the trial as running; its run's id, None where the user deleted the run."""
        study = start.tags.get("study")
        parent = {} if study is None else self._parent_tag(study)
        if start.sweep not in self._viewed:
            self._viewed.add(start.sweep)
            searched = [name for name in start.tags.get("searched", "").split(", ") if name]
            self.show(start.sweep, searched, study is not None)
        title = title_of(start.name, start.trial, study)
        run = self._trial_run(start.sweep, start.trial, title, time.time())
        active = run.info.lifecycle_stage == "active"
        if active:
            self._describe(run, start.parameters, {**start.tags, **parent, "status": "running", "complete": "false"})
            self.client.update_run(run.info.run_id, "RUNNING", title)
        run_id = str(run.info.run_id) if active else None
        self._runs[start.sweep, start.trial] = run_id
        return run_id

    def progress(self, start: Start, curves: Points) -> None:
        """Add points to a started trial's curves."""
        who = start.sweep, start.trial
        run_id = self._runs[who] if who in self._runs else self.start(start)
        if run_id is not None:
            self._send(run_id, self._unsent(run_id, curves))

    def finish(self, entry: Mapping[str, Any]) -> bool:
        """Complete the trial's run; False when it already was, or when the user deleted it."""
        sweep, trial = identity_of(entry)
        ended = float(entry.get("ended") or time.time())
        title = title_of(entry.get("name"), trial, (entry.get("tags") or {}).get("study"))
        run = self._trial_run(sweep, trial, title, float(entry.get("started") or ended))
        if not _is_due(run, entry):
            return False
        run_id, curves = run.info.run_id, curves_of(entry)
        paths, gone = files_of(entry, self.storage)
        self._describe(run, parameters_of(entry), tags_of(entry) | ({_MISSING: ", ".join(gone)} if gone else {}))
        self._send(run_id, [Metric(*result) for result in results_of(metrics_of(entry), curves, ended)])
        self._send(run_id, self._unsent(run_id, curves))
        self._read(run_id, entry)
        for path in paths:
            self.client.log_artifact(run_id, str(path))
        self._complete(run_id, entry, title, RUN_STATUS.get(entry.get("status", ""), "FINISHED"), ended)
        self._sent.pop(run_id, None)
        return True

    def judge(self, verdict: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> bool:
        """Complete a seed study's run and make the study's trials its children; False when it already was, or deleted.

        Args: trials: the study's entries, for what their configurations share.
        """
        study = str(verdict.get("study", ""))
        begun = min((float(trial["started"]) for trial in trials if trial.get("started")), default=time.time())
        ended = max((float(trial["ended"]) for trial in trials if trial.get("ended")), default=begun)
        run = self._study_run(study, begun)
        if not _is_due(run, verdict):
            return False
        run_id, figures = run.info.run_id, figures_of(verdict)
        self._describe(run, shared_parameters(trials), study_tags(verdict))
        self._read(run_id, trials[-1] if trials else {})
        stale = {name: math.nan for name in run.data.metrics if name not in map(key_of, figures)}
        # A metric cannot be taken back: what this verdict does not say is no number. A later verdict has a later time.
        when = milliseconds(spoken_of(verdict) or ended)
        self._send(run_id, [Metric(key_of(name), value, when, 0) for name, value in (figures | stale).items()])
        for child in self._search(f"tags.sweep = {quoted(study)}"):
            if child.data.tags.get("kind") == "trial" and child.data.tags.get(_PARENT) != run_id:
                self.client.log_batch(child.info.run_id, tags=[RunTag(_PARENT, run_id), RunTag("study", study)])
        self._complete(run_id, verdict, study, "FINISHED", ended)
        return True

    def attach(self, sweep: str, paths: Iterable[Path]) -> None:
        """Keep files in the folder `report` of a study's run, or of a run that only carries a sweep's report."""
        run = self._find(sweep, VERDICT) or self._report_run(sweep)
        for path in paths:
            self.client.log_artifact(run.info.run_id, str(path), REPORT)
        if run.info.status == "RUNNING" and run.data.tags.get("kind") == REPORT:
            self.client.set_terminated(run.info.run_id)

    def _report_run(self, sweep: str) -> Any:
        """The run that carries a sweep's report; the sweep's table and charts, which its tag selects, leave it out."""
        tags = {"kind": REPORT, _REPORT_OF: sweep, "status": "done", NOTE: f"Report on {sweep}"}
        with opened_alone(self.uri):
            found = [run for run in self._search(f"tags.kind = '{REPORT}'") if _reported(run) == sweep]
            run = min(found, key=lambda run: (run.info.lifecycle_stage != "active", run.info.run_id), default=None)
            if run is None:
                return self.client.create_run(self.experiment_id, milliseconds(time.time()), tags, report_run(sweep))
        for old in ("sweep", "complete"):  # of versions before these tags
            if old in run.data.tags:
                self.client.delete_tag(run.info.run_id, old)
        self.client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        return run

    def _trial_run(self, sweep: str, trial: str, title: str, started: float) -> Any:
        return self._find_or_create(sweep, "trial", title, started, {"trial": trial})

    def _study_run(self, study: str, started: float) -> Any:
        return self._find_or_create(study, VERDICT, study, started, {"study": study})

    def _parent_tag(self, study: str) -> dict[str, str]:
        run = self._study_run(study, time.time())
        return {_PARENT: run.info.run_id} if run.info.lifecycle_stage == "active" else {}

    def _find_or_create(self, sweep: str, kind: str, name: str, started: float, tags: Mapping[str, str]) -> Any:
        with opened_alone(self.uri):
            run = self._find(sweep, kind, tags.get("trial"))
            if run is None:
                tags = {"sweep": sweep, "kind": kind, "status": "running", "complete": "false", **tags}
                run = self.client.create_run(self.experiment_id, milliseconds(started), tags, name)
                self._new.add(run.info.run_id)
        return run

    def _find(self, sweep: str, kind: str, trial: str | None = None) -> Any:
        """The run, or None. Were there two, every caller would take the same one."""
        condition = f"tags.kind = '{kind}'" if trial is None else f"tags.trial = '{trial}'"
        runs = [run for run in self._search(condition) if run.data.tags.get("sweep") == sweep]
        return min(runs, key=lambda run: (run.info.lifecycle_stage != "active", run.info.run_id), default=None)

    def _search(self, condition: str) -> list[Any]:
        """All runs that meet the condition, deleted ones too."""
        found: list[Any] = []
        token = None
        while True:
            runs = self.client.search_runs([self.experiment_id], condition, ViewType.ALL, page_token=token)
            found += runs
            token = runs.token
            if not token:
                return found

    def _read(self, run_id: str, entry: Mapping[str, Any]) -> None:
        """Note the dataset that the run read; the same one again changes nothing."""
        dataset = dataset_of(entry)
        if dataset is not None:
            name, digest, source = dataset
            inputs = DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])
            self.client.log_inputs(run_id, [inputs])

    def _complete(self, run_id: str, entry: Mapping[str, Any], name: str, status: str, ended: float) -> None:
        self.client.update_run(run_id, name=name)
        self.client.set_terminated(run_id, status, milliseconds(ended))
        # Last, so that a run cut short anywhere above is sent again.
        self.client.log_batch(run_id, tags=[RunTag("entry", digest_of(entry)), RunTag("complete", "true")])

    def _describe(self, run: Any, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Set tags, and the parameters that the run has not yet: MLflow refuses to change one."""
        for name in _PASSING_TAGS.intersection(run.data.tags) - tags.keys():
            self.client.delete_tag(run.info.run_id, name)
        missing = {
            key_of(name): text_of(value) for name, value in parameters.items() if key_of(name) not in run.data.params
        }
        parts = [Param(name, value) for name, value in missing.items()]
        labels = [RunTag(key_of(name), redact(str(value))[:VALUE_CHARACTERS]) for name, value in tags.items()]
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


def report_run(sweep: str) -> str:
    """The name of the run that carries the report of a sweep, which has no run of its own."""
    return f"{sweep}: report"


def _reported(run: Any) -> str | None:
    """The sweep whose report a run carries."""
    told: str | None = run.data.tags.get(_REPORT_OF, run.data.tags.get("sweep"))
    return told


def _is_due(run: Any, entry: Mapping[str, Any]) -> bool:
    """Whether the run is there and does not hold the entry yet."""
    known = run.data.tags
    return bool(
        run.info.lifecycle_stage == "active"
        and (known.get("complete"), known.get("entry")) != ("true", digest_of(entry))
    )
