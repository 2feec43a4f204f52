"""Whether the code of the logs is the code that a record folder ships (point 5)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, failed, not_applicable, weighed
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.contents import CODE, RecordFolder
from golf.submission.record_folder.figures import NO_LOG
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.sources import newer_python, syntax_error

_SHIP = "ship the code that ran, or run what is shipped"
_LINE_END = 2
"""Bytes by which a size may differ for the line end at the end of the file."""


@dataclass(frozen=True)
class _Shipped:
    """The shipped script."""

    name: str
    data: bytes
    layers: tuple[bytes, ...]
    """The texts that it unpacks."""
    total: int
    """Bytes of all code."""
    beside: tuple[int, ...] = ()
    """Bytes of each file that it runs."""

    @property
    def sizes(self) -> set[int]:
        """The sizes that a log may state."""
        return {len(self.data), self.total, *self.beside, *(len(layer) for layer in self.layers)}

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The script and what it unpacks."""
        return self.data, *self.layers

    def is_text(self, data: bytes) -> bool:
        """Returns whether a text is the script, or what it unpacks, but for space at its end."""
        return any(data.rstrip() == text.rstrip() for text in self.texts)

    def is_in(self, log: str) -> bool:
        """Returns whether a log holds the script, or what it unpacks."""
        return any(len(text) > 40 and text.decode("utf-8", "replace").strip() in log for text in self.texts)


def code(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 5: size and hash of the code in each log, and the code itself where it is there."""
    runs = claimed.runs
    if not runs:
        return not_applicable(5, NO_LOG, {"logs": 0})
    if folder.code is None or folder.script is None:
        return failed(5, f"there is no {CODE} to compare with: {_SHIP}", {"logs": len(runs)})
    beside = tuple(folder.local.values())
    shipped = _Shipped(folder.script, folder.code, folder.source.layers, folder.code_bytes or 0, beside)
    causes = [cause for run in runs for cause in _of_run(run, shipped, folder)]
    if folder.script != CODE and not any(cause.level == FAILED for cause in causes):
        causes.append(Cause(f"the code of the logs is {folder.script}", f"call it {CODE}", REMARK))
    evidence: Evidence = {
        "code_bytes_shipped": shipped.total,
        "code_bytes_logged": {run.name: list(run.code_bytes) for run in runs},
        "logs_with_hash_or_code": sum(run.code_sha256 is not None or run.source is not None for run in runs),
        "logs": len(runs),
    }
    other = [_with_size(run) for run in claimed.others if _is_other_code(run, shipped)]
    evidence |= {"other_runs_of_other_code": other[:20]} if other else {}
    return weighed(5, evidence, _joined(causes))


def _of_run(run: RunLog, shipped: _Shipped, folder: RecordFolder) -> list[Cause]:
    """Returns what a run's log says of another code than the shipped one."""
    digest = hashlib.sha256(shipped.data).hexdigest()
    if run.code_sha256 is not None:
        if run.code_sha256 == digest:
            return []
        return [Cause(f"{run.name}: another code ran (sha256 {run.code_sha256[:12]}, shipped {digest[:12]})", _SHIP)]
    if run.source is not None:
        return _of_text(run, run.source, shipped, folder)
    return _of_sizes(run, shipped)


def _of_text(run: RunLog, source: bytes, shipped: _Shipped, folder: RecordFolder) -> list[Cause]:
    """Compares the code in a log with the shipped one."""
    same = shipped.is_text(source) or (run.part == 0 and shipped.is_in(folder.text_of(run)))
    if same and _sizes_fit(run, {*shipped.sizes, len(source)}):
        return []
    stated = " and ".join(f"{size:,}" for size in run.code_bytes)
    if run.code_bytes and not _sizes_fit(run, {len(source)}) and (same or _sizes_fit(run, shipped.sizes)):
        text = f"{run.file} contradicts itself: it holds code of {len(source):,} bytes and states {stated}"
        return [Cause(text, "ship the log as the script wrote it")]
    if same:
        return []
    plain = source.replace(b"\r\n", b"\n").rstrip()
    if plain == shipped.data.replace(b"\r\n", b"\n").rstrip():
        remedy = f"ship {shipped.name} with the line ends that ran"
        return [Cause(f"{run.file}: same text, other line ends", remedy, REMARK)]
    twin = next((name for name, data in folder.texts.items() if data.rstrip() == source.rstrip()), None)
    if twin is not None:
        return [Cause(f"{run.file}: the code of the log is {twin}", f"the counted script must be {CODE}")]
    error = syntax_error(source)
    if error and not newer_python(source, error):
        return [Cause(f"{run.file}: the code in it is not valid Python ({error}), so that text never ran", _SHIP)]
    contradicted = run.code_bytes and not _sizes_fit(run, {len(source)})
    more = f", and the log states {stated} bytes" if contradicted else ""
    return [Cause(f"{run.file}: the code in it is another than {shipped.name} ({len(source):,} bytes{more})", _SHIP)]


def _sizes_fit(run: RunLog, sizes: set[int]) -> bool:
    """Returns whether a size in a log is one of `sizes`, but for a line end; true where it states none."""
    return not run.code_bytes or any(abs(stated - size) < _LINE_END for stated in run.code_bytes for size in sizes)


def _of_sizes(run: RunLog, shipped: _Shipped) -> list[Cause]:
    """Compares the sizes of the code in a log with the shipped ones."""
    if not run.code_bytes:
        return [Cause(f"{run.name}: its log has neither size nor hash of the code", "ship the whole log", REMARK)]
    if set(run.code_bytes) & shipped.sizes:
        return []
    lines = shipped.data.count(b"\r\n")
    listed = " and ".join(f"{size:,}" for size in sorted(run.code_bytes))
    if lines and len(shipped.data) - lines in run.code_bytes:
        text = f"{run.name}: its log has {listed} bytes of code, {shipped.name} as many and {lines} carriage returns"
        return [Cause(f"{text}: same text, other line ends", "ship it with the line ends that ran", REMARK)]
    text = f"{run.name}: its log has {listed} bytes of code, shipped are {len(shipped.data):,}"
    level = REMARK if _sizes_fit(run, shipped.sizes) else FAILED
    return [Cause(text, _SHIP if level == FAILED else "a line end at the end of the file", level)]


def _is_other_code(run: RunLog, shipped: _Shipped) -> bool:
    if run.source is not None:
        return not shipped.is_text(run.source)
    return bool(run.code_bytes) and not _sizes_fit(run, shipped.sizes)


def _with_size(run: RunLog) -> str:
    size = len(run.source) if run.source is not None else run.code_bytes[-1]
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
