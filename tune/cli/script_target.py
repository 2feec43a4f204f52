"""A training script as the command line names it: its settings, what counts of its output, the consent to run it."""

import argparse
import getpass
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from golf.cli.start import imported
from golf.runtime.files import read_json, write_bytes, write_json
from golf.scripts.inputs import ScriptInputs, read_inputs
from golf.scripts.metrics import parse_metric
from golf.scripts.needs import ScriptNeeds, needs_of
from tune.records.entries import SEED, TrialEntry, WorldShape
from tune.records.layout import Storage
from tune.records.provenance import versions
from tune.search.early_stopping import Halving
from tune.search.space import Point, Range, Space, parse_range, read_points, split_choices
from tune.workloads.script.files import ScriptFiles, data_manifest, find_files, keep_copy
from tune.workloads.script.launch import PYTHON, TORCHRUN
from tune.workloads.script.process import Limits
from tune.workloads.script.settings import (
    ARG,
    CLOCK_VARIABLE,
    CONSTANT,
    DEFAULT_CONSTRAINT,
    ENV,
    PLACES,
    STEPS_VARIABLES,
    Constraint,
    ScriptSettings,
    check_setting,
    find_field,
    parse_constraint,
    parse_objective,
    setting_of,
)
from tune.workloads.script.workload import ScriptWorkload

_SEED_FIELDS = ("SEED", "arg.seed", f"{CONSTANT}.SEED", f"{CONSTANT}.seed")
_NO_CONSTRAINT = "none"
_DATA_NAMES = re.compile(r"DATA|TOKENIZER|VOCAB|CORPUS|SHARD|TRAIN|VAL|INPUT", re.IGNORECASE)
"""Names of variables whose files are read; others may be written."""
_SHOWN_FILES = 5
SAVED = "script.json"
"""File of a sweep's folder with the settings of its script."""


class _Saved(msgspec.Struct, frozen=True):
    """What a later study of a trial needs to know."""

    settings: ScriptSettings
    data: str
    dataset: str


@dataclass(frozen=True)
class ScriptTarget:
    """What trials run."""

    settings: ScriptSettings
    preset: str
    """Name of the script without its ending."""
    data: str
    """Digest of the files that its settings name."""
    dataset: str
    inputs: ScriptInputs
    needs: ScriptNeeds

    def workload(self, world: WorldShape, halving: Halving | None = None) -> ScriptWorkload:
        """Returns what the trials run, on the machines of one trial."""
        packages = {name: versions()[name] for name in ("python", "torch")}
        machine = packages | {"accelerator": imported("tune.cluster.ray_cluster:accelerators")()}
        return ScriptWorkload(self.settings, self.preset, world, self.data, self.dataset, halving, machine)

    def kept(self, storage: Storage, name: str) -> "ScriptTarget":
        """Returns the target with its files copied into the storage, which every machine of a cluster sees."""
        files = self.settings.files
        folder = storage.root / "scripts" / f"{self.preset}-{files.digest[:12]}"
        settings = msgspec.structs.replace(self.settings, files=keep_copy(files, folder))
        saved = _Saved(settings, self.data, self.dataset)
        write_bytes(storage.sweep(name) / SAVED, msgspec.json.encode(saved))
        return replace(self, settings=settings)


def read_target(parsed: argparse.Namespace) -> ScriptTarget:
    """Returns the script of a command line; it is read, not run.

    Raises:
        ValueError: for what cannot be run, naming the option.
        OSError: when a file cannot be read.
    """
    script = Path(parsed.preset).resolve()
    files = find_files(script, parsed.storage.resolve())
    try:
        inputs = read_inputs(script.read_bytes())
    except ValueError as error:
        raise ValueError(f"{script}: {error}") from error
    needs = needs_of(inputs, files.modules)
    unknown = frozenset(parsed.allow_unknown_env)
    fixed, places = _fixed(parsed, inputs, unknown)
    seed_field = _seed_field(parsed, inputs, unknown, places)
    default_seed = _default_seed(inputs, fixed, seed_field, places)
    if seed_field is not None:
        place, name = places[seed_field]
        fixed[place].pop(name, None)
    steps, by_clock = _steps(parsed, inputs, fixed, needs)
    data = [Path(value) for value in _path_values(fixed[ENV], inputs, files)]
    settings = ScriptSettings(
        files=files,
        fixed=fixed,
        switches=tuple(name for name, flag in inputs.flags.items() if flag.kind == "bool"),
        places=places,
        seed_field=seed_field,
        default_seed=default_seed,
        nproc=parsed.workers,
        launcher=parsed.launcher or (TORCHRUN if needs.distributed or parsed.workers > 1 else PYTHON),
        resume_argument=parsed.resume_arg,
        fixed_steps=parsed.fixed_steps,
        steps_variable=None if by_clock else steps,
        default_steps=None if steps is None else _number(inputs.variables[steps].default),
        metrics=tuple(parsed.metric),
        objective=parse_objective(parsed.objective or "val_bpb"),
        constraints=_constraints(parsed.constraint),
        passed=tuple(parsed.pass_env),
        limits=Limits(no_progress_seconds=parsed.no_progress_seconds),
    )
    for text in parsed.metric:
        parse_metric(text)
    dataset = ", ".join(path.name for path in data) or "the script's own"
    return ScriptTarget(settings, script.stem, data_manifest(data), dataset, inputs, needs)


