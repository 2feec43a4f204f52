"""What a run of somebody's script came to: its score, bytes, steps and seconds, from its output and its files.

The last labelled score counts, since least scores are often diagnostics before the quantisation; its label is shown and
never interpreted. A script without labelled scores is scored by the last point of its validation curve.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from golf.scripts.curves import points_in
from golf.scripts.metrics import Metric, value_of
from golf.submission.record_folder.log_parts import runs_in
from golf.submission.record_folder.logs import RunLog, read_run

_PARAMETERS = re.compile(r"\bmodel_params\s*[:=]\s*(\d{1,15})")
_MEMORY = re.compile(r"\bpeak memory allocated: (\d+(?:\.\d+)?) MiB")
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


def results_of(
    lines: Sequence[str], directory: Path | None = None, code_bytes: int | None = None, metrics: Sequence[Metric] = ()
) -> ScriptResults:
    """Returns what a run came to.

    Args:
        lines: of its output.
        directory: its working directory, in which the packed model is looked for; None where only a log is left.
        code_bytes: size of the script, which counts with the packed model.
        metrics: further ones to look for.
    """
    runs = [run for own, source in runs_in(lines) if (run := read_run("", own, source)).is_run]
    log = runs[-1] if runs else RunLog("")
    values: dict[str, float | None] = {
        "artifact_bytes": log.total_bytes and log.total_bytes.value,
        "model_bytes": log.model_bytes and log.model_bytes.value,
        "code_bytes": log.code_bytes[-1] if log.code_bytes else None,
        "steps": log.steps,
        "train_seconds": log.train_seconds and log.train_seconds.value,
        "eval_seconds": log.eval_seconds or (log.scores[-1].seconds if log.scores else None),
        "parameters": _last(_PARAMETERS, lines),
        "peak_memory_mib": _last(_MEMORY, lines),
    }
    label = None
    if log.scores:
        score = log.scores[-1]
        label = score.name
        values |= {"val_bpb": score.bpb.value, "val_loss": score.nats and score.nats.value}
    else:
        for line in reversed(lines):
            points = points_in(line)
            found = {} if points is None else {n: v for n, v in points.values.items() if n in ("val_loss", "val_bpb")}
            if points is not None and found:
                label, values = f"step {points.step}", {**values, **found, "steps": values["steps"] or points.step}
                break
    for metric in metrics:
        values[metric.name] = value_of(metric, lines, directory or Path())
    given = {name: float(value) for name, value in values.items() if value is not None}
    results = ScriptResults(given, label, log.seed, log.settings, log=log)
    return results if directory is None else _with_files(results, directory, code_bytes)


def _with_files(results: ScriptResults, directory: Path, code_bytes: int | None) -> ScriptResults:
    """Adds the sizes of the files in the working directory, and what of the output they contradict."""
    packed = [path for path in sorted(directory.iterdir()) if path.name.endswith(_PACKED) and path.is_file()]
    if not packed:
        return results
    newest = max(packed, key=lambda path: path.stat().st_mtime)
    on_disk = newest.stat().st_size
    metrics, notes = dict(results.metrics), []
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
    return next((float(match[1]) for match in matches if match is not None), None)
