"""The runs of one experiment in MLflow: found by their tags or made, described, and filled with points.

Runs are found by their tags `sweep`, `kind` and `trial`, never by a remembered id, so that another process or another
day finds the same ones. No number is ever read back. Every method may raise what
`tune.tracking.connection.MLFLOW_ERRORS` names.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType

from tune.records.entries import TrialEntry
from tune.records.redaction import redact
from tune.search.space import Point
from tune.tracking.connection import exclusive_access
from tune.tracking.metric_names import key_of
from tune.tracking.run_fields import (
    NOTE,
    STUDY,
    SWEEP,
    VALUE_CHARACTERS,
    Curves,
    dataset_of,
    milliseconds,
    text_of,
)

MISSING = "files_missing"
"""Tag with the names of files that were not there when the run was sent."""
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100
"""MLflow's limits for one call."""
_PASSING_TAGS = frozenset({"reason", "failure", MISSING, NOTE})
"""Tags that a later entry of the same trial may lack: they are removed then."""


class RunStore:
    """The runs of one experiment."""

    def __init__(self, uri: str, client: Any, experiment_id: str) -> None:
        """Args: uri: of MLflow; client: of MLflow; experiment_id: of an experiment that is there."""
        self.uri, self.client, self.experiment_id = uri, client, experiment_id
        self.new: set[str] = set()
        """Ids of runs that were made here."""
        self.sent: dict[str, dict[str, set[tuple[int, float]]]] = defaultdict(dict)
        """Run id -> metric -> (step, value) of points that it holds."""

    def find_or_create(self, sweep: str, kind: str, name: str, started: float, trial: str | None = None) -> Any:
        """Returns the run of a trial, or of a sweep or study, made when missing. Args: started: in unix seconds."""
        with exclusive_access(self.uri):
            run = self.find(sweep, kind, trial)
            if run is None:
                own = {"trial": trial} if trial is not None else {STUDY: sweep} if kind == STUDY else {}
                tags = {"sweep": sweep, "kind": kind, "state": "running", "complete": "false", **own}
                run = self.client.create_run(self.experiment_id, milliseconds(started), tags, name)
                self.new.add(run.info.run_id)
        return run

    def find(self, sweep: str, kind: str, trial: str | None = None) -> Any:
        """Returns the run, or None. Were there two, every caller would take the same one.

        A study whose seeds were sent before it was known as one has the run of a sweep.
        """
        kinds = [SWEEP, STUDY] if trial is None else [kind]
        conditions = [f"tags.kind = '{kind}'" for kind in kinds] if trial is None else [f"tags.trial = '{trial}'"]
        found = [run for condition in conditions for run in self.search(condition)]
        return min((run for run in found if run.data.tags.get("sweep") == sweep), key=_preference, default=None)

    def search(self, condition: str) -> list[Any]:
        """Returns all runs that meet the condition, deleted ones too."""
        runs, page = list[Any](), None
        while page is None or page.token:
            token = None if page is None else page.token
            page = self.client.search_runs([self.experiment_id], condition, ViewType.ALL, page_token=token)
            runs += page
        return runs

    def log_dataset(self, run_id: str, entry: TrialEntry) -> None:
        """Adds the dataset to the run; the same one again changes nothing."""
        dataset = dataset_of(entry)
        if dataset is not None:
            name, digest, source = dataset
            inputs = DatasetInput(Dataset(name, digest, "local", source), [InputTag("mlflow.data.context", "training")])
            self.client.log_inputs(run_id, [inputs])

    def summarise(self, run: Any, metrics: Mapping[str, float], when: float) -> None:
        """Sends the numbers of a parent. A metric cannot be taken back: what is no longer said becomes NaN."""
        stale = {name: math.nan for name in run.data.metrics if name not in map(key_of, metrics)}
        values = {**metrics, **stale}
        self.send(run.info.run_id, [Metric(key_of(name), values[name], milliseconds(when), 0) for name in values])

    def complete(self, run_id: str, digest: str, name: str, status: str, ended: float) -> None:
        """Ends a run, and marks it as holding the entry with this digest. Args: ended: in unix seconds."""
        self.client.update_run(run_id, name=name)
        self.client.set_terminated(run_id, status, milliseconds(ended))
        # Last, so that a run cut short anywhere above is sent again.
        self.client.log_batch(run_id, tags=[RunTag("entry", digest), RunTag("complete", "true")])

    def describe(self, run: Any, parameters: Point, tags: Mapping[str, str]) -> None:
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

    def unsent(self, run_id: str, curves: Curves) -> list[Metric]:
        """Returns the points that the run does not hold: a resumed trial passes steps again, at other times."""
        metrics: list[Any] = []
        for name, points in curves.items():
            key = key_of(name)
            sent = self.sent[run_id].get(key)
            if sent is None:
                history = [] if run_id in self.new else self.client.get_metric_history(run_id, key)
                sent = self.sent[run_id][key] = {(metric.step, metric.value) for metric in history}
            for step, when, value in points:
                if math.isfinite(value) and (int(step), float(value)) not in sent:
                    sent.add((int(step), float(value)))
                    metrics.append(Metric(key, float(value), milliseconds(when), int(step)))
        return metrics

    def send(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Sends points of metrics."""
        for begin in range(0, len(metrics), _BATCH_METRICS):
            self.client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH_METRICS])


def is_active(run: Any) -> bool:
    """Whether the user did not delete the run."""
    return bool(run.info.lifecycle_stage == "active")


def _preference(run: Any) -> tuple[bool, str]:
    """Sort key by which one of several equal runs is taken."""
    return not is_active(run), run.info.run_id


def is_due(run: Any, digest: str) -> bool:
    """Whether the run is there and does not hold the entry with this digest yet."""
    known = run.data.tags
    return is_active(run) and (known.get("complete"), known.get("entry")) != ("true", digest)
