"""What a person sees of a sweep: a line for each event, a status line now and then, and the table at the end."""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf.cli.describe import save_line
from golf.cli.terminal import python_line
from tune.cli.tables import Column, format_table, terminal_width
from tune.records.entries import FailureKind, TrialEntry, TrialState, unit_of
from tune.records.layout import Storage
from tune.records.text import duration
from tune.search.space import Trial

DescribeProgress = Callable[[Trial, str, int], tuple[str, float]]
"""(trial, curve, step) -> (what the trial is doing, in words; the fraction of it that is done)."""
_SHOWN_REASONS = 5
_REASON_CHARACTERS = 200
_STATUS_SECONDS = 15.0
"""Between status lines."""
_LEAST_FRACTION = 0.1
"""Fraction of a trial from which on its own pace says more than the mean of others."""
_LARGE_SCORE = 1000.0
_ORDER = {TrialState.DONE: 0, TrialState.SCREENED: 1, TrialState.INFEASIBLE: 2, TrialState.FAILED: 3}


@dataclass
class _Running:
    """A trial that is running."""

    trial: Trial
    started: float
    stage: str = "starting"
    fraction: float = 0.0


class Console:
    """Prints a sweep's progress, as its watcher."""

    def __init__(
        self,
        num_trials: int,
        concurrent: int,
        known: Sequence[TrialEntry],
        describe_progress: DescribeProgress,
        root: Path = Path(),
    ) -> None:
        """Prepares for a sweep.

        Args:
            num_trials: of the whole sweep.
            concurrent: trials at a time.
            known: entries of earlier starts.
            describe_progress: of the workload.
            root: of the storage.
        """
        self.num_trials, self.concurrent, self.storage = num_trials, concurrent, Storage(root)
        self.describe_progress = describe_progress
        self.entries = {entry.trial: entry for entry in known}
        self.running: dict[str, _Running] = {}
        self.trial_seconds: list[float] = []
        """Wall-clock seconds of the trials that ended since this start."""
        self.last_status = time.monotonic()

    def started(self, trial: Trial) -> None:
        """Prints that a trial began."""
        self.running[trial.trial] = _Running(trial, time.monotonic())
        say(f"started     {trial.name}")

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Notes how far a trial is."""
        running = self.running.setdefault(trial.trial, _Running(trial, time.monotonic()))
        running.stage, running.fraction = self.describe_progress(trial, curve, step)
        self.status()

    def ended(self, entry: TrialEntry) -> None:
        """Prints what became of a trial."""
        running = self.running.pop(entry.trial, None)
        if running is not None:
            self.trial_seconds.append(time.monotonic() - running.started)
        self.entries[entry.trial] = entry
        label = f" ({entry.label})" if entry.label and entry.objective is None else ""
        result = score_text(entry) + label if entry.done else entry.reason or ""
        if entry.done and entry.artifact_bytes is not None:
            result += f", {entry.artifact_bytes:,} bytes"
        say(f"{entry.state:11s} {entry.name}: {result}")
        log = self.storage.files(entry).get("log")
        remarks = [f"its log: {log}"] if log and not entry.done else []
        remarks += [f"nodes were lost, its ranks: {entry.world_history}"] if entry.world_history else []
        if entry.checkpoints is not None and entry.checkpoints.saves and "train" in entry.computed:
            remarks.append(save_line(entry.checkpoints))
        remarks += entry.notes
        remarks += [f"first chunks of {score.name}: {score.rank}" for score in entry.screening]
        for remark in remarks:
            say(f"{'':11s} {remark}")
        self.last_status = 0.0
        self.status()

    def status(self) -> None:
        """Prints the status line, unless the last one is recent."""
        if time.monotonic() - self.last_status < _STATUS_SECONDS:
            return
        self.last_status = time.monotonic()
        entries = list(self.entries.values())
        parts = [f"{len(entries)} of {self.num_trials} trials", f"{len(self.running)} running", *_counted(entries)]
        best = best_of(entries)
        parts += [f"best {score_text(best)}"] if best else []
        left = self.seconds_left()
        parts += [f"about {duration(left)} left"] if left else []
        parts += [", ".join(running.stage for running in self.running.values())] if self.running else []
        say(" | ".join(parts))

    def seconds_left(self) -> float | None:
        """Returns wall-clock seconds to the end, by the trials seen so far; None before there is anything to go by."""
        now, seconds = time.monotonic(), list(self.trial_seconds)
        if not seconds:
            paced = [running for running in self.running.values() if running.fraction > _LEAST_FRACTION]
            seconds = [(now - running.started) / running.fraction for running in paced]
        if not seconds:
            return None
        mean = sum(seconds) / len(seconds)
        waiting = self.num_trials - len(self.entries) - len(self.running)
        rest = [_seconds_left_of(running, now - running.started, mean) for running in self.running.values()]
        return max([*rest, (sum(rest) + mean * waiting) / max(self.concurrent, 1)], default=0.0)


def _seconds_left_of(running: _Running, elapsed: float, mean: float) -> float:
    """Seconds that a running trial still takes: by its own progress, before that by the mean of all."""
    if running.fraction > _LEAST_FRACTION:
        return elapsed * (1 / running.fraction - 1)
    return max(mean - elapsed, 0.05 * mean)


def say(text: str) -> None:
    """Prints one line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def best_of(entries: Sequence[TrialEntry]) -> TrialEntry | None:
    """Returns the feasible entry with the best score."""
    return min((entry for entry in entries if entry.done), key=_loss, default=None)


