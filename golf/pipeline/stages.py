"""The stages of a run: train, pack, score, adapt. What each reads, what it writes, and its function.

A configuration, a dataset and a folder enter; files and results stand in the folder afterwards. A stage whose
result is there for exactly these inputs is not run again; an interrupted training goes on from its last state.
The quantised rungs are measured from the artifact read back from the disk, never from memory.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from golf.artifact.calibration import calibrate
from golf.artifact.pack import NO_HESSIANS, pack, read_artifact
from golf.artifact.quantizer import NotFinite
from golf.config.config import RunConfig, to_plain
from golf.config.schedule import make_plan, rows_digest
from golf.data.dataset import Dataset
from golf.data.shards import TokenStream
from golf.evaluate.chunk_checkpoint import RungLog
from golf.evaluate.sliding import ChunkScore, Scored, Stream, score
from golf.evaluate.ttt import TTTState, score_with_ttt
from golf.model.compile import activation_dtype, compile_model
from golf.model.gepa import GEPA, build_model
from golf.runtime.errors import Diverged
from golf.runtime.files import write_bytes, write_json
from golf.runtime.process_group import ProcessGroup, device_name
from golf.runtime.results import (
    AVERAGED,
    BEGUN,
    LADDER,
    LIVE,
    SCREEN,
    SLIDING,
    STATE,
    TENSORS,
    TTT,
    WEIGHTS,
    Rung,
    digest,
    read_result,
    write_result,
)
from golf.runtime.tensors import prefixed, read_tensors, unprefixed, write_tensors
from golf.train.checkpoint_policy import BY_COST, CheckpointPolicy
from golf.train.loop import PreemptionCheck, Step, never, train
from golf.train.microbatching import ready_to_train, training_passes
from golf.train.run_log import Say, end_lines, exact_line, head_lines, is_told, rung_line, size_lines, unsaid
from golf.train.train_log import CURVES_FILE, TrainingLog
from golf.train.train_state import TrainState

LOWER_TRAINING, LOWER_TTT = "lower the learning rates", "lower ttt.lr or ttt.epochs"
"""What to do about a loss that is not finite."""
Event = Callable[[str, int, float], None]
"""(curve, step or chunk, value): called on every rank while a stage runs."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    def file(self, name: str) -> Path:
        """A file of the run: STATE, WEIGHTS, "curves.json", "artifact.golf", "<stage>.json"."""
        return self.path / name


def training_identity(config: RunConfig, dataset: Dataset, step: int) -> dict[str, Any]:
    """What the training state after `step` steps is the state of: only the plan's rows that were consumed count."""
    plain = to_plain(config)
    rows = rows_digest(make_plan(config.schedule)[:step])
    return {"data": dataset.digest, "rows": rows} | {
        part: plain[part] for part in ("model", "batch", "optimizer", "seed", "compile")
    }


