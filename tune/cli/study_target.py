"""What a seed study runs and on which data: a preset, a file, or a trial of the ledger.

A trial is run again as it was: on the data of its digest, under its own cap and preset.
"""

import argparse
import contextlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf.cli.inputs import changed, config_from, names_file
from golf.cli.terminal import expanded
from golf.config.config import RunConfig, from_plain, nearest, to_plain
from golf.config.presets import PRESETS, find_preset
from golf.data.corpus import CORPUS_NAME
from golf.data.dataset import Dataset, open_dataset
from golf.runtime.results import digest
from tune.cli.options import open_data
from tune.records.entries import TrialEntry
from tune.records.layout import Storage
from tune.study.conditions import GEPA
from tune.study.noise import FINEWEB_BYTES_PER_TOKEN, latest_nats_per_bpb
from tune.study.runs import best_trial, find_trial

_LONGEST_NAME = 200
"""Bytes of a study's name, which is also a folder's."""


@dataclass(frozen=True)
class TargetOptions:
    """What the command line says of what is run."""

    target: str | None = None
    """A preset, a file, or the beginning of a trial's id; None with `best_of`."""
    best_of: str | None = None
    """The sweep whose best trial is run."""
    split: str | None = None
    """Another quantisation split: a name, or a configuration file."""
    changes: tuple[str, ...] = ()
    """FIELD=VALUE of fields to change."""
    data: Path | None = None
    """A prepared dataset; None: the trial's own, or the built-in corpus."""


@dataclass(frozen=True)
class Target:
    """What is run under several seeds."""

    config: RunConfig
    preset: str
    name: str
    """Name of the study, unless --name gives another."""
    data: str | None
    """Digest of the dataset that it has to be; None: the user's choice."""


def find_target(options: TargetOptions, trials: Sequence[TrialEntry]) -> Target:
    """Returns the configuration that the command line names.

    Raises: ValueError for one that is not there, or that is not GEPA's.
    """
    name = options.target
    if name is not None and _names_configuration(name):
        base = config_from(expanded(name)) if names_file(name) else find_preset(name)
        config, stem = _changed(base, options), Path(name).stem
        return Target(config, stem, study_name([stem], options, config), None)
    entry = trial_of(options, trials)
    assert entry is not None
    if entry.workload != GEPA:
        raise ValueError(f"trial {entry.trial} is of workload {entry.workload}: only {GEPA} is run under several seeds")
    config = _changed(from_plain(RunConfig, entry.config), options)
    preset = entry.preset or "trial"
    return Target(config, preset, study_name([preset, entry.trial[:8]], options, config), entry.data)


def trial_of(options: TargetOptions, trials: Sequence[TrialEntry]) -> TrialEntry | None:
    """Returns the trial that the command line names; None where it names a preset or a file.

    Raises: ValueError for one that is not there.
    """
    name = options.target
    if name is None:
        return best_trial(options.best_of or "", trials)
    if _names_configuration(name):
        return None
    if not re.fullmatch("[0-9a-f]{4,12}", name):
        raise ValueError(
            f'"{name}" is no preset{nearest(name, PRESETS)}, no file there, and no id of a trial (4 to 12 hex digits; '
            "`python -m tune ledger show` lists them)"
        )
    return find_trial(name, trials)


def _names_configuration(name: str) -> bool:
    return name in PRESETS or names_file(name)


def _changed(config: RunConfig, options: TargetOptions) -> RunConfig:
    return changed(config, argparse.Namespace(split=options.split, set=list(options.changes)))


def study_name(begin: Sequence[str], options: TargetOptions, config: RunConfig) -> str:
    """Returns the name of a study: what is run and every change, so that two configurations have two names.

    Args: begin: its first parts; options: with the changes; config: with the changes applied.
    """
    parts, split = [_safe(part) for part in begin], options.split
    if split and split.endswith(".json"):
        # A file's name tells little: another folder's, or yesterday's, may hold other grids.
        parts.append(f"{_safe(Path(split).stem)}-{digest(to_plain(config_from(expanded(split)).quant))[:6]}")
    elif split:
        parts.append(_safe(split))
    for field in sorted({text.partition("=")[0] for text in options.changes}):
        parts.append(_safe(f"{field}={_value(config, field)}"))
    name = "-".join([*parts, "seeds"])
    return name if len(name.encode()) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 4]}-{digest(name)[:8]}-seeds"


def _value(config: RunConfig, field: str) -> str:
    """Returns a field's value as text, however it was written; numbers of a list with "+" between them."""
    value: object = to_plain(config)
    for part in field.split("."):
        value = value[part] if isinstance(value, dict) else None  # None in a section that another --set switched off
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return "+".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _safe(text: str) -> str:
    """Returns a text with only the characters of a study's name; where that loses any, a digest keeps it apart."""
    plain = re.sub(r"[^\w.+=-]+", "-", text)
    return plain if plain == text else f"{plain.strip('-')}-{digest(text)[:6]}"


def find_data(options: TargetOptions, target: Target, storage: Storage) -> Dataset:
    """Returns the dataset of a target: the one that the command line names, a trial's own, or the built-in one.

    Raises: ValueError when a trial's own is not there, or another is given.
    """
    if target.data is None:
        return open_data(options.data, target.config, options.target, storage)
    if options.data is not None:
        dataset = open_dataset(options.data, target.config.model.vocab_size)
        if dataset.digest != target.data:
            raise ValueError(f"{dataset.folder} has digest {dataset.digest[:12]}, the trial ran on {target.data[:12]}")
        return dataset
    for path in sorted(storage.data.glob("*")):
        with contextlib.suppress(ValueError, OSError):  # another dataset, or one that is half written
            dataset = open_dataset(path, target.config.model.vocab_size)
            if dataset.digest == target.data:
                return dataset
    raise ValueError(f"no dataset below {storage.data} has the trial's digest {target.data[:12]}; give it with --data")


def stream_size(dataset: Dataset) -> tuple[int, int]:
    """Returns tokens and bytes of the whole validation stream, as they are scored."""
    counts = dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:])
    return len(counts), int(counts.sum())


def dataset_nats_per_bpb(dataset: Dataset) -> float:
    """Returns the nats per token that are 1 BPB on the whole validation stream."""
    tokens, num_bytes = stream_size(dataset)
    return math.log(2) * num_bytes / tokens


def likely_nats_per_bpb(
    folder: Path | None, trials: Sequence[TrialEntry], preset: str, storage: Storage
) -> tuple[float, str]:
    """Returns the nats per token that are 1 BPB, and on which stream; no dataset is prepared for it."""
    path = folder or storage.data / CORPUS_NAME
    factor = None if folder else latest_nats_per_bpb(trials, preset)
    if factor is not None:
        return factor, "the stream of its runs in the ledger"
    if folder or path.is_dir():
        return dataset_nats_per_bpb(open_dataset(path)), f"the validation stream of {path.name}"
    return math.log(2) * FINEWEB_BYTES_PER_TOKEN, "FineWeb's validation stream"
