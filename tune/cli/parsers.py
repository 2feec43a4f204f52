"""The command lines of sweeps, seed studies and what looks after them; parsed without PyTorch, Ray and MLflow."""

import argparse
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golf.cli.options import Parser, above, cpus, gpus, ranks, real, whole
from golf.cli.start import add_version_and_completion, program
from golf.config.config import nearest
from golf.config.presets import PRESETS
from golf.config.rules import MARGIN_NATS, NON_RECORD, TRACK_SECONDS
from golf.runtime.results import LADDER
from golf.train.checkpoint_policy import MTBF_HOURS
from tune.cluster.retry_policy import RetryPolicy
from tune.records.entries import TrialState
from tune.records.layout import REPORT_FORMATS, TABLE_FORMATS
from tune.records.redaction import open_address
from tune.search.search import DEFAULT_TRIALS, STRATEGIES
from tune.study.preregistration import SEEDS
from tune.workloads.gepa.ranges import FIELDS

_SWEEP_DESCRIPTION = """Searches a preset's step count, warmdown, quantisation split and TTT settings under its byte
cap, with Ray Tune.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""
_SWEEP_EXAMPLES = """
examples:
  run_sweep.py demo                                   six trials on two cores, two to five minutes
  run_sweep.py demo --dry-run                         what would be run
  run_sweep.py demo --search grid -s split=pure-int6,int8 -s ttt.epochs=1,3
  run_sweep.py demo --only optimizer.matrix_lr ttt.lr these two alone, in their usual ranges
  run_sweep.py pr598 --data data/fineweb --workers 8  trials of 8 GPUs each on this machine
  run_sweep.py demo --address job --storage /mnt/golf on a cluster, see docs/cluster.md
  run_sweep.py sweep.yaml                             options written down, see docs/sweeps.md
  run_sweep.py train_gpt.py --help                    any training script of your own, see docs/scripts.md

