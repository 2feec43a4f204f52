"""A forecast as a person reads it: what a sweep would cost, and afterwards what it did cost beside it."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from tabulate import tabulate

from tune.planning.forecast import PREFIX, Amount, Forecast, wall_clock_seconds
from tune.planning.stage_timings import TRAIN
from tune.records.entries import TrialEntry, TrialState
from tune.records.text import duration


def dollars(hours: float, dollars_per_gpu_hour: float) -> float:
    """Returns the price of GPU-hours. Raises: ValueError when the price of one is not finite or below 0."""
    if not 0 <= dollars_per_gpu_hour < math.inf:
        raise ValueError(f"dollars per GPU-hour must be finite and not below 0, got {dollars_per_gpu_hour}")
    return hours * dollars_per_gpu_hour


def format_forecast(planned: Forecast, slots: int = 1, dollars_per_gpu_hour: float | None = None) -> str:
    """Returns the forecast as tables: the stages, then what sharing saves.

    Args: planned: the forecast; slots: trials at a time; dollars_per_gpu_hour: for a price, on GPUs.
    """
    stages = [
        [s.stage, *(f"{n:,}" for n in (s.alone, s.distinct, s.stored, s.compute)), *_figures(s.seconds, _plain)]
        for s in planned.stages
    ]
    names = ["stage", "alone", "distinct", "stored", "to compute", "s alone", "s shared", "s now"]
    rows = [["optimiser steps", *_figures(planned.steps, lambda steps: f"{steps:,.0f}"), *_ratios(planned.steps)]]
    unit = "GPU-hours" if planned.device == "cuda" else "CPU-hours"
    in_all = ("all stages", planned.seconds)
    if planned.seconds is None and any(stage.seconds for stage in planned.stages):
        in_all = ("stages that are known", planned.known_seconds)
    for name, seconds in (("training", planned.training_seconds), in_all):
        hours = planned.hours(seconds)
        rows.append([f"{name}, {unit}", *_figures(hours, _plain), *_ratios(seconds)])
        if dollars_per_gpu_hour is not None and planned.device == "cuda" and hours is not None:
            prices = Amount(*(dollars(part, dollars_per_gpu_hour) for part in hours))
            label = f"  in dollars, at {dollars_per_gpu_hour:g} a GPU-hour"
            rows.append([label, *_figures(prices, lambda price: f"{price:,.2f}"), *_ratios(prices)])
    walls = wall_clock_seconds(planned, slots)
    rows.append([f"wall clock, {slots} at a time", *_figures(walls, duration), *_ratios(walls)])
    totals = [f"{len(planned.works):,} trials", "alone", "shared", "to do now", "alone/shared", "alone/now"]
    lines = [_table(names, stages), "", _table(totals, rows)]
    if planned.expected != planned.works:
        lines.append("to do now, s now and the wall clock of it: as expected with screening; alone and shared in full")
    return "\n".join(lines + _unknown(planned))


def format_forecast_vs_actual(planned: Forecast, entries: Sequence[TrialEntry]) -> str:
    """Returns the forecast beside what the trials took, stage by stage.

    Args: planned: the forecast; entries: of the sweep's trials; those that were not forecast are counted and left out.
    """
    names = {work.trial for work in planned.works}
    if not names:
        return "no trial was left to be run"
    ended = [entry for entry in entries if entry.trial in names]

    states = Counter(entry.state for entry in ended)
    sides = [entry.seconds for entry in ended], [entry.computed for entry in ended]
    summary = (
        f"{len(names):,} trials were forecast, {len(ended):,} of them have ended ({states[TrialState.INFEASIBLE]} over "
        f"the cap, {states[TrialState.SCREENED]} {TrialState.SCREENED.word}, {states[TrialState.FAILED]} failed)"
    )
    summary += f"; others that the search chose: {len(entries) - len(ended):,}" if len(entries) > len(ended) else ""
    # The states on the way count to the training.
    forecasts = {stage.stage: stage.seconds for stage in planned.stages if stage.stage != PREFIX}
    forecasts |= {TRAIN: planned.training_seconds}
    if all(seconds is None for seconds in forecasts.values()):
        return f"{summary}\ntheir seconds were not forecast: there was no finished trial of this model to go by"
    rows = [
        _compared(stage, seconds, *(math.fsum(spent.get(stage, 0.0) for spent in side) for side in sides))
        for stage, seconds in forecasts.items()
    ]
    rows.append(
        _compared("all", planned.seconds, *(math.fsum(sum(spent.values()) for spent in side) for side in sides))
    )
    columns = ["seconds", "alone: forecast", "actual", "now: forecast", "actual", "actual/forecast"]
    return f"{summary}\n{_table(columns, rows)}"


def _unknown(planned: Forecast) -> list[str]:
    """Which seconds are unknown, and what helps."""
    missing = [stage.stage for stage in planned.stages if stage.seconds is None]
    others = [stage for stage in missing if stage not in (PREFIX, TRAIN)]
    lines = []
    if len(others) < len(missing):
        lines.append("seconds of training are unknown: no finished trial of this model and batch; give --step-seconds")
    if others:
        lines.append(f"seconds of {', '.join(others)} are unknown: no finished trial of this model and data")
    return lines


def _compared(name: str, planned: Amount | None, alone: float, now: float) -> list[str]:
    if planned is None:
        return [name, "-", _plain(alone), "-", _plain(now), "-"]
    ratio = f"{now / planned.now:.2f}x" if planned.now else "-"
    return [name, _plain(planned.alone), _plain(alone), _plain(planned.now), _plain(now), ratio]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    aligned = ["left", *["right"] * (len(columns) - 1)]
    return tabulate(rows, columns, tablefmt="plain", colalign=aligned, disable_numparse=True)


def _figures(amount: Amount | None, form: Callable[[float], str]) -> list[str]:
    return ["-"] * 3 if amount is None else list(map(form, amount))


def _ratios(amount: Amount | None) -> list[str]:
    """Alone over shared and over now."""
    if amount is None:
        return ["-"] * 2
    return [f"{amount.alone / part:.2f}x" if part else "-" for part in (amount.shared, amount.now)]


def _plain(number: float) -> str:
    """Three figures or more of a number of seconds or hours."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
