"""The record folder's README.md: one document from the sections of recipe and results.

A submission enters, Markdown leaves. What a person typed is their name, their login and a title; all else is of the
configuration and the study.
"""

import re

from golf.submission.code import requirements_of
from golf.submission.entry import Submission
from golf.submission.markdown import block, items, plain
from golf.submission.recipe import architecture, blurb, evaluation, quantisation, training
from golf.submission.results import byte_groups, checks, comparison, curves, ladder, result, seeds, sizes
from golf.submission.study import SeedRun

CREDITS = (
    "The recipe (the GEPA model, its training, quantisation and score-first test-time training) is the work of the "
    "contributors of openai/parameter-golf, above all its pull request #598 and those that it builds on. "
    "Code: golf-tune, MIT licence."
)


def readme(submission: Submission) -> str:
    """The whole document."""
    study, submitter = submission.study, submission.submitter
    parts = [f"# {plain(submitter.name)}"]
    if submission.faults:
        parts.append(_warning(submission.faults))
    parts += [
        result(submission),
        f"{plain(blurb(study.config))}. Submitted by {plain(submitter.author)} "
        f"([@{submitter.github_id}](https://github.com/{submitter.github_id})), {submitter.day.isoformat()}, "
        f"{submitter.track} track.",
        "All figures here, in submission.json and in the logs are of one seed study; none was typed in.",
    ]
    sections = (
        ("Seeds", seeds(submission)),
        ("Ladder", ladder(submission)),
        ("Sizes", sizes(submission)),
        ("Architecture", architecture(study.config)),
        ("Training", training(study.config)),
        ("Quantisation", f"{quantisation(study.config)}\n\n{byte_groups(submission)}".rstrip()),
        ("Evaluation", evaluation(study.config)),
        ("Data", _data(submission)),
        ("Curves", curves(submission)),
        ("Statistics", comparison(submission)),
        ("Rules", checks(submission)),
        ("Reproduction", _reproduction(submission)),
        ("Credits", CREDITS),
    )
    parts += [f"## {title}\n\n{text}" for title, text in sections]
    return "\n\n".join(parts) + "\n"


def _warning(faults: tuple[str, ...]) -> str:
    """That it is a draft, and why, as a quotation."""
    lines = ["**DRAFT, not a submission.** It may not be submitted, because:", ""]
    return "\n".join(f"> {line}".rstrip() for line in [*lines, *(f"- {plain(fault)}" for fault in faults)])


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
    """Commands that give the same numbers, from inside the folder."""
    study = submission.study
    run = study.done[0] if study.done else study.seeds[0]
    start = _start(run)
    shown = {name: version for name, version in run.versions.items() if name in ("python", *submission.packages)}
    commands = ["python -m venv venv && venv/bin/pip install -r requirements.txt"]
    commands += [f"{start} train_gpt.py --data DATA --out out_{one.seed} --seed {one.seed}" for one in study.seeds]
    told = (
        "DATA is one folder with the training shards, the validation shards and the tokenizer's .model file; the log "
        "names its SHA-256 at the start, which must be that of the section Data. The program needs nothing but its "
        "requirements, trains, packs, scores the artifact that it reads back, and ends its log with the exact scores "
        "and sizes.",
        "It ran with " + ", ".join(f"{plain(name)} {plain(version)}" for name, version in shown.items()) + ".",
        "The seeds were run by golf-tune's `run_seeds.py`, which runs the modules that `train_gpt.py` is bundled from; "
        f"the SHA-256 of this file is `{submission.code.sha256}`, that of the code that each seed ran is in its log"
        + (f", with the commit `{plain(run.commit)}`." if run.commit else "."),
    )
    pinned = requirements_of(submission.packages, run.versions)
    return "\n\n".join([block("\n".join(commands), "bash"), *told, block(pinned, "text")])


def _start(run: SeedRun) -> str:
    """What starts Python as the seeds ran: so many processes, and on CPUs so many threads each."""
    device = run.device or ""
    processes = re.match(r"(\d+) x ", device)
    threads = re.search(r"(\d+) thread\(s\)", device)
    prefix = f"OMP_NUM_THREADS={threads[1]} " if threads else ""
    if processes and int(processes[1]) > 1:
        return f"{prefix}venv/bin/torchrun --standalone --nproc-per-node {processes[1]}"
    return f"{prefix}venv/bin/python"
