"""A finished seed study as typed records: its seeds, what they share, the verdict on them, and every other run.

A study is written by the program that ran the seeds, and read for a submission; `study_file.py` holds the file's form.
Nothing is read, written or computed here.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from golf.compliance.points import CheckResult
from golf.config.config import RunConfig
from golf.config.rules import P_CLAIM, P_LOOSE
from golf.runtime.results import RungResult

DONE = "done"
"""State of a seed that has a result."""
STUDY_FILE = "study.json"
"""The file of a study's folder that holds its record."""
STUDY_FORMAT: Final = 2
"""Format of the file; raised when a reader of the previous one would misread it."""
Count = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
NATS_UNITS = ("BPB", "val_loss")
"""Units of scores that have a value in nats per token."""
Interval = tuple[float, float]
"""Lower and upper end."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class: a record is never changed, and unknown fields in a file are refused."""


class Summary(Record, frozen=True, kw_only=True):
    """A sample in a few figures."""

    num_values: Count
    mean: float
    standard_deviation: float | None = None
    """Standard deviation of the sample, with n - 1; None for one value."""
    standard_error: float | None = None
    """Standard error of the mean; None for one value."""
    interval: Interval | None = None
    """Two-sided confidence interval of the mean; None for one value."""
    level: float
    """Confidence level of the interval."""


class Gain(Record, frozen=True, kw_only=True):
    """By how much a candidate is better than its baseline, and how sure it is that this exceeds the margin."""

    gain: float
    """Baseline minus candidate."""
    margin: float
    interval: Interval | None = None
    """Two-sided confidence interval of the gain; None like `p`."""
    level: float
    """Confidence level of the interval."""
    degrees_of_freedom: float | None = None
    statistic: float | None = None
    p: float | None = None
    """One-sided p value of "the gain is at most the margin"; None where the values show no spread to judge by."""

    def scaled(self, factor: float) -> "Gain":
        """Returns the same gain in a unit of which `factor` > 0 make one of this; p is the same in both."""
        interval = None if self.interval is None else (self.interval[0] * factor, self.interval[1] * factor)
        gain, margin = self.gain * factor, self.margin * factor
        return msgspec.structs.replace(self, gain=gain, margin=margin, interval=interval)


class CapRisk(Record, frozen=True, kw_only=True):
    """How close artifacts come to the cap."""

    largest_bytes: Count
    margin_bytes: int
    """Cap minus the largest artifact; negative when it is over the cap."""
    probability: float | None = None
    """Probability that a further seed exceeds the cap; None for one seed or equal sizes."""


class NoiseSplit(Record, frozen=True, kw_only=True):
    """The noise of one seed run again, beside the noise between seeds."""

    repeat_sd: float
    """Standard deviation of runs of the same seed."""
    repeat_interval: Interval
    seeds_sd: float
    """Standard deviation from seed to seed, which includes the noise of the same seed."""
    seeds_interval: Interval
    seed_only_sd: float
    """What the seed itself adds: root of the difference of the two variances, 0 where that is negative."""
    repeat_share: float | None = None
    """Same-seed variance as a share of the seed-to-seed variance, above 1 by chance only; None if the latter is 0."""
    share_interval: Interval | None = None
    level: float
    """Confidence level of the intervals."""


class Decision(StrEnum):
    """Decision of a test with repeated looks."""

    GAIN = "gain"
    """The gain exceeds the margin."""
    NO_GAIN = "no gain"
    """The gain is below the margin: further seeds are futile."""
    CONTINUE = "continue"
    """The next look is still to come."""
    UNDECIDED = "undecided"
    """All seeds of the plan were used."""


class Look(Record, frozen=True, kw_only=True):
    """One look at the values."""

    num_seeds: Count
    """Seeds of the candidate."""
    gain: Gain
    """As Welch's test has it, or the t test against a published mean; its interval makes no allowance for the looks."""
    p_gain: float | None = None
    """The larger p of Welch's and the pooled test; None without any spread."""
    gain_level: float
    """Nominal level: a `p_gain` of at most this decides for a gain."""
    p_no_gain: float | None = None
    """The larger p of the same tests in the other direction."""
    no_gain_level: float
    """Nominal level of `p_no_gain`."""


