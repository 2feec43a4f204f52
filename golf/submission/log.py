"""The log of one seed, from the study's record, in the words of the shipped file's own log.

A study, one of its seeds and the shipped code enter, text leaves: what ran, on what, every point of its curves, the
ladder, sizes, and last the exact scores. The name of the machine that ran it stays out.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from golf.config import to_plain
from golf.record import ADAPTED
from golf.solo import exact_lines, facts_lines, ladder_lines, point_line
from golf.submission.study import SeedRun, SeedStudy

CURVES = ("train_loss", "validation_bpb")
"""Curves by training step, in the order in which a step gives them."""


def log_name(seed: int) -> str:
    """The file of a seed's log."""
    return f"train_seed{seed}.log"


def seed_log(study: SeedStudy, run: SeedRun) -> str:
    """The log of a seed."""
    lines = [*facts_lines(run_facts(study, run)), *_point_lines(study, run)]
    if run.artifact_bytes is not None:
        results = seed_results(study, run)
        lines += [*ladder_lines(results), *exact_lines(results)]
    if not run.done:
        lines.append(f"no result: {run.status}, {run.cause}")
    return "\n".join(lines) + "\n"


def run_facts(study: SeedStudy, run: SeedRun) -> dict[str, Any]:
    """What a seed's log begins with."""
    data = study.data
    return {
        "program": "run_seeds.py of golf-tune, which runs the modules that train_gpt.py is bundled from",
        "study": study.name,
        "trial": run.trial,
        "commit": run.commit,
        "code_sha256": run.code_sha256,
        "code_bytes": run.code_bytes,
        "seed": run.seed,
        "data": data.digest,
        "train_shards": data.train_shards,
        "train_tokens": data.train_tokens,
        "validation_tokens": data.validation_tokens,
        "validation_bytes": data.validation_bytes,
        "device": run.device,
        "cold": run.cold,
        "ranks": run.ranks or "as asked for, none lost",
        "versions": dict(run.versions),
        "config": to_plain(replace(study.config, seed=run.seed)),
    }


def seed_results(study: SeedStudy, run: SeedRun) -> dict[str, Any]:
    """A packed seed's results as a run of the shipped file has them."""
    assert run.artifact_bytes is not None
    over_bytes = max(0, run.artifact_bytes - study.config.cap_bytes)
    sizes = {"artifact_bytes": run.artifact_bytes, "model_bytes": run.model_bytes, "code_bytes": run.code_bytes}
    return {
        "train": {"seconds": run.train_seconds or 0.0},
        "pack": {**sizes, "over_bytes": over_bytes, "fits": not over_bytes},
        "ladder": [asdict(rung) for rung in run.ladder],
    }


def _point_lines(study: SeedStudy, run: SeedRun) -> Iterator[str]:
    """Every point of the curves: those of the training by step, then those of TTT by chunk."""
    steps = study.config.schedule.steps
    points = [(int(step), curve, value) for curve in CURVES for step, _, value in run.curves.get(curve, ())]
    for step, curve, value in sorted(points, key=lambda point: (point[0], CURVES.index(point[1]))):
        yield point_line(curve, step, value, steps)
    adapted = f"{ADAPTED}_bpb"
    for chunk, _, value in run.curves.get(adapted, ()):
        yield point_line(adapted, int(chunk), value, steps)
