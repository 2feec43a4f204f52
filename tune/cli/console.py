"""What a person sees of a sweep: a line when something happens, a status line now and then, and the table at the end.

Trials, curve points and ledger entries enter, text leaves. Computes nothing that is recorded anywhere.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.artifact.size_predictor import predicted_model_bytes
from golf.cli.describe import save_line
from golf.cli.terminal import python_line
from golf.config.config import RunConfig
from golf.data.dataset import Dataset
from golf.data.passes import passes_of, passes_warning, passes_words
from golf.pipeline.bundle import code_bytes
from tune.records.layout import Storage
from tune.records.text import duration
from tune.search.space import Trial
from tune.workloads.failures import ERROR, kind_of
from tune.workloads.gepa.outcome import DONE, FAILED, INFEASIBLE, SCREENED

_SHOWN_CAUSES = 5
_CAUSE_CHARACTERS = 200
_STATUS_SECONDS = 15.0
"""Between status lines."""
_ORDER = {DONE: 0, SCREENED: 1, INFEASIBLE: 2, FAILED: 3}


class Console:
    """Tells a sweep's progress."""

    def __init__(
        self, num_trials: int, concurrent: int, known: Sequence[Mapping[str, Any]], root: Path = Path()
    ) -> None:
        """Args: num_trials: of the whole sweep; concurrent: trials at a time; known: entries of earlier starts; root:
        of the storage, to which the entries' files are relative.
        """
        self.num_trials, self.concurrent, self.root = num_trials, concurrent, root
        self.entries: dict[str, Mapping[str, Any]] = {entry["trial"]: entry for entry in known}
        self.running: dict[str, Trial] = {}
        self.stages: dict[str, tuple[str, float]] = {}
        self.walls: list[float] = []
        self.begun: dict[str, float] = {}
        self.told = time.monotonic()

    def started(self, trial: Trial) -> None:
        """A trial began."""
        self.running[trial.trial], self.begun[trial.trial] = trial, time.monotonic()
        self.stages[trial.trial] = ("starting", 0.0)
        say(f"started     {trial.name}")

    def point(self, trial: Trial, curve: str, step: int, value: float) -> None:
        """A trial is at a step of a curve."""
        steps = trial.config.schedule.steps
        training = curve in ("train_loss", "validation_bpb")
        stage = f"training {step + 1}/{steps}" if training else f"scoring {curve.removesuffix('_bpb')}"
        self.stages[trial.trial] = (stage, 0.8 * (step + 1) / steps if training else 0.85)
        self.status()

    def ended(self, entry: Mapping[str, Any]) -> None:
        """A trial's entry is in the ledger."""
        self.running.pop(entry["trial"], None)
        self.stages.pop(entry["trial"], None)
        begun = self.begun.pop(entry["trial"], None)
        if begun is not None:
            self.walls.append(time.monotonic() - begun)
        self.entries[entry["trial"]] = entry
        metrics = entry["metrics"]
        result = (
            f"{metrics['bpb']:.4f} BPB, {metrics['artifact_bytes']:,} bytes" if "bpb" in metrics else entry["cause"]
        )
        say(f"{entry['status']:11s} {entry['name']}: {result}")
        if "log" in (entry.get("files") or {}):
            say(f"{'':11s} its last words: {self.root / entry['files']['log']}")
        if "ranks" in (entry.get("tags") or {}):
            say(f"{'':11s} nodes were lost, its ranks: {entry['tags']['ranks']}")
        if "train" in entry.get("computed", ("train",)) and entry.get("saving", {}).get("saves"):
            say(f"{'':11s} {save_line(entry['saving'])}")
        for rung, standing in entry.get("standings", {}).items():
            say(f"{'':11s} first chunks of {rung}: {standing}")
        self.told = 0.0
        self.status()

    def status(self) -> None:
        """The status line, unless the last one is recent."""
        if time.monotonic() - self.told < _STATUS_SECONDS:
            return
        self.told = time.monotonic()
        counts = {status: sum(entry["status"] == status for entry in self.entries.values()) for status in _ORDER}
        parts = [f"{len(self.entries)} of {self.num_trials} trials", f"{len(self.running)} running"]
        parts += [f"{counts[INFEASIBLE]} over the cap"] if counts[INFEASIBLE] else []
        parts += [f"{counts[SCREENED]} screened out"] if counts[SCREENED] else []
        parts += [f"{counts[FAILED]} failed"] if counts[FAILED] else []
        best = best_of(list(self.entries.values()))
        parts += [f"best {best['metrics']['bpb']:.4f} BPB"] if best else []
        left = self.seconds_left()
        parts += [f"about {duration(left)} left"] if left else []
        say(" | ".join([*parts, ", ".join(stage for stage, _ in self.stages.values())]).rstrip(" |"))

    def seconds_left(self) -> float | None:
        """Wall-clock seconds to the end by the trials seen so far; None before there is anything to go by."""
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
        """Seconds that a running trial still takes: by its own progress, before that by the mean of all."""
        share = self.stages[trial][1]
        return elapsed * (1 / share - 1) if share > 0.1 else max(mean - elapsed, 0.05 * mean)


