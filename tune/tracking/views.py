"""What MLflow's pages show first: the experiment's description, a saved view for each sweep, addresses of pages.

MLflow's table shows no metric until a user picks columns, and draws a chart for every metric there is. A saved view,
MLflow's own (menu "Views" of the runs page; an experiment tag), holds columns, filter, order and charts instead. It is
sorted by a metric, not by time: only then are parents and children rows of equal rank, whose curves are all drawn.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from golf.runtime.results import SLIDING
from tune.records.entries import Objective
from tune.tracking.metric_names import (
    ARTIFACT,
    LADDER_CURVE,
    MARGIN,
    PARTIAL,
    POINTS_FAILED,
    SCORE,
    TRAIN_LOSS,
    TTT_RUNNING,
    key_of,
    metric_name,
)
from tune.tracking.run_fields import NOTE, TRIAL

View = dict[str, Any]
"""JSON of a saved view, as MLflow's pages read it."""
VIEW_TAG = "mlflow.sharedViewState."
PRIMARY_METRIC = ("mlflow.experiment.primaryMetric.name", SCORE)
"""Tag of every experiment that is made here."""
_MODE = "workflowType=machine_learning"
"""Without it MLflow 3 shows its menus for language-model applications."""
_HOW_TO_READ = """\
One run per trial; `bpb` (bits per byte, lower is better) is its last rung. **Views** has each sweep, best first; the \
second button above the table shows its charts.

- The parent of the trials is their sweep: its best score, its report (Artifacts, `report/report.html`) and its best \
artifact, in the model registry with the alias `best`. The parent of the seeds of a study has the verdict.
- `bpb/live`, `bpb/ema`, `bpb/quantised` (the artifact read back), `bpb/sliding`, `bpb/ttt`: the ladder's rungs; \
`bpb/ladder` has them as steps from 0 on. `bpb/partial_sliding`, `bpb/partial_ttt`: the first chunks alone, by which \
trials are stopped early. `nats` and `nats/...`: the same in nats per token.
- `loss/train` is in nats per token by optimiser step, `bpb/ttt_running` the BPB so far by chunk.
- `bytes/artifact` counts model and code; `bytes/margin` is what is left below the cap, negative above it.
- `seconds/...`: of each stage, as if computed for this trial alone; `seconds/computed`: of what was.
- `check/failed` counts the points of the rules on which a run fails; the tag `check` names them.
- Tag `state`: finished, over the cap, stopped early, failed. MLflow's own status: FINISHED, KILLED for both over the \
cap and stopped early, FAILED. Filters: `tags.state = 'finished'`, `tags.sweep = '...'`, `tags.kind = 'trial'`.
- Parameters are the fields that were searched or set otherwise than the preset; `config.json` below Artifacts has all.

The ledger in the storage folder is the source of every number here but `system/...`, the machine's load."""
_WIDTHS = {"attributes.`Run Name`": 330, "runDateAndNestInfo": 130}
"""First columns and their widths in pixels."""
_SECTIONS = (
    ("ladder", "BPB: 0 live, 1 EMA, 2 quantised, 3 sliding, 4 TTT", 2, 330),
    ("curves", "Training loss by step, TTT's BPB by chunk", 2, 330),
    ("fields", "Searched fields", 1, 380),
    ("differences", "Differences", 1, 420),
)
"""Identity, heading, charts in a row, height in pixels."""


def experiment_tags() -> dict[str, str]:
    """Returns the tags of a new experiment."""
    return {NOTE: _HOW_TO_READ, "mlflow.experimentKind": "custom_model_development", **dict([PRIMARY_METRIC])}


