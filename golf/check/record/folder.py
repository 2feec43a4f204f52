"""The checklist on a record folder that somebody else made, without running its code.

The path of a folder enters, findings leave: what its files, its submission.json and its logs tell, compared with each
other and with the rules. What only running shows is not applicable here. Texts of the folder are shown without what a
terminal would act on. Source: openai/parameter-golf, its README and the folders below its `records/`.
"""

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.artifact.container import ArtifactError
from golf.artifact.pack import read_artifact
from golf.check.points import FAILED, NOT_APPLICABLE, PASSED, POINTS, Finding, judged
from golf.check.record.agreement import agreement, claimed_result
from golf.check.record.claims import not_told
from golf.check.record.contents import CLAIMS, CODE, README, RecordFolder, read_folder
from golf.check.record.figures import (
    code,
    evaluation_time,
    gain,
    sameness,
    sizes,
    training_time,
)
from golf.check.record.sources import missing_requirements
from golf.rules import NON_RECORD, RECORD, SP1024_TOKENS, TRACK_FOLDERS

TRACKS = {folder: track for track, folder in TRACK_FOLDERS.items()}
"""Tracks by their folders below `records`."""
LONGEST_SEQUENCE = 1 << 16
"""Tokens at the end of the validation split that a log may leave out, since they fill no sequence."""
_NOT_RUN = "only running shows it, and somebody else's code is not run"
_LONGEST_TEXT, _MOST_VALUES, _MOST_ARTIFACTS = 200, 100, 10


def check_folder(
    path: Path,
    previous_nats: Sequence[float] = (),
    previous_bpb: Sequence[float] = (),
    track: str | None = None,
) -> list[Finding]:
    """A finding on every point.

    Args: previous_nats: nats per token of the previous best: its seeds, or one published mean; previous_bpb: the same
        in BPB, where nats are not given; track: "record" or "non-record" where neither the folder's place nor its
        submission.json shall decide.
    Raises: NotADirectoryError when it is no folder; ValueError on an unknown track.
    """
    if track not in (None, RECORD, NON_RECORD):
        raise ValueError(f'the track must be "{RECORD}" or "{NON_RECORD}", got {track!r}')
    folder = read_folder(path)
    whole = path.resolve()
    kind = track or TRACKS.get(whole.parent.name) or track_of(folder.claims.fields.get("track"))
    result = claimed_result(folder)
    findings = [
        place(folder, whole, track),
        contents(folder),
        sizes(folder),
        artifact(folder),
        code(folder),
        agreement(folder, result),
        sameness(folder),
        training_time(folder, kind),
        evaluation_time(folder, kind),
        hardware(folder, kind),
        training_data(folder),
        validation_data(folder),
        gain(folder, result, previous_nats, previous_bpb),
        listed(folder),
    ]
    decided = {finding.point for finding in findings}
    findings += [Finding(point, NOT_APPLICABLE, {}, _NOT_RUN) for point in POINTS if point not in decided]
    return [_shown(finding) for finding in sorted(findings, key=lambda finding: finding.point)]


def track_of(text: Any) -> str | None:
    """The track that a submission.json names, in one of its spellings."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()[:80]) if isinstance(text, str) else ""
    if re.search(r"non_?record|unlimited", plain):
        return NON_RECORD
    return RECORD if re.search(r"10_?min|record", plain) else None


def place(folder: RecordFolder, path: Path, track: str | None) -> Finding:
    """Point 1: the folder's name and where it lies."""
    problems = []
    name = re.fullmatch(r"(\d{4}-\d{2}-\d{2})_[\w.+=-]+", path.name)
    if name is None or not _is_date(name[1]):
        problems.append("its name must be <date>_<name>, such as 2026-03-25_Int6_XSA")
    by_place, claimed = TRACKS.get(path.parent.name), _text_of(folder, "track")
    if track is None and (by_place is None or path.parent.parent.name != "records"):
        problems.append(f"it lies in {path.parent.name}, not in records/{' or records/'.join(TRACKS)}")
    if by_place is not None and track_of(claimed) not in (None, by_place):
        problems.append(f"submission.json names the track {claimed}, the place another")
    evidence = {"folder": path.name, "parent": path.parent.name, "track_told": claimed}
    return judged(1, not problems, evidence, "; ".join(problems))


def _text_of(folder: RecordFolder, field: str) -> str | None:
    value = folder.claims.fields.get(field)
    return value if isinstance(value, str) else None


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def contents(folder: RecordFolder) -> Finding:
    """Point 2: the files, the form of submission.json, and what can be seen of train_gpt.py."""
    problems = [f"{name} is missing" for name in (README, CLAIMS, CODE) if not folder.sizes.get(name)]
    problems += [*folder.problems, *folder.claims.problems]
    logged = [log.seed for log in folder.runs if log.seed is not None]
    without = [seed for seed in folder.claims.seeds if seed not in logged]
    if not folder.runs:
        problems.append("there is no log of a run")
    elif without:
        problems.append(f"no log of the seeds {without}")
    evidence: dict[str, Any] = {"files": len(folder.sizes), "seeds_told": list(folder.claims.seeds)}
    evidence |= {"seeds_logged": logged, "fields_not_told": not_told(folder.claims) or 0}
    if folder.source.error:
        if CODE in folder.sizes:
            problems.append(f"{CODE} is not valid Python: {folder.source.error}")
    else:
        beside = {name.removesuffix(".py").split("/")[0] for name in folder.sizes if name.endswith(".py")}
        needed, optional = missing_requirements(folder.source, folder.requirements, beside)
        absent = sorted(name for name in folder.source.opened if name not in folder.sizes)
        problems += [f"{CODE} imports {name}, which requirements.txt does not bring" for name in needed]
        problems += [f"{CODE} reads {name}, which is not here" for name in absent]
        evidence |= {"imports_not_listed": needed or 0, "optional_not_listed": optional or 0}
        evidence["code_packed"] = folder.source.packed
    return judged(2, not problems, evidence, "; ".join(problems[:12]))


