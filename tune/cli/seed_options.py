"""Options of run_seeds.py, parsed into values."""

import argparse
import math
from dataclasses import dataclass

from golf.cli.options import Parser, above, whole
from golf.config.presets import PRESETS
from golf.config.rules import MARGIN_NATS, MIN_SEEDS, NON_RECORD, TRACK_SECONDS
from tune.cli.options import Machines, Places, add_machines, add_places, machines_of, places_of
from tune.cli.study_target import TargetOptions
from tune.records.entries import SEED
from tune.study.preregistration import SEEDS

DESCRIPTION = """Runs one configuration under several seeds with Ray Tune and reports what they show.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""
EXAMPLES = """
examples:
  run_seeds.py demo                                       three seeds, and what they show
  run_seeds.py demo --split int5-mlp --baseline demo-seeds    three of another split against them
  run_seeds.py --from-sweep demo --best --seeds 7 8 9     of the winner of a sweep
  run_seeds.py pr598 --baseline 1.12 --until-decided --max-seeds 8
  run_seeds.py demo --power --gain-nats 0.01              how many seeds that gain needs; runs nothing
  run_seeds.py --compare demo-seeds demo-int5-mlp-seeds   two studies, chunk by chunk and seed by seed

exit status: 0, also when some runs failed, which is said; 1 when no run gave a score and some failed; 2 for what
cannot be run; 130 when it was stopped and can be continued
"""
MAX_SEEDS = 10


def make_parser() -> Parser:
    """Returns the parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("run_seeds.py", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=form)
    target = f"one of {', '.join(PRESETS)}, the path of a config.json, or a trial's id in the ledger (or its beginning)"
    parser.add_argument("preset", nargs="?", help=target)
    parser.add_argument("--from-sweep", metavar="NAME", help="a configuration of this sweep, with --best")
    parser.add_argument("--best", action="store_true", help="the sweep's best trial under the cap")
    parser.add_argument("--dry-run", action="store_true", help="print the runs with their work and stop")
    runs = parser.add_argument_group("runs")
    runs.add_argument("--seeds", type=whole(most=2**63 - 1), nargs="+", help=f"({' '.join(map(str, SEEDS))})")
    runs.add_argument("--split", help="another quantisation split")
    runs.add_argument("--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE", help="fields to change")
    runs.add_argument("--repeat", type=whole(), default=0, metavar="K", help="run the first seed K more times")
    runs.add_argument("--cold", action="store_true", help="compute all anew, share nothing: what a record claims")
    add_test(parser)
    others = parser.add_argument_group("without running anything")
    others.add_argument("--compare", nargs="+", metavar="NAME", help="compare with the first, on one stream")
    others.add_argument("--power", action="store_true", help="how many seeds a gain needs")
    others.add_argument("--gain-bpb", type=above("BPB"), nargs="+", default=[], help="true gains, for --power")
    others.add_argument("--gain-nats", type=above("nats"), nargs="+", default=[], help="the same in nats per token")
    others.add_argument("--noise-bpb", type=float, help="deviation from seed to seed, for --power (the ledger's)")
    add_places(parser, "the study's name (made of preset or trial and changes); the same name continues")
    add_machines(parser)
    return parser


def add_test(parser: Parser) -> None:
    """Adds the options of the test against a baseline."""
    test = parser.add_argument_group("test")
    baseline = "a study, SWEEP:TRIAL or trial in the ledger, the values of its seeds, or one published mean, in BPB"
    test.add_argument("--baseline", nargs="+", metavar="NAME|VALUE", help=baseline)
    test.add_argument("--baseline-nats", action="store_true", help="values of --baseline are nats per token")
    test.add_argument("--margin-nats", type=float, help=f"that a gain has to exceed ({MARGIN_NATS}; 0 for --compare)")
    track = "whose seconds count (%(default)s)"
    test.add_argument("--track", choices=list(TRACK_SECONDS), default=NON_RECORD, help=track)
    test.add_argument("--until-decided", action="store_true", help="add seeds until the gain is shown or denied")
    test.add_argument("--max-seeds", type=whole(), default=MAX_SEEDS, help="for --until-decided (%(default)s)")


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
    """Nats per token that a gain has to exceed."""
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
        track=parsed.track,
        dry_run=parsed.dry_run,
        compare=tuple(parsed.compare or ()),
        power=parsed.power,
        gains_bpb=tuple(parsed.gain_bpb),
        gains_nats=tuple(parsed.gain_nats),
        noise_bpb=parsed.noise_bpb,
        places=places_of(parsed),
        machines=machines_of(parsed),
    )
