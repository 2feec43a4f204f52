"""Whether the code of the logs is the code that a record folder ships (point 5)."""

import hashlib
from collections.abc import Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, failed, not_applicable, weighed
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.contents import CODE, RecordFolder
from golf.submission.record_folder.figures import NO_LOG
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.sources import newer_python, syntax_error

_SHIP = "ship the code that ran, or run what is shipped"
_LINE_END = 2
"""Bytes by which a size may differ for the line end at the end of the file."""


def code(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 5: size and hash of the code in each log, and the code itself where it is there."""
    runs = claimed.runs
    if not runs:
        return not_applicable(5, NO_LOG, {"logs": 0})
    if folder.code is None:
        return failed(5, f"there is no {CODE} to compare with: {_SHIP}", {"logs": len(runs)})
    causes = [cause for run in runs if (cause := _of_run(run, folder, folder.code)) is not None]
    if folder.script != CODE and not any(cause.level == FAILED for cause in causes):
        causes.append(Cause(f"the code of the logs is {folder.script}", f"call it {CODE}", REMARK))
    evidence: Evidence = {
        "code_bytes_shipped": folder.code_bytes,
        "code_bytes_logged": {run.name: list(run.code_bytes) for run in runs},
        "logs_with_hash_or_code": sum(run.code_sha256 is not None or run.source is not None for run in runs),
        "logs": len(runs),
    }
    others = [text for run in claimed.others if (text := _other_code(run, folder)) is not None]
    evidence |= {"other_runs_of_other_code": others[:20]} if others else {}
    return weighed(5, evidence, _joined(causes))


def _of_run(run: RunLog, folder: RecordFolder, shipped: bytes) -> Cause | None:
    """Returns what a run's log says of another code than the shipped one; None where it is the same."""
    digest = hashlib.sha256(shipped).hexdigest()
    if run.code_sha256 == digest:
        return None
    if run.code_sha256 is not None:
        return Cause(f"{run.name}: another code ran (sha256 {run.code_sha256[:12]}, shipped {digest[:12]})", _SHIP)
    return _of_sizes(run, folder, shipped) if run.source is None else _of_text(run, run.source, folder, shipped)


def _of_text(run: RunLog, source: bytes, folder: RecordFolder, shipped: bytes) -> Cause | None:
    same = _is_shipped(source, folder) or (run.part == 0 and _is_in(folder.text_of(run), folder))
    contradicted = not _sizes_fit(run, {len(source)})
    if same and (not contradicted or _sizes_fit(run, _shipped_sizes(folder))):
        return None
    stated = " and ".join(f"{size:,}" for size in run.code_bytes)
    if contradicted and (same or _sizes_fit(run, _shipped_sizes(folder))):
        text = f"{run.file} contradicts itself: it holds code of {len(source):,} bytes and states {stated}"
        return Cause(text, "ship the log as the script wrote it")
    if source.replace(b"\r\n", b"\n").rstrip() == shipped.replace(b"\r\n", b"\n").rstrip():
        remedy = f"ship {folder.script} with the line ends that ran"
        return Cause(f"{run.file}: same text, other line ends", remedy, REMARK)
    twin = next((name for name, data in folder.texts.items() if data.rstrip() == source.rstrip()), None)
    if twin is not None:
        return Cause(f"{run.file}: the code of the log is {twin}", f"the counted script must be {CODE}")
    error = syntax_error(source)
    if error and not newer_python(source, error):
        return Cause(f"{run.file}: the code in it is not valid Python ({error}), so that text never ran", _SHIP)
    more = f", and the log states {stated} bytes" if contradicted else ""
    return Cause(f"{run.file}: the code in it is another than {folder.script} ({len(source):,} bytes{more})", _SHIP)


def _of_sizes(run: RunLog, folder: RecordFolder, shipped: bytes) -> Cause | None:
    if not run.code_bytes:
        return Cause(f"{run.name}: its log has neither size nor hash of the code", "ship the whole log", REMARK)
    if set(run.code_bytes) & _shipped_sizes(folder):
        return None
    lines = shipped.count(b"\r\n")
    text = f"{run.name}: its log has {' and '.join(f'{size:,}' for size in sorted(run.code_bytes))} bytes of code, "
    if lines and len(shipped) - lines in run.code_bytes:
        text += f"{folder.script} as many and {lines} carriage returns: same text, other line ends"
        return Cause(text, "ship it with the line ends that ran", REMARK)
    text += f"shipped are {len(shipped):,}"
    if _sizes_fit(run, _shipped_sizes(folder)):
        return Cause(text, "a line end at the end of the file", REMARK)
    return Cause(text, _SHIP)


def _shipped_texts(folder: RecordFolder) -> tuple[bytes, ...]:
    """Returns the script and what it unpacks."""
    return folder.code or b"", *folder.source.layers


def _shipped_sizes(folder: RecordFolder) -> set[int]:
    """Returns the sizes of the code that a log may state."""
    return {folder.code_bytes or 0, *folder.local.values(), *map(len, _shipped_texts(folder))}


def _is_shipped(data: bytes, folder: RecordFolder) -> bool:
    """Returns whether a text is the script, or what it unpacks, but for space at its end."""
    return any(data.rstrip() == text.rstrip() for text in _shipped_texts(folder))


def _is_in(log: str, folder: RecordFolder) -> bool:
    """Returns whether a log holds the script, or what it unpacks."""
    texts = _shipped_texts(folder)
    return any(len(text) > 40 and text.decode("utf-8", "replace").strip() in log for text in texts)


def _sizes_fit(run: RunLog, sizes: set[int]) -> bool:
    """Returns whether a size in a log is one of `sizes`, but for a line end; true where it states none."""
    return not run.code_bytes or any(abs(stated - size) < _LINE_END for stated in run.code_bytes for size in sizes)


def _other_code(run: RunLog, folder: RecordFolder) -> str | None:
    """Returns a run with the size of its code and its score; None where that is the shipped code, or unknown."""
    if _sizes_fit(run, _shipped_sizes(folder)) if run.source is None else _is_shipped(run.source, folder):
        return None
    size = run.code_bytes[-1] if run.source is None else len(run.source)
    score = f", {run.scores[-1].bpb.value:g} BPB" if run.scores else ""
    return f"{run.name}: code of {size:,} bytes{score}"


def _joined(causes: Sequence[Cause]) -> list[Cause]:
    """Returns causes with those joined that differ only in the log that they name."""
    logs: dict[tuple[str, str, str], list[str]] = {}
    for cause in causes:
        name, _, text = cause.text.partition(": ")
        logs.setdefault((text or name, cause.remedy, cause.level), []).append(name if text else "")
    return [
        Cause(f"{', '.join(names)}: {text}" if any(names) else text, remedy, level)
        for (text, remedy, level), names in logs.items()
    ]
