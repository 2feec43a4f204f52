"""Reads the folder that a finished seed study leaves: study.json, an artifact and a log for each seed.

The folder enters, a `SeedStudy` leaves; every number of a submission comes from it. It is believed only as far as it
agrees with itself: sizes add up, scores are those of their chunks, the mean is that of its seeds, artifacts have the
bytes that are named. Nothing is written here.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from golf.compliance.points import check_from_plain
from golf.config.config import RunConfig, from_plain
from golf.data.dataset import hash_file
from golf.evaluate.sliding import Scored
from golf.runtime.files import read_json
from golf.runtime.results import LADDER, Rung
from golf.submission.fields import STUDY_FILE, Fields
from golf.submission.study import (
    Comparison,
    Mean,
    OtherRun,
    SeedRun,
    SeedStudy,
    Statistics,
    StudyData,
    StudyFile,
)

STUDY_FORMAT = 1
"""Of study.json; raised when a reader of the last form would misread it."""
REMEDY = "give the command of run_seeds.py again, which writes the folder anew"
_CLOSE = 1e-9
"""Relative: sums of floats in another order."""


def read_study(folder: Path) -> SeedStudy:
    """The study in `folder`.

    Raises: FileNotFoundError naming what leaves such a folder; ValueError naming file, field, value and remedy.
    """
    path = folder / STUDY_FILE if folder.name != STUDY_FILE else folder
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: give the folder of a seed study, which run_seeds.py leaves in storage/studies"
        )
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object, got {str(values)[:40]}; {REMEDY}")
    fields = Fields(path, values, remedy=REMEDY)
    if fields.whole("format") != STUDY_FORMAT:
        raise fields.wrong("format", f"{STUDY_FORMAT}, which this version reads")
    config = _config(fields)
    study = SeedStudy(
        folder=path.parent,
        name=fields.text("study"),
        preset=fields.text("preset"),
        track=fields.text("track"),
        config=config,
        data=_data(fields.part("data")),
        seeds=tuple(_seed(one) for one in fields.parts("seeds")),
        statistics=_statistics(fields.part("verdict")),
    )
    if not study.seeds or len({run.seed for run in study.seeds}) < len(study.seeds):
        raise fields.wrong("seeds", "one or more different seeds")
    _check_mean(study, fields.part("verdict"))
    return study


def _config(fields: Fields) -> RunConfig:
    """The configuration. Raises: ValueError naming the file and the field."""
    plain = fields.part("config").values
    if "seed" in plain:
        raise fields.part("config").wrong("seed", "left out, for every seed has its own")
    try:
        return replace(from_plain(RunConfig, plain), seed=RunConfig().seed)
    except ValueError as error:
        raise ValueError(f"{fields.file}: config: {error}; {REMEDY}") from error


def _data(fields: Fields) -> StudyData:
    return StudyData(
        digest=fields.maybe("digest", fields.text),
        name=fields.maybe("name", fields.text),
        files=fields.by_name("files", Fields.hash) if fields.has("files") else None,
        train_tokens=fields.maybe("train_tokens", fields.whole),
        validation_tokens=fields.maybe("validation_tokens", fields.whole),
        validation_bytes=fields.maybe("validation_bytes", fields.whole),
    )


def _seed(fields: Fields) -> SeedRun:
    tags = fields.part("tags")
    run = SeedRun(
        seed=fields.whole("seed"),
        trial=fields.text("trial"),
        status=fields.text("status"),
        cause=fields.maybe("cause", fields.text),
        ladder=tuple(_rung(one) for one in fields.parts("ladder")),
        metrics=fields.by_name("metrics", Fields.number),
        curves=fields.by_name("curves", lambda part, name: part.rows(name, 3)),
        byte_groups=fields.by_name("byte_groups", lambda part, name: part.by_name(name, Fields.number)),
        model_bytes=fields.maybe("model_bytes", fields.whole),
        code_bytes=fields.maybe("code_bytes", fields.whole),
        code_sha256=fields.maybe("code_sha256", fields.hash),
        train_seconds=fields.maybe("train_seconds", fields.number),
        evaluation_seconds=fields.maybe("evaluation_seconds", fields.number),
        cold=fields.maybe("cold", fields.flag),
        device=tags.maybe("device", tags.text),
        versions=fields.by_name("versions", Fields.text),
        commit=tags.maybe("git_commit", tags.text),
        ranks=tags.maybe("ranks", tags.text),
        artifact=_file_beside(fields.part("artifact")) if fields.has("artifact") else None,
        artifact_note=fields.maybe("artifact_note", fields.text),
        log=_file_beside(fields.part("log")) if fields.has("log") else None,
        check=check_from_plain(fields.part("check").values) if fields.has("check") else None,
    )
    _check_seed(run, fields)
    return run


def _rung(fields: Fields) -> Rung:
    if fields.text("name") not in LADDER:
        raise fields.wrong("name", f"one of {', '.join(LADDER)}")
    chunks = [(nats, int(tokens), int(size)) for nats, tokens, size in fields.rows("chunks", 3)]
    rung = Rung(
        fields.text("name"), fields.number("bpb"), fields.number("nats_per_token"), fields.number("seconds"), chunks
    )
    if chunks:
        scored = Scored.of(chunks)
        for name, value in (("bpb", scored.bpb), ("nats_per_token", scored.nats_per_token)):
            if not math.isclose(getattr(rung, name), value, rel_tol=_CLOSE):
                raise fields.wrong(name, f"{value!r}, as its chunks give")
    return rung


def _file_beside(fields: Fields) -> StudyFile:
    """An artifact or log, checked to be the named bytes."""
    found = StudyFile(fields.text("file"), fields.whole("bytes"), fields.hash("sha256"))
    path = fields.file.parent / found.name
    if Path(found.name).name != found.name or not path.is_file():
        raise fields.wrong("file", "a file beside study.json")
    if path.stat().st_size != found.num_bytes:
        raise fields.wrong("bytes", f"{path.stat().st_size}, the size of {found.name}")
    if hash_file(path) != found.sha256:
        raise fields.wrong("sha256", f"the hash of {found.name}, which has changed")
    return found


def _check_seed(run: SeedRun, fields: Fields) -> None:
    """Raises: ValueError where a seed's numbers disagree with each other."""
    if run.done:
        if not run.ladder:
            raise fields.wrong("ladder", "the rungs of a seed that is done")
        if run.artifact_bytes is None:
            raise fields.wrong(
                "model_bytes" if run.model_bytes is None else "code_bytes", "known of a seed that is done"
            )
        for name, value in (("bpb", run.last.bpb), ("nats", run.last.nats_per_token)):
            if fields.number(name) != value:
                raise fields.wrong(name, f"{value!r}, that of the last rung")
    for name, size in (("model_bytes", run.model_bytes), ("code_bytes", run.code_bytes)):
        if run.metrics.get(name, size) != size:
            raise fields.wrong(name, f"{run.metrics[name]:.0f}, as in its metrics")
    if run.artifact is not None and run.artifact.num_bytes != run.model_bytes:
        raise fields.wrong("model_bytes", f"{run.artifact.num_bytes}, the size of {run.artifact.name}")


