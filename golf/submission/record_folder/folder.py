"""The checklist on a record folder that somebody else made, without running its code.

What its files, its submission.json and its logs tell is compared with each other and with the rules. Texts of the
folder are shown without what a terminal would act on. Source: openai/parameter-golf, its README and the folders below
its `records/`.
"""

import datetime
import importlib
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.compliance.points import (
    FAILED,
    ONLY_RUNNING,
    PASSED,
    POINTS,
    REMARK,
    Cause,
    PointResult,
    not_applicable,
    weighed,
)
from golf.config.rules import NON_RECORD, RECORD, TRACK_FOLDERS
from golf.submission.record_folder.agreement import agreement
from golf.submission.record_folder.claimed import ClaimedRuns, claimed_runs
from golf.submission.record_folder.claims import FILE as CLAIMS
from golf.submission.record_folder.code import code
from golf.submission.record_folder.contents import CODE, README, REQUIREMENTS, RecordFolder, read_folder
from golf.submission.record_folder.figures import evaluation_time, gain, sizes, training_time
from golf.submission.record_folder.place import byte_counts, hardware, training_data, validation_data
from golf.submission.record_folder.readme import commands_of
from golf.submission.record_folder.sameness import listed, sameness
from golf.submission.record_folder.sources import is_named, missing_requirements
from golf.submission.record_folder.submission_json import not_told

TRACKS = {folder: track for track, folder in TRACK_FOLDERS.items()}
"""Tracks by their folders below `records`."""
_LONGEST_TEXT, _MOST_VALUES, _MOST_ARTIFACTS = 200, 100, 10


def check_folder(
    path: Path,
    previous_nats: Sequence[float] = (),
    previous_bpb: Sequence[float] = (),
    track: str | None = None,
) -> list[PointResult]:
    """A finding on every point.

    Args: previous_nats: nats per token of the previous best: its seeds, or one published mean; previous_bpb: the same
        in BPB, where nats are not given; track: "record" or "non-record" where neither the folder's place nor its
        submission.json shall decide.
    Raises: NotADirectoryError when it is no folder; ValueError on an unknown track.
    """
    if track not in (None, RECORD, NON_RECORD):
        raise ValueError(f'the track must be "{RECORD}" or "{NON_RECORD}", got {track!r}')
    folder = read_folder(path)
    full = path.resolve()
    kind = track or TRACKS.get(full.parent.name) or track_of(folder.claims.fields.get("track"))
    claimed = claimed_runs(folder)
    validation = validation_data(folder, claimed)
    findings = [
        place(folder, full, track),
        contents(folder, claimed),
        sizes(folder, claimed),
        artifact(folder),
        code(folder, claimed),
        agreement(folder, claimed, kind),
        sameness(folder, claimed, kind),
        training_time(folder, claimed, kind),
        evaluation_time(folder, claimed, kind),
        hardware(folder, claimed, kind),
        training_data(folder, claimed),
        validation,
        byte_counts(claimed, validation),
        gain(folder, claimed, previous_nats, previous_bpb),
        listed(folder, claimed),
    ]
    decided = {finding.point for finding in findings}
    findings += [not_applicable(point, ONLY_RUNNING) for point in POINTS if point not in decided]
    return [_shown(finding) for finding in sorted(findings, key=lambda finding: finding.point)]


def is_record_folder(path: Path) -> bool:
    """Whether a folder is to be taken for a record's: it lies where records do, or holds what one has."""
    if path.parent.name in TRACKS:
        return True
    names = {entry.name.lower() for entry in path.iterdir()}
    telling = any(name.startswith("submission") or name.endswith((".log", ".py")) for name in names)
    return telling or ("readme.md" in names and any(name.endswith((".json", ".txt", ".log.gz")) for name in names))


