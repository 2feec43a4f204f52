"""The sweep that is disturbed: a grid whose trials share prefixes, small enough for a CPU, and what equality means.

Two ledgers are equal when every trial has the same entry bit for bit: status, cause, configuration, keys of its stages,
every metric but seconds, every value of every curve, every chunk, the bytes per tensor group and the artifact's
SHA-256. What tells when or where something ran is left out: times, seconds, paths, and which trial it was that computed
a shared stage.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from golf.config.config import RunConfig, override_all, to_plain
from golf.config.presets import PRESETS
from golf.data.dataset import open_dataset
from golf.data.text import prepare_text
from golf.pipeline.bundle import code_bytes
from golf.runtime.files import write_json
from golf.train.checkpoint_policy import CheckpointPolicy
from tune.cache.lease import LeaseConfig
from tune.cluster.finished import finished
from tune.cluster.sweep import SweepConfig
from tune.cluster.workers import Workers
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.search import Search, SearchConfig
from tune.search.space import Space
from tune.workloads.base import CacheConfig
from tune.workloads.gepa.workload import GepaWorkload

NAME = "faults"
VOCABULARY = 300
MODEL_CAP_BYTES = 17_000
"""Between what the model takes at 6 and at 8 bits."""
_UNTIMED = (
    *("time", "started", "ended", "files", "seconds", "computed", "cold", "screening", "checkpoints", "series"),
    *("world_history", "rungs"),
)
LEASES = LeaseConfig(lease_seconds=2.0, poll_seconds=0.1)


@dataclass(frozen=True)
class Grid:
    """A sweep that can be run in any storage."""

    base: RunConfig
    """Of every trial."""
    space: Space
    """Choices of the grid."""
    data: Path
    """The dataset."""
    save_seconds: float
    """Between saved states of a training."""

    def workload(self) -> GepaWorkload:
        """Returns what the trials run, knowing which prefixes they share."""
        workload = GepaWorkload.of(self.base, NAME, open_dataset(self.data), Workers().world)
        config = SearchConfig(spaces=(self.space,), strategy="grid")
        return workload.for_trials(Search(config, workload.trial).candidates())

    def search(self, storage: Storage) -> Search:
        """Returns the search as it continues from the ledger."""
        workload = self.workload()
        known = finished(NAME, storage, workload.code)
        return Search(SearchConfig(spaces=(self.space,), strategy="grid"), workload.trial, known)

    def config(self, concurrent: int, storage: Storage) -> SweepConfig:
        """Returns how the sweep runs."""
        return SweepConfig(
            name=NAME,
            concurrent=concurrent,
            checkpoint_policy=CheckpointPolicy(seconds=self.save_seconds),
            cache=CacheConfig(store=str(storage.store), lease_config=LEASES),
        )

    def command(self, root: Path, storage: Path) -> list[str]:
        """Arguments of run_sweep.py for the same sweep; its configuration is written below `root`."""
        path = root / f"{NAME}.json"
        write_json(path, to_plain(self.base))
        space = [f"{field}={','.join(map(str, choices))}" for field, choices in self.space.items()]
        places = ["--name", NAME, "--data", str(self.data), "--storage", str(storage)]
        search = ["--search", "grid", "--no-screening", "--space", *space]
        return [str(path), *places, *search, "--save-seconds", str(self.save_seconds)]


def make_data(folder: Path) -> Path:
    """A dataset of made-up sentences."""
    text = "the quick brown fox jumps over a lazy dog while seven wizards brew potions near old castle walls"
    words = text.split(" ")
    texts = [(f"d{n}", " ".join(words[(n * 7 + i * i * (n % 5 + 1)) % 18] for i in range(60))) for n in range(160)]
    prepare_text(texts, folder / "words", "words", vocab_size=VOCABULARY, log=lambda line: None)
    return folder / "words"


def make_grid(data: Path, steps: int, save_seconds: float) -> Grid:
    """A grid of 24 trials over 4 trainings of about `steps` steps; one of three splits is over the cap."""
    changes: dict[str, Any] = {
        "model.vocab_size": VOCABULARY,
        "model.num_layers": 2,
        "model.model_dim": 32,
        "model.mlp_hidden": 48,
        "model.rope_dims": 4,
        "model.rope_train_length": 16,
        "model.bigram_buckets": 64,
        "model.bigram_dim": 8,
        "model.xsa_layers": 1,
        "model.value_dim": 8,
        "model.value_layers": [1],
        "batch.tokens_per_step": 128,
        "batch.sequence_length": 16,
        "schedule.steps": steps,
        "schedule.warmdown_start": steps // 2,
        "schedule.momentum_steps": 10,
        "quant.float_elements": 300,
        "score.sequence_length": 16,
        "score.stride": 8,
        "score.batch_windows": 8,
        "score.chunk_tokens": 64,
        "ttt.epochs": 6,
        "validate_every": max(steps // 3, 1),
    }
    base = override_all(PRESETS["demo"], changes)
    base = override_all(base, {"cap_bytes": code_bytes(base) + MODEL_CAP_BYTES})
    space: Space = {
        "schedule.warmdown_start": [steps // 2, 2 * steps // 3],
        "schedule.steps": [steps, steps + steps // 5],
        "split": ["int4", "int8", "pure-int6"],
        "ttt.lr": [0.01, 0.02],
    }
    return Grid(base, space, data, save_seconds)


def timeless(entry: TrialEntry, storage: Storage) -> dict[str, Any]:
    """Returns an entry without what says when, where and by whom it was computed; the artifact as its SHA-256."""
    values = msgspec.to_builtins(entry)
    series = Ledger(storage.ledger).series(entry)
    kept = {name: value for name, value in values.items() if name not in _UNTIMED}
    kept["tags"] = {name: value for name, value in entry.tags.items() if name not in ("host", "git_commit")}
    kept["rungs"] = [(rung.name, rung.bpb, rung.nats_per_token) for rung in entry.rungs]
    kept["curves"] = {name: curve[:, ::2].tolist() for name, curve in series.curves.items()}
    kept["chunks"] = {name: sums.tolist() for name, sums in series.chunks.items()}
    artifact = storage.files(entry).get("artifact")
    kept["artifact"] = None if artifact is None else hashlib.sha256(artifact.read_bytes()).hexdigest()
    return kept


def ledger_of(storage: Storage) -> dict[str, dict[str, Any]]:
    """Returns every trial's last entry without times, by trial."""
    return {entry.trial: timeless(entry, storage) for entry in Ledger(storage.ledger).latest(NAME)}


def differences(reference: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """ "TRIAL FIELD" of all in which two ledgers differ; a trial that one of them lacks differs as a whole."""
    found = []
    for trial in sorted({*reference, *other}):
        one, two = reference.get(trial, {}), other.get(trial, {})
        found += [f"{trial} {field}" for field in sorted({*one, *two}) if one.get(field) != two.get(field)]
    return found
