"""What a sweep will cost, before it runs: with every trial alone, with common stages shared, and with what is stored.

Trials, ledger entries of finished trials and a look into the store enter; counts, optimiser steps, seconds and a wall
clock leave. Results are told apart by the keys of `tune.workloads.gepa.stages`: what is forecast is what the sweep
will do. Seconds come from finished trials of the same model on as many workers, never from a guess: without one they
are unknown, and said to be. Which trials are over the cap no forecast knows: it is an upper bound there. Of screening
it knows how many go on, not which: the seconds to do now are then those expected when trials come in no particular
order.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from golf.config.config import to_plain
from golf.runtime.results import SLIDING, TTT
from tune.cache.stage_graph import StageOutput
from tune.planning.stage_timings import NOTHING, PACK, TRAIN, StageTimings
from tune.search.space import Trial
from tune.workloads.gepa.stages import gepa_stages, training_key

PREFIX = "prefix"


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
    """By trial, in the order in which they run, every rung in full."""
    expected: tuple[Work, ...]
    """The same with the seconds of rungs that screening leaves of them."""
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
    stage_seconds: Mapping[str, float] = NOTHING,
    top: float | None = None,
    share: float = 0.0,
) -> Forecast:
    """The work of `trials`.

    Args: data_digest: the dataset's; world: what of the machines changes bits (`Workers.world`);
        entries: ledger entries of finished trials of any sweep; stored: whether a key is in the store; points: steps at
        which others part from a training, by `training_key`, as `branch_points` gives them; step_seconds: of one
        optimiser step, instead of what `entries` say; stage_seconds: of "pack" or a rung, likewise; top: share of the
        trials that go on from each rung of the screening, None: no screening; share: of the stream it is done on.
    Raises: ValueError when seconds that are given are not finite or below 0.
    """
    pace = StageTimings(entries, data_digest, world, step_seconds, stage_seconds)
    works = tuple(_work(trial, data_digest, world, pace, points) for trial in trials)
    expected = works if top is None else _screened(works, top, share)
    keys = {piece.key for work in works for piece in work.pieces}
    there = frozenset(key for key in keys if stored(key))
    alone = [piece for work in works for piece in work.pieces]
    shared, now = to_compute(works, ()), to_compute(expected, there)
    names = list(dict.fromkeys((PREFIX, TRAIN, PACK, *(piece.stage for piece in alone))))
    stages = tuple(_stage(name, alone, shared, now, there) for name in names)
    training = [[piece for piece in pieces if piece.stage in (PREFIX, TRAIN)] for pieces in (alone, shared, now)]
    return Forecast(
        works,
        expected,
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
    trial: Trial, data: str, world: Mapping[str, Any], pace: StageTimings, points: Mapping[str, Sequence[int]]
) -> Work:
    """The trial's results with the work of each."""
    config, plain = trial.config, to_plain(trial.config)
    stages = gepa_stages(config, data, dict(world), points[training_key(config)])
    step = pace.step(plain)
    training, before = [], 0
    for wanted in stages.training:
        steps = wanted.steps - before
        seconds = None if step is None else steps * step
        training.append(Piece(PREFIX if wanted.interior else TRAIN, wanted.key, steps, seconds))
        before = wanted.steps

    def piece(wanted: StageOutput) -> Piece:
        return Piece(str(wanted.name), wanted.key, 0, pace.stage(str(wanted.name), plain))

    return Work(trial.trial, tuple(training), piece(stages.pack), tuple(map(piece, stages.rungs)))


def _screened(works: Sequence[Work], top: float, share: float) -> tuple[Work, ...]:
    """The works with the seconds that are expected of their rungs.

    Of a result that several trials want, the rest is computed when one of them goes on; they are taken as independent.
    """
    first = _promoted(len(works), top)
    second = first * _promoted(round(first * len(works)), top)
    wanted = Counter(piece.key for work in works for piece in work.rungs)

    def left(piece: Piece) -> Piece:
        def one_of(chance: float) -> float:
            return 1 - (1 - chance) ** wanted[piece.key]

        begun = {SLIDING: 1.0, TTT: one_of(first)}.get(piece.stage)
        factor = one_of(second) if begun is None else share * begun + (1 - share) * one_of(second)
        return piece if piece.seconds is None else replace(piece, seconds=factor * piece.seconds)

    return tuple(replace(work, rungs=tuple(map(left, work.rungs))) for work in works)


def _promoted(num_trials: int, top: float) -> float:
    """Expected share of trials that are in the top share of those that came so far, themselves included."""
    return sum(min(n, math.ceil(top * n)) / n for n in range(1, num_trials + 1)) / max(num_trials, 1)


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
    return Amount(alone, _last_end(planned.works, slots, ()), _last_end(planned.expected, slots, planned.stored))


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
