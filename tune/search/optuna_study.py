"""The ledger's sweeps as Optuna studies, for optuna-dashboard, the optuna CLI and its plots.

The file is a view that is made anew from the ledger: nothing reads it back.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tune.records.entries import TrialEntry, TrialState
from tune.records.ledger import Ledger

_STATES = {
    TrialState.DONE: optuna.trial.TrialState.COMPLETE,
    TrialState.INFEASIBLE: optuna.trial.TrialState.PRUNED,
    TrialState.SCREENED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
}
_CURVES = ("validation_bpb", "validation_loss")
"""Curves that are shown as intermediate values, the first that a trial has."""
_LOG_RATIO = 20.0
"""Between the largest and the least value seen of a positive field, from which its axis is logarithmic."""


def write_studies(by_name: dict[str, list[TrialEntry]], ledger: Ledger, path: Path) -> None:
    """Writes an SQLite file with one study for each sweep; the file appears whole, in place of an earlier one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".optuna-") as folder:
        file = Path(folder) / path.name
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        for name, entries in by_name.items():
            objective = next((entry.objective for entry in entries if entry.objective is not None), None)
            direction = "maximize" if objective is not None and objective.maximize else "minimize"
            study = optuna.create_study(storage=storage, study_name=name, direction=direction)
            distributions = distributions_of(entries)
            study.set_user_attr("metric", "bpb" if objective is None else objective.name)
            study.add_trials([_trial_of(entry, ledger, distributions) for entry in entries])
        storage.engine.dispose()
        os.replace(file, path)


def distributions_of(entries: Sequence[TrialEntry]) -> dict[str, BaseDistribution]:
    """Returns, by field, a distribution that holds the values that trials had; the ledger does not keep the space."""
    values: dict[str, list[Any]] = {}
    for entry in entries:
        for field, value in entry.parameters.items():
            values.setdefault(field, []).append(value)
    return {field: _distribution(seen) for field, seen in values.items()}


def _distribution(seen: Sequence[Any]) -> BaseDistribution:
    kinds = {type(value) for value in seen}
    if kinds == {int}:
        return IntDistribution(min(seen), max(seen))
    if kinds <= {int, float}:
        low, high = float(min(seen)), float(max(seen))
        return FloatDistribution(low, high, log=low > 0 and high >= _LOG_RATIO * low)
    return CategoricalDistribution(list(dict.fromkeys(map(_plain, seen))))


def _plain(value: Any) -> Any:
    """Returns a value as Optuna takes it among choices: lists and objects as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _trial_of(
    entry: TrialEntry, ledger: Ledger, distributions: dict[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    fields = entry.parameters
    told: dict[str, Any] = {"trial": entry.trial, "name": entry.name, "state": str(entry.state), "reason": entry.reason}
    told |= {"artifact_bytes": entry.artifact_bytes, "seconds": entry.total_seconds or None, "code": entry.code[:12]}
    told |= {rung.name: rung.bpb for rung in entry.rungs}
    trial = optuna.trial.create_trial(
        state=_STATES[entry.state],
        value=entry.score,
        params={
            field: _plain(value) if isinstance(distributions[field], CategoricalDistribution) else value
            for field, value in fields.items()
        },
        distributions={field: distributions[field] for field in fields},
        user_attrs={name: value for name, value in told.items() if value is not None},
        intermediate_values=_curve_of(entry, ledger),
    )
    trial.datetime_start = datetime.fromtimestamp(entry.started)
    trial.datetime_complete = datetime.fromtimestamp(entry.ended)
    return trial


def _curve_of(entry: TrialEntry, ledger: Ledger) -> dict[int, float]:
    try:
        curves = ledger.series(entry).curves
    except (OSError, ValueError):  # a view is made of what is there
        return {}
    name = next((name for name in _CURVES if name in curves), None)
    return {} if name is None else {int(step): float(value) for step, _, value in curves[name]}
