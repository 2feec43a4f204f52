"""The shipped `train_gpt.py` as a program: the whole run, from nothing to its scores, without the project around it.

It computes what `golf.pipeline.stages` does, from the same functions, but keeps no state to continue from and reads no
earlier result: a folder that holds anything is refused. Options that are not on the command line come from the
environment, under the names that others' scripts use. The log, on the terminal and in logs/RUN_ID.txt, is that of
`golf.train.run_log`. The counted code is the file itself.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, save

from golf.artifact.calibration import calibrate
from golf.artifact.container import decode
from golf.artifact.pack import NO_HESSIANS, pack
from golf.config.config import RunConfig, from_plain, to_plain
from golf.config.schedule import make_plan
from golf.data.dataset import Dataset, open_dataset
from golf.evaluate.sliding import ChunkScore, score, validation_stream
from golf.evaluate.ttt import ChunkTrainer, score_and_train, trainable_parameters
from golf.model.compile import activation_dtype, compile_model
from golf.model.gepa import GEPA, build_model
from golf.runtime.process_group import ProcessGroup, device_name, join
from golf.runtime.results import AVERAGED, LADDER, LIVE, SLIDING, TTT, PackResult, RungResult, RunResults, TrainResult
from golf.train.loop import Step, train
from golf.train.microbatching import ready_to_train, training_passes
from golf.train.run_log import (
    LogFile,
    LogSink,
    end_lines,
    exact_line,
    has_log_line,
    head_lines,
    machine_lines,
    rung_line,
    size_lines,
    step_line,
    utc_now,
)
from golf.train.train_state import TrainState

Curves = dict[str, list[tuple[int, float, float]]]
"""Points (step, Unix seconds, value) by the name of the curve."""
Weights = Mapping[str, Tensor]

UNREAD = (
    *("MAX_WALLCLOCK_SECONDS", "ITERATIONS", "TRAIN_BATCH_TOKENS", "TRAIN_SEQ_LEN", "VOCAB_SIZE", "NUM_LAYERS"),
    *("MODEL_DIM", "VAL_LOSS_EVERY", "TRAIN_LOG_EVERY"),
)
"""Variables that other scripts read and that would change the result or the log here."""


def read_options(vocab_size: int, seed: int) -> argparse.Namespace:
    """Returns the command line; what it leaves out comes from the environment, as in others' scripts, or from ./data.

    Args:
        vocab_size: names the competition's folders.
        seed: the default.

    Raises: SystemExit naming the files that are missing.
    """
    env = os.environ
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Train, pack and score this record's model; torchrun for several GPUs."
    )
    parser.add_argument("--data", type=Path, help="folder of shards (DATA_PATH, ./data/datasets/fineweb10B_spN)")
    parser.add_argument("--tokenizer", type=Path, help="(TOKENIZER_PATH, in --data, ../../tokenizers beside it)")
    parser.add_argument("--out", type=Path, help="new folder of the run (out/RUN_ID)")
    parser.add_argument("--seed", type=int, default=env.get("SEED") or seed, help="(SEED, %(default)s)")
    parser.add_argument("--run-id", default=env.get("RUN_ID"), help="of logs/RUN_ID.txt (RUN_ID, seedN)")
    given = parser.parse_args()
    base = Path(env.get("DATA_DIR") or "data")
    data = given.data or Path(env.get("DATA_PATH") or base / f"datasets/fineweb10B_sp{vocab_size}")
    inside, path = any(data.glob("*.model")), env.get("TOKENIZER_PATH")
    if given.tokenizer is None and path and not (given.data and inside):
        given.tokenizer = Path(path)
    elif given.tokenizer is None and not inside:
        name = f"tokenizers/fineweb_{vocab_size}_bpe.model"
        places = [data.resolve().parent.parent / name, base / name]
        given.tokenizer = next(filter(Path.is_file, places), places[0])
    given.data, given.run_id = data, given.run_id or f"seed{given.seed}"
    given.out = given.out or Path("out") / given.run_id
    missing = [] if any(data.glob("*_val_*.bin")) else [f"no shards *_val_*.bin in {data}"]
    missing += [] if given.tokenizer is None or given.tokenizer.is_file() else [f"no tokenizer {given.tokenizer}"]
    if missing:
        time.sleep(3 * (env.get("RANK", "0") != "0"))  # torchrun ends the others when the first has said it
        raise SystemExit(f"error: {', '.join(missing)}: give --data and --tokenizer, or DATA_PATH and TOKENIZER_PATH")
    return given


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training."""

    result: TrainResult
    curves: Curves
    weights: dict[str, Weights]
    """Live and averaged weights, by their rungs."""