def _statistics(fields: Fields) -> Statistics:
    others = [(one.part("run"), one.text("why")) for one in fields.parts("others")]
    others += [(one, "the same seed again, for its noise") for one in fields.parts("repeats")]
    cap = fields.part("cap") if fields.has("cap") else None
    return Statistics(
        bpb=_mean(fields.part("bpb")) if fields.has("bpb") else None,
        nats=_mean(fields.part("nats")) if fields.has("nats") else None,
        cap_probability=None if cap is None else cap.maybe("probability", cap.number),
        comparison=_comparison(fields) if fields.has("baseline") and fields.has("gain_nats") else None,
        missing=tuple(int(seed) for seed in fields.numbers("missing")),
        others=tuple(_other(run, why) for run, why in others),
        faults=fields.texts("faults"),
        notes=fields.texts("notes"),
        text=fields.text("text"),
    )


def _mean(fields: Fields) -> Mean:
    return Mean(
        fields.number("mean"),
        fields.maybe("standard_deviation", fields.number),
        fields.maybe("interval", fields.numbers),
        fields.number("level"),
    )


def _comparison(fields: Fields) -> Comparison:
    baseline, nats = fields.part("baseline"), fields.part("gain_nats")
    return Comparison(
        baseline=baseline.text("name"),
        values=baseline.numbers("bpb"),
        published=baseline.flag("published"),
        gain_nats=nats.number("gain"),
        gain_bpb=fields.part("gain_bpb").number("gain"),
        margin_nats=nats.number("margin"),
        interval_nats=nats.maybe("interval", nats.numbers),
        level=nats.number("level"),
        degrees_of_freedom=nats.maybe("degrees_of_freedom", nats.number),
        p=nats.maybe("p", nats.number),
        claim=fields.maybe("claim", fields.flag),
        loose=fields.maybe("loose", fields.flag),
    )


def _other(fields: Fields, why: str) -> OtherRun:
    bpb, trial = fields.maybe("bpb", fields.number), fields.text("trial")
    return OtherRun(fields.whole("seed"), fields.whole("repeat"), fields.text("status"), bpb, trial, why)


def _check_mean(study: SeedStudy, verdict: Fields) -> None:
    """Raises: ValueError unless the verdict's means and deviations are those of the seeds."""
    told = (
        ("bpb", study.statistics.bpb, [run.last.bpb for run in study.done]),
        ("nats", study.statistics.nats, [run.last.nats_per_token for run in study.done]),
    )
    for name, summary, values in told:
        if (summary is None) != (not values):
            raise verdict.wrong(name, "the mean of the seeds that are done")
        if summary is not None:
            _check_summary(summary, values, verdict.part(name))


def _check_summary(summary: Mean, values: Sequence[float], fields: Fields) -> None:
    if not math.isclose(summary.mean, statistics.fmean(values), rel_tol=_CLOSE):
        raise fields.wrong("mean", f"{statistics.fmean(values)!r}, the mean of the seeds")
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    if not math.isclose(summary.deviation or 0.0, deviation, rel_tol=1e-6, abs_tol=1e-12):
        raise fields.wrong("standard_deviation", f"{deviation!r}, that of the seeds")
