"""The stages of a run: train, pack, score, adapt. What each reads, what it writes, and its function.

A configuration, a dataset and a folder enter; files and results stand in the folder afterwards. A stage whose
result is there for exactly these inputs is not run again; an interrupted training goes on from its last state.
The quantised rungs are measured from the artifact read back from the disk, never from memory.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from golf.artifact.pack import pack, read_artifact
from golf.config import RunConfig, to_plain
from golf.data.batches import read_batch
from golf.data.dataset import Dataset
from golf.dist import Group, device_name
from golf.files import read_json, write_bytes, write_json
from golf.model.gepa import GEPA, build_model
from golf.plan import make_plan, rows_digest
from golf.record import ADAPTED, AVERAGED, LADDER, LIVE, SCREEN, SLIDING, Rung, digest, read_result, write_result
from golf.score.adapt import Adapted, adapt
from golf.score.sliding import ChunkScore, Scored, Stream, score
from golf.train.loop import Preempted, Step, train
from golf.train.state import TrainState, read_tensors, save_tensors

Event = Callable[[str, int, float], None]
"""(curve, step or chunk, value): called on every rank while a stage runs."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    def file(self, name: str) -> Path:
        """A file of the run: "state.pt", "live.pt", "average.pt", "curves.json", "artifact.golf", "<stage>.json"."""
        return self.path / name


def activation_dtype(group: Group) -> torch.dtype:
    """bfloat16 on GPUs, float32 on CPUs."""
    return torch.bfloat16 if group.device.type == "cuda" else torch.float32


def training_identity(config: RunConfig, dataset: Dataset, step: int) -> dict[str, Any]:
    """What the training state after `step` steps is the state of: only the plan's rows that were consumed count."""
    plain = to_plain(config)
    rows = rows_digest(make_plan(config.schedule)[:step])
    return {"data": dataset.digest, "rows": rows} | {
        part: plain[part] for part in ("model", "batch", "optimizer", "seed")
    }


