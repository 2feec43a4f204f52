"""How much each searched field decides whether a trial is among the best.

Computes PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna implements it: for every field the Pearson divergence of its
values among the best trials from its values among all. Shares sum to 1 also where nothing matters, so that a share
alone says nothing; beside it is what a field reaches when the BPB are dealt to the trials at random. Trials without a
BPB have no part in it.
"""

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tune.search.space import Point

TOP_SHARE = 0.25
"""Share of the trials that counts as the best."""
MIN_TRIALS = 20
"""With fewer there are less than the five best trials that Optuna's documentation asks for."""
CHANCE_LEVEL = 0.95
"""Probability that a field which does not matter has a share below `Importance.chance`."""
_NUM_SHUFFLES = 100


@dataclass(frozen=True, kw_only=True)
class Importance:
    """One field's part in the difference between the best trials and all."""

    field: str
    share: float
    """0 to 1; the shares of all fields sum to 1."""
    chance: float
    """`CHANCE_LEVEL` quantile of the field's divergence under shuffled BPB, in units of the sum behind `share`."""


def field_importances(points: Sequence[Point], bpb: Sequence[float], seed: int = 0) -> tuple[Importance, ...]:
    """Computes the importance of every field that varies.

    Trials are taken for exchangeable where nothing matters; those of a TPE search are so only about.

    Args:
        points: searched fields of every trial, the same fields in each.
        bpb: finite, one for every point.
        seed: seed of the shuffles.

    Returns: the most important field first; nothing below `MIN_TRIALS` trials, or where no field or BPB differs.
    """
    encoded = {field: _encoded([point.get(field) for point in points]) for field in sorted(set().union(*points))}
    varying = {field: (values, kind) for field, (values, kind) in encoded.items() if len(set(values)) > 1}
    if len(points) < MIN_TRIALS or len(set(bpb)) == 1 or not varying:
        return ()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for number, value in enumerate(bpb):
        params = {field: values[number] for field, (values, _) in varying.items()}
        distributions = {field: kind for field, (_, kind) in varying.items()}
        study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
    divergence = _divergences(study, bpb)
    total = sum(divergence.values())
    if total == 0.0:
        return ()
    generator = random.Random(seed)
    shuffled = [_divergences(study, generator.sample(bpb, len(bpb))) for _ in range(_NUM_SHUFFLES)]
    ordered = sorted(varying, key=lambda field: (-divergence[field], field))
    chance = {field: float(np.quantile([item[field] for item in shuffled], CHANCE_LEVEL)) for field in varying}
    return tuple(
        Importance(field=field, share=divergence[field] / total, chance=chance[field] / total) for field in ordered
    )


def _encoded(values: Sequence[Any]) -> tuple[list[int], BaseDistribution]:
    """Returns indices of the values and their distribution: numbers by rank, all else as unordered choices."""
    known = {repr(value): value for value in values}
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known.values())
    ordered = sorted(known, key=known.__getitem__) if is_number else sorted(known)
    index = {text: number for number, text in enumerate(ordered)}
    kind = IntDistribution(0, len(known) - 1) if is_number else CategoricalDistribution(range(len(known)))
    return [index[repr(value)] for value in values], kind


def _divergences(study: optuna.Study, bpb: Sequence[float]) -> dict[str, float]:
    """Returns the divergence of every field, as if the study's trials, in order, had these BPB."""
    evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_SHARE)
    with warnings.catch_warnings(action="ignore"):  # Optuna warns that these BPB are not the study's own
        return get_param_importances(
            study, evaluator=evaluator, target=lambda trial: bpb[trial.number], normalize=False
        )
