"""The record folder of a seed study of a script: the script as it ran, the logs, submission.json and README."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from golf.config.rules import (
    CAP_BYTES,
    MIN_SEEDS,
    P_CLAIM,
    P_LOOSE,
    RECORD,
    RECORD_DEVICE,
    TRACK_FOLDERS,
    TRACK_SECONDS,
)
from golf.submission.entry import JsonObject, Submitter, test_values
from golf.submission.folder import place_folder
from golf.submission.markdown import ENVIRONMENT
from golf.submission.script_study import ScriptSeed, ScriptStudy

BYTES, CODE_BYTES, TRAIN_SECONDS, EVAL_SECONDS = "artifact_bytes", "code_bytes", "train_seconds", "eval_seconds"


def script_faults(study: ScriptStudy, track: str) -> tuple[str, ...]:
    """Returns what forbids a submission that is no draft.

    Args:
        study: a finished study.
        track: "record" or "non-record".
    """
    faults = [] if study.unit == "BPB" else [f"its score is {study.unit}, submissions are judged by val_bpb"]
    faults += [f"seed {run.seed} has no result: {run.state}, {run.reason}" for run in study.seeds if not run.done]
    if len(study.done) < MIN_SEEDS:
        faults.append(f"results of {len(study.done)} seeds, a claim needs {MIN_SEEDS}")
    for run in study.done:
        size = run.metrics.get(BYTES)
        if size is None:
            faults.append(f"seed {run.seed} does not say its bytes")
        elif size > CAP_BYTES:
            faults.append(f"seed {run.seed} takes {size:,.0f} bytes, the cap is {CAP_BYTES:,}")
        if run.log is None:
            faults.append(f"seed {run.seed} has no log")
        faults += [f"seed {run.seed}: {note}" for note in run.notes]
    limit = TRACK_SECONDS[track]
    faults += [
        f"seed {run.seed} takes {run.metrics[name]:.1f} s for {part}, the track allows {limit:.0f} s"
        for run in study.done
        for name, part in ((TRAIN_SECONDS, "training"), (EVAL_SECONDS, "evaluation"))
        if limit is not None and run.metrics.get(name, 0.0) > limit
    ]
    if track == RECORD and not all(part in (study.device or "") for part in RECORD_DEVICE):
        faults.append(f"the record track is timed on 8 x H100, the study ran on {study.device or 'an unknown device'}")
    return tuple(dict.fromkeys([*faults, *study.verdict.faults]))


def script_submission_json(study: ScriptStudy, submitter: Submitter, faults: Sequence[str]) -> JsonObject:
    """Returns the values of submission.json; sizes are those of the largest seed."""
    bpb = study.verdict.bpb
    largest = max(study.done, key=lambda run: run.metrics.get(BYTES, 0.0), default=None)
    sizes = {} if largest is None else largest.metrics
    return {
        "name": submitter.name,
        "author": submitter.author,
        "github_id": submitter.github_id,
        "date": submitter.day.isoformat(),
        "track": TRACK_FOLDERS[submitter.track].removeprefix("track_"),
        "draft": bool(faults),
        "faults": list(faults),
        "val_bpb": None if bpb is None else bpb.mean,
        "val_bpb_std": None if bpb is None else bpb.standard_deviation,
        "val_loss": study.mean("val_loss"),
        "val_loss_std": study.deviation("val_loss"),
        "bytes_total": _whole(sizes.get(BYTES)),
        "bytes_code": _whole(sizes.get(CODE_BYTES)),
        "seeds": [run.seed for run in study.seeds],
        "seed_results": {str(run.seed): _seed_result(run) for run in study.seeds},
        "hardware": study.device or "unknown",
        "versions": study.versions,
        "based_on": list(submitter.based_on),
        "command": study.command,
        "script_sha256": study.script_sha256,
        "test": test_values(study.verdict.comparison),
        "other_runs": [
            {"seed": run.seed, "repeat": run.repeat, "status": run.state, "val_bpb": run.bpb, "why": run.why}
            for run in study.verdict.others
        ],
    }


def _seed_result(run: ScriptSeed) -> JsonObject:
    return {
        "status": run.state,
        "val_bpb": run.score,
        "val_loss": run.metrics.get("val_loss"),
        "bytes_total": _whole(run.metrics.get(BYTES)),
        "train_seconds": run.metrics.get(TRAIN_SECONDS),
        "eval_seconds": run.metrics.get(EVAL_SECONDS),
        "steps": _whole(run.metrics.get("steps")),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def write_script_folder(
    study: ScriptStudy,
    study_folder: Path,
    submitter: Submitter,
    records: Path,
    draft: bool = False,
    force: bool = False,
) -> Path:
    """Writes the record folder below `records`; returns it.

    Args:
        study: a finished study.
        study_folder: with its script and logs.
        submitter: who submits it, as what.
        records: folder of all tracks.
        draft: whether it may have faults, which it then names.
        force: whether a folder that is there is replaced.

    Raises: ValueError naming the faults; FileExistsError; OSError naming what cannot be written.
    """
    faults = script_faults(study, submitter.track)
    if faults and not draft:
        more = "" if len(faults) == 1 else f" ({len(faults)} reasons)"
        raise ValueError(
            f"{study_folder} may not be submitted{more}: {'; '.join(faults)}; correct that, or see it with --draft"
        )
    values = script_submission_json(study, submitter, faults)
    readme = ENVIRONMENT.get_template("SCRIPT_README.md.jinja").render(
        study=study, submitter=submitter, faults=faults, verdict=study.verdict, p_claim=P_CLAIM, p_loose=P_LOOSE
    )

    def fill(folder: Path) -> None:
        (folder / "submission.json").write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        (folder / "README.md").write_text(readme)
        for name in (study.script, *(run.log for run in study.seeds if run.log is not None)):
            shutil.copyfile(study_folder / name, folder / name)

    return place_folder(records / submitter.folder, fill, force)