def check_here(target: ScriptTarget, gpus: float | None) -> None:
    """Raises ValueError where this machine lacks what the script demands, before anything starts.

    Args:
        target: the script.
        gpus: GPUs of each process, as asked for; None: 1 where there are GPUs.
    """
    needs, nproc = target.needs, target.settings.nproc
    if needs.needs_cuda and (not torch.cuda.is_available() or gpus == 0):
        why = "no process is to get one" if gpus == 0 else "this machine has none that PyTorch can use"
        raise ValueError(f"{target.settings.files.script} demands a CUDA GPU, {why}; give --address of a cluster")
    if needs.world_size_divides is not None and needs.world_size_divides % nproc:
        raise ValueError(f"{target.settings.files.script} demands that --nproc divides {needs.world_size_divides}")
    if needs.missing_packages:
        names = " ".join(needs.missing_packages)
        raise ValueError(f"{target.settings.files.script} imports what is not installed here: {names}")


def told_changes(target: ScriptTarget, storage: Storage, name: str) -> str | None:
    """Returns in one line which files are others than those that a sweep or study ran before; None where none are."""
    path = storage.sweep(name) / SAVED
    if not path.exists():
        return None
    before, now = msgspec.json.decode(path.read_bytes(), type=_Saved).settings.files.files, target.settings.files.files
    changed = sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
    if not changed:
        return None
    more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
    return f"changed since {name} ran: {', '.join(changed[:_SHOWN_FILES])}{more}; its trials are run again"


def ask_trust(target: ScriptTarget, storage: Storage, trusted: bool) -> None:
    """Asks whether the script may be executed, once for each content of it.

    Raises: ValueError where there is nobody to ask and no --trust; KeyboardInterrupt for a no.
    """
    kept, own = storage.root / "scripts" / "trusted.json", target.settings.files.digest
    known = read_json(kept) if kept.exists() else []
    if own in known:
        return
    script, others = target.settings.files.script, len(target.settings.files.files) - 1
    if not trusted:
        if not sys.stdin.isatty():
            raise ValueError(f"{script} ({own[:12]}) has not run here before; --trust runs it as {getpass.getuser()}")
        beside = f" and {others} files beside it" if others else ""
        question = f"{script}{beside} will be executed here as {getpass.getuser()}. Run it? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            raise KeyboardInterrupt
    write_json(kept, [*known, own])


def read_space(
    target: ScriptTarget, words: Iterable[str], allowed: Iterable[str]
) -> tuple[Space, dict[str, tuple[str, str]]]:
    """Returns the space of --space, and where its fields are given.

    Args:
        target: the script.
        words: FIELD=A,B,... or FIELD=RANGE.
        allowed: variables that are taken although the script does not read them.

    Raises:
        ValueError: naming a field that the script does not have, or a value that it would not take.
    """
    space: dict[str, list[str | int | float] | Range] = {}
    places: dict[str, tuple[str, str]] = {}
    for word in words:
        field, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--space takes FIELD=A,B,... or FIELD=LOW..HIGH, got {word!r}")
        place, name = find_field(target.inputs, field, frozenset(allowed))
        if (place, name) in places.values():
            raise ValueError(f"--space {field} is given twice; put all its choices behind one")
        if name in target.settings.fixed[place]:
            raise ValueError(f"{field} is both searched and fixed: leave out --{place} {name} or --space {field}")
        found = parse_range(text, f"--space {field}")
        if found is None:
            choices = list(dict.fromkeys(split_choices(text, f"--space {field}")))
            for choice in choices:
                check_setting(target.inputs, f"--space {field}", place, name, choice)
            space[field] = [_typed(choice) for choice in choices]
        else:
            setting = target.inputs.variables.get(name) if place == ENV else None
            if setting is not None and setting.kind == "int" and found.step is None:
                raise ValueError(f"--space {field}={text}: {name} is a whole number in the script; give int:{text}")
            space[field] = found
        places[field] = place, name
    return space, places


def read_enqueued(
    target: ScriptTarget, texts: Sequence[str], space: Space, places: Mapping[str, tuple[str, str]]
) -> list[Point]:
    """Returns the points of --enqueue; others have the script's own values. Raises: ValueError."""

    def read(field: str, text: str) -> str | int | float:
        check_setting(target.inputs, f"--enqueue {field}", *places[field], text)
        return _typed(text)

    def default(field: str) -> str | int | float | None:
        setting = setting_of(target.inputs, *places[field])
        return None if setting is None or setting.default is None else _typed(setting.default)

    return read_points(texts, space, read, default)