def train_stage(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: ProcessGroup,
    event: Event,
    saving: CheckpointPolicy = BY_COST,
    start: Path | None = None,
    keep: Mapping[int, Path] = MappingProxyType({}),
    preemption: PreemptionCheck = never,
    say: Say = unsaid,
) -> dict[str, Any]:
    """Train to the last step and write the live and the averaged weights.

    Args: saving: of states for a crash; start: folder of a state to go on from, which any run with the same
        first rows may have kept; keep: steps -> folders that get the state after so many steps; notice: asked on every
        rank at every step; once it is true on any, the state is saved and all raise Preempted; say: takes the lines of
        the log, all from the first on.
    Returns: {"seconds", "steps", "tokens", "device", "log"} and what saving cost; the seconds of the state it went on
        from are part of it.
    Raises: Diverged; Preempted; OutOfMemory; ValueError without training shards.
    """
    steps = config.schedule.steps
    identity = digest(training_identity(config, dataset, steps), config.validate_every)
    found = read_result(folder.file("train.json"), identity)
    if found is not None:
        for line in found.get("log", ()):
            say(line)
        return found
    stream = dataset.train
    if stream is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); it can only be scored")
    state = TrainState(build_model(config.model, config.seed, activation_dtype(group.device)), config.optimizer, group)
    identity_at = partial(training_identity, config, dataset)
    log = TrainingLog(state, identity_at, folder.path, group, event, saving, start, steps, say)
    forward = ready_to_train(state.model, config, group)

    def finish_step(resumed: bool = False) -> None:
        """What is done with a state, also with one that was saved on a notice before this was done."""
        every = config.validate_every
        due = every is not None and state.step % every == 0 and 0 < state.step < steps
        if due and not log.has("validation_bpb", state.step):
            stream, on_chunk_boundary = (
                validation_stream(dataset, group),
                lambda: log.stop_when(group.any(preemption())),
            )
            with naming(f"step {state.step}, validation", LOWER_TRAINING):
                scored = score(forward, stream, config.score, group, plain=True, on_chunk_boundary=on_chunk_boundary)
            log.note("validation_bpb", state.step, scored.bpb)
            log.tell_step(state.step, val_loss=scored.nats_per_token, val_bpb=scored.bpb)
        if state.step in keep and not (resumed and (keep[state.step] / STATE).exists()):
            log.save(keep[state.step])

    def after_step(step: Step) -> None:
        log.note("train_loss", step.step, step.loss_nats)
        if is_told(step.step + 1, steps):
            log.tell_step(step.step + 1, train_loss=step.loss_nats)
        log.stop_when(step.preempted and state.step < steps)
        finish_step()
        if state.step < steps:
            log.save_when_due()

    finish_step(resumed=True)
    plan, clip = make_plan(config.schedule), config.optimizer.gradient_clip
    batches, passes = training_passes(config.batch, stream, group)
    train(state, plan, batches, clip, group, after_step, forward, passes, preemption=preemption)
    if group.first:
        write_tensors(folder.file(WEIGHTS[LIVE]), state.live_weights())
        write_tensors(folder.file(WEIGHTS[AVERAGED]), state.averaged_weights())
        write_json(folder.file(CURVES_FILE), log.curves)
    group.wait()
    seconds = log.seconds
    log.tell(*end_lines(steps, seconds, group))
    result = {
        "seconds": seconds,
        "steps": steps,
        "tokens": steps * config.batch.tokens_per_step,
        "device": f"{group.world_size} x {device_name(group.device)}",
        "log": log.lines,
        **log.saves.facts(),
    }
    if group.first:
        write_result(folder.file("train.json"), identity, result)
        folder.file(STATE).unlink(missing_ok=True)
    return result


@contextlib.contextmanager
def naming(where: str, remedy: str) -> Iterator[None]:
    """Say of a divergence inside where it was, and what to do."""
    try:
        yield
    except Diverged as error:
        raise Diverged(f"{where}, {error}; {remedy}") from error


def validation_stream(dataset: Dataset, group: ProcessGroup) -> Stream:
    """The validation tokens, on the group's device, and the bytes of each target."""
    tokens = torch.from_numpy(dataset.validation.astype("int64")).to(group.device)
    return Stream(tokens, dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]))


def pack_stage(config: RunConfig, folder: RunFolder, stream: TokenStream | None, group: ProcessGroup) -> dict[str, Any]:
    """Quantise the averaged weights and write the artifact.

    Args: stream: of the training shards, which only GPTQ reads, with the model on the group's device.
    Returns: {"model_bytes", "seconds"}.
    Raises: ValueError when GPTQ has no training shards; Diverged naming a tensor that cannot be packed.
    """
    started, hessians = time.perf_counter(), NO_HESSIANS
    if config.quant.calibrated:
        if stream is None:
            raise ValueError('the method "gptq" is calibrated on training shards (*_train_*.bin), and there are none')
        hessians = calibrate(load_model(folder, AVERAGED, config, group), stream, config)
    try:
        packed = pack(read_tensors(folder.file(WEIGHTS[AVERAGED])), config.model, config.quant, hessians)
    except NotFinite as error:
        raise Diverged(f"pack, {error}; {LOWER_TRAINING}") from error
    write_bytes(folder.file("artifact.golf"), packed.data)
    return {"model_bytes": len(packed.data), "seconds": time.perf_counter() - started}


def with_code(packed: dict[str, Any], code: bytes, cap_bytes: int) -> dict[str, Any]:
    """A packed model's result with the counted code.

    Returns: `packed` and {"artifact_bytes", "code_bytes", "code_sha256", "over_bytes" (above the cap, 0 if it fits),
        "fits"}.
    """
    artifact_bytes = packed["model_bytes"] + len(code)
    over_bytes = max(0, artifact_bytes - cap_bytes)
    counted = {"code_bytes": len(code), "code_sha256": hashlib.sha256(code).hexdigest()}
    return packed | {"artifact_bytes": artifact_bytes, **counted, "over_bytes": over_bytes, "fits": over_bytes == 0}


