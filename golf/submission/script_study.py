"""A finished seed study of somebody's training script as typed records, in a file beside the script and the logs."""

import math
import statistics
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from golf.data.dataset import hash_file
from golf.runtime.files import write_bytes
from golf.submission.study import DONE, Count, Record, Sha256, StudyVerdict

SCRIPT_STUDY_FILE = "script_study.json"
"""The file of a study's folder that holds its record."""
SCRIPT_STUDY_FORMAT: Final = 1
_CLOSE = 1e-9


class ScriptSeed(Record, frozen=True, kw_only=True):
    """One seed of a study, whatever became of it."""

    seed: Count
    trial: str
    """Its id in the ledger."""
    state: str
    """"done", "infeasible" (over a bound) or "failed"."""
    reason: str | None = None
    """Why it is not done."""
    score: float | None = None
    """In the study's unit; None unless it is done."""
    label: str | None = None
    """Words before the score in its output."""
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """What its output says, by name: val_bpb, val_loss, artifact_bytes, code_bytes, train_seconds, steps, ..."""
    notes: tuple[str, ...] = ()
    """What a reader has to know of it."""
    log: str | None = None
    """Its output, a file of the folder."""
    log_sha256: Sha256 | None = None

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.state == DONE


class ScriptStudy(Record, frozen=True, kw_only=True):
    """One configuration of a script under several seeds."""

    format: Literal[1] = SCRIPT_STUDY_FORMAT
    name: str
    script: Annotated[str, msgspec.Meta(pattern=r"^[^/`\s]+$")]
    """The script as it ran, a file of the folder."""
    script_sha256: Sha256
    command: str
    """How each run was started, as a line of a shell; without its seed."""
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    """What was given, by field."""
    unit: str
    """What the scores are: "BPB", or the name of a metric."""
    device: str | None = None
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    seeds: Annotated[tuple[ScriptSeed, ...], msgspec.Meta(min_length=1)]
    verdict: StudyVerdict

    @property
    def done(self) -> tuple[ScriptSeed, ...]:
        """The seeds that have a result."""
        return tuple(run for run in self.seeds if run.done)

    def values(self, metric: str) -> list[float]:
        """Returns a metric of all seeds that have a result; nothing where one of them lacks it."""
        values = [run.metrics[metric] for run in self.done if metric in run.metrics]
        return values if len(values) == len(self.done) else []

    def mean(self, metric: str) -> float | None:
        """Returns the mean of a metric over the seeds; None where one lacks it."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """Returns the standard deviation (n - 1) of a metric over the seeds; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


def write_script_study(folder: Path, study: ScriptStudy) -> Path:
    """Writes the record of a study into its folder, whole; returns its path."""
    write_bytes(folder / SCRIPT_STUDY_FILE, msgspec.json.format(msgspec.json.encode(study), indent=2))
    return folder / SCRIPT_STUDY_FILE


def read_script_study(folder: Path) -> ScriptStudy:
    """Reads the study in `folder`.

    Raises: ValueError naming the file and the field, also where the folder's files are not those that it names.
    """
    path = folder / SCRIPT_STUDY_FILE
    try:
        study = msgspec.json.decode(path.read_bytes(), type=ScriptStudy)
        _check(study, folder)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; give the command of run_seeds.py again, which writes the folder") from error
    return study


def _check(study: ScriptStudy, folder: Path) -> None:
    named = {study.script: study.script_sha256} | {
        run.log: run.log_sha256 for run in study.seeds if run.log is not None and run.log_sha256 is not None
    }
    for name, sha256 in named.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{name} is not in the folder")
        if hash_file(folder / name) != sha256:
            raise ValueError(f"{name} is not the file that the study left")
    scores = [run.score for run in study.done if run.score is not None]
    mean = None if study.verdict.bpb is None else study.verdict.bpb.mean
    if len(scores) != len(study.done) or (scores and mean is None):
        raise ValueError("seeds that are done have no score")
    if mean is not None and not math.isclose(statistics.fmean(scores), mean, rel_tol=_CLOSE):
        raise ValueError(f"the verdict's mean is {mean}, that of its seeds {statistics.fmean(scores)}")