def train_model(config: RunConfig, dataset: Dataset, group: ProcessGroup, log: LogSink) -> Trained:
    """Trains to the last step, with the log and the validations on the way."""
    began, steps, lines = time.perf_counter(), config.schedule.steps, list[str]()
    curves: Curves = {"train_loss": [], "validation_bpb": []}
    model = build_model(config.model, config.seed, activation_dtype(group.device))
    state = TrainState(model, config.optimizer, group)

    def add(*added: str) -> None:
        for line in added:
            lines.append(line)
            log(line)

    def after_step(step: Step) -> None:
        done, every = step.step + 1, config.validate_every
        curves["train_loss"].append((step.step, time.time(), step.loss_nats))
        if has_log_line(done, steps):
            add(step_line(done, steps, time.perf_counter() - began, train_loss=step.loss_nats))
        if every is not None and done % every == 0 and done < steps:
            scored = score(forward, validation_stream(dataset, group), config.score, group, plain=True)
            curves["validation_bpb"].append((done, time.time(), scored.bpb))
            figures = {"val_loss": scored.nats_per_token, "val_bpb": scored.bpb}
            add(step_line(done, steps, time.perf_counter() - began, **figures))

    add(f"started: {utc_now()}", *machine_lines(group))
    forward = ready_to_train(model, config, group, say_what_fits=False)
    if dataset.train is None:
        raise SystemExit(f"error: no shards *_train_*.bin in {dataset.folder}")
    batches, passes = training_passes(config.batch, dataset.train, group)
    clip = config.optimizer.gradient_clip
    train(
        state,
        make_plan(config.schedule),
        batches,
        clip,
        group,
        after_step,
        forward,
        passes,
        say_what_fits=False,
    )
    seconds = time.perf_counter() - began
    add(*end_lines(steps, seconds, group))
    result = TrainResult(
        seconds=seconds,
        steps=steps,
        tokens=steps * config.batch.tokens_per_step,
        device=f"{group.world_size} x {device_name(group.device)}",
        log=tuple(lines),
    )
    return Trained(
        result=result, curves=curves, weights={LIVE: state.live_weights(), AVERAGED: state.averaged_weights()}
    )


def model_with(weights: Weights, config: RunConfig, group: ProcessGroup) -> GEPA:
    """Returns the model with the given weights."""
    model = GEPA(config.model, activation_dtype(group.device))
    model.load_state_dict(dict(weights))
    return model.to(group.device)


def pack_model(weights: Weights, config: RunConfig, dataset: Dataset, group: ProcessGroup, path: Path) -> PackResult:
    """Writes the artifact, on the first rank; returns its size together with that of the program."""
    began, code = time.perf_counter(), Path(sys.argv[0]).read_bytes()
    if group.first:
        inputs = NO_HESSIANS
        if config.quant.calibrated:
            assert dataset.train is not None
            inputs = calibrate(model_with(weights, config, group), dataset.train, config)
        path.write_bytes(pack(weights, config.model, config.quant, inputs))
    group.wait()
    return PackResult(
        model_bytes=path.stat().st_size,
        seconds=time.perf_counter() - began,
        code_bytes=len(code),
        code_sha256=hashlib.sha256(code).hexdigest(),
        cap_bytes=config.cap_bytes,
    )


