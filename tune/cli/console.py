"""What a person sees of a sweep: a line when something happens, a status line now and then, a table at the end."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from golf.cli.describe import save_line
from golf.cli.terminal import python_line
from tune.records.entries import FailureKind, TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.text import duration
from tune.search.space import Trial

_SHOWN_CAUSES = 5
_CAUSE_CHARACTERS = 200
_STATUS_SECONDS = 15.0
"""Between status lines."""
_ORDER = list(TrialState)
_WORDS = {
    TrialState.INFEASIBLE: "over the cap",
    TrialState.SCREENED: "screened out",
    TrialState.FAILED: "failed",
}
"""Ends without a score."""
_WIDEST = 10_000
"""Columns of an output that is no terminal."""
DescribeProgress = Callable[[Trial, str, int], tuple[str, float]]
"""(trial, curve, step) -> the stage in words, and the fraction of the trial that is done."""


class Console:
    """Prints a sweep's progress."""

    def __init__(
        self,
        num_trials: int,
        concurrent: int,
        known: Sequence[TrialEntry],
        describe_progress: DescribeProgress,
        root: Path = Path(),
    ) -> None:
        """Begins with the entries of earlier starts.

        Args:
            num_trials: trials of the whole sweep.
            concurrent: trials at a time.
            known: entries of earlier starts.
            describe_progress: says where a trial is.
            root: of the storage, to which the entries' files are relative.
        """
        self.num_trials, self.concurrent, self.root = num_trials, concurrent, root
        self.describe_progress = describe_progress
        self.entries: dict[str, TrialEntry] = {entry.trial: entry for entry in known}
        self.running: dict[str, Trial] = {}
        self.stages: dict[str, tuple[str, float]] = {}
        self.walls: list[float] = []
        """Wall-clock seconds of the trials that ended."""
        self.begun: dict[str, float] = {}
        self.last_status = time.monotonic()

    def started(self, trial: Trial) -> None:
        """A trial began."""
        self.running[trial.trial], self.begun[trial.trial] = trial, time.monotonic()
        self.stages[trial.trial] = ("starting", 0.0)
        say(f"started     {trial.name}")

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial is at a step of a curve."""
        self.stages[trial.trial] = self.describe_progress(trial, curve, step)
        self.status()

    def ended(self, entry: TrialEntry) -> None:
        """A trial's entry is in the ledger."""
        self.running.pop(entry.trial, None)
        self.stages.pop(entry.trial, None)
        begun = self.begun.pop(entry.trial, None)
        if begun is not None:
            self.walls.append(time.monotonic() - begun)
        self.entries[entry.trial] = entry
        for number, line in enumerate(_ending_lines(entry, self.root)):
            say(line if number == 0 else f"{'':11s} {line}")
        self.last_status = 0.0
        self.status()

    def status(self) -> None:
        """Prints the status line, unless the last one is recent."""
        if time.monotonic() - self.last_status < _STATUS_SECONDS:
            return
        self.last_status = time.monotonic()
        counts = Counter(entry.state for entry in self.entries.values())
        parts = [f"{len(self.entries)} of {self.num_trials} trials", f"{len(self.running)} running"]
        parts += [f"{counts[state]} {words}" for state, words in _WORDS.items() if counts[state]]
        best = best_of(list(self.entries.values()))
        parts += [f"best {best.bpb:.4f} BPB"] if best else []
        left = self.seconds_left()
        parts += [f"about {duration(left)} left"] if left else []
        say(" | ".join([*parts, ", ".join(stage for stage, _ in self.stages.values())]).rstrip(" |"))

    def seconds_left(self) -> float | None:
        """Returns wall-clock seconds to the end, by the trials seen so far; None before there is anything to go by."""
        now = time.monotonic()
        seen = list(self.walls)
        if not seen:
            seen = [(now - self.begun[t]) / share for t, (_, share) in self.stages.items() if share > 0.1]
        if not seen:
            return None
        mean = sum(seen) / len(seen)
        waiting = self.num_trials - len(self.entries) - len(self.running)
        rest = [self._rest(trial, now - self.begun[trial], mean) for trial in self.running]
        return max([*rest, (sum(rest) + mean * waiting) / max(self.concurrent, 1)], default=0.0)

    def _rest(self, trial: str, elapsed: float, mean: float) -> float:
        """Returns the seconds that a running trial still takes: by its own progress, before that by the mean of all."""
        share = self.stages[trial][1]
        return elapsed * (1 / share - 1) if share > 0.1 else max(mean - elapsed, 0.05 * mean)