def score_text(entry: TrialEntry) -> str:
    """Returns the score of a finished trial with its unit."""
    return f"{_score_cell(entry)} {entry.unit}"


def table(entries: Sequence[TrialEntry], root: Path = Path(), width: int | None = None) -> str:
    """Returns all trials as a table, the best first, those over the cap and failed ones last.

    Args:
        entries: of the trials.
        root: of the storage.
        width: characters of a line; None: those of the terminal.
    """
    ordered = sorted(entries, key=lambda entry: (_ORDER[entry.state], _loss(entry), entry.name))
    rungs = list(dict.fromkeys(rung.name for entry in ordered for rung in entry.rungs))[:-1]
    columns = [
        Column("state", [str(entry.state) for entry in ordered], align="left"),
        Column(unit_of(entries), [_score_cell(entry) for entry in ordered]),
        *(Column(name, [_rung_text(entry, name) for entry in ordered], 3 + n) for n, name in enumerate(rungs)),
        Column("bytes", [_text(entry.artifact_bytes, ",d") for entry in ordered], 50),
        Column("to the cap", [_margin_text(entry) for entry in ordered], 60),
        Column("alone s", [_text(entry.total_seconds or None, ".0f") for entry in ordered], 2),
        Column("now s", [_text(entry.computed_seconds if entry.seconds else None, ".0f") for entry in ordered], 1),
        Column("trial", [entry.trial for entry in ordered], align="left"),
        Column("name", [entry.name for entry in ordered], align="left"),
    ]
    lines = format_table(columns, width or terminal_width())
    alone, now = (sum(entry.total_seconds for entry in entries), sum(entry.computed_seconds for entry in entries))
    if now < alone:
        lines.append(f"computed in {duration(now)} what would take {duration(alone)} without sharing")
    reasons = [line for entry in ordered for line in _reason_lines(entry, Storage(root))]
    return "\n".join(lines + (["", "why:", *reasons] if reasons else []))


def _reason_lines(entry: TrialEntry, storage: Storage) -> list[str]:
    """Why a trial has no result, and where its log is."""
    if entry.state not in (TrialState.FAILED, TrialState.SCREENED):
        return []
    log = storage.files(entry).get("log")
    return [f"{entry.trial}  {entry.reason}", *([f"{'':12s}  log: {log}"] if log else [])]


