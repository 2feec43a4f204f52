"""A forecast as a person reads it: what a sweep would cost, and afterwards what it did cost beside it.

Forecasts and ledger entries enter, text leaves. Computes nothing that is recorded anywhere.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from golf.runtime.results import SCREEN
from tune.planning.forecast import PREFIX, Amount, Forecast, StageForecast, dollars, wall_clock_seconds
from tune.planning.stage_timings import SECONDS, TRAIN
from tune.records.text import duration


def words(planned: Forecast, slots: int = 1, dollars_per_gpu_hour: float | None = None) -> str:
    """The forecast as a person reads it: the stages, then what sharing saves.

    Args: slots: trials at a time; dollars_per_gpu_hour: for a price, on GPUs.
    """
    lines = [_row("stage", "alone", "distinct", "stored", "to compute", "s alone", "s shared", "s now")]
    for stage in planned.stages:
        counts = (f"{count:,}" for count in (stage.alone, stage.distinct, stage.stored, stage.compute))
        lines.append(_row(stage.stage, *counts, *_figures(stage.seconds, _plain)))
    lines += ["", _wide(f"{len(planned.works):,} trials", "alone", "shared", "to do now", "alone/shared", "alone/now")]
    lines.append(_wide("optimiser steps", *_figures(planned.steps, _count), *_ratios(planned.steps)))
    unit = "GPU-hours" if planned.device == "cuda" else "CPU-hours"
    for name, seconds in (("training", planned.training_seconds), ("all stages", planned.seconds)):
        hours = planned.hours(seconds)
        lines.append(_wide(f"{name}, {unit}", *_figures(hours, _plain), *_ratios(seconds)))
        if dollars_per_gpu_hour is not None and planned.device == "cuda" and hours is not None:
            prices = Amount(*(dollars(part, dollars_per_gpu_hour) for part in (hours.alone, hours.shared, hours.now)))
            label = f"  in dollars, at {dollars_per_gpu_hour:g} a GPU-hour"
            lines.append(_wide(label, *_figures(prices, _money), *_ratios(prices)))
    walls = wall_clock_seconds(planned, slots)
    lines.append(_wide(f"wall clock, {slots} at a time", *_figures(walls, duration), *_ratios(walls)))
    if planned.expected != planned.works:
        lines.append("to do now, s now and the wall clock of it: as expected with screening; alone and shared in full")
    return "\n".join(lines + _unknown(planned))


def _unknown(planned: Forecast) -> list[str]:
    """What is missing, and what helps."""
    missing = [stage.stage for stage in planned.stages if stage.seconds is None]
    lines = []
    if {PREFIX, TRAIN} & set(missing):
        lines.append("seconds of training are unknown: no finished trial of this model and batch; give --step-seconds")
    rungs = [stage for stage in missing if stage not in (PREFIX, TRAIN)]
    if rungs:
        lines.append(f"seconds of {', '.join(rungs)} are unknown: no finished trial of this model and data")
    return lines


def beside(planned: Forecast, entries: Iterable[Mapping[str, Any]]) -> str:
    """The forecast beside what the trials took, stage by stage.

    Args: entries: ledger entries; trials that were not forecast are counted and left out.
    """
    ours, entries = {work.trial for work in planned.works}, list(entries)
    if not ours:
        return "no trial was left to be run"
    ended = [entry for entry in entries if entry["trial"] in ours]
    others = len(entries) - len(ended)
    told = (
        f"{len(ours):,} trials were forecast, {len(ended):,} of them have ended ({_ends(ended, 'infeasible')} over the "
        f"cap, {_ends(ended, 'screened')} screened out, {_ends(ended, 'failed')} failed)"
    ) + (f"; others that the search chose: {others:,}" if others else "")
    if all(_forecast_of(planned, stage) is None for stage in planned.stages):
        return f"{told}\ntheir seconds were not forecast: there was no finished trial of this model to go by"
    lines = [told, _wide("seconds", "alone: forecast", "actual", "now: forecast", "actual", "actual/forecast")]
    for stage in planned.stages:
        if stage.stage != PREFIX:
            lines.append(_compared(stage.stage, _forecast_of(planned, stage), *_actual(stage.stage, ended)))
    alone = math.fsum(entry["metrics"].get("seconds", 0.0) for entry in ended)
    now = math.fsum(entry["metrics"].get("seconds_now", entry["metrics"].get("seconds", 0.0)) for entry in ended)
    return "\n".join([*lines, _compared("all", planned.seconds, alone, now)])


def _ends(entries: Iterable[Mapping[str, Any]], status: str) -> int:
    return sum(entry["status"] == status for entry in entries)


def _forecast_of(planned: Forecast, stage: StageForecast) -> Amount | None:
    """A stage's seconds, the states on the way counted to the training."""
    return planned.training_seconds if stage.stage == TRAIN else stage.seconds


def _actual(stage: str, entries: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Seconds of a stage alone and as they were spent; a trial that shared nothing spent what it takes alone."""
    alone = now = 0.0
    for entry in entries:
        seconds = entry["metrics"].get(stage + SECONDS, 0.0)
        computed = entry.get("computed", {stage: seconds})
        alone += seconds
        now += math.fsum(value for name, value in computed.items() if _stage_of(name) == stage)
    return alone, now


def _stage_of(name: str) -> str:
    """The stage that seconds count to: those of a state to the training, those of first chunks to their rung."""
    return TRAIN if name.startswith(PREFIX) else name.removesuffix(SCREEN)


def _compared(name: str, planned: Amount | None, alone: float, now: float) -> str:
    """One stage of `beside`."""
    if planned is None:
        return _wide(name, "-", _plain(alone), "-", _plain(now), "-")
    ratio = f"{now / planned.now:.2f}x" if planned.now else "-"
    return _wide(name, _plain(planned.alone), _plain(alone), _plain(planned.now), _plain(now), ratio)


def _row(name: str, *cells: str) -> str:
    return f"{name:12s}" + "".join(f"{cell:>13s}" for cell in cells)


def _wide(name: str, *cells: str) -> str:
    return f"{name:36s}" + "".join(f"{cell:>16s}" for cell in cells)


def _figures(amount: Amount | None, form: Callable[[float], str]) -> list[str]:
    return ["-"] * 3 if amount is None else [form(part) for part in (amount.alone, amount.shared, amount.now)]


def _ratios(amount: Amount | None) -> list[str]:
    """Alone over shared and over now."""
    parts = (0.0, 0.0) if amount is None else (amount.shared, amount.now)
    return [f"{amount.alone / part:.2f}x" if amount is not None and part else "-" for part in parts]


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}"


def _plain(number: float) -> str:
    """Three figures or more of a number of seconds or hours."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
