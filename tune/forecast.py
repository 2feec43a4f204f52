"""What a sweep will cost, before it runs: with every trial alone, with common stages shared, and with what is stored.

Trials, ledger entries of finished trials and a look into the store enter; counts, optimiser steps, seconds and a wall
clock leave. Results are told apart by the keys of `tune.stages`, so that what is forecast is what the sweep will do.
Seconds come from finished trials of the same model on as many workers, never from a guess: without one they are
unknown, and said to be. Which trials are over the cap or screened out, and stop early, no forecast knows: it is an
upper bound there.
"""

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from golf.config import to_plain
from golf.record import ADAPTED, SCREEN, digest
from tune.console import duration
from tune.space import Trial
from tune.stages import Wanted, stages_of
from tune.tree import training_key

PREFIX, TRAIN, PACK = "prefix", "train", "pack"
_SECONDS = "_seconds"
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Amount:
    """One quantity three times."""

    alone: float
    """Every trial computes all by itself."""
    shared: float
    """Every distinct result once, nothing stored before."""
    now: float
    """What is not stored yet."""

    def times(self, factor: float) -> "Amount":
        """All three multiplied."""
        return Amount(self.alone * factor, self.shared * factor, self.now * factor)


@dataclass(frozen=True)
class Piece:
    """A result and the work from what it reads to it."""

    stage: str
    """"prefix", "train", "pack" or a rung."""
    key: str
    """What it is stored under."""
    steps: int
    """Optimiser steps from the state before."""
    seconds: float | None
    """On all workers of a trial; None: unknown."""


@dataclass(frozen=True)
class Work:
    """All that a trial wants."""

    trial: str
    """Its id."""
    training: tuple[Piece, ...]
    """Each from the one before."""
    pack: Piece
    """From the last of the training."""
    rungs: tuple[Piece, ...]
    """From the training or the artifact."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of them, in order."""
        return (*self.training, self.pack, *self.rungs)


@dataclass(frozen=True)
class StageForecast:
    """All results of one stage."""

    stage: str
    """"prefix" (states at branch points), "train", "pack" or a rung."""
    alone: int
    """Results of trials that run alone: one each; none of "prefix", which only sharing needs."""
    distinct: int
    """Different results."""
    stored: int
    """Of these already in the store."""
    compute: int
    """Of these to compute; a missing prefix that no training needs any more is not."""
    seconds: Amount | None
    """Seconds of trials; None: unknown."""


@dataclass(frozen=True)
class Forecast:
    """The work of a sweep."""

    works: tuple[Work, ...]
    """By trial, in the order in which they run."""
    stored: frozenset[str]
    """Wanted keys that are in the store."""
    units: float
    """GPUs that a trial takes; CPUs where there are none."""
    device: str
    """"cuda" or "cpu"."""
    stages: tuple[StageForecast, ...]
    """Training first."""
    steps: Amount
    """Optimiser steps."""
    training_seconds: Amount | None
    """Seconds of prefixes and trainings; None: unknown."""
    seconds: Amount | None
    """Seconds of all stages; None: of some stage unknown."""

    def hours(self, seconds: Amount | None) -> Amount | None:
        """GPU-hours, or CPU-hours, of trials that take these seconds with all that they run on held throughout."""
        return None if seconds is None else seconds.times(self.units / 3600)


def forecast(
    trials: Sequence[Trial],
    data_digest: str,
    world: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    stored: Callable[[str], bool],
    points: Mapping[str, Sequence[int]],
    step_seconds: float | None = None,
    stage_seconds: Mapping[str, float] = _NOTHING,
) -> Forecast:
    """The work of `trials`.

    Args: data_digest: the dataset's; world: what of the machines changes bits: "ranks", "cpus" each, "device";
        entries: ledger entries of finished trials of any sweep; stored: whether a key is in the store; points: steps at
        which others part from a training, by `training_key`, as `branch_points` gives them; step_seconds: of one
        optimiser step, instead of what `entries` say; stage_seconds: of "pack" or a rung, likewise.
    Raises: ValueError when seconds that are given are not finite or below 0.
    """
    pace = _Pace(entries, data_digest, world, step_seconds, stage_seconds)
    works = tuple(_work(trial, data_digest, world, pace, points) for trial in trials)
    keys = {piece.key for work in works for piece in work.pieces}
    there = frozenset(key for key in keys if stored(key))
    alone = [piece for work in works for piece in work.pieces]
    shared, now = to_compute(works, ()), to_compute(works, there)
    names = list(dict.fromkeys((PREFIX, TRAIN, PACK, *(piece.stage for piece in alone))))
    stages = tuple(_stage(name, alone, shared, now, there) for name in names)
    training = [[piece for piece in pieces if piece.stage in (PREFIX, TRAIN)] for pieces in (alone, shared, now)]
    return Forecast(
        works,
        there,
        world["ranks"] * (1 if world["device"] == "cuda" else world["cpus"]),
        world["device"],
        stages,
        Amount(*(sum(piece.steps for piece in pieces) for pieces in (alone, shared, now))),
        _seconds(*training),
        _seconds(alone, shared, now),
    )


