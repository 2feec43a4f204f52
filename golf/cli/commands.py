"""What each command of `python -m golf` does.

A parsed command line enters; files, printed results and the next command to try leave. The work itself is in the
modules called here, the same ones that a sweep calls. A run's folder is the run of its `config.json`: no command
mixes another configuration into it. Never knows Ray or MLflow.
"""

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from golf.artifact.byte_breakdown import byte_ledger, group_ledger, ledger_lines
from golf.artifact.pack import read_artifact
from golf.cli.describe import config_facts, fact_lines, field_notes, note_lines, save_line
from golf.cli.options import assignment_of, assignments
from golf.cli.terminal import expanded, need_path, python_line
from golf.compliance.points import brief, check_to_plain
from golf.compliance.run import cheap_check
from golf.config.config import RunConfig, from_plain, override_all, to_plain
from golf.config.presets import DEMO_PRESETS, PRESETS, find_preset, with_grids, with_split
from golf.data.corpus import CORPUS_DATA, CORPUS_NAME, documents
from golf.data.dataset import Dataset, hash_file, open_dataset, read_manifest
from golf.data.fineweb import download_fineweb
from golf.data.passes import passes_warning, passes_words
from golf.data.shards import TokenStream
from golf.data.text import prepare_text, read_documents
from golf.pipeline.bit_allocation import fit, fit_lines, training_loss, training_tokens
from golf.pipeline.bundle import counted_code
from golf.pipeline.evaluation import measure
from golf.pipeline.identity import score_identity
from golf.pipeline.pack_stage import pack_stage, with_code
from golf.pipeline.run_directory import LooseArtifact, RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.stages import run_stages
from golf.pipeline.standalone import Progress, ladder_lines, preemption_signals, record_values, size_line
from golf.pipeline.step_budget import plan_for_seconds
from golf.pipeline.train_stage import train_stage
from golf.runtime.files import read_json, write_json
from golf.runtime.process_group import ProcessGroup, join, pick_device
from golf.runtime.results import AVERAGED, LIVE, QUANTISED, SLIDING, TTT, WEIGHTS, digest
from golf.runtime.tensors import read_tensors
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.hooks import Hooks
from golf.train.run_log import LOG_FILE, LogFile, head_lines


def show_info(arguments: argparse.Namespace) -> None:
    """What a preset or a file is, without running it."""
    facts = config_facts(arguments.preset, read_config(arguments))
    print(json.dumps(facts) if arguments.json else "\n".join(fact_lines(facts)))
    if not arguments.json:
        print(f"\nnext: python -m golf run {arguments.preset}")


def show_fields(arguments: argparse.Namespace) -> None:
    """Every field below the given name."""
    print("\n".join(note_lines(field_notes(find_preset(arguments.preset), arguments.prefix))))


def prepare_command(arguments: argparse.Namespace) -> None:
    """Tokenise text into a dataset folder."""
    if arguments.text:
        folder = arguments.out or Path("data/text")
        prepare_text(read_documents(arguments.text), folder, "text")
    else:
        folder = arguments.out or CORPUS_DATA
        prepare_text(documents(), folder, CORPUS_NAME)
    print(f"next: python -m golf run demo --data {folder}")


def fineweb_command(arguments: argparse.Namespace) -> None:
    """Download the competition's data."""
    download_fineweb(arguments.out, arguments.train_shards)
    print(f"the shards are in {arguments.out}\nnext: python -m golf run pr598 --data {arguments.out}")


