"""`python -m golf`: a run's stages in one plain process or under torchrun, without Ray or MLflow."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from golf.artifact.bundle import code_bytes
from golf.config import RunConfig, from_plain, override_all, to_plain
from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import open_dataset
from golf.data.fineweb import download_fineweb
from golf.data.text import prepare_text, read_documents
from golf.dist import join
from golf.files import read_json, write_json
from golf.model.gepa import count_parameters
from golf.plan import make_plan
from golf.presets import PRESETS, SPLITS, find_preset, find_split
from golf.solo import Progress, print_ladder
from golf.stages import RunFolder, pack_stage, run_stages, train_stage
from golf.train.loop import Diverged

USER_ERRORS = (ValueError, OSError, Diverged)
"""Errors whose message is for the user; everything else is a fault of the program and keeps its traceback."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line as a namespace whose `command` is the function to call."""
    parser = argparse.ArgumentParser(prog="python -m golf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="sizes, plan and predicted bytes of a preset; nothing is run")
    info.add_argument("preset", help=f"one of {', '.join(PRESETS)}")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(command=show_info)
    for name, command, help_text in (
        ("train", train_command, "train a preset; the weights land in the run's folder"),
        ("run", run_command, "train, pack, score and adapt a preset; prints the ladder"),
    ):
        run = commands.add_parser(name, help=help_text, description=f"{help_text}. The same command again continues.")
        run.add_argument("preset", help=f"one of {', '.join(PRESETS)}, or the path of a config.json")
        run.add_argument("--data", type=Path, default=Path("data") / CORPUS_NAME, help="prepared data (%(default)s)")
        run.add_argument("--out", type=Path, help="the run's folder (runs/PRESET)")
        run.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="e.g. schedule.steps=100 seed=7")
        run.add_argument("--split", help=f"quantisation split: {', '.join(SPLITS)}")
        run.set_defaults(command=command)
    pack = commands.add_parser("pack", help="quantise and pack a trained run again, e.g. with another split")
    pack.add_argument("folder", type=Path, help="the run's folder")
    pack.add_argument("--split", help=f"quantisation split: {', '.join(SPLITS)}")
    pack.set_defaults(command=pack_command)
    _add_data_commands(commands.add_parser("data", help="make or download a dataset").add_subparsers(required=True))
    return parser.parse_args(arguments)


def _add_data_commands(commands: Any) -> None:
    corpus = commands.add_parser("prepare", help="tokenise text: the built-in corpus, or your own UTF-8 files")
    corpus.add_argument("--text", type=Path, nargs="+", metavar="PATH", help="your files or folders")
    corpus.add_argument("--out", type=Path, help=f"folder (data/{CORPUS_NAME}, or data/text)")
    corpus.set_defaults(command=prepare_command)
    fineweb = commands.add_parser("fineweb", help="download the competition's FineWeb shards (16 GB at 80 shards)")
    fineweb.add_argument("--train-shards", type=int, default=80, help="training shards of 100 M tokens (%(default)s)")
    fineweb.add_argument("--out", type=Path, default=Path("data/fineweb"), help="folder (%(default)s)")
    fineweb.set_defaults(command=fineweb_command)


def prepare_command(arguments: argparse.Namespace) -> None:
    """Tokenise text into a dataset folder."""
    if arguments.text:
        prepare_text(read_documents(arguments.text), arguments.out or Path("data/text"), "text")
    else:
        prepare_text(documents(), arguments.out or Path("data") / CORPUS_NAME, CORPUS_NAME)


def fineweb_command(arguments: argparse.Namespace) -> None:
    """Download the competition's data."""
    download_fineweb(arguments.out, arguments.train_shards)


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The preset or file named on the command line, with its --split and --set applied."""
    name = arguments.preset
    config = from_plain(RunConfig, read_json(Path(name))) if name.endswith(".json") else find_preset(name)
    if arguments.split:
        quant = to_plain(find_split(arguments.split)) | {"float_elements": config.quant.float_elements}
        config = override_all(config, {"quant": quant})
    values = {}
    for assignment in arguments.set:
        field, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f'--set takes FIELD=VALUE, got "{assignment}"')
        try:
            values[field] = json.loads(value)
        except json.JSONDecodeError:
            values[field] = value
    return override_all(config, values)


def run_command(arguments: argparse.Namespace) -> None:
    """All stages."""
    config, folder = read_config(arguments), RunFolder(arguments.out or Path("runs") / Path(arguments.preset).stem)
    with join() as group:
        dataset = open_dataset(arguments.data, config.model.vocab_size)
        if group.first:
            write_json(folder.file("config.json"), to_plain(config))
        progress = Progress(not group.first, config.schedule.steps)
        results = run_stages(config, dataset, folder, group, code_bytes(config), progress)
        if group.first:
            print_ladder(results)
            write_json(folder.file("record.json"), {"config": to_plain(config), "data": dataset.digest} | results)


def train_command(arguments: argparse.Namespace) -> None:
    """Training alone."""
    config, folder = read_config(arguments), RunFolder(arguments.out or Path("runs") / Path(arguments.preset).stem)
    with join() as group:
        dataset = open_dataset(arguments.data, config.model.vocab_size)
        if group.first:
            write_json(folder.file("config.json"), to_plain(config))
        trained = train_stage(config, dataset, folder, group, Progress(not group.first, config.schedule.steps))
        if group.first:
            print(f"trained {trained['steps']} steps in {trained['seconds']:.1f} s; weights in {folder.path}")


def pack_command(arguments: argparse.Namespace) -> None:
    """Packing alone."""
    folder = RunFolder(arguments.folder)
    arguments.preset, arguments.set = str(folder.file("config.json")), []
    config = read_config(arguments)
    print_ladder({"train": {"seconds": 0.0}, "pack": pack_stage(config, folder, code_bytes(config)), "ladder": []})


def show_info(arguments: argparse.Namespace) -> None:
    """What a preset is, without running it."""
    config = find_preset(arguments.preset)
    frozen = 0 if config.adapt is None else config.adapt.frozen_blocks
    plan = make_plan(config.schedule)
    facts = {
        "preset": arguments.preset,
        "parameters": count_parameters(config.model),
        "ttt_trainable_parameters": count_parameters(config.model, frozen),
        "code_bytes": code_bytes(config),
        "cap_bytes": config.cap_bytes,
        "steps": config.schedule.steps,
        "warmdown_start": config.schedule.warmdown_start,
        "qat_start": next((step for step, row in enumerate(plan) if row.qat), None),
        "tokens_per_step": config.batch.tokens_per_step,
        "train_tokens": config.schedule.steps * config.batch.tokens_per_step,
    }
    if arguments.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:26s} {value:,}" if isinstance(value, int) else f"{name:26s} {value}")


def main(arguments: list[str]) -> int:
    """Run one command; errors of input are one line and exit code 2."""
    parsed = parse(arguments)
    try:
        parsed.command(parsed)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