def target_of_trial(entry: TrialEntry, storage: Storage) -> ScriptTarget:
    """Returns the script of a trial of the ledger, with the trial's settings as fixed ones.

    Raises: ValueError where the files of its sweep are gone.
    """
    path = storage.sweep(entry.sweep) / SAVED
    if not path.exists():
        raise ValueError(f"trial {entry.trial} was imported or its sweep's {path} is gone: give the script itself")
    saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    files = saved.settings.files
    folder = storage.root / "scripts" / f"{Path(files.script).stem}-{entry.code[:12]}"
    script = folder / files.script
    if not script.exists():
        raise ValueError(f"{script}, which trial {entry.trial} ran, is gone: give the script itself")
    inputs = read_inputs(script.read_bytes())
    seed = entry.config.get(SEED, saved.settings.default_seed)
    settings = msgspec.structs.replace(
        saved.settings,
        files=msgspec.structs.replace(files, folder=str(folder)),
        fixed={place: dict(entry.config[place]) for place in PLACES},
        default_seed=seed,
    )
    return ScriptTarget(settings, Path(files.script).stem, saved.data, saved.dataset, inputs, needs_of(inputs))


def _fixed(
    parsed: argparse.Namespace, inputs: ScriptInputs, unknown: frozenset[str]
) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, str]]]:
    """Returns the settings of every trial by where they are given, and the place of each."""
    fixed: dict[str, dict[str, str]] = {place: {} for place in PLACES}
    places: dict[str, tuple[str, str]] = {}
    for place, words in ((ENV, parsed.env), (ARG, parsed.arg), (CONSTANT, parsed.constant)):
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"--{place} takes NAME=VALUE, got {word!r}")
            _, name = find_field(inputs, f"{place}.{name}", unknown)
            check_setting(inputs, f"--{place} {name}", place, name, value)
            fixed[place][name] = _absolute(value)
            places[f"{place}.{name}"] = place, name
    return fixed, places


def _absolute(value: str) -> str:
    """Returns the absolute path where a value is a path of something that is there; trials run elsewhere."""
    looks = "/" in value or value in (".", "..")
    return str(Path(value).resolve()) if looks and not value.startswith("/") and Path(value).exists() else value


def _path_values(variables: Mapping[str, str], inputs: ScriptInputs, files: ScriptFiles) -> list[str]:
    """Returns the data files and folders that variables name, those of defaults beside the script among them."""
    defaults = {name: found.default for name, found in inputs.variables.items() if found.default}
    named = {name: str(Path(files.folder) / default) for name, default in defaults.items()} | dict(variables)
    values = [value for name, value in named.items() if _DATA_NAMES.search(name)]
    found = [value for value in values if value.startswith("/") and "\0" not in value and len(value) < 4096]
    return [value for value in dict.fromkeys(found) if Path(value).exists() and Path(value) != Path(files.folder)]


def _seed_field(
    parsed: argparse.Namespace, inputs: ScriptInputs, unknown: frozenset[str], places: dict[str, tuple[str, str]]
) -> str | None:
    """Returns the field of the seed; its place is entered."""
    for field in (parsed.seed_name,) if parsed.seed_name else _SEED_FIELDS:
        try:
            places[field] = find_field(inputs, field, unknown)
        except ValueError:
            if parsed.seed_name:
                raise
            continue
        return str(field)
    return None


def _default_seed(
    inputs: ScriptInputs,
    fixed: Mapping[str, Mapping[str, str]],
    field: str | None,
    places: Mapping[str, tuple[str, str]],
) -> int | None:
    if field is None:
        return None
    place, name = places[field]
    known = {ENV: inputs.variables, ARG: inputs.flags, CONSTANT: inputs.constants}[place].get(name)
    return _number(fixed[place].get(name, None if known is None else known.default))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def _steps(
    parsed: argparse.Namespace, inputs: ScriptInputs, fixed: dict[str, dict[str, str]], needs: ScriptNeeds
) -> tuple[str | None, bool]:
    """Returns the variable with the number of steps and whether a clock decides; --fixed-steps sets both.

    Raises: ValueError where --fixed-steps is given and the script has no such variable.
    """
    steps = next((name for name in STEPS_VARIABLES if name in inputs.variables), None)
    if parsed.fixed_steps is not None:
        if steps is None:
            raise ValueError(f"--fixed-steps sets {STEPS_VARIABLES[0]}, which the script does not read")
        for name in (steps, CLOCK_VARIABLE):
            if name in fixed[ENV]:
                raise ValueError(f"--fixed-steps sets {name}, leave out --env {name}")
        fixed[ENV][steps] = str(parsed.fixed_steps)
        if CLOCK_VARIABLE in inputs.variables:
            fixed[ENV][CLOCK_VARIABLE] = "0"
        return steps, False
    clock = fixed[ENV].get(CLOCK_VARIABLE)
    return steps, needs.by_clock if clock is None else float(clock) > 0


def _constraints(words: Iterable[str]) -> tuple[Constraint, ...]:
    given = [parse_constraint(word) for word in words if word != _NO_CONSTRAINT]
    has_cap = _NO_CONSTRAINT in words or any(one.name == DEFAULT_CONSTRAINT.name for one in given)
    return (*given, *(() if has_cap else (DEFAULT_CONSTRAINT,)))


def _typed(text: str) -> str | int | float:
    """Returns a number where a text is one that is written back as it was read."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and math.isfinite(value):
            return value
    return text
