"""A finished seed study as values: its seeds, what they share, what they show, and every other run.

Nothing is read, written or computed here; `study_file.py` reads one from the folder that a study leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf.compliance.points import CheckResult
from golf.config.config import RunConfig
from golf.runtime.results import Rung

DONE = "done"
"""Status of a seed that has a result."""


@dataclass(frozen=True)
class StudyFile:
    """A file beside study.json."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class SeedRun:
    """One seed of a study, whatever became of it."""

    seed: int
    trial: str
    """Its id in the ledger."""
    status: str
    """"done", "infeasible" (over the cap), "screened" or "failed"."""
    cause: str | None
    """Why it is not done."""
    ladder: tuple[Rung, ...]
    """Its rungs from below; chunk sums where they were kept."""
    metrics: Mapping[str, float]
    """All its numbers by name."""
    curves: Mapping[str, tuple[tuple[float, ...], ...]]
    """Points (step or chunk, unix seconds, value) by name."""
    byte_groups: Mapping[str, Mapping[str, float]]
    """Bytes of the artifact by tensor group."""
    model_bytes: int | None
    code_bytes: int | None
    code_sha256: str | None
    """Of the counted code that it ran."""
    train_seconds: float | None
    """With what packing read of the training data."""
    evaluation_seconds: float | None
    """Of the last rung."""
    cold: bool | None
    """Whether all was computed for it, nothing taken from the store; None where nothing was computed."""
    device: str | None
    versions: Mapping[str, str]
    commit: str | None
    """Of the project it ran from."""
    ranks: str | None
    """Who computed it, where nodes were lost on the way."""
    artifact: StudyFile | None
    artifact_note: str | None
    """Why there is no artifact, or what is to know of it."""
    log: StudyFile | None
    """That its run wrote; None where it is gone."""
    check: CheckResult | None
    """The check at the end of its run; None where there was none."""

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.status == DONE

    @property
    def last(self) -> Rung:
        """The rung whose score counts; of a seed that is done."""
        return self.ladder[-1]

    @property
    def artifact_bytes(self) -> int | None:
        """Model and code together."""
        return None if self.model_bytes is None or self.code_bytes is None else self.model_bytes + self.code_bytes


@dataclass(frozen=True)
class Mean:
    """A figure over seeds."""

    mean: float
    deviation: float | None
    """Of the sample; None for one seed."""
    interval: tuple[float, ...] | None
    """Of the mean."""
    level: float
    """Of the interval."""


@dataclass(frozen=True)
class Comparison:
    """The test against a baseline."""

    baseline: str
    values: tuple[float, ...]
    """Of the baseline, in BPB."""
    published: bool
    """Whether they are one published mean."""
    gain_nats: float
    gain_bpb: float
    margin_nats: float
    interval_nats: tuple[float, ...] | None
    level: float
    """Of the interval."""
    degrees_of_freedom: float | None
    p: float | None
    """One-sided; None where nothing shows a spread."""
    claim: bool | None
    """Whether p < 0.01."""
    loose: bool | None
    """Whether p < 0.25."""


@dataclass(frozen=True)
class OtherRun:
    """A run of the configuration that is no seed of the study."""

    seed: int
    repeat: int
    status: str
    bpb: float | None
    trial: str
    why: str
    """Why it does not count."""


@dataclass(frozen=True)
class Statistics:
    """The verdict on the study."""

    bpb: Mean | None
    nats: Mean | None
    cap_probability: float | None
    """That a further seed is over the cap."""
    comparison: Comparison | None
    missing: tuple[int, ...]
    """Planned seeds that never ran."""
    others: tuple[OtherRun, ...]
    """Every other run of the configuration, repeats included."""
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    text: str
    """All of it, as it was printed."""


@dataclass(frozen=True)
class StudyData:
    """What all seeds were trained and scored on."""

    digest: str | None
    name: str | None
    files: Mapping[str, str] | None
    """SHA-256 of each shard and the tokenizer by name; None: not known."""
    train_tokens: int | None
    """Of all training shards."""
    validation_tokens: int | None
    """Scored targets."""
    validation_bytes: int | None
    """Of their text."""

    @property
    def train_shards(self) -> int | None:
        """Number of training shards."""
        return None if self.files is None else sum("_train_" in name for name in self.files)


@dataclass(frozen=True)
class SeedStudy:
    """One configuration under several seeds."""

    folder: Path
    name: str
    preset: str
    track: str
    """Whose seconds its verdict counted."""
    config: RunConfig
    """Its seed is the default and means nothing."""
    data: StudyData
    seeds: tuple[SeedRun, ...]
    statistics: Statistics

    @property
    def done(self) -> tuple[SeedRun, ...]:
        """The seeds that have a result."""
        return tuple(run for run in self.seeds if run.done)

    @property
    def sized(self) -> tuple[SeedRun, ...]:
        """The seeds that were packed."""
        return tuple(run for run in self.seeds if run.artifact_bytes is not None)
