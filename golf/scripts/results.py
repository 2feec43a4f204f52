"""What a run of somebody's script came to: its score, bytes, steps and seconds, from its output and its files.

The last labelled score counts, since least scores are often diagnostics before the quantisation; its label is shown and
never interpreted. A script without labelled scores is scored by the last point of its validation curve.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from golf.scripts.curves import points_in, values_in
from golf.scripts.metrics import Metric, value_of
from golf.submission.record_folder.log_parts import runs_in
from golf.submission.record_folder.logs import RunLog, read_run
from golf.submission.record_folder.numbers import COUNT

SCORES = ("val_bpb", "val_loss")
"""Metrics that are the score of a run: the first where it has both."""
_PARAMETERS = re.compile(rf"\bmodel_params\s*[:=]\s*{COUNT}")
_MEMORY = re.compile(r"\bpeak memory allocated\s*[:=]\s*(\d+(?:\.\d+)?) MiB")
_STOPPED = re.compile(r"\bstopping_early\b")
_PACKED = (".ptz", ".golf", ".int6", ".int8", ".zst", ".xz", ".br", ".bin.lzma")
"""Endings of packed models."""


@dataclass(frozen=True)
class ScriptResults:
    """The numbers of a finished run."""

    metrics: Mapping[str, float]
    """By name: val_bpb, val_loss, artifact_bytes, model_bytes, code_bytes, steps, train_seconds, eval_seconds,
    parameters, peak_memory_mib, and those that a user named. What a run does not say is left out."""
    label: str | None
    """Words before the score; None for a run without a score."""
    seed: int | None
    """The seed that it says it has."""
    settings: Mapping[str, str]
    """Settings that it prints."""
    notes: tuple[str, ...] = ()
    """What its output and its files say differently."""
    log: RunLog = field(default_factory=lambda: RunLog(""))
    unfinished: str | None = None
    """Where the output ends, if the score is only of a step before the last one; else None."""


@dataclass(frozen=True)
class _Scored:
    label: str | None
    values: Mapping[str, float]
    steps: int | None = None
    unfinished: str | None = None


def results_of(
    lines: Sequence[str], directory: Path | None = None, code_bytes: int | None = None, metrics: Sequence[Metric] = ()
) -> ScriptResults:
    """Returns what a run came to; the last one, where several follow each other in the output.

    Args:
        lines: of its output.
        directory: its working directory, in which the packed model is looked for; None where only a log is left.
        code_bytes: size of the script, which counts with the packed model.
        metrics: further ones to look for.
    """
    *_, (own, log) = _runs("", lines)
    results = _results(own, log, metrics, directory)
    return results if directory is None else _with_files(results, directory, code_bytes)


def runs_of(
    file: str, lines: Sequence[str], metrics: Sequence[Metric] = ()
) -> Iterator[tuple[Sequence[str], ScriptResults]]:
    """Yields the lines of each run in a log, without what loggers put before them, and what it came to.

    Args:
        file: name of the log, which may have the seed.
        lines: of the log.
        metrics: further ones to look for.
    """
    runs = _runs(file, lines)
    for part, (own, log) in enumerate(runs, 1):
        yield own, _results(own, replace(log, part=part if len(runs) > 1 else 0), metrics, None)


def _runs(file: str, lines: Sequence[str]) -> list[tuple[list[str], RunLog]]:
    """Returns the runs of a log, in their order: the parts that say something of one, else the last part."""
    parts = [(own, read_run(file, own, source)) for own, source in runs_in(lines)]
    return [part for part in parts if part[1].is_run] or parts[-1:]


def _results(lines: Sequence[str], log: RunLog, metrics: Sequence[Metric], directory: Path | None) -> ScriptResults:
    scored, code = _scored(lines, log), log.packed_code_bytes or (log.code_bytes[-1] if log.code_bytes else None)
    model, total = (size and size.value for size in (log.model_bytes, log.total_bytes))
    values: dict[str, float | None] = {
        **scored.values,
        "artifact_bytes": model + code if total is None and model is not None and code is not None else total,
        "model_bytes": model,
        "code_bytes": code,
        "steps": scored.steps if log.steps is None else log.steps,
        "train_seconds": log.train_seconds and log.train_seconds.value,
        "eval_seconds": log.eval_seconds or (log.scores[-1].seconds if log.scores else None),
        "parameters": _last(_PARAMETERS, lines),
        "peak_memory_mib": _last(_MEMORY, lines),
    }
    label, unfinished = scored.label, scored.unfinished
    for metric in metrics:
        values[metric.name] = None if metric.file and not directory else value_of(metric, lines, directory or Path())
        if metric.name in SCORES:
            label, unfinished = metric.name, None
    given = {name: float(value) for name, value in values.items() if value is not None}
    return ScriptResults(given, label, log.seed, log.settings, tuple(_contradictions(log)), log, unfinished)


def _scored(lines: Sequence[str], log: RunLog) -> _Scored:
    """Returns the last labelled score; without one the last score of any line."""
    if log.scores:
        score = log.scores[-1]
        values = {"val_bpb": score.bpb.value} | ({} if score.nats is None else {"val_loss": score.nats.value})
        return _Scored(score.name, values)
    for line in reversed(lines):
        values = {name: value for name, value in values_in(line).items() if name in SCORES}
        points = points_in(line)
        if values and points is None:
            begin = min(line.lower().find(name) for name in values)
            name = line[:begin].strip(" \t:|-{\"'")
            return _Scored(name[-80:] or "score", values)
        if values and points is not None:
            step, total = points.step, points.total_steps
            is_last = total is None or step + 1 >= total or any(map(_STOPPED.search, lines))
            place = f"step {step}" if total is None else f"step {step} of {total}"
            return _Scored(place, values, step, None if is_last else place)
    return _Scored(None, {})


def _contradictions(log: RunLog) -> Iterator[str]:
    """Yields what a log says in two ways that do not agree."""
    if log.seed is not None and log.seed_of_name not in (None, log.seed):
        yield f"it says seed {log.seed}, the name of its file {log.seed_of_name}"
    for score in log.scores:
        exact = log.score(f"{score.name}_exact")
        if exact is not None:
            yield f"{score.name} is {score.bpb.value:g}, {exact.name} {exact.bpb.value:g}"
    model, total = log.model_bytes, log.total_bytes
    if model and total and log.code_bytes and not any(total.is_size(model.value + code) for code in log.code_bytes):
        code = " or ".join(f"{code:,}" for code in log.code_bytes[:3])
        yield f"it says {total.value:,.0f} bytes in all, but {model.value:,.0f} of model and {code} of code"


def _with_files(results: ScriptResults, directory: Path, code_bytes: int | None) -> ScriptResults:
    """Adds the sizes of the files in the working directory, and what of the output they contradict."""
    packed = [path for path in sorted(directory.iterdir()) if path.name.endswith(_PACKED) and path.is_file()]
    if not packed:
        return results
    newest = max(packed, key=lambda path: path.stat().st_mtime)
    on_disk = newest.stat().st_size
    metrics, notes = dict(results.metrics), list(results.notes)
    metrics["model_bytes_on_disk"] = on_disk
    stated, total = metrics.get("model_bytes"), metrics.get("artifact_bytes")
    if stated is not None and stated != on_disk:
        notes.append(f"its output says {stated:,.0f} bytes of model, {newest.name} has {on_disk:,}")
    if code_bytes is not None:
        with_code = on_disk + code_bytes
        metrics["artifact_bytes_on_disk"] = with_code
        if total is None:
            metrics["artifact_bytes"] = with_code
        elif total != with_code:
            notes.append(f"its output says {total:,.0f} bytes in all, {newest.name} and the script have {with_code:,}")
    return replace(results, metrics=metrics, notes=tuple(notes))


def _last(pattern: re.Pattern[str], lines: Sequence[str]) -> float | None:
    matches = (pattern.search(line) for line in reversed(lines) if len(line) < 2000)
    return next((float(match[1].replace(",", "")) for match in matches if match is not None), None)
