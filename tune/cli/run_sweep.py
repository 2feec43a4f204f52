"""Searches a preset's step count, warmdown, quantisation split and TTT settings under its byte cap, with Ray Tune.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from golf.cli.inputs import names_file, read_config
from golf.cli.options import Parser, above, assignments, real, whole
from golf.cli.terminal import quiet_when_closed
from golf.config.config import nearest
from golf.config.presets import DEMO_PRESETS, PRESETS
from golf.runtime.results import LADDER
from tune.cache.prefix_tree import format_trees
from tune.cache.store import Store
from tune.cli.console import best_of, ending_of, table
from tune.cli.options import (
    add_machines,
    add_places,
    guarded_anywhere,
    machines_of,
    open_data,
    places_of,
)
from tune.cli.session import Runs, Session
from tune.cluster.sweep import finished
from tune.planning.forecast import Forecast, forecast
from tune.planning.plan_plot import draw_tree
from tune.planning.stage_timings import TRAIN, StageTimings
from tune.planning.text import format_forecast, format_forecast_vs_actual
from tune.records.entries import TrialEntry, WorldShape
from tune.records.ledger import Ledger
from tune.records.provenance import outdated
from tune.search.search import DEFAULT_TRIALS, STRATEGIES, Search, SearchConfig
from tune.search.successive_halving import SuccessiveHalving
from tune.tracking.tracker import runs_page, sync
from tune.workloads.gepa.describe import describe_text_passes, dry_run_table
from tune.workloads.gepa.settings import config_of
from tune.workloads.gepa.space import read_choices, space_of
from tune.workloads.gepa.stages import PACK, training_trees
from tune.workloads.gepa.workload import GepaWorkload

EXAMPLES = """
examples:
  run_sweep.py demo                                   six trials on two cores, two to five minutes
  run_sweep.py demo --dry-run                         what would be run
  run_sweep.py demo --search grid --space split=pure-int6,int8 --space ttt.epochs=1,3
  run_sweep.py pr598 --data data/fineweb --workers 8  trials of 8 GPUs each on this machine
  run_sweep.py demo --address job --storage /mnt/golf on a cluster, see docs/cluster.md

