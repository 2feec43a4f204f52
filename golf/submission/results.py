"""What came out, in Markdown, from a study's record: ladder, curves, bytes, sizes, seeds, the test, the checks.

A submission enters, sections leave. Nothing is computed but means, deviations and sums of what the study holds.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from golf.check.points import FAILED, shown
from golf.record import ADAPTED, AVERAGED, LIVE, QUANTISED, SLIDING
from golf.rules import CAP_BYTES
from golf.submission.entry import Submission, deviation, hardware, largest_seed, longest_seconds, rung_means
from golf.submission.markdown import block, items, number, plain, table, whole
from golf.submission.study import Comparison, OtherRun, SeedRun, SeedStudy

RUNGS = {
    LIVE: "last weights, plain windows",
    AVERAGED: "averaged weights",
    QUANTISED: "artifact read back from the disk",
    SLIDING: "the same in sliding windows",
    ADAPTED: "the same with score-first TTT",
}
"""What each rung of the ladder is."""
_SPANS = 10
"""Rows of the loss's table at most."""
_POINTS = 20
"""Rows of other curves' tables at most."""


def result(submission: Submission) -> str:
    """The line that a reader came for."""
    study, found = submission.study, submission.study.statistics
    if found.bpb is None or found.nats is None:
        return "**No result: no seed is done.**"
    spread = "" if found.bpb.deviation is None else f" ± {found.bpb.deviation:.5f}"
    largest = largest_seed(study)
    size = "" if largest is None else f"; at most {whole(largest.artifact_bytes)} bytes"
    seeds = f"mean and standard deviation of {len(study.done)} seeds" if len(study.done) > 1 else "one seed"
    adapted = ", with score-first test-time training" if study.done[0].last.name == ADAPTED else ""
    return (
        f"**val_bpb {found.bpb.mean:.5f}{spread}** ({seeds}{size})\n\n"
        f"{found.nats.mean:.5f} nats per token, scored from the artifact read back from the disk in sliding windows"
        f"{adapted}. Hardware: {plain(hardware(study))}."
    )


def ladder(submission: Submission) -> str:
    """The rungs over the seeds, each beside the one before it."""
    if not submission.study.done:
        return "No seed has a score."
    rows, before = [], None
    for name, bpb, nats, seconds in rung_means(submission.study):
        mean = statistics.fmean(bpb)
        step = "" if before is None else f"{mean - before:+.5f}"
        figures = [number(mean), number(deviation(bpb)), step, number(statistics.fmean(nats))]
        rows.append([name, RUNGS[name], *figures, number(statistics.fmean(seconds), 1)])
        before = mean
    told = "Each rung is measured anew from what the one before it left; means over the seeds."
    titles = ["rung", "measured", "BPB", "standard deviation", "against the one above", "nats per token", "seconds"]
    return f"{told}\n\n{table(titles, rows, (0, 1))}"


def curves(submission: Submission) -> str:
    """The loss by spans of steps, validation by step, the running BPB of TTT by chunk."""
    study = submission.study
    parts = []
    losses = _loss_rows(study)
    if losses:
        told = "Training loss in nats per token, mean over the seeds and the steps of a row:"
        parts.append(f"{told}\n\n{table(['steps', 'mean loss', 'lowest seed', 'highest seed'], losses)}")
    for name, unit, told in (
        (
            "validation_bpb",
            "after step",
            "BPB of the validation stream during training, plain windows of live weights:",
        ),
        (f"{ADAPTED}_bpb", "chunks", "BPB of the stream up to a chunk, with TTT running:"),
    ):
        rows = _point_rows(study, name, 1 if unit == "chunks" else 0)
        if rows:
            parts.append(f"{told}\n\n{table([unit, 'mean BPB', 'lowest seed', 'highest seed'], rows)}")
    return "\n\n".join(parts) or "No curve was kept."


def _loss_rows(study: SeedStudy) -> list[list[str]]:
    """Means over spans of steps, each seed's own first."""
    kept = [run.curves["train_loss"] for run in study.done if run.curves.get("train_loss")]
    steps = study.config.schedule.steps
    rows = []
    for span in range(min(_SPANS, steps)):
        start, end = steps * span // min(_SPANS, steps), steps * (span + 1) // min(_SPANS, steps)
        inside = [[value for step, _, value in points if start <= step < end] for points in kept]
        means = [statistics.fmean(values) for values in inside if values]
        if means:
            rows.append([f"{start:,} to {end - 1:,}", *_three(means)])
    return rows