class SequentialResult(Record, frozen=True, kw_only=True):
    """The decision of a test with repeated looks, with every look that led to it."""

    decision: Decision
    looks: tuple[Look, ...]
    """Up to the deciding one; later values do not change a decision."""
    next_look: Count | None = None
    """Candidate seeds at the next look; None when it is decided or the plan is used up."""


class Comparison(Record, frozen=True, kw_only=True):
    """The test against a baseline."""

    baseline: str
    """The baseline as it was named."""
    values: tuple[float, ...]
    """Values of the baseline in BPB."""
    seeds: tuple[int, ...] | None = None
    """Seeds of the values, where they come from a ledger."""
    published: bool
    """Whether the baseline is one published mean, taken as exact."""
    gain_nats: Gain
    """Gain in nats per token: Welch's test against seeds, the t test against a published mean."""
    gain_bpb: Gain
    """The same gain in BPB."""
    sequential: SequentialResult | None = None
    """The test with repeated looks, where the study's plan has one."""

    @property
    def claim(self) -> bool | None:
        """Whether p is below the level of a claim; None without a test."""
        return None if self.gain_nats.p is None else self.gain_nats.p < P_CLAIM

    @property
    def loose(self) -> bool | None:
        """Whether p is below the looser level; None without a test."""
        return None if self.gain_nats.p is None else self.gain_nats.p < P_LOOSE


class OtherRun(Record, frozen=True, kw_only=True):
    """A run of the configuration that is no seed of the study."""

    sweep: str
    trial: str
    seed: Count
    repeat: Count = 0
    """0; from 1 on a further run of the same seed."""
    state: str
    bpb: float | None = None
    """None unless it is done."""
    why: str
    """Why it does not count."""


class StudyVerdict(Record, frozen=True, kw_only=True):
    """What a study shows, and every reason why it may not show it."""

    track: str
    """The track whose seconds it counted."""
    facts: dict[str, str | None] = {}
    """Code, data, device and versions that all runs share; None: unknown."""
    seeds: tuple[int, ...]
    """Seeds that have a run."""
    missing: tuple[int, ...] = ()
    """Planned seeds that have no run yet."""
    others: tuple[OtherRun, ...] = ()
    """Every other run of the configuration, repeats included."""
    nats_per_bpb: float | None = None
    """Nats per token that are 1 BPB: ln 2 * bytes per token of the validation stream."""
    unit: str = "BPB"
    """Unit of what is named "bpb" here: another metric's name where that counts instead."""
    bpb: Summary | None = None
    """Scores of the seeds that have a result; None without any."""
    nats: Summary | None = None
    """The same in nats per token; None where the score has no such value."""
    cap_bytes: Count | None = None
    cap: CapRisk | None = None
    """Over all seeds that were packed, those over the cap too."""
    noise_bpb: NoiseSplit | None = None
    """Same-seed noise beside the noise between seeds; None without repeats."""
    comparison: Comparison | None = None
    """None without a baseline, or without a value to compare."""
    faults: tuple[str, ...] = ()
    """What forbids a claim, whatever p is."""
    notes: tuple[str, ...] = ()
    """What a reader has to know."""
    text: str = ""
    """The verdict as it was printed."""
    check: CheckResult | None = None
    """The check of the study's folder; None before it was made."""

    @property
    def margin_unit(self) -> str:
        """Unit of margins and gains in nats: another metric's name where that counts and is not in nats."""
        return "nats/token" if self.unit in NATS_UNITS else self.unit

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds: by the planned test, and without a fault; None without a test."""
        if self.comparison is None:
            return None
        shown = self.comparison.claim
        if self.comparison.sequential is not None:
            shown = self.comparison.sequential.decision == Decision.GAIN
        return None if shown is None else shown and not self.faults


class CurvePoint(NamedTuple):
    """A point of a curve."""

    step: int
    """Optimiser step, or chunk of the validation stream."""
    time: float
    """Unix seconds."""
    value: float


class StudyFile(Record, frozen=True, kw_only=True):
    """A file beside the study's record."""

    name: str
    num_bytes: Count
    sha256: Sha256


