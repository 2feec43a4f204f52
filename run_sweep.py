"""Search a preset's step count, warmdown, quantisation split and TTT settings under its byte cap, with Ray Tune.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from golf.commands import assignment_of, read_config
from golf.config import RunConfig
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import Dataset, open_dataset
from golf.data.text import prepare_text
from golf.presets import PRESETS
from tune.cluster import Workers, has_gpus, start_ray, stop_ray, trials_at_once
from tune.console import Console, best_of, dry_table, say, table
from tune.forecast import Forecast, beside, forecast, words
from tune.ledger import Ledger
from tune.paths import Storage
from tune.pictures import draw_tree
from tune.screening import Screening
from tune.search import DEFAULT_TRIALS, STRATEGIES, Search
from tune.space import space_of
from tune.store import Store
from tune.sweep import SweepSettings, entries_of, finished, run_sweep
from tune.tracking import SweepTracker, Tracker, default_uri, runs_page, sync
from tune.tree import branch_points, draw, grow

EXAMPLES = """
examples:
  run_sweep.py demo                                   six trials on two cores, about five minutes
  run_sweep.py demo --dry-run                         what would be run
  run_sweep.py demo --search grid --space split=pure-int6,int8 --space adapt.epochs=1,3
  run_sweep.py pr598 --data data/fineweb --workers 8  trials of 8 GPUs each on this machine
"""
DEMO_TRIALS = 6
MAX_SLOTS = 64
"""Trials at a time that a Ray started here can be asked for."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("run_sweep.py", description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("preset", help=f"one of {', '.join(PRESETS)}, or the path of a config.json")
    parser.add_argument("--dry-run", action="store_true", help="print the trials with their work and stop")
    parser.add_argument("--plan", action="store_true", help="print and draw the tree, the work and its price, and stop")
    parser.add_argument("--dollars-per-gpu-hour", type=float, help="price for --plan")
    parser.add_argument("--step-seconds", type=float, help="of one step, for --plan (from finished trials)")
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
    search.add_argument("--seed", type=int, default=0, help="seed of the search; seed=N in --set is the model's")
    search.add_argument("--no-screening", action="store_true", help="evaluate every trial that fits in full")
    search.add_argument(
        "--screen-fraction",
        type=float,
        default=0.1,
        help="share of the stream to screen on (%(default)s)",
    )
    search.add_argument("--top", type=float, default=0.5, help="share of the trials that go on from it (%(default)s)")
    places = parser.add_argument_group("places")
    places.add_argument("--name", help="the sweep's name (the preset's); the same name continues")
    places.add_argument("--data", type=Path, help="a prepared dataset (the built-in corpus, made when missing)")
    places.add_argument("--storage", type=Path, default=Path("storage"), help="folder for all results (%(default)s)")
    places.add_argument("--tracking-uri", help="an MLflow server (a SQLite file in the storage)")
    places.add_argument("--store", help="where shared stages are kept: a folder or s3://, gs:// (in the storage)")
    places.add_argument("--store-gigabytes", type=float, help="size that the store is kept below (no limit)")
    places.add_argument("--no-reuse", action="store_true", help="compute every trial alone, share nothing")
    work = parser.add_argument_group("machines")
    work.add_argument("--address", help="a running Ray cluster, e.g. auto; by default Ray is started here")
    work.add_argument("--workers", type=int, default=1, help="processes of a trial: 1, 2, 4 or 8 (%(default)s)")
    work.add_argument("--cpus-per-worker", type=float, default=1.0, help="(%(default)s)")
    work.add_argument("--gpus-per-worker", type=float, help="(1 where there are GPUs)")
    work.add_argument("--concurrent", type=int, help="trials at a time (as many as fit)")
    work.add_argument("--save-seconds", type=float, default=60.0, help="between saved training states (%(default)s)")
    return parser.parse_args(arguments)


def choices_of(text: str) -> tuple[str, list[Any]]:
    """Field and choices of FIELD=A,B,..."""
    field, _ = assignment_of(text, "--space")
    return field, [assignment_of(f"{field}={choice}", "--space")[1] for choice in text.partition("=")[2].split(",")]


def make_search(parsed: argparse.Namespace, base: RunConfig, dataset: Dataset, known: list[dict[str, Any]]) -> Search:
    """The search that the command line asks for, going on from the entries in `known`."""
    space = space_of(parsed.preset, dict(map(choices_of, parsed.space)))
    trials = parsed.trials
    if trials is None and parsed.preset == "demo" and parsed.search != "grid":
        trials = DEMO_TRIALS
    return Search(base, space, parsed.search, trials, parsed.seed, dataset.digest, known)


def open_data(parsed: argparse.Namespace, base: RunConfig, storage: Storage) -> Dataset:
    """The dataset, the built-in one being made when it is missing; it must have training shards."""
    if parsed.data is None:
        prepare_text(documents(), storage.data / CORPUS_NAME, CORPUS_NAME)
    dataset = open_dataset((parsed.data or storage.data / CORPUS_NAME).resolve(), base.model.vocab_size)
    if dataset.train is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); add them or give another --data")
    return dataset


