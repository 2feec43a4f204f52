"""The record folder's README.md: what is new first, then the results, how to get them again, and the recipe.

What a person wrote is their name, their login, a title and the notes, which are Markdown; all else comes from the
configuration and the study. The text is in templates/README.md.jinja.
"""

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from golf.compliance.points import FAILED, PASSED, POINTS, CheckResult, Evidence, shown
from golf.config.config import RunConfig, to_plain
from golf.config.rules import CAP_BYTES, P_CLAIM, P_LOOSE, RECIPE_PR
from golf.config.schedule import make_plan
from golf.model.gepa import count_parameters
from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT, RungResult
from golf.submission.code import versions_of
from golf.submission.entry import Submission, hardware, largest_seed
from golf.submission.markdown import ENVIRONMENT
from golf.submission.study import SeedRecord, StudyRecord, Summary
from golf.train.run_log import flat_settings

REPOSITORY = "https://github.com/openai/parameter-golf"
_MOST_SETTINGS = 20
GROUPS = {"attention": "attention", "mlp": "MLP", "token_embedding": "token embedding", "tables": "other tables"}
"""Tensor groups that have a grid of their own."""
RUNGS = {
    LIVE: "last weights, plain windows",
    AVERAGED: "averaged weights",
    QUANTISED: "artifact read back from the disk",
    SLIDING: "the same in sliding windows",
    TTT: "the same with score-first TTT",
}
"""What each rung of the ladder measures."""
_SPANS = 10
"""Most rows of the table of losses."""
_POINTS = 20
"""Most rows of the other curves' tables."""
HERE = {
    1: "the folder's name and place",
    2: "the files beside this one; `train_gpt.py` runs alone",
    3: "Seeds, Sizes; `Total submission size` in each log",
    4: "every score from `quantised` on is of the artifact read back",
    5: "`code_sha256` in each log, Sizes",
    6: "submission.json is made from the same study as the table of seeds",
    7: "settings, data, device and versions at the head of each log",
    8: "Seeds; `train_time` in each log",
    9: "Seeds; `eval_time` in each log",
    10: "the head of this document; `device` in each log",
    11: "`train_gpt.py` opens no connection but that of its own processes",
    12: "Data; `train_loader` in each log",
    13: "Data; `val_loader` in each log",
    14: "`read_shard` in `source.md` refuses other headers and sizes",
    15: "`ByteTable` in `source.md`",
    16: "`make_windows` in `source.md`",
    17: "the loss is a cross-entropy over the whole vocabulary",
    18: "attention is causal, training follows the score",
    19: "`score_with_ttt` in `source.md`: a chunk is scored, then trained on",
    20: "training and packing are not given the validation tokens",
    21: "`ready_to_train` in `source.md` passes a range of numbers",
    22: "Architecture, Training: what is on",
    23: "`final_..._exact` at the end of each log",
    24: "the gain, above; Statistics",
    25: "Statistics",
}
"""Where this folder shows each point."""
OF_ALL_SEEDS = (1, 2, 5, 6, 7, 24, 25)
"""Points that no seed shows by itself."""
TOLD_ABOVE = (3, 8, 9, 10)
"""Points whose evidence is in the table of seeds."""


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


class LadderRow(NamedTuple):
    """A rung over the seeds that are done."""

    name: str
    rungs: list[RungResult]
    bpb: float
    """Mean over the seeds."""
    deviation: float | None
    """Standard deviation of the BPB; None for one seed."""
    change: float | None
    """Mean BPB minus that of the rung before it."""


class CurveTable(NamedTuple):
    """A curve in rows."""

    title: str
    unit: str
    """What the rows are counted in."""
    value: str
    rows: list[tuple[str, list[float]]]
    """Parts of the curve, with the value of each seed."""


def decimals(deviation: float | None) -> int:
    """Returns the decimals of a figure: its deviation's first digit, one more after a leading 1; 4 without any."""
    if not deviation:
        return 4 if deviation is None else 6
    first = -math.floor(math.log10(deviation))
    return min(6, max(3, first + (deviation * 10**first < 2)))


def measured(summary: Summary) -> str:
    """Returns a mean and its deviation, with the decimals that the deviation allows."""
    deviation = summary.standard_deviation
    digits = decimals(deviation)
    return f"{summary.mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def ladder_rows(study: StudyRecord) -> list[LadderRow]:
    """Returns the rungs from below."""
    by_name: dict[str, list[RungResult]] = {}
    for run in study.done:
        for rung in run.ladder:
            by_name.setdefault(rung.name, []).append(rung)
    rows: list[LadderRow] = []
    for name, rungs in by_name.items():
        scores = [rung.bpb for rung in rungs]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None
        rows.append(LadderRow(name, rungs, mean, deviation, change=mean - rows[-1].bpb if rows else None))
    return rows


