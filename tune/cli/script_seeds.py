"""The command run_seeds.py SCRIPT: a seed study of anybody's training script."""

import argparse
import math
from pathlib import Path

from golf.config.rules import MARGIN_NATS
from golf.submission.study import NATS_UNITS
from tune.cli.options import machines_of, run_anywhere
from tune.cli.run_seeds import SeedStudyCommand, print_power
from tune.cli.script_subject import ScriptSubject
from tune.cli.script_target import read_target
from tune.cli.seed_options import SeedStudyOptions, study_options
from tune.cli.study_target import TargetOptions
from tune.records.ledger import Ledger
from tune.study.noise import FINEWEB_BYTES_PER_TOKEN, latest_nats_per_bpb
from tune.workloads.script.settings import parse_constraint


def options_of(parsed: argparse.Namespace, unit: str) -> SeedStudyOptions:
    """Returns a resolved command line as values. Raises: ValueError for options that do not fit each other."""
    value = None if parsed.target is None else parse_constraint(parsed.target).bound
    if value is not None and parsed.baseline:
        raise ValueError("--target and --baseline are two questions: give one of them")
    default_margin = MARGIN_NATS if value is None and unit in NATS_UNITS else 0.0
    return study_options(parsed, TargetOptions(parsed.preset), default_margin, target_value=value)


def show_power(parsed: argparse.Namespace) -> int:
    """Prints how many seeds a gain needs, by the noise given, the ledger's, and the published one."""
    options, preset = options_of(parsed, "BPB"), Path(parsed.preset).stem
    trials = Ledger(options.places.storage.ledger).trials()
    factor, stream = latest_nats_per_bpb(trials, preset), "the stream of its runs in the ledger"
    if factor is None:
        factor, stream = math.log(2) * FINEWEB_BYTES_PER_TOKEN, "FineWeb's validation stream"
    print_power(options, preset, factor, stream)
    return 0


def run(parsed: argparse.Namespace) -> int:
    """Runs or continues a seed study of a script, here or on a cluster. Returns: the exit status."""

    def act(local: argparse.Namespace) -> int:
        if local.target is not None and local.objective is None:
            bound = parse_constraint(local.target)
            local.objective = f"{bound.name}:max" if bound.at_least else bound.name
        if local.power:
            return show_power(local)
        subject = ScriptSubject(read_target(local), machines_of(local), trusted=local.trust)
        return SeedStudyCommand(options_of(local, subject.unit), subject).run()

    return run_anywhere("seeds", parsed, act)
