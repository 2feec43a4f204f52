"""Which trial comes next: grid, random or TPE, by asking and telling.

No point is given twice, and trials that the ledger holds are not given again: an interrupted search continues where it
was. The byte cap is a constraint: TPE learns how far over it a trial was, and such a trial never counts as good. Source
of TPE: Bergstra et al. 2011, in Optuna.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from golf.config.config import nearest
from tune.records.entries import TrialEntry, TrialState
from tune.search.additive_model import AdditiveModel
from tune.search.space import (
    Point,
    Range,
    Space,
    Trial,
    check_space,
    draw_points,
    is_continuous,
    points_of,
    size_of,
)

Strategy = Literal["grid", "random", "tpe"]
STRATEGIES: tuple[Strategy, ...] = ("grid", "random", "tpe")
DEFAULT_TRIALS = 20
"""Trials of a random or TPE search without a number."""
_RANDOM_FIRST = 5
"""Trials before TPE has anything to go by."""
_REFUSED_IN_A_ROW = 20
"""Proposals of TPE that are known or invalid before the first open point is taken instead."""
_PROPOSALS = 6
"""Proposals of TPE, each the best of its own candidates, among which the cheapest is taken."""
_SPARE = 4
"""Random points of a space with ranges for every trial that is wanted: some may be invalid."""
_LARGEST_SPACE = 1_000_000
"""Combinations."""
_ENDED = {
    TrialState.DONE: optuna.trial.TrialState.COMPLETE,
    TrialState.INFEASIBLE: optuna.trial.TrialState.COMPLETE,
    TrialState.SCREENED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
}
"""What Optuna calls a trial's end."""


class Cost(Protocol):
    """What trials still cost."""

    def seconds(self, trial: Trial) -> float:
        """Returns the seconds of what is still to compute for it."""

    def take(self, trial: Trial) -> None:
        """Counts the trial's stages as computed, for it was given out."""

    def learn(self, entry: TrialEntry) -> None:
        """Learns the seconds of a finished trial."""


class Order(Protocol):
    """Which of several trials starts next."""

    def choose(self, trials: Sequence[Trial], loss: Callable[[Trial], float] = ...) -> Trial | None:
        """Returns one of these trials, of those alike to it that of the least `loss`; None while none should start."""

    def start(self, trial: Trial) -> None:
        """Counts a trial as running, for it was given out."""

    def end(self, trial: str, stored: Sequence[str]) -> None:
        """Counts a trial, by its id, as ended. Args: stored: keys of its outputs that are stored."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How a space is searched."""

    spaces: tuple[Space, ...]
    """What is searched; TPE takes one space only."""
    strategy: str = "tpe"
    """One of STRATEGIES."""
    num_trials: int | None = None
    """How many trials at most, finished ones included; None: all of a grid, else DEFAULT_TRIALS."""
    seed: int = 0
    """Seed of the search; the model's is a field of its configuration."""
    enqueued: tuple[Point, ...] = ()
    """Points of the space that come first, whatever the strategy."""

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f'unknown search "{self.strategy}"{nearest(self.strategy, STRATEGIES)}')
        if self.num_trials is not None and self.num_trials < 1:
            raise ValueError(f"the number of trials must be at least 1, got {self.num_trials}")
        if self.strategy == "tpe" and len(self.spaces) != 1:
            raise ValueError(f"TPE searches one space, got {len(self.spaces)}; use grid or random")