def curve_tables(study: StudyRecord) -> list[CurveTable]:
    """Returns the loss by spans of steps, validation by step, and the running BPB of TTT by chunk."""
    tables = (
        CurveTable(
            "Training loss in nats per token, mean over the seeds and the steps of a row",
            "steps",
            "mean loss",
            _loss_rows(study),
        ),
        CurveTable(
            "BPB of the validation stream during training, plain windows of live weights",
            "after step",
            "mean BPB",
            _point_rows(_common_points(study, "validation_bpb")),
        ),
        CurveTable(
            "BPB of the stream up to a chunk, with TTT running",
            "chunks",
            "mean BPB",
            # After the last chunk it is the result, which has its own place.
            _point_rows([(chunk + 1, values) for chunk, values in _common_points(study, f"{TTT}_bpb")[:-1]]),
        ),
    )
    return [table for table in tables if table.rows]


def _loss_rows(study: StudyRecord) -> list[tuple[str, list[float]]]:
    """Returns means over spans of steps, each seed's own."""
    curves = [curve for run in study.done if (curve := run.curves.get("train_loss"))]
    steps = study.config.schedule.steps
    spans = min(_SPANS, steps)
    rows = []
    for span in range(spans):
        start, end = steps * span // spans, steps * (span + 1) // spans
        inside = [[point.value for point in curve if start <= point.step < end] for curve in curves]
        rows.append((f"{start:,} to {end - 1:,}", [statistics.fmean(values) for values in inside if values]))
    return [row for row in rows if row[1]]


def _common_points(study: StudyRecord, name: str) -> list[tuple[int, list[float]]]:
    """Returns the points of a curve that all seeds have: step, and the value of each seed."""
    curves = [{point.step: point.value for point in run.curves.get(name, ())} for run in study.done]
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    return [(step, [curve[step] for curve in curves]) for step in common]


def _point_rows(points: Sequence[tuple[int, list[float]]]) -> list[tuple[str, list[float]]]:
    """Returns points, evenly chosen where they are many, the last always."""
    num = min(_POINTS, len(points))
    chosen = [points[(len(points) * (row + 1)) // num - 1] for row in range(num)]
    return [(f"{step:,}", values) for step, values in chosen]


def byte_groups(study: StudyRecord) -> dict[str, Mapping[str, float]]:
    """Returns where the model's bytes go by tensor group, mean over the seeds."""
    runs = [run.byte_groups for run in study.done if run.byte_groups]
    columns = ("elements", "raw_bytes", "entropy_bytes", "packed_bytes")
    return {
        group: {column: statistics.fmean(run.get(group, {}).get(column, 0.0) for run in runs) for column in columns}
        for group in dict.fromkeys(group for run in runs for group in run)
    }


def rule_rows(check: CheckResult | None, text: str) -> Iterator[tuple[int, str, str, str, str]]:
    """Yields a row for every point.

    It has the point and its title, the state that running a seed showed (empty for what no seed shows by itself), where
    this folder shows the point, in Markdown, and what was measured.

    Args:
        check: that of the first seed that has one; None where none has.
        text: the document so far.
    """
    results = {} if check is None else {result.point: result for result in check.points}
    for point, (_, title) in POINTS.items():
        result, state, measured = results.get(point), "", ""
        if point not in OF_ALL_SEEDS:
            state = "-" if result is None else result.state
        if result is not None and state == PASSED and point not in TOLD_ABOVE:
            measured = _fresh(result.evidence, text)
        elif result is not None and state not in ("", PASSED, FAILED):
            measured = result.why
        text += measured
        yield point, title, state, HERE[point], measured


def _fresh(evidence: Evidence, text: str) -> str:
    """Returns the measured values whose figures the text does not hold yet."""
    known = set(figures(text))
    values = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in evidence.items()]
    return ", ".join(value for value in values if known.isdisjoint(figures(value)))


def figures(text: str) -> list[str]:
    """Returns the numbers of a text that are long enough to identify a quantity, without commas, and hashes."""
    plain_text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.findall(r"(?<![\w.])(?:\d+\.\d{3,}|\d{4,}|[0-9a-f]{12,})(?![\w]|\.\d)", plain_text)


ENVIRONMENT.filters |= {"decimals": decimals, "mean": statistics.fmean, "measured": measured, "shown": shown}