def load_model(folder: RunFolder, rung: str, config: RunConfig, group: ProcessGroup) -> GEPA:
    """The model of a rung: live or averaged weights, or the artifact read back from the disk.

    Raises: ValueError naming the file when it is damaged or of another model.
    """
    if rung in WEIGHTS:
        file, shape = folder.file(WEIGHTS[rung]), config.model
        weights = read_tensors(file)
    else:
        file = folder.file("artifact.golf")
        shape, weights = read_artifact(file)
    model = GEPA(shape, activation_dtype(group.device))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} holds the weights of another model: {error}") from error
    return model.to(group.device)


def rung_identity(config: RunConfig, dataset: Dataset, rung: str) -> str:
    """What a rung's figures are the figures of."""
    step = config.schedule.steps
    weights = training_identity(config, dataset, step) if rung in WEIGHTS else pack_identity(config, dataset)
    ttt = to_plain(config.ttt) if rung == TTT else None
    return digest(weights, to_plain(config.score), ttt, config.compile)


def score_stage(
    config: RunConfig, dataset: Dataset, folder: RunFolder, group: ProcessGroup, event: Event, log: RungLog
) -> dict[str, Any]:
    """Measure one rung below TTT: plain windows for "live", "ema" and "quantised", the stride for "sliding".

    Args: log: of the rung; what it holds is not measured again.
    Returns: a Rung as plain values and what `log.end` tells.
    """

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        log.note(chunk)
        if chunk.num_bytes:  # of control tokens alone there is no score
            event(f"{log.rung}_bpb", number, Scored((chunk,)).bpb)

    scored = score(
        compile_model(load_model(folder, log.rung, config, group), config.compile, group.device),
        validation_stream(dataset, group),
        config.score,
        group,
        plain=log.rung != SLIDING,
        start=log.chunks,
        stop_after=log.first_chunks,
        after_chunk=after_chunk,
        on_chunk_boundary=lambda: log.on_chunk_boundary(dict),
    )
    return rung_result(log, scored, dict)


def ttt_stage(
    config: RunConfig, dataset: Dataset, folder: RunFolder, group: ProcessGroup, event: Event, log: RungLog
) -> dict[str, Any]:
    """Measure the last rung: sliding windows with score-first test-time training.

    Args and returns: as `score_stage`.
    """
    if config.ttt is None:
        raise ValueError("RunConfig.ttt is None: this configuration has no test-time training")
    weights, momentum = (unprefixed(log.tensors, part) for part in ("weights", "optimizer"))
    start = TTTState(Scored(tuple(log.chunks)), weights, momentum) if log.chunks else None

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        log.note(chunk)
        if any(chunk.num_bytes for chunk in log.chunks):
            event("ttt_bpb", number, Scored(tuple(log.chunks)).bpb)

    def to_go_on(state: Callable[[], TTTState]) -> dict[str, Tensor]:
        reached = state()
        return prefixed("weights", reached.weights) | prefixed("optimizer", reached.optimizer)

    model = load_model(folder, TTT, config, group)
    adapted = score_with_ttt(
        model,
        validation_stream(dataset, group),
        config.score,
        config.ttt,
        group,
        forward=compile_model(model, config.compile, group.device),
        start=start,
        stop_after=log.first_chunks,
        after_chunk=after_chunk,
        on_chunk_boundary=lambda state: log.on_chunk_boundary(partial(to_go_on, state)),
    )
    return rung_result(log, adapted.scored, lambda: to_go_on(lambda: adapted))


def rung_result(log: RungLog, scored: Scored, tensors: Callable[[], dict[str, Tensor]]) -> dict[str, Any]:
    """A rung of the ladder from its scored chunks, as plain values, and what `log.end` tells."""
    told = log.end(tensors)
    chunks = [(chunk.nll_nats, chunk.num_tokens, chunk.num_bytes) for chunk in scored.chunks]
    return asdict(Rung(log.rung, scored.bpb, scored.nats_per_token, told["seconds"], chunks)) | told


