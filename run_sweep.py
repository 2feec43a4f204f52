"""Search a preset's step count, warmdown, quantisation split and TTT settings under its byte cap, with Ray Tune.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from golf.cli.commands import names_file, read_config
from golf.cli.options import Parser, above, assignments, real, whole
from golf.cli.terminal import quiet_when_closed
from golf.config.config import RunConfig, nearest
from golf.config.presets import DEMO_PRESETS, PRESETS
from golf.data.dataset import Dataset
from golf.runtime.results import LADDER, SLIDING
from tune.cache.prefix_tree import format_trees
from tune.cache.store import Store
from tune.cli.console import best_of, dry_table, ending_of, table, text_read
from tune.cli.session import Session, add_machines, add_places, guarded_anywhere, open_data
from tune.cluster.ray_cluster import Workers
from tune.cluster.sweep import entries_of, finished
from tune.planning.forecast import Forecast, forecast
from tune.planning.plan_plot import draw_tree
from tune.planning.quote import beside, words
from tune.planning.stage_timings import PACK
from tune.records.journal import Ledger
from tune.records.layout import Storage
from tune.records.provenance import outdated
from tune.search.search import DEFAULT_TRIALS, STRATEGIES, Search
from tune.search.space import Space, read_choices, space_of
from tune.search.successive_halving import SuccessiveHalving, first_chunks_of, stride_error
from tune.tracking.tracker import runs_page, sync
from tune.workloads.gepa.stages import branch_points, code_digest, training_trees

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


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("run_sweep.py", description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("preset", help=f"one of {', '.join(PRESETS)}, or the path of a config.json")
    parser.add_argument("--dry-run", action="store_true", help="print the trials with their work and stop")
    parser.add_argument("--plan", action="store_true", help="print and draw the tree, the work and its price, and stop")
    plan = parser.add_argument_group("plan", "for --plan, instead of what finished trials in the ledger took")
    plan.add_argument(
        "--dollars-per-gpu-hour", type=real(unit="dollars"), help="for a price; takes --gpus-per-worker as 1"
    )
    plan.add_argument(
        "--gpus", type=whole(least=1), metavar="N", help="GPUs in all, for the wall clock (those of one trial)"
    )
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
    search = parser.add_argument_group("search")
    search.add_argument("--search", default="tpe", help=f"one of {', '.join(STRATEGIES)} (%(default)s)")
    trials = f"at most so many trials ({DEMO_TRIALS} for demo, all of a grid, else {DEFAULT_TRIALS})"
    search.add_argument("--trials", type=int, help=trials)
    search.add_argument(
        "--space",
        action="extend",
        nargs="+",
        default=[],
        metavar="FIELD=A,B,...",
        help='choices of fields; "split" is a quantisation split; python -m golf fields lists all',
    )
    search.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE", help="fields of every trial"
    )
    search.add_argument(
        "--seed", type=whole(most=2**32 - 1), default=0, help="seed of the search; seed=N in --set is the model's"
    )
    search.add_argument("--no-screening", action="store_true", help="evaluate every trial that fits in full")
    search.add_argument(
        "--screen-fraction",
        type=real(most=0.5, open_below=True),
        default=0.1,
        help="share of the stream to screen on (%(default)s)",
    )
    ranking = "stride of the windows that trials are screened by (their own); never of a final figure"
    search.add_argument("--screen-stride", type=whole(least=1), help=ranking)
    search.add_argument(
        "--top",
        type=real(most=1.0, open_below=True),
        default=0.5,
        help="share of the trials that go on from it (%(default)s)",
    )
    places = add_places(parser, "the sweep's name (the preset's); the same name continues")
    places.add_argument("--no-reuse", action="store_true", help="compute every trial alone, share nothing")
    add_machines(parser)
    return parser.parse_args(arguments)


def space_asked_for(parsed: argparse.Namespace) -> Space:
    """What the command line wants searched: the preset's space with its --space, without what --set fixes."""
    preset = None if names_file(parsed.preset) else parsed.preset
    return space_of(preset, read_choices(parsed.space), assignments(parsed.set))


def make_search(
    parsed: argparse.Namespace, base: RunConfig, space: Space, dataset: Dataset, known: list[dict[str, Any]]
) -> Search:
    """The search that the command line asks for, going on from the entries in `known`."""
    trials = parsed.trials
    if trials is None and parsed.preset in DEMO_PRESETS and parsed.search != "grid":
        trials = DEMO_TRIALS
    return Search(base, space, parsed.search, trials, parsed.seed, dataset.digest, known)


