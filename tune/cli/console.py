"""What a person sees while a sweep runs: a live table on a terminal, else a line for each event."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.console import Group as RenderGroup
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune.cli.outcome_table import score_text, short_id
from tune.cli.progress import RunningTrial, SweepProgress, counted
from tune.records.entries import TrialEntry, TrialState
from tune.records.layout import Storage
from tune.records.text import duration
from tune.search.space import Point, Trial, value_text

_STATUS_SECONDS = 15.0
"""Between status lines."""
_RUNNING_ROWS, _BEST_ROWS = 8, 3
"""Rows of the live table: trials that run, and the best that ended."""
_WIDE = 110
"""Characters of a line from which on the live table has all its columns."""
_REFRESHES = 2
"""Times a second that the live table is drawn."""


class SweepConsole(Protocol):
    """Shows a sweep, as its watcher."""

    def started(self, trial: Trial) -> None:
        """A trial began."""

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial reported a point of a curve."""

    def ended(self, entry: TrialEntry) -> None:
        """A trial's entry is in the ledger."""

    def close(self) -> None:
        """Nothing more happens."""


def open_console(progress: SweepProgress, title: str, root: Path) -> SweepConsole:
    """Returns the live table where standard output is a terminal that can show it, else the lines.

    Args: progress: of the sweep; title: said once; root: of the storage.
    """
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(progress, title, root, console)
    say(title)
    return EventLines(progress, root)


