"""The search space of GEPA trials: choices of configuration fields, and the configurations that points stand for.

"split" stands for a named quantisation split, "repeat" for the number of a run that is done again: from 1 on it has an
id of its own, and nobody else's results may stand for it.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from golf.cli.options import assignment_of
from golf.config.config import RunConfig, override_all, to_plain, typed_value
from golf.config.presets import PRESETS, find_split, with_split
from golf.runtime.results import digest
from tune.records.entries import REPEAT, Config
from tune.records.text import flat
from tune.search.space import Point, Range, Space, Trial, parse_range, point_name, split_choices, value_text

SPLIT = "split"
GRIDS = ("quant.attention", "quant.mlp", "quant.token_embedding", "quant.tables")
"""What a split sets."""

SPACES: dict[str, Space] = {
    "demo": {
        "schedule.steps": [130, 200],
        "schedule.warmdown_start": [30, 60],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "ttt.lr": [0.005, 0.01],
        "ttt.epochs": [1, 2],
    },
    "demo-april": {
        "schedule.loop_start": [0.0, 0.35, 0.7],
        "schedule.warmdown_fraction": [0.5, 0.72],
        "optimizer.weight_decay.matrices": [0.02, 0.095],
        "ttt.lr": [0.005, 0.01],
        "ttt.epochs": [1, 2],
    },
    "pr1394": {
        "schedule.loop_start": [0.25, 0.35, 0.5],
        "schedule.warmdown_fraction": [0.6, 0.72],
        "optimizer.weight_decay.matrices": [0.085, 0.09, 0.095, 0.1],
        "quant.mlp.deviations": [12.0, 12.85, 14.0],
    },
    "pr1493": {
        "schedule.loop_start": [0.25, 0.35, 0.5],
        "schedule.warmdown_fraction": [0.6, 0.72],
        "optimizer.weight_decay.matrices": [0.085, 0.09, 0.095, 0.1],
        "quant.mlp.deviations": [12.0, 12.85, 14.0],
        "ttt.lr": [0.002, 0.005],
        "ttt.epochs": [3],
    },
    "pr598": {
        "schedule.steps": [7000, 9000],
        "schedule.warmdown_start": [3500, 5000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "ttt.lr": [0.001, 0.002, 0.004],
        "ttt.epochs": [3, 10],
    },
    "pr668": {
        "schedule.steps": [20_000, 30_000],
        "schedule.warmdown_start": [8000, 12_000],
        "schedule.warmdown_shape": ["linear", "cosine"],
        SPLIT: ["pure-int6", "mixed-int6-int8"],
        "ttt.lr": [0.001, 0.002, 0.004],
        "ttt.epochs": [3, 10],
    },
}
"""By preset; the other presets take pr598's."""


def space_of(
    preset: str | None, changes: Space, fixed: Mapping[str, Any] | None = None, say: Callable[[str], object] = print
) -> Space:
    """Returns the preset's space with the choices in `changes` instead of its own; these alone for what is no preset.

    Args: preset: None for a configuration file; changes: choices of the command line; fixed: fields of every trial,
        which are taken out of the preset's space; say: prints what is taken out.
    Raises: ValueError when nothing would be searched, or a field is both searched and fixed.
    """
    fixed = fixed or {}
    pairs = [(one, "--set", other) for one in changes for other in fixed]
    pairs += [(one, "--space", other) for one, other in itertools.combinations(changes, 2)]
    for one, option, other in pairs:
        if _overlap(one, other):
            raise ValueError(f"--space {one} and {option} {other} say what one field is: give only one of them")
    kept = {}
    for field, choices in (SPACES.get(preset, SPACES["pr598"]) if preset in PRESETS else {}).items():
        by = next((name for name in (*fixed, *changes) if name != field and _overlap(name, field)), None)
        if field in fixed or by is not None:
            said = "--set fixes it" if by is None else f"{'--set' if by in fixed else '--space'} {by} decides it"
            say(f"{field} leaves the search: {said}")
        else:
            kept[field] = choices
    space = {**kept, **changes}
    if SPLIT in space:  # a split sets whole grids: what is set of them comes after it, in every trial
        space |= {field: [value] for field, value in fixed.items() if any(_overlap(field, grid) for grid in GRIDS)}
    if not space:
        if preset in PRESETS:
            raise ValueError(
                f"every field of {preset}'s space is set: nothing is left to search; give --space FIELD=A,B,..."
            )
        raise ValueError("a configuration file has no space of its own; give --space FIELD=A,B,...")
    return space


