"""The command lines of sweeps and seed studies of a training script; parsed without PyTorch, Ray and MLflow."""

from golf.cli.options import Parser, above, whole
from golf.cli.start import program
from golf.train.checkpoint_policy import MTBF_HOURS
from tune.cli.parsers import (
    ONLY,
    RANGES,
    add_limits,
    add_places,
    add_places_of_work,
    add_power,
    add_space,
    add_strategy,
    add_test,
    command_parser,
)
from tune.cluster.retry_policy import RetryPolicy
from tune.search.search import DEFAULT_TRIALS
from tune.study.preregistration import SEEDS

_SWEEP_DESCRIPTION = """Searches the settings of any training script that prints its score, with Ray Tune.

What can be searched is read from the source: golf script inspect SCRIPT lists it. Each trial runs a copy of the script
in a directory of its own. The same command again continues: what was finished is in the ledger of the storage folder
and is not run again.
"""
_SWEEP_EXAMPLES = """
examples:
  run_sweep.py train_gpt.py --nproc 8 --env DATA_PATH=/data/fineweb --space MATRIX_LR=0.02,0.026 QK_GAIN_INIT=4.0..5.25
  run_sweep.py train_gpt.py --fixed-steps 2000 --space MATRIX_LR=log:0.01..0.05 --trials 16
  run_sweep.py train.py --space arg.lr=0.001,0.002 constant.WIDTH=256,384 --metric 'val_loss=loss: ([0-9.]+)' \\
      --objective val_loss --constraint 'train_seconds<=600'
  run_sweep.py sweep.yaml                             the same, written down

exit status: 0, also when some trials failed or none is within its bounds, which is said; 1 when no trial gave a score
and some failed; 2 for what cannot be run; 130 when it was stopped and can be continued
"""
_SEED_DESCRIPTION = """Runs any training script under several seeds with Ray Tune and reports what they show.

The same command again continues: what was finished is in the ledger of the storage folder and is not run again.
"""
_SEED_EXAMPLES = """
examples:
  run_seeds.py train_gpt.py --nproc 8 --env MATRIX_LR=0.026 --seeds 42 314 999 --baseline 1.0827
  run_seeds.py --from-sweep train_gpt --best          three seeds of the winner of a sweep
  run_seeds.py train_gpt.py --target 'val_loss<=3.28' whether the mean is below it, as speedruns ask
  run_seeds.py study.yaml --until-decided --baseline train_gpt-seeds

exit status: as of run_sweep.py
"""


def script_sweep_parser() -> Parser:
    """Returns the parser of a sweep of a script."""
    name = program("run_sweep.py", "golf-sweep")
    examples = _SWEEP_EXAMPLES.replace("run_sweep.py", name)
    parser = command_parser(name, "tune.cli.script_sweep:run", _SWEEP_DESCRIPTION, examples)
    parser.add_argument("preset", metavar="SCRIPT", help="a training script, or a .yaml or .toml file")
    parser.add_argument("--dry-run", action="store_true", help="print the trials and stop; nothing is executed")
    _add_script(parser)
    search = add_strategy(parser, f"at most so many trials (all of a grid, else {DEFAULT_TRIALS})")
    fields = f"{RANGES}; a FIELD is an environment variable, arg.FLAG or constant.NAME"
    add_space(search, fields)
    search.add_argument("--only", action="extend", nargs="+", default=[], metavar="FIELD", help=f"{ONLY}, of the space")
    steps = "steps of every trial, whatever the clock says; allows to stop trials early that are behind at equal steps"
    search.add_argument("--fixed-steps", type=whole(least=1), metavar="N", help=steps)
    search.add_argument("--no-early-stopping", action="store_true", help="run every trial to its end")
    top = "share of the trials that go on, with --fixed-steps, from a quarter and a half of the steps (%(default)s)"
    search.add_argument("--top", type=above("trials"), default=0.5, help=top)
    add_limits(parser, "SCORE")
    places = add_places(parser, "the sweep's name (the script's); the same name continues")
    places.add_argument("--no-reuse", action="store_true", help="take no result of another sweep")
    _add_machines(parser)
    return parser


