"""What a sweep will cost, before it runs: every trial by itself, common stages shared, what is not stored.

Results are told apart by their keys in the store, so that what is forecast is what the sweep will do. Seconds come from
finished trials; without one alike they are unknown, and said to be. Which trials will be over the cap is not known
before: the forecast is an upper bound there. Of screening it is known how many trials continue, not which: the seconds
to do now are those expected when trials come in no particular order.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from tune.cache.stage_graph import StageGraph, StageOutput
from tune.planning.stage_timings import TRAIN, StageTimings
from tune.records.entries import TrialEntry
from tune.search.space import Trial
from tune.workloads.base import ScoredPart, Workload

PREFIX = "prefix"
"""Kind of the states that a training passes, which exist only to be shared."""


class Amount(NamedTuple):
    """One quantity three times."""

    alone: float
    """Every trial computes everything itself."""
    shared: float
    """Every distinct result is computed once, nothing is stored before."""
    now: float
    """What is not stored yet."""

    def times(self, factor: float) -> "Amount":
        """Returns all three multiplied."""
        return Amount(*(factor * part for part in self))


@dataclass(frozen=True)
class Piece:
    """An output of a trial and the work from what it reads to it."""

    output: StageOutput
    steps: int
    """Optimiser steps from the state before."""
    seconds: float | None
    """On all workers of a trial; None: unknown."""

    @property
    def stage(self) -> str:
        """Kind of the output: "prefix", "train", "pack" or a rung."""
        return self.output.name.kind


@dataclass(frozen=True)
class Work:
    """All outputs of a trial, each after what it reads."""

    trial: str
    pieces: tuple[Piece, ...]

    @property
    def scores(self) -> tuple[Piece, ...]:
        """The outputs that no other stage reads."""
        read = {parent for piece in self.pieces for parent in piece.output.parents}
        return tuple(piece for piece in self.pieces if piece.output.key not in read)

    def missing(self, stored: Container[str]) -> list[Piece]:
        """Returns what the trial computes itself when all in `stored` is there; it continues from the longest state."""
        keys = {output.key for output in StageGraph(tuple(piece.output for piece in self.pieces)).missing(stored)}
        return [piece for piece in self.pieces if piece.output.key in keys]


@dataclass(frozen=True)
class StageForecast:
    """All results of one kind of stage."""

    stage: str
    alone: int
    """Results of trials that run by themselves: one each; none of "prefix", which only sharing needs."""
    distinct: int
    """Different results."""
    stored: int
    """Of these, already in the store."""
    compute: int
    """Of these, to compute; a missing state that no training needs any more is not."""
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
    """Keys of outputs that are in the store."""
    units: float
    """GPUs that a trial takes; CPUs where there are none."""
    device: str
    """"cuda" or "cpu"."""

    @cached_property
    def pieces(self) -> tuple[list[Piece], list[Piece], list[Piece]]:
        """What is computed alone, shared and now, as in `Amount`."""
        alone = [piece for work in self.works for piece in work.pieces]
        return alone, to_compute(self.works, ()), to_compute(self.expected, self.stored)

    @property
    def stages(self) -> list[StageForecast]:
        """All kinds of stages, training first."""
        kinds = dict.fromkeys((PREFIX, TRAIN, *(piece.stage for piece in self.pieces[0])))
        stages = [self._stage(kind) for kind in kinds]
        return [stage for stage in stages if stage.distinct or not self.works]

    @property
    def steps(self) -> Amount:
        """Optimiser steps."""
        return Amount(*(sum(piece.steps for piece in pieces) for pieces in self.pieces))

    @property
    def training_seconds(self) -> Amount | None:
        """Seconds of trainings with their states on the way; None: unknown."""
        return self._seconds(lambda piece: piece.stage in (PREFIX, TRAIN))

    @property
    def seconds(self) -> Amount | None:
        """Seconds of all stages; None: of some stage unknown."""
        return self._seconds(lambda piece: True)

    @property
    def known_seconds(self) -> Amount:
        """Seconds of the stages that are not unknown."""
        known = self._seconds(lambda piece: piece.seconds is not None)
        assert known is not None
        return known

    def hours(self, seconds: Amount | None) -> Amount | None:
        """Returns GPU-hours, or CPU-hours, of trials that take these seconds."""
        return None if seconds is None else seconds.times(self.units / 3600)

    def _stage(self, kind: str) -> StageForecast:
        alone, _, now = ([piece.output.key for piece in pieces if piece.stage == kind] for pieces in self.pieces)
        seconds = self._seconds(lambda piece: piece.stage == kind)
        if kind == PREFIX and seconds is not None:
            seconds = seconds._replace(alone=0.0)
        if kind == TRAIN and seconds is not None and self.training_seconds is not None:
            # A trial by itself trains from the first step to the last without a state in between.
            seconds = seconds._replace(alone=self.training_seconds.alone)
        count = 0 if kind == PREFIX else len(alone)
        return StageForecast(kind, count, len(set(alone)), len(self.stored & set(alone)), len(now), seconds)

    def _seconds(self, is_meant: Callable[[Piece], bool]) -> Amount | None:
        """Returns the seconds of some pieces; None when one of them is unknown."""
        chosen = [[piece.seconds for piece in pieces if is_meant(piece)] for pieces in self.pieces]
        if None in chosen[0]:
            return None
        return Amount(*(math.fsum(filter(None, seconds)) for seconds in chosen))


def forecast(
    workload: Workload,
    trials: Sequence[Trial],
    timings: StageTimings,
    is_stored: Callable[[str], bool],
    odds: Mapping[str, Sequence[ScoredPart]] | None = None,
) -> Forecast:
    """Returns the work of `trials`.

    Args: workload: what they run, knowing what they share (`Workload.for_trials`); trials: in the order in which they
    run; timings: seconds of stages; is_stored: whether a key is in the store; odds: rung -> how much of it is expected
    to be scored, from `Workload.screening_odds`; None: all of it.
    """
    works = tuple(_work(trial, workload.stages(trial), timings) for trial in trials)
    expected = works if odds is None else _screened(works, odds)
    stored = frozenset(filter(is_stored, {piece.output.key for work in works for piece in work.pieces}))
    world = workload.world
    units = world.ranks * (1 if world.device == "cuda" else world.cpus)
    return Forecast(works, expected, stored, units, world.device)


def to_compute(works: Iterable[Work], stored: Collection[str]) -> list[Piece]:
    """Returns what remains to be computed, each result once."""
    have, pieces = set(stored), []
    for work in works:
        missing = work.missing(have)
        have.update(piece.output.key for piece in missing)
        pieces += missing
    return pieces


class Costs:
    """Seconds that trials still cost, for a search that looks at gain per second; they change the order alone."""

    def __init__(
        self, graph: Callable[[Trial], StageGraph], timings: StageTimings, is_stored: Callable[[str], bool]
    ) -> None:
        self._graph, self._timings, self._is_stored = graph, timings, is_stored
        self._taken: set[str] = set()

    def take(self, trial: Trial) -> None:
        """Counts the stages of a trial that was given out as computed."""
        self._taken |= set(self._graph(trial).keys)

    def learn(self, entry: TrialEntry) -> None:
        """Learns the seconds of a finished trial."""
        self._timings.learn(entry)

    def seconds(self, trial: Trial) -> float:
        """Returns the seconds of the stages that are still to compute; before anything was seen, a step counts as 1."""
        graph = self._graph(trial)
        known = {key for key in graph.keys if key in self._taken or self._is_stored(key)}
        missing = _work(trial, graph, self._timings).missing(known)
        return math.fsum(piece.steps if piece.seconds is None else piece.seconds for piece in missing)


def _work(trial: Trial, graph: StageGraph, timings: StageTimings) -> Work:
    """Returns the trial's outputs with the work of each; first chunks are part of their rung."""
    steps = {output.key: output.steps for output in graph.outputs}
    pieces = []
    for output in graph.outputs:
        if output.name.first_chunks:
            continue
        new = output.steps - max((steps[parent] for parent in output.parents), default=0) if output.steps else 0
        stage = TRAIN if output.name.kind == PREFIX else output.name.kind
        seconds = timings.seconds(trial.config, stage, new if output.steps else None)
        pieces.append(Piece(output, new, seconds))
    return Work(trial.trial, tuple(pieces))