fields that --only takes without a range (those of a preset's own space too):
RANGED

exit status: 0, also when some trials failed or none fits under the cap, which is said; 1 when no trial gave a score
and some failed; 2 for what cannot be run; 130 when it was stopped and can be continued

during and after a sweep: run_sweep.py status|ui|report|ledger|optuna|import|store|mirror|cluster --help
"""
_PLANNED = """for --plan, instead of what finished trials in the ledger took; where there are none, seconds that records
have published stand in (pr598, pr1493)"""
_SEED_DESCRIPTION = """Runs one configuration under several seeds with Ray Tune and reports what they show.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""
SEED_EXAMPLES = """
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

_ADDRESS = (
    "where trials run: auto, the cluster that this machine belongs to; job or job:http://HOST:8265, submit this "
    "command to a cluster as a job, where all paths are paths on the cluster. By default Ray is started here"
)
SPACE = "FIELD=A,B,..."
RANGES = (
    "choices A,B,..., or a range: LOW..HIGH (0.02..0.3), evenly on a logarithmic scale log:LOW..HIGH (log:1e-3..1e-1), "
    "whole numbers int:LOW..HIGH:STEP (int:1..20:3)"
)
ONLY = "search these fields alone; all others keep their values"
_DATA = "a prepared dataset (the built-in corpus, made when missing)"
DEMO_TRIALS = 24
"""Trials of the demo without a number."""
_MAX_SEEDS = 10

_TUNE = "python -m tune"
_STAGES = ("pack", *LADDER)
_STORE_COMMANDS = {
    "ls": "list all entries with sizes and seconds, the last used at the end",
    "show": "show one entry: what it was computed from, its files, its record",
    "verify": "read every byte; exit status 1 when some have changed, naming the files",
    "gc": "list what no ledger entry and no running trial needs; --yes removes it",
}
_LEDGER_EXAMPLES = """
examples:
  python -m tune ledger show --sweep demo --state done
  python -m tune ledger show 472a4a
  python -m tune ledger export --to trials.parquet
  python -m tune ledger export --curves --to curves.csv
"""

_IMPORT_DESCRIPTION = """Make ledger entries of runs that are finished already, from the logs that their scripts wrote.

Of each run the last labelled score counts; the label is shown. A run is known by the content of its log: importing it
again adds nothing. Nothing of the scripts is run.
"""
_IMPORT_EXAMPLES = """
examples:
  python -m tune import logs/ --name night
  python -m tune import records/track_10min_16mb --dry-run
  python -m tune import run.log.gz --metric 'core=CORE metric: ([0-9.]+)' --objective core:max

exit status: 0; 1 when no log gave a score; 2 for wrong input
"""


def command_parser(name: str, command: str, description: str, epilog: str = "") -> Parser:
    """Returns a parser whose command line is run by `command`, "module:function"."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(name, description=description, epilog=epilog, formatter_class=form)
    parser.set_defaults(command=command)
    add_version_and_completion(parser)
    return parser


def sweep_parser() -> Parser:
    """Returns the parser of a sweep."""
    name = program("run_sweep.py", "golf-sweep")
    ranged = textwrap.fill(", ".join(FIELDS), 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    examples = _SWEEP_EXAMPLES.replace("run_sweep.py", name).replace("RANGED", ranged)
    parser = command_parser(name, "tune.cli.run_sweep:run", _SWEEP_DESCRIPTION, examples)
    parser.add_argument(
        "preset", help=f"one of {', '.join(PRESETS)}, the path of a config.json, or a .yaml or .toml file with all this"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the trials with their work and stop")
    parser.add_argument("--plan", action="store_true", help="print and draw the tree, the work and its price, and stop")
    measure = "measure 20 steps and a few chunks of scoring on this machine, print the plan with that, and stop"
    parser.add_argument("--calibrate", action="store_true", help=measure)
    _add_plan(parser)
    add_search(parser)
    add_limits(parser, "BPB", priced=True)
    places = add_places(parser, "the sweep's name (the preset's); the same name continues")
    places.add_argument("--data", type=Path, help=_DATA)
    places.add_argument("--no-reuse", action="store_true", help="compute every trial alone, share nothing")
    add_machines(parser)
    return parser


def _add_plan(parser: Parser) -> None:
    """Adds the options of --plan."""
    plan = parser.add_argument_group("plan", _PLANNED)
    price = "for a price and --max-dollars; takes --gpus-per-worker as 1, as a plan with published seconds does"
    plan.add_argument("--dollars-per-gpu-hour", type=real(unit="dollars"), help=price)
    in_all = "GPUs in all, for the wall clock (those of one trial)"
    plan.add_argument("--gpus", type=whole(least=1), metavar="N", help=in_all)
    plan.add_argument("--step-seconds", type=above("seconds"), metavar="S", help="of one optimiser step")
    plan.add_argument(
        "--stage-seconds",
        type=_seconds_of,
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE=S",
        help="of pack, sliding, ttt, ...",
    )


def add_search(parser: Parser) -> None:
    """Adds the options of a preset's search and its screening."""
    search = add_strategy(
        parser, f"at most so many trials ({DEMO_TRIALS} for demo, all of a grid, else {DEFAULT_TRIALS})"
    )
    add_space(search, f'{RANGES}; "split" is a quantisation split; python -m golf fields lists all')
    only = (
        f"{ONLY} (ranges: --space, else the preset's own, else usual ones around its values, as of optimizer.matrix_lr)"
    )
    search.add_argument("--only", action="extend", nargs="+", default=[], metavar="FIELD", help=only)
    fixed = "fields of every trial"
    search.add_argument("--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE", help=fixed)
    where = (
        "where trials are stopped early: evaluation, on the first chunks of the stream (%(default)s), or training too, "
        "by validation curves (validate_every) at equal steps of one schedule, from a quarter and a half of them on"
    )
    search.add_argument("--early-stopping", choices=["evaluation", "training"], default="evaluation", help=where)
    search.add_argument("--no-screening", action="store_true", help="evaluate every trial that fits in full")
    fraction = "share of the stream to screen on first; then on twice as much, up to half of it (%(default)s)"
    search.add_argument("--screen-fraction", type=real(most=0.5, open_below=True), default=0.1, help=fraction)
    top = "share of the trials that go on from each (%(default)s)"
    search.add_argument("--top", type=real(most=1.0, open_below=True), default=0.5, help=top)


def add_space(search: Any, text: str) -> None:
    """Adds --space to the group of a search. Args: search: the group; text: its help."""
    search.add_argument("-s", "--space", action="extend", nargs="+", default=[], metavar=SPACE, help=text)


def add_strategy(parser: Parser, trials: str) -> Any:
    """Adds the options of how a space is searched. Returns: their group. Args: trials: help of --trials."""
    search = parser.add_argument_group("search")
    search.add_argument("--search", default="tpe", help=f"one of {', '.join(STRATEGIES)} (%(default)s)")
    search.add_argument("--trials", type=int, help=trials)
    first = "a point to try first; give it again for another; fields that it leaves out have their own values"
    search.add_argument("--enqueue", action="append", default=[], metavar="FIELD=VALUE,...", help=first)
    seed = "seed of the search; the model's is a field"
    search.add_argument("--seed", type=whole(most=2**32 - 1), default=0, help=seed)
    return search


def add_limits(parser: Parser, score: str, priced: bool = False) -> None:
    """Adds the options that end a sweep before its last trial, and what is run at its end.

    Args:
        parser: of the sweep.
        score: unit of --stop-at.
        priced: whether the parser has --dollars-per-gpu-hour already.
    """
    limits = parser.add_argument_group(
        "when to stop", "no trial starts afterwards; the same command with another limit continues"
    )
    hours = "of all starts of the sweep together; running trials save their state and end"
    limits.add_argument("--max-hours", type=real(unit="hours"), metavar="H", help=hours)
    dollars = "price of the GPU-hours that trials held, likewise; takes a process on CPUs as a GPU"
    limits.add_argument("--max-dollars", type=real(unit="dollars"), metavar="D", help=dollars)
    if not priced:
        price = "for --max-dollars"
        limits.add_argument("--dollars-per-gpu-hour", type=real(unit="dollars"), metavar="D", help=price)
    enough = "a score that is good enough; running trials go on to their end"
    limits.add_argument("--stop-at", type=float, metavar=score, help=enough)
    then = (
        "run this in a shell at the end, however it ends, to end a rented machine or to send a message; gets "
        "GOLF_SWEEP_NAME, GOLF_SWEEP_STATE (finished, limit, interrupted, failed) and GOLF_SWEEP_BEST_BPB"
    )
    limits.add_argument("--then", metavar="COMMAND", help=then)


def _seconds_of(text: str) -> tuple[str, float]:
    """Parses STAGE=S of --stage-seconds. Raises: argparse.ArgumentTypeError."""
    stage, equals, seconds = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be STAGE=S, got {text!r}")
    if stage not in _STAGES:
        raise argparse.ArgumentTypeError(f'unknown stage "{stage}"{nearest(stage, _STAGES)}')
    return stage, real(unit="seconds")(seconds)


def seeds_parser() -> Parser:
    """Returns the parser of a seed study."""
    name = program("run_seeds.py", "golf-seeds")
    parser = command_parser(
        name, "tune.cli.run_seeds:run", _SEED_DESCRIPTION, SEED_EXAMPLES.replace("run_seeds.py", name)
    )
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
    others = add_power(parser)
    others.add_argument("--compare", nargs="+", metavar="NAME", help="compare with the first, on one stream")
    places = add_places(parser, "the study's name (made of preset or trial and changes); the same name continues")
    places.add_argument("--data", type=Path, help=_DATA)
    add_machines(parser)
    return parser


def add_power(parser: Parser) -> Any:
    """Adds the options of what is computed without running anything. Returns: their group."""
    others = parser.add_argument_group("without running anything")
    others.add_argument("--power", action="store_true", help="how many seeds a gain needs")
    others.add_argument("--gain-bpb", type=above("BPB"), nargs="+", default=[], help="true gains, for --power")
    others.add_argument("--gain-nats", type=above("nats"), nargs="+", default=[], help="the same in nats per token")
    others.add_argument("--noise-bpb", type=float, help="deviation from seed to seed, for --power (the ledger's)")
    return others


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
    test.add_argument("--max-seeds", type=whole(), default=_MAX_SEEDS, help="for --until-decided (%(default)s)")


def add_places(parser: argparse.ArgumentParser, name: str) -> Any:
    """Adds the options that say where things are. Returns: their group, for a command's own.

    Args:
        parser: of the command.
        name: help of --name.
    """
    places = parser.add_argument_group("places")
    places.add_argument("--name", help=name)
    places.add_argument("--storage", type=Path, default=Path("storage"), help="folder for all results (%(default)s)")
    places.add_argument("--tracking-uri", help="an MLflow server (a SQLite file in the storage)")
    wandb = "also show running trials in this project of Weights & Biases (pip install wandb; WANDB_MODE=offline works)"
    places.add_argument("--wandb", metavar="PROJECT", help=wandb)
    places.add_argument(
        "--store", type=open_address, help="where shared stages are kept: a folder or s3://, gs:// (in the storage)"
    )
    mirror = "a folder or s3://, gs:// where ledger, MLflow database, reports and artifacts are copied, trial by trial"
    places.add_argument("--mirror", type=open_address, metavar="URI", help=mirror)
    places.add_argument(
        "--store-gigabytes", type=above("gigabytes"), help="size that the store is kept below (no limit)"
    )
    return places


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what a preset's trial runs on."""
    work = add_places_of_work(parser)
    work.add_argument("--workers", type=ranks, default=1, help="processes of a trial: 1, 2, 4 or 8 (%(default)s)")
    work.add_argument(
        "--save-seconds", type=real(unit="seconds"), help="between saved states (chosen from what a save costs)"
    )
    mtbf = "mean time between failures of a trial's machines together, for that choice (%(default)g)"
    work.add_argument("--mtbf-hours", type=above("hours"), default=MTBF_HOURS, help=mtbf)
    patience = "that a lost node is waited for before fewer workers go on (%(default)g)"
    work.add_argument("--patience-seconds", type=above("seconds"), default=RetryPolicy.patience_seconds, help=patience)
    hung = "after which a worker that does not answer the others is given up (%(default)g)"
    work.add_argument("--timeout-seconds", type=above("seconds"), default=RetryPolicy.timeout_seconds, help=hung)


def add_places_of_work(parser: argparse.ArgumentParser) -> Any:
    """Adds the options of where trials run and with what. Returns: their group."""
    work = parser.add_argument_group("machines")
    work.add_argument("--address", help=_ADDRESS)
    work.add_argument("--cpus-per-worker", type=cpus, default=1.0, help="whole ones, a thread each (%(default)g)")
    work.add_argument("--gpus-per-worker", type=gpus, help="(1 where there are GPUs)")
    work.add_argument("--concurrent", type=whole(least=1), help="trials at a time (as many as fit)")
    return work


def report_parser() -> Parser:
    """Returns the parser of the command that writes reports."""
    about = "Write the report of a sweep or a seed study from the ledger, and attach it in MLflow."
    parser = command_parser(f"{_TUNE} report", "tune.cli.report:report_command", about)
    parser.add_argument("name", help="the sweep's or study's name")
    parser.add_argument("--format", choices=REPORT_FORMATS, help="only the page, its short form, or the figures (all)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    baseline = "a trial, sweep or study to compare with (a study's own baseline; the second best trial of a sweep)"
    parser.add_argument("--baseline", help=baseline)
    uri = "the MLflow server that gets the files, too (the database in the storage, where there is one)"
    parser.add_argument("--tracking-uri", metavar="URI", help=uri)
    parser.add_argument("--no-mlflow", action="store_true", help="write the files only")
    return parser


def status_parser() -> Parser:
    """Returns the parser of the command that shows how far a sweep is."""
    about = "Show how far a sweep is, also while it runs in another terminal: trials by state, the best, what runs."
    parser = command_parser(f"{_TUNE} status", "tune.cli.status:status_command", about)
    parser.add_argument("name", nargs="?", help="the sweep's or study's name (a line for each one)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    return parser


def optuna_parser() -> Parser:
    """Returns the parser of the command that writes Optuna studies."""
    about = "Write the ledger's sweeps as Optuna studies into an SQLite file, for optuna-dashboard and Optuna's plots."
    parser = command_parser(f"{_TUNE} optuna", "tune.cli.optuna_study:optuna_command", about)
    parser.add_argument("name", nargs="?", help="one sweep or study (all)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    parser.add_argument("--to", type=Path, metavar="FILE", help="(optuna.db in the storage, made anew each time)")
    parser.add_argument("--force", action="store_true", help="replace the file of --to")
    return parser


def ui_parser() -> Parser:
    """Returns the parser of the command that shows MLflow's pages."""
    about = "Start MLflow for a storage folder and open the table of a sweep or seed study; Ctrl-C ends it."
    parser = command_parser(f"{_TUNE} ui", "tune.cli.ui:ui_command", about)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a sweep or seed study (the last one of the ledger)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    parser.add_argument("--port", type=whole(least=1, most=65535), help="of 127.0.0.1 (a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    uri = "another MLflow than the database in the storage; a server is not started but shown"
    parser.add_argument("--tracking-uri", metavar="URI", help=uri)
    return parser


def ledger_parser() -> Parser:
    """Returns the parser of the commands that read the ledger."""
    about = "Show or export the ledger, the record of every trial and seed study."
    parser = command_parser(f"{_TUNE} ledger", "tune.cli.ledger:ledger_command", about, _LEDGER_EXAMPLES)
    shared = Parser(add_help=False)
    path = Path("storage/ledger.jsonl")
    shared.add_argument("--ledger", type=Path, default=path, metavar="PATH", help="(%(default)s)")
    shared.add_argument("--sweep", help="only this sweep or seed study")
    states = [str(state) for state in TrialState]
    shared.add_argument("--state", choices=states, help="only trials that ended so: %(choices)s", metavar="STATE")
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    show = commands.add_parser("show", parents=[shared], help="list the entries, or print one in full")
    show.add_argument("id", nargs="?", metavar="ID", help="a trial or its first characters, or a seed study")
    kinds = ["trial", "plan", "verdict", "screening"]
    show.add_argument("--kind", choices=kinds, help="only entries of a kind: %(choices)s", metavar="KIND")
    export = commands.add_parser("export", parents=[shared], help="write the trials as a table")
    export.add_argument("--to", type=Path, required=True, metavar="FILE", help=f"ends in {', '.join(TABLE_FORMATS)}")
    table = export.add_mutually_exclusive_group()
    for name, text in (("curves", "one row a point of a curve"), ("chunks", "one row a chunk of the stream and rung")):
        table.add_argument(f"--{name}", dest="table", action="store_const", const=name, default="trials", help=text)
    export.add_argument("--force", action="store_true", help="replace the file")
    return parser


def import_parser() -> Parser:
    """Returns the parser of the command that reads logs of finished runs into the ledger."""
    command = "tune.cli.import_logs:import_command"
    parser = command_parser(f"{_TUNE} import", command, _IMPORT_DESCRIPTION, _IMPORT_EXAMPLES)
    parser.add_argument("logs", type=Path, nargs="+", metavar="LOG", help="a log, plain or .gz, or a folder with logs")
    only = "print what the logs say and write nothing"
    parser.add_argument("--dry-run", action="store_true", dest="only_shown", help=only)
    parser.add_argument("--name", help="the study's name (the name of each record folder, or of the folder of the log)")
    metric = "another number of the log: the first group of the last match, or a key of a line of JSON (dotted)"
    parser.add_argument("--metric", action="append", default=[], metavar="NAME=REGEX|json:KEY", help=metric)
    counts = "the metric that counts, :max where larger is better (val_bpb; without one val_loss, then --metric)"
    parser.add_argument("--objective", metavar="NAME[:max]", help=counts)
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="folder with ledger.jsonl (%(default)s)")
    parser.add_argument("--tracking-uri", metavar="URI", help="an MLflow server (a SQLite file in the storage)")
    parser.add_argument("--no-mlflow", action="store_true", help="write the ledger only")
    return parser


def store_parser() -> Parser:
    """Returns the parser of the commands that look after the store."""
    parser = command_parser(f"{_TUNE} store", "tune.cli.store:store_command", "Look after the store of stage results.")
    shared = Parser(add_help=False)
    storage = "storage directory of the sweeps, or URI of a store (%(default)s)"
    shared.add_argument("--storage", default="storage", metavar="PATH", help=storage)
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for name, text in _STORE_COMMANDS.items():
        sub = commands.add_parser(name, parents=[shared], help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == "show":
            sub.add_argument("key", metavar="KEY", help="a key or its first characters")
        if name == "gc":
            ledger = (
                "ledger whose entries' results stay; give it again for every ledger that uses this store (ledger.jsonl "
                "in the storage directory)"
            )
            sub.add_argument("--ledger", action="append", type=Path, metavar="PATH", help=ledger)
            sub.add_argument("--yes", action="store_true", help="remove what is listed")
    return parser


def mirror_parser() -> Parser:
    """Returns the parser of the commands that copy a storage folder."""
    about = "Copies of a storage folder in a bucket or another folder, and their way back."
    parser = command_parser(f"{_TUNE} mirror", "tune.cli.mirror:mirror_command", about)
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    fetching = commands.add_parser("fetch", help="bring a copy to this machine")
    fetching.add_argument("address", metavar="URI", help="what --mirror named: s3://, gs:// or a folder")
    fetching.add_argument("folder", type=Path, metavar="FOLDER", help="a storage folder, new or of the same sweeps")
    copying = commands.add_parser("copy", help="make a copy, or bring it up to date")
    copying.add_argument("folder", type=Path, metavar="FOLDER", help="the storage folder")
    copying.add_argument("address", metavar="URI", help="where to: s3://, gs:// or a folder")
    return parser


def cluster_parser() -> Parser:
    """Returns the parser of the command that writes the cluster files."""
    about = "Write a folder with cluster.yaml and all that it sends to a cluster."
    parser = command_parser(f"{_TUNE} cluster", "tune.cli.cluster_files:cluster_command", about)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    return parser


TOOLS: Mapping[str, Callable[[], Parser]] = {
    "status": status_parser,
    "ui": ui_parser,
    "report": report_parser,
    "ledger": ledger_parser,
    "optuna": optuna_parser,
    "import": import_parser,
    "store": store_parser,
    "mirror": mirror_parser,
    "cluster": cluster_parser,
}
"""Commands that run no trials."""
