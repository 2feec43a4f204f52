"""The check of a record folder that somebody else made, without running its code.

What its files, its submission.json and its logs say is compared with each other and with the rules. Texts of the
folder are shown without what a terminal would act on. Source: openai/parameter-golf, its README and the folders below
its `records/`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.compliance.points import ONLY_RUNNING, PASSED, POINTS, PointResult, not_applicable
from golf.config.rules import NON_RECORD, RECORD
from golf.submission.record_folder.agreement import agreement
from golf.submission.record_folder.claimed import claimed_runs
from golf.submission.record_folder.code import code
from golf.submission.record_folder.contents import read_folder
from golf.submission.record_folder.data import byte_counts, training_data, validation_data
from golf.submission.record_folder.figures import evaluation_time, gain, sizes, training_time
from golf.submission.record_folder.files import TRACKS, artifact, files, location, track_of
from golf.submission.record_folder.hardware import hardware
from golf.submission.record_folder.sameness import listed, sameness

_LONGEST_TEXT, _MOST_VALUES = 200, 100


def check_folder(
    path: Path, previous_nats: Sequence[float] = (), previous_bpb: Sequence[float] = (), track: str | None = None
) -> list[PointResult]:
    """Returns the result on every point.

    Args:
        path: of the folder.
        previous_nats: nats per token of the previous best: its seeds, or one published mean.
        previous_bpb: the same in BPB, where nats are not given.
        track: "record" or "non-record" where neither the folder's location nor its submission.json shall decide.

    Raises: NotADirectoryError when it is no folder; ValueError on an unknown track.
    """
    if track not in (None, RECORD, NON_RECORD):
        raise ValueError(f'the track must be "{RECORD}" or "{NON_RECORD}", got {track!r}')
    folder = read_folder(path)
    full = path.resolve()
    kind = track or TRACKS.get(full.parent.name) or track_of(folder.claims.fields.get("track"))
    claimed = claimed_runs(folder)
    validation = validation_data(folder, claimed)
    results = [
        location(folder, full, track),
        files(folder, claimed),
        sizes(folder, claimed),
        artifact(folder),
        code(folder, claimed),
        agreement(folder, claimed, kind),
        sameness(folder, claimed, kind),
        training_time(claimed, kind),
        evaluation_time(claimed, kind),
        hardware(folder, claimed, kind),
        training_data(claimed),
        validation,
        byte_counts(claimed, validation),
        gain(folder, claimed, previous_nats, previous_bpb),
        listed(folder, claimed),
    ]
    decided = {result.point for result in results}
    results += [not_applicable(point, ONLY_RUNNING) for point in POINTS if point not in decided]
    return [_printable(result) for result in sorted(results, key=lambda result: result.point)]


def is_record_folder(path: Path) -> bool:
    """Returns whether a folder is a record's: it is where records are, or holds what one has."""
    if path.parent.name in TRACKS:
        return True
    names = {entry.name.lower() for entry in path.iterdir()}
    typical = any(name.startswith("submission") or name.endswith((".log", ".py")) for name in names)
    return typical or ("readme.md" in names and any(name.endswith((".json", ".txt", ".log.gz")) for name in names))


def _printable(result: PointResult) -> PointResult:
    """Returns a result whose texts do nothing to a terminal and are short."""
    why = "" if result.state == PASSED else _text(result.why, 2000)
    causes = [replace(cause, text=_text(cause.text, 600), remedy=_text(cause.remedy)) for cause in result.causes]
    evidence = {name: _value(value) for name, value in result.evidence.items()}
    return replace(result, evidence=evidence, why=why, causes=tuple(causes))


def _value(value: Any) -> Any:
    """Returns a value of evidence with printable texts; None for what is empty or no finite number."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(str(name)): _value(part) for name, part in list(value.items())[:_MOST_VALUES]} or None
    if isinstance(value, (list, tuple)):
        return [_value(part) for part in value[:_MOST_VALUES]] or None
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _text(text: str, longest: int = _LONGEST_TEXT) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: longest + 1])
    return shown if len(shown) <= longest else shown[:longest] + "..."
