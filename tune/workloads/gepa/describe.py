"""GEPA trials in words: what they would do, how often they read the text, and where a running one is."""

from collections.abc import Sequence

from tabulate import tabulate

from golf.artifact.size_predictor import predicted_model_bytes
from golf.config.config import RunConfig
from golf.data.dataset import Dataset
from golf.data.passes import passes_of, passes_warning, passes_words
from golf.pipeline.bundle import code_bytes
from tune.search.space import Trial
from tune.workloads.gepa.settings import config_of


def dry_run_table(trials: Sequence[Trial], dataset: Dataset, num_known: int) -> str:
    """Returns the work of trials that were not run.

    Args: trials: in the order in which they would run; dataset: what they would be trained and scored on; num_known:
        trials that are finished already.
    """
    bytes_per_token = float(dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]).mean())
    configs = [config_of(trial) for trial in trials]
    rows, totals = [], [0, 0]
    for trial, config in zip(trials, configs, strict=True):
        steps, tokens = config.schedule.steps, config.schedule.steps * config.batch.tokens_per_step
        totals = [totals[0] + steps, totals[1] + tokens]
        size = predicted_model_bytes(config) + code_bytes(config)
        fits = "over?" if size > config.cap_bytes else "fits?"
        text = f"{tokens * bytes_per_token:,.0f}"
        rows.append([f"{steps:,}", f"{tokens:,}", text, f"{size:,}", fits, trial.trial, trial.name])
    text = f"{totals[1] * bytes_per_token:,.0f}"
    rows.append([f"{totals[0]:,}", f"{totals[1]:,}", text, "", "", "in all", f"{len(trials)} trials"])
    columns = ["steps", "tokens", "bytes of text", "artifact bytes", "cap", "trial", "name"]
    aligned = ["right"] * 4 + ["left"] * 3
    lines = [tabulate(rows, columns, tablefmt="plain", colalign=aligned, disable_numparse=True)]
    lines.append(f"{num_known} are finished already")
    lines.append(f"each that fits scores {len(dataset.validation) - 1:,} validation tokens per rung")
    lines.append("artifact bytes are a prediction before training; TPE chooses later trials by earlier results")
    return "\n".join(lines + ([describe_text_passes(configs, dataset)] if configs else []))


def describe_text_passes(configs: Sequence[RunConfig], dataset: Dataset) -> str:
    """Returns how often the longest training reads the text, and below it a warning where that is too often."""
    longest = max(configs, key=lambda config: passes_of(config, dataset))
    warning = passes_warning(longest, dataset)
    return f"the longest training makes {passes_words(longest, dataset)}" + (f"\n{warning}" if warning else "")
