"""The record folder's README.md: what is new first, then the results, how to get them again, and the recipe.

What a person wrote is their name, their login, a title and the notes, which are Markdown; all else comes from the
configuration and the study. The text is in templates/README.md.jinja.
"""

import re
import statistics

from golf.compliance.points import FAILED, shown
from golf.config.config import RunConfig, to_plain
from golf.config.rules import CAP_BYTES, P_CLAIM, P_LOOSE, RECIPE_PR
from golf.config.schedule import make_plan
from golf.model.gepa import count_parameters
from golf.submission.code import versions_of
from golf.submission.entry import Submission, hardware, largest_seed
from golf.submission.markdown import ENVIRONMENT
from golf.submission.points import rule_rows
from golf.submission.results import RUNGS, byte_groups, curve_tables, decimals, ladder_rows, measured
from golf.submission.study import SeedRecord
from golf.train.run_log import flat_settings

ENVIRONMENT.filters |= {"decimals": decimals, "mean": statistics.fmean, "measured": measured, "shown": shown}
REPOSITORY = "https://github.com/openai/parameter-golf"
_MOST_SETTINGS = 20
GROUPS = {"attention": "attention", "mlp": "MLP", "token_embedding": "token embedding", "tables": "other tables"}
"""Tensor groups that have a grid of their own."""


def readme(submission: Submission) -> str:
    """Returns the text of the README."""
    study, config = submission.study, submission.study.config
    run = study.done[0] if study.done else study.seeds[0]
    checks = [(run.seed, run.check) for run in study.seeds if run.check is not None]
    return ENVIRONMENT.get_template("README.md.jinja").render(
        submission=submission,
        study=study,
        verdict=study.verdict,
        config=config,
        repository=REPOSITORY,
        recipe_pr=RECIPE_PR,
        cap_bytes=CAP_BYTES,
        p_claim=P_CLAIM,
        p_loose=P_LOOSE,
        hardware=hardware(study),
        largest=largest_seed(study),
        differing=_differing(config),
        most_settings=_MOST_SETTINGS,
        rungs=ladder_rows(study),
        measures=RUNGS,
        curves=curve_tables(study),
        byte_groups=byte_groups(study),
        versions=versions_of(submission.packages, run.versions),
        commit=run.commit,
        commands="\n".join(_commands(submission, run)),
        parameters=count_parameters(config.model),
        trained_parameters=0 if config.ttt is None else count_parameters(config.model, config.ttt.frozen_blocks),
        first_qat_step=next((step for step, row in enumerate(make_plan(config.schedule)) if row.qat), None),
        grids=[(title, getattr(config.quant, group)) for group, title in GROUPS.items()],
        checks=checks,
        failures=[(seed, point) for seed, check in checks for point in check.points if point.state == FAILED],
        rule_rows=lambda text: rule_rows(checks[0][1] if checks else None, text),
    )


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


def _differing(config: RunConfig) -> list[tuple[str, object, object]]:
    """Returns name, value and the recipe's value of the settings that are not the recipe's, which are the defaults.

    The recipe's value is None where it has no such setting.
    """
    base = dict(flat_settings(to_plain(RunConfig())))
    return [(name, value, base.get(name)) for name, value in flat_settings(to_plain(config)) if base.get(name) != value]


def _commands(submission: Submission, run: SeedRecord) -> list[str]:
    """Returns the commands that get the data and give the same numbers."""
    data, variant = submission.study.data, f"sp{submission.study.config.model.vocab_size}"
    if "fineweb" in (data.name or "").lower():
        get_data = [
            "# at the root of the competition's repository: the data, into ./data",
            f"python3 data/cached_challenge_fineweb.py --variant {variant} --train-shards {data.train_shards or 80}",
            f"cd records/{submission.submitter.folder}",
            f"export DATA_PATH=../../../data/datasets/fineweb10B_{variant}",
        ]
    else:
        get_data = [
            "# with golf-tune: the text that this draft was scored on, where it is the built-in one",
            "python -m golf data prepare --out DATA && export DATA_PATH=$PWD/DATA",
        ]
    seeds = " ".join(str(seed.seed) for seed in submission.study.seeds)
    start = f"for seed in {seeds}; do SEED=$seed {_start(run)}; done"
    return [*get_data, "pip install -r requirements.txt", start]


def _start(run: SeedRecord) -> str:
    """Returns what starts Python as the seeds ran: so many processes, and on CPUs so many threads each."""
    device = run.device or ""
    processes = re.match(r"(\d+) x ", device)
    threads = re.search(r"(\d+) thread\(s\)", device)
    prefix = f"OMP_NUM_THREADS={threads[1]} " if threads else ""
    if processes and int(processes[1]) > 1:
        return f"{prefix}torchrun --standalone --nproc_per_node={processes[1]} train_gpt.py"
    return f"{prefix}python train_gpt.py"
