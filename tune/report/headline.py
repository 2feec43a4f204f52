"""What a reader wants first: the best trial, its bytes, test-time training, what seeds say, and what to do next."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf.config.rules import MIN_SEEDS
from golf.runtime.results import SLIDING, TTT
from tune.records.entries import TrialEntry, TrialState
from tune.records.layout import Storage
from tune.report.data import STATE_NAMES, Group, Results, groups_of, name_of, score_of
from tune.report.text import clean, seeds_options, signed
from tune.study.stats import cap_probability, summarise

_MAX_LETTERS = 160
"""Letters of a name in a sentence, at most."""


@dataclass(frozen=True)
class Headline:
    """The answers of a report, one sentence or two each, and the command that goes on from there."""

    answers: tuple[str, ...]
    next_step: str
    """What to do next, in words."""
    command: str | None = None
    """The command for that, quoted for a shell."""


def headline_of(results: Results, studies: Sequence[Results], root: Path) -> Headline:
    """Returns the answers.

    Args: results: of the report; studies: seed studies of the best trial's configuration, most seeds first; root:
        storage folder, as the user named it.
    """
    if not results.ranked:
        return _without_score(results)
    if results.is_study:
        return _of_study(results, root)
    best = results.ranked[0]
    answers = [_best_sentence(results, best), _bytes_sentence([best]), _ttt_sentence(results.ranked, best)]
    others = [Results(name=n, trials=t, num_entries=len(t), digest="") for n, t in _own_seeds(results, best)]
    confirmed = [*studies, *others]
    if not confirmed or len(groups_of(confirmed[0])[0].seeds) < MIN_SEEDS:
        few = f"{len(groups_of(confirmed[0])[0].seeds)} of {MIN_SEEDS}" if confirmed else "none"
        answers.append(
            f"Seeds: not confirmed ({few} in the ledger). The best of {len(results.ranked)} scores is in part luck of "
            "its seed."
        )
        command = f"python run_seeds.py {seeds_options(results.name, root)}"
        step = "Run the best configuration under several seeds, with the sweep's own options for data and machines:"
        return Headline(tuple(answers), step, command)
    study = confirmed[0]
    group = groups_of(study)[0]
    name = clean(study.name, _MAX_LETTERS)
    answers.append(f"Seeds, in {name}: {_seeds_sentence(study, group)}{_against_second(results, group)}")
    if study.name == results.name:
        return Headline(tuple(answers), "Compare it with a baseline; see the table of seeds below.")
    command = command_of("python -m tune report", study.name, ["--storage", str(root)])
    return Headline(tuple(answers), "The study has a report of its own:", command)


def _own_seeds(results: Results, best: TrialEntry) -> list[tuple[str, tuple[TrialEntry, ...]]]:
    """Returns the sweep's own runs of the best configuration where it searched the seed, too."""
    groups = [group for group in groups_of(results) if best in group.seeds and len(group.seeds) > 1]
    return [(results.name, (*group.seeds, *group.unfinished)) for group in groups]


def _of_study(results: Results, root: Path) -> Headline:
    group = groups_of(results)[0]
    answers = [f"{_capital(_seeds_sentence(results, group))}", _bytes_sentence(group.seeds or group.repeats)]
    answers.append(_ttt_sentence(group.seeds or group.repeats, None))
    verdict = None if results.verdict is None else results.verdict.verdict
    study = shlex.quote(results.name)
    if len(group.seeds) < MIN_SEEDS:
        step = f"A claim takes {MIN_SEEDS} seeds: run the study's command again with further ones (--seeds)."
        return Headline(tuple(answers), step)
    if verdict is None or verdict.comparison is None:
        answers.append("It was not tested against a baseline.")
        return Headline(tuple(answers), f"Test it: run the study's command ({study}) again with --baseline.")
    gain, unit = verdict.comparison.gain_nats, verdict.margin_unit
    p = "no p value" if gain.p is None else f"p = {gain.p:.2g}"
    baseline = clean(verdict.comparison.baseline, _MAX_LETTERS)
    holds = "holds" if verdict.holds else "does not hold"
    answers.append(
        f"Gain over the baseline {baseline}: {signed(gain.gain, 5)} {unit}; that it exceeds {gain.margin:g}: {p}. "
        f"The claim {holds}."
    )
    if verdict.holds:
        command = command_of("python -m golf submit", str(Storage(root).study(results.name)), [])
        return Headline(tuple(answers), "Make the record folder (--help names what it asks for):", command)
    if verdict.faults:
        return Headline(tuple(answers), f"What forbids the claim first: {clean(verdict.faults[0], 300)}.")
    return Headline(tuple(answers), "More seeds make the test sharper: the study's command again with --seeds.")