class SeedRecord(Record, frozen=True, kw_only=True):
    """One seed of a study, whatever became of it."""

    seed: Count
    trial: str
    """Its id in the ledger."""
    state: str
    """"done", "infeasible" (over the cap), "screened" or "failed"."""
    reason: str | None = None
    """Why it is not done."""
    ladder: tuple[RungResult, ...] = ()
    """Its rungs from below; without chunks where these were not kept."""
    curves: dict[str, tuple[CurvePoint, ...]] = {}
    """Curves by name."""
    byte_groups: dict[str, dict[str, float]] = {}
    """Where the artifact's bytes go: tensor group -> column -> value."""
    model_bytes: Count | None = None
    code_bytes: Count | None = None
    code_sha256: Sha256 | None = None
    """SHA-256 of the counted code that it ran."""
    stages_sha256: str | None = None
    """Digest of the code that computes the stages."""
    train_seconds: float | None = None
    """Seconds of training, with those of packing where that reads training data."""
    evaluation_seconds: float | None = None
    """Seconds of the last rung."""
    seconds: dict[str, float] = {}
    """Seconds of each stage by its name."""
    metrics: dict[str, float] = {}
    """Further numbers by name."""
    cold: bool | None = None
    """Whether all was computed for it, nothing taken from the store; None where nothing was computed."""
    device: str | None = None
    """Number and name of the devices, such as "8 x NVIDIA H100"."""
    versions: dict[str, str] = {}
    """Versions of Python and the packages."""
    commit: str | None = None
    """Commit of the project that it ran from."""
    tags: dict[str, str] = {}
    """Host and other facts by name."""
    world_history: str | None = None
    """Numbers of ranks that computed it, where nodes were lost on the way."""
    artifact: StudyFile | None = None
    artifact_note: str | None = None
    """Why there is no artifact, or what is to know of it."""
    log: StudyFile | None = None
    """The log that its run wrote; None where it is gone."""
    started: float | None = None
    """Unix seconds."""
    ended: float | None = None
    """Unix seconds."""
    check: CheckResult | None = None
    """The check at the end of its run; None where there was none."""

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.state == DONE

    @property
    def last(self) -> RungResult:
        """The rung whose score counts; only for a seed that is done."""
        return self.ladder[-1]

    @property
    def artifact_bytes(self) -> int | None:
        """Model and code together."""
        return None if self.model_bytes is None or self.code_bytes is None else self.model_bytes + self.code_bytes


class StudyData(Record, frozen=True, kw_only=True):
    """What all seeds were trained and scored on."""

    digest: str | None = None
    name: str | None = None
    files: dict[str, Sha256] | None = None
    """SHA-256 of each shard and the tokenizer by name; None: not known."""
    train_tokens: Count | None = None
    """Tokens of all training shards."""
    validation_tokens: Count | None = None
    """Scored targets."""
    validation_bytes: Count | None = None
    """Bytes of their text."""

    @property
    def train_shards(self) -> int | None:
        """Number of training shards."""
        return None if self.files is None else sum("_train_" in name for name in self.files)


class StudyRecord(Record, frozen=True, kw_only=True):
    """One configuration under several seeds."""

    format: Literal[2] = STUDY_FORMAT
    name: str
    preset: str
    track: str
    """The track whose seconds its verdict counted."""
    config: RunConfig
    """Its seed is the default and means nothing: each seed has its own."""
    data: StudyData
    seeds: Annotated[tuple[SeedRecord, ...], msgspec.Meta(min_length=1)]
    verdict: StudyVerdict

    @property
    def done(self) -> tuple[SeedRecord, ...]:
        """The seeds that have a result."""
        return tuple(run for run in self.seeds if run.done)

    @property
    def sized(self) -> tuple[SeedRecord, ...]:
        """The seeds that were packed."""
        return tuple(run for run in self.seeds if run.artifact_bytes is not None)
