"""`golf-sweep import`: ledger entries of finished runs, from the logs that anybody's scripts wrote.

A run is known by the content of its log, so that importing it twice adds nothing. What a log does not say is left out
of the entry, and a log without a score becomes none. Nothing of the scripts is executed.
"""

import argparse
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from golf.cli.terminal import need_path, python_line
from golf.config.rules import CAP_BYTES
from golf.scripts.curves import curves_of, series_name
from golf.scripts.metrics import Metric, parse_metric
from golf.scripts.results import SCORES, ScriptResults, runs_of
from golf.submission.record_folder.claims import FILE as CLAIMS
from golf.submission.record_folder.contents import LOG_ENDINGS
from golf.submission.record_folder.text import DAMAGED, Text, read_text
from tune.cli.tables import Column, format_table, terminal_width
from tune.records.entries import REPEAT, SEED, ArtifactSize, Device, Objective, Series, TrialEntry, TrialState, sha256
from tune.records.layout import Storage, one_name
from tune.records.ledger import Ledger, warn_of_damage
from tune.study.conditions import same_configuration_key
from tune.tracking.addresses import absolute_uri, default_uri
from tune.tracking.tracker import sync

WORKLOAD, PRESET = "script", "imported"
IMPORTED, LABEL = "imported", "label"
"""Tags with the log and with the words before the score."""
_VERSIONS = {"python": "python", "pytorch": "torch"}
_NO_RUN = "no run in it"


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A run of a log."""

    log: str
    """The log, with the number of the run where it holds several."""
    results: ScriptResults | None = None
    reason: str | None = None
    """Why it becomes no entry."""
    entry: TrialEntry | None = None
    series: Series | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is asked of every log."""

    name: str | None
    metrics: Sequence[Metric]
    objective: Objective | None


def import_command(parsed: argparse.Namespace) -> int:
    """Reads the logs, prints what they say, and writes entries. Returns: 1 when no log gave a score.

    Raises: ValueError, OSError for wrong input, before anything is written.
    """
    wanted = _wanted(parsed)
    files = list(dict.fromkeys(file for path in parsed.logs for file in logs_in(path)))
    storage = Storage(parsed.storage.resolve())
    runs = [run for file in files for run in read_runs(file, wanted, explicit=file in parsed.logs)]
    runs = _with_repeats(_unique(runs), Ledger(storage.ledger).latest())
    print("\n".join(_table(runs)))
    scored = [run for run in runs if run.entry is not None]
    if not parsed.only_shown and scored:
        print("\n".join(_record(scored, storage, parsed)))
    return 0 if scored else 1


def _wanted(parsed: argparse.Namespace) -> _Wanted:
    metrics = [parse_metric(text) for text in parsed.metric]
    if any(metric.file for metric in metrics):
        raise ValueError("--metric NAME=file:... needs a run's folder; of a log, give a pattern or json:KEY")
    if parsed.name is not None:
        one_name(parsed.name)
    if parsed.objective is None:
        return _Wanted(name=parsed.name, metrics=metrics, objective=None)
    name, colon, direction = parsed.objective.partition(":")
    known = [*SCORES, *(metric.name for metric in metrics)]
    if name not in known or direction not in (("max", "min") if colon else ("",)):
        raise ValueError(f"--objective must be one of {', '.join(known)}, with :max where larger is better")
    objective = None if name == SCORES[0] and direction != "max" else Objective(name=name, maximize=direction == "max")
    return _Wanted(name=parsed.name, metrics=metrics, objective=objective)


def logs_in(path: Path) -> list[Path]:
    """Returns the logs at a path: the file itself, or those in a folder and the folders below it.

    Raises: FileNotFoundError when there is nothing; ValueError for what is no file, or a folder without logs.
    """
    need_path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path} is neither a file nor a folder")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if _may_be_log(name)]
    found = [file for file in found if file.is_file()]
    if not found:
        raise ValueError(f"{path} holds no log (a name that ends in {', '.join(LOG_ENDINGS)} or .gz)")
    return found


def _may_be_log(name: str) -> bool:
    plain = name.lower().removesuffix(".gz")
    named = plain.endswith(LOG_ENDINGS) or ("." not in plain and re.search(r"log|train|seed|stdout", plain) is not None)
    return named and not name.startswith(".")


