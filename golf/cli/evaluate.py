"""The commands that evaluate a finished run, or an artifact alone: score, ttt."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from golf.artifact.pack import read_artifact
from golf.cli.inputs import change_only, find_dataset, need_file, read_settings, stored_config
from golf.cli.run import checkpoint_policy
from golf.cli.terminal import python_line
from golf.config.config import RunConfig
from golf.config.presets import find_preset
from golf.data.dataset import hash_file
from golf.pipeline.evaluation import measure
from golf.pipeline.identity import score_identity
from golf.pipeline.progress import Progress, preemption_signals
from golf.pipeline.run_directory import LooseArtifact, RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.runtime.process_group import join
from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT, WEIGHTS, digest
from golf.train.hooks import Hooks


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated, and how."""

    directory: RunDirectory
    config: RunConfig


def subject_of(folder: Path | None, artifact: Path | None, arguments: argparse.Namespace) -> Subject:
    """Returns a run, or an artifact with a preset's settings, with --set applied.

    Args:
        folder: of a run.
        artifact: instead of a run.
        arguments: have `preset` and `set`.

    Raises: ValueError unless exactly one is given, an artifact with a preset; FileNotFoundError.
    """
    if (folder is None) == (artifact is None):
        raise ValueError("give either the FOLDER of a run or --artifact FILE")
    if folder is not None:
        directory = RunDirectory(folder)
        config = stored_config(directory)
    else:
        assert artifact is not None
        if arguments.preset is None:
            raise ValueError("--artifact holds a model but not how to score it: give --preset, e.g. --preset demo")
        if not artifact.is_file():
            raise FileNotFoundError(f"there is no artifact {artifact}; make one with `python -m golf run demo`")
        directory = LooseArtifact(artifact)
        config = replace(find_preset(arguments.preset), model=read_artifact(artifact)[0])
    return Subject(directory=directory, config=change_only(config, arguments, ("score", "ttt")))


def score_command(arguments: argparse.Namespace) -> None:
    """Measures the rungs below TTT."""
    loose = arguments.artifact is not None
    if loose and arguments.rung in WEIGHTS:
        raise ValueError(
            f"--rung {arguments.rung} is measured from float weights, which an artifact does not hold; "
            f"use --rung {QUANTISED} or --rung {SLIDING}"
        )
    every = (QUANTISED, SLIDING) if loose else (LIVE, AVERAGED, QUANTISED, SLIDING)
    evaluate(arguments, every if arguments.rung == "all" else (arguments.rung,))


def ttt_command(arguments: argparse.Namespace) -> None:
    """Measures the last rung."""
    evaluate(arguments, (TTT,))


def evaluate(arguments: argparse.Namespace, rungs: tuple[str, ...]) -> None:
    """Measures rungs of a finished run or of an artifact alone; each result is used until its inputs change."""
    subject = subject_of(arguments.folder, arguments.artifact, arguments)
    directory, config = subject.directory, subject.config
    for rung in rungs:
        need_file(directory, *((WEIGHTS[rung], "train") if rung in WEIGHTS else ("artifact.golf", "pack")))
    output = RunDirectory(arguments.out or _default_output(directory))
    settings = read_settings(directory)
    with join() as group:
        dataset = find_dataset(arguments.data or settings.data, config, group)
        run = StageContext(config=config, dataset=dataset, directory=directory, group=group)
        progress, policy = Progress(not group.first), checkpoint_policy(arguments)
        for rung in rungs:
            source = digest(hash_file(directory.file(WEIGHTS.get(rung, "artifact.golf"))), dataset.validation_digest)
            with preemption_signals(group.first) as preemption:
                hooks = Hooks(event=progress, checkpoint_policy=policy, preemption=preemption)
                result = measure(run, rung, hooks, output=output, identity=score_identity(source, config, rung))
            if group.first:
                scores = f"{result.bpb:.6f} BPB  {result.nats_per_token:.6f} nats/token"
                print(f"{rung:10s} {result.seconds:9.1f} s  {scores}  {output.file(rung + '.json')}", flush=True)
        if group.first:
            print(f"next: {python_line('golf', *_next_command(arguments, rungs))}")


def _next_command(arguments: argparse.Namespace, rungs: tuple[str, ...]) -> list[str]:
    """Returns the words of a command that a reader of these rungs may want to try."""
    loose = ["--artifact", str(arguments.artifact), "--preset", str(arguments.preset)]
    subject = loose if arguments.folder is None else [str(arguments.folder)]
    data = ["--data", str(arguments.data)] if arguments.data else []
    return ["ttt", *subject, *data, *(["--set", "ttt.epochs=3"] if TTT in rungs else [])]


def _default_output(directory: RunDirectory) -> Path:
    """Returns where results go: beside the run's own, or into `runs` for an artifact alone."""
    loose = isinstance(directory, LooseArtifact)
    return Path("runs") / f"{directory.path.stem}-scored" if loose else directory.file("scored")
