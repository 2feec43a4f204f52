"""The points of a record folder about its files: location, contents, artifacts (1, 2, 4)."""

import datetime
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, not_applicable, weighed
from golf.config.rules import NON_RECORD, RECORD, TRACK_FOLDERS
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.claims import FILE as CLAIMS
from golf.submission.record_folder.claims import Json
from golf.submission.record_folder.contents import CODE, README, REQUIREMENTS, RecordFolder
from golf.submission.record_folder.readme import Commands, commands_of
from golf.submission.record_folder.sources import is_named, missing_requirements

TRACKS = {folder: track for track, folder in TRACK_FOLDERS.items()}
"""Tracks by their folders below `records`."""
_LONGEST_ERROR, _MOST_CAUSES, _MOST_ARTIFACTS = 200, 20, 10


def track_of(text: Json) -> str | None:
    """Returns the track that a submission.json names, in one of its spellings."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()[:80]) if isinstance(text, str) else ""
    if re.search(r"non_?record|unlimited", plain):
        return NON_RECORD
    return RECORD if re.search(r"10_?min|record", plain) else None


def location(folder: RecordFolder, path: Path, track: str | None) -> PointResult:
    """Returns the result on point 1: the folder's name and where it is."""
    causes = []
    name = re.fullmatch(r"(\d{4}-\d{2}-\d{2})_[\w.,+=()&@~-]+", path.name)
    try:
        datetime.date.fromisoformat(name[1] if name is not None else "")
    except ValueError:
        causes.append(Cause(f"the folder is called {path.name}", "call it <date>_<name>, such as 2026-03-25_Int6_XSA"))
    by_parent, claimed = TRACKS.get(path.parent.name), folder.claims.text("track")
    if track is None and (by_parent is None or path.parent.parent.name != "records"):
        causes.append(Cause(f"it lies in {path.parent.name}", f"put it into records/{' or records/'.join(TRACKS)}"))
    if by_parent is not None and track_of(claimed) not in (None, by_parent):
        level = REMARK if by_parent == NON_RECORD else FAILED  # the other track's limits are the wider ones
        text = f"{folder.claims.file} names the track {claimed}, its place another"
        causes.append(Cause(text, "correct one of them", level))
    return weighed(1, {"folder": path.name, "parent": path.parent.name, "track_claimed": claimed}, causes)


