"""The record folder's README.md: what is new first, then the results, how to get them again, and the recipe.

What a person wrote is their name, their login, a title and the notes, which are Markdown; all else is of the
configuration and the study.
"""

import re

from golf.config.config import RunConfig, to_plain
from golf.config.rules import RECIPE_PR
from golf.submission.code import versions_of
from golf.submission.entry import Submission
from golf.submission.markdown import block, items, plain
from golf.submission.points import rules
from golf.submission.recipe import architecture, evaluation, quantisation, training
from golf.submission.results import byte_groups, comparison, curves, gain, ladder, result, seeds, sizes
from golf.submission.study import SeedRecord
from golf.train.run_log import flat_settings

REPOSITORY = "https://github.com/openai/parameter-golf"
CREDITS = (
    "The recipe (the GEPA model, its training, quantisation and score-first test-time training) is the work of the "
    "contributors of openai/parameter-golf. Code: golf-tune, MIT licence."
)
_MOST_SETTINGS = 20


def readme(submission: Submission) -> str:
    """The whole document."""
    study, submitter = submission.study, submission.submitter
    parts = [f"# {plain(submitter.name)}"]
    if submission.faults:
        parts.append(_warning(submission.faults))
    parts += [
        result(submission),
        f"Submitted by {plain(submitter.author)} ([@{submitter.github_id}](https://github.com/{submitter.github_id})), "
        f"{submitter.day.isoformat()}.",
    ]
    sections = (
        ("What is new and why", _news(submission)),
        ("Seeds", seeds(submission)),
        ("Ladder", ladder(submission)),
        ("Sizes", sizes(submission)),
        ("Reproduction", _reproduction(submission)),
        ("Architecture", architecture(study.config)),
        ("Training", training(study.config)),
        ("Quantisation", f"{quantisation(study.config)}\n\n{byte_groups(submission)}".rstrip()),
        ("Evaluation", evaluation(study.config)),
        ("Data", _data(submission)),
        ("Curves", curves(submission)),
        ("Statistics", comparison(submission)),
    )
    parts += [f"## {title}\n\n{text}" for title, text in sections]
    parts.append(f"## Rules\n\n{rules(submission, ' '.join(parts))}")
    parts.append(f"## Credits\n\n{CREDITS}")
    return "\n\n".join(parts) + "\n"


def _warning(faults: tuple[str, ...]) -> str:
    """That it is a draft, and why, as a quotation."""
    lines = ["**DRAFT, not a submission.** It may not be submitted, because:", ""]
    return "\n".join(f"> {line}".rstrip() for line in [*lines, *(f"- {plain(fault)}" for fault in faults)])


def _news(submission: Submission) -> str:
    """The submitter's words, what it builds on, what it gains; without words the settings that differ."""
    submitter = submission.submitter
    links = [f"[#{number}]({REPOSITORY}/pull/{number})" for number in submitter.based_on]
    lineage = f"It builds on {', '.join(links)}."
    parts = [submitter.notes] if submitter.notes else [_differing(submission.study.config)]
    return "\n\n".join([*parts, f"{lineage} {gain(submission.study.verdict)}"])


def _differing(config: RunConfig) -> str:
    """The settings that are not those of the recipe that the defaults are."""
    base = dict(flat_settings(to_plain(RunConfig())))
    settings = [
        f"`{name}`: {plain(str(value))} instead of {plain(str(base[name]))}" if name in base else f"`{name}`: {value}"
        for name, value in flat_settings(to_plain(config))
        if base.get(name) != value
    ]
    if not settings:
        return f"Every setting is that of pull request #{RECIPE_PR}."
    more = len(settings) - _MOST_SETTINGS
    rest = [f"and {more} more, at the head of each log"] if more > 0 else []
    return f"Settings that differ from pull request #{RECIPE_PR}:\n\n{items([*settings[:_MOST_SETTINGS], *rest])}"


def _data(submission: Submission) -> str:
    data = submission.study.data
    lines = [f"dataset {plain(data.name or 'without a name')}, SHA-256 over the names and SHA-256 of its files "]
    lines[0] += f"`{data.digest or 'unknown'}`"
    if data.train_shards is not None:
        shards = "1 shard" if data.train_shards == 1 else f"{data.train_shards:,} shards"
        lines.append(f"training: {shards}, {data.train_tokens or 0:,} tokens")
    if data.validation_tokens is not None and data.validation_bytes is not None:
        lines.append(f"validation: {data.validation_tokens:,} scored tokens, {data.validation_bytes:,} bytes of text")
    for name, value in sorted((data.files or {}).items()):
        if "_train_" not in name:
            lines.append(f"{plain(name)}: SHA-256 `{value}`")
    return items(lines)


def _reproduction(submission: Submission) -> str:
    """Commands that get the data and give the same numbers."""
    study = submission.study
    run = study.done[0] if study.done else study.seeds[0]
    versions = versions_of(submission.packages, run.versions)
    seeds = " ".join(str(one.seed) for one in study.seeds)
    told = (
        "`train_gpt.py` needs nothing but its requirements. It trains, packs, scores the artifact that it reads back, "
        "and writes `logs/RUN_ID.txt`, a log of the same form as those here. What its options leave out is in SEED, "
        "RUN_ID, DATA_PATH, TOKENIZER_PATH and DATA_DIR, else in ./data; the tokenizer may lie in `../../tokenizers` "
        "of the data.",
        "The logs here were written by the runs, of the modules that `train_gpt.py` is joined from. `source.md` shows "
        "these for reading; only `train_gpt.py` runs and counts. It ran with "
        + ", ".join(f"{plain(name)} {plain(version)}" for name, version in versions.items())
        + (f", from commit `{plain(run.commit)}`" if run.commit else "")
        + "; requirements.txt asks for no exact versions, so that it leaves a machine's own torch in place.",
    )
    commands = [*_data_commands(submission), "pip install -r requirements.txt"]
    commands.append(f"for seed in {seeds}; do SEED=$seed {_start(run)}; done")
    return "\n\n".join([block("\n".join(commands), "bash"), *told])


def _data_commands(submission: Submission) -> list[str]:
    """What gets the data, and goes to this folder."""
    data, variant = submission.study.data, f"sp{submission.study.config.model.vocab_size}"
    if "fineweb" not in (data.name or "").lower():
        return [
            "# with golf-tune: the text that this draft was scored on, where it is the built-in one",
            "python -m golf data prepare --out DATA && export DATA_PATH=$PWD/DATA",
        ]
    return [
        "# at the root of the competition's repository: the data, into ./data",
        f"python3 data/cached_challenge_fineweb.py --variant {variant} --train-shards {data.train_shards or 80}",
        f"cd records/{submission.submitter.folder}",
        f"export DATA_PATH=../../../data/datasets/fineweb10B_{variant}",
    ]


def _start(run: SeedRecord) -> str:
    """What starts Python as the seeds ran: so many processes, and on CPUs so many threads each."""
    device = run.device or ""
    processes = re.match(r"(\d+) x ", device)
    threads = re.search(r"(\d+) thread\(s\)", device)
    prefix = f"OMP_NUM_THREADS={threads[1]} " if threads else ""
    if processes and int(processes[1]) > 1:
        return f"{prefix}torchrun --standalone --nproc_per_node={processes[1]} train_gpt.py"
    return f"{prefix}python train_gpt.py"
