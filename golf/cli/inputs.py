"""What commands read: configurations and their changes on the command line, runs' directories, datasets.

The directory of a run is the run of its `config.json`: no command mixes another configuration into it.
"""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.cli.options import assignment_of, assignments
from golf.cli.terminal import expanded, need_path
from golf.config.config import RunConfig, from_plain, override_all, to_plain
from golf.config.presets import DEMO_PRESETS, PRESETS, find_preset, with_grids, with_split
from golf.data.corpus import CORPUS_DATA
from golf.data.dataset import Dataset, open_dataset, read_manifest
from golf.data.text import prepare_corpus
from golf.data.variants import VARIANTS
from golf.pipeline.run_directory import RunDirectory
from golf.runtime.files import read_json
from golf.runtime.process_group import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run was started, as its settings.json holds it."""

    data: str | None = None
    """Folder of the dataset; None where it is not known."""
    seconds: float | None = None
    """Seconds that the training was planned for."""
    step_seconds: float | None = None
    """Measured seconds of a step by which it was planned."""


def read_settings(directory: RunDirectory) -> RunSettings:
    """Returns how a run was started. Raises: ValueError naming the file when it is damaged."""
    path = directory.file("settings.json")
    try:
        return from_plain(RunSettings, _object(path)) if path.is_file() else RunSettings()
    except ValueError as error:
        raise ValueError(f"{path}: {error}; delete it and name --data") from error


def _object(path: Path) -> Mapping[str, Any]:
    """Returns the object in a JSON file. Raises: ValueError for another value."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"it must hold an object of fields, got {str(values)[:40]}")
    return values


def config_from(path: Path) -> RunConfig:
    """Returns the configuration in a JSON file; fields that it leaves out have the defaults.

    Raises: FileNotFoundError; ValueError naming file and field.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration file {path}; a run's folder holds one (config.json)")
    try:
        return from_plain(RunConfig, _object(path))
    except ValueError as error:  # which quotes the file
        raise ValueError(f"{path}: {str(error)[:1000]} (all fields: `python -m golf fields`)") from error


def stored_config(directory: RunDirectory) -> RunConfig:
    """Returns the configuration of a run."""
    need_path(directory.path)
    if not directory.file("config.json").is_file():
        made = "make one with `python -m golf run demo`"
        raise FileNotFoundError(f"{directory.path} is not the folder of a run (no config.json); {made}")
    return config_from(directory.file("config.json"))


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """Returns the preset or file named on the command line, with its --split and --set applied."""
    name = arguments.preset
    return changed(config_from(expanded(name)) if names_file(name) else find_preset(name), arguments)


def names_file(word: str) -> bool:
    """Returns whether a word means a configuration file, whatever presets there are, and not a preset."""
    return word.endswith(".json") or "/" in word or (word not in PRESETS and expanded(word).is_file())


def changed(config: RunConfig, arguments: argparse.Namespace) -> RunConfig:
    """Returns `config` with --split (a name, or a configuration file whose grids are taken) and --set applied."""
    split = getattr(arguments, "split", None)
    if split:
        grids = config_from(expanded(split)).quant if split.endswith(".json") else None
        config = with_split(config, split) if grids is None else with_grids(config, grids)
    return override_all(config, assignments(arguments.set))


def change_only(config: RunConfig, arguments: argparse.Namespace, parts: tuple[str, ...]) -> RunConfig:
    """Returns `changed`, where --set may only name fields of `parts`: training decided the rest."""
    for text in arguments.set:
        if assignment_of(text)[0].split(".")[0] not in parts:
            raise ValueError(f"--set {text}: this command changes only {' and '.join(parts)}; use `run` for the rest")
    return changed(config, arguments)


def differences(old: RunConfig, new: RunConfig) -> str:
    """Returns "field is A there, B here" for the first three fields that differ; empty where none does."""
    fields = _differing(to_plain(old), to_plain(new), "")
    return "; ".join(fields[:3])


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> list[str]:
    fields = []
    for name, value in old.items():
        if isinstance(value, dict) and isinstance(new[name], dict):
            fields += _differing(value, new[name], f"{path}{name}.")
        elif value != new[name]:
            fields.append(f"{path}{name} is {value!r} there, {new[name]!r} here")
    return fields


def need_file(directory: RunDirectory, name: str, command: str) -> None:
    """Raises FileNotFoundError naming the command that makes the missing file."""
    if not directory.file(name).exists():
        path, config = str(directory.path), str(directory.file("config.json"))
        line = shlex.join([command, path] if command == "pack" else [command, config, "--out", path])
        raise FileNotFoundError(f"{directory.file(name)} is missing; make it with `python -m golf {line}`")


def check_built_in(config: RunConfig, preset: str | None) -> None:
    """Raises ValueError for a model that the built-in text is too small for.

    Args:
        config: the configuration.
        preset: what it was called on the command line, a preset or a file; None: not known.
    """
    of_demo = preset in DEMO_PRESETS or any(config.model == PRESETS[name].model for name in DEMO_PRESETS)
    if not of_demo:
        name = f"sp{config.model.vocab_size}"
        name = name if name in VARIANTS else "sp1024"
        command = "python -m golf data fineweb" + ("" if name == "sp1024" else f" --variant {name}")
        raise ValueError(
            f"{preset or 'this model'} needs --data FOLDER: the built-in text is for {', '.join(DEMO_PRESETS)} alone; "
            f"the competition's data: `{command}`, then --data "
            f"{VARIANTS[name].folder}; text of your own: "
            "`python -m golf data prepare --text PATH`, then --data data/text"
        )


def find_dataset(
    folder: Path | str | None,
    config: RunConfig,
    group: ProcessGroup,
    accept_fault: bool = False,
    preset: str | None = None,
) -> Dataset:
    """Returns the dataset in `folder`; without one the built-in corpus, prepared first where it is missing.

    Args:
        folder: of the dataset.
        config: of the run.
        group: its processes.
        accept_fault: as for `open_dataset`.
        preset: as for `check_built_in`.
    """
    if folder is None:
        check_built_in(config, preset)
        if group.first and not read_manifest(CORPUS_DATA).get("complete"):
            prepare_corpus(CORPUS_DATA)
        group.wait()
    return open_dataset(Path(folder or CORPUS_DATA), config.model.vocab_size, accept_fault=accept_fault)
