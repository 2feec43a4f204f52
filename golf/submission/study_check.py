"""The check of a seed study: each seed's artifact as a run, and what only several seeds can show.

A study's folder and its dataset enter, findings leave. What the seeds have in common is told once.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from golf.compliance.points import (
    FAILED,
    REMARK,
    Cause,
    CheckResult,
    PointResult,
    judged,
    not_applicable,
    rows_of,
    summary_of,
    worst,
)
from golf.compliance.run import Reported, Say, check_data, check_run, silent
from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, RECORD
from golf.data.dataset import Dataset
from golf.pipeline.bundle import counted_code
from golf.pipeline.run_directory import LooseArtifact
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import PackedModel, TrainResult
from golf.submission.record_folder.student import gain_test
from golf.submission.study import SeedRecord, StudyRecord
from golf.submission.study_file import read_study


def check_study(
    study: StudyRecord,
    folder: Path,
    dataset: Dataset,
    group: ProcessGroup,
    *,
    cheap: bool,
    track: str = NON_RECORD,
    say: Say = silent,
) -> list[PointResult]:
    """Returns the results on every point that a study can show, which are all but those of a record folder.

    Args:
        study: a finished study.
        folder: where its artifacts are.
        dataset: the study's own.
        group: one process.
        cheap: seconds for each seed instead of minutes.
        track: the track whose seconds count.
        say: called with what comes next.

    Raises: ValueError when the dataset is not the study's, or a seed has no artifact.
    """
    if study.data.digest not in (None, dataset.digest):
        raise ValueError(
            f"{folder} is of the data {str(study.data.digest)[:12]}, {dataset.folder} is "
            f"{dataset.digest[:12]}; give the study's own with --data"
        )
    code = counted_code(study.config)
    by_seed: dict[int, list[PointResult]] = {}
    for run in study.done:
        if run.artifact is None:
            raise ValueError(f"{folder}: seed {run.seed} has no artifact ({run.artifact_note})")
        artifact = LooseArtifact(folder / run.artifact.name)
        by_seed[run.seed] = check_run(
            study.config,
            dataset,
            artifact,
            group,
            len(code),
            cheap=cheap,
            track=track,
            reported=reported_by_seed(run),
            say=partial(_say, say, run.seed),
        )
    return [*together(by_seed), *check_data(dataset, cheap), *_of_all(study, code, track)]


def saved_check(folder: Path) -> CheckResult:
    """Returns the checks that the seeds of a study got when they ran, merged; nothing is run.

    It has an `error` where a seed was not checked, or the study cannot be read.
    """
    try:
        study = read_study(folder)
    except ValueError as error:
        return summary_of(rows_of([]), error=str(error)[:300])
    checks = {run.seed: run.check for run in study.done if run.check is not None and run.check.error is None}
    unchecked = [str(run.seed) for run in study.done if run.seed not in checks]
    by_seed = {seed: check.points for seed, check in checks.items()}
    results = [*together(by_seed), *_of_all(study, counted_code(study.config), study.track)]
    rows = rows_of(results, "of a record folder, not of a seed study")
    return summary_of(rows, f"seed {', '.join(unchecked)} has no check" if unchecked else None)


def _say(say: Say, seed: int, line: str) -> None:
    say(f"seed {seed}: {line}")


def reported_by_seed(run: SeedRecord) -> Reported:
    """What a study tells of a seed."""
    rungs = {rung.name: rung for rung in run.ladder}
    # The seconds of a calibration are part of the training's here.
    train = None
    if run.train_seconds is not None:
        train = TrainResult(seconds=run.train_seconds, steps=0, tokens=0, device=run.device or "", log=())
    pack = None if run.model_bytes is None else PackedModel(model_bytes=run.model_bytes, seconds=0.0)
    return Reported(rungs, train, pack)


def together(by_seed: Mapping[int, Sequence[PointResult]]) -> list[PointResult]:
    """Returns one result for each point over all seeds: evidence and reasons by seed where they differ."""
    merged = []
    for point in sorted({result.point for results in by_seed.values() for result in results}):
        of_point = [(seed, result) for seed, results in by_seed.items() for result in results if result.point == point]
        state = worst([result for _, result in of_point])
        deciding = [(seed, result) for seed, result in of_point if result.state == state]
        why = "; ".join(dict.fromkeys(result.why for _, result in deciding if result.why))
        if state == FAILED:
            why = f"seed {', '.join(str(seed) for seed, _ in deciding)}: {why}"
        causes = (Cause(why, level=state),) if state in (FAILED, REMARK) else ()
        merged.append(PointResult(point=point, state=state, evidence=_evidence(of_point), why=why, causes=causes))
    return merged


def _evidence(of_point: Sequence[tuple[int, PointResult]]) -> dict[str, Any]:
    """What is equal for all seeds as it is, what differs by seed."""
    values: dict[str, dict[int, Any]] = {}
    for seed, one in of_point:
        for name, value in one.evidence.items():
            values.setdefault(name, {})[seed] = value
    return {
        name: next(iter(found.values())) if len({str(value) for value in found.values()}) == 1 else _named(found)
        for name, found in values.items()
    }


def _named(found: Mapping[int, Any]) -> dict[str, Any]:
    return {f"seed {seed}": value for seed, value in found.items()}


def _of_all(study: StudyRecord, code: bytes, track: str) -> list[PointResult]:
    """Points 5, 7, 24 and 25."""
    ran, now = {run.code_sha256 for run in study.done}, hashlib.sha256(code).hexdigest()
    devices = {run.device for run in study.done}
    versions = {tuple(sorted(run.versions.items())) for run in study.done}
    same = {"seeds": [run.seed for run in study.done], "codes": len(ran), "devices": len(devices)}
    same |= {"environments": len(versions), "without_result": len(study.seeds) - len(study.done)}
    one_thing = len(ran) == len(devices) == len(versions) == 1 and len(study.done) == len(study.seeds)
    missing, others = study.verdict.missing, study.verdict.others
    listed = {"seeds": len(study.seeds), "planned_and_not_there": list(missing), "other_runs_listed": len(others)}
    listed |= {"of_them_with_a_result": sum(run.bpb is not None for run in others)}
    shipped = {"ran": [str(one)[:12] for one in ran], "ships": now[:12]}
    return [
        judged(5, ran == {now}, shipped, "the seeds ran other code, or none has a result"),
        judged(7, one_thing and len(study.done) >= MIN_SEEDS, same, f"{MIN_SEEDS} seeds that are one thing are needed"),
        _gain(study, track),
        judged(25, not missing, listed, "seeds that were planned are not among the runs"),
    ]


def _gain(study: StudyRecord, track: str) -> PointResult:
    """Point 24, computed again from the seeds and the baseline's values."""
    told = study.verdict.comparison
    if told is None or not study.done:
        return not_applicable(24, "the study has no baseline")
    nats = [run.last.nats_per_token for run in study.done]
    ratio = math.fsum(nats) / math.fsum(run.last.bpb for run in study.done)
    test = gain_test(nats, [value * ratio for value in told.values], MARGIN_NATS)
    evidence = {"gain_nats": test.gain, "margin_nats": MARGIN_NATS} | test.evidence()
    if not test.shown and track != RECORD:
        return not_applicable(24, "no gain is shown, and the non-record track asks for none", evidence)
    return judged(24, test.shown, evidence, "the gain is not shown")