def run_command(arguments: argparse.Namespace) -> None:
    """All stages."""
    wanted, folder = read_config(arguments), run_folder(arguments)
    with join() as group:
        config, dataset = begin(wanted, folder, arguments, group)
        run = StageContext(config=config, dataset=dataset, directory=folder, group=group)
        progress, code = Progress(not group.first), counted_code(config)
        log, policy = LogFile(folder.file(LOG_FILE), group, progress.line), checkpoint_policy(arguments)
        with preemption_signals(group.first) as preemption:
            hooks = Hooks(event=progress, log=log, checkpoint_policy=policy, preemption=preemption)
            results = run_stages(run, code, hooks)
        if group.first:
            check = cheap_check(config, dataset, folder, ProcessGroup(device=group.device), len(code))
            record = record_values(run, results) | {"check": check_to_plain(check)}
            record["pack"] |= {"ledger": group_ledger(folder.file("artifact.golf").read_bytes())}
            write_json(folder.file("record.json"), record)
            print(*ladder_lines(results), sep="\n")
            print(save_line(results.train.checkpoints))
            print(f"checks     {brief(check)} (all: python -m golf check {folder.path})")
            print(f"artifact, weights, {LOG_FILE} and results are in {folder.path} (all numbers: record.json)")
            print(f"next: python -m golf ttt {folder.path} --set ttt.lr=0.005")


def train_command(arguments: argparse.Namespace) -> None:
    """Training alone."""
    wanted, folder = read_config(arguments), run_folder(arguments)
    with join() as group:
        config, dataset = begin(wanted, folder, arguments, group)
        run = StageContext(config=config, dataset=dataset, directory=folder, group=group)
        progress = Progress(not group.first)
        log, policy = LogFile(folder.file(LOG_FILE), group, progress.line), checkpoint_policy(arguments)
        for line in head_lines(config, dataset):
            log(line)
        with preemption_signals(group.first) as preemption:
            hooks = Hooks(event=progress, log=log, checkpoint_policy=policy, preemption=preemption)
            trained = train_stage(run, hooks)
        if group.first:
            print(f"trained {trained.steps} steps in {trained.seconds:.1f} s; the weights are in {folder.path}")
            print(save_line(trained.checkpoints))
            print(f"next: python -m golf pack {folder.path}")


def checkpoint_policy(arguments: argparse.Namespace) -> CheckpointPolicy:
    """--save-seconds and --mtbf-hours."""
    return CheckpointPolicy(seconds=arguments.save_seconds, mtbf_hours=arguments.mtbf_hours)


def pack_command(arguments: argparse.Namespace) -> None:
    """Packing alone. Another split or codec becomes the folder's configuration."""
    folder = RunDirectory(arguments.folder)
    config = change_only(stored_config(folder), arguments, ("quant", "cap_bytes"))
    need_file(folder, WEIGHTS[AVERAGED], "train")
    with join() as group:
        stream = training_stream(config, folder, arguments, group)
        if group.first:
            folder.file("pack.json").unlink(missing_ok=True)  # it speaks of the artifact that is replaced now
            write_json(folder.file("config.json"), to_plain(config))
            packed = pack_stage(config, folder, stream, group)
            print(size_line(with_code(packed, counted_code(config), config.cap_bytes)))
            print(f"the artifact is {folder.file('artifact.golf')}\nnext: python -m golf score {folder.path}")
        group.wait()


def training_stream(
    config: RunConfig, folder: RunDirectory, arguments: argparse.Namespace, group: ProcessGroup
) -> TokenStream | None:
    """The training tokens of a run's data, where packing reads them.

    Raises: ValueError when nothing says which data the run was trained on.
    """
    if not config.quant.calibrated:
        return None
    data = arguments.data or settings_of(folder).get("data")
    if data is None:
        raise ValueError(f'{folder.path} does not say what it was trained on, which "gptq" reads: give --data FOLDER')
    return find_dataset(data, config, group).train


def bytes_command(arguments: argparse.Namespace) -> None:
    """The byte ledger of an artifact."""
    path = arguments.path / "artifact.golf" if arguments.path.is_dir() else arguments.path
    read_artifact(path)  # refuses, with the file's name, what is no model's artifact
    rows = byte_ledger(path.read_bytes())
    print(json.dumps(rows) if arguments.json else "\n".join(ledger_lines(rows)))