def sweep(parsed: argparse.Namespace) -> int:
    """Run or continue the sweep and show what came out."""
    base, storage = read_config(parsed), Storage(parsed.storage.resolve())
    space, preset = space_asked_for(parsed), Path(parsed.preset).stem
    name = parsed.name or preset
    dataset = open_data(parsed, base, storage)
    screening = None if parsed.no_screening else screening_of(parsed, base)
    known = finished(name, storage, screening is not None)
    search = make_search(parsed, base, space, dataset, known)
    if parsed.dry_run:
        print(dry_table(search.planned(), dataset, len(known)))
        return 0
    planned = make_forecast(parsed, make_search(parsed, base, space, dataset, known), dataset, storage, screening)
    if parsed.plan:
        show_plan(parsed, search, planned, storage.sweep(name))
        print(text_read(search.configs(), dataset))
        return 0
    again = sum(outdated(entry, code_digest()) for entry in entries_of(name, storage))
    if again:
        print(f"{again} trials ran with other code or another torch: they are run again, as far as it changes them")
    with Session(parsed, storage, preset) as session:
        session.run(name, search, dataset, known, screening=screening, reuse=not parsed.no_reuse)
    result = show(name, preset, base, search, storage, session.uri, session.stopped)
    entries = [entry for entry in entries_of(name, storage) if entry["trial"] in search.given]
    print(beside(planned, entries))
    if (error := stride_error(entries)) is not None:
        print(error)
    session.finish_mirror()
    return result


def screening_of(parsed: argparse.Namespace, base: RunConfig) -> SuccessiveHalving:
    """How trials are screened, checked against what they have in common."""
    screening = SuccessiveHalving(fraction=parsed.screen_fraction, top=parsed.top, stride=parsed.screen_stride)
    screening.ranked_by(base, SLIDING)
    return screening


def make_forecast(
    parsed: argparse.Namespace,
    search: Search,
    dataset: Dataset,
    storage: Storage,
    screening: SuccessiveHalving | None,
) -> Forecast:
    """The work of the trials that are planned, before anything is started.

    Args: search: of its own, since all its trials are asked for.
    """
    base = search.base
    points, trials = branch_points(search.configs()), search.planned()
    store, entries = Store(parsed.store or str(storage.store)), Ledger(storage.ledger).find(kind="trial")
    num_targets = len(dataset.validation) - 1
    first_chunks = first_chunks_of(screening, base, num_targets)

    def stored(key: str) -> bool:
        return not parsed.no_reuse and store.find(key) is not None

    return forecast(
        trials,
        dataset.digest,
        planned_workers(parsed).world,
        entries,
        stored,
        points,
        parsed.step_seconds,
        dict(parsed.stage_seconds),
        None if screening is None or first_chunks is None else screening.top,
        (first_chunks or 0) * base.score.chunk_tokens / num_targets,
    )


def planned_workers(parsed: argparse.Namespace) -> Workers:
    """The processes of one trial as far as can be told before Ray is up."""
    gpus = float(torch.cuda.is_available() or parsed.dollars_per_gpu_hour is not None)
    given = parsed.gpus_per_worker
    return Workers(parsed.workers, parsed.cpus_per_worker, gpus if given is None else given)


def seconds_of(text: str) -> tuple[str, float]:
    """The type of --stage-seconds: stage and seconds of STAGE=S."""
    stage, equals, seconds = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be STAGE=S, got {text!r}")
    if stage not in (PACK, *LADDER):
        raise argparse.ArgumentTypeError(f'unknown stage "{stage}"{nearest(stage, (PACK, *LADDER))}')
    return stage, real(unit="seconds")(seconds)


def show_plan(parsed: argparse.Namespace, search: Search, planned: Forecast, folder: Path) -> None:
    """The tree in words and as a picture, the work and its price."""
    trials = search.planned()
    names = {trial.trial: trial.name for trial in trials}
    trees = training_trees({trial.trial: trial.config for trial in trials})
    folder.mkdir(parents=True, exist_ok=True)
    draw_tree(trees, names, folder / "plan.svg")
    print(format_trees(trees, names))
    slots = parsed.concurrent or int((parsed.gpus or 0) // max(planned.units, 1)) or 1
    print(f"\n{words(planned, slots, parsed.dollars_per_gpu_hour)}")
    print("trials over the cap make it less; TPE may choose other trials than these")
    print(f"picture: {folder / 'plan.svg'}")


def show(name: str, preset: str, base: RunConfig, search: Search, storage: Storage, uri: str, stopped: bool) -> int:
    """The table and where to look further."""
    entries = [entry for entry in entries_of(name, storage) if entry["trial"] in search.given]
    print(f"\n{table(entries, base.cap_bytes, storage.root)}\n")
    best = best_of(entries)
    if best is not None:
        print(
            f"best: {best['metrics']['bpb']:.4f} BPB, {best['name']}; its folder {storage.trial(name, best['trial'])}"
        )
    ending = ending_of(entries, base.cap_bytes, storage.root)
    if ending.text:
        print(ending.text)
    sent = sync(entries_of(name, storage), uri, preset, storage)
    print(f"every number: {storage.ledger}")
    print(sent.problem or runs_page(uri, preset, name))
    if stopped:
        print("stopped: what was finished is kept; the same command continues")
        return 130
    return ending.status


@quiet_when_closed
def main(arguments: list[str]) -> int:
    """Run or continue a sweep; errors of input are one line and exit code 2."""
    return guarded_anywhere(Path(__file__).name, arguments, sweep, parse(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