class EventLines:
    """A line for each event, and a status line now and then."""

    def __init__(self, progress: SweepProgress, root: Path = Path()) -> None:
        self.progress, self.storage = progress, Storage(root)
        self.last_status = time.monotonic()

    def started(self, trial: Trial) -> None:
        """Prints that a trial began."""
        self.progress.begin(trial)
        say(f"{'started':13s} {short_id(trial.trial)}  {trial.name}")

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Notes how far a trial is."""
        self.progress.point(trial, curve, step, value)
        self.status()

    def ended(self, entry: TrialEntry) -> None:
        """Prints what became of a trial."""
        self.progress.end(entry)
        for line in ended_lines(entry, self.storage):
            say(line)
        self.last_status = 0.0
        self.status()

    def status(self) -> None:
        """Prints the status line, unless the last one is recent."""
        if time.monotonic() - self.last_status < _STATUS_SECONDS:
            return
        self.last_status = time.monotonic()
        stages = ", ".join(running.stage for running in self.progress.running.values())
        say(" | ".join([*status_parts(self.progress), *([stages] if stages else [])]))

    def close(self) -> None:
        """Does nothing: every line is printed."""


class LiveTable:
    """The trials that run and the best so far, drawn again and again below the lines of those that ended."""

    def __init__(self, progress: SweepProgress, title: str, root: Path, console: Console) -> None:
        self.progress, self.title, self.storage, self.console = progress, title, Storage(root), console
        self.lock = threading.Lock()
        """The table is drawn by a thread of its own."""
        self.live = Live(
            console=console, get_renderable=self.render, refresh_per_second=_REFRESHES, transient=True, screen=False
        )
        self.live.start()

    def started(self, trial: Trial) -> None:
        """Adds a trial to the table."""
        with self.lock:
            self.progress.begin(trial)

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """Notes how far a trial is."""
        with self.lock:
            self.progress.point(trial, curve, step, value)

    def ended(self, entry: TrialEntry) -> None:
        """Prints what became of a trial above the table."""
        with self.lock:
            self.progress.end(entry)
        styles = {TrialState.DONE: "green", TrialState.FAILED: "red"}
        for number, line in enumerate(ended_lines(entry, self.storage)):
            text = Text(f"{time.strftime('%H:%M:%S')}  {line}")
            text.stylize(styles.get(entry.state, "yellow") if number == 0 else "dim", 10, 24 if number == 0 else None)
            self.console.print(text, no_wrap=True, overflow="ellipsis")

    def close(self) -> None:
        """Removes the table."""
        self.live.stop()

    def render(self) -> RenderGroup:
        """Returns the table as it is now."""
        with self.lock:
            progress, wide = self.progress, self.console.width >= _WIDE
            table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="bold")
            table.add_column("trial", no_wrap=True, width=6)
            table.add_column("state", no_wrap=True, width=22)
            if wide:
                table.add_column("", width=12)
            table.add_column("BPB", justify="right", no_wrap=True, width=11)
            table.add_column("to the cap", justify="right", no_wrap=True, width=10)
            table.add_column("s", justify="right", no_wrap=True, width=5)
            if wide:
                table.add_column("saved", justify="right", no_wrap=True, width=5)
            done = sorted((e for e in progress.entries.values() if e.done), key=lambda entry: entry.loss or 0.0)
            running = list(progress.running.items())
            shown = [each.parameters for _, each in running[:_RUNNING_ROWS]]
            shown += [entry.parameters for entry in done[:_BEST_ROWS]]
            fields = _fitting_fields(shown, self.console.width - (86 if wide else 66))
            for field in fields:
                table.add_column(field.replace(".", ".\n"), justify="right", no_wrap=True)
            table.add_column("", ratio=1)
            for trial, each in running[:_RUNNING_ROWS]:
                table.add_row(*_running_row(trial, each, wide), *_values(each.parameters, fields))
            if len(running) > _RUNNING_ROWS:
                table.add_row("", f"and {len(running) - _RUNNING_ROWS} more")
            for number, entry in enumerate(done[:_BEST_ROWS]):
                values = _values(entry.parameters, fields)
                table.add_row(*_ended_row(entry, wide), *values, style="" if number == 0 else "dim")
            done_share = len(progress.entries) / max(progress.num_trials, 1)
            status = Table(box=None, padding=(0, 1, 0, 0))
            status.add_column(width=20)
            status.add_column(no_wrap=not wide, overflow="ellipsis")
            elapsed = f"{duration(time.monotonic() - progress.started_at)} so far"
            status.add_row(ProgressBar(1.0, done_share), " | ".join([*status_parts(progress), elapsed]))
            return RenderGroup(Text(self.title, style="bold", overflow="ellipsis", no_wrap=True), table, status)


def _running_row(trial: str, running: RunningTrial, wide: bool) -> list[str | ProgressBar]:
    score = ""
    if running.score is not None:
        curve, value = running.score
        score = f"~{value:.4f}" if curve.endswith("_bpb") else f"loss {value:.3f}"
    bar: list[str | ProgressBar] = [ProgressBar(1.0, running.fraction)] if wide else []
    saved = [""] if wide else []
    start = [short_id(trial), running.stage]
    return [*start, *bar, score, "", f"{time.time() - running.started:.0f}", *saved]


def _ended_row(entry: TrialEntry, wide: bool) -> list[str]:
    margin = "" if entry.size is None else f"{entry.size.margin_bytes:+,d}"
    alone, now = entry.total_seconds, entry.computed_seconds
    saved = [f"{1 - now / alone:.0%}" if alone else ""] if wide else []
    row = [short_id(entry.trial), entry.state.word, *([""] if wide else []), score_text(entry).split()[0], margin]
    return [*row, f"{now:.0f}", *saved]


def _values(parameters: Point, fields: Sequence[str]) -> list[str]:
    return [value_text(parameters[field]) if field in parameters else "" for field in fields]


def _fitting_fields(points: Sequence[Point], width: int) -> list[str]:
    """Returns the searched fields whose columns fit, those in which the points differ first."""
    values = {field: {value_text(point[field]) for point in points if field in point} for p in points for field in p}
    fields = []
    for field in sorted(values, key=lambda field: len(values[field]) == 1):
        width -= 1 + max(map(len, (*field.replace(".", ".\n").splitlines(), *values[field])))
        if width < 0:
            break
        fields.append(field)
    return fields


def status_parts(progress: SweepProgress) -> list[str]:
    """Returns where a sweep is: trials by state, the best one, the time to the end."""
    entries = list(progress.entries.values())
    num_done = sum(entry.done for entry in entries)
    parts = [f"{len(entries)} of {progress.num_trials} trials", f"{len(progress.running)} running"]
    parts += [f"{num_done} finished"] if num_done else []
    parts += counted(entries)
    best, left = progress.best(), progress.seconds_left()
    parts += [f"best {score_text(best)} ({short_id(best.trial)})"] if best else []
    return parts + ([f"about {duration(left)} left"] if left else [])


def ended_lines(entry: TrialEntry, storage: Storage) -> list[str]:
    """Returns what became of a trial, in one line, and remarks on it."""
    label = f" ({entry.label})" if entry.label and entry.objective is None else ""
    result = score_text(entry) + label if entry.done else (entry.reason or "").removeprefix(f"{entry.state.word}: ")
    if entry.done and entry.artifact_bytes is not None:
        result += f", {entry.artifact_bytes:,} bytes"
    log = storage.files(entry).get("log")
    remarks = [f"its log: {log}"] if log and not entry.done else []
    remarks += [f"nodes were lost, its ranks: {entry.world_history}"] if entry.world_history else []
    remarks += entry.notes
    first = f"{entry.state.word:13s} {short_id(entry.trial)}  {result}  {entry.name}"
    return [first, *(f"{'':21s}{remark}" for remark in remarks)]


def say(text: str) -> None:
    """Prints one line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True, file=sys.stdout)
