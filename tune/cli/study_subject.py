"""What a seed study runs, as its command sees it: trials of a preset, or of somebody's script."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from golf.compliance.points import CheckResult
from golf.config.config import to_plain
from golf.data.dataset import Dataset
from golf.submission.study import StudyVerdict
from golf.submission.study_check import saved_check
from tune.cache.store import Store
from tune.cli.study_target import Target, dataset_nats_per_bpb, stream_size
from tune.records.entries import Config, WorldShape
from tune.records.layout import Storage
from tune.search.space import Trial
from tune.study.conditions import GEPA
from tune.study.export import export_study
from tune.workloads.base import Workload
from tune.workloads.gepa.describe import describe_text_passes, dry_run_table
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.workload import GepaWorkload

Exported = tuple[Path, CheckResult | None]
"""A study's folder, and its check against the rules where there is one."""


class StudySubject(Protocol):
    """What is run under several seeds."""

    @property
    def preset(self) -> str:
        """Names what is run."""

    @property
    def study_name(self) -> str:
        """The study's name where none is given."""

    @property
    def kind(self) -> str:
        """Name of the workload."""

    @property
    def config(self) -> Config:
        """The configuration; its seed means nothing."""

    @property
    def data(self) -> str:
        """Digest of the dataset."""

    @property
    def unit(self) -> str:
        """What the scores are: "BPB", or the name of a metric."""

    @property
    def nats_per_bpb(self) -> float | None:
        """Nats per token that are one unit of the scores; None where only a run says."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags of the entries, beside the study's name."""

    @property
    def stream(self) -> tuple[int, int] | None:
        """Tokens and bytes of the validation stream, where they are known."""

    def prepare(self, storage: Storage, name: str) -> None:
        """Does what comes before the first run. Raises: ValueError for what cannot run here."""

    def workload(self, world: WorldShape) -> Workload:
        """Returns what the runs are, on the machines of one run."""

    def headline(self, trials: Sequence[Trial]) -> str:
        """Returns more about the runs, for the screen."""

    def plan_text(self, trials: Sequence[Trial], num_known: int) -> str:
        """Returns the work of runs as a table."""

    def export(self, storage: Storage, name: str, verdict: StudyVerdict, store: Store) -> Exported:
        """Writes the study's folder. Returns: its path, and its check against the rules; None without one."""


class GepaSubject:
    """A preset, a configuration file, or a trial of them."""

    kind, unit = GEPA, "BPB"
    tags: Mapping[str, str] = {}

    def __init__(self, target: Target, dataset: Dataset) -> None:
        """Args: target: the configuration; dataset: what it runs on."""
        self.target, self.dataset = target, dataset
        self.preset, self.study_name, self.data = target.preset, target.name, dataset.digest
        self.config: Config = to_plain(target.config)

    @property
    def nats_per_bpb(self) -> float:
        """Nats per token that are 1 BPB on the whole validation stream."""
        return dataset_nats_per_bpb(self.dataset)

    @property
    def stream(self) -> tuple[int, int]:
        """Tokens and bytes of the validation stream."""
        return stream_size(self.dataset)

    def prepare(self, storage: Storage, name: str) -> None:
        """Does nothing."""

    def workload(self, world: WorldShape) -> GepaWorkload:
        """Returns what the runs are, on the machines of one run."""
        return GepaWorkload.of(self.target.config, self.target.preset, self.dataset, world)

    def headline(self, trials: Sequence[Trial]) -> str:
        """Returns the cap and how batches are put together."""
        passes = describe_text_passes(list(map(config_of, trials)), self.dataset)
        return f", cap {self.target.config.cap_bytes:,} bytes; {passes}"

    def plan_text(self, trials: Sequence[Trial], num_known: int) -> str:
        """Returns the work of runs as a table."""
        return dry_run_table(trials, self.dataset, num_known)

    def export(self, storage: Storage, name: str, verdict: StudyVerdict, store: Store) -> Exported:
        """Writes the study's folder, and checks what was written."""
        folder = export_study(storage, name, verdict, self.dataset, store)
        return folder, saved_check(folder)
