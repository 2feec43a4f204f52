"""Ledger entries of trials that never ran."""

from typing import Any

from tune.records.entries import ArtifactSize, RungScore, TrialEntry, TrialState
from tune.search.space import Trial


def entry_of(trial: Trial, state: str = "done", **fields: Any) -> TrialEntry:
    """An entry of a trial, as a sweep writes it; `fields` are those of `TrialEntry`."""
    values: dict[str, Any] = {"sweep": "s", "preset": "demo", "workload": "gepa", "data": "data", "dataset": "d"}
    values |= {"code": "c" * 64, "started": 0.0, "ended": 1.0, "state": TrialState(state)}
    values |= {"trial": trial.trial, "name": trial.name}
    return TrialEntry(**{**values, "parameters": dict(trial.parameters), "config": dict(trial.config), **fields})


def scored(trial: Trial, bpb: float, **fields: Any) -> TrialEntry:
    """An entry of a finished trial with one rung."""
    rungs = (RungScore(name="ttt", bpb=bpb, nats_per_token=bpb, seconds=1.0),)
    return entry_of(trial, bpb=bpb, nats_per_token=bpb, rungs=rungs, **fields)


def over_cap(trial: Trial, over_bytes: int) -> TrialEntry:
    """An entry of a trial over its cap."""
    size = ArtifactSize(model_bytes=400_000, code_bytes=100_000, cap_bytes=500_000 - over_bytes)
    return entry_of(trial, "infeasible", reason=f"over the cap by {over_bytes:,} bytes", size=size)
