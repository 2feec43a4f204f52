"""How much each searched field decides whether a trial is among the best.

Points and their BPB enter, a share per field leaves, and beside it what a field has by chance: shares always sum to 1,
also where nothing matters, so a share alone says nothing. Says nothing of trials that were not evaluated. Source:
Watanabe et al., PED-ANOVA (IJCAI 2023), in Optuna.
"""

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tune.search.search import distribution_of
from tune.search.space import Point

TOP_SHARE = 0.25
"""Trials that count as the best."""
MIN_TRIALS = 20
"""Below, fewer than the five best trials that Optuna's documentation asks for are there."""
CHANCE_LEVEL = 0.95
"""Of the shares by chance, the part that lies below `Importance.chance`."""
_SHUFFLES = 100


@dataclass(frozen=True)
class Importance:
    """One field's part in the difference between the best trials and all."""

    field: str
    share: float
    """0 to 1; the shares of all fields sum to 1."""
    chance: float
    """What the field's divergence stays below with probability `CHANCE_LEVEL` when the BPB are dealt to the trials at
    random; as a part of the sum of all fields' divergences as found, so that it compares with `share`."""


def importance(points: Sequence[Point], bpb: Sequence[float], seed: int = 0) -> tuple[Importance, ...]:
    """The fields that vary, the most important first; none below `MIN_TRIALS` trials or when all BPB are equal.

    Assumes that trials are exchangeable where nothing matters; those of TPE are so only about.

    Args: points: the same fields in each; bpb: finite, one a point; seed: of the shuffles.
    """
    fields = sorted({field for point in points for field in point})
    texts = {field: [repr(point.get(field)) for point in points] for field in fields}
    fields = [field for field in fields if len(set(texts[field])) > 1]
    if len(points) < MIN_TRIALS or len(set(bpb)) == 1 or not fields:
        return ()
    study = _study([{field: point.get(field) for field in fields} for point in points], bpb)
    found = _divergences(study, bpb)
    total = sum(found.values())
    if total == 0.0:
        return ()
    dice, dealt, by_chance = random.Random(seed), list(bpb), []
    for _ in range(_SHUFFLES):
        dice.shuffle(dealt)
        by_chance.append(_divergences(study, dealt))
    chance = {field: float(np.quantile([one[field] for one in by_chance], CHANCE_LEVEL)) for field in fields}
    ordered = sorted(fields, key=lambda field: (-found[field], field))
    return tuple(Importance(field, found[field] / total, chance[field] / total) for field in ordered)


def _study(points: Sequence[Point], bpb: Sequence[float]) -> optuna.Study:
    """The trials as Optuna holds them: numbers by their place in ascending order, all else as unordered choices."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    choices = {field: _choices([point[field] for point in points]) for field in points[0]}
    distributions = {field: distribution_of(known) for field, known in choices.items()}
    for point, value in zip(points, bpb, strict=True):
        places = {
            field: choices[field].index(_plain(point[field])) if _is_ordered(distribution) else _plain(point[field])
            for field, distribution in distributions.items()
        }
        study.add_trial(optuna.trial.create_trial(value=value, params=places, distributions=distributions))
    return study


def _divergences(study: optuna.Study, bpb: Sequence[float]) -> dict[str, float]:
    """PED-ANOVA's divergence of the best trials from all, by field, when the trials, in order, have these BPB."""
    # Optuna warns that these BPB are not the study's own.
    with warnings.catch_warnings(action="ignore"):
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
        found = get_param_importances(
            study, evaluator=evaluator, target=lambda trial: bpb[trial.number], normalize=False
        )
        return dict(found)


def _choices(values: Sequence[Any]) -> list[Any]:
    """The different values, ascending where all are numbers."""
    known = list({repr(value): _plain(value) for value in values}.values())
    return sorted(known) if all(_is_number(value) for value in known) else sorted(known, key=repr)


def _plain(value: Any) -> Any:
    """A choice that Optuna takes: lists and the like as their text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_ordered(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, IntDistribution)
