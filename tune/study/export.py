"""The folder that a finished seed study leaves for a submission: study.json, the code, the seeds' artifacts and logs.

The ledger is the source of every number. An artifact that is no longer in its trial's folder is taken from the store,
or the record says that it is gone. study.json is written last, so that it never names what is not there.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from golf.config.config import RunConfig, from_plain
from golf.data.dataset import Dataset, hash_file
from golf.pipeline.bundle import counted_code
from golf.runtime.files import write_bytes
from golf.runtime.results import RungResult
from golf.submission.code import CODE_FILE
from golf.submission.study import CurvePoint, SeedRecord, StudyData, StudyFile, StudyRecord, StudyVerdict
from golf.submission.study_file import write_study
from golf.train.run_log import LOG_FILE
from tune.cache.backend import StoreError
from tune.cache.entries import Damaged
from tune.cache.store import Store
from tune.records.entries import Series, TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.study.conditions import GEPA
from tune.study.runs import evaluation_seconds, stream_of, training_seconds

ARTIFACT = "artifact.golf"


def export_study(
    storage: Storage, name: str, verdict: StudyVerdict, dataset: Dataset | None = None, store: Store | None = None
) -> Path:
    """Writes the folder of a study, over what an earlier export left there; returns its path.

    Args: storage: where its ledger and its trials' folders are; name: of the study; verdict: on the study; dataset:
        what it ran on, where it is at hand: its shards are listed; store: where artifacts may still be.
    Raises: ValueError for a workload whose configurations no submission knows; OSError naming what cannot be written.
    """
    ledger = Ledger(storage.ledger)
    entries = sorted((e for e in ledger.latest(name) if not e.repeat), key=lambda entry: entry.seed or 0)
    if entries[0].workload != GEPA:
        raise ValueError(f'study "{name}" is of workload {entries[0].workload}: only {GEPA} has submissions')
    folder = storage.study(name)
    folder.mkdir(parents=True, exist_ok=True)
    runs = [(entry, ledger.series(entry)) for entry in entries]
    exporter = _Exporter(storage, folder, store)
    seeds = tuple(exporter.seed_record(entry, series) for entry, series in runs)
    record = StudyRecord(
        name=name,
        preset=entries[0].preset,
        track=verdict.track,
        config=replace(from_plain(RunConfig, entries[0].config), seed=RunConfig().seed),
        data=_data_record(runs, dataset),
        seeds=seeds,
        verdict=verdict,
    )
    code = counted_code(record.config)
    if hashlib.sha256(code).hexdigest() in {seed.code_sha256 for seed in seeds}:
        write_bytes(folder / CODE_FILE, code)
    write_study(folder, record)
    named = {file.name for seed in seeds for file in (seed.artifact, seed.log) if file is not None}
    for path in (*folder.glob("artifact_seed*.golf"), *folder.glob("log_seed*.txt")):
        if path.name not in named:  # an earlier export had it
            path.unlink()
    return folder


def _data_record(runs: Sequence[tuple[TrialEntry, Series]], dataset: Dataset | None) -> StudyData:
    """Returns what the runs were trained and scored on."""
    entry = runs[0][0]
    streams = (stream_of(entry, series) for entry, series in runs if entry.done)
    tokens, num_bytes = next((stream.size for stream in streams if stream is not None), (None, None))
    known = dataset if dataset is not None and dataset.digest == entry.data else None
    return StudyData(
        digest=entry.data,
        name=entry.dataset if known is None else known.name,
        files=None if known is None else dict(known.files),
        train_tokens=None if known is None or known.train is None else known.train.num_tokens,
        validation_tokens=tokens,
        validation_bytes=num_bytes,
    )


class _Exporter:
    """Makes records of seeds, and puts their files into a study's folder."""

    def __init__(self, storage: Storage, folder: Path, store: Store | None) -> None:
        self.storage, self.folder, self.store = storage, folder, store

    def seed_record(self, entry: TrialEntry, series: Series) -> SeedRecord:
        """Returns all that the ledger says of a seed."""
        artifact, note = self._artifact(entry)
        size = entry.size
        same: tuple[str, ...] = (
            "trial",
            "state",
            "reason",
            "byte_groups",
            "code_sha256",
            "seconds",
            "metrics",
            "cold",
            "tags",
        )
        same += ("world_history", "started", "ended", "check")
        return SeedRecord(
            **{name: getattr(entry, name) for name in same},
            seed=entry.seed or 0,
            ladder=_ladder(entry, series),
            curves={
                name: tuple(CurvePoint(int(step), time, value) for step, time, value in curve.tolist())
                for name, curve in series.curves.items()
            },
            model_bytes=None if size is None else size.model_bytes,
            code_bytes=None if size is None else size.code_bytes,
            stages_sha256=entry.code,
            train_seconds=training_seconds(entry),
            evaluation_seconds=evaluation_seconds(entry),
            device=None if entry.device is None else str(entry.device),
            versions=entry.environment,
            commit=entry.tags.get("git_commit"),
            artifact=artifact,
            artifact_note=note,
            log=self._log(entry),
        )

    def _artifact(self, entry: TrialEntry) -> tuple[StudyFile | None, str | None]:
        """Puts a seed's artifact into the folder; returns it, or why there is none."""
        if entry.size is None:
            return None, f"none was packed: {entry.state}, {entry.reason}"
        size = entry.size.model_bytes
        target = self.folder / f"artifact_seed{entry.seed}.golf"
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)
        source = self.storage.trial(entry.sweep, entry.trial) / ARTIFACT
        if source.is_file() and source.stat().st_size == size:
            _link_or_copy(source, part)
        else:
            why = f"has {source.stat().st_size} bytes, not {size}" if source.is_file() else "is not there"
            problem = self._fetch(entry, part)
            if problem is not None:
                return None, f"{source.name} of trial {entry.trial} {why}, and {problem}"
        num_bytes = part.stat().st_size
        if num_bytes != size:
            part.unlink()
            return None, f"what the store has of trial {entry.trial} has {num_bytes} bytes, not {size}"
        os.replace(part, target)
        return _file(target), None

    def _fetch(self, entry: TrialEntry, target: Path) -> str | None:
        """Writes the artifact that the store has under the trial's keys; returns why it has not."""
        if self.store is None:
            return "no store was named"
        try:
            for key in entry.keys:
                stored = self.store.find(key)
                if stored is not None and ARTIFACT in stored.files:
                    target.write_bytes(self.store.read(stored, ARTIFACT))
                    return None
        except (Damaged, StoreError) as error:
            return str(error)
        return "the store has none"

    def _log(self, entry: TrialEntry) -> StudyFile | None:
        """Puts the log of a seed's run into the folder; returns it, or None where it is gone."""
        source = self.storage.trial(entry.sweep, entry.trial) / LOG_FILE
        target = self.folder / f"log_seed{entry.seed}.txt"
        if source.is_file():
            write_bytes(target, source.read_bytes())
        return _file(target) if target.is_file() else None


def _ladder(entry: TrialEntry, series: Series) -> tuple[RungResult, ...]:
    """Returns the rungs that have a score, from below, with the chunk sums that were kept."""
    chunks = {name: sums.tolist() for name, sums in series.chunks.items()}
    return tuple(
        RungResult(
            **msgspec.structs.asdict(rung),
            chunks=tuple((nats, int(tokens), int(size)) for nats, tokens, size in chunks.get(rung.name, [])),
        )
        for rung in entry.rungs
    )


def _file(path: Path) -> StudyFile:
    return StudyFile(name=path.name, num_bytes=path.stat().st_size, sha256=hash_file(path))


def _link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name where the file system can; artifacts are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
