"""Verdicts, comparisons and powers as text for a terminal, in columns, every assumption beside its figure."""

import textwrap
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from golf.config.rules import P_CLAIM, P_LOOSE, TRACK_SECONDS
from golf.submission.study import (
    NATS_UNITS,
    Comparison,
    Decision,
    Gain,
    Interval,
    SequentialResult,
    StudyVerdict,
    Summary,
)
from tune.records.entries import TrialEntry
from tune.study.baseline import TARGET
from tune.study.bootstrap import MIN_CHUNKS, STREAM_CLAIM
from tune.study.noise import LEVELS, TARGETS, Noise, SeedsNeeded
from tune.study.paired import PairedComparison
from tune.study.runs import Study, evaluation_seconds, training_seconds
from tune.study.sequential_test import MOST_SEEDS

WIDTH = 118
_LABEL = 11
_BASELINES = {"equal": "as many", "published": "a mean"}
_COMPUTED = {None: "-", True: "cold", False: "shared"}


def verdict_text(study: Study, verdict: StudyVerdict) -> str:
    """Returns a verdict as text, with a line for each run of the study."""
    blocks = [_head(study), _runs_table(study, verdict.missing), _figures(study, verdict)]
    if verdict.comparison is not None:
        blocks.append(_comparison(verdict.comparison, verdict))
    if study.others:
        blocks.append(_others_table(study))
    remarks = [*_labelled_lines("fault", verdict.faults), *_labelled_lines("note", verdict.notes)]
    blocks += ["\n".join(remarks)] if remarks else []
    return "\n\n".join([*blocks, textwrap.fill(conclusion(verdict), WIDTH, subsequent_indent=" " * 9)])


def conclusion(verdict: StudyVerdict) -> str:
    """Returns what a verdict comes to, in one sentence."""
    first_fault = "" if not verdict.faults else verdict.faults[0]
    if len(verdict.faults) > 1:
        first_fault += f" (and {len(verdict.faults) - 1} more above)"
    comparison = verdict.comparison
    if comparison is None:
        if verdict.faults:
            return f"verdict: not complete: {first_fault}"
        return f"verdict: {len(verdict.seeds)} seeds, all under the cap; no gain is claimed (--baseline names one)"
    gain = f"a gain of more than {comparison.gain_nats.margin:.4f} {verdict.margin_unit} over {comparison.baseline}"
    if comparison.baseline.startswith(TARGET):
        gain = f"that the mean reaches the {comparison.baseline}"
    if comparison.sequential is not None:
        shown = {
            Decision.GAIN: f"{gain} is shown by the planned test",
            Decision.NO_GAIN: f"{gain} is denied by the planned test: further seeds are futile",
            Decision.CONTINUE: f"{gain} is not decided yet",
            Decision.UNDECIDED: f"{gain} is not decided, and all seeds of the plan are spent",
        }[comparison.sequential.decision]
    elif comparison.claim is None:
        shown = f"{gain} cannot be tested: one value or no spread"
    elif comparison.claim:
        shown = f"{gain} is shown at p < {P_CLAIM}"
    else:
        looser = f", but at the looser p < {P_LOOSE}" if comparison.loose else ""
        shown = f"{gain} is not shown at p < {P_CLAIM}{looser}"
    return f"verdict: {shown}" + (f"; nothing may be claimed: {first_fault}" if verdict.faults else "")


def comparison_text(comparisons: Sequence[PairedComparison]) -> str:
    """Returns all comparisons with one baseline as text."""
    blocks = [_paired_block(comparison, len(comparisons)) for comparison in comparisons]
    return "\n\n".join([*blocks, textwrap.fill(STREAM_CLAIM, WIDTH)])