class Search:
    """Gives trials until their number is reached or the space is exhausted."""

    def __init__(
        self, config: SearchConfig, make_trial: Callable[[Point], Trial], known: Sequence[TrialEntry] = ()
    ) -> None:
        """Continues a search.

        Args:
            config: spaces, strategy and number of trials.
            make_trial: makes the trial of a point; raises ValueError for a point that is none.
            known: ledger entries of finished trials.

        Raises:
            ValueError: on an unknown field or choice, or too large a space.
        """
        for space in config.spaces:
            check_space(space, make_trial)
        size = sum(map(size_of, config.spaces))
        if size > _LARGEST_SPACE:
            raise ValueError(f"the space has {size:,} combinations, more than {_LARGEST_SPACE:,}; give fewer choices")
        self.config, self._make_trial, self._known = config, make_trial, tuple(known)
        self._trials: dict[str, Trial | None] = {}
        order, self._limit = _order_of(config)
        self._order = [*config.enqueued, *order]
        self.given: dict[str, Trial] = {}
        """The trials given so far and those finished before, by their id."""
        self._tpe = _TPE(config.spaces[0], config.seed) if config.strategy == "tpe" else None
        self._first_points: list[Trial] = []
        for point in config.enqueued:
            make_trial(point)
        self._model = AdditiveModel()
        self._cost: Cost | None = None
        self._tree: Order | None = None
        self._open_trials: dict[str, Trial] | None = None
        """What is still to be given where the order of trials is free; None: not known yet."""
        for entry in self._known:
            self._remember(entry)
        self.resume(config.enqueued)

    def _remember(self, entry: TrialEntry) -> None:
        """Counts a finished trial of this very search."""
        space = next((space for space in self.config.spaces if space.keys() == entry.parameters.keys()), None)
        if space is None:
            return
        point = {field: entry.parameters[field] for field in space}
        if _is_in(point, space) and (trial := self._valid(point)) is not None and trial.trial == entry.trial:
            self.given[trial.trial] = trial
            self.tell(entry)

    def order_by(self, order: Order) -> None:
        """Lets `order` choose among the trials that are given whatever is learned on the way; TPE's come as it asks.

        Points that were given to come first stay before the others, but for those that `order` holds back. Among
        trials that are alike to it, those come first that are expected to score best, as far as others have ended.
        """
        self._tree = order

    @property
    def learns(self) -> bool:
        """Whether finished trials decide which points are tried."""
        return self._tpe is not None

    @property
    def holds_back(self) -> bool:
        """Whether trials are left that `ask` did not give because each would wait for a running one."""
        return len(self.given) < self._limit and bool(self._open_trials)

    def price(self, cost: Cost) -> None:
        """Lets TPE choose the cheapest among proposals of about equal expected gain."""
        self._cost = cost
        for trial in self.given.values():
            cost.take(trial)

    def resume(self, points: Iterable[Point]) -> None:
        """Gives these points first: trials that were begun and not finished."""
        spaces, first = self.config.spaces, self._first_points
        trials = [self._open(point) for point in points if any(_is_in(point, space) for space in spaces)]
        self._first_points = list({trial.trial: trial for trial in (*filter(None, trials), *first)}.values())
        self._open_trials = None

    def ask(self) -> Trial | None:
        """Returns the next trial; None when there is none left, or all that are left are held back (`holds_back`)."""
        if len(self.given) >= self._limit:
            return None
        trial = self._next() if self._tree is None or self._tpe is not None else self._choose(self._tree)
        if trial is not None:
            self.given[trial.trial] = trial
            if self._cost is not None:
                self._cost.take(trial)
            if self._tree is not None:
                self._tree.start(trial)
        return trial

    def _next(self) -> Trial | None:
        trial: Trial | None = None
        if self._first_points:
            trial = self._first_points.pop(0)
        elif self._tpe is not None:
            # Before TPE has a notion of gain, the cheapest would only be the shortest training.
            trial = self._tpe.ask(self._open, self._cost if len(self.given) >= _RANDOM_FIRST else None)
        return trial or next(filter(None, map(self._open, self._order)), None)

    def _choose(self, order: Order) -> Trial | None:
        """Returns one of the trials that would be given in the order of the search."""
        if self._open_trials is None:
            rest = filter(None, map(self._open, self._order))
            trials = {trial.trial: trial for trial in (*self._first_points, *rest)}
            self._open_trials = dict(itertools.islice(trials.items(), self._limit - len(self.given)))
        trial = order.choose(self._first_points) or order.choose(list(self._open_trials.values()), self._model.expected)
        if trial is not None:
            del self._open_trials[trial.trial]
            self._first_points = [first for first in self._first_points if first.trial != trial.trial]
        return trial

    def tell(self, entry: TrialEntry) -> None:
        """Learns from a finished trial's ledger entry."""
        self._model.learn(entry)
        if self._cost is not None:
            self._cost.learn(entry)
        if self._tree is not None:
            self._tree.end(entry.trial, entry.keys)
        if self._tpe is not None:
            self._tpe.tell(self.given[entry.trial].parameters, entry)

    def planned(self) -> list[Trial]:
        """Returns all trials that this search would give if nothing were learned on the way; gives none of them."""
        return list(iter(Search(self.config, self._make_trial, self._known).ask, None))

    def candidates(self) -> list[Trial]:
        """Returns the trials that this search may give: all of the space for TPE, else its own choice."""
        return self._first(None if self._tpe is not None else self._limit)

    def certain(self) -> list[Trial]:
        """Returns trials that will be given whatever is learned on the way: none of TPE's."""
        return [] if self._tpe is not None else self._first(self._limit)

    @property
    def num_trials(self) -> int:
        """Trials that the whole search has, finished ones included."""
        return len(self._first(self._limit))

    def _first(self, limit: int | None) -> list[Trial]:
        """The first valid trials in the search's order, of several points that make one trial the first; None: all."""
        trials: dict[str, Trial] = {}
        for point in self._order:
            if limit is not None and len(trials) == limit:
                break
            trial = self._valid(point)
            if trial is not None:
                trials.setdefault(trial.trial, trial)
        return list(trials.values())

    def _valid(self, point: Point) -> Trial | None:
        """The point's trial; None for combinations such as a warmdown after the last step."""
        key = key_of(point)
        if key not in self._trials:
            try:
                self._trials[key] = self._make_trial(point)
            except ValueError:
                self._trials[key] = None
        return self._trials[key]

    def _open(self, point: Point) -> Trial | None:
        """The point's trial if it is valid and was not given yet."""
        trial = self._valid(point)
        return None if trial is None or trial.trial in self.given else trial