def track_of(text: Any) -> str | None:
    """The track that a submission.json names, in one of its spellings."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()[:80]) if isinstance(text, str) else ""
    if re.search(r"non_?record|unlimited", plain):
        return NON_RECORD
    return RECORD if re.search(r"10_?min|record", plain) else None


def place(folder: RecordFolder, path: Path, track: str | None) -> PointResult:
    """Point 1: the folder's name and where it lies."""
    causes = []
    name = re.fullmatch(r"(\d{4}-\d{2}-\d{2})_[\w.,+=()&@~-]+", path.name)
    if name is None or not _is_date(name[1]):
        causes.append(Cause(f"the folder is called {path.name}", "call it <date>_<name>, such as 2026-03-25_Int6_XSA"))
    by_place, told = TRACKS.get(path.parent.name), folder.claims.text("track")
    if track is None and (by_place is None or path.parent.parent.name != "records"):
        causes.append(Cause(f"it lies in {path.parent.name}", f"put it into records/{' or records/'.join(TRACKS)}"))
    if by_place is not None and track_of(told) not in (None, by_place):
        level = REMARK if by_place == NON_RECORD else FAILED  # the other track's limits are the wider ones
        what = f"{folder.claims.file} names the track {told}, its place another"
        causes.append(Cause(what, "correct one of them", level))
    return weighed(1, {"folder": path.name, "parent": path.parent.name, "track_told": told}, causes)


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def contents(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Point 2: the files, the form of submission.json, and what train_gpt.py and README's commands need."""
    logged = [one.key for one in claimed.results if isinstance(one.key, int) and one.run is not None]
    evidence: dict[str, Any] = {"files": len(folder.sizes), "seeds_told": list(folder.claims.seeds)}
    evidence |= {"seeds_logged": logged, "fields_not_told": not_told(folder.claims) or 0}
    causes = [*_files(folder), *folder.causes, *folder.claims.causes, *_logs(folder, claimed)]
    if folder.code:
        causes += _script(folder, evidence)
    causes += _commands(folder)
    return weighed(2, evidence, causes[:20])


def _files(folder: RecordFolder) -> Iterator[Cause]:
    """Files that are missing, empty or called otherwise."""
    for name in (README, CLAIMS, CODE):
        size = folder.sizes.get(name)
        stands_in = {CLAIMS: folder.claims.file if folder.claims.fields else None, CODE: folder.script}.get(name)
        alike = next((one for one in folder.sizes if one.lower() == name.lower()), None)
        if size == 0:
            yield Cause(f"{name} is empty", "ship the file that belongs there")
        elif size is None and stands_in is not None and stands_in != name:
            yield Cause(f"{name} is missing; {stands_in} looks like it", f"call it {name}")
        elif size is None and alike is not None:
            yield Cause(f"{name} is called {alike}", f"call it {name}", REMARK)
        elif size is None:
            yield Cause(f"{name} is missing", "add it")


def _logs(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Seeds without a log."""
    without = [one.key for one in claimed.results if one.run is None]
    if not folder.runs:
        yield Cause("there is no log of a run", "add one log for each seed")
    elif not any(run.scores for run in folder.runs):
        names = ", ".join(log.name for log in folder.logs[:5])
        yield Cause(f"no log holds a result ({names})", "add the whole logs", REMARK)
    elif without:
        yield Cause(f"no log of the seeds {without}", "add one log for each seed")


def _script(folder: RecordFolder, evidence: dict[str, Any]) -> Iterator[Cause]:
    """What can be seen of the script: its syntax, its imports and the files that it reads."""
    source, name = folder.source, folder.script
    evidence["code_packed"] = source.packed
    if source.error:
        yield Cause(f"{name} is not valid Python: {source.error}", "ship a script that runs")
        return
    if source.newer_python:
        ran = sorted({run.python for run in folder.runs if run.python})
        told = f"; the log ran on {ran[-1]}" if ran else ""
        here = ".".join(map(str, sys.version_info[:2]))
        needs = f"{name} needs Python {source.newer_python}: not valid for Python {here}, which checks here{told}"
        yield Cause(needs, "say in README.md which Python it needs", REMARK)
    beside = {file.removesuffix(".py").split("/")[0] for file in folder.sizes if file.endswith(".py")}
    needed, optional = missing_requirements(source, folder.requirements, beside)
    evidence |= {"imports_not_listed": needed or 0, "optional_not_listed": optional or 0}
    installs = f"{commands_of(folder.readme, folder.path.name).installs}\n{folder.setup}"
    for module in [*needed, *(module for module in optional if module in source.conditional)]:
        if is_named(module, installs) or is_named(module, folder.readme):
            yield Cause(f"{name} imports {module}, which only {README} tells", f"list it in {REQUIREMENTS}", REMARK)
        else:
            level = REMARK if module in source.conditional else FAILED
            what = f"{name} imports {module}, which {REQUIREMENTS} does not bring"
            yield Cause(what, f"list it in {REQUIREMENTS}", level)
    for file in sorted(file for file in source.opened if file not in folder.sizes):
        yield Cause(f"{name} reads {file}, which is not here", "add it")


def _commands(folder: RecordFolder) -> Iterator[Cause]:
    """Commands of README.md that run or install from files that are not here."""
    told = commands_of(folder.readme, folder.path.name)
    missing = [name for name in told.runs if name not in folder.sizes]
    if missing:
        what = f"{README} runs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not here"
        yield Cause(what, "add the files, or correct the command")
    for name in told.requirements:
        if name not in folder.sizes:
            what = f"{README} installs from {name}, which is not here"
            yield Cause(what, "add it, or say that the repository's own is meant", REMARK)


def artifact(folder: RecordFolder) -> PointResult:
    """Point 4: artifacts of this project that lie in the folder."""
    names = [name for name in folder.sizes if name.endswith(".golf")][:_MOST_ARTIFACTS]
    if not names:
        return not_applicable(4, "no artifact that can be read lies in the folder")
    # Decoding needs PyTorch, whose import takes longer than all the rest; other folders hold no such artifact.
    pack = importlib.import_module("golf.artifact.pack")
    causes, parameters = [], 0
    for name in names:
        try:
            _, weights = pack.read_artifact(folder.path / name)
        except (pack.ArtifactError, OSError) as error:
            causes.append(
                Cause(f"{name} cannot be read: {str(error)[:_LONGEST_TEXT]}", "ship the artifact that was scored")
            )
            continue
        parameters = sum(tensor.numel() for tensor in weights.values())
    told = {round(run.model_bytes.value) for run in folder.runs if run.model_bytes is not None}
    causes += [
        Cause(f"{name} has {folder.sizes[name]:,} bytes, no log tells so", "ship the artifact that was scored")
        for name in names
        if told and folder.sizes[name] not in told
    ]
    evidence = {"artifact_bytes": {name: folder.sizes[name] for name in names}, "parameters": parameters}
    return weighed(4, evidence, causes)


def _shown(finding: PointResult) -> PointResult:
    """A finding whose texts do nothing to a terminal and stay short."""
    why = "" if finding.state == PASSED else _plain(finding.why, 2000)
    causes = tuple(
        replace(cause, text=_plain(cause.text, 600), remedy=_plain(cause.remedy, 200)) for cause in finding.causes
    )
    evidence = {name: _plain_value(one) for name, one in finding.evidence.items()}
    return replace(finding, evidence=evidence, why=why, causes=causes)


def _plain_value(value: Any) -> Any:
    if isinstance(value, (list, tuple, Mapping)) and not value:
        return None  # nothing tells it
    if isinstance(value, str):
        return _plain(value, _LONGEST_TEXT)
    if isinstance(value, Mapping):
        return {_plain(str(name), _LONGEST_TEXT): _plain_value(one) for name, one in list(value.items())[:_MOST_VALUES]}
    if isinstance(value, (list, tuple)):
        return [_plain_value(one) for one in value[:_MOST_VALUES]]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _plain(text: str, longest: int) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: longest + 1])
    return shown if len(shown) <= longest else shown[:longest] + "..."
