"""The check of a seed study: each seed's artifact as a run, and what only several seeds can show."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from golf.compliance.points import (
    FAILED,
    REMARK,
    Cause,
    CheckResult,
    Evidence,
    PointResult,
    judged,
    not_applicable,
    rows_of,
    summary_of,
    worst,
)
from golf.compliance.run import CheckOptions, Reported, check_data, check_run
from golf.config.rules import MARGIN_NATS, MIN_SEEDS, RECORD
from golf.data.dataset import Dataset
from golf.pipeline.run_directory import LooseArtifact
from golf.pipeline.stage_context import StageContext
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import PackedModel, TrainResult
from golf.submission.code import study_code
from golf.submission.record_folder.student import gain_test
from golf.submission.study import SeedRecord, StudyRecord
from golf.submission.study_file import read_study

NOT_OF_A_STUDY = "of a record folder, not of a seed study"
"""Why the other points do not apply to a study."""


def check_study(
    study: StudyRecord, folder: Path, dataset: Dataset, group: ProcessGroup, options: CheckOptions
) -> list[PointResult]:
    """Returns the results on every point that a study can show, which are all but those of a record folder.

    Args:
        study: a finished study.
        folder: where its artifacts are.
        dataset: the study's own.
        group: one process.
        options: how each seed is checked.

    Raises: ValueError when the dataset is not the study's, or a seed has no artifact.
    """
    if study.data.digest not in (None, dataset.digest):
        raise ValueError(
            f"{folder} is of the data {str(study.data.digest)[:12]}, {dataset.folder} is "
            f"{dataset.digest[:12]}; give the study's own with --data"
        )
    code = study_code(study.config, folder)
    by_seed: dict[int, list[PointResult]] = {}
    for seed in study.done:
        if seed.artifact is None:
            raise ValueError(f"{folder}: seed {seed.seed} has no artifact ({seed.artifact_note})")
        artifact = LooseArtifact(folder / seed.artifact.name)
        run = StageContext(config=study.config, dataset=dataset, directory=artifact, group=group)
        of_seed = replace(options, say=partial(_say, options, seed.seed))
        by_seed[seed.seed] = check_run(run, len(code), of_seed, reported_by(seed))
    return [*merge_seeds(by_seed), *check_data(dataset, options.cheap), *_of_all(study, code, options.track)]


def _say(options: CheckOptions, seed: int, line: str) -> None:
    options.say(f"seed {seed}: {line}")


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
    results = [*merge_seeds(by_seed), *_of_all(study, study_code(study.config, folder), study.track)]
    incomplete = f"seed {', '.join(unchecked)} has no check" if unchecked else None
    return summary_of(rows_of(results, NOT_OF_A_STUDY), incomplete)


def reported_by(run: SeedRecord) -> Reported:
    """Returns what a study says of a seed; the seconds of a calibration are part of the training's here."""
    train = pack = None
    if run.train_seconds is not None:
        train = TrainResult(seconds=run.train_seconds, steps=0, tokens=0, device=run.device or "", log=())
    if run.model_bytes is not None:
        pack = PackedModel(model_bytes=run.model_bytes, seconds=0.0)
    return Reported(rungs={rung.name: rung for rung in run.ladder}, train=train, pack=pack)


def merge_seeds(by_seed: Mapping[int, Sequence[PointResult]]) -> list[PointResult]:
    """Returns one result for each point over all seeds: evidence and reasons by seed where they differ."""
    merged = []
    for point in sorted({result.point for results in by_seed.values() for result in results}):
        of_point = {seed: result for seed, results in by_seed.items() for result in results if result.point == point}
        state = worst(of_point.values())
        deciding = {seed: result for seed, result in of_point.items() if result.state == state}
        why = "; ".join(dict.fromkeys(result.why for result in deciding.values() if result.why))
        if state == FAILED:
            why = f"seed {', '.join(map(str, deciding))}: {why}"
        causes = (Cause(why, level=state),) if state in (FAILED, REMARK) else ()
        evidence = _merge_evidence({seed: result.evidence for seed, result in of_point.items()})
        merged.append(PointResult(point=point, state=state, evidence=evidence, why=why, causes=causes))
    return merged


def _merge_evidence(by_seed: Mapping[int, Evidence]) -> Evidence:
    """Returns what is equal for all seeds as it is, what differs by seed."""
    merged: Evidence = {}
    for name in dict.fromkeys(name for evidence in by_seed.values() for name in evidence):
        values: Evidence = {f"seed {seed}": ev[name] for seed, ev in by_seed.items() if name in ev}
        equal = len({str(value) for value in values.values()}) == 1
        merged[name] = next(iter(values.values())) if equal else values
    return merged


def _of_all(study: StudyRecord, code: bytes, track: str) -> list[PointResult]:
    """Returns the results on points 5, 7, 24 and 25."""
    done, others, missing = study.done, study.verdict.others, study.verdict.missing
    ran, ships = {run.code_sha256 for run in done}, hashlib.sha256(code).hexdigest()
    devices = {run.device for run in done}
    versions = {tuple(sorted(run.versions.items())) for run in done}
    one_thing = len(ran) == len(devices) == len(versions) == 1 and len(done) == len(study.seeds) >= MIN_SEEDS
    shipped = {"ran": [str(digest)[:12] for digest in ran], "ships": ships[:12]}
    same = {
        "seeds": [run.seed for run in done],
        "codes": len(ran),
        "devices": len(devices),
        "environments": len(versions),
        "without_result": len(study.seeds) - len(done),
    }
    listed = {
        "seeds": len(study.seeds),
        "planned_and_not_there": list(missing),
        "other_runs_listed": len(others),
        "of_them_with_a_result": sum(run.bpb is not None for run in others),
    }
    return [
        judged(5, ran == {ships}, shipped, "the seeds ran other code, or none has a result"),
        judged(7, one_thing, same, f"{MIN_SEEDS} seeds that are one thing are needed"),
        _gain(study, track),
        judged(25, not missing, listed, "seeds that were planned are not among the runs"),
    ]


def _gain(study: StudyRecord, track: str) -> PointResult:
    """Returns the result on point 24, computed again from the seeds and the baseline's values."""
    comparison = study.verdict.comparison
    if comparison is None or not study.done:
        return not_applicable(24, "the study has no baseline")
    nats = [run.last.nats_per_token for run in study.done]
    ratio = math.fsum(nats) / math.fsum(run.last.bpb for run in study.done)
    test = gain_test(nats, [value * ratio for value in comparison.values], MARGIN_NATS)
    evidence = {"gain_nats": test.gain, "margin_nats": MARGIN_NATS} | test.evidence()
    if not test.shown and track != RECORD:
        return not_applicable(24, "no gain is shown, and the non-record track asks for none", evidence)
    return judged(24, test.shown, evidence, "the gain is not shown")
