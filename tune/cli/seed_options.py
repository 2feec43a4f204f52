"""The options of a seed study as values."""

import argparse
import math
from dataclasses import dataclass

from golf.config.rules import MARGIN_NATS, MIN_SEEDS
from tune.cli.options import Machines, Places, machines_of, places_of
from tune.cli.study_target import TargetOptions
from tune.records.entries import SEED


@dataclass(frozen=True, kw_only=True)
class SeedStudyOptions:
    """A command line of run_seeds.py as values; every path is absolute."""

    target: TargetOptions
    name: str | None
    """Name of the study; None: made of the target."""
    seeds: tuple[int, ...] | None
    """None: the usual ones."""
    repeats: int
    """Further runs of the first seed: none, or two or more."""
    cold: bool
    """Whether nothing is taken from the store."""
    max_seeds: int | None
    """Most seeds of a test with repeated looks; None: a fixed number of seeds."""
    baseline: tuple[str, ...]
    """Names or values that the seeds are compared with; empty: nothing."""
    baseline_in_nats: bool
    """Whether such values are in nats per token."""
    margin_nats: float
    """Nats per token that a gain has to exceed; of another metric than BPB in its own unit."""
    target_value: float | None = None
    """Value that the mean has to reach, instead of a gain."""
    track: str
    """The track whose seconds count."""
    dry_run: bool
    """Whether the runs are shown only."""
    compare: tuple[str, ...]
    """Names to compare, instead of running anything."""
    power: bool
    """Whether numbers of seeds are shown, instead of running anything."""
    gains_bpb: tuple[float, ...]
    """True gains to plan for in BPB."""
    gains_nats: tuple[float, ...]
    """True gains to plan for in nats per token."""
    noise_bpb: float | None
    """Deviation from seed to seed to plan by; None: the ledger's and the published one."""
    places: Places
    machines: Machines

    def __post_init__(self) -> None:
        if not math.isfinite(self.margin_nats):
            raise ValueError(f"--margin-nats must be finite, got {self.margin_nats}")
        if self.compare:
            if self.target.target is not None:
                raise ValueError(f'--compare takes its names alone; put "{self.target.target}" behind it')
            return
        if (self.target.target is None) == (self.target.best_of is None):
            raise ValueError(
                "give a preset, a config.json, a trial's id, or --from-sweep NAME --best: exactly one of them, and "
                "before options such as --baseline, which take every word behind them"
            )
        if any(text.partition("=")[0] == SEED for text in self.target.changes):
            raise ValueError("--set seed=... is not for a study: give the seeds with --seeds")
        if self.repeats == 1:
            raise ValueError("--repeat takes 2 or more runs, one shows no noise; got 1")
        if self.max_seeds is not None and not self.baseline:
            raise ValueError("--until-decided needs a --baseline: a study, its values or a published mean")
        if self.max_seeds is not None and self.max_seeds < MIN_SEEDS:
            raise ValueError(f"--max-seeds must be at least {MIN_SEEDS}, got {self.max_seeds}")


def options_of(parsed: argparse.Namespace) -> SeedStudyOptions:
    """Returns a resolved command line as values. Raises: ValueError for options that do not fit each other."""
    if parsed.preset is None and (parsed.from_sweep is not None) != parsed.best:
        raise ValueError("--from-sweep NAME and --best go together")
    target = TargetOptions(parsed.preset, parsed.from_sweep, parsed.split, tuple(parsed.set), parsed.data)
    default_margin = 0.0 if parsed.compare else MARGIN_NATS
    return study_options(parsed, target, default_margin, compare=tuple(parsed.compare or ()))


def study_options(
    parsed: argparse.Namespace,
    target: TargetOptions,
    default_margin: float,
    compare: tuple[str, ...] = (),
    target_value: float | None = None,
) -> SeedStudyOptions:
    """Returns the options that studies of presets and of scripts have in common, as values.

    Args: parsed: the resolved command line; target: what is run; default_margin: in nats per token, without
        --margin-nats; compare: studies to compare; target_value: what the scores are compared with, of a script.
    Raises: ValueError for options that do not fit each other.
    """
    return SeedStudyOptions(
        target=target,
        name=parsed.name,
        seeds=None if parsed.seeds is None else tuple(parsed.seeds),
        repeats=parsed.repeat,
        cold=parsed.cold,
        max_seeds=parsed.max_seeds if parsed.until_decided else None,
        baseline=tuple(parsed.baseline or ()),
        baseline_in_nats=parsed.baseline_nats,
        margin_nats=default_margin if parsed.margin_nats is None else parsed.margin_nats,
        target_value=target_value,
        track=parsed.track,
        dry_run=parsed.dry_run,
        compare=compare,
        power=parsed.power,
        gains_bpb=tuple(parsed.gain_bpb),
        gains_nats=tuple(parsed.gain_nats),
        noise_bpb=parsed.noise_bpb,
        places=places_of(parsed),
        machines=machines_of(parsed),
    )
