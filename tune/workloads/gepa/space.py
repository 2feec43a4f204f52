"""The search space of GEPA trials: choices of configuration fields, and the configurations that points stand for.

"split" stands for a named quantisation split, "repeat" for the number of a run that is done again: from 1 on it has an
id of its own, and nobody else's results may stand for it.
"""

import contextlib
import difflib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from golf.cli.options import assignment_of
from golf.config.config import RunConfig, override_all, to_plain, typed_value
from golf.config.presets import PRESETS, SPLITS, find_split, with_split
from golf.runtime.results import digest
from tune.records.entries import REPEAT, Config
from tune.records.text import flat
from tune.search.space import (
    Point,
    Range,
    Space,
    Trial,
    choices_of,
    parse_range,
    point_name,
    read_points,
    split_choices,
    value_text,
)
from tune.workloads.gepa.ranges import FIELDS, SPLIT, usual_choices

GRIDS = ("quant.attention", "quant.mlp", "quant.token_embedding", "quant.tables")
"""What a split sets."""

SPACES: dict[str, Space] = {
    "demo": {
        "schedule.steps": [160, 200],
        "schedule.warmdown_start": [30, 60],
        SPLIT: ["mixed-int6-int8", "pure-int6", "int5-mlp"],
        "ttt.lr": [0.005, 0.01, 0.02],
        "ttt.epochs": [1, 2],
    },
    "demo-april": {
        "schedule.loop_start": [0.0, 0.35, 0.7],
        "schedule.warmdown_fraction": [0.5, 0.72],
        "optimizer.weight_decay.matrices": [0.02, 0.095],
        "quant.mlp.bits": [6, 7],
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


def own_space(preset: str | None) -> Space:
    """Returns the space of a preset; an empty one for None, a configuration file."""
    return SPACES.get(preset, SPACES["pr598"]) if preset in PRESETS else {}


def _check_name(base: RunConfig, field: str) -> None:
    """Raises ValueError with the nearest right names for a field that does not exist."""
    names = [*FIELDS, *_leaves(to_plain(base))]
    if field not in names:
        close = difflib.get_close_matches(field, names, n=3, cutoff=0.5)
        close += [name for name in names if name.rpartition(".")[2] == field and name not in close]
        hint = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
        raise ValueError(f'--only: unknown field "{field}"{hint} (all fields: `python -m golf fields`)')


def _leaves(plain: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in plain.items():
        yield f"{path}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")


def space_of(
    preset: str | None, changes: Space, fixed: Mapping[str, Any] | None = None, say: Callable[[str], object] = print
) -> Space:
    """Returns the preset's space with the choices in `changes` instead of its own; these alone for what is no preset.

    Args: preset: None for a configuration file; changes: choices of the command line; fixed: fields of every trial,
        which are taken out of the preset's space; say: prints what is taken out.
    Raises: ValueError when nothing would be searched, or a field is both searched and fixed.
    """
    fixed = fixed or {}
    _check_apart(changes, fixed)
    kept = {}
    for field, choices in own_space(preset).items():
        by = next((name for name in (*fixed, *changes) if name != field and _overlap(name, field)), None)
        if field in fixed or by is not None:
            said = "--set fixes it" if by is None else f"{'--set' if by in fixed else '--space'} {by} decides it"
            say(f"{field} leaves the search: {said}")
        else:
            kept[field] = choices
    space = _with_grids({**kept, **changes}, fixed)
    if not space:
        if preset in PRESETS:
            raise ValueError(
                f"every field of {preset}'s space is set: nothing is left to search; give --space FIELD=A,B,..."
            )
        raise ValueError("a configuration file has no space of its own; give --space FIELD=A,B,...")
    return space


def only_space(
    fields: Sequence[str],
    base: RunConfig,
    preset: str | None,
    changes: Space,
    fixed: Mapping[str, Any] | None = None,
    say: Callable[[str], object] = print,
) -> Space:
    """Returns the space of --only: of each field the choices in `changes`, else the preset's own, else the usual ones.

    Args:
        fields: to be searched; all others have their values in `base`.
        base: configuration of every trial, with the fields in `fixed` set.
        preset: None for a configuration file.
        changes: choices of --space.
        fixed: fields of --set.
        say: prints what of `changes` is left out.

    Raises: ValueError naming a field that does not exist, with near matches, that has no usual range, or that is fixed.
    """
    own = {field: choices for field, choices in own_space(preset).items() if len(choices_of(choices)) > 1}
    known, fixed = {**own, **changes}, fixed or {}
    space: dict[str, Sequence[Any] | Range] = {}
    for field in fields:
        found = known[field] if field in known else usual_choices(base, field)
        if found is None:
            _check_name(base, field)
            give = f"give one: --space {field}=A,B,... or {field}=LOW..HIGH (--help lists the fields that have one)"
            raise ValueError(f"--only {field}: it has no usual range; {give}")
        space[field] = found
    for field in changes:
        if field not in space:
            say(f"{field} leaves the search: --only does not name it")
    _check_apart(space, fixed, "--only")
    return _with_grids(space, fixed)


def enqueued_points(texts: Sequence[str], space: Space, base: RunConfig) -> list[Point]:
    """Returns the points of --enqueue; others have their values in `base`. Raises: ValueError."""
    plain = to_plain(base)

    def read(field: str, text: str) -> Any:
        value = assignment_of(f"{field}={text}", "--enqueue")[1]
        canonical_choice(field, value, "--enqueue")
        return value

    def default(field: str) -> Any:
        if field == SPLIT:
            return next((name for name in SPLITS if with_split(base, name) == base), None)
        value: Any = plain
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    return read_points(texts, space, read, default)


def _with_grids(space: Space, fixed: Mapping[str, Any]) -> Space:
    """Returns a space with what is set of the grids: a split sets whole grids, so that it comes after it in a trial."""
    if SPLIT not in space:
        return space
    return {
        **space,
        **{field: [value] for field, value in fixed.items() if any(_overlap(field, grid) for grid in GRIDS)},
    }


def _check_apart(searched: Space, fixed: Mapping[str, Any], option: str = "--space") -> None:
    """Raises ValueError for a field that is searched twice, or searched and fixed. Args: option: that searches."""
    pairs = [(one, "--set", other) for one in searched for other in fixed]
    pairs += [(one, option, other) for one, other in itertools.combinations(searched, 2)]
    for one, other_option, other in pairs:
        if _overlap(one, other):
            raise ValueError(f"{option} {one} and {other_option} {other} say what one field is: give only one of them")


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


def canonical_choice(field: str, value: Any, option: str = "--space") -> str:
    """Returns a choice in the one form that equal choices share. Args: option: by which it was given, for errors.

    Raises: ValueError naming the field, the choice and what it may be.
    """
    if field == REPEAT:
        return json.dumps(value)
    try:
        typed = str(find_split(str(value))) if field == SPLIT else typed_value(field, value)
    except ValueError as error:
        remedy = "; ranges are LOW..HIGH, log:LOW..HIGH, int:LOW..HIGH:STEP" if ".." in str(value) else ""
        raise ValueError(f"{option} {field}={value_text(value)}: {error}{remedy}") from error
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
