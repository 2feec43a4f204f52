"""What came out, in Markdown, from a study's record: seeds, ladder, sizes, curves, the test.

Nothing is computed but means, deviations and sums of what the study holds. No figure stands in two places.
"""

import math
import statistics
from collections.abc import Sequence

from golf.config.rules import CAP_BYTES, P_CLAIM, P_LOOSE
from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT
from golf.submission.entry import Submission, deviation, hardware, largest_seed, rung_means
from golf.submission.markdown import items, number, plain, table, whole
from golf.submission.study import OtherRun, StudyRecord, StudyVerdict, Summary

RUNGS = {
    LIVE: "last weights, plain windows",
    AVERAGED: "averaged weights",
    QUANTISED: "artifact read back from the disk",
    SLIDING: "the same in sliding windows",
    TTT: "the same with score-first TTT",
}
"""What each rung of the ladder is."""
_SPANS = 10
"""Rows of the loss's table at most."""
_POINTS = 20
"""Rows of other curves' tables at most."""


def result(submission: Submission) -> str:
    """The line that a reader came for."""
    study, found = submission.study, submission.study.verdict
    if found.bpb is None or found.nats is None:
        return "**No result: no seed is done.**"
    seeds = f"mean and standard deviation of {len(study.done)} seeds" if len(study.done) > 1 else "one seed"
    adapted = ", with score-first test-time training" if study.done[0].last.name == TTT else ""
    return (
        f"**val_bpb {measured(found.bpb)}** ({seeds}), {measured(found.nats)} nats per token, scored from the artifact "
        f"read back from the disk in sliding windows{adapted}. Track: {submission.submitter.track}. "
        f"Hardware: {plain(hardware(study))}."
    )


def measured(summary: Summary) -> str:
    """A mean and its deviation, with the decimals that the deviation allows."""
    deviation = summary.standard_deviation
    digits = decimals(deviation)
    return number(summary.mean, digits) + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def decimals(deviation: float | None) -> int:
    """Decimals of a figure: the first digit of its deviation, and one more after a leading 1; 4 where none is known."""
    if not deviation:
        return 4 if deviation is None else 6
    first = -math.floor(math.log10(deviation))
    return min(6, max(3, first + (deviation * 10**first < 2)))


def gain(verdict: StudyVerdict) -> str:
    """Returns the gain over the baseline in a sentence."""
    test = verdict.comparison
    if test is None:
        return "The study names no baseline, so that no gain is claimed."
    digits = 1 + decimals(None if verdict.bpb is None else verdict.bpb.standard_deviation)
    kind = "a published mean" if test.published else f"{len(test.values)} seeds"
    nats, bpb = test.gain_nats, test.gain_bpb
    text = (
        f"Gain over {plain(test.baseline)} ({kind}): {nats.gain:+.{digits}f} nats per token, {bpb.gain:+.{digits}f} BPB"
    )
    if nats.p is None:
        return f"{text}. There is no test: one value or no spread."
    answer = "shown" if test.claim else "not shown"
    loose = "" if test.claim else f" ({'shown' if test.loose else 'nor'} at p < {P_LOOSE})"
    return f"{text}. That it exceeds {nats.margin:g} nats is {answer} at p < {P_CLAIM}{loose}: p = {nats.p:.2g}."


def ladder(submission: Submission) -> str:
    """The rungs over the seeds, each beside the one before it."""
    means = rung_means(submission.study)
    if not means:
        return "No seed has a score."
    digits = decimals(deviation(means[-1][1]))
    rows, before = [], None
    for name, bpb, nats, seconds in means:
        mean = statistics.fmean(bpb)
        step = "" if before is None else f"{mean - before:+.{digits}f}"
        if name == means[-1][0]:
            figures = ["the result", "", step, "", ""]
        else:
            figures = [number(mean, digits), number(deviation(bpb), digits), step]
            figures += [number(statistics.fmean(nats), digits), number(statistics.fmean(seconds), 1)]
        rows.append([name, RUNGS[name], *figures])
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
        (f"{TTT}_bpb", "chunks", "BPB of the stream up to a chunk, with TTT running:"),
    ):
        rows = _point_rows(study, name, 1 if unit == "chunks" else 0)
        if rows:
            parts.append(f"{told}\n\n{table([unit, 'mean BPB', 'lowest seed', 'highest seed'], rows)}")
    return "\n\n".join(parts) or "No curve was kept."


def _loss_rows(study: StudyRecord) -> list[list[str]]:
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