def read_runs(file: Path, wanted: _Wanted, explicit: bool) -> list[ImportedRun]:
    """Returns the runs of a log; none of a file that is no log, unless it was named itself (`explicit`)."""
    try:
        text = read_text(file)
    except DAMAGED as error:
        return [ImportedRun(log=str(file), reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")]
    found = []
    for lines, results in runs_of(file.name, text.lines(), wanted.metrics):
        part = results.log.part
        log = f"{file} (run {part})" if part else str(file)
        reason = _reason(results, wanted)
        notes = (*results.notes, *_reading_notes(results, text))
        if reason == _NO_RUN and not explicit and not file.name.lower().removesuffix(".gz").endswith(".log"):
            continue
        if reason is not None:
            found.append(ImportedRun(log=log, results=results, reason=reason))
            continue
        entry = _entry(file, text, results, wanted)
        found.append(ImportedRun(log=log, results=results, entry=entry, series=_series(lines, entry), notes=notes))
    return found


def _reason(results: ScriptResults, wanted: _Wanted) -> str | None:
    """Returns why a run becomes no entry; None for one with a score."""
    objective = _objective(results, wanted)
    name = SCORES[0] if objective is None else objective.name
    if results.unfinished is not None:
        return f"it ends at {results.unfinished}: not finished"
    score = results.metrics.get(name)
    if score is None:
        named = results.log.is_run or results.log.seed is not None or wanted.objective is not None
        return f"no {name} in it" if named else _NO_RUN
    return None if math.isfinite(score) else f"its {name} is {score}"


def _objective(results: ScriptResults, wanted: _Wanted) -> Objective | None:
    """Returns the metric that counts in place of val_bpb, for a run without one."""
    if wanted.objective is not None or SCORES[0] in results.metrics:
        return wanted.objective
    names = [SCORES[1], *(metric.name for metric in wanted.metrics)]
    name = next((name for name in names if name in results.metrics), None)
    return None if name is None else Objective(name=name)


def _reading_notes(results: ScriptResults, text: Text) -> Iterator[str]:
    if text.skipped_bytes:
        yield f"{text.skipped_bytes:,} bytes in its middle were not read; its curves lack them"
    if results.seed is None and results.log.seed_of_name is not None:
        yield f"its seed {results.log.seed_of_name} is in its file's name only"


def _entry(file: Path, text: Text, results: ScriptResults, wanted: _Wanted) -> TrialEntry:
    log, metrics = results.log, results.metrics
    seconds = {stage: metrics[f"{stage}_seconds"] for stage in ("train", "eval") if f"{stage}_seconds" in metrics}
    size, ended = _size(results), file.stat().st_mtime
    over = 0 if size is None else size.over_bytes
    seed = {} if log.any_seed is None else {SEED: log.any_seed}
    source = "" if log.source is None else sha256(log.source)
    kept = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return TrialEntry(
        sweep=wanted.name or _sweep(file),
        trial=sha256(f"{log.part}\n{text.text}".encode(errors="surrogatepass"))[:12],
        name=_plain(file.name.removesuffix(".gz").rsplit(".", 1)[0]) + (f" run {log.part}" if log.part else ""),
        preset=PRESET,
        workload=WORKLOAD,
        parameters=dict(seed),
        config={**{name: value for name, value in log.settings.items() if name not in _VERSIONS}, **seed},
        data="",
        dataset=" ".join(filter(None, (log.dataset, log.tokenizer if log.dataset is None else None))),
        code=log.code_sha256 or source,
        environment={ours: log.settings[name] for name, ours in _VERSIONS.items() if name in log.settings},
        tags={IMPORTED: str(file), LABEL: _plain(results.label or "")},
        started=ended - sum(seconds.values()),
        ended=ended,
        state=TrialState.INFEASIBLE if over else TrialState.DONE,
        reason=f"over the cap by {over:,} bytes" if over else None,
        bpb=kept.get("val_bpb"),
        nats_per_token=kept.get("val_loss"),
        objective=_objective(results, wanted),
        size=size,
        seconds=seconds,
        device=_device(results),
        code_sha256=log.code_sha256 or source or None,
        metrics={name: value for name, value in kept.items() if not name.endswith(("_bytes", "_seconds"))},
    )


def _size(results: ScriptResults) -> ArtifactSize | None:
    """Returns the bytes of a run such that model and code make the total that it says."""
    total, model = results.metrics.get("artifact_bytes"), results.metrics.get("model_bytes")
    if total is None:
        return None
    code = total - model if model is not None and model <= total else results.metrics.get("code_bytes", 0.0)
    code = min(code, total)
    return ArtifactSize(model_bytes=round(total) - round(code), code_bytes=round(code), cap_bytes=CAP_BYTES)


def _device(results: ScriptResults) -> Device | None:
    device = results.log.devices[0] if len(results.log.devices) == 1 else None
    if device is None:
        return None
    count = results.log.world_size or device.count
    return None if count is None else Device(count=count, name=device.model, kind="cuda")


def _series(lines: Sequence[str], entry: TrialEntry) -> Series:
    """Returns the curves of a run; points without a time are at its end."""
    return Series(
        {
            series_name(name): [
                [step, entry.ended if seconds is None else entry.started + seconds, value]
                for step, (seconds, value) in sorted(curve.items())
            ]
            for name, curve in curves_of(lines).items()
        }
    )


def _sweep(file: Path) -> str:
    """Returns the name of the record folder that a log is in, else of its folder."""
    folders = list(file.resolve().parents)
    record = next((folder for folder in folders[:4] if (folder / CLAIMS).is_file()), folders[0])
    return record.name or PRESET


def _plain(text: str) -> str:
    """Returns a text of a log without what would act on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _unique(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """Returns runs, those whose log is a copy of another's as such."""
    first: dict[tuple[str, str], str] = {}
    unique = []
    for run in runs:
        same = None if run.entry is None else first.setdefault(run.entry.identity, run.log)
        copied = same is not None and same != run.log
        unique.append(ImportedRun(log=run.log, results=run.results, reason=f"a copy of {same}") if copied else run)
    return unique


def _with_repeats(runs: Sequence[ImportedRun], known: Sequence[TrialEntry]) -> list[ImportedRun]:
    """Returns runs, those with the seed and configuration of another of their study as repeats of it."""
    numbers = {entry.identity: entry.repeat for entry in known}
    used = {(entry.sweep, entry.seed, same_configuration_key(entry), entry.repeat) for entry in known}
    repeated = []
    for run in runs:
        entry = run.entry
        if entry is not None and entry.seed is not None:
            key = entry.sweep, entry.seed, same_configuration_key(entry)
            number = numbers.get(entry.identity)
            number = next(n for n in range(len(used) + 1) if (*key, n) not in used) if number is None else number
            used.add((*key, number))
            if number:
                entry = msgspec.structs.replace(entry, parameters={**entry.parameters, REPEAT: number})
        repeated.append(replace(run, entry=entry))
    return repeated


def _table(runs: Sequence[ImportedRun]) -> Iterator[str]:
    """Yields the table of the runs with a score, then notes, then what became no entry."""
    scored = [(run, run.entry, run.results) for run in runs if run.entry and run.results]
    if scored:
        width = terminal_width()
        longest = max(width // 3, 24)
        yield from format_table(
            [
                Column("log", [_end_of(_plain(run.log), longest) for run, _, _ in scored], align="left"),
                Column("score", [f"{_score(entry):.8g}" for _, entry, _ in scored]),
                Column(
                    "of", ["BPB" if not entry.objective else entry.objective.name for _, entry, _ in scored], 3, "left"
                ),
                Column("bytes", [f"{entry.artifact_bytes or '':,}" if entry.size else "" for _, entry, _ in scored]),
                Column("seed", ["" if entry.seed is None else str(entry.seed) for _, entry, _ in scored]),
                Column("steps", [_number(results, "steps") for _, _, results in scored], 2),
                Column("seconds", [_number(results, "train_seconds") for _, _, results in scored], 1),
                Column("label", [entry.tags[LABEL] for _, entry, _ in scored], align="left"),
            ],
            width,
        )
    for run, entry, _ in scored:
        for note in (*run.notes, *([entry.reason] if entry.reason else [])):
            yield f"note: {_plain(run.log)}: {_plain(note)}"
    silent = [run for run, entry, _ in scored if not entry.config.keys() - {SEED}]
    if silent:
        yield f"note: {len(silent)} of {len(scored)} print no settings; those of one study are taken to have the same"
    for run in runs:
        if run.reason is not None:
            yield f"not imported: {_plain(run.log)}: {_plain(run.reason)}"


def _score(entry: TrialEntry) -> float:
    score = entry.bpb if entry.objective is None else entry.metrics[entry.objective.name]
    assert score is not None, entry.trial
    return score


def _number(results: ScriptResults, name: str) -> str:
    value = results.metrics.get(name)
    return "" if value is None else f"{value:,.0f}"


def _end_of(text: str, length: int) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"


def _record(runs: Sequence[ImportedRun], storage: Storage, parsed: argparse.Namespace) -> Iterator[str]:
    """Writes the entries that the ledger lacks, shows them in MLflow, and yields what to tell the user."""
    warn_of_damage(storage.ledger)
    ledger = Ledger(storage.ledger)
    known = {entry.identity: entry for entry in ledger.latest()}
    entries = [run.entry for run in runs if run.entry is not None]
    names = sorted({entry.sweep for entry in entries})
    for name in sorted({entry.sweep for entry in known.values() if IMPORTED not in entry.tags}.intersection(names)):
        raise ValueError(f'"{name}" is a sweep or study of the ledger that was run here; give another --name')
    added = [run for run in runs if run.entry and not _is_known(run.entry, known.get(run.entry.identity))]
    for run in added:
        assert run.entry is not None
        ledger.append(run.entry, run.series)
    there = f"; {len(entries) - len(added)} were there" if len(added) < len(entries) else ""
    yield f"{len(added)} runs imported into {storage.ledger}{there}"
    if not parsed.no_mlflow:
        uri = default_uri(storage.root) if parsed.tracking_uri is None else absolute_uri(parsed.tracking_uri)
        imported = [entry for entry in ledger.latest() if entry.preset == PRESET and entry.sweep in names]
        problem = sync(imported, uri, PRESET, storage).problem
        yield problem or f"also in MLflow, experiment {PRESET}"
    for name in names[:5]:
        yield f"next: {python_line('tune', 'report', name, '--storage', str(parsed.storage))}"


def _is_known(entry: TrialEntry, known: TrialEntry | None) -> bool:
    """Whether the ledger has a run already, with the same numbers; another --metric makes others."""
    fields = ("state", "metrics", "objective", "size", "config")
    return known is not None and all(getattr(entry, field) == getattr(known, field) for field in fields)