def power_text(
    noise: Noise,
    table: Mapping[float, SeedsNeeded],
    margin_nats: float,
    nats_per_bpb: float,
    stream: str,
    num_baseline: int | None,
) -> str:
    """Returns as text how many seeds each gain needs.

    Args: noise: from seed to seed; table: seeds for each gain; margin_nats: that a gain has to exceed, in nats per
        token; nats_per_bpb: nats per token that are 1 BPB; stream: which validation stream that is of; num_baseline:
        seeds of the baseline that was named; None without one.
    """
    freedom = "" if noise.degrees_of_freedom is None else f", {noise.degrees_of_freedom} degrees of freedom"
    margin = f"{margin_nats:.4f} nats/token = {margin_nats / nats_per_bpb:.5f} BPB"
    targets = " / ".join(f"{target * 100:.0f} %" for target in TARGETS)
    columns = list(next(iter(table.values())))
    rows = [
        ["true gain", "", *(f"p < {level}" for level in LEVELS for _ in range(len(columns) // len(LEVELS)))],
        ["nats/token", "BPB", *(_BASELINES.get(str(base), f"{base} seeds") for _, base in columns)],
    ]
    for gain, needed in table.items():
        cells = [
            " / ".join(f"> {MOST_SEEDS}" if num is None else str(num) for num in numbers) for numbers in needed.values()
        ]
        rows.append([f"{gain * nats_per_bpb:.4f}", f"{gain:.5f}", *cells])
    remarks = "columns: against as many baseline seeds, or a published mean taken as exact"
    remarks += "" if num_baseline is None else f", or the baseline's {num_baseline}"
    remarks += "; normal values of equal deviation assumed"
    if noise.degrees_of_freedom is not None and noise.degrees_of_freedom < 10:
        remarks += f"; {noise.degrees_of_freedom} degrees of freedom leave the noise itself uncertain"
    return "\n".join(
        [
            _labelled("noise", f"{noise.sd_bpb:.5f} BPB from seed to seed: {noise.source}{freedom}"),
            _labelled("margin", f"{margin} ({nats_per_bpb:.4f} nats/token to 1 BPB: {stream})"),
            _labelled("seeds", f"for a probability of {targets} that p is below the level"),
            _columns(rows, "r" * (2 + len(columns))),
            textwrap.fill(remarks, WIDTH),
        ]
    )


def _columns(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Returns rows in columns: "l" for one to the left, "r" for one to the right."""
    sides = ["left" if side == "l" else "right" for side in alignment]
    text = tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _head(study: Study) -> str:
    code, data = ((study.facts.get(name) or "unknown")[:12] for name in ("code", "data"))
    device = study.facts.get("device") or "an unknown device"
    torch = study.facts.get("environment.torch") or "unknown"
    return f"study {study.name} of {study.preset}, on {device}\ncode {code}, data {data}, torch {torch}"


def _runs_table(study: Study, missing: Sequence[int]) -> str:
    """Returns a line for each seed and repeat, with or without a result."""
    rows = [
        [
            "seed",
            "status",
            study.unit,
            "nats/token",
            "bytes",
            "to the cap",
            "train s",
            "evaluate s",
            "computed",
            "trial",
        ]
    ]
    for run in study.entries:
        size, cap = run.artifact_bytes, study.cap_bytes
        rows.append(
            [
                _seed(run),
                str(run.state),
                _figure(run.score, ".5f"),
                _figure(run.nats_per_token if run.done else None, ".5f"),
                _figure(size, ",d"),
                _figure(None if size is None or cap is None else cap - size, "+,d"),
                _figure(training_seconds(run), ".1f"),
                _figure(evaluation_seconds(run), ".1f"),
                _COMPUTED[run.cold],
                run.trial,
            ]
        )
    rows += [[str(seed), "not run", *["-"] * 8] for seed in missing]
    return _columns(rows, "llrrrrrrll")


def _others_table(study: Study) -> str:
    """Returns everything else that ran under this configuration."""
    rows = [["seed", "status", study.unit, "trial", "why it is not in the study"]]
    for other in study.others:
        run = other.entry
        rows.append([_seed(run), str(run.state), _figure(run.score, ".5f"), run.trial, other.why])
    return "also run under this configuration, all of it:\n" + _columns(rows, "llrll")


def _figures(study: Study, verdict: StudyVerdict) -> str:
    """Returns mean, spread, cap, seconds and same-seed noise."""
    nats = verdict.nats if verdict.unit == "BPB" else None
    means = [_summary(s, unit) for s, unit in ((verdict.bpb, verdict.unit), (nats, "nats/token")) if s is not None]
    lines = _labelled_lines("mean", means)
    if verdict.cap is not None and verdict.cap_bytes is not None:
        margin = verdict.cap.margin_bytes
        room = f"{margin:,} bytes below" if margin >= 0 else f"{-margin:,} bytes over"
        text = f"largest {verdict.cap.largest_bytes:,} bytes, {room} the cap of {verdict.cap_bytes:,}"
        if verdict.cap.probability is not None:
            text += f"; a further seed exceeds it with probability {verdict.cap.probability:.2g}"
            text += " (sizes assumed normal; a lower bound where the codec jumps)"
        lines.append(_labelled("cap", text))
    limit = TRACK_SECONDS[verdict.track]
    text = "no limit" if limit is None else f"{limit:.0f} s for training and {limit:.0f} s for evaluation"
    for part, seconds_of in (("training", training_seconds), ("evaluation", evaluation_seconds)):
        seconds = [value for value in map(seconds_of, study.rows) if value is not None]
        text += f"; longest {part} {max(seconds):.1f} s" if seconds else ""
    lines.append(_labelled("seconds", f"{verdict.track} track: {text}"))
    return "\n".join([*lines, *_noise_lines(study, verdict)])


def _noise_lines(study: Study, verdict: StudyVerdict) -> list[str]:
    noise = verdict.noise_bpb
    if noise is None:
        return []
    num_repeats = sum(run.done for run in study.repeats)
    repeats = f"{noise.repeat_sd:.5f} {_span(noise.repeat_interval)} {verdict.unit} over {num_repeats} runs of one seed"
    seeds = f"{noise.seeds_sd:.5f} {_span(noise.seeds_interval)} {verdict.unit} over {len(study.counted)} seeds"
    return _labelled_lines(
        "noise",
        [
            f"same seed: sd {repeats}" + ("" if noise.repeat_sd else ", bit for bit the same"),
            f"seed to seed: sd {seeds}, of which the seed itself {noise.seed_only_sd:.5f}",
        ],
    )


def _comparison(comparison: Comparison, verdict: StudyVerdict) -> str:
    """Returns the comparison with the baseline."""
    values, gain = comparison.values, comparison.gain_nats
    kind = "one published mean" if comparison.published else f"{len(values)} values"
    lines = [_labelled("baseline", f"{comparison.baseline}: {kind}, {sum(values) / len(values):.5f} {verdict.unit}")]
    lines += _labelled_lines("gain", _gains(comparison.gain_bpb, gain, verdict.unit, verdict.margin_unit))
    in_bpb = f" ({comparison.gain_bpb.margin:.5f} BPB)" if verdict.unit == "BPB" else ""
    margin = f"{gain.margin:.4f} {verdict.margin_unit}{in_bpb}"
    if gain.p is None or gain.degrees_of_freedom is None:
        lines.append(_labelled("test", f"none that the gain exceeds {margin}: one value or no spread"))
    else:
        test = "t test" if comparison.published else "Welch's test"
        freedom = f"{gain.degrees_of_freedom:.1f} degrees of freedom"
        levels = ((P_CLAIM, comparison.claim), (P_LOOSE, comparison.loose))
        answers = (f"p < {level}: {'yes' if shown else 'no'}" for level, shown in levels)
        text = f"one-sided {test} that the gain exceeds {margin}, {freedom}"
        lines += _labelled_lines("test", [text, "    ".join([_p(gain.p), *answers])])
    if comparison.sequential is not None:
        lines.append(_looks(comparison.sequential, verdict.unit))
    return "\n".join(lines)


def _looks(result: SequentialResult, unit: str) -> str:
    """Returns the looks of the planned test so far."""
    source = "(Lan and DeMets 1983; Jennison and Turnbull 1991)"
    text = f"the planned test, valid under repeated looks {source}; its levels replace those above"
    if not result.looks:
        return _labelled("looks", text)
    rows = [["seeds", "gain", "p gain", "level", "p no gain", "level"]]
    for look in result.looks:
        p_values = [_figure(look.p_gain, ".4f"), f"{look.gain_level:.4f}", _figure(look.p_no_gain, ".4f")]
        rows.append([str(look.num_seeds), f"{look.gain.gain:.5f} {unit}", *p_values, f"{look.no_gain_level:.4f}"])
    return "\n".join([_labelled("looks", text), textwrap.indent(_columns(rows, "rrrrrr"), " " * _LABEL)])


def _paired_block(comparison: PairedComparison, num_comparisons: int) -> str:
    """Returns one comparison on a validation stream."""
    rows = [["seed", "BPB better by", "95 % interval", "nats/token", "95 % interval", "block"]]
    for pair in comparison.pairs:
        gain = pair.difference
        figures = [f"{gain.bpb:+.5f}", _span(gain.bpb_interval), f"{gain.nats_per_token:+.5f}"]
        rows.append([pair.seeds, *figures, _span(gain.nats_interval), f"{gain.block_chunks} chunks"])
    lines = [f"{comparison.candidate} against {comparison.baseline}, on one validation stream"]
    nats = "nats/token" if comparison.unit in NATS_UNITS else comparison.unit
    if comparison.has_chunks:
        lines += [_columns(rows, "lrrrrr")] if comparison.pairs else [_labelled("stream", "no seed ran on both sides")]
    else:
        lines = [f"{comparison.candidate} against {comparison.baseline}, by their scores alone"]
    if comparison.pairs and comparison.pairs[0].difference.bpb_interval is None:
        lines.append(_labelled("", f"no intervals: they need {MIN_CHUNKS} chunks or more"))
    lines.append(_labelled("test", comparison.test))
    if comparison.gain_nats is not None and comparison.gain_bpb is not None:
        lines += _labelled_lines("gain", _gains(comparison.gain_bpb, comparison.gain_nats, comparison.unit, nats))
        margin, p = comparison.gain_nats.margin, _p(comparison.gain_nats.p)
        holm = "" if comparison.p_holm is None else f"; {_p(comparison.p_holm)} with Holm's correction"
        holm += f" for {num_comparisons}" if holm else ""
        lines.append(_labelled("", f"exceeds {margin:.4f} {nats}: {p}{holm}"))
    return "\n".join([*lines, *_labelled_lines("note", comparison.notes)])


def _labelled(label: str, text: str) -> str:
    """Returns a line with its label in front, wrapped below itself."""
    return textwrap.fill(text, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL)


def _labelled_lines(label: str, texts: Sequence[str]) -> list[str]:
    """Returns lines of which the first has a label."""
    return [_labelled("" if number else label, text) for number, text in enumerate(texts)]


def _gains(bpb: Gain, nats: Gain, unit: str, margin_unit: str) -> list[str]:
    lines = [f"{nats.gain:+.5f} {margin_unit}, 95 % interval {_span(nats.interval)}"]
    return lines + ([f"{bpb.gain:+.5f} BPB, 95 % interval {_span(bpb.interval)}"] if unit == "BPB" else [])


def _summary(summary: Summary, unit: str) -> str:
    text = f"{summary.mean:.5f} {unit}"
    if summary.standard_deviation is None:
        return f"{text} of one seed"
    spread = f"standard deviation {summary.standard_deviation:.5f}"
    return f"{text}, {spread}, {summary.level * 100:.0f} % interval of the mean {_span(summary.interval)}"


def _span(interval: Interval | None) -> str:
    return "unknown" if interval is None else f"[{interval[0]:.5f}, {interval[1]:.5f}]"


def _p(p: float | None) -> str:
    return "p unknown" if p is None else f"p = {p:.2g}" if p >= 1e-12 else "p < 1e-12"


def _seed(entry: TrialEntry) -> str:
    return f"{entry.seed}" + (f" repeat {entry.repeat}" if entry.repeat else "")


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