def _order_of(config: SearchConfig) -> tuple[list[Point], int]:
    """Returns the points in the order in which they are taken, and how many trials there are at most."""
    continuous = any(map(is_continuous, config.spaces))
    if config.strategy == "grid":
        if continuous:
            ranges = [field for space in config.spaces for field in space if is_continuous({field: space[field]})]
            raise ValueError(f"{ranges[0]} is a range, a grid takes choices: A,B,... or int:LOW..HIGH:STEP")
        order = [point for space in config.spaces for point in points_of(space)]
        return order, config.num_trials or len(order)
    source, limit = random.Random(config.seed), config.num_trials or DEFAULT_TRIALS
    if continuous:
        return [point for space in config.spaces for point in draw_points(space, _SPARE * limit, source)], limit
    order = [point for space in config.spaces for point in points_of(space)]
    source.shuffle(order)
    return order, limit


def _is_in(point: Point, space: Space) -> bool:
    return point.keys() == space.keys() and all(value in space[field] for field, value in point.items())


def key_of(point: Point) -> str:
    """A point as a dictionary's key: its values may be lists."""
    return json.dumps(list(point.items()))


class _TPE:
    """Optuna's constrained TPE over the choices; numbers in order are ordinal."""

    def __init__(self, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_FIRST)
        self._study = optuna.create_study(sampler=sampler)
        self._space = space
        self._distributions = {field: distribution_of(choices) for field, choices in space.items()}
        self._asked: dict[str, optuna.Trial] = {}

    def ask(self, is_open: Callable[[Point], Trial | None], cost: Cost | None) -> Trial | None:
        """A proposal that is open, the cheapest of a few; None when none comes."""
        proposals: list[tuple[float, optuna.Trial, Trial]] = []
        wanted = 1 if cost is None else _PROPOSALS
        for _ in range(_REFUSED_IN_A_ROW):
            asked = self._study.ask(self._distributions)
            point = {field: self._choice(field, value) for field, value in asked.params.items()}
            trial = is_open(point)
            if trial is None:
                self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                proposals.append((0.0 if cost is None else cost.seconds(trial), asked, trial))
            if len(proposals) == wanted:
                break
        if not proposals:
            return None
        chosen = min(proposals, key=lambda proposal: proposal[0])
        for proposal in proposals:
            if proposal is not chosen:
                self._study.tell(proposal[1], state=optuna.trial.TrialState.FAIL)
        self._asked[key_of(chosen[2].parameters)] = chosen[1]
        return chosen[2]

    def tell(self, point: Point, entry: TrialEntry) -> None:
        """Learns what became of a point, asked for here or not; a failed trial teaches nothing."""
        ended, over, value = _ENDED[entry.state], 0.0, None
        if ended == optuna.trial.TrialState.COMPLETE:
            value = math.inf if entry.loss is None else entry.loss
            over = entry.excess
        asked = self._asked.pop(key_of({field: point[field] for field in self._space}), None)
        if asked is not None:
            asked.set_constraint("over_cap", over)
            self._study.tell(asked, value, ended)
            return
        self._study.add_trial(
            optuna.trial.create_trial(
                state=ended,
                value=value,
                params={field: self._position(field, point[field]) for field in self._space},
                distributions=self._distributions,
                constraints={"over_cap": over},
            )
        )

    def _choice(self, field: str, value: Any) -> Any:
        choices = self._space[field]
        if isinstance(choices, Range):
            return int(value) if choices.step is not None else choices.rounded(value)
        return choices[value] if self._is_ordinal(field, choices) else value

    def _position(self, field: str, choice: object) -> object:
        choices = self._space[field]
        if isinstance(choices, Range) or not self._is_ordinal(field, choices):
            return choice
        return list(choices).index(choice)

    def _is_ordinal(self, field: str, choices: Sequence[Any]) -> bool:
        """Whether a choice is named by its position among the field's."""
        found = self._distributions[field]
        return not isinstance(found, CategoricalDistribution) or list(found.choices) != list(choices)


def distribution_of(choices: Sequence[Any] | Range) -> BaseDistribution:
    """The numbers of a range; the place among ascending numbers; else one of unordered choices, or its place."""
    if isinstance(choices, Range):
        if choices.step is not None:
            return IntDistribution(int(choices.low), int(choices.ends()[1]), step=choices.step)
        return FloatDistribution(choices.low, choices.high, log=choices.log)
    numbers = all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices)
    if numbers and list(choices) == sorted(set(choices)):
        return IntDistribution(0, len(choices) - 1)
    plain = all(choice is None or isinstance(choice, (bool, int, float, str)) for choice in choices)
    return CategoricalDistribution(list(choices) if plain else list(range(len(choices))))
