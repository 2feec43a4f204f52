"""submission.json: who submits, and the study's figures in the form of other submissions.

Sizes are those of the largest seed, because that is the one that has to fit; "seed_results" has every seed's own.
"""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from golf.config.config import to_plain
from golf.config.rules import RECIPE_PR, TRACK_FOLDERS
from golf.runtime.results import digest
from golf.submission.code import ShippedCode, versions_of
from golf.submission.markdown import one_line
from golf.submission.study import Comparison, SeedRecord, StudyRecord

_LONGEST = 100
"""Most characters of a name."""
JsonObject = dict[str, Any]
"""An object of submission.json."""


@dataclass(frozen=True)
class Submitter:
    """What the study does not know: who submits it, under which title, to which track."""

    author: str
    github_id: str
    name: str
    """Title of the submission."""
    day: date
    track: str
    """"record" or "non-record"."""
    notes: str = ""
    """What is new and why, in Markdown."""
    based_on: tuple[int, ...] = (RECIPE_PR,)
    """Numbers of the pull requests that it builds on."""

    def __post_init__(self) -> None:
        for option, value in (("--author", self.author), ("--name", self.name)):
            if not value.strip() or one_line(value) != value or len(value) > _LONGEST:
                raise ValueError(
                    f"{option} must be one line of 1 to {_LONGEST} characters without control characters or double "
                    f"spaces, got {value!r}"
                )
        if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}", self.github_id):
            raise ValueError(
                "--github-id must be a GitHub login: letters, digits and single hyphens between them, at most 39, got "
                f"{self.github_id!r}"
            )
        if any(number < 1 for number in self.based_on):
            raise ValueError(f"--based-on must be numbers of pull requests, got {self.based_on}")
        if not self.slug:
            raise ValueError(f"--name must hold a letter or digit for the folder's name, got {self.name!r}")

    @property
    def slug(self) -> str:
        """The title as part of a folder's name."""
        return "_".join(re.findall(r"[A-Za-z0-9.+]+", self.name)).strip("._+")

    @property
    def folder(self) -> str:
        """The folder below records/."""
        return f"{TRACK_FOLDERS[self.track]}/{self.day.isoformat()}_{self.slug}"


@dataclass(frozen=True)
class Submission:
    """Everything that a record folder is made from."""

    study: StudyRecord
    study_folder: Path
    """Where the study's artifacts and logs are."""
    code: ShippedCode
    packages: tuple[str, ...]
    """Packages that the shipped file imports."""
    submitter: Submitter
    faults: tuple[str, ...]
    """Why it is a draft; empty for one that may be submitted."""


def submission_json(submission: Submission, blurb: str) -> JsonObject:
    """Returns the values of submission.json."""
    study, code, submitter = submission.study, submission.code, submission.submitter
    bpb, nats = study.verdict.bpb, study.verdict.nats
    largest = largest_seed(study)
    train, evaluation = longest_seconds(study)
    return {
        "name": submitter.name,
        "author": submitter.author,
        "github_id": submitter.github_id,
        "blurb": blurb,
        "date": submitter.day.isoformat(),
        "track": TRACK_FOLDERS[submitter.track].removeprefix("track_"),
        "draft": bool(submission.faults),
        "faults": list(submission.faults),
        "val_loss": None if nats is None else nats.mean,
        "val_bpb": None if bpb is None else bpb.mean,
        "val_loss_std": None if nats is None else nats.standard_deviation,
        "val_bpb_std": None if bpb is None else bpb.standard_deviation,
        "bytes_total": None if largest is None else largest.artifact_bytes,
        "bytes_model": None if largest is None else largest.model_bytes,
        "bytes_code": code.num_bytes,
        "code": {"sha256": code.sha256, "bytes_raw": code.raw_bytes, "bytes_minified": code.minified_bytes},
        "seeds": [run.seed for run in study.seeds],
        "seed_results": {str(run.seed): _seed_result(run) for run in study.seeds},
        "train_seconds_max": train,
        "eval_seconds_max": evaluation,
        "hardware": hardware(study),
        "versions": versions_of(submission.packages, study.done[0].versions) if study.done else {},
        "based_on": list(submitter.based_on),
        "dataset": study.data.name,
        "val_tokens": study.data.validation_tokens,
        "data": {
            "sha256": study.data.digest,
            "train_shards": study.data.train_shards,
            "train_tokens": study.data.train_tokens,
            "val_bytes": study.data.validation_bytes,
        },
        "config_sha256": digest({name: value for name, value in to_plain(study.config).items() if name != "seed"}),
        "test": test_values(study.verdict.comparison),
        "other_runs": [
            {"seed": run.seed, "repeat": run.repeat, "status": run.state, "val_bpb": run.bpb, "why": run.why}
            for run in study.verdict.others
        ],
    }


def _seed_result(run: SeedRecord) -> JsonObject:
    scores: JsonObject = {}
    if run.done:
        ladder = {rung.name: rung.bpb for rung in run.ladder}
        scores = {"val_loss": run.last.nats_per_token, "val_bpb": run.last.bpb, "ladder": ladder}
    return {
        "status": run.state,
        **scores,
        "bytes_total": run.artifact_bytes,
        "bytes_model": run.model_bytes,
        "bytes_code": run.code_bytes,
        "train_seconds": run.train_seconds,
        "eval_seconds": run.evaluation_seconds,
        "artifact_sha256": None if run.artifact is None else run.artifact.sha256,
    }


def test_values(test: Comparison | None) -> JsonObject | None:
    """Returns the test against a baseline as values; None where there is none."""
    if test is None:
        return None
    return {
        "baseline": test.baseline,
        "baseline_bpb": list(test.values),
        "test": "one-sided t test" if test.published else "one-sided Welch test",
        "gain_nats": test.gain_nats.gain,
        "gain_bpb": test.gain_bpb.gain,
        "margin_nats": test.gain_nats.margin,
        "p": test.gain_nats.p,
        "p_below_0.01": test.claim,
        "p_below_0.25": test.loose,
    }


def largest_seed(study: StudyRecord) -> SeedRecord | None:
    """Returns the seed whose model and code take most; None where none was packed."""
    return max(study.sized, key=lambda run: run.artifact_bytes or 0, default=None)


def longest_seconds(study: StudyRecord) -> tuple[float | None, float | None]:
    """Returns the longest training, and the longest evaluation that counts, over the seeds; None without any."""
    train = [run.train_seconds for run in study.seeds if run.train_seconds is not None]
    evaluation = [run.evaluation_seconds for run in study.seeds if run.evaluation_seconds is not None]
    return max(train, default=None), max(evaluation, default=None)


def hardware(study: StudyRecord) -> str:
    """Returns the device of the seeds; several only where the study is faulty."""
    return "; ".join(dict.fromkeys(run.device for run in study.seeds if run.device is not None)) or "unknown"