def _without_score(results: Results) -> Headline:
    counts = Counter(entry.state for entry in results.trials)
    if not results.trials:
        return Headline(("The ledger has a verdict of this name and no trial.",), "Look for its trials' ledger.")
    endings = ", ".join(f"{counts[state]} {name}" for state, name in STATE_NAMES.items() if counts[state])
    answers = [f"None of {_count(len(results.trials), 'trial')} has a score: {endings}."]
    over = [entry for entry in results.trials if entry.state == TrialState.INFEASIBLE and entry.size is not None]
    if over:
        least = min(over, key=lambda entry: (entry.size.over_bytes if entry.size else 0, entry.trial))
        assert least.size is not None
        answers.append(f"Nearest to the cap: {_of_trial(least)}, over by {least.size.over_bytes:,} bytes.")
    steps = {
        TrialState.INFEASIBLE: "Search smaller models or splits of fewer bits (--space split=...).",
        TrialState.FAILED: "See why they failed, below; the same command runs failed trials again.",
        TrialState.SCREENED: "Run the same command with --no-screening: it evaluates every trial in full.",
    }
    return Headline(tuple(answers), steps[max(steps, key=lambda state: counts[state])])


def _best_sentence(results: Results, best: TrialEntry) -> str:
    of = f"{_count(len(results.trials), 'trial')}, {len(results.ranked)} of them finished"
    return f"Best of {of}: {score_of(best):.4f} {results.unit} by {_of_trial(best)}."


def _of_trial(entry: TrialEntry) -> str:
    name = clean(name_of(entry), _MAX_LETTERS)
    return f"trial {entry.trial[:12]}" + ("" if name == entry.trial or not name else f" ({name})")


def _bytes_sentence(entries: Sequence[TrialEntry]) -> str:
    """Returns what room the largest artifact leaves below the cap."""
    sized = [entry for entry in entries if entry.artifact_bytes is not None]
    if not sized:
        return "Bytes: unknown; no size of an artifact is in the ledger."
    entry = max(sized, key=lambda entry: entry.artifact_bytes or 0)
    size, cap = entry.artifact_bytes or 0, entry.cap_bytes
    largest = "the largest artifact has " if len(entries) > 1 else ""
    if cap is None:
        return f"Bytes: {largest}{size:,}; there is no cap."
    room = f"{cap - size:,} to spare" if size <= cap else f"{size - cap:,} over it"
    return f"Bytes: {largest}{size:,} of {cap:,}, {room} ({abs(cap - size) / cap:.1%})."


def _ttt_sentence(entries: Sequence[TrialEntry], best: TrialEntry | None) -> str:
    """Returns what test-time training gave: of the best trial, or on average, against the rung below it."""
    shown = [best] if best is not None else list(entries)
    gains = []
    for entry in shown:
        ttt = entry.rung(TTT)
        before = entry.rung(SLIDING)
        gains += [(before.bpb, ttt.bpb)] if ttt is not None and before is not None else []
    if not gains:
        known = any(entry.rungs for entry in shown)
        return "Test-time training: none in its evaluation." if known else "Test-time training: not told by the ledger."
    before_mean, after_mean = (math.fsum(values) / len(gains) for values in zip(*gains, strict=True))
    change = after_mean - before_mean
    word = "improved" if change < 0 else "worsened" if change > 0 else "did not change"
    mean = "" if len(gains) == 1 else f" (mean of {len(gains)})"
    return f"Test-time training {word} it by {abs(change):.4f} BPB, from {before_mean:.4f} to {after_mean:.4f}{mean}."


def _against_second(results: Results, group: Group) -> str:
    """Returns where the second best trial is, seen from the interval of the best configuration's mean."""
    interval = summarise([score_of(entry) for entry in group.seeds]).interval
    if interval is None or len(results.ranked) < 2:
        return ""
    score = score_of(results.ranked[1])
    where = "is inside this interval" if interval[0] <= score <= interval[1] else "is outside this interval"
    return f" The second best trial's score, {score:.4f}, {where}."


def _seeds_sentence(study: Results, group: Group) -> str:
    """Returns mean and interval of a configuration's seeds, and what its artifacts and failures say."""
    if not group.seeds:
        return f"only repeats of one seed have finished in {clean(study.name, _MAX_LETTERS)}."
    summary = summarise([score_of(entry) for entry in group.seeds])
    listed = ", ".join(str(entry.seed) for entry in group.seeds[:8]) + (", ..." if len(group.seeds) > 8 else "")
    text = f"mean {summary.mean:.4f} {study.unit} over {_count(len(group.seeds), 'seed')} ({listed})"
    if summary.interval is not None:
        text += f", {summary.level:.0%} interval {summary.interval[0]:.4f} to {summary.interval[1]:.4f}"
    text += "."
    if group.unfinished:
        text += (
            f" {_count(len(group.unfinished), 'run')} of it has no result."
            if len(group.unfinished) == 1
            else (f" {len(group.unfinished)} runs of it have no result.")
        )
    cap = group.seeds[0].cap_bytes
    risk = cap_probability(group.sizes, cap) if group.sizes and cap is not None else None
    if risk is not None and risk.probability is not None and risk.probability > 0.01:
        text += f" A further seed is over the cap with probability {risk.probability:.2g}."
    return text


def command_of(program: str, positional: str, options: Sequence[str]) -> str:
    """Returns a command, quoted for a shell; a positional word that begins with a dash is no option."""
    words = [*options, "--", positional] if positional.startswith("-") else [positional, *options]
    return f"{program} {shlex.join(words)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
