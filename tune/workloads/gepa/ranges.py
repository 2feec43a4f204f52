"""The usual ranges of fields, around a configuration's own values: what --only searches where no range is given.

They are wide enough to hold the optimum of a model of another size; --space narrows them where it is known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from golf.config.config import RunConfig, override
from golf.config.presets import SPLITS
from tune.search.space import Range

SPLIT = "split"
Choices = Sequence[Any] | Range
_DIGITS = 3
"""Significant digits of a range's ends."""


def _factor(factor: float) -> Callable[[RunConfig, Any], Choices]:
    """From the value divided by a factor to the value times it, on a logarithmic scale; around 0.01 where it is 0."""

    def around(base: RunConfig, value: Any) -> Range:
        low, high = (float(f"{(value or 0.01) * times:.{_DIGITS}g}") for times in (1 / factor, factor))
        return Range(low=low, high=high, log=True)

    return around


def _times(*factors: float) -> Callable[[RunConfig, Any], Choices]:
    """Multiples of the value, as whole numbers."""
    return lambda base, value: sorted({max(1, round(value * factor)) for factor in factors})


def _widths(base: RunConfig, value: Any) -> list[int]:
    """From half to twice the width, in equal heads of even dimensions."""
    unit = 2 * base.model.num_heads
    return sorted({max(unit, round(value * factor / unit) * unit) for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)})


_AROUND: Mapping[str, Callable[[RunConfig, Any], Choices]] = {
    "optimizer.matrix_lr": _factor(4),
    "optimizer.scalar_lr": _factor(4),
    "optimizer.embedding_lr": _factor(4),
    "optimizer.decoder_lr_multiplier": _factor(4),
    "optimizer.weight_decay.matrices": _factor(4),
    "optimizer.weight_decay.embedding": _factor(4),
    "optimizer.weight_decay.others": _factor(4),
    "optimizer.gradient_clip": _factor(4),
    "schedule.steps": _times(0.75, 1.0, 1.25),
    "schedule.warmdown_start": _times(0.5, 0.75, 1.0, 1.25, 1.5),
    "batch.tokens_per_step": _times(0.5, 1.0, 2.0),
    "model.model_dim": _widths,
    "model.num_layers": lambda base, value: [value + more for more in range(-3, 4)],
    "model.mlp_hidden": _times(0.75, 1.0, 1.25, 1.5),
    "model.logit_softcap": _factor(2),
    "ttt.lr": _factor(4),
    "ttt.epochs": _times(0.5, 1.0, 2.0),
}
"""Field -> what is searched around its value in a configuration."""
_FIXED: Mapping[str, Choices] = {
    "optimizer.newton_schulz_steps": [4, 5, 6, 7],
    "optimizer.newton_schulz": ["jordan", "polar_express"],
    "schedule.warmdown_fraction": Range(low=0.2, high=0.9),
    "schedule.warmdown_shape": ["linear", "cosine"],
    "schedule.loop_start": Range(low=0.0, high=0.8),
    "schedule.momentum_end": [0.95, 0.97, 0.99],
    "schedule.ema_decay": [0.9, 0.99, 0.995, 0.9965, 0.998],
    "model.query_gain_init": Range(low=1.0, high=6.0),
    SPLIT: list(SPLITS),
}
"""Field -> what is searched whatever its value is."""
FIELDS = (*_AROUND, *_FIXED)
"""Fields with a usual range."""


def usual_choices(base: RunConfig, field: str) -> Choices | None:
    """Returns what is usually searched of a field of `base`; None for a field without a usual range.

    Choices that `base` does not take, such as fewer layers than its value embeddings name, are left out.

    Raises: ValueError where no choice is left, or the field has no effect in `base`.
    """
    if field in _FIXED:
        found = _FIXED[field]
    elif field in _AROUND:
        value: Any = base
        for name in field.split("."):
            value = getattr(value, name, None)
        if value is None:
            raise ValueError(f"{field} is None here: there is no range around it; give --space {field}=A,B,...")
        found = _AROUND[field](base, value)
    else:
        return None
    if field == "schedule.warmdown_start" and base.schedule.warmdown_fraction is not None:
        raise ValueError(f"{field} has no effect beside schedule.warmdown_fraction, which is set; search that")
    if field == SPLIT:
        return found
    ends = found.ends() if isinstance(found, Range) else found
    valid = [choice for choice in ends if _takes(base, field, choice)]
    if not valid or (isinstance(found, Range) and len(valid) < len(ends)):
        override(base, field, next(choice for choice in ends if choice not in valid))  # says why
    return found if isinstance(found, Range) else valid


def _takes(base: RunConfig, field: str, choice: object) -> bool:
    try:
        override(base, field, choice)
    except ValueError:
        return False
    return True
