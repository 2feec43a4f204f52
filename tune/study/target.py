"""What a seed study runs and on which data: a preset, a file, or a trial of the ledger.

A parsed command line and ledger entries enter; a configuration, a dataset and the stream's bytes per token leave. A
trial is run again as it was: on the data of its digest, under its own cap and preset.
"""

import argparse
import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.commands import changed, read_config
from golf.config import RunConfig, from_plain
from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import Dataset, open_dataset
from golf.presets import PRESETS
from tune.command import open_data
from tune.paths import Storage
from tune.study.noise import FINEWEB_BYTES_PER_TOKEN, ledger_nats_per_bpb
from tune.study.seeds import best_trial, find_trial


@dataclass(frozen=True)
class Target:
    """What is run under several seeds."""

    config: RunConfig
    preset: str
    name: str
    """Of the study, unless --name gives another."""
    data: str | None
    """Digest of the dataset that it has to be; None: the user's choice."""


def find_target(parsed: argparse.Namespace, entries: Sequence[dict[str, Any]]) -> Target:
    """The configuration that the command line names.

    Raises: ValueError for none, two, or one that is not there.
    """
    word = parsed.preset
    if (word is None) == (parsed.from_sweep is None):
        raise ValueError("give a preset, a config.json, a trial's id, or --from-sweep NAME --best: exactly one of them")
    if (parsed.from_sweep is not None) != parsed.best:
        raise ValueError("--from-sweep NAME and --best go together")
    changes = [parsed.split] if parsed.split else []
    changes += [re.sub(r"[^\w.]+", "-", text.rpartition(".")[2]) for text in parsed.set]
    if word is not None and (word in PRESETS or word.endswith(".json") or not re.fullmatch("[0-9a-f]{4,12}", word)):
        stem = Path(word).stem
        return Target(read_config(parsed), stem, "-".join([stem, *changes, "seeds"]), None)
    entry = best_trial(parsed.from_sweep, entries) if word is None else find_trial(word, entries)
    config = changed(from_plain(RunConfig, entry["config"]), parsed)
    preset, trial = str(entry.get("preset") or "trial"), str(entry["trial"])[:8]
    return Target(config, preset, "-".join([preset, trial, *changes, "seeds"]), entry.get("data"))


def find_data(parsed: argparse.Namespace, target: Target, storage: Storage) -> Dataset:
    """The dataset of the target.

    Raises: ValueError when a trial's own is not there, or another is given.
    """
    if target.data is None:
        return open_data(parsed, target.config, storage)
    if parsed.data:
        dataset = open_dataset(parsed.data.resolve(), target.config.model.vocab_size)
        if dataset.digest != target.data:
            raise ValueError(f"{dataset.folder} has digest {dataset.digest[:12]}, the trial ran on {target.data[:12]}")
        return dataset
    for folder in sorted(storage.data.glob("*")):
        with contextlib.suppress(ValueError, OSError):  # another dataset, or one that is half written
            dataset = open_dataset(folder, target.config.model.vocab_size)
            if dataset.digest == target.data:
                return dataset
    raise ValueError(f"no dataset below {storage.data} has the trial's digest {target.data[:12]}; give it with --data")


def size_of(dataset: Dataset) -> tuple[int, int]:
    """Tokens and bytes of the whole validation stream, as they are scored."""
    counts = dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:])
    return len(counts), int(counts.sum())


def dataset_nats_per_bpb(dataset: Dataset) -> float:
    """Nats per token that are 1 BPB on the whole validation stream."""
    tokens, num_bytes = size_of(dataset)
    return math.log(2) * num_bytes / tokens


def stream_factor(
    parsed: argparse.Namespace, entries: Sequence[dict[str, Any]], preset: str, storage: Storage
) -> tuple[float, str]:
    """Nats per token that are 1 BPB, and of which stream; nothing is prepared for it."""
    folder = parsed.data or storage.data / CORPUS_NAME
    found = None if parsed.data else ledger_nats_per_bpb(entries, preset)
    if found is not None:
        return found, "the stream of its runs in the ledger"
    if parsed.data or folder.is_dir():
        return dataset_nats_per_bpb(open_dataset(folder.resolve())), f"the validation stream of {folder.name}"
    return math.log(2) * FINEWEB_BYTES_PER_TOKEN, "FineWeb's validation stream"