def _screened(works: Sequence[Work], odds: Mapping[str, Sequence[ScoredPart]]) -> tuple[Work, ...]:
    """Returns the works with the seconds that are expected of their rungs.

    Of a result that several trials want, a part is computed when one of them scores it; they are taken as independent.
    """
    num_wanting = Counter(piece.output.key for work in works for piece in work.pieces)

    def expected(piece: Piece) -> Piece:
        if piece.seconds is None:
            return piece
        wanting = num_wanting[piece.output.key]
        share = math.fsum(part.share * (1 - (1 - part.probability) ** wanting) for part in odds[piece.stage])
        return replace(piece, seconds=piece.seconds * share)

    return tuple(
        replace(work, pieces=tuple(expected(p) if p in work.scores else p for p in work.pieces)) for work in works
    )


def wall_clock_seconds(planned: Forecast, slots: int) -> Amount | None:
    """Returns the seconds from the first trial's start to the last one's end, `slots` trials at a time; None: unknown.

    Trials take a free slot in their order and wait there for what another trial is computing; they score all rungs that
    nobody has begun before they wait for the others. The first trial in the order computes what several want, so that
    more slots never take longer. A sweep itself gives such a slot to another trial (`tune.planning.order`), so that
    with many slots it is done well before.

    Raises: ValueError when slots is below 1.
    """
    if slots < 1:
        raise ValueError(f"the trials at a time must be at least 1, got {slots}")
    if planned.seconds is None:
        return None
    runs = ((planned.works, None), (planned.works, ()), (planned.expected, planned.stored))
    return Amount(*(_last_end(works, slots, stored) for works, stored in runs))


def _last_end(works: Iterable[Work], slots: int, stored: Iterable[str] | None) -> float:
    """Returns when the last trial ends. Args: stored: keys; None to share nothing."""
    free = [0.0] * slots
    done = dict.fromkeys(stored or (), 0.0)
    for work in works:
        heapq.heapreplace(free, _end(work, free[0], {} if stored is None else done))
    return max(free)


def _end(work: Work, start: float, done: dict[str, float]) -> float:
    """Returns when a trial ends. Args: done: key -> when the result is there; those of this trial are added."""
    own = {piece.output.key for piece in work.missing(done)}
    # Of the states before the first own one only the last is read.
    read = [done[key] for piece in work.pieces if piece.output.steps and (key := piece.output.key) in done]
    now = max([start, *read[-1:]])
    # Scores, which nothing reads, are waited for together.
    for together in (*([piece] for piece in work.pieces if piece not in work.scores), list(work.scores)):
        computed = [piece for piece in together if piece.output.key in own]
        awaited = [done[p.output.key] for p in together if p.output.key not in own and not p.output.interior]
        now += math.fsum(piece.seconds or 0.0 for piece in computed)
        done.update((piece.output.key, now) for piece in computed)
        now = max([now, *awaited])
    return now