def fit_command(arguments: argparse.Namespace) -> None:
    """The split that uses the cap best, as a configuration beside the run's own."""
    folder = RunDirectory(arguments.folder)
    config = stored_config(folder)
    need_file(folder, WEIGHTS[AVERAGED], "train")
    if arguments.cap is not None:
        config = replace(config, cap_bytes=arguments.cap)
    data = arguments.data or settings_of(folder).get("data")
    if data is None:
        check_built_in(config, None)
    data = Path(data or CORPUS_DATA)
    stream = training_tokens(data, config.model.vocab_size)
    loss = training_loss(config, stream, arguments.tokens, ProcessGroup(device=pick_device()))
    fitted = fit(read_tensors(folder.file(WEIGHTS[AVERAGED])), config, loss, arguments.margin)
    path = arguments.out or folder.file("fitted.json")
    write_json(path, to_plain(replace(config, quant=fitted.quant)))
    print("\n".join(fit_lines(fitted, config, arguments.margin)))
    print(f"the split is in {path}\nnext: python -m golf pack {folder.path} --split {path}")


def score_command(arguments: argparse.Namespace) -> None:
    """The rungs below TTT."""
    from_file = arguments.artifact is not None
    if from_file and arguments.rung in WEIGHTS:
        raise ValueError(
            f"--rung {arguments.rung} is measured from float weights, which an artifact does not hold; "
            f"use --rung {QUANTISED} or --rung {SLIDING}"
        )
    every = (QUANTISED, SLIDING) if from_file else (LIVE, AVERAGED, QUANTISED, SLIDING)
    evaluate(arguments, every if arguments.rung == "all" else (arguments.rung,))


def ttt_command(arguments: argparse.Namespace) -> None:
    """The last rung."""
    evaluate(arguments, (TTT,))


def evaluate(arguments: argparse.Namespace, rungs: tuple[str, ...]) -> None:
    """Measure rungs of a finished run or of an artifact alone; each is kept until its inputs change."""
    folder, config = evaluated(arguments)
    for rung in rungs:
        need_file(folder, *((WEIGHTS[rung], "train") if rung in WEIGHTS else ("artifact.golf", "pack")))
    scored = RunDirectory(arguments.out or default_scored(folder))
    settings = settings_of(folder)
    with join() as group:
        dataset = find_dataset(arguments.data or settings.get("data"), config, group)
        run = StageContext(config=config, dataset=dataset, directory=folder, group=group)
        progress, policy = Progress(not group.first), checkpoint_policy(arguments)
        for rung in rungs:
            source = digest(hash_file(folder.file(WEIGHTS.get(rung, "artifact.golf"))), dataset.validation_digest)
            with preemption_signals(group.first) as preemption:
                hooks = Hooks(event=progress, checkpoint_policy=policy, preemption=preemption)
                result = measure(run, rung, hooks, output=scored, identity=score_identity(source, config, rung))
            if group.first:
                scores = f"{result.bpb:.6f} BPB  {result.nats_per_token:.6f} nats/token"
                print(f"{rung:10s} {result.seconds:9.1f} s  {scores}  {scored.file(rung + '.json')}", flush=True)
        if group.first:
            print(f"next: {python_line('golf', *next_evaluation(arguments, rungs))}")


def next_evaluation(arguments: argparse.Namespace, rungs: tuple[str, ...]) -> list[str]:
    """The words of a command that a reader of these rungs may want to try."""
    loose = ["--artifact", str(arguments.artifact), "--preset", str(arguments.preset)]
    given = loose if arguments.folder is None else [str(arguments.folder)]
    data = ["--data", str(arguments.data)] if arguments.data else []
    return ["ttt", *given, *data, *(["--set", "ttt.epochs=3"] if TTT in rungs else [])]


def default_scored(folder: RunDirectory) -> Path:
    """Where evaluations are kept: beside the run's own results, or under `runs` for an artifact alone."""
    loose = isinstance(folder, LooseArtifact)
    return Path("runs") / f"{folder.path.stem}-scored" if loose else folder.file("scored")