def view_tag(sweep: str, searched: Sequence[str], study: bool, objective: Objective | None = None) -> tuple[str, str]:
    """Returns key and value of the experiment tag that holds the view of one sweep or seed study.

    Args: sweep: its name; searched: parameters to show as columns; study: whether it is a seed study; objective: what
        counts in place of bits per byte.
    """
    score = SCORE if objective is None else metric_name(objective.name)
    more = ["bpb/mean", "bpb/standard_deviation", "gain_bpb/gain", "gain_bpb/p"] if study else [f"{PARTIAL}{SLIDING}"]
    metrics = (score, *more, ARTIFACT, MARGIN, "seconds/total", POINTS_FAILED)
    columns = [
        "tags.`state`",
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{key_of(name)}`" for name in searched),
    ]
    state = {
        # The run of a sweep is no row among its trials; that of a study has the means of its seeds.
        "searchFilter": f"tags.sweep = {quoted(sweep)}" + ("" if study else f" and tags.kind = '{TRIAL}'"),
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": objective is None or not objective.maximize,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [*_WIDTHS, *columns],
        "columnWidths": {**{column: _width(column) for column in columns}, **_WIDTHS},
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": [_section(*section) for section in _SECTIONS],
        "compareRunCharts": _charts(score, [key_of(name) for name in searched]),
    }
    view = {"name": sweep, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return VIEW_TAG + key_of(sweep), json.dumps(view)


def _width(column: str) -> int:
    """Returns pixels for a column's values and its name, which MLflow cuts off."""
    return max(105, 8 * len(column.partition(".")[2].strip("`")) + 24)


def runs_url(server: str, experiment_id: str, sweep: str | None = None, *, charts: bool = False) -> str:
    """Returns the page of an experiment's runs; with `sweep` in its view, as a table or as charts."""
    parts = [_MODE, *([f"viewStateShareKey={quote(key_of(sweep), safe='')}"] if sweep else [])]
    parts += ["compareRunsMode=CHART"] if charts else []
    return f"{server}/#/experiments/{experiment_id}/runs?{'&'.join(parts)}"


def compare_url(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Returns the page that compares runs."""
    runs, experiments = (quote(json.dumps(list(ids))) for ids in (run_ids, [experiment_id]))
    return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}&{_MODE}"


def run_url(server: str, experiment_id: str, run_id: str) -> str:
    """Returns the page of one run."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{_MODE}"


def artifact_url(server: str, experiment_id: str, run_id: str, path: str) -> str:
    """Returns the page that shows a file of a run."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}/artifacts/{quote(path)}?{_MODE}"


def _charts(score: str, searched: Sequence[str]) -> list[View]:
    """Returns the charts of a view, section by section."""
    axes = {
        side: {"key": name, "type": "METRIC", "dataAccessKey": name}
        for side, name in (("xaxis", ARTIFACT), ("yaxis", score))
    }
    fields = {"selectedParams": list(searched), "selectedMetrics": [ARTIFACT, score], "showAllRuns": False}
    groups = {"compareGroups": ["Parameters", "Model metrics"], "chartName": "Runs difference view"}
    switches = {"showChangeFromBaseline": True, "showDifferencesOnly": True, "baselineColumnUuid": ""}
    return [
        _line("ladder", LADDER_CURVE),
        _chart("ladder", "size", "SCATTER", axes),
        _line("curves", TRAIN_LOSS),
        _line("curves", TTT_RUNNING),
        _chart("fields", "parallel", "PARALLEL", fields),
        _chart("differences", "table", "DIFFERENCE", {**groups, **switches}),
    ]


def _section(identity: str, heading: str, columns: int, height: int) -> View:
    flags = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": identity, "name": heading, "columns": columns, "cardHeight": height, **flags}


def _chart(section: str, name: str, kind: str, fields: View) -> View:
    flags = {"deleted": False, "isGenerated": False, "runsCountToCompare": 20}
    return {"uuid": f"{section}-{name}", "type": kind, "metricSectionId": section, **flags, **fields}


def _line(section: str, metric: str) -> View:
    axis = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "yAxisKey": "metric", "range": {}}
    shown = {"lineSmoothness": 0, "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    none = {"selectedXAxisMetricKey": "", "yAxisExpressions": []}
    return _chart(
        section, metric, "LINE", {"metricKey": metric, "selectedMetricKeys": [metric], **axis, **shown, **none}
    )


def quoted(text: str) -> str:
    """Returns `text` for a filter of MLflow's, which has no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"
