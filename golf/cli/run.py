"""The commands that make and change runs: run, train, pack, fit."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from golf.artifact.byte_breakdown import group_ledger
from golf.cli.describe import save_line
from golf.cli.inputs import (
    RunSettings,
    change_only,
    check_built_in,
    differences,
    find_dataset,
    need_file,
    read_config,
    read_settings,
    stored_config,
)
from golf.compliance.points import brief, check_to_plain
from golf.compliance.run import cheap_check
from golf.config.config import RunConfig, to_plain
from golf.data.corpus import CORPUS_DATA
from golf.data.passes import passes_warning, passes_words
from golf.data.shards import TokenStream
from golf.pipeline.bit_allocation import fit, fit_lines, training_loss, training_tokens
from golf.pipeline.bundle import counted_code
from golf.pipeline.pack_stage import pack_stage, with_code
from golf.pipeline.progress import Progress, ladder_lines, preemption_signals, record_values, size_line
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.pipeline.step_budget import plan_for_seconds
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import write_json
from golf.runtime.process_group import ProcessGroup, join, pick_device
from golf.runtime.results import AVERAGED, WEIGHTS
from golf.runtime.tensors import read_tensors
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.hooks import Hooks
from golf.train.run_log import LOG_FILE, LogFile, head_lines


def run_command(arguments: argparse.Namespace) -> None:
    """Runs all stages."""
    config, directory = read_config(arguments), run_directory(arguments)
    with join() as group:
        run = begin(config, directory, arguments, group)
        code = counted_code(run.config)
        with _hooks(arguments, run) as hooks:
            results = run_stages(run, code, hooks)
        if group.first:
            alone = ProcessGroup(device=group.device)
            check = cheap_check(run.config, run.dataset, directory, alone, len(code))
            record = record_values(run, results) | {"check": check_to_plain(check)}
            record["pack"] |= {"ledger": group_ledger(directory.file("artifact.golf").read_bytes())}
            write_json(directory.file("record.json"), record)
            print(*ladder_lines(results), sep="\n")
            print(save_line(results.train.checkpoints))
            print(f"checks     {brief(check)} (all: python -m golf check {directory.path})")
            print(f"artifact, weights, {LOG_FILE} and results are in {directory.path} (all numbers: record.json)")
            print(f"next: python -m golf ttt {directory.path} --set ttt.lr=0.005")


def train_command(arguments: argparse.Namespace) -> None:
    """Trains only."""
    config, directory = read_config(arguments), run_directory(arguments)
    with join() as group:
        run = begin(config, directory, arguments, group)
        with _hooks(arguments, run) as hooks:
            for line in head_lines(run.config, run.dataset):
                hooks.log(line)
            trained = train_stage(run, hooks)
        if group.first:
            print(f"trained {trained.steps} steps in {trained.seconds:.1f} s; the weights are in {directory.path}")
            print(save_line(trained.checkpoints))
            print(f"next: python -m golf pack {directory.path}")


@contextlib.contextmanager
def _hooks(arguments: argparse.Namespace, run: StageContext) -> Iterator[Hooks]:
    """Yields the hooks of a run's stages: progress on the terminal, a log, saves, and signals as preemption."""
    progress = Progress(not run.group.first)
    log = LogFile(run.directory.file(LOG_FILE), run.group, progress.line)
    with preemption_signals(run.group.first) as preemption:
        policy = checkpoint_policy(arguments)
        yield Hooks(event=progress, log=log, checkpoint_policy=policy, preemption=preemption)


def checkpoint_policy(arguments: argparse.Namespace) -> CheckpointPolicy:
    """Returns the policy of --save-seconds and --mtbf-hours."""
    return CheckpointPolicy(seconds=arguments.save_seconds, mtbf_hours=arguments.mtbf_hours)


def run_directory(arguments: argparse.Namespace) -> RunDirectory:
    """Returns --out, or a directory in `runs` named after the preset or file."""
    return RunDirectory(arguments.out or Path("runs") / Path(arguments.preset).stem)