def files(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 2: the files, the form of submission.json, what commands and code need."""
    evidence: Evidence = {
        "files": len(folder.sizes),
        "seeds_claimed": list(folder.claims.seeds),
        "seeds_logged": [run.key for run in claimed.results if isinstance(run.key, int) and run.run is not None],
        "fields_missing": folder.claims.missing_fields or 0,
    }
    causes = [*_missing_files(folder), *folder.causes, *folder.claims.causes, *_missing_logs(folder, claimed)]
    commands = commands_of(folder.readme, folder.path.name)
    if folder.code:
        evidence["code_packed"] = folder.source.packed
        causes += _script(folder)
        if not folder.source.error:
            beside = {file.removesuffix(".py").split("/")[0] for file in folder.sizes if file.endswith(".py")}
            needed, optional = missing_requirements(folder.source, folder.requirements, beside)
            evidence |= {"imports_not_listed": needed or 0, "optional_not_listed": optional or 0}
            conditional = [module for module in optional if module in folder.source.conditional]
            causes += _packages(folder, commands, [*needed, *conditional])
    causes += _commands(folder, commands)
    return weighed(2, evidence, causes[:_MOST_CAUSES])


def _missing_files(folder: RecordFolder) -> Iterator[Cause]:
    for name in (README, CLAIMS, CODE):
        size = folder.sizes.get(name)
        stand_in = {CLAIMS: folder.claims.file if folder.claims.fields else None, CODE: folder.script}.get(name)
        alike = next((other for other in folder.sizes if other.lower() == name.lower()), None)
        if size == 0:
            yield Cause(f"{name} is empty", "ship the file that belongs there")
        elif size is None and stand_in not in (None, name):
            yield Cause(f"{name} is missing; {stand_in} looks like it", f"call it {name}")
        elif size is None and alike is not None:
            yield Cause(f"{name} is called {alike}", f"call it {name}", REMARK)
        elif size is None:
            yield Cause(f"{name} is missing", "add it")


def _missing_logs(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    without = [result.key for result in claimed.results if result.run is None]
    if not folder.runs:
        yield Cause("there is no log of a run", "add one log for each seed")
    elif not any(run.scores for run in folder.runs):
        names = ", ".join(log.name for log in folder.logs[:5])
        yield Cause(f"no log holds a result ({names})", "add the whole logs", REMARK)
    elif without:
        yield Cause(f"no log of the seeds {without}", "add one log for each seed")


def _script(folder: RecordFolder) -> Iterator[Cause]:
    """Yields what is wrong with the script: its syntax, and files that it reads and that are missing."""
    source, name = folder.source, folder.script
    if source.error:
        yield Cause(f"{name} is not valid Python: {source.error}", "ship a script that runs")
        return
    if source.newer_python:
        versions = sorted({run.python for run in folder.runs if run.python})
        ran = f"; the log ran on {versions[-1]}" if versions else ""
        here = ".".join(map(str, sys.version_info[:2]))
        text = f"{name} needs Python {source.newer_python}: not valid for Python {here}, which checks here{ran}"
        yield Cause(text, "say in README.md which Python it needs", REMARK)
    for file in sorted(source.opened - folder.sizes.keys()):
        yield Cause(f"{name} reads {file}, which is not here", "add it")


def _packages(folder: RecordFolder, commands: Commands, modules: list[str]) -> Iterator[Cause]:
    """Yields modules that the script imports and that requirements.txt does not list."""
    elsewhere = f"{commands.installs}\n{folder.setup}\n{folder.readme}"
    for module in modules:
        named = is_named(module, elsewhere)
        what = f"only {README} names" if named else f"{REQUIREMENTS} does not bring"
        level = REMARK if named or module in folder.source.conditional else FAILED
        yield Cause(f"{folder.script} imports {module}, which {what}", f"list it in {REQUIREMENTS}", level)


def _commands(folder: RecordFolder, commands: Commands) -> Iterator[Cause]:
    """Yields commands of README.md that run or install from files that are not here."""
    missing = [name for name in commands.runs if name not in folder.sizes]
    if missing:
        text = f"{README} runs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not here"
        yield Cause(text, "add the files, or correct the command")
    for name in commands.requirements:
        if name not in folder.sizes:
            text = f"{README} installs from {name}, which is not here"
            yield Cause(text, "add it, or say that the repository's own is meant", REMARK)


def artifact(folder: RecordFolder) -> PointResult:
    """Returns the result on point 4: artifacts of this project in the folder."""
    names = [name for name in folder.sizes if name.endswith(".golf")][:_MOST_ARTIFACTS]
    if not names:
        return not_applicable(4, "no artifact that can be read lies in the folder")
    # Decoding needs PyTorch, whose import takes longer than all the rest; other folders hold no such artifact.
    pack = importlib.import_module("golf.artifact.pack")
    causes, parameters, remedy = [], 0, "ship the artifact that was scored"
    logged = {round(run.model_bytes.value) for run in folder.runs if run.model_bytes is not None}
    for name in names:
        try:
            _, weights = pack.read_artifact(folder.path / name)
            parameters = sum(tensor.numel() for tensor in weights.values())
        except (pack.ArtifactError, OSError) as error:
            causes.append(Cause(f"{name} cannot be read: {str(error)[:_LONGEST_ERROR]}", remedy))
        if logged and folder.sizes[name] not in logged:
            causes.append(Cause(f"{name} has {folder.sizes[name]:,} bytes, in no log", remedy))
    evidence = {"artifact_bytes": {name: folder.sizes[name] for name in names}, "parameters": parameters}
    return weighed(4, evidence, causes)