def say(text: str) -> None:
    """One line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def best_of(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The feasible entry with the least BPB."""
    return min((e for e in entries if e["status"] == DONE), key=lambda entry: entry["metrics"]["bpb"], default=None)


def table(entries: Sequence[Mapping[str, Any]], cap_bytes: int, root: Path = Path()) -> str:
    """All trials, the best first, those over the cap and failed ones last.

    Args: root: of the storage, to which the entries' files are relative.
    """
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("status", lambda entry: str(entry["status"])),
        ("BPB", lambda entry: _figure(entry, "bpb", ".4f")),
        ("live", lambda entry: _figure(entry, "bpb_live", ".4f")),
        ("ema", lambda entry: _figure(entry, "bpb_ema", ".4f")),
        ("quantised", lambda entry: _figure(entry, "bpb_quantised", ".4f")),
        ("sliding", lambda entry: _figure(entry, "bpb_sliding", ".4f")),
        ("bytes", lambda entry: _figure(entry, "artifact_bytes", ",d")),
        ("to the cap", lambda entry: _room(entry, cap_bytes)),
        ("alone s", lambda entry: _figure(entry, "seconds", ".0f")),
        ("now s", lambda entry: _figure(entry, "seconds_now", ".0f")),
        ("trial", lambda entry: f"{entry['trial']}  {entry['name']}"),
    ]
    ordered = sorted(entries, key=lambda e: (_ORDER[e["status"]], e["metrics"].get("bpb", 0.0), e["name"]))
    rows = [[title for title, _ in columns], *([show(entry) for _, show in columns] for entry in ordered)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    last = len(columns) - 1
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    total = [sum(entry["metrics"].get(name, 0.0) for entry in entries) for name in ("seconds", "seconds_now")]
    if total[1] < total[0]:
        lines.append(f"computed in {duration(total[1])} what would take {duration(total[0])} without sharing")
    causes = [line for entry in ordered if entry["status"] in (FAILED, SCREENED) for line in _why(entry, root)]
    return "\n".join(lines + (["", "why:", *causes] if causes else []))


def _why(entry: Mapping[str, Any], root: Path) -> list[str]:
    """Why a trial gave no result, and where its last words are."""
    log = (entry.get("files") or {}).get("log")
    return [f"{entry['trial']}  {entry['cause']}", *([f"{'':12s}  last words: {root / log}"] if log else [])]


@dataclass(frozen=True)
class Ending:
    """What came of trials that have ended, in words and as an exit status."""

    text: str
    """Empty where there is nothing to say beside the best trial."""
    status: int
    """1 when no trial gave a result and some have failed; else 0."""


def ending_of(entries: Sequence[Mapping[str, Any]], cap_bytes: int, root: Path, what: str = "trial") -> Ending:
    """How a sweep or study ended, apart from its best trial: failures counted by cause, and where to read more.

    Args: root: of the storage; what: one of the things that were run.
    """
    counts = Counter(entry["status"] for entry in entries)
    failed, num_done = [entry for entry in entries if entry["status"] == FAILED], counts[DONE]
    others = [f"{counts[INFEASIBLE]} over the cap of {cap_bytes:,} bytes"] if counts[INFEASIBLE] else []
    others += [f"{counts[SCREENED]} screened out"] if counts[SCREENED] else []
    plural = f"{len(entries)} {what}{'s' if len(entries) != 1 else ''}"
    if not failed:
        none = f"none of {plural} gave a score: {', '.join(others)}"
        return Ending(none if entries and not num_done else "", 0)
    told = f"{_causes(failed)}\n  more: {_more(failed, root)}"
    if num_done:
        return Ending(f"warning: {len(failed)} of {plural} failed: {told}", 0)
    if others:
        return Ending(f"none of {plural} gave a score: {', '.join(others)}, {len(failed)} failed: {told}", 1)
    return Ending(f"{'all ' if len(entries) > 1 else ''}{plural} failed: {told}", 1)


def _causes(failed: Sequence[Mapping[str, Any]]) -> str:
    """Causes of failures with their counts, the most frequent first; those that differ in numbers only are one."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in failed:
        cause = str(entry["cause"])
        same = re.sub(r"\d+(\.\d+)?", "N", cause) if kind_of(cause) == ERROR else kind_of(cause)
        counts[same] += 1
        first.setdefault(same, cause)
    shown = [f"{count} x {first[same][:_CAUSE_CHARACTERS]}" for same, count in counts.most_common(_SHOWN_CAUSES)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_SHOWN_CAUSES))
    return "; ".join(shown + ([f"{rest} of other causes"] if rest else []))


def _more(failed: Sequence[Mapping[str, Any]], root: Path) -> str:
    """Where the failures can be read."""
    sweep, ledger = str(failed[0].get("sweep")), str(Storage(root).ledger)
    show = python_line("tune", "ledger", "show", "--ledger", ledger, "--sweep", sweep, "--status", FAILED)
    logs = [root / entry["files"]["log"] for entry in failed if "log" in (entry.get("files") or {})]
    return f"{logs[0]} and {show}" if logs else show


def dry_table(trials: Sequence[Trial], dataset: Dataset, num_known: int) -> str:
    """The work of trials that were not run: steps, tokens, bytes of text read, bytes that the artifact is predicted."""
    bytes_per_token = float(dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]).mean())
    lines = [f"{'steps':>7s} {'tokens':>15s} {'bytes of text':>15s} {'artifact bytes':>15s}  cap   trial"]
    total_tokens = 0
    for trial in trials:
        schedule, tokens = trial.config.schedule, trial.config.schedule.steps * trial.config.batch.tokens_per_step
        total_tokens += tokens
        size = predicted_model_bytes(trial.config) + code_bytes(trial.config)
        room = "over?" if size > trial.config.cap_bytes else "fits?"
        work = f"{schedule.steps:7,d} {tokens:15,d} {tokens * bytes_per_token:15,.0f}"
        lines.append(f"{work} {size:15,d}  {room} {trial.trial}  {trial.name}")
    steps = sum(trial.config.schedule.steps for trial in trials)
    work = f"{steps:7,d} {total_tokens:15,d} {total_tokens * bytes_per_token:15,.0f}"
    lines.append(f"{work}  in all, {len(trials)} trials; {num_known} are finished already")
    lines.append(f"each that fits scores {len(dataset.validation) - 1:,} validation tokens per rung")
    lines.append("artifact bytes are a prediction before training; TPE chooses later trials by earlier results")
    lines += [text_read([trial.config for trial in trials], dataset)] if trials else []
    return "\n".join(lines)


def text_read(configs: Sequence[RunConfig], dataset: Dataset) -> str:
    """How often the longest training reads the text, and below it the warning where that is too often."""
    longest = max(configs, key=lambda config: passes_of(config, dataset))
    warning = passes_warning(longest, dataset)
    return f"the longest training makes {passes_words(longest, dataset)}" + (f"\n{warning}" if warning else "")


def _figure(entry: Mapping[str, Any], name: str, form: str) -> str:
    value = entry["metrics"].get(name)
    return "-" if value is None else format(value, form)


def _room(entry: Mapping[str, Any], cap_bytes: int) -> str:
    size = entry["metrics"].get("artifact_bytes")
    return "-" if size is None else f"{cap_bytes - size:+,d}"