def artifact(folder: RecordFolder) -> Finding:
    """Point 4: artifacts of this project that lie in the folder."""
    names = [name for name in folder.sizes if name.endswith(".golf")][:_MOST_ARTIFACTS]
    if not names:
        return Finding(4, NOT_APPLICABLE, {}, "no artifact that can be read lies in the folder")
    problems, parameters = [], 0
    for name in names:
        try:
            _, weights = read_artifact(folder.path / name)
        except (ArtifactError, OSError) as error:
            problems.append(f"{name} cannot be read: {str(error)[:_LONGEST_TEXT]}")
            continue
        parameters = sum(tensor.numel() for tensor in weights.values())
    told = {log.model_bytes for log in folder.runs} - {None}
    problems += [
        f"{name} has {folder.sizes[name]:,} bytes, no log tells so"
        for name in names
        if told and folder.sizes[name] not in told
    ]
    evidence = {"artifact_bytes": {name: folder.sizes[name] for name in names}, "parameters": parameters}
    return judged(4, not problems, evidence, "; ".join(problems))


def hardware(folder: RecordFolder, track: str | None) -> Finding:
    """Point 10."""
    named = _text_of(folder, "hardware")
    devices = sorted({log.device for log in folder.runs if log.device is not None})
    worlds = sorted({log.world_size for log in folder.runs if log.world_size is not None})
    evidence = {"hardware_told": named, "devices_logged": devices or None, "world_sizes_logged": worlds or None}
    problems = []
    if not named and not devices:
        problems.append("neither submission.json nor a log names the hardware")
    elif track == RECORD:
        text = f"{named or ''} {' '.join(devices)}"
        eight = worlds == [8] or re.search(r"\b8\s*[x×*]|[x×*]\s*8\b", text) is not None
        if not eight or (worlds and worlds != [8]) or "H100" not in text or any("H100" not in one for one in devices):
            problems.append("the record track is for 8 x H100")
    return judged(10, not problems, evidence, "; ".join(problems) + ": name it in submission.json, as it was")


def training_data(folder: RecordFolder) -> Finding:
    """Point 12, as far as logs tell it."""
    shards = sorted({log.train_shards for log in folder.runs if log.train_shards is not None})
    evidence = {"training_shards": shards or None}
    if any(log.trains_on_validation for log in folder.logs):
        return Finding(12, FAILED, evidence, "a log's training shards are those of the validation split")
    if len(shards) > 1:
        return Finding(12, FAILED, evidence, "the logs tell different numbers of training shards")
    return Finding(12, NOT_APPLICABLE, evidence, "whether documents are shared, only the data show")


def validation_data(folder: RecordFolder) -> Finding:
    """Point 13: the number of validation tokens, where the tokenizer is one whose number is known."""
    tokens = sorted({log.validation_tokens for log in folder.runs if log.validation_tokens is not None})
    tokenizers = sorted({log.tokenizer for log in folder.runs if log.tokenizer is not None})
    evidence: dict[str, Any] = {"validation_tokens": tokens or None, "tokenizer": tokenizers or None}
    if not tokens:
        return Finding(13, NOT_APPLICABLE, evidence, "no log tells the number of validation tokens")
    if tokenizers != ["sp1024"]:
        return Finding(13, NOT_APPLICABLE, evidence, "the right number is known only for the tokenizer sp1024")
    evidence |= {"validation_tokens_whole": SP1024_TOKENS, "validation_sha256": None}
    whole = all(SP1024_TOKENS - LONGEST_SEQUENCE <= count <= SP1024_TOKENS for count in tokens)
    return judged(13, whole, evidence, "the validation split was not scored whole")


def listed(folder: RecordFolder) -> Finding:
    """Point 25: every run whose log lies here is listed; others cannot be seen."""
    logged = {log.seed for log in folder.runs if log.seed is not None}
    seeds = set(folder.claims.seeds)
    more = sorted(log.name for log in folder.logs if log.name not in {run.name for run in folder.runs})
    evidence = {"seeds_listed": sorted(seeds), "seeds_logged": sorted(logged), "other_logs": len(more)}
    evidence |= {"runs_elsewhere": None}
    if not folder.runs:
        return Finding(25, FAILED, evidence, "no log of a run is here")
    if not seeds:
        return Finding(25, NOT_APPLICABLE, evidence, "submission.json lists no seeds to compare the logs with")
    left_out = sorted(logged - seeds)
    return judged(25, not left_out, evidence, f"runs of the seeds {left_out} are here and not listed: list all runs")


def _shown(finding: Finding) -> Finding:
    """A finding whose texts do nothing to a terminal and stay short."""
    why = "" if finding.state == PASSED else _plain(finding.why, 2000)
    return replace(finding, evidence={name: _plain_value(one) for name, one in finding.evidence.items()}, why=why)


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