def _point_rows(study: SeedStudy, name: str, offset: int) -> list[list[str]]:
    """Points that all seeds have, evenly chosen where they are many, the last always."""
    kept = [{int(step): value for step, _, value in run.curves.get(name, ())} for run in study.done]
    common = sorted(set.intersection(*map(set, kept))) if kept else []
    num = min(_POINTS, len(common))
    chosen = [common[(len(common) * (place + 1)) // num - 1] for place in range(num)]
    return [[f"{step + offset:,}", *_three([points[step] for points in kept])] for step in chosen]


def _three(values: Sequence[float]) -> list[str]:
    return [number(statistics.fmean(values)), number(min(values)), number(max(values))]


def byte_groups(submission: Submission) -> str:
    """Where the model's bytes go, mean over the seeds."""
    kept = [run.byte_groups for run in submission.study.done if run.byte_groups]
    if not kept:
        return ""
    fields = ("elements", "raw_bytes", "entropy_bytes", "packed_bytes")

    def mean(group: str, field: str) -> float:
        return statistics.fmean(groups.get(group, {}).get(field, 0.0) for groups in kept)

    names = list(dict.fromkeys(group for groups in kept for group in groups))
    rows = [[plain(group.replace("_", " ")), *(whole(mean(group, field)) for field in fields)] for group in names]
    rows.append(["sum", *(whole(sum(mean(group, field) for group in names)) for field in fields)])
    told = "Mean over the seeds. Raw: a byte a code, with scales and floats. Entropy: order-0, of the codes alone."
    return f"{told}\n\n{table(['tensors', 'elements', 'raw bytes', 'entropy bytes', 'packed bytes'], rows)}"


def sizes(submission: Submission) -> str:
    """Code, model and total of each seed against the cap."""
    shipped, cap = submission.code, submission.study.config.cap_bytes
    rows = [
        [
            str(run.seed),
            *map(whole, (run.model_bytes, run.code_bytes, run.artifact_bytes)),
            _megabytes(run),
            _room(run, cap),
        ]
        for run in submission.study.sized
    ]
    forms = [
        ["raw: the joined modules before they are minified", whole(shipped.raw_bytes), ""],
        ["minified: `train_gpt.py`, **shipped and counted**", whole(shipped.num_bytes), f"`{shipped.sha256}`"],
        ["packed: LZMA and base 85 in a file that unpacks itself, for information", whole(shipped.packed_bytes), ""],
    ]
    told = (
        f"The configuration's cap is {cap:,} bytes for model and code together, the competition's {CAP_BYTES:,}; MB "
        "are decimal (1,000,000 bytes)."
    )
    titles = ["seed", "model bytes", "code bytes", "total bytes", "total MB", "below the cap"]
    text = f"{told}\n\n{table(titles, rows)}\n\n{table(['code', 'bytes', 'SHA-256'], forms, (0, 2))}"
    probability = submission.study.statistics.cap_probability
    if probability is not None:
        text += f"\n\nA further seed is over the cap with probability {probability:.2g}, sizes taken as normal."
    return text


def _megabytes(run: SeedRun) -> str:
    return "-" if run.artifact_bytes is None else f"{run.artifact_bytes / 1e6:.6f}"


def _room(run: SeedRun, cap: int) -> str:
    return "-" if run.artifact_bytes is None else f"{cap - run.artifact_bytes:,}"


def seeds(submission: Submission) -> str:
    """Every seed, and what they are together."""
    study, found = submission.study, submission.study.statistics
    rows = []
    for run in study.seeds:
        figures = [run.last.bpb, run.last.nats_per_token] if run.done else [None, None]
        seconds = [number(value, 1) for value in (run.train_seconds, run.evaluation_seconds)]
        seconds.append({True: "anew", False: "shared", None: "-"}[run.cold])
        rows.append(
            [str(run.seed), run.status, *(number(one, 8) for one in figures), whole(run.artifact_bytes), *seconds]
        )
    titles = ["seed", "status", "val_bpb", "val_loss (nats)", "total bytes", "training s", "evaluation s", "computed"]
    lines = [table(titles, rows, (0, 1, 7))]
    for unit, mean in (("BPB", found.bpb), ("nats per token", found.nats)):
        if mean is not None and mean.deviation is not None:
            text = f"Mean {mean.mean:.8f} {unit}, standard deviation {mean.deviation:.8f}"
            if mean.interval is not None:
                text += f", {mean.level:.0%} interval of the mean {mean.interval[0]:.5f} to {mean.interval[1]:.5f}"
            lines.append(f"{text}.")
    if any(run.cold is False for run in study.seeds):
        lines.append(
            "Shared: a part came from runs with the same inputs and the same code; its seconds are what it took."
        )
    train, evaluate = longest_seconds(study)
    if train is not None:
        ended = (
            "" if evaluate is None else f"; longest evaluation {evaluate:.1f} s (of the last rung, whose score counts)"
        )
        lines.append(f"Longest training {train:.1f} s{ended}.")
    lines += (
        [items(f"seed {run.seed}: {plain(run.cause)}" for run in study.seeds if run.cause)]
        if any(run.cause for run in study.seeds)
        else []
    )
    return "\n\n".join(lines)


def comparison(submission: Submission) -> str:
    """The test against the baseline, and what else ran."""
    found = submission.study.statistics
    parts = [_tested(found.comparison)]
    if found.notes:
        parts.append("Notes:\n\n" + items(plain(note) for note in found.notes))
    if found.others:
        rows = [[_seed_text(one), plain(one.status), number(one.bpb), plain(one.why)] for one in found.others]
        parts.append("Every other run of this configuration, none left out:")
        parts.append(table(["seed", "status", "val_bpb", "why it is no seed of the study"], rows, (0, 1, 3)))
    else:
        parts.append("No other run of this configuration is known to the ledger.")
    if found.missing:
        parts.append(f"Planned and never run: seeds {', '.join(map(str, found.missing))}.")
    if found.text:
        parts.append("The verdict as the study printed it:")
        parts.append(block(found.text, "text"))
    return "\n\n".join(parts)


def _seed_text(run: OtherRun) -> str:
    return f"{run.seed} repeat {run.repeat}" if run.repeat else str(run.seed)


def _tested(found: Comparison | None) -> str:
    """The test in words."""
    if found is None:
        return "The study names no baseline, so that no gain is claimed."
    values = ", ".join(number(value) for value in found.values)
    kind = "one published mean" if found.published else f"{len(found.values)} values"
    text = (
        f"Baseline {plain(found.baseline)} ({kind}): {values} BPB. Gain {found.gain_nats:+.5f} nats per token "
        f"({found.gain_bpb:+.5f} BPB)"
    )
    if found.interval_nats is not None:
        text += f", {found.level:.0%} interval {found.interval_nats[0]:.5f} to {found.interval_nats[1]:.5f} nats"
    if found.p is None or found.degrees_of_freedom is None:
        return f"{text}. There is no test: one value or no spread."
    name = "t test" if found.published else "Welch test"
    answers = "; ".join(
        f"p < {level}: **{'yes' if shown_ else 'no'}**" for level, shown_ in ((0.01, found.claim), (0.25, found.loose))
    )
    return (
        f"{text}. One-sided {name} that the gain exceeds {found.margin_nats:g} nats per token, "
        f"{found.degrees_of_freedom:.1f} degrees of freedom: p = {found.p:.2g}; {answers}."
    )


def checks(submission: Submission) -> str:
    """The points of the rules that were examined by running, and those that failed."""
    kept = [(run.seed, run.check) for run in submission.study.seeds if run.check is not None]
    if not kept:
        return "No point of the rules was examined by running: the study carries no check."
    rows = [[str(seed), *(plain(str(check.get(state, "-"))) for state in STATES)] for seed, check in kept]
    parts = [table(["seed", "passed", "failed", "not applicable"], rows)]
    failed = [(seed, point) for seed, check in kept for point in _points(check) if point.get("state") == FAILED]
    told = [
        f"seed {seed}, point {plain(str(point.get('point')))} ({plain(str(point.get('title')))}): "
        f"{plain(str(point.get('why')))}; {plain(shown(point.get('evidence', {})))}"
        for seed, point in failed
    ]
    told += [f"seed {seed} was not checked: {plain(str(check['error']))}" for seed, check in kept if "error" in check]
    parts += [items(told)] if told else []
    points = _points(kept[0][1])
    if points:
        cells = [
            [*(plain(str(point.get(name))) for name in ("point", "title", "state")), plain(_evidence(point))]
            for point in points
        ]
        parts.append(f"The points of seed {kept[0][0]}:")
        parts.append(table(["", "point", "state", "evidence"], cells, (1, 2, 3)))
    return "\n\n".join(parts)


STATES = ("passed", "failed", "not_applicable")
"""Counts of `golf.check.points.to_json`."""


def _evidence(point: Mapping[str, Any]) -> str:
    """What was measured, or why the point does not apply."""
    return shown(point.get("evidence") or {}) or str(point.get("why") or "")


def _points(check: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points = check.get("points")
    return [point for point in points if isinstance(point, dict)] if isinstance(points, list) else []