def to_compute(works: Iterable[Work], stored: Collection[str]) -> list[Piece]:
    """What remains to be computed, each result once; a training goes on from its longest state that is there."""
    have, pieces = set(stored), []
    for work in works:
        mine = _missing(work, have)
        have.update(piece.key for piece in mine)
        pieces += mine
    return pieces


def _missing(work: Work, have: Collection[str]) -> list[Piece]:
    """What a trial computes itself when all in `have` is there."""
    begin = 1 + max((n for n, piece in enumerate(work.training) if piece.key in have), default=-1)
    after = (piece for piece in (work.pack, *work.rungs) if piece.key not in have)
    return [*work.training[begin:], *after]


def _work(
    trial: Trial, data: str, world: Mapping[str, Any], pace: "_Pace", points: Mapping[str, Sequence[int]]
) -> Work:
    """The trial's results with the work of each."""
    config, plain = trial.config, to_plain(trial.config)
    stages = stages_of(config, data, dict(world), points[training_key(config)])
    step = pace.step(plain)
    training, before = [], 0
    for wanted in stages.training:
        steps = wanted.steps - before
        seconds = None if step is None else steps * step
        training.append(Piece(PREFIX if wanted.interior else TRAIN, wanted.key, steps, seconds))
        before = wanted.steps

    def piece(wanted: Wanted) -> Piece:
        return Piece(wanted.name, wanted.key, 0, pace.stage(wanted.name, plain))

    return Work(trial.trial, tuple(training), piece(stages.pack), tuple(map(piece, stages.rungs)))


def _stage(
    name: str, alone: Sequence[Piece], shared: Sequence[Piece], now: Sequence[Piece], stored: Collection[str]
) -> StageForecast:
    """One stage's part of all pieces."""
    parts = [[piece for piece in pieces if piece.stage == name] for pieces in (alone, shared, now)]
    keys = {piece.key for piece in parts[0]}
    count = 0 if name == PREFIX else len(parts[0])
    seconds = _seconds(*parts)
    if name == TRAIN and seconds is not None:
        # A trial alone trains from the first step to the last without a state in between.
        whole = _seconds([piece for piece in alone if piece.stage in (PREFIX, TRAIN)])
        seconds = None if whole is None else Amount(whole.alone, seconds.shared, seconds.now)
    if name == PREFIX and seconds is not None:
        seconds = Amount(0.0, seconds.shared, seconds.now)
    return StageForecast(name, count, len(keys), len(keys & set(stored)), len(parts[2]), seconds)


def _seconds(alone: Sequence[Piece], shared: Sequence[Piece] = (), now: Sequence[Piece] = ()) -> Amount | None:
    """Seconds of pieces; None when one of them is unknown."""
    sums = []
    for pieces in (alone, shared, now):
        known = [piece.seconds for piece in pieces if piece.seconds is not None]
        if len(known) < len(pieces):
            return None
        sums.append(math.fsum(known))
    return Amount(*sums)


class _Pace:
    """Seconds of stages by what finished trials took: the median of those alike in all that the time depends on."""

    def __init__(
        self,
        entries: Iterable[Mapping[str, Any]],
        data: str,
        world: Mapping[str, Any],
        step_seconds: float | None,
        stage_seconds: Mapping[str, float],
    ) -> None:
        given = {**stage_seconds} | ({} if step_seconds is None else {TRAIN: step_seconds})
        for name, seconds in given.items():
            if not 0 <= seconds < math.inf:
                what = "an optimiser step" if name == TRAIN else f"stage {name}"
                raise ValueError(f"seconds of {what} must be finite and not below 0, got {seconds}")
        self._given = given
        self._seen: dict[tuple[str, str], list[float]] = {}
        for entry in entries:
            if _same_machines(entry, world):
                self._learn(entry, digest(entry["config"], data)[:12] == entry["trial"])

    def _learn(self, entry: Mapping[str, Any], same_data: bool) -> None:
        """Keep the seconds of an entry's stages; those of rungs only on the same validation stream."""
        plain = entry["config"]
        for metric, value in entry["metrics"].items():
            stage = metric.removesuffix(_SECONDS)
            if stage == metric or not 0 <= value < math.inf or not (same_data or stage in (TRAIN, PACK)):
                continue
            seconds = value / plain["schedule"]["steps"] if stage == TRAIN else value
            for kind in _kinds(stage, plain):
                self._seen.setdefault((stage, kind), []).append(seconds)

    def step(self, plain: Mapping[str, Any]) -> float | None:
        """Seconds of an optimiser step of this configuration."""
        return self.stage(TRAIN, plain)

    def stage(self, name: str, plain: Mapping[str, Any]) -> float | None:
        """Seconds of "pack" or a rung of this configuration."""
        if name in self._given:
            return self._given[name]
        seen = (self._seen.get((name, kind)) for kind in _kinds(name, plain))
        return next((median(seconds) for seconds in seen if seconds), None)