def say(text: str) -> None:
    """Prints one line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def best_of(entries: Sequence[TrialEntry]) -> TrialEntry | None:
    """Returns the finished entry with the least BPB."""
    return min((entry for entry in entries if entry.done), key=lambda entry: entry.bpb or 0.0, default=None)


def table(entries: Sequence[TrialEntry], root: Path = Path(), width: int | None = None) -> str:
    """Returns all trials, the best first, those over the cap and failed ones last.

    Args:
        entries: of the trials.
        root: of the storage, to which the entries' files are relative.
        width: characters of a line; None: those of the terminal. What does not fit is left out, scores of lower rungs
            first.
    """
    ordered = sorted(entries, key=lambda entry: (_ORDER.index(entry.state), entry.bpb or 0.0, entry.name))
    rungs = list(dict.fromkeys(rung.name for entry in ordered for rung in entry.rungs))[:-1]
    columns = ["status", "BPB", *rungs, "bytes", "to the cap", "alone s", "now s", "trial", "name"]
    optional = [*rungs, "alone s", "now s", "to the cap", "trial"]
    width = shutil.get_terminal_size((_WIDEST, 0)).columns if width is None else width
    lines = _columns_of(ordered, columns)
    for column in optional:
        if max(map(len, lines)) <= width or not entries:
            break
        columns.remove(column)
        lines = _columns_of(ordered, columns)
    alone, now = (sum(getattr(e, total) for e in entries) for total in ("total_seconds", "computed_seconds"))
    if now < alone:
        lines.append(f"computed in {duration(now)} what would take {duration(alone)} without sharing")
    causes = [line for e in ordered if e.state in (TrialState.FAILED, TrialState.SCREENED) for line in _why(e, root)]
    return "\n".join(lines + (["", "why:", *causes] if causes else []))


def _columns_of(entries: Sequence[TrialEntry], columns: Sequence[str]) -> list[str]:
    rows = [[_cell(entry, column) for column in columns] for entry in entries]
    aligned = ["left" if column in ("status", "trial", "name") else "right" for column in columns]
    return tabulate(rows, columns, tablefmt="plain", colalign=aligned, disable_numparse=True).splitlines()


def _cell(entry: TrialEntry, column: str) -> str:
    """What a column shows of an entry."""
    if column in ("status", "trial", "name"):
        return {"status": str(entry.state), "trial": entry.trial, "name": entry.name}[column]
    if column in ("bytes", "to the cap"):
        if entry.size is None:
            return "-"
        size = entry.size
        return f"{size.artifact_bytes:,}" if column == "bytes" else f"{size.cap_bytes - size.artifact_bytes:+,}"
    if column in ("alone s", "now s"):
        return f"{entry.total_seconds if column == 'alone s' else entry.computed_seconds:.0f}"
    rung = entry.rung(column)
    score = entry.bpb if column == "BPB" else None if rung is None else rung.bpb
    return "-" if score is None else f"{score:.4f}"


def _ending_lines(entry: TrialEntry, root: Path) -> list[str]:
    """How a trial ended, and what is to know of it."""
    result = entry.reason
    if entry.done:
        size = "" if entry.size is None else f", {entry.size.artifact_bytes:,} bytes"
        result = f"{entry.bpb:.4f} BPB{size}"
    lines = [f"{entry.state:11s} {entry.name}: {result}"]
    if "log" in entry.files:
        lines.append(f"its last lines: {root / entry.files['log']}")
    if entry.world_history is not None:
        lines.append(f"nodes were lost, its ranks: {entry.world_history}")
    if "train" in entry.computed and entry.checkpoints is not None and entry.checkpoints.saves:
        lines.append(save_line(entry.checkpoints))
    return lines + [f"first chunks of {score.name}: {score.rank}" for score in entry.screening]


def _why(entry: TrialEntry, root: Path) -> list[str]:
    """Why a trial gave no result, and where its last lines are."""
    log = entry.files.get("log")
    return [f"{entry.trial}  {entry.reason}", *([f"{'':12s}  last lines: {root / log}"] if log else [])]


@dataclass(frozen=True)
class Ending:
    """What came of trials that have ended, in words and as an exit status."""

    text: str
    """Empty where there is nothing to say beside the best trial."""
    status: int
    """1 when no trial gave a result and some have failed; else 0."""


def ending_of(entries: Sequence[TrialEntry], root: Path, what: str = "trial") -> Ending:
    """Returns how a sweep or study ended, apart from its best trial: failures by cause, and where to read more.

    Args:
        entries: of the trials.
        root: of the storage.
        what: one of the things that were run.
    """
    counts = Counter(entry.state for entry in entries)
    failed = [entry for entry in entries if entry.state == TrialState.FAILED]
    caps = {entry.size.cap_bytes for entry in entries if entry.size is not None}
    cap = f" of {caps.pop():,} bytes" if len(caps) == 1 else ""
    others = [f"{counts[TrialState.INFEASIBLE]} over the cap{cap}"] if counts[TrialState.INFEASIBLE] else []
    others += [f"{counts[TrialState.SCREENED]} screened out"] if counts[TrialState.SCREENED] else []
    plural = f"{len(entries)} {what}{'s' if len(entries) != 1 else ''}"
    if not failed:
        none = f"none of {plural} gave a score: {', '.join(others)}"
        return Ending(none if entries and not counts[TrialState.DONE] else "", 0)
    causes = f"{_causes(failed)}\n  more: {_more(failed, root)}"
    if counts[TrialState.DONE]:
        return Ending(f"warning: {len(failed)} of {plural} failed: {causes}", 0)
    if others:
        return Ending(f"none of {plural} gave a score: {', '.join(others)}, {len(failed)} failed: {causes}", 1)
    return Ending(f"{'all ' if len(entries) > 1 else ''}{plural} failed: {causes}", 1)


def _causes(failed: Sequence[TrialEntry]) -> str:
    """Causes of failures with their counts, the most frequent first; those that differ in numbers only are one."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in failed:
        kind, reason = FailureKind.ERROR if entry.failure is None else entry.failure.kind, str(entry.reason)
        same = re.sub(r"\d+(\.\d+)?", "N", reason) if kind == FailureKind.ERROR else str(kind)
        counts[same] += 1
        first.setdefault(same, reason)
    shown = [f"{count} x {first[same][:_CAUSE_CHARACTERS]}" for same, count in counts.most_common(_SHOWN_CAUSES)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_SHOWN_CAUSES))
    return "; ".join(shown + ([f"{rest} of other causes"] if rest else []))


def _more(failed: Sequence[TrialEntry], root: Path) -> str:
    """Where the failures can be read."""
    sweep, ledger = failed[0].sweep, str(Storage(root).ledger)
    show = python_line("tune", "ledger", "show", "--ledger", ledger, "--sweep", sweep, "--status", TrialState.FAILED)
    logs = [root / entry.files["log"] for entry in failed if "log" in entry.files]
    return f"{logs[0]} and {show}" if logs else show