def script_seeds_parser() -> Parser:
    """Returns the parser of a seed study of a script."""
    name = program("run_seeds.py", "golf-seeds")
    examples = _SEED_EXAMPLES.replace("run_seeds.py", name).replace("run_sweep.py", "golf-sweep")
    parser = command_parser(name, "tune.cli.script_seeds:run", _SEED_DESCRIPTION, examples)
    parser.add_argument("preset", metavar="SCRIPT", help="a training script, or a .yaml or .toml file")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and stop; nothing is executed")
    _add_script(parser)
    runs = parser.add_argument_group("runs")
    runs.add_argument("--seeds", type=whole(most=2**63 - 1), nargs="+", help=f"({' '.join(map(str, SEEDS))})")
    runs.add_argument("--repeat", type=whole(), default=0, metavar="K", help="run the first seed K more times")
    runs.add_argument("--cold", action="store_true", help="take no earlier result: what a record claims")
    runs.add_argument("--fixed-steps", type=whole(least=1), metavar="N", help="steps, whatever the clock says")
    add_test(parser)
    add_power(parser)
    parser.add_argument(
        "--target", metavar="NAME<=X", help="whether the mean of a metric is below X, instead of a gain"
    )
    add_places(parser, "the study's name (made of the script and its settings); the same name continues")
    _add_machines(parser)
    return parser


def _add_script(parser: Parser) -> None:
    """Adds the options that say how a script is started and what counts of its output."""
    script = parser.add_argument_group("script")
    for option, text in (
        ("--env", "environment variables of every trial"),
        ("--arg", "flags of every trial, without their dashes"),
        ("--constant", "constants at the top of the source, changed in a copy"),
    ):
        script.add_argument(option, action="extend", nargs="+", default=[], metavar="NAME=VALUE", help=text)
    passed = "a variable of this environment that the script gets too, beside PATH, HOME and the like"
    script.add_argument("--pass-env", action="extend", nargs="+", default=[], metavar="NAME", help=passed)
    unknown = "take a variable although the source does not read it"
    script.add_argument("--allow-unknown-env", action="extend", nargs="+", default=[], metavar="NAME", help=unknown)
    launcher = "torchrun, python, or a command with {script}, {nproc} and {args} (torchrun where the script reads RANK)"
    script.add_argument("--launcher", help=launcher)
    resume = "words by which an interrupted run goes on in its directory (such runs begin anew)"
    script.add_argument("--resume-arg", metavar="WORDS", help=resume)
    script.add_argument("--seed-name", metavar="FIELD", help="field of the seed (SEED, arg.seed or constant.SEED)")
    script.add_argument("--trust", action="store_true", help="run the script without asking: it is executed here")
    silence = "without progress in its output, after which a trial is stopped (%(default)g)"
    script.add_argument("--no-progress-seconds", type=above("seconds"), default=1800.0, help=silence)
    result = parser.add_argument_group("result")
    metric = "another number: the first group of the last match, a key of JSON lines, or of a file that is written"
    result.add_argument(
        "--metric", action="extend", nargs="+", default=[], metavar="NAME=REGEX|json:KEY|file:PATH:KEY", help=metric
    )
    counts = "the metric that counts, :max where larger is better (val_bpb)"
    result.add_argument("--objective", metavar="NAME[:max]", help=counts)
    bound = "a bound on a metric; none removes the cap (artifact_bytes<=16000000, where the bytes are known)"
    result.add_argument("--constraint", action="extend", nargs="+", default=[], metavar="NAME<=X", help=bound)


def _add_machines(parser: Parser) -> None:
    work = add_places_of_work(parser)
    processes = "processes of a trial, on one machine, each with its GPU where there are GPUs (%(default)s)"
    work.add_argument("--nproc", dest="workers", type=whole(least=1), default=1, metavar="N", help=processes)
    parser.set_defaults(
        data=None,
        save_seconds=None,
        mtbf_hours=MTBF_HOURS,
        patience_seconds=RetryPolicy.patience_seconds,
        timeout_seconds=RetryPolicy.timeout_seconds,
    )