def read_weights(path: Path, config: RunConfig) -> Weights:
    """Returns the weights of an artifact of this program."""
    return decode(path.read_bytes(), config.quant.codec, corrected=config.quant.correction is not None)[1]


def measure_rung(rung: str, weights: Weights, config: RunConfig, dataset: Dataset, group: ProcessGroup) -> RungResult:
    """Scores one rung of the ladder."""
    began, times = time.perf_counter(), list[float]()

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        times.append(time.time())

    model, stream = model_with(weights, config, group), validation_stream(dataset, group)
    forward = compile_model(model, config.compile, group.device)
    if config.ttt is not None and rung == TTT:
        trainer = ChunkTrainer(trainable_parameters(model, config.ttt.frozen_blocks), forward, config.ttt, group)
        scored = score_and_train(trainer, stream, config.score, config.ttt, group, after_chunk=after_chunk)
    else:
        scored = score(forward, stream, config.score, group, plain=rung != SLIDING, after_chunk=after_chunk)
    return RungResult(
        name=rung,
        bpb=scored.bpb,
        nats_per_token=scored.nats_per_token,
        seconds=time.perf_counter() - began,
        chunks=tuple((chunk.nll_nats, chunk.num_tokens, chunk.num_bytes) for chunk in scored.chunks),
        chunk_times=tuple(times),
    )


def run_all(config: RunConfig, dataset: Dataset, out: Path, group: ProcessGroup, log: LogSink) -> RunResults:
    """Trains, packs, and scores each rung, those of the artifact from its file."""
    for line in head_lines(config, dataset):
        log(line)
    trained, path = train_model(config, dataset, group, log), out / "artifact.golf"
    if group.first:
        save(trained.weights[AVERAGED], out / "average.pt")
        (out / "curves.json").write_text(json.dumps(trained.curves))
    packed = pack_model(trained.weights[AVERAGED], config, dataset, group, path)
    for line in size_lines(packed, config.quant):
        log(line)
    ladder: list[RungResult] = []
    for rung in LADDER if config.ttt is not None else LADDER[:-1]:
        weights = trained.weights[rung] if rung in trained.weights else read_weights(path, config)
        ladder.append(measure_rung(rung, weights, config, dataset, group))
        log(rung_line(ladder[-1]))
    for result in ladder:
        log(exact_line(result.name, result.nats_per_token, result.bpb))
    return RunResults(train=trained.result, pack=packed, ladder=tuple(ladder))


def main(settings: dict[str, Any]) -> None:
    """Trains, packs and scores the configuration that the shipped file holds as JSON values."""
    config = from_plain(RunConfig, settings)
    given = read_options(config.model.vocab_size, settings["seed"])
    config_of_seed = replace(config, seed=given.seed)
    with join() as group:
        if group.first:
            given.out.mkdir(parents=True, exist_ok=True)
            if any(given.out.iterdir()):
                raise SystemExit(f"error: {given.out} holds another run: give --out or --run-id")
        dataset = open_dataset(given.data, config.model.vocab_size, given.tokenizer)
        log = LogFile(Path("logs") / f"{given.run_id}.txt", group, partial(print, flush=True))
        unread = [f"{name}={os.environ[name]}" for name in UNREAD if name in os.environ]
        if unread:
            log(f"not read: {' '.join(unread)}; model and number of steps are fixed, so that the result is, too")
        results = run_all(config_of_seed, dataset, given.out, group, log)
        if group.first:
            values, pack = dataclasses.asdict(results), results.pack
            values["pack"] |= {"artifact_bytes": pack.artifact_bytes, "over_bytes": pack.over_bytes, "fits": pack.fits}
            values |= {"config": to_plain(config) | {"seed": given.seed}, "data": dataset.digest}
            (given.out / "record.json").write_text(json.dumps(values, indent=1))
