"""What a seed study runs and on which data: a preset, a file, or a trial of the ledger.

A parsed command line and ledger entries enter; a configuration, a dataset and the stream's bytes per token leave. A
trial is run again as it was: on the data of its digest, under its own cap and preset.
"""

import argparse
import contextlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.cli.commands import changed, config_from, names_file, read_config
from golf.cli.terminal import expanded
from golf.config.config import RunConfig, from_plain, nearest, to_plain
from golf.config.presets import PRESETS
from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import Dataset, open_dataset
from golf.runtime.results import digest
from tune.cli.session import open_data
from tune.records.layout import Storage
from tune.study.noise import FINEWEB_BYTES_PER_TOKEN, ledger_nats_per_bpb
from tune.study.runs import best_trial, find_trial

_LONGEST_NAME = 200
"""Bytes of a study's name, which is also a folder's."""


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
        raise ValueError(
            "give a preset, a config.json, a trial's id, or --from-sweep NAME --best: exactly one of them, and before "
            "options such as --baseline, which take every word behind them"
        )
    if (parsed.from_sweep is not None) != parsed.best:
        raise ValueError("--from-sweep NAME and --best go together")
    if word is not None and (word in PRESETS or names_file(word)):
        stem, config = Path(word).stem, read_config(parsed)
        return Target(config, stem, study_name([stem], parsed, config), None)
    if word is not None and not re.fullmatch("[0-9a-f]{4,12}", word):
        raise ValueError(
            f'"{word}" is no preset{nearest(word, PRESETS)}, no file there, and no id of a trial (4 to 12 hex digits; '
            "`python -m tune ledger show` lists them)"
        )
    entry = best_trial(parsed.from_sweep, entries) if word is None else find_trial(word, entries)
    config = changed(from_plain(RunConfig, entry["config"]), parsed)
    preset, trial = str(entry.get("preset") or "trial"), str(entry["trial"])[:8]
    return Target(config, preset, study_name([preset, trial], parsed, config), entry.get("data"))


def study_name(begin: Sequence[str], parsed: argparse.Namespace, config: RunConfig) -> str:
    """The name of a study: what is run and every change, whole, so that two configurations have two names.

    Args: begin: its first parts; parsed: with `split` and `set`; config: with both applied.
    """
    parts, split = [_word(part) for part in begin], parsed.split
    if split and split.endswith(".json"):
        # A file's name tells little: another folder's, or yesterday's, may hold other grids.
        parts.append(f"{_word(Path(split).stem)}-{digest(to_plain(config_from(expanded(split)).quant))[:6]}")
    elif split:
        parts.append(_word(split))
    for field in sorted({text.partition("=")[0] for text in parsed.set}):
        parts.append(_word(f"{field}={_value(config, field)}"))
    name = "-".join([*parts, "seeds"])
    return name if len(name.encode()) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 4]}-{digest(name)[:8]}-seeds"


def _value(config: RunConfig, field: str) -> str:
    """A field's value, however it was written; numbers of a list with "+" between them."""
    value: Any = to_plain(config)
    for part in field.split("."):
        value = value[part] if isinstance(value, dict) else None  # of a part that another --set has switched off
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return "+".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _word(text: str) -> str:
    """A text with only the characters of a study's name; where that loses any, a digest keeps it apart."""
    plain = re.sub(r"[^\w.+=-]+", "-", text)
    return plain if plain == text else f"{plain.strip('-')}-{digest(text)[:6]}"


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
