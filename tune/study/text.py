"""Verdicts, comparisons and powers as text for a terminal: aligned, with units, every assumption beside its figure.

Frozen results enter, text leaves. Nothing is computed here that is not also in what enters.
"""

import textwrap
from collections.abc import Sequence

from golf.config.rules import P_CLAIM, P_LOOSE, TRACK_SECONDS
from tune.study.bootstrap import MIN_CHUNKS, STREAM_CLAIM
from tune.study.noise import LEVELS, TARGETS, Needed, Noise
from tune.study.paired import Comparison
from tune.study.runs import Run
from tune.study.sequential_test import Sequential as Looks
from tune.study.sequential_test import Verdict as Decision
from tune.study.stats import Gain, Interval, Summary
from tune.study.verdict import Verdict

WIDTH = 118
_LABEL = 11


def verdict_text(verdict: Verdict) -> str:
    """The whole verdict."""
    blocks = [_head(verdict), _rows(verdict), _figures(verdict)]
    if verdict.baseline is not None:
        blocks.append(_test(verdict))
    if verdict.others:
        blocks.append(_others(verdict))
    said = [_labelled("fault" if not n else "", fault) for n, fault in enumerate(verdict.faults)]
    said += [_labelled("note" if not n else "", note) for n, note in enumerate(verdict.notes)]
    blocks += ["\n".join(said)] if said else []
    return "\n\n".join([*blocks, textwrap.fill(conclusion(verdict), WIDTH, subsequent_indent=" " * 9)])


def conclusion(verdict: Verdict) -> str:
    """What it comes to, in one sentence."""
    if verdict.baseline is None:
        if verdict.faults:
            return f"verdict: not complete: {verdict.faults[0]}" + _and_more(len(verdict.faults) - 1)
        return f"verdict: {len(verdict.rows)} seeds, all under the cap; no gain is claimed (--baseline names one)"
    if verdict.gain_nats is None:
        return "verdict: no claim: no seed has a result"
    gain = f"a gain of more than {verdict.gain_nats.margin:.4f} nats/token over {verdict.baseline.name}"
    if verdict.sequential is not None:
        shown = {
            Decision.GAIN: f"{gain} is shown by the planned test",
            Decision.NO_GAIN: f"{gain} is denied by the planned test: further seeds are futile",
            Decision.CONTINUE: f"{gain} is not decided yet",
            Decision.UNDECIDED: f"{gain} is not decided, and all seeds of the plan are spent",
        }[verdict.sequential.verdict]
    elif verdict.claim is None:
        shown = f"{gain} cannot be tested: one value or no spread"
    elif verdict.claim:
        shown = f"{gain} is shown at p < {P_CLAIM}"
    else:
        shown = f"{gain} is not shown at p < {P_CLAIM}" + (
            f", but at the looser p < {P_LOOSE}" if verdict.loose else ""
        )
    if verdict.faults:
        shown += f"; nothing may be claimed: {verdict.faults[0]}" + _and_more(len(verdict.faults) - 1)
    return f"verdict: {shown}"


def comparison_text(comparisons: Sequence[Comparison]) -> str:
    """All comparisons with one baseline."""
    blocks = []
    for one in comparisons:
        rows = [["seed", "BPB better by", "95 % interval", "nats/token", "95 % interval", "block"]]
        for pair in one.pairs:
            gain = pair.difference
            figures = [f"{gain.bpb:+.5f}", _span(gain.bpb_interval), f"{gain.nats_per_token:+.5f}"]
            rows.append([pair.seeds, *figures, _span(gain.nats_interval), f"{gain.block_chunks} chunks"])
        lines = [f"{one.candidate} against {one.baseline}, on one validation stream"]
        lines += [aligned(rows, (0,))] if one.pairs else [_labelled("stream", "no seed ran on both sides")]
        if one.pairs and one.pairs[0].difference.bpb_interval is None:
            lines.append(_labelled("", f"no intervals: they need {MIN_CHUNKS} chunks or more"))
        lines.append(_labelled("test", one.test))
        if one.gain_nats is not None and one.gain_bpb is not None:
            gains = _gains(one.gain_bpb, one.gain_nats)
            lines += [_labelled("" if n else "gain", text) for n, text in enumerate(gains)]
            holm = "" if one.p_holm is None else f"; {_p(one.p_holm)} with Holm's correction for {len(comparisons)}"
            lines.append(_labelled("", f"exceeds {one.gain_nats.margin:.4f} nats/token: {_p(one.gain_nats.p)}{holm}"))
        lines += [_labelled("note", note) for note in one.notes]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, textwrap.fill(STREAM_CLAIM, WIDTH)])