def make_workers(parsed: argparse.Namespace) -> Workers:
    """The processes of one trial; Ray must be up."""
    gpus = parsed.gpus_per_worker if parsed.gpus_per_worker is not None else float(has_gpus())
    return Workers(parsed.workers, parsed.cpus_per_worker, gpus)


def sweep(parsed: argparse.Namespace) -> int:
    """Run or continue the sweep and show what came out."""
    base, storage = read_config(parsed), Storage(parsed.storage.resolve())
    parsed.preset = Path(parsed.preset).stem
    name = parsed.name or parsed.preset
    dataset = open_data(parsed, base, storage)
    screening = None if parsed.no_screening else Screening(fraction=parsed.screen_fraction, top=parsed.top)
    known = finished(name, storage, screening is not None)
    search = make_search(parsed, base, dataset, known)
    if parsed.dry_run:
        print(dry_table(search.planned(), dataset, len(known)))
        return 0
    planned = make_forecast(parsed, base, dataset, storage, known)
    if parsed.plan:
        show_plan(parsed, search, planned, storage.sweep(name))
        return 0
    uri = parsed.tracking_uri or default_uri(storage.root)
    stopped = False
    start_ray(parsed.address, MAX_SLOTS)
    try:
        workers = make_workers(parsed)
        concurrent = min(parsed.concurrent or MAX_SLOTS, trials_at_once(workers), search.num_trials)
        settings = SweepSettings(
            name,
            parsed.preset,
            dataset.folder,
            workers,
            concurrent,
            save_seconds=parsed.save_seconds,
            screening=screening,
            reuse=not parsed.no_reuse,
            store=parsed.store,
            budget_bytes=None if parsed.store_gigabytes is None else int(parsed.store_gigabytes * 1e9),
        )
        say(f"sweep {name}: {search.num_trials} trials, {concurrent} at a time, cap {base.cap_bytes:,} bytes")
        ours = [entry for entry in known if entry["trial"] in search.given]
        sync(entries_of(name, storage), uri, parsed.preset)
        tracker = Tracker(uri, parsed.preset)
        try:
            console = Console(search.num_trials, concurrent, ours)
            run_sweep(settings, search, storage, [console, SweepTracker(tracker, name, parsed.preset)])
        except KeyboardInterrupt:
            stopped = True
        finally:
            tracker.close(30.0)
    finally:
        stop_ray()
    result = show(parsed, base, search, storage, uri, stopped)
    print(beside(planned, [entry for entry in entries_of(name, storage) if entry["trial"] in search.given]))
    return result


def make_forecast(
    parsed: argparse.Namespace, base: RunConfig, dataset: Dataset, storage: Storage, known: list[dict[str, Any]]
) -> Forecast:
    """The work of the trials that are planned, before anything is started."""
    search = make_search(parsed, base, dataset, known)
    points, trials = branch_points(search.configs()), search.planned()
    world = Workers(parsed.workers, parsed.cpus_per_worker, parsed.gpus_per_worker or 0.0).world
    store, entries = Store(parsed.store or str(storage.store)), Ledger(storage.ledger).find(kind="trial")

    def stored(key: str) -> bool:
        return not parsed.no_reuse and store.find(key) is not None

    return forecast(trials, dataset.digest, world, entries, stored, points, parsed.step_seconds)


def show_plan(parsed: argparse.Namespace, search: Search, planned: Forecast, folder: Path) -> None:
    """The tree in words and as a picture, the work and its price."""
    trials = search.planned()
    names = {trial.trial: trial.name for trial in trials}
    trees = grow({trial.trial: trial.config for trial in trials})
    folder.mkdir(parents=True, exist_ok=True)
    draw_tree(trees, names, folder / "plan.svg")
    print(draw(trees, names))
    print(f"\n{words(planned, parsed.concurrent or 1, parsed.dollars_per_gpu_hour)}")
    print("screening and trials over the cap make it less; TPE may choose other trials than these")
    print(f"picture: {folder / 'plan.svg'}")


def show(parsed: argparse.Namespace, base: RunConfig, search: Search, storage: Storage, uri: str, stopped: bool) -> int:
    """The table and where to look further."""
    name = parsed.name or parsed.preset
    entries = [entry for entry in entries_of(name, storage) if entry["trial"] in search.given]
    print(f"\n{table(entries, base.cap_bytes)}\n")
    best = best_of(entries)
    if best is not None:
        print(
            f"best: {best['metrics']['bpb']:.4f} BPB, {best['name']}; its folder {storage.trial(name, best['trial'])}"
        )
    elif entries:
        print(f"no trial fits under the cap of {base.cap_bytes:,} bytes")
    sent = sync(entries_of(name, storage), uri, parsed.preset)
    print(f"every number: {storage.ledger}")
    print(sent.problem or runs_page(uri, parsed.preset, name))
    if stopped:
        print("stopped: what was finished is kept; the same command continues")
        return 130
    return 0


def main(arguments: list[str]) -> int:
    """Run or continue a sweep; errors of input are one line and exit code 2."""
    parsed = parse(arguments)
    try:
        return sweep(parsed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first trial; the same command starts again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
