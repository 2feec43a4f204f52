"""The typed records of the ledger: trials, plans of seed studies, their verdicts, and scores for screening."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from golf.compliance.points import CheckResult
from golf.runtime.results import CheckpointCost
from golf.submission.study import StudyVerdict

Config = Mapping[str, Any]
"""The configuration of a workload, as JSON values."""
SEED, REPEAT = "seed", "repeat"
"""Parameters of a seed study: the model's seed, and the number of a further run of the same seed."""


class TrialState(StrEnum):
    """How a trial ended."""

    DONE = "done"
    """It has a score, and its artifact fits."""
    INFEASIBLE = "infeasible"
    """Its artifact is over the byte cap; it was not scored."""
    SCREENED = "screened"
    """It was stopped after the first chunks of the validation stream."""
    FAILED = "failed"
    """An error ended it; see its `failure`."""

    @property
    def word(self) -> str:
        """The state as people are told it."""
        words = {"done": "finished", "infeasible": "over the cap", "screened": "stopped early"}
        return words.get(self.value, self.value)


class FailureKind(StrEnum):
    """Kinds of failures; failures are counted, and tried again, by kind."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    DISK_FULL = "disk full"
    NOT_WRITABLE = "storage not writable"
    PREEMPTED = "preempted"
    KILLED = "killed"
    LOST_PEER = "lost peer"
    NO_RESOURCES = "no resources"
    ERROR = "error"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a trial or an attempt at a stage failed."""

    kind: FailureKind
    message: str
    """What happened, in one line."""
    remedy: str | None = None
    """What to do about it; None where nothing general helps."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial ran on."""

    count: int
    """Number of devices: one for each rank."""
    name: str
    """Such as "NVIDIA H100 80GB HBM3", or a CPU with its threads."""
    kind: Literal["cuda", "cpu"]

    def __str__(self) -> str:
        return f"{self.count} x {self.name}"


class WorldShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a trial's machines changes the bits of its results.

    It is what was asked for, also where nodes were lost on the way: a stage that goes on with fewer workers computes
    the same sums in another order, so that its figures are those of the undisturbed run to rounding.
    """

    ranks: int
    """Processes of a trial."""
    cpus: float
    """CPUs of each."""
    device: Literal["cuda", "cpu"]
    threads: int
    """Threads of each."""
    switches: dict[str, str] = {}
    """Environment variables by which libraries choose their kernels."""


class RungScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one rung of a workload's ladder of evaluations."""

    name: str
    bpb: float
    """Bits per byte."""
    nats_per_token: float
    seconds: float
    """Wall-clock seconds of scoring it."""


class ScreeningScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of the first chunks of one rung, by which a trial was compared with the others."""

    name: str
    """The rung."""
    bpb: float
    seconds: float
    rank: str
    """Its rank among the trials that were screened before, in words."""
    fraction: float | None = None
    """Share of the stream that was scored; None where it was not recorded."""


class ArtifactSize(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a trial's artifact, which counts with its code against a cap."""

    model_bytes: int
    code_bytes: int
    cap_bytes: int

    @property
    def artifact_bytes(self) -> int:
        """Model and code together."""
        return self.model_bytes + self.code_bytes

    @property
    def margin_bytes(self) -> int:
        """Bytes left below the cap; negative above it."""
        return self.cap_bytes - self.artifact_bytes

    @property
    def over_bytes(self) -> int:
        """Bytes above the cap; 0 where it fits."""
        return max(0, -self.margin_bytes)


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """A metric that counts in place of bits per byte."""

    name: str
    """Its name in `metrics`, such as "val_loss"."""
    maximize: bool = False
    """Whether larger is better."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload returns of a trial. What a workload does not have stays None or empty."""

    state: TrialState
    reason: str | None = None
    """Why the trial is not done, in one line; None if it is."""
    failure: Failure | None = None
    """The failure of a trial that failed."""
    bpb: float | None = None
    """The score in bits per byte: what counts where no objective is named. None without one."""
    nats_per_token: float | None = None
    """The same score in nats per token."""
    objective: Objective | None = None
    """The metric that counts instead; its value is in `metrics`."""
    label: str | None = None
    """Words before the score in the output of a script; they are shown, never interpreted."""
    notes: tuple[str, ...] = ()
    """What a reader has to know, such as where a run's output and its files disagree."""
    rungs: tuple[RungScore, ...] = ()
    """The ladder of evaluations from below; the last one is the score that counts."""
    screening: tuple[ScreeningScore, ...] = ()
    """Scores of first chunks, where trials are screened, in order; of one rung each is of more chunks than before."""
    size: ArtifactSize | None = None
    violations: dict[str, float] = {}
    """Constraints, such as "train_seconds<=600", that it violates -> by what part of the bound."""
    seconds: dict[str, float] = {}
    """Seconds of each stage by its name, as if the trial had computed all by itself."""
    computed: dict[str, float] = {}
    """Seconds of each stage that were computed for this trial; the others came from the store."""
    cold: bool | None = None
    """Whether everything was computed for this trial, nothing taken from the store; None where nothing was computed."""
    train_tokens: int | None = None
    device: Device | None = None
    world_history: str | None = None
    """Numbers of ranks that computed it, where nodes were lost on the way; None: as asked for."""
    code_sha256: str | None = None
    """SHA-256 of the counted code."""
    keys: tuple[str, ...] = ()
    """Keys of its stages in the store."""
    checkpoints: CheckpointCost | None = None
    """What saving the training's state cost."""
    check: CheckResult | None = None
    """The rules' points, as far as they were checked at the end of the run."""
    byte_groups: dict[str, dict[str, float]] = {}
    """Where the artifact's bytes go: group of tensors -> column -> value."""
    metrics: dict[str, float] = {}
    """Further numbers of a workload."""
    files: dict[str, str] = {}
    """Files of the trial by their use; relative to the storage root in the ledger."""
    series: str | None = None
    """SHA-256 of the file with the trial's curves and chunk sums; None where there are none."""

    @property
    def score(self) -> float | None:
        """The value that counts, in `unit`: what searches optimise and studies compare. None unless it is done."""
        if self.state != TrialState.DONE:
            return None
        return self.bpb if self.objective is None else self.metrics.get(self.objective.name)

    @property
    def loss(self) -> float | None:
        """The score, its sign turned where larger is better: less is better."""
        return -self.score if self.score is not None and self.objective and self.objective.maximize else self.score

    @property
    def excess(self) -> float:
        """How far it is over the byte cap and other constraints, relative to each; 0 where it meets all."""
        over = 0.0 if self.size is None else self.size.over_bytes / self.size.artifact_bytes
        return over + sum(self.violations.values())

    @property
    def unit(self) -> str:
        """What the score is: "BPB", or the name of a metric."""
        return "BPB" if self.objective is None else self.objective.name

    @property
    def total_seconds(self) -> float:
        """Seconds that the trial takes by itself."""
        return sum(self.seconds.values())

    @property
    def computed_seconds(self) -> float:
        """Seconds that were computed for it."""
        return sum(self.computed.values())

    @property
    def artifact_bytes(self) -> int | None:
        """Model and code together; None without an artifact."""
        return None if self.size is None else self.size.artifact_bytes

    def rung(self, name: str) -> RungScore | None:
        """The score of the rung with this name."""
        return next((rung for rung in self.rungs if rung.name == name), None)


class TrialEntry(Outcome, frozen=True, kw_only=True, tag_field="kind", tag="trial"):
    """A trial's line in the ledger: what it was, and what became of it."""

    sweep: str
    """The sweep or seed study that it belongs to."""
    trial: str
    """12 hexadecimal digits: the digest of configuration and data."""
    name: str
    """Short and readable, from its parameters."""
    preset: str
    workload: str
    """Name of the workload, such as "gepa"."""
    parameters: dict[str, Any]
    """Values of the searched fields."""
    config: dict[str, Any]
    """The whole configuration, as JSON values."""
    data: str
    """Digest of the dataset."""
    dataset: str
    """Name of the dataset."""
    code: str
    """Digest of the code that computes the stages."""
    environment: dict[str, str] = {}
    """Versions of the packages that compute the numbers."""
    tags: dict[str, str] = {}
    """Host, commit, study and what else a person may search by."""
    started: float
    """Unix seconds."""
    ended: float
    """Unix seconds."""
    time: str = ""
    """When the ledger wrote the line, in UTC."""
    ledger_version: int = 0

    @property
    def identity(self) -> tuple[str, str]:
        """Sweep and trial: the later of two entries with the same identity replaces the earlier."""
        return self.sweep, self.trial

    @property
    def seed(self) -> int | None:
        """The seed of the run; None for a workload without one."""
        seed = self.parameters.get(SEED, self.config.get(SEED))
        return seed if isinstance(seed, int) else None

    @property
    def repeat(self) -> int:
        """0, or the number of a further run of the same seed."""
        return int(self.parameters.get(REPEAT, 0))

    @property
    def done(self) -> bool:
        """Whether it has a score that counts."""
        return self.score is not None

    @property
    def first_scores(self) -> dict[str, float]:
        """Rung -> BPB where it was first screened on it, which compares with the same of every other trial."""
        scores: dict[str, float] = {}
        for score in self.screening:
            scores.setdefault(score.name, score.bpb)
        return scores

    @property
    def cap_bytes(self) -> int | None:
        """The byte cap, None for a workload without one."""
        cap = self.config.get("cap_bytes") if self.size is None else self.size.cap_bytes
        return cap if isinstance(cap, int) else None


class SequentialPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A test with repeated looks; nothing of it may change once a value was seen."""

    looks: tuple[int, ...]
    """Numbers of seeds at which to look; the last is the maximum."""
    baseline: str
    """The baseline as it was named."""
    baseline_bpb: tuple[float, ...]
    published: bool
    """Whether the baseline is one published mean."""
    margin_nats: float
    alpha: float
    no_gain_alpha: float


class StudyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed study is to run."""

    configuration: str
    """Digest of all fields but the seed."""
    data: str
    """Digest of the dataset."""
    seeds: tuple[int, ...]
    """In the order in which they are run."""
    repeats: int = 0
    """Further runs of the first seed."""
    cold: bool = False
    """Whether nothing is taken from the store."""
    sequential: SequentialPlan | None = None


class PlanEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="plan"):
    """The plan of a seed study, written before its first value is seen."""

    study: str
    plan: StudyPlan
    time: str = ""
    ledger_version: int = 0


class VerdictEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="verdict"):
    """A verdict on a seed study."""

    study: str
    verdict: StudyVerdict
    time: str = ""
    ledger_version: int = 0


class ScreeningEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="screening"):
    """Sums of the first chunks that a trial scored, in a file beside the sweep's trials."""

    trial: str
    rung: str
    chunks: tuple[tuple[float, int, int], ...]
    """(NLL in nats, tokens, bytes) of each chunk, in order."""
    time: str = ""
    ledger_version: int = 0


Record = TrialEntry | PlanEntry | VerdictEntry | ScreeningEntry
"""A line of a ledger."""


_NPY_PREFIX = 10
"""Bytes of an npy file (format 1.0) before its header: magic, version, and the header's length in the last two."""


class Series:
    """Curves and chunk sums of a trial: what is too long for a line of the ledger."""

    def __init__(
        self, curves: Mapping[str, ArrayLike] | None = None, chunks: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Takes arrays, or nested sequences, by name.

        Args: curves: curve -> float64 [num_points, 3]: step or chunk, unix seconds, value; chunks: rung -> float64
            [num_chunks, 3]: NLL in nats, tokens, bytes of each chunk of the stream.
        """
        self.curves = {name: _rows(curve) for name, curve in (curves or {}).items()}
        self.chunks = {name: _rows(sums) for name, sums in (chunks or {}).items()}

    def __bool__(self) -> bool:
        return bool(self.curves or self.chunks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and self.encode() == other.encode()

    __hash__ = None  # type: ignore[assignment]

    def encode(self) -> bytes:
        """Returns the bytes of an npz file; equal series give equal bytes."""
        arrays = {f"curves/{name}": curve for name, curve in sorted(self.curves.items())}
        arrays |= {f"chunks/{name}": sums for name, sums in sorted(self.chunks.items())}
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> "Series":
        """Reads the bytes of an npz file. Raises: ValueError where they hold something else."""
        series = cls()
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for member in archive.infolist():
                    group, _, name = member.filename.removesuffix(".npy").partition("/")
                    if group not in ("curves", "chunks") or member.compress_type != zipfile.ZIP_STORED:
                        raise ValueError(f"{member.filename[:80]!r} is not an uncompressed array of curves or chunks")
                    getattr(series, group)[name] = _read_array(archive.read(member))
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"not an archive of arrays: {str(error)[:200]}") from error
        return series


def _read_array(data: bytes) -> NDArray[np.float64]:
    """Reads the bytes of an npy file as `encode` writes it; numpy's own reader evaluates the header of any other."""
    begin = _NPY_PREFIX + int.from_bytes(data[_NPY_PREFIX - 2 : _NPY_PREFIX], "little")
    rows = _rows(np.frombuffer(data[begin:], np.float64))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, 3), }}"
    if data[:6] != b"\x93NUMPY" or data[_NPY_PREFIX:begin].strip() != header.encode():
        raise ValueError("an array is not float64 with three columns")
    return rows


def _rows(values: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(values, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(rows).all():
        raise ValueError("curves and chunk sums must be finite numbers")
    return rows


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of bytes in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def trials_of(records: Sequence[Record], sweep: str | None = None) -> list[TrialEntry]:
    """Returns the trial entries, of one sweep where it is named, in the ledger's order."""
    return [entry for entry in records if isinstance(entry, TrialEntry) and sweep in (None, entry.sweep)]


def unit_of(entries: Sequence[TrialEntry]) -> str:
    """Returns what the scores of trials are: "BPB", or the name of a metric."""
    return next((entry.unit for entry in entries if entry.done), "BPB")


def latest(records: Sequence[Record], sweep: str | None = None) -> list[TrialEntry]:
    """Returns the last entry of each trial of each sweep, or of one sweep, in the order of their first entries."""
    return list({entry.identity: entry for entry in trials_of(records, sweep)}.values())