def _kinds(stage: str, plain: Mapping[str, Any]) -> list[str]:
    """What configurations must have in common for their times to be taken for each other's, the closest first."""
    if stage == TRAIN:
        return [digest(plain["model"], plain["batch"])]
    if stage == PACK:
        return [digest(plain["model"], plain["quant"]), digest(plain["model"])]
    close = [digest(plain["model"], plain["score"], plain["adapt"])] if stage.startswith(ADAPTED) else []
    return [*close, digest(plain["model"], plain["score"])]


def _same_machines(entry: Mapping[str, Any], world: Mapping[str, Any]) -> bool:
    """Whether the entry's trial ran on as many workers of the same kind, as far as it says."""
    device = entry.get("tags", {}).get("device")
    if device is None:
        return True
    on_cpus = device.endswith("thread(s)")
    return bool(device.startswith(f"{world['ranks']} x ") and on_cpus == (world["device"] == "cpu"))


def dollars(hours: float, dollars_per_gpu_hour: float) -> float:
    """The price of GPU-hours. Raises: ValueError when the price of one is not finite or below 0."""
    if not 0 <= dollars_per_gpu_hour < math.inf:
        raise ValueError(f"dollars per GPU-hour must be finite and not below 0, got {dollars_per_gpu_hour}")
    return hours * dollars_per_gpu_hour


def wall_clock_seconds(planned: Forecast, slots: int) -> Amount | None:
    """Seconds from the first trial's start to the last one's end, `slots` trials at a time; None: unknown.

    As the sweep does it: trials take a free slot in their order; what another trial is computing is waited for, in the
    slot; a trial measures all rungs that nobody has begun before it waits for the others. The first trial in the order
    computes what several want, so that more slots never take longer.
    Raises: ValueError when slots is below 1.
    """
    if slots < 1:
        raise ValueError(f"the trials at a time must be at least 1, got {slots}")
    if planned.seconds is None:
        return None
    alone = _last_end(planned.works, slots, None)
    return Amount(alone, _last_end(planned.works, slots, ()), _last_end(planned.works, slots, planned.stored))


def _last_end(works: Iterable[Work], slots: int, stored: Iterable[str] | None) -> float:
    """When the last trial ends; stored: None to share nothing."""
    free = [0.0] * slots
    done = dict.fromkeys(stored or (), 0.0)
    for work in works:
        end = _end(work, heapq.heappop(free), done if stored is not None else {})
        heapq.heappush(free, end)
    return max(free)


def _end(work: Work, now: float, done: dict[str, float]) -> float:
    """When a trial that starts `now` ends; done: when each result that another has taken on is there, added to."""
    mine = {piece.key for piece in _missing(work, done)}
    there = [done[piece.key] for piece in work.training if piece.key in done]
    now = max([now, *there[-1:]])
    for together in (*((piece,) for piece in work.training if piece.key in mine), (work.pack,), work.rungs):
        begun = [piece for piece in together if piece.key in mine]
        waited = [done[piece.key] for piece in together if piece.key not in mine]
        now += math.fsum(piece.seconds or 0.0 for piece in begun)
        done.update((piece.key, now) for piece in begun)
        now = max([now, *waited])
    return now


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

    Args: entries: ledger entries; those of trials that were not forecast are left out.
    """
    ours = {work.trial for work in planned.works}
    ended = [entry for entry in entries if entry["trial"] in ours]
    lines = [
        f"{len(ours):,} trials were forecast, {len(ended):,} have ended, of them {_ends(ended, 'infeasible')} over the "
        f"cap, {_ends(ended, 'screened')} screened out, {_ends(ended, 'failed')} failed",
        _wide("seconds", "alone: forecast", "actual", "now: forecast", "actual", "actual/forecast"),
    ]
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
        seconds = entry["metrics"].get(stage + _SECONDS, 0.0)
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