def _overlap(one: str, other: str) -> bool:
    """Whether one field is the other or a part of it."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def read_choices(words: Sequence[str], say: Callable[[str], object] = print) -> Space:
    """Returns the fields of --space with their choices A,B,... or ranges; equal choices become one, `say` prints that.

    Raises: ValueError naming a field that is given twice or has no choices, or a choice of another type.
    """
    found: dict[str, Sequence[Any] | Range] = {}
    for word in words:
        field, _ = assignment_of(word, "--space")
        if field in found:
            raise ValueError(f"--space {field} is given twice; put all its choices behind one: {field}=A,B,...")
        given = parse_range(word.partition("=")[2], f"--space {field}")
        if given is not None:
            found[field] = given
            continue
        seen: dict[str, str] = {}
        choices = []
        for text in split_choices(word.partition("=")[2], f"--space {field}"):
            value = assignment_of(f"{field}={text}", "--space")[1]
            key = canonical_choice(field, value)
            if key in seen:
                say(f"--space {field}: {text} is the same as {seen[key]}, one choice")
            else:
                seen[key] = text
                choices.append(value)
        found[field] = choices
    return found


def canonical_choice(field: str, value: Any) -> str:
    """Returns a choice in the one form that equal choices share.

    Raises: ValueError naming the field, the choice and what it may be.
    """
    if field == REPEAT:
        return json.dumps(value)
    try:
        typed = str(find_split(str(value))) if field == SPLIT else typed_value(field, value)
    except ValueError as error:
        remedy = "; ranges are LOW..HIGH, log:LOW..HIGH, int:LOW..HIGH:STEP" if ".." in str(value) else ""
        raise ValueError(f"--space {field}={value_text(value)}: {error}{remedy}") from error
    return json.dumps(to_plain(typed) if is_dataclass(typed) else typed, sort_keys=True)


def make_trial(base: RunConfig, point: Point, data: str) -> Trial:
    """Returns the trial of a point.

    Args: base: configuration of every trial, of which the point's fields are set; point: values of the searched fields;
        data: digest of the dataset.
    Raises: ValueError naming a wrong field or value, also of a combination.
    """
    values = {field: value for field, value in point.items() if field not in (SPLIT, REPEAT)}
    plain = to_plain(override_all(with_split(base, point[SPLIT]) if SPLIT in point else base, values))
    repeat = point.get(REPEAT, 0)
    if type(repeat) is not int or repeat < 0:
        raise ValueError(f"{REPEAT} must be a whole number from 0 on, got {repeat!r}")
    again = [{REPEAT: repeat}] if repeat else []
    identity = digest(plain, data, *again)[:12]
    return Trial(trial=identity, parameters=dict(point), name=point_name(point), config=plain)


def changed_fields(preset: str, point: Point, config: Config) -> Point:
    """Returns the fields of a trial that are set otherwise than its preset and its point set them, dotted.

    Args: preset: its name, or that of a file, whose fields are compared with RunConfig's own values; point: values of
        the searched fields; config: the whole configuration, as JSON values.
    """
    base = PRESETS.get(preset, RunConfig())
    usual = flat(to_plain(base))
    with contextlib.suppress(ValueError):  # a point that this version of the program does not know
        usual = flat(make_trial(base, point, "").config)
    return {field: value for field, value in flat(config).items() if field not in usual or usual[field] != value}
