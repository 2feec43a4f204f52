"""A model that fits under a byte cap: trained, packed and scored in one plain process or under torchrun."""

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf.cli.options import Parser, above, real, whole
from golf.cli.start import add_version_and_completion, announce, function_of, parse, program
from golf.cli.submit_options import EXAMPLES, MORE, SUMMARY, add_submit_options
from golf.cli.terminal import quiet_when_closed
from golf.config.presets import PRESETS, SPLITS
from golf.config.rules import TRACK_SECONDS
from golf.data.corpus import CORPUS_DATA
from golf.data.variants import VARIANTS
from golf.runtime.errors import Diverged, OutOfMemory
from golf.runtime.results import LADDER
from golf.train.checkpoint_policy import MTBF_HOURS

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, Diverged, OutOfMemory)
"""Errors whose message is for the user; everything else is a fault of the program and keeps its traceback."""
OTHERS_WAIT_SECONDS = 10.0
"""How long ranks other than the first hold their error back: torchrun ends them when the first has printed the same."""

EPILOG = """first steps:
  python -m golf run demo                    train, pack and score a small model on 2 CPU cores (2 minutes)
  python -m golf info pr598                  what a preset is, and the bytes to expect
  python -m golf fields schedule             what can be changed with --set
  torchrun --nproc-per-node 8 -m golf run pr598 --data data/fineweb     on 8 GPUs

A run's folder holds its config.json, weights, artifact and one JSON file per result. Every command can be
stopped and given again: what is finished is not computed twice.

exit status: 0; 1 when a check failed; 2 for wrong input; 130 when it was interrupted"""
_LONG = ("golf.cli.run:run_command", "golf.cli.run:train_command")
"""Commands that say at once that they run."""
OF_THE_RUN = "prepared data (that of the run's training)"
CHECKING = """Nothing is
argued from the code: the evaluator is run with its later tokens changed, with each value of a token, watched at every
step, and again from the artifact. Without --quick everything is scored again."""
PREDICTION = """The predicted bytes
take trained rows as normally distributed and their codes near their entropy; on trained demos that was within 6 % of
what the model really took. Only packing shows the real size."""
FITTING = """Every group
is quantised alone with every option; the loss it adds on training tokens and its bytes are taken to add up. The best
combination is packed for real, until one fits. The run's own configuration and artifact stay."""
IMPORTING = """A quantised
file becomes an artifact with the same codes and scales; float weights become the folder of a run, to be scored or
packed. Every value stays as it is, bit for bit. Nothing in the file is executed."""

EXAMINING = """Each check is
one line: ok, warning or failed, what was found and what helps. Nothing stays behind: the folder is tried in one of its
own, which is removed. Of locks only those among processes of this machine can be tried."""
INSPECTING = """The source is
read, also where it is packed into the file; nothing of it is run."""