def evaluated(arguments: argparse.Namespace) -> tuple[RunDirectory, RunConfig]:
    """What is to be measured, and how: a run's folder, or an artifact with a preset's settings."""
    if (arguments.folder is None) == (arguments.artifact is None):
        raise ValueError("give either the FOLDER of a run or --artifact FILE")
    if arguments.artifact is None:
        folder = RunDirectory(arguments.folder)
        return folder, change_only(stored_config(folder), arguments, ("score", "ttt"))
    if arguments.preset is None:
        raise ValueError("--artifact holds a model but not how to score it: give --preset, e.g. --preset demo")
    if not arguments.artifact.is_file():
        raise FileNotFoundError(f"there is no artifact {arguments.artifact}; make one with `python -m golf run demo`")
    config = replace(find_preset(arguments.preset), model=read_artifact(arguments.artifact)[0])
    return LooseArtifact(arguments.artifact), change_only(config, arguments, ("score", "ttt"))


def need_file(folder: RunDirectory, name: str, command: str) -> None:
    """Raise FileNotFoundError naming the command that makes the missing file."""
    if not folder.file(name).exists():
        path, config = str(folder.path), str(folder.file("config.json"))
        line = shlex.join([command, path] if command == "pack" else [command, config, "--out", path])
        raise FileNotFoundError(f"{folder.file(name)} is missing; make it with `python -m golf {line}`")


def stored_config(folder: RunDirectory) -> RunConfig:
    """The configuration of a run's folder."""
    need_path(folder.path)
    if not folder.file("config.json").is_file():
        raise FileNotFoundError(
            f"{folder.path} is not the folder of a run (no config.json); make one with `python -m golf run demo`"
        )
    return config_from(folder.file("config.json"))


def config_from(path: Path) -> RunConfig:
    """The configuration in a JSON file; fields that it leaves out have the defaults."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration file {path}; a run's folder holds one (config.json)")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold an object of fields (see `python -m golf fields`), got {str(values)[:40]}")
    try:
        return from_plain(RunConfig, values)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:1000]}") from error  # which quotes the file


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The preset or file named on the command line, with its --split and --set applied."""
    name = arguments.preset
    return changed(config_from(expanded(name)) if names_file(name) else find_preset(name), arguments)


def names_file(word: str) -> bool:
    """Whether a word stands for a configuration file, whatever presets there are, and not for a preset."""
    return word.endswith(".json") or "/" in word or (word not in PRESETS and expanded(word).is_file())


def changed(config: RunConfig, arguments: argparse.Namespace) -> RunConfig:
    """`config` with --split (a name, or a configuration file whose grids are taken) and --set applied."""
    split = getattr(arguments, "split", None)
    if split:
        grids = config_from(expanded(split)).quant if split.endswith(".json") else None
        config = with_split(config, split) if grids is None else with_grids(config, grids)
    return override_all(config, assignments(arguments.set))


def change_only(config: RunConfig, arguments: argparse.Namespace, parts: tuple[str, ...]) -> RunConfig:
    """`changed`, where --set may only name fields of `parts`: the rest was decided in training."""
    for text in arguments.set:
        if assignment_of(text)[0].split(".")[0] not in parts:
            raise ValueError(f"--set {text}: this command changes only {' and '.join(parts)}; use `run` for the rest")
    return changed(config, arguments)


def run_folder(arguments: argparse.Namespace) -> RunDirectory:
    """--out, or one under `runs` named after the preset or file."""
    return RunDirectory(arguments.out or Path("runs") / Path(arguments.preset).stem)


