"""Which trial of a sweep starts next, by the tree of the outputs that trials share.

A trial that needs what a running trial is computing would only wait in its place; it is held back until that is stored.
Of the others, the one with the most optimiser steps to train comes first: what many trials wait for has to begin early,
and the longest must not be the last to begin. Then comes the one with the most outputs to compute, so that the first
trials of a training each pack another artifact, and of these the one of the least expected loss. Where trials are
screened the expected loss comes before the outputs: what is compared with a good trial stops early. Trials that are
alike in all that keep their order.

Source of the rule: list scheduling, the longest first; Graham 1969.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tune.cache.stage_graph import StageGraph
from tune.search.space import Trial

_LOOK_COST = 10
"""Times the seconds of a look at the store that pass before the next one."""


class _Rank(NamedTuple):
    """What a trial is chosen by, the largest first."""

    is_stored: bool
    """Whether all that it shares is stored."""
    steps: int
    """Optimiser steps to train."""
    num_missing: int
    """Outputs to compute."""


class TreeOrder:
    """Chooses trials by what is stored and by what running trials compute; it changes no result."""

    def __init__(
        self,
        stages: Callable[[Trial], StageGraph],
        stored: Callable[[], Iterable[str]],
        *,
        screened: bool = False,
        look_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins with no running trial.

        Args: stages: the outputs of a trial; stored: the keys of all outputs that are stored; screened: whether trials
            are compared on their first chunks; look_seconds: least seconds between two calls of `stored`; clock:
            seconds that only grow.
        """
        self._stages, self._list_stored, self._screened = stages, stored, screened
        self._look_seconds, self._clock = look_seconds, clock
        self._next_look, self._never_looked = clock(), True
        self._stored: set[str] = set()
        self._graphs: dict[str, StageGraph] = {}
        self._trials_of: dict[str, list[str]] = {}
        """Key -> the trials that have this output."""
        self._computing: dict[str, str] = {}
        """Key -> the running trial that computes it."""
        self._ranks: dict[str, _Rank | None] = {}
        """Trial -> its rank, None while it is held back; of those whose outputs did not change since."""

    def choose(self, trials: Sequence[Trial], loss: Callable[[Trial], float] = lambda trial: 0.0) -> Trial | None:
        """Returns which of these trials starts next; None while every one of them would wait for a running trial.

        Args: trials: to choose from; loss: that is expected of a trial.
        """
        ranks = self._ranks_of(trials)
        if (None in ranks or self._never_looked) and self._look():
            ranks = self._ranks_of(trials)
        ranked = [(trial, rank) for trial, rank in zip(trials, ranks, strict=True) if rank is not None]
        if not ranked:
            return None
        decisive = 2 if self._screened else 3  # fields that come before the expected loss
        best = max(rank[:decisive] for _, rank in ranked)
        alike = (pair for pair in ranked if pair[1][:decisive] == best)
        return min(alike, key=lambda pair: (loss(pair[0]), -pair[1].num_missing))[0]

    def start(self, trial: Trial) -> None:
        """Counts what a trial has to compute as being computed."""
        keys = [output.key for output in self._graph(trial).missing(self._stored)]
        self._computing.update((key, trial.trial) for key in keys if key not in self._computing)
        self._changed(keys)

    def end(self, trial: str, stored: Iterable[str]) -> None:
        """Counts a trial, by its id, as ended: what it did not store is no longer being computed.

        Args: stored: keys of its outputs that are stored.
        """
        keys = [key for key, by in self._computing.items() if by == trial]
        for key in keys:
            del self._computing[key]
        self._stored.update(stored)
        self._changed([*keys, *stored])

    def _look(self) -> bool:
        """Looks for what was stored, now and then: a bucket takes long to list. Returns: whether it looked."""
        began = self._clock()
        if began < self._next_look:
            return False
        try:
            stored = set(self._list_stored())
        except OSError:  # a store that does not answer costs order, not the sweep
            stored = self._stored
        self._changed(stored ^ self._stored)
        self._stored, self._never_looked = stored, False
        for key in stored & self._computing.keys():
            del self._computing[key]
        ended = self._clock()
        self._next_look = ended + max(self._look_seconds, _LOOK_COST * (ended - began))
        return True

    def _ranks_of(self, trials: Sequence[Trial]) -> list[_Rank | None]:
        for trial in trials:
            if trial.trial not in self._ranks:
                self._ranks[trial.trial] = self._new_rank(self._graph(trial))
        return [self._ranks[trial.trial] for trial in trials]

    def _new_rank(self, graph: StageGraph) -> _Rank | None:
        missing = graph.missing(self._stored)
        awaited = [output for output in missing if output.key in self._computing]
        # What nothing reads is waited for at a trial's end, when its own part is done.
        if any(output.key in graph.read for output in awaited) or (missing and len(awaited) == len(missing)):
            return None
        trained = [output.steps for output in graph.outputs if output.steps and output.key in self._stored]
        to_train = [output.steps for output in missing if output.steps]
        steps = max(to_train) - max((n for n in trained if n < max(to_train)), default=0) if to_train else 0
        return _Rank(bool(graph.outputs) and not missing, steps, len(missing))

    def _graph(self, trial: Trial) -> StageGraph:
        if trial.trial not in self._graphs:
            graph = self._graphs[trial.trial] = self._stages(trial)
            for key in graph.keys:
                self._trials_of.setdefault(key, []).append(trial.trial)
        return self._graphs[trial.trial]

    def _changed(self, keys: Iterable[str]) -> None:
        for key in keys:
            for trial in self._trials_of.get(key, ()):
                self._ranks.pop(trial, None)