exit status: 0, also when some trials failed or none fits under the cap, which is said; 1 when no trial gave a score
and some failed; 2 for what cannot be run; 130 when it was stopped and can be continued
"""
DEMO_TRIALS = 6


def make_parser() -> Parser:
    """Returns the parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("run_sweep.py", description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("preset", help=f"one of {', '.join(PRESETS)}, or the path of a config.json")
    parser.add_argument("--dry-run", action="store_true", help="print the trials with their work and stop")
    parser.add_argument("--plan", action="store_true", help="print and draw the tree, the work and its price, and stop")
    add_plan(parser)
    add_search(parser)
    places = add_places(parser, "the sweep's name (the preset's); the same name continues")
    places.add_argument("--no-reuse", action="store_true", help="compute every trial alone, share nothing")
    add_machines(parser)
    return parser


def add_plan(parser: Parser) -> None:
    """Adds the options of --plan."""
    plan = parser.add_argument_group("plan", "for --plan, instead of what finished trials in the ledger took")
    price = "for a price; takes --gpus-per-worker as 1"
    plan.add_argument("--dollars-per-gpu-hour", type=real(unit="dollars"), help=price)
    in_all = "GPUs in all, for the wall clock (those of one trial)"
    plan.add_argument("--gpus", type=whole(least=1), metavar="N", help=in_all)
    plan.add_argument("--step-seconds", type=above("seconds"), metavar="S", help="of one optimiser step")
    plan.add_argument(
        "--stage-seconds",
        type=seconds_of,
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE=S",
        help="of pack, sliding, ttt, ...",
    )


def add_search(parser: Parser) -> None:
    """Adds the options of the search and its screening."""
    search = parser.add_argument_group("search")
    search.add_argument("--search", default="tpe", help=f"one of {', '.join(STRATEGIES)} (%(default)s)")
    trials = f"at most so many trials ({DEMO_TRIALS} for demo, all of a grid, else {DEFAULT_TRIALS})"
    search.add_argument("--trials", type=int, help=trials)
    choices = 'choices of fields; "split" is a quantisation split; python -m golf fields lists all'
    for option, metavar, text in (
        ("--space", "FIELD=A,B,...", choices),
        ("--set", "FIELD=VALUE", "fields of every trial"),
    ):
        search.add_argument(option, action="extend", nargs="+", default=[], metavar=metavar, help=text)
    seed = "seed of the search; seed=N in --set is the model's"
    search.add_argument("--seed", type=whole(most=2**32 - 1), default=0, help=seed)
    search.add_argument("--no-screening", action="store_true", help="evaluate every trial that fits in full")
    fraction = "share of the stream to screen on (%(default)s)"
    search.add_argument("--screen-fraction", type=real(most=0.5, open_below=True), default=0.1, help=fraction)
    top = "share of the trials that go on from it (%(default)s)"
    search.add_argument("--top", type=real(most=1.0, open_below=True), default=0.5, help=top)


def seconds_of(text: str) -> tuple[str, float]:
    """Parses STAGE=S of --stage-seconds. Raises: argparse.ArgumentTypeError."""
    stage, equals, seconds = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be STAGE=S, got {text!r}")
    if stage not in (PACK, *LADDER):
        raise argparse.ArgumentTypeError(f'unknown stage "{stage}"{nearest(stage, (PACK, *LADDER))}')
    return stage, real(unit="seconds")(seconds)


def search_config(parsed: argparse.Namespace) -> SearchConfig:
    """Returns the search that the command line asks for: the preset's space with --space, less the fields of --set."""
    preset = None if names_file(parsed.preset) else parsed.preset
    space = space_of(preset, read_choices(parsed.space), assignments(parsed.set))
    trials = parsed.trials
    if trials is None and parsed.preset in DEMO_PRESETS and parsed.search != "grid":
        trials = DEMO_TRIALS
    return SearchConfig(spaces=(space,), strategy=parsed.search, num_trials=trials, seed=parsed.seed)


class SweepCommand:
    """A sweep from the command line: shown, planned, or run and reported."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """Reads configuration, data and ledger. Raises: ValueError, OSError for what cannot be run."""
        self.parsed, self.places, self.machines = parsed, places_of(parsed), machines_of(parsed)
        self.base, self.storage = read_config(parsed), self.places.storage
        self.preset = Path(parsed.preset).stem
        self.name = parsed.name or self.preset
        config = search_config(parsed)
        self.dataset = open_data(parsed.data, self.base, parsed.preset, self.storage)
        screening = SuccessiveHalving(fraction=parsed.screen_fraction, top=parsed.top)
        self.screening = None if parsed.no_screening else screening
        planned = self.machines.planned_workers(assume_gpus=parsed.dollars_per_gpu_hour is not None)
        workload = self.workload(planned.world)
        self.known = finished(self.name, self.storage, workload.code, self.screening is not None)
        self.search = Search(config, workload.trial, self.known)
        self.planned_workload = workload.for_trials(self.search.candidates())

    def workload(self, world: WorldShape) -> GepaWorkload:
        """Returns what the trials run, on the machines of one trial."""
        workload = GepaWorkload.of(self.base, self.preset, self.dataset, world)
        return replace(workload, screening=self.screening, screening_file=self.storage.screened(self.name))

    def run(self) -> int:
        """Shows, plans or runs the sweep. Returns: the exit status."""
        trials = self.search.planned()
        if self.parsed.dry_run:
            print(dry_run_table(trials, self.dataset, len(self.known)))
            return 0
        planned = self.forecast()
        passes = describe_text_passes(list(map(config_of, self.search.candidates())), self.dataset)
        if self.parsed.plan:
            self.show_plan(planned)
            print(passes)
            return 0
        code = self.planned_workload.code
        num_outdated = sum(outdated(entry, code) for entry in Ledger(self.storage.ledger).latest(self.name))
        if num_outdated:
            reason = "ran with other code or another torch: they are run again, as far as it changes them"
            print(f"{num_outdated} trials {reason}")
        with Session(self.places, self.machines, self.preset) as session:
            session.run(
                Runs(
                    name=self.name,
                    search=self.search,
                    make_workload=self.workload,
                    known=self.known,
                    headline=f", cap {self.base.cap_bytes:,} bytes; {passes}",
                    share=not self.parsed.no_reuse,
                    keep_screened=self.screening is not None,
                )
            )
        status = self.show(session)
        print(format_forecast_vs_actual(planned, self.entries()))
        session.finish_mirror()
        return status

    def entries(self) -> list[TrialEntry]:
        """Returns the last entries of this search's trials."""
        return [entry for entry in Ledger(self.storage.ledger).latest(self.name) if entry.trial in self.search.given]

    def forecast(self) -> Forecast:
        """Returns the work of the trials that are planned, before anything is started."""
        trials, store = self.search.planned(), Store(self.places.store)
        given = dict(self.parsed.stage_seconds)
        given |= {} if self.parsed.step_seconds is None else {TRAIN: self.parsed.step_seconds}
        workload = self.planned_workload
        timings = StageTimings(workload, Ledger(self.storage.ledger).trials(), given)

        def is_stored(key: str) -> bool:
            return not self.parsed.no_reuse and store.find(key) is not None

        return forecast(workload, trials, timings, is_stored, workload.screening_odds(len(trials)))

    def show_plan(self, planned: Forecast) -> None:
        """Prints and draws the tree of shared trainings, the work and its price."""
        trials, picture = self.search.planned(), self.storage.sweep(self.name) / "plan.svg"
        names = {trial.trial: trial.name for trial in trials}
        trees = training_trees({trial.trial: config_of(trial) for trial in trials})
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_tree(trees, names, picture)
        print(format_trees(trees, names))
        slots = self.machines.concurrent or int((self.parsed.gpus or 0) // max(planned.units, 1)) or 1
        print(f"\n{format_forecast(planned, slots, self.parsed.dollars_per_gpu_hour)}")
        print("trials over the cap make it less; TPE may choose other trials than these")
        print(f"picture: {picture}")

    def show(self, session: Session) -> int:
        """Prints the table of trials and where to look further. Returns: the exit status."""
        entries, root = self.entries(), self.storage.root
        print(f"\n{table(entries, root)}\n")
        best = best_of(entries)
        if best is not None:
            print(f"best: {best.bpb:.4f} BPB, {best.name}; its folder {self.storage.trial(self.name, best.trial)}")
        ending = ending_of(entries, root)
        if ending.text:
            print(ending.text)
        sent = sync(Ledger(self.storage.ledger).latest(self.name), session.uri, self.preset, self.storage)
        print(f"every number: {self.storage.ledger}")
        print(sent.problem or runs_page(session.uri, self.preset, self.name))
        if session.stopped:
            print("stopped: what was finished is kept; the same command continues")
            return 130
        return ending.status


@quiet_when_closed
def main(arguments: Sequence[str]) -> int:
    """Runs or continues a sweep; errors of input are one line and exit status 2."""
    parsed = make_parser().parse_args(arguments)
    return guarded_anywhere("run_sweep.py", arguments, lambda local: SweepCommand(local).run(), parsed)