def train_stage(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: Group,
    event: Event,
    save_seconds: float = 60.0,
    start: Path | None = None,
    keep: Mapping[int, Path] = MappingProxyType({}),
    notice=lambda: False,
) -> dict[str, Any]:
    """Train to the last step and write the live and the averaged weights.

    Args: save_seconds: between states for a crash; start: folder of a state to go on from, which any run with the same
        first rows may have kept; keep: steps -> folders that get the state after so many steps.
    Returns: {"seconds", "steps", "tokens", "device"}; the seconds of the state it went on from are part of it.
    Raises: Diverged; ValueError without training shards.
    """
    steps = config.schedule.steps
    identity = digest(training_identity(config, dataset, steps), config.validate_every)
    found = read_result(folder.file("train.json"), identity)
    if found is not None:
        return found
    stream = dataset.train
    if stream is None:
        raise ValueError(f"{dataset.folder} has no training shards (*_train_*.bin); it can only be scored")
    state = TrainState(build_model(config.model, config.seed, activation_dtype(group)), config.optimizer, group)
    log = TrainingLog(state, partial(training_identity, config, dataset), folder, group, event, save_seconds, start)

    def after_step(step: Step) -> None:
        log.note("train_loss", step.step, step.loss_nats)
        every, last = config.validate_every, state.step == steps
        if every is not None and state.step % every == 0 and not last:
            scored = score(state.model, validation_stream(dataset), config.score, group, plain=True)
            log.note("validation_bpb", state.step, scored.bpb)
        if state.step in keep:
            log.save(keep[state.step])
        told = torch.tensor(float(notice()))
        group.sum(told)
        if told > 0:
            log.save(folder.path)
            group.wait()
            raise Preempted(f"saved at step {state.step}")
        if not last:
            log.after_step()

    def batches(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        return read_batch(stream, config.batch, step, micro_batch, group.rank, group.world_size)

    forward = compiled(state.model, config, group)
    train(state, make_plan(config.schedule), batches, config.optimizer.gradient_clip, group, after_step, forward)
    if group.first:
        save_tensors(folder.file("live.pt"), state.live_weights())
        save_tensors(folder.file("average.pt"), state.averaged_weights())
        write_json(folder.file("curves.json"), log.curves)
    group.wait()
    result = {
        "seconds": log.seconds,
        "steps": steps,
        "tokens": steps * config.batch.tokens_per_step,
        "device": f"{group.world_size} x {device_name(group.device)}",
    }
    if group.first:
        write_result(folder.file("train.json"), identity, result)
        folder.file("state.pt").unlink(missing_ok=True)
    return result


class TrainingLog:
    """A training's curves, time and saved states on their way to the run's folder."""

    def __init__(
        self,
        state: TrainState,
        identity_at: Callable[[int], dict[str, Any]],
        folder: RunFolder,
        group: Group,
        event: Event,
        save_seconds: float,
        start: Path | None = None,
    ) -> None:
        """Go on from the state in the run's folder, else from the one in `start`, if there is one."""
        self.state, self.identity_at, self.folder, self.group, self.event = state, identity_at, folder, group, event
        self.save_seconds, self.interrupted = save_seconds, False
        self.curves: dict[str, list[list[float]]] = {"train_loss": [], "validation_bpb": []}
        self.before = 0.0
        begin = folder.path if folder.file("state.pt").exists() else start
        if begin is not None:
            state.load(begin / "state.pt", identity_at)
            stored = read_json(begin / "curves.json")
            self.before = stored.pop("seconds")[0][2]
            # A kill between the two files leaves the curves a little longer than the state.
            last = {"train_loss": state.step - 1, "validation_bpb": state.step}
            self.curves = {name: [p for p in points if p[0] <= last[name]] for name, points in stored.items()}
        self.started = self.saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.before + time.perf_counter() - self.started

    def note(self, curve: str, step: int, value: float) -> None:
        """Keep and tell a point. A KeyboardInterrupt is held back until the step is whole."""
        self.curves[curve].append([step, time.time(), value])
        try:
            self.event(curve, step, value)
        except KeyboardInterrupt:
            self.interrupted = True

    def after_step(self) -> None:
        """Save the state when it is time, or when the training was interrupted."""
        if self.interrupted or time.perf_counter() - self.saved > self.save_seconds:
            self.save(self.folder.path)
            self.saved = time.perf_counter()
        if self.interrupted:
            raise KeyboardInterrupt

    def save(self, place: Path) -> None:
        """Write the curves, then the state, into the folder `place`."""
        if self.group.first:
            spent = [self.state.step - 1, time.time(), self.seconds]
            write_json(place / "curves.json", self.curves | {"seconds": [spent]})
            self.state.save(place / "state.pt", self.identity_at(self.state.step))


def compiled(model: GEPA, config: RunConfig, group: Group) -> nn.Module:
    """The model compiled on GPUs, both with and without QAT, on synthetic tokens; the model itself on CPUs."""
    if group.device.type != "cuda":
        return model
    forward = cast(nn.Module, torch.compile(model, dynamic=False))
    length = config.batch.sequence_length
    rows = config.batch.slice_tokens // length
    tokens_BT = torch.arange(rows * length, device=group.device).view(rows, length) % config.model.vocab_size
    for qat in (False, True) if any(row.qat for row in make_plan(config.schedule)) else (False,):
        with torch.autocast("cuda", torch.bfloat16):
            forward(tokens_BT, tokens_BT, qat=qat).backward()
    return forward


def validation_stream(dataset: Dataset) -> Stream:
    """The validation tokens and the bytes of each target."""
    tokens = torch.from_numpy(dataset.validation.astype("int64"))
    return Stream(tokens, dataset.bytes.count(dataset.validation[:-1], dataset.validation[1:]))


def pack_stage(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Quantise the averaged weights and write the artifact.

    Returns: {"model_bytes", "ledger" (bytes per tensor group), "seconds"}.
    """
    started = time.perf_counter()
    packed = pack(read_tensors(folder.file("average.pt")), config.model, config.quant)
    write_bytes(folder.file("artifact.golf"), packed.data)
    return {"model_bytes": len(packed.data), "ledger": packed.ledger, "seconds": time.perf_counter() - started}


def with_code(packed: dict[str, Any], code_bytes: int, cap_bytes: int) -> dict[str, Any]:
    """A packed model's result with the counted code's bytes.

    Returns: `packed` and {"artifact_bytes", "code_bytes", "over_bytes" (above the cap, 0 if it fits), "fits"}.
    """
    artifact_bytes = packed["model_bytes"] + code_bytes
    over_bytes = max(0, artifact_bytes - cap_bytes)
    sizes = {"artifact_bytes": artifact_bytes, "code_bytes": code_bytes, "over_bytes": over_bytes}
    return packed | sizes | {"fits": over_bytes == 0}


def load_model(folder: RunFolder, rung: str, config: RunConfig, group: Group) -> GEPA:
    """The model of a rung: live or averaged weights, or the artifact read back from the disk."""
    if rung in (LIVE, AVERAGED):
        model = GEPA(config.model, activation_dtype(group))
        model.load_state_dict(read_tensors(folder.file("live.pt" if rung == LIVE else "average.pt")))
    else:
        shape, weights = read_artifact(folder.file("artifact.golf"))
        model = GEPA(shape, activation_dtype(group))
        model.load_state_dict(weights)
    return model.to(group.device)


def make_rung(name: str, scored: Scored, seconds: float) -> Rung:
    """A rung of the ladder from its scored chunks."""
    chunks = [(chunk.nll_nats, chunk.num_tokens, chunk.num_bytes) for chunk in scored.chunks]
    return Rung(name, scored.bpb, scored.nats_per_token, seconds, chunks)


def rung_identity(config: RunConfig, dataset: Dataset, rung: str) -> str:
    """What a rung's figures are the figures of."""
    step = config.schedule.steps
    weights = training_identity(config, dataset, step) if rung in (LIVE, AVERAGED) else pack_identity(config, dataset)
    return digest(weights, to_plain(config.score), to_plain(config.adapt) if rung == ADAPTED else None)


def begun(config: RunConfig, dataset: Dataset, folder: RunFolder, rung: str) -> tuple[list[ChunkScore], float]:
    """The first chunks of a rung and their seconds, where an earlier call measured only those; else none."""
    path = folder.file(f"{rung}{SCREEN}.json")
    if not path.exists():
        return [], 0.0
    chunks = [ChunkScore(*chunk) for chunk in read_json(path)["result"]["chunks"]]
    result = read_result(path, digest(rung_identity(config, dataset, rung), len(chunks)))
    return ([], 0.0) if result is None else (chunks, result["seconds"])


def score_stage(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: Group,
    event: Event,
    rung: str,
    first_chunks: int | None = None,
) -> dict[str, Any]:
    """Measure one rung below TTT: plain windows for "live", "ema" and "quantised", the stride for "sliding".

    Args: first_chunks: how much of the stream, None: all; what was measured of it before is not measured again.
    Returns: a Rung as plain values and "seconds_before", those of an earlier call, which "seconds" has in it.
    """
    started = time.perf_counter()
    model = load_model(folder, rung, config, group)
    start, before = begun(config, dataset, folder, rung) if first_chunks is None else ([], 0.0)

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        event(f"{rung}_bpb", number, Scored((chunk,)).bpb)

    stream, plain = validation_stream(dataset), rung != SLIDING
    scored = score(
        model,
        stream,
        config.score,
        group,
        plain=plain,
        start=start,
        stop_after=first_chunks,
        after_chunk=after_chunk,
    )
    return _rung_result(rung, scored, started, before)


def adapt_stage(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: Group,
    event: Event,
    first_chunks: int | None = None,
) -> dict[str, Any]:
    """Measure the last rung: sliding windows with score-first test-time training.

    Args and returns: as `score_stage`. After the first chunks weights and momentum are kept, to go on from.
    """
    if config.adapt is None:
        raise ValueError("RunConfig.adapt is None: this configuration has no test-time training")
    started = time.perf_counter()
    chunks, before = begun(config, dataset, folder, ADAPTED) if first_chunks is None else ([], 0.0)
    state = folder.file(f"{ADAPTED}{SCREEN}.pt")
    kept_state = read_tensors(state) if chunks else {}
    start = Adapted(Scored(tuple(chunks)), kept_state["weights"], kept_state["optimizer"]) if chunks else None
    running = list(chunks)

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        running.append(chunk)
        event("ttt_bpb", number, Scored(tuple(running)).bpb)

    adapted = adapt(
        load_model(folder, ADAPTED, config, group),
        validation_stream(dataset),
        config.score,
        config.adapt,
        group,
        start=start,
        stop_after=first_chunks,
        after_chunk=after_chunk,
    )
    if first_chunks is not None and group.first:
        save_tensors(state, {"weights": dict(adapted.weights), "optimizer": dict(adapted.optimizer)})
    return _rung_result(ADAPTED, adapted.scored, started, before)


def _rung_result(rung: str, scored: Scored, started: float, before: float) -> dict[str, Any]:
    result = asdict(make_rung(rung, scored, before + time.perf_counter() - started))
    return result | {"seconds_before": before}


def run_stages(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: Group,
    code_bytes: int,
    event: Event,
    stop_over_cap: bool = False,
) -> dict[str, Any]:
    """All stages in one process group, each result kept in the folder and used again if its inputs are the same.

    Args: stop_over_cap: pay for no evaluation when the artifact is over the cap.
    Returns: {"train": ..., "pack": ..., "ladder": [rung, ...]}.
    """
    trained = train_stage(config, dataset, folder, group, event)
    packed = pack_trained(config, dataset, folder, group, code_bytes)
    if stop_over_cap and not packed["fits"]:
        return {"train": trained, "pack": packed, "ladder": []}
    ladder = [measure(config, dataset, folder, group, event, rung) for rung in rungs_of(config)]
    return {"train": trained, "pack": packed, "ladder": ladder}


def rungs_of(config: RunConfig) -> tuple[str, ...]:
    """The rungs that a run of `config` has, from below."""
    return LADDER if config.adapt is not None else LADDER[:-1]


def measure(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    group: Group,
    event: Event,
    rung: str,
    first_chunks: int | None = None,
    notice=lambda: False,
) -> dict[str, Any]:
    """One rung of the ladder, kept in the folder; with `first_chunks` only so much of it, under a name of its own."""
    stage = adapt_stage if rung == ADAPTED else partial(score_stage, rung=rung)
    compute = partial(stage, config, dataset, folder, group, event, first_chunks=first_chunks)
    identity = rung_identity(config, dataset, rung)
    if first_chunks is None:
        return kept(folder, rung, identity, group, compute)
    return kept(folder, rung + SCREEN, digest(identity, first_chunks), group, compute)


def pack_identity(config: RunConfig, dataset: Dataset) -> str:
    """What an artifact is the artifact of."""
    return digest(training_identity(config, dataset, config.schedule.steps), to_plain(config.quant))


def pack_trained(
    config: RunConfig, dataset: Dataset, folder: RunFolder, group: Group, code_bytes: int
) -> dict[str, Any]:
    """`pack_stage`, kept in the folder, with the code's bytes; the first rank packs for all."""
    identity = pack_identity(config, dataset)
    packed = kept(folder, "pack", identity, group, lambda: pack_stage(config, folder), alone=True)
    return with_code(packed, code_bytes, config.cap_bytes)


def kept(
    folder: RunFolder,
    stage: str,
    identity: str,
    group: Group,
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