def _point_rows(study: StudyRecord, name: str, offset: int) -> list[list[str]]:
    """Points that all seeds have, evenly chosen where they are many, the last always."""
    kept = [{int(step): value for step, _, value in run.curves.get(name, ())} for run in study.done]
    common = sorted(set.intersection(*map(set, kept))) if kept else []
    common = common[:-1] if offset else common  # after the last chunk it is the result
    num = min(_POINTS, len(common))
    chosen = [common[(len(common) * (place + 1)) // num - 1] for place in range(num)]
    return [[f"{step + offset:,}", *_three([points[step] for points in kept])] for step in chosen]


def _three(values: Sequence[float]) -> list[str]:
    return [number(value, 4) for value in (statistics.fmean(values), min(values), max(values))]


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
    told = "Mean over the seeds. Raw: a byte a code, with scales and floats. Entropy: order-0, of the codes alone."
    return f"{told}\n\n{table(['tensors', 'elements', 'raw bytes', 'entropy bytes', 'packed bytes'], rows)}"


def sizes(submission: Submission) -> str:
    """What counts, against the cap; a seed's own sizes are in the table of seeds."""
    shipped, cap, largest = submission.code, submission.study.config.cap_bytes, largest_seed(submission.study)
    forms = [
        ["`train_gpt.py`, minified: **shipped and counted**", whole(shipped.num_bytes), f"`{shipped.sha256}`"],
        ["the same before, with docstrings and types", whole(shipped.raw_bytes), ""],
        ["packed in LZMA and base 85, for information", whole(shipped.packed_bytes), ""],
    ]
    text = f"Model and code together may have {CAP_BYTES:,} bytes (decimal megabytes)"
    text += f"; this configuration's cap is {cap:,}" * (cap != CAP_BYTES)
    if largest is not None and largest.artifact_bytes is not None:
        text += f". Seed {largest.seed}, the largest, leaves {cap - largest.artifact_bytes:,} of them"
    risk = submission.study.verdict.cap
    if risk is not None and risk.probability is not None:
        text += f"; a further seed is over the cap with probability {risk.probability:.2g}, sizes taken as normal"
    return f"{text}.\n\n{table(['code', 'bytes', 'SHA-256'], forms, (0, 2))}"


def seeds(submission: Submission) -> str:
    """Every seed."""
    study = submission.study
    digits = 1 + decimals(None if study.verdict.bpb is None else study.verdict.bpb.standard_deviation)
    rows = []
    for run in study.seeds:
        figures = [run.last.bpb, run.last.nats_per_token] if run.done else [None, None]
        seconds = [number(value, 1) for value in (run.train_seconds, run.evaluation_seconds)]
        seconds.append({True: "anew", False: "shared", None: "-"}[run.cold])
        sizes = [whole(run.model_bytes), whole(run.artifact_bytes)]
        rows.append([str(run.seed), run.state, *(number(one, digits) for one in figures), *sizes, *seconds])
    titles = ["seed", "status", "val_bpb", "val_loss", "model bytes", "total bytes", "training s", "evaluation s"]
    parts = [table([*titles, "computed"], rows, (0, 1, 8))]
    parts.append("All digits are at the end of each log; evaluation is that of the last rung, whose score counts.")
    if any(run.cold is False for run in study.seeds):
        parts.append(
            "Shared: a part came from runs with the same inputs and the same code; its seconds are what it took."
        )
    failed = [f"seed {run.seed}: {plain(run.reason)}" for run in study.seeds if run.reason]
    return "\n\n".join([*parts, items(failed)] if failed else parts)


def comparison(submission: Submission) -> str:
    """How the test was made, and what else ran."""
    found = submission.study.verdict
    parts = [_tested(found)]
    if found.notes:
        parts.append("Notes:\n\n" + items(plain(note) for note in found.notes))
    if found.others:
        rows = [[_seed_text(run), plain(run.state), number(run.bpb), plain(run.why)] for run in found.others]
        parts.append("Every other run of this configuration, none left out:")
        parts.append(table(["seed", "status", "val_bpb", "why it is no seed of the study"], rows, (0, 1, 3)))
    else:
        parts.append("No other run of this configuration is known to the ledger.")
    if found.missing:
        parts.append(f"Planned and never run: seeds {', '.join(map(str, found.missing))}.")
    return "\n\n".join(parts)


def _seed_text(run: OtherRun) -> str:
    return f"{run.seed} repeat {run.repeat}" if run.repeat else str(run.seed)


def _tested(verdict: StudyVerdict) -> str:
    """Returns the intervals, the kind of the test and its baseline."""
    parts = []
    summary, test = verdict.bpb, verdict.comparison
    if summary is not None and summary.interval is not None:
        low, high = (number(value, 1 + decimals(summary.standard_deviation)) for value in summary.interval)
        parts.append(f"{summary.level:.0%} interval of the mean: {low} to {high} BPB.")
    if test is not None:
        gain = test.gain_nats
        if not test.baseline[:1].isdigit():  # else its name is its values
            parts.append(f"Baseline {plain(test.baseline)}: {', '.join(number(value) for value in test.values)} BPB.")
        if gain.interval is not None:
            low, high = (number(value) for value in gain.interval)
            parts.append(f"{gain.level:.0%} interval of the gain: {low} to {high} nats per token.")
        if gain.degrees_of_freedom is not None:
            name = "t test" if test.published else "Welch test"
            parts.append(f"One-sided {name}, {gain.degrees_of_freedom:.1f} degrees of freedom.")
    return " ".join(parts) or "One seed has no interval."