def make_parser() -> Parser:
    """Returns the parser of all commands; `command` in what it parses is the function to call: "module:function"."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(program("python -m golf", "golf"), description=__doc__, epilog=EPILOG, formatter_class=form)
    add_version_and_completion(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_describing(commands)
    _add_check(commands)
    _add_doctor(commands)
    for name in ("run", "train"):
        _add_run(commands, name)
    _add_packing(commands)
    _add_evaluating(commands)
    _add_import(commands)
    _add_script(commands)
    add_submit_options(_add(commands, "submit", "golf.cli.submit:submit_command", SUMMARY, *EXAMPLES, more=MORE))
    data = commands.add_parser("data", help="make or download a dataset")
    _add_data(data.add_subparsers(required=True, metavar="SOURCE", title="sources"))
    return parser


def _add(
    commands: Any, name: str, function: str, summary: str, *examples: str, more: str = ""
) -> argparse.ArgumentParser:
    """Adds a command with its summary and examples; returns its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {more}".strip(),
        epilog="\n".join(["examples:", *(f"  python -m golf {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _path(parser: argparse.ArgumentParser, name: str, text: str, metavar: str = "FOLDER", **how: Any) -> None:
    """Adds an argument that is a path."""
    parser.add_argument(name, type=Path, metavar=metavar, help=text, **how)


def _repository(text: str) -> str:
    """Returns a dataset repository's name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not OWNER/NAME")
    return text


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_set(parser: argparse.ArgumentParser) -> None:
    fields = "fields to change, e.g. schedule.steps=100 seed=7 (all of them: python -m golf fields)"
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help=fields)


def _add_split(parser: argparse.ArgumentParser) -> None:
    names = f"quantisation split: {', '.join(SPLITS)}, or a config.json whose bits and clips are taken"
    parser.add_argument("--split", metavar="NAME", help=names)


def _add_saving(parser: argparse.ArgumentParser) -> None:
    fixed = "save the state every S seconds (chosen from what a save takes: the square root of 2 * save * mtbf)"
    parser.add_argument("--save-seconds", type=real(unit="seconds"), metavar="S", help=fixed)
    often = "mean time between failures of the machines together (%(default)g)"
    parser.add_argument("--mtbf-hours", type=above("hours"), default=MTBF_HOURS, metavar="H", help=often)


def _add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", metavar="PRESET", help=f"{', '.join(PRESETS)}, or the path of a config.json")


def _add_describing(commands: Any) -> None:
    info = _add(
        commands,
        "info",
        "golf.cli.describe:info_command",
        "sizes, plan in brief and predicted bytes of a preset; nothing is run",
        "info demo",
        "info pr598 --split pure-int6 --json",
        more=PREDICTION,
    )
    _add_preset(info)
    _add_set(info)
    _add_split(info)
    _add_json(info)
    sizes = _add(
        commands,
        "bytes",
        "golf.cli.describe:bytes_command",
        "where an artifact's bytes go, tensor by tensor, against the entropy of their codes",
        "bytes runs/demo",
        "bytes runs/demo/artifact.golf --json",
    )
    _path(sizes, "path", "an artifact, or the folder of a run", "ARTIFACT|RUN")
    _add_json(sizes)
    fields = _add(
        commands,
        "fields",
        "golf.cli.describe:fields_command",
        "every field that --set can change, with its value and meaning",
        "fields",
        "fields schedule --preset demo",
    )
    fields.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only fields below, e.g. quant.mlp")
    fields.add_argument("--preset", default="pr598", metavar="PRESET", help="whose values to show (%(default)s)")


def _add_check(commands: Any) -> None:
    check = _add(
        commands,
        "check",
        "golf.cli.check:check_command",
        "the 25 points of the rules, each shown by numbers; exit code 1 when one fails",
        "check runs/demo",
        "check runs/demo --quick",
        "check runs/demo/artifact.golf --preset demo",
        "check storage/studies/demo-seeds",
        "check records/track_non_record_16mb/2026-01-01_MyModel --baseline 1.1200",
        more=CHECKING,
    )
    subject = "the folder of a run, an artifact, the folder of a seed study, or somebody's record folder"
    _path(check, "path", subject, "RUN|ARTIFACT|FOLDER")
    quick = "a short evaluation only; without it as long as scoring it all anew"
    check.add_argument("--quick", action="store_true", help=quick)
    track = "whose limits count (non-record; of a study or a record folder its own)"
    check.add_argument("--track", choices=list(TRACK_SECONDS), help=track)
    best = "of a record folder: the previous best, the values of its seeds or one mean, in BPB"
    check.add_argument("--baseline", type=above(), nargs="+", default=[], metavar="V", help=best)
    check.add_argument("--baseline-nats", action="store_true", help="--baseline is in nats per token")
    check.add_argument("--preset", metavar="PRESET", help="of an artifact alone: whose score settings to use")
    _path(check, "--data", OF_THE_RUN)
    check.add_argument("--strict", action="store_true", help="count remarks as failures (exit code 1)")
    _add_json(check)
    _path(check, "--out", "write the JSON object to a file as well", "FILE")
    _add_set(check)


def _add_doctor(commands: Any) -> None:
    doctor = _add(
        commands,
        "doctor",
        "golf.cli.doctor:doctor_command",
        "whether this machine and a storage folder are fit for runs; exit code 1 when a check failed",
        "doctor",
        "doctor /mnt/golf",
        "doctor /mnt/golf --json",
        more=EXAMINING,
    )
    _path(doctor, "path", "the storage folder that is to be used (%(default)s)", nargs="?", default=Path("storage"))
    _add_json(doctor)


def _add_run(commands: Any, name: str) -> None:
    summaries = {"run": "train, pack and score with test-time training; prints the scores", "train": "train only"}
    parser = _add(
        commands,
        name,
        f"golf.cli.run:{name}_command",
        summaries[name],
        f"{name} demo",
        f"{name} demo --set schedule.steps=30 schedule.warmdown_start=15 --out runs/short",
        f"{name} demo --seconds 60 --out runs/minute",
        more="The same command again continues where it was stopped.",
    )
    _add_preset(parser)
    _path(parser, "--data", f"prepared data ({CORPUS_DATA}, made when missing)")
    _path(parser, "--out", "the run's folder (runs/PRESET)")
    budget = "train for about so long: a few steps are measured first and the number of steps fixed by them"
    parser.add_argument("--seconds", type=above("seconds"), metavar="S", help=budget)
    _add_set(parser)
    _add_split(parser)
    _add_saving(parser)


def _add_packing(commands: Any) -> None:
    pack = _add(
        commands,
        "pack",
        "golf.cli.run:pack_command",
        "quantise and pack a trained run, also again with another split",
        "pack runs/demo",
        "pack runs/demo --split pure-int6",
        more="Another split becomes the folder's configuration.",
    )
    _path(pack, "folder", "the run's folder")
    _path(pack, "--data", 'prepared data, which the method "gptq" reads (that of the run\'s training)')
    _add_set(pack)
    _add_split(pack)
    fit = _add(
        commands,
        "fit",
        "golf.cli.run:fit_command",
        "choose the bits and clips per tensor group that use the byte cap best",
        "fit runs/demo",
        "fit runs/pr598 --cap 16000000 --margin 20000",
        more=FITTING,
    )
    _path(fit, "folder", "the folder of a trained run")
    cap = "largest artifact, model and code (that of the run)"
    fit.add_argument("--cap", type=whole(least=1), metavar="BYTES", help=cap)
    fit.add_argument("--margin", type=whole(), default=0, metavar="BYTES", help="bytes to leave free (%(default)s)")
    tokens = "tokens to measure on (%(default)s)"
    fit.add_argument("--tokens", type=whole(least=1), default=8192, metavar="N", help=tokens)
    _path(fit, "--data", OF_THE_RUN)
    _path(fit, "--out", "where the configuration is written (FOLDER/fitted.json)", "FILE")


def _add_evaluating(commands: Any) -> None:
    score = _add(
        commands,
        "score",
        "golf.cli.evaluate:score_command",
        "bits per byte of a finished run, or of an artifact alone, on the validation text",
        "score runs/demo",
        "score runs/demo --rung sliding --set score.stride=32",
        "score --artifact runs/demo/artifact.golf --preset demo",
    )
    rungs = [rung for rung in LADDER if rung != "ttt"]
    score.add_argument("--rung", choices=[*rungs, "all"], default="all", help="which weights and windows (%(default)s)")
    ttt = _add(
        commands,
        "ttt",
        "golf.cli.evaluate:ttt_command",
        "score with test-time training: each chunk is scored first, then trained on",
        "ttt runs/demo",
        "ttt runs/demo --set ttt.lr=0.005 ttt.epochs=3",
        "ttt --artifact runs/demo/artifact.golf --preset demo",
    )
    for parser in (score, ttt):
        _path(parser, "folder", "the run's folder", nargs="?")
        _path(parser, "--artifact", "an artifact instead of a run's folder", "FILE")
        parser.add_argument("--preset", metavar="PRESET", help="with --artifact: whose score settings to use")
        _path(parser, "--data", OF_THE_RUN)
        _path(parser, "--out", "folder of the results (FOLDER/scored)")
        _add_set(parser)
        _add_saving(parser)


def _add_import(commands: Any) -> None:
    published = _add(
        commands,
        "import",
        "golf.cli.import_published:import_command",
        "convert a published checkpoint of the PR #598 family, to score it here",
        "import final_model.int6.ptz",
        "import final_model.pt --preset pr598 --out runs/published",
        more=IMPORTING,
    )
    _path(published, "file", "final_model.int6.ptz or final_model.pt", "FILE")
    unseen = "what the weights' shapes do not show is this preset's (pr598, or pr1493 for its family)"
    published.add_argument("--preset", choices=PRESETS, metavar="PRESET", help=unseen)
    _path(
        published, "--out", "the artifact (FILE with .golf), or for float weights the run's folder (runs/FILE)", "PATH"
    )


def _add_script(commands: Any) -> None:
    script = commands.add_parser("script", help="somebody's training script: what it reads, needs and prints")
    actions = script.add_subparsers(required=True, metavar="COMMAND", title="commands")
    inspect = _add(
        actions,
        "inspect",
        "golf.cli.script:inspect_command",
        "the settings of a training script, what it needs and what will not work",
        "script inspect train_gpt.py",
        "script inspect train_gpt.py --nproc 8 --json",
        more=INSPECTING,
    )
    _path(inspect, "file", "the script", "FILE")
    processes = "whether it runs with so many processes; an error where it does not"
    inspect.add_argument("--nproc", type=whole(least=1), metavar="N", help=processes)
    _add_json(inspect)


def _add_data(sources: Any) -> None:
    corpus = _add(
        sources,
        "prepare",
        "golf.cli.data:prepare_command",
        "tokenise text: the built-in corpus, or your own UTF-8 files",
        "data prepare",
        "data prepare --text README.md docs --out data/mine",
    )
    _path(corpus, "--text", "your files or folders", "PATH", nargs="+")
    _path(corpus, "--out", f"({CORPUS_DATA}, or data/text)")
    fineweb = _add(
        sources,
        "fineweb",
        "golf.cli.data:fineweb_command",
        "download the competition's FineWeb shards (16 GB at 80 shards)",
        "data fineweb",
        "data fineweb --train-shards 1 --out data/fineweb-small",
        "data fineweb --variant sp8192",
        more="Downloads resume.",
    )
    variants = "vocabulary: sp1024 is the competition's own, sp8192 that of pr1493 (%(default)s)"
    fineweb.add_argument("--variant", choices=VARIANTS, default="sp1024", help=variants)
    repository = "dataset repository on the Hugging Face Hub, laid out the same way (the variant's)"
    fineweb.add_argument("--repository", type=_repository, metavar="OWNER/NAME", help=repository)
    shards = "training shards of 100 M tokens (%(default)s)"
    fineweb.add_argument("--train-shards", type=whole(), default=80, metavar="N", help=shards)
    fineweb.add_argument("--jobs", type=whole(least=1), default=4, metavar="N", help="shards at a time (%(default)s)")
    _path(fineweb, "--out", "the dataset's folder (data/fineweb, or data/fineweb-sp8192 and so on)")


def message_of(error: BaseException) -> str:
    """Returns an error in one line, without Python's numbers."""
    text = f"diverged: {error}" if isinstance(error, Diverged) else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args: arguments: of the command line (those of this process).

    Returns: 0; 1 when a check failed; 2 after an error of input, which is one line on stderr; 130 after Ctrl-C.

    Raises: SystemExit when a signal ended a stage whose state was saved.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        parsed = parse(make_parser(), list(sys.argv[1:] if arguments is None else arguments))
        if parsed.command in _LONG and not rank:
            announce(f"{parsed.words[0]} {Path(parsed.preset).stem}")
        function_of(parsed.command)(parsed)
    except BrokenPipeError:
        raise
    except USER_ERRORS as error:
        if rank:
            time.sleep(OTHERS_WAIT_SECONDS)
        print(f"error: {message_of(error)}" + (f" (rank {rank})" if rank else ""), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not rank:
            print("\nstopped; what was finished or saved is there, and the same command continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