def begin(
    wanted: RunConfig, folder: RunDirectory, arguments: argparse.Namespace, group: ProcessGroup
) -> tuple[RunConfig, Dataset]:
    """The configuration that the folder is the run of from now on, and its dataset.

    A folder that has a configuration keeps it, so that a run goes on with the steps once planned for --seconds.
    Raises: ValueError when the folder is another configuration's; OSError when it cannot be written.
    """
    found, settings = (stored_config(folder) if folder.file("config.json").exists() else None), settings_of(folder)
    group.wait()  # all have read before one writes
    dataset = find_dataset(arguments.data or settings.get("data"), wanted, group, preset=arguments.preset)
    config = wanted
    if found is not None:
        config = same_run(found, wanted, folder, settings.get("seconds"), arguments.seconds)
    else:
        settings = {"data": str(dataset.folder.resolve()), "seconds": arguments.seconds}
        if arguments.seconds is not None:
            config, settings["step_seconds"] = plan_for_seconds(wanted, dataset, group, arguments.seconds)
        if group.first:
            write_json(folder.file("settings.json"), settings)
            write_json(folder.file("config.json"), to_plain(config))
    group.wait()
    if group.first:
        if "step_seconds" in settings:
            print(f"{settings['seconds']:g} s at {settings['step_seconds']:.4f} s a step: fixed as the plan below")
        warning = passes_warning(config, dataset)
        print(
            f"{config.schedule.steps} steps of {config.batch.tokens_per_step:,} tokens of {dataset.folder} "
            f"({passes_words(config, dataset)}) on {group.world_size} x {group.device.type}; Ctrl-C stops, the same "
            f"command continues{'' if warning is None else f'; {warning}'}",
            flush=True,
        )
    return config, dataset


def settings_of(folder: RunDirectory) -> dict[str, Any]:
    """How a run was started: "data" (folder), "seconds" (budget), "step_seconds"; {} where that is not known."""
    path = folder.file("settings.json")
    settings = read_json(path) if path.is_file() else {}
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold an object, got {str(settings)[:40]}; delete it and name --data")
    return settings


def same_run(
    found: RunConfig, wanted: RunConfig, folder: RunDirectory, old_seconds: float | None, seconds: float | None
) -> RunConfig:
    """The folder's configuration if it is the wanted one (apart from steps planned for the same seconds)."""
    remedy = "give another --out, or delete the folder"
    if seconds is not None:
        if seconds != old_seconds:
            was = "without --seconds" if old_seconds is None else f"for {old_seconds:g} s"
            raise ValueError(f"{folder.path} holds a run planned {was}, now --seconds is {seconds:g}; {remedy}")
        fitted = replace(wanted.schedule, steps=found.schedule.steps, warmdown_start=found.schedule.warmdown_start)
        wanted = replace(wanted, schedule=fitted)
    if found != wanted:
        differing = "; ".join(differences(to_plain(found), to_plain(wanted))[:3])
        raise ValueError(f"{folder.path} holds the run of another configuration ({differing}); {remedy}")
    return found


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """ "field is A there, B here" for every field that differs."""
    found = []
    for name, value in old.items():
        if isinstance(value, dict) and isinstance(new[name], dict):
            found += differences(value, new[name], f"{path}{name}.")
        elif value != new[name]:
            found.append(f"{path}{name} is {value!r} there, {new[name]!r} here")
    return found


def check_built_in(config: RunConfig, preset: str | None) -> None:
    """Raise ValueError where the built-in text is no data for a configuration: for a model that it is too small for.

    Args: preset: what the configuration was called on the command line, a preset or a file; None: not known.
    """
    of_demo = preset in DEMO_PRESETS or any(config.model == PRESETS[name].model for name in DEMO_PRESETS)
    if not of_demo:
        raise ValueError(
            f"{preset or 'this model'} needs --data FOLDER: the built-in text is for {', '.join(DEMO_PRESETS)} alone; "
            "the competition's data: `python -m golf data fineweb`, then --data data/fineweb; text of your own: "
            "`python -m golf data prepare --text PATH`, then --data data/text"
        )


def find_dataset(
    folder: Path | str | None,
    config: RunConfig,
    group: ProcessGroup,
    accept_fault: bool = False,
    preset: str | None = None,
) -> Dataset:
    """The dataset in `folder`; without one the built-in corpus, prepared first where it is missing.

    Args: accept_fault: as for `open_dataset`; preset: as for `check_built_in`.
    """
    if folder is None:
        check_built_in(config, preset)
        if group.first and not (CORPUS_DATA.is_dir() and read_manifest(CORPUS_DATA).get("complete")):
            prepare_text(documents(), CORPUS_DATA, CORPUS_NAME)
        group.wait()
    return open_dataset(Path(folder or CORPUS_DATA), config.model.vocab_size, accept_fault=accept_fault)