def run_stages(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: ProcessGroup,
    code: bytes,
    event: Event,
    stop_over_cap: bool = False,
    saving: CheckpointPolicy = BY_COST,
    preemption: PreemptionCheck = never,
    say: Say = unsaid,
) -> dict[str, Any]:
    """All stages in one process group, each result kept in the folder and used again if its inputs are the same.

    Args: code: as it is counted; stop_over_cap: pay for no evaluation when the artifact is over the cap; saving,
        notice: see `train_stage`; say: takes the lines of the log, also those of what is kept.
    Returns: {"train": ..., "pack": ..., "ladder": [rung, ...]}.
    """
    for line in head_lines(config, dataset):
        say(line)
    trained = train_stage(config, dataset, folder, group, event, saving, preemption=preemption, say=say)
    packed = pack_trained(config, dataset, folder, group, code)
    for line in size_lines(packed, config.quant):
        say(line)
    if stop_over_cap and not packed["fits"]:
        return {"train": trained, "pack": packed, "ladder": []}
    one = partial(measure, config, dataset, folder, group, event, saving=saving, preemption=preemption)
    ladder = []
    for name in rungs_of(config):
        ladder.append(one(name))
        say(rung_line(ladder[-1]))
    for rung in ladder:
        say(exact_line(rung["name"], rung["nats_per_token"], rung["bpb"]))
    return {"train": trained, "pack": packed, "ladder": ladder}


def rungs_of(config: RunConfig) -> tuple[str, ...]:
    """The rungs that a run of `config` has, from below."""
    return LADDER if config.ttt is not None else LADDER[:-1]


def measure(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: ProcessGroup,
    event: Event,
    rung: str,
    first_chunks: int | None = None,
    saving: CheckpointPolicy = BY_COST,
    preemption: PreemptionCheck = never,
    place: RunFolder | None = None,
    identity: str | None = None,
) -> dict[str, Any]:
    """One rung of the ladder, kept in the folder; with `first_chunks` only so much of it, under a name of its own.

    Args: saving: of what was scored so far; notice: asked on every rank after every chunk; place: where it is kept;
        identity: what it is kept as the rung of. Both are the run's own by default.
    Raises: Preempted on all ranks, with what was scored saved, once the notice is true on any; Diverged naming the
        rung and the chunk whose loss is not finite.
    """
    stage = ttt_stage if rung == TTT else score_stage
    where, mark = place or folder, identity or rung_identity(config, dataset, rung)

    def compute() -> dict[str, Any]:
        log = RungLog(where.path, rung, mark, group, saving, preemption, first_chunks)
        with naming(rung, LOWER_TTT if rung == TTT else LOWER_TRAINING):
            return stage(config, dataset, folder, group, event, log)

    if first_chunks is not None:
        return kept(where, rung + SCREEN, digest(mark, first_chunks), group, compute)
    result = kept(where, rung, mark, group, compute)
    if group.first:
        where.file(rung + BEGUN + TENSORS).unlink(missing_ok=True)
    return result


def pack_identity(config: RunConfig, dataset: Dataset) -> str:
    """What an artifact is the artifact of."""
    return digest(training_identity(config, dataset, config.schedule.steps), to_plain(config.quant))


def pack_trained(
    config: RunConfig, dataset: Dataset, folder: RunFolder, group: ProcessGroup, code: bytes
) -> dict[str, Any]:
    """`pack_stage`, kept in the folder, with the counted code; the first rank packs for all."""
    identity = pack_identity(config, dataset)
    packed = kept(folder, "pack", identity, group, lambda: pack_stage(config, folder, dataset.train, group), alone=True)
    return with_code(packed, code, config.cap_bytes)


def kept(
    folder: RunFolder,
    stage: str,
    identity: str,
    group: ProcessGroup,
    compute: Callable[[], dict[str, Any]],
    alone: bool = False,
) -> dict[str, Any]:
    """The stage's result from the folder, or computed and kept there.

    Args: alone: whether rank 0 computes it for all, instead of all together.
    """
    path = folder.file(f"{stage}.json")
    group.wait()
    found = read_result(path, identity)
    group.wait()
    if found is not None:
        return found
    if group.first:
        result = write_result(path, identity, compute())
    elif not alone:
        compute()
    group.wait()
    return result if group.first else read_result(path, identity) or {}