def begin(
    wanted: RunConfig, directory: RunDirectory, arguments: argparse.Namespace, group: ProcessGroup
) -> StageContext:
    """Returns the run that the directory holds from now on.

    A directory that has a configuration keeps it, so that a run goes on with the steps once planned for --seconds.

    Raises: ValueError when the directory is another configuration's; OSError when it cannot be written.
    """
    stored = stored_config(directory) if directory.file("config.json").exists() else None
    settings = read_settings(directory)
    group.wait()  # all have read before one writes
    dataset = find_dataset(arguments.data or settings.data, wanted, group, preset=arguments.preset)
    config = wanted
    if stored is not None:
        config = same_run(stored, wanted, directory, settings.seconds, arguments.seconds)
    else:
        step_seconds = None
        if arguments.seconds is not None:
            config, step_seconds = plan_for_seconds(wanted, dataset, group, arguments.seconds)
        data = str(dataset.folder.resolve())
        settings = RunSettings(data=data, seconds=arguments.seconds, step_seconds=step_seconds)
        if group.first:
            write_json(directory.file("settings.json"), to_plain(settings))
            write_json(directory.file("config.json"), to_plain(config))
    group.wait()
    run = StageContext(config=config, dataset=dataset, directory=directory, group=group)
    if group.first:
        if settings.step_seconds is not None:
            print(f"{settings.seconds:g} s at {settings.step_seconds:.4f} s a step: fixed as the plan below")
        print(_start_line(run), flush=True)
    return run


def _start_line(run: StageContext) -> str:
    """Returns the line that a run begins with."""
    config, dataset, group = run.config, run.dataset, run.group
    warning = passes_warning(config, dataset)
    return (
        f"{config.schedule.steps} steps of {config.batch.tokens_per_step:,} tokens of {dataset.folder} "
        f"({passes_words(config, dataset)}) on {group.world_size} x {group.device.type}; Ctrl-C stops, the same "
        f"command continues{'' if warning is None else f'; {warning}'}"
    )


def same_run(
    stored: RunConfig, wanted: RunConfig, directory: RunDirectory, old_seconds: float | None, seconds: float | None
) -> RunConfig:
    """Returns the stored configuration if it is the wanted one (apart from steps planned for the same seconds)."""
    remedy = "give another --out, or delete the folder"
    if seconds is not None:
        if seconds != old_seconds:
            was = "without --seconds" if old_seconds is None else f"for {old_seconds:g} s"
            raise ValueError(f"{directory.path} holds a run planned {was}, now --seconds is {seconds:g}; {remedy}")
        fitted = replace(wanted.schedule, steps=stored.schedule.steps, warmdown_start=stored.schedule.warmdown_start)
        wanted = replace(wanted, schedule=fitted)
    if stored != wanted:
        differing = differences(stored, wanted)
        raise ValueError(f"{directory.path} holds the run of another configuration ({differing}); {remedy}")
    return stored


def pack_command(arguments: argparse.Namespace) -> None:
    """Packs only. Another split or codec becomes the directory's configuration."""
    directory = RunDirectory(arguments.folder)
    config = change_only(stored_config(directory), arguments, ("quant", "cap_bytes"))
    need_file(directory, WEIGHTS[AVERAGED], "train")
    with join() as group:
        stream = _calibration_stream(config, directory, arguments, group)
        if group.first:
            directory.file("pack.json").unlink(missing_ok=True)  # it describes the artifact that is replaced now
            write_json(directory.file("config.json"), to_plain(config))
            packed = pack_stage(config, directory, stream, group)
            print(size_line(with_code(packed, counted_code(config), config.cap_bytes)))
            print(f"the artifact is {directory.file('artifact.golf')}\nnext: python -m golf score {directory.path}")
        group.wait()


def _calibration_stream(
    config: RunConfig, directory: RunDirectory, arguments: argparse.Namespace, group: ProcessGroup
) -> TokenStream | None:
    """Returns the training tokens of a run's data where packing reads them, else None.

    Raises: ValueError when nothing says which data the run was trained on.
    """
    if not config.quant.calibrated:
        return None
    data = arguments.data or read_settings(directory).data
    if data is None:
        text = f'{directory.path} does not say what it was trained on, which "gptq" reads'
        raise ValueError(f"{text}: give --data FOLDER")
    return find_dataset(data, config, group).train


def fit_command(arguments: argparse.Namespace) -> None:
    """Writes the split that uses the cap best, as a configuration beside the run's own."""
    directory = RunDirectory(arguments.folder)
    config = stored_config(directory)
    need_file(directory, WEIGHTS[AVERAGED], "train")
    if arguments.cap is not None:
        config = replace(config, cap_bytes=arguments.cap)
    data = arguments.data or read_settings(directory).data
    if data is None:
        check_built_in(config, None)
    stream = training_tokens(Path(data or CORPUS_DATA), config.model.vocab_size)
    loss = training_loss(config, stream, arguments.tokens, ProcessGroup(device=pick_device()))
    fitted = fit(read_tensors(directory.file(WEIGHTS[AVERAGED])), config, loss, arguments.margin)
    path = arguments.out or directory.file("fitted.json")
    write_json(path, to_plain(replace(config, quant=fitted.quant)))
    print("\n".join(fit_lines(fitted, config, arguments.margin)))
    print(f"the split is in {path}\nnext: python -m golf pack {directory.path} --split {path}")