@dataclass(frozen=True)
class Ending:
    """What became of all trials, in words and as an exit status."""

    text: str
    """Empty where there is nothing to say beside the best trial."""
    status: int
    """1 when no trial has a result and some have failed; else 0."""


def ending_of(entries: Sequence[TrialEntry], root: Path, what: str = "trial") -> Ending:
    """Returns how a sweep or study ended, apart from its best trial: failures counted by kind, and where to read more.

    Args:
        entries: of its trials.
        root: of the storage.
        what: the word for one of them.
    """
    failed = [entry for entry in entries if entry.state == TrialState.FAILED]
    others = _counted([entry for entry in entries if entry.state != TrialState.FAILED], caps=True)
    any_done = any(entry.done for entry in entries)
    plural = f"{len(entries)} {what}{'s' if len(entries) != 1 else ''}"
    if not failed:
        text = f"none of {plural} gave a score: {', '.join(others)}"
        return Ending(text if entries and not any_done else "", 0)
    reasons = f"{_reasons(failed)}\n  more: {_where_to_read(failed, Storage(root))}"
    if any_done:
        return Ending(f"warning: {len(failed)} of {plural} failed: {reasons}", 0)
    if others:
        return Ending(f"none of {plural} gave a score: {', '.join(others)}, {len(failed)} failed: {reasons}", 1)
    return Ending(f"{'all ' if len(entries) > 1 else ''}{plural} failed: {reasons}", 1)


def _counted(entries: Sequence[TrialEntry], caps: bool = False) -> list[str]:
    """Numbers of the trials without a result, in words. Args: caps: whether their caps are named."""
    counts = Counter(entry.state for entry in entries)
    sizes = {entry.size.cap_bytes for entry in entries if entry.state == TrialState.INFEASIBLE and entry.size}
    over = "over the cap" + (f" of {', '.join(f'{size:,}' for size in sorted(sizes))} bytes" if caps and sizes else "")
    if any(entry.violations for entry in entries):
        over = "out of bounds"
    named = {TrialState.INFEASIBLE: over, TrialState.SCREENED: "screened out", TrialState.FAILED: "failed"}
    return [f"{counts[state]} {text}" for state, text in named.items() if counts[state]]


def _reasons(failed: Sequence[TrialEntry]) -> str:
    """Reasons of failures with their counts, the most frequent first; those of a known kind are counted together."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in failed:
        reason, kind = str(entry.reason), entry.failure.kind if entry.failure else FailureKind.ERROR
        same = re.sub(r"\d+(\.\d+)?", "N", reason) if kind == FailureKind.ERROR else str(kind)
        counts[same] += 1
        first.setdefault(same, reason)
    most_common = counts.most_common(_SHOWN_REASONS)
    shown = [f"{count} x {first[same][:_REASON_CHARACTERS]}" for same, count in most_common]
    rest = counts.total() - sum(count for _, count in most_common)
    return "; ".join(shown + ([f"{rest} for other reasons"] if rest else []))


def _where_to_read(failed: Sequence[TrialEntry], storage: Storage) -> str:
    ledger, sweep = str(storage.ledger), failed[0].sweep
    show = python_line("tune", "ledger", "show", "--ledger", ledger, "--sweep", sweep, "--state", TrialState.FAILED)
    logs = [path for entry in failed if (path := storage.files(entry).get("log"))]
    return f"{logs[0]} and {show}" if logs else show


def _score_cell(entry: TrialEntry) -> str:
    """Returns a score with the decimals that differ between trials; a large one of another metric with six digits."""
    return _text(entry.score, ".4f" if abs(entry.score or 0.0) < _LARGE_SCORE else ",.6g")


def _loss(entry: TrialEntry) -> float:
    return 0.0 if entry.loss is None else entry.loss


def _margin_text(entry: TrialEntry) -> str:
    return _text(None if entry.size is None else entry.size.margin_bytes, "+,d")


def _rung_text(entry: TrialEntry, name: str) -> str:
    rung = entry.rung(name)
    return _text(None if rung is None else rung.bpb, ".4f")


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
