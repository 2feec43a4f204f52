"""What was trained and how, from the configuration alone, as far as a template cannot compute it."""

from golf.config.config import GridConfig, RunConfig, to_plain
from golf.config.schedule import make_plan
from golf.model.gepa import count_parameters
from golf.train.run_log import flat_settings

GROUPS = {"attention": "attention", "mlp": "MLP", "token_embedding": "token embedding", "tables": "other tables"}
"""Tensor groups that have a grid of their own."""


def blurb(config: RunConfig) -> str:
    """Returns the recipe in one line."""
    model, quant = config.model, config.quant
    bits = "/".join(dict.fromkeys(f"int{getattr(quant, group).bits}" for group in GROUPS))
    training = "" if config.ttt is None else " + score-first test-time training"
    return (
        f"{model.num_layers}-layer GEPA of width {model.model_dim}, {count_parameters(model):,} parameters, "
        f"{config.schedule.steps:,} steps, {bits} with {quant.codec}, sliding windows of stride {config.score.stride}"
        f"{training}"
    )


def trained_parameters(config: RunConfig) -> int:
    """Returns the number of parameters that test-time training changes."""
    return 0 if config.ttt is None else count_parameters(config.model, config.ttt.frozen_blocks)


def first_qat_step(config: RunConfig) -> int | None:
    """Returns the first step with fake quantisation; None where there is none."""
    return next((step for step, row in enumerate(make_plan(config.schedule)) if row.qat), None)


def grids(config: RunConfig) -> list[tuple[str, GridConfig]]:
    """Returns title and grid of each tensor group."""
    return [(title, getattr(config.quant, group)) for group, title in GROUPS.items()]


def differing(config: RunConfig) -> list[tuple[str, object, object]]:
    """Returns name, value and the recipe's value of the settings that are not the recipe's, which are the defaults.

    The recipe's value is None where it has no such setting.
    """
    base = dict(flat_settings(to_plain(RunConfig())))
    settings = flat_settings(to_plain(config))
    return [(name, value, base.get(name)) for name, value in settings if base.get(name) != value]
