"""What the trials of a script have in common: the script, its settings, how it is started, what counts of its output.

A field of a search is an environment variable (`MATRIX_LR`, or `env.MATRIX_LR`), a flag (`arg.lr`) or a constant of the
source (`constant.WIDTH`).
"""

import math
import re
from collections.abc import Mapping

import msgspec

from golf.config.config import nearest
from golf.config.rules import CAP_BYTES
from golf.runtime.results import digest
from golf.scripts.inputs import ScriptInputs, check_value
from golf.scripts.settings import Setting
from tune.records.entries import REPEAT, SEED, Config, Objective
from tune.search.space import Point, value_text
from tune.workloads.script.files import ScriptFiles
from tune.workloads.script.process import Limits

ENV, ARG, CONSTANT = "env", "arg", "constant"
PLACES = (ENV, ARG, CONSTANT)
"""Where a setting of a script is given."""
STEPS_VARIABLES = ("ITERATIONS", "NUM_ITERATIONS", "MAX_STEPS", "TRAIN_STEPS")
"""Variables with the number of steps, the most usual first."""
CLOCK_VARIABLE = "MAX_WALLCLOCK_SECONDS"
"""Variable with the seconds that a schedule follows; 0 for a schedule by steps."""
BPB, ARTIFACT_BYTES = "val_bpb", "artifact_bytes"
_CONSTRAINT = re.compile(r"([A-Za-z_][\w./-]*)\s*(<=|>=)\s*([+-]?[\d._]+(?:[eE][+-]?\d+)?)")


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on a metric."""

    name: str
    bound: float
    at_least: bool = False
    """Whether the bound is the least value instead of the largest."""
    given: bool = True
    """Whether the user gave it: a run without the metric fails then."""

    def __str__(self) -> str:
        return f"{self.name}{'>=' if self.at_least else '<='}{self.bound:.12g}"

    def excess(self, value: float) -> float:
        """Returns by what part of the bound a value is beyond it; 0 where it is not."""
        beyond = self.bound - value if self.at_least else value - self.bound
        return max(0.0, beyond) / (abs(self.bound) or 1.0)


def parse_constraint(text: str) -> Constraint:
    """Returns the constraint of NAME<=X or NAME>=X. Raises: ValueError for another text."""
    match = _CONSTRAINT.fullmatch(text.strip())
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise ValueError(f"a constraint is NAME<=X or NAME>=X, such as 'artifact_bytes<=16000000'; got {text!r}")
    return Constraint(name=match[1], bound=bound, at_least=match[2] == ">=")


DEFAULT_CONSTRAINT = Constraint(name=ARTIFACT_BYTES, bound=CAP_BYTES, given=False)
"""The competition's cap; scripts that do not say their bytes are not held to it."""


def parse_objective(text: str) -> Objective:
    """Returns the objective of NAME, NAME:min or NAME:max. Raises: ValueError for another text."""
    name, _, direction = text.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w./-]*", name) or direction not in ("", "min", "max"):
        raise ValueError(f"an objective is NAME or NAME:max, such as val_bpb; got {text!r}")
    return Objective(name=name, maximize=direction == "max")


class ScriptSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How every trial of a script runs."""

    files: ScriptFiles
    """The copies of the script and the files beside it."""
    fixed: dict[str, dict[str, str]]
    """Settings of every trial, by where they are given: name -> value."""
    switches: tuple[str, ...] = ()
    """Flags that take no value."""
    places: dict[str, tuple[str, str]]
    """Field of the search -> where it is given, and the setting's name there."""
    seed_field: str | None
    """The field of the seed; None for a script without one."""
    default_seed: int | None
    """The seed of a trial that is not given another."""
    nproc: int
    """Processes of a trial."""
    launcher: str
    """"torchrun", "python", or a command with {script}, {nproc} and {args} in it."""
    resume_argument: str | None = None
    """Further words of a command that goes on from what an interrupted run left; None: it begins anew."""
    fixed_steps: int | None = None
    """Optimiser steps of every trial, whatever the clock says; None: as the script has it."""
    steps_variable: str | None = None
    """Variable with the number of steps; None where the script has none, or where a clock decides."""
    default_steps: int | None = None
    """What the script has for it."""
    metrics: tuple[str, ...] = ()
    """Metrics to look for: NAME=REGEX, NAME=json:KEY, NAME=file:PATH:KEY."""
    objective: Objective = Objective(name=BPB)
    """The metric that counts."""
    constraints: tuple[Constraint, ...] = (DEFAULT_CONSTRAINT,)
    passed: tuple[str, ...] = ()
    """Variables of this process's environment that are passed on."""
    limits: Limits = Limits()

    @property
    def likeness(self) -> str:
        """Digest of what its trials have in common but the data: script, fixed settings, processes and steps."""
        return digest(self.files.digest, self.fixed, self.nproc, self.launcher, self.fixed_steps)[:12]

    @property
    def cap(self) -> Constraint | None:
        """The cap on the artifact's bytes; None without one."""
        return next((one for one in self.constraints if one.name == ARTIFACT_BYTES and not one.at_least), None)

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the entries: by what a run is judged."""
        direction = ":max" if self.objective.maximize else ""
        return {"judged_by": "; ".join([f"{self.objective.name}{direction}", *map(str, self.constraints)])}

    def total_steps(self, config: Config) -> int | None:
        """Returns the optimiser steps of a trial; None where that is not known before."""
        if self.steps_variable is None:
            return None
        given = config[ENV].get(self.steps_variable, self.default_steps)
        return int(given) if given is not None and str(given).isdigit() else None


def find_field(inputs: ScriptInputs, field: str, unknown: frozenset[str] = frozenset()) -> tuple[str, str]:
    """Returns where a field is given, and the setting's name there.

    Args:
        inputs: of the script.
        field: NAME, env.NAME, arg.NAME or constant.NAME.
        unknown: variables that are taken although the script does not read them.

    Raises:
        ValueError: naming the nearest right name, for a setting that the script does not have.
    """
    place, dot, name = field.partition(".")
    if not dot or place not in PLACES:
        place, name = ENV, field
    known: Mapping[str, Setting] = {ENV: inputs.variables, ARG: inputs.flags, CONSTANT: inputs.constants}[place]
    if name not in known and name not in unknown:
        kind = {ENV: "environment variable", ARG: "flag", CONSTANT: "constant"}[place]
        others = [other for other in PLACES if other != place and name in _of(inputs, other)]
        hint = f"; it has one as {others[0]}.{name}" if others else nearest(name, sorted(known))
        insist = f" (--allow-unknown-env {name} insists)" if place == ENV else ""
        raise ValueError(f'the script reads no {kind} "{name}"{hint}{insist}')
    return place, name


def _of(inputs: ScriptInputs, place: str) -> Mapping[str, Setting]:
    return {ENV: inputs.variables, ARG: inputs.flags, CONSTANT: inputs.constants}[place]


def setting_of(inputs: ScriptInputs, place: str, name: str) -> Setting | None:
    """Returns a setting of the script; None for a variable that it does not read."""
    return _of(inputs, place).get(name)


def check_setting(inputs: ScriptInputs, field: str, place: str, name: str, value: str) -> None:
    """Raises ValueError naming the field for a value that the script's own conversion would not take."""
    setting = setting_of(inputs, place, name)
    if setting is not None:
        try:
            check_value(setting, value)
        except ValueError as error:
            raise ValueError(f"{field}={value}: {error}") from error


def config_of(settings: ScriptSettings, point: Point) -> dict[str, object]:
    """Returns the configuration of a point as JSON values: all that tells its run from another one of the script.

    Raises: ValueError for a field that is no setting, or a seed that is no whole number.
    """
    given = {place: dict(settings.fixed.get(place, {})) for place in PLACES}
    seed, repeat = settings.default_seed, point.get(REPEAT, 0)
    for field, value in point.items():
        if field == REPEAT:
            continue
        if field in (SEED, settings.seed_field):
            if settings.seed_field is None:
                raise ValueError("the script reads no seed; name its variable with --seed-name")
            seed = _seed(field, value)
            continue
        if field not in settings.places:
            raise ValueError(f'unknown field "{field}"{nearest(field, sorted(settings.places))}')
        place, name = settings.places[field]
        given[place][name] = value_text(value)
    if settings.seed_field is not None:
        place, name = settings.places[settings.seed_field]
        given[place].pop(name, None)
    config: dict[str, object] = {
        "script": settings.files.script,
        "files": settings.files.digest,
        **given,
        "nproc": settings.nproc,
        "launcher": settings.launcher,
    }
    config |= {} if settings.fixed_steps is None else {"fixed_steps": settings.fixed_steps}
    config |= {} if seed is None else {SEED: seed}
    config |= {"metrics": list(settings.metrics)} if settings.metrics else {}
    return config | ({REPEAT: repeat} if repeat else {})


def _seed(field: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"{field}={value}: a seed is a whole number") from None


def given_settings(settings: ScriptSettings, config: Config) -> dict[str, dict[str, str]]:
    """Returns the settings of a trial by where they are given, its seed and number of steps among them."""
    given = {place: dict(config[place]) for place in PLACES}
    if SEED in config and settings.seed_field is not None:
        place, name = settings.places[settings.seed_field]
        given[place][name] = str(config[SEED])
    return given