def power_text(
    noise: Noise,
    table: Sequence[Needed],
    margin_nats: float,
    nats_per_bpb: float,
    stream: str,
    num_baseline: int | None,
) -> str:
    """How many seeds each gain needs."""
    freedom = "" if noise.degrees_of_freedom is None else f", {noise.degrees_of_freedom} degrees of freedom"
    margin = f"{margin_nats:.4f} nats/token = {margin_nats / nats_per_bpb:.5f} BPB"
    lines = [
        _labelled("noise", f"{noise.sd_bpb:.5f} BPB from seed to seed: {noise.source}{freedom}"),
        _labelled("margin", f"{margin} ({nats_per_bpb:.4f} nats/token to 1 BPB: {stream})"),
        _labelled(
            "seeds", f"for a probability of {' / '.join(f'{t * 100:.0f} %' for t in TARGETS)} that p is below the level"
        ),
    ]
    against = {"equal": "as many", "published": "a mean"}
    head = [["true gain", "", *(f"p < {level}" for level in LEVELS for _ in range(2 + (num_baseline is not None)))]]
    bases = list(table[0].num_seeds)
    head.append(["nats/token", "BPB", *(str(against.get(str(base), f"{base} seeds")) for _, base in bases)])
    rows = [
        [f"{one.gain_bpb * nats_per_bpb:.4f}", f"{one.gain_bpb:.5f}", *(_cell(one.num_seeds[base]) for base in bases)]
        for one in table
    ]
    lines += [aligned([*head, *rows], ()), ""]
    told = "columns: against as many baseline seeds, or a published mean taken as exact"
    told += "" if num_baseline is None else f", or the baseline's {num_baseline}"
    told += "; normal values of equal deviation assumed"
    if noise.degrees_of_freedom is not None and noise.degrees_of_freedom < 10:
        told += f"; {noise.degrees_of_freedom} degrees of freedom leave the noise itself uncertain"
    return "\n".join([*lines[:-1], textwrap.fill(told, WIDTH)])


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Rows of cells in columns, those in `left` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _head(verdict: Verdict) -> str:
    code, data = ((verdict.facts.get(name) or "unknown")[:12] for name in ("code", "data"))
    device = verdict.facts.get("device") or "an unknown device"
    torch = verdict.facts.get("environment.torch") or "unknown"
    return f"study {verdict.study} of {verdict.preset}, on {device}\ncode {code}, data {data}, torch {torch}"


def _rows(verdict: Verdict) -> str:
    """A line per seed and repeat, with or without a result."""
    rows = [
        ["seed", "status", "BPB", "nats/token", "bytes", "to the cap", "train s", "evaluate s", "computed", "trial"]
    ]
    for run in (*verdict.rows, *verdict.repeats):
        seed = f"{run.seed}" + (f" repeat {run.repeat}" if run.repeat else "")
        room = (
            None if run.artifact_bytes is None or verdict.cap_bytes is None else verdict.cap_bytes - run.artifact_bytes
        )
        seconds = [_figure(run.train_seconds, ".1f"), _figure(run.evaluation_seconds, ".1f")]
        figures = [_figure(run.bpb, ".5f"), _figure(run.nats, ".5f"), _figure(run.artifact_bytes, ",d")]
        rows.append([seed, run.status, *figures, _figure(room, "+,d"), *seconds, _computed(run), run.trial])
    rows += [[str(seed), "not run", *["-"] * 8] for seed in verdict.missing]
    return aligned(rows, (0, 1, 8, 9))


def _figures(verdict: Verdict) -> str:
    """Mean, spread, cap, seconds, same-seed noise."""
    lines: list[str] = []
    for summary, unit in ((verdict.bpb, "BPB"), (verdict.nats, "nats/token")):
        if summary is not None:
            lines.append(_labelled("mean" if not lines else "", _summary(summary, unit)))
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
    for what, seconds in (
        ("training", [run.train_seconds for run in verdict.rows if run.train_seconds is not None]),
        ("evaluation", [run.evaluation_seconds for run in verdict.rows if run.evaluation_seconds is not None]),
    ):
        text += f"; longest {what} {max(seconds):.1f} s" if seconds else ""
    lines.append(_labelled("seconds", f"{verdict.track} track: {text}"))
    if verdict.noise_bpb is not None:
        noise = verdict.noise_bpb
        same = (
            f"{noise.repeat_sd:.5f} {_span(noise.repeat_interval)} BPB over {_done(verdict.repeats)} runs of one seed"
        )
        lines.append(
            _labelled("noise", f"same seed: sd {same}" + ("" if noise.repeat_sd else ", bit for bit the same"))
        )
        seeds = f"{noise.seeds_sd:.5f} {_span(noise.seeds_interval)} BPB over {_done(verdict.rows)} seeds"
        lines.append(_labelled("", f"seed to seed: sd {seeds}, of which the seed itself {noise.seed_only_sd:.5f}"))
    return "\n".join(lines)


