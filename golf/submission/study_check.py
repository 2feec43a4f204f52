"""The check of a seed study: each seed's artifact as a run, and what only several seeds can show.

A study's folder and its dataset enter, findings leave. What the seeds have in common is told once.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from golf.compliance.points import FAILED, NOT_APPLICABLE, Finding, judged, rows_of, to_json, worst
from golf.compliance.run import Reported, Say, check_data, check_run, silent
from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, RECORD
from golf.data.dataset import Dataset
from golf.pipeline.bundle import counted_code
from golf.pipeline.run_directory import LooseArtifact
from golf.runtime.process_group import ProcessGroup
from golf.runtime.results import PackedModel, TrainResult
from golf.submission.record_folder.student import gain_test
from golf.submission.study import SeedRun, SeedStudy
from golf.submission.study_file import read_study


def check_study(
    study: SeedStudy, dataset: Dataset, group: ProcessGroup, *, cheap: bool, track: str = NON_RECORD, say: Say = silent
) -> list[Finding]:
    """What can be said of a study on every point but those of a folder.

    Raises: ValueError when the dataset is not the study's, or a seed has no artifact.
    """
    if study.data.digest not in (None, dataset.digest):
        raise ValueError(
            f"{study.folder} is of the data {str(study.data.digest)[:12]}, {dataset.folder} is "
            f"{dataset.digest[:12]}; give the study's own with --data"
        )
    code = counted_code(study.config)
    by_seed: dict[int, list[Finding]] = {}
    for run in study.done:
        if run.artifact is None:
            raise ValueError(f"{study.folder}: seed {run.seed} has no artifact ({run.artifact_note})")
        folder = LooseArtifact(study.folder / run.artifact.name)
        by_seed[run.seed] = check_run(
            study.config,
            dataset,
            folder,
            group,
            len(code),
            cheap=cheap,
            track=track,
            reported=reported_by_seed(run),
            say=partial(_say, say, run.seed),
        )
    return [*together(by_seed), *check_data(dataset, cheap), *_of_all(study, code, track)]


def kept_check(folder: Path) -> dict[str, Any]:
    """What a study's seeds were found to be when they ran, and what several show together; nothing is run.

    Returns: as `golf.compliance.points.to_json`; "error" where a seed was not checked, or the study cannot be read.
    """
    try:
        study = read_study(folder)
    except ValueError as error:
        return {**to_json(rows_of([])), "error": str(error)[:300]}
    silent = [run.seed for run in study.done if run.check is None or "error" in run.check]
    by_seed = {
        run.seed: [Finding(row["point"], row["state"], row["evidence"], row["why"]) for row in run.check["points"]]
        for run in study.done
        if run.check is not None and run.seed not in silent
    }
    of_all = _of_all(study, counted_code(study.config), study.track)
    told = to_json(rows_of([*together(by_seed), *of_all], "of a record folder, not of a seed study"))
    return told | ({"error": f"seed {', '.join(map(str, silent))} has no check"} if silent else {})


def _say(say: Say, seed: int, line: str) -> None:
    say(f"seed {seed}: {line}")


def reported_by_seed(run: SeedRun) -> Reported:
    """What a study tells of a seed."""
    rungs = {rung.name: rung for rung in run.ladder}
    # The seconds of a calibration are part of the training's here.
    train = None
    if run.train_seconds is not None:
        train = TrainResult(seconds=run.train_seconds, steps=0, tokens=0, device=run.device or "", log=())
    pack = None if run.model_bytes is None else PackedModel(model_bytes=run.model_bytes, seconds=0.0)
    return Reported(rungs, train, pack)


def together(by_seed: Mapping[int, Sequence[Finding]]) -> list[Finding]:
    """The findings of all seeds, a point at a time: evidence and reasons by seed where they differ."""
    found = []
    for point in sorted({finding.point for findings in by_seed.values() for finding in findings}):
        of_point = [(seed, one) for seed, findings in by_seed.items() for one in findings if one.point == point]
        state = worst([one for _, one in of_point])
        told = [(seed, one) for seed, one in of_point if one.state == state]
        reasons = dict.fromkeys(one.why for _, one in told if one.why)
        whose = f"seed {', '.join(str(seed) for seed, _ in told)}: " if state == FAILED else ""
        found.append(Finding(point, state, _evidence(of_point), whose + "; ".join(reasons) if reasons else ""))
    return found


def _evidence(of_point: Sequence[tuple[int, Finding]]) -> dict[str, Any]:
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


def _of_all(study: SeedStudy, code: bytes, track: str) -> list[Finding]:
    """Points 5, 7, 24 and 25."""
    ran, now = {run.code_sha256 for run in study.done}, hashlib.sha256(code).hexdigest()
    devices = {run.device for run in study.done}
    versions = {tuple(sorted(run.versions.items())) for run in study.done}
    same = {"seeds": [run.seed for run in study.done], "codes": len(ran), "devices": len(devices)}
    same |= {"environments": len(versions), "without_result": len(study.seeds) - len(study.done)}
    one_thing = len(ran) == len(devices) == len(versions) == 1 and len(study.done) == len(study.seeds)
    missing, others = study.statistics.missing, study.statistics.others
    listed = {"seeds": len(study.seeds), "planned_and_not_there": list(missing), "other_runs_listed": len(others)}
    listed |= {"of_them_with_a_result": sum(run.bpb is not None for run in others)}
    shipped = {"ran": [str(one)[:12] for one in ran], "ships": now[:12]}
    return [
        judged(5, ran == {now}, shipped, "the seeds ran other code, or none has a result"),
        judged(7, one_thing and len(study.done) >= MIN_SEEDS, same, f"{MIN_SEEDS} seeds that are one thing are needed"),
        _gain(study, track),
        judged(25, not missing, listed, "seeds that were planned are not among the runs"),
    ]


def _gain(study: SeedStudy, track: str) -> Finding:
    """Point 24, computed again from the seeds and the baseline's values."""
    told = study.statistics.comparison
    if told is None or not study.done:
        return Finding(24, NOT_APPLICABLE, {}, "the study has no baseline")
    nats = [run.last.nats_per_token for run in study.done]
    ratio = math.fsum(nats) / math.fsum(run.last.bpb for run in study.done)
    test = gain_test(nats, [value * ratio for value in told.values], MARGIN_NATS)
    evidence = {"gain_nats": test.gain, "margin_nats": MARGIN_NATS} | test.evidence()
    if not test.shown and track != RECORD:
        return Finding(24, NOT_APPLICABLE, evidence, "no gain is shown, and the non-record track asks for none")
    return judged(24, test.shown, evidence, "the gain is not shown")