def _test(verdict: Verdict) -> str:
    """The comparison with the baseline."""
    baseline, gain = verdict.baseline, verdict.gain_nats
    assert baseline is not None
    kind = "one published mean" if baseline.published else f"{len(baseline.bpb)} values"
    lines = [_labelled("baseline", f"{baseline.name}: {kind}, {sum(baseline.bpb) / len(baseline.bpb):.5f} BPB")]
    if gain is None or verdict.gain_bpb is None:
        return lines[0]
    lines += [_labelled("gain" if not n else "", text) for n, text in enumerate(_gains(verdict.gain_bpb, gain))]
    test = "t test" if baseline.published else "Welch's test"
    margin = f"{gain.margin:.4f} nats/token ({verdict.gain_bpb.margin:.5f} BPB)"
    if gain.p is None or gain.degrees_of_freedom is None:
        lines.append(_labelled("test", f"none that the gain exceeds {margin}: one value or no spread"))
    else:
        freedom = f"{gain.degrees_of_freedom:.1f} degrees of freedom"
        lines.append(_labelled("test", f"one-sided {test} that the gain exceeds {margin}, {freedom}"))
        answers = (f"p < {level}: {'yes' if shown else 'no'}" for level, shown in _levels(verdict))
        lines.append(_labelled("", "    ".join([_p(gain.p), *answers])))
    if verdict.sequential is not None:
        lines.append(_looks(verdict.sequential))
    return "\n".join(lines)


def _levels(verdict: Verdict) -> tuple[tuple[float, bool | None], ...]:
    return (P_CLAIM, verdict.claim), (P_LOOSE, verdict.loose)


def _looks(looks: Looks) -> str:
    """The looks of the planned test so far."""
    source = "(Lan and DeMets 1983; Jennison and Turnbull 1991)"
    lines = [
        _labelled("looks", f"the planned test, valid under repeated looks {source}; its levels replace those above")
    ]
    rows = [["seeds", "gain", "p gain", "level", "p no gain", "level"]]
    for look in looks.looks:
        p_values = [
            f"{look.num_seeds}",
            f"{look.gain.gain:.5f} BPB",
            _figure(look.p_gain, ".4f"),
            f"{look.gain_level:.4f}",
        ]
        rows.append([*p_values, _figure(look.p_no_gain, ".4f"), f"{look.no_gain_level:.4f}"])
    return "\n".join([*lines, textwrap.indent(aligned(rows, ()), " " * _LABEL)] if looks.looks else lines)


def _others(verdict: Verdict) -> str:
    """Everything else that ran under this configuration."""
    rows = [["seed", "status", "BPB", "trial", "why it is not in the study"]]
    for other in verdict.others:
        run = other.run
        seed = f"{run.seed}" + (f" repeat {run.repeat}" if run.repeat else "")
        rows.append([seed, run.status, _figure(run.bpb, ".5f"), run.trial, other.why])
    return "also run under this configuration, all of it:\n" + aligned(rows, (0, 1, 3, 4))


def _gains(bpb: Gain, nats: Gain) -> list[str]:
    return [
        f"{nats.gain:+.5f} nats/token, 95 % interval {_span(nats.interval)}",
        f"{bpb.gain:+.5f} BPB, 95 % interval {_span(bpb.interval)}",
    ]


def _summary(summary: Summary, unit: str) -> str:
    text = f"{summary.mean:.5f} {unit}"
    if summary.standard_deviation is None:
        return f"{text} of one seed"
    spread = f"standard deviation {summary.standard_deviation:.5f}"
    return f"{text}, {spread}, {summary.level * 100:.0f} % interval of the mean {_span(summary.interval)}"


def _labelled(label: str, text: str) -> str:
    """A line with its label in front, wrapped below itself."""
    return textwrap.fill(text, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL)


def _span(interval: Interval | None) -> str:
    return "unknown" if interval is None else f"[{interval[0]:.5f}, {interval[1]:.5f}]"


def _p(p: float | None) -> str:
    return "p unknown" if p is None else f"p = {p:.2g}" if p >= 1e-12 else "p < 1e-12"


def _cell(num_seeds: Sequence[int | None]) -> str:
    return " / ".join("> 100" if num is None else str(num) for num in num_seeds)


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _computed(run: Run) -> str:
    return "-" if run.cold is None else "cold" if run.cold else "shared"


def _done(runs: Sequence[Run]) -> int:
    return sum(run.bpb is not None for run in runs)


def _and_more(num: int) -> str:
    return f" (and {num} more above)" if num > 0 else ""
