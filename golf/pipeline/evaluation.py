"""The last stages of a run: the scores of each rung of the ladder.

The quantised rungs are measured from the artifact read back from the disk, never from memory.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from golf.config.config import RunConfig
from golf.evaluate.chunk_checkpoint import ChunkCheckpoint, screen_name
from golf.evaluate.sliding import ChunkScore, Scored, score, validation_stream
from golf.evaluate.ttt import TTTState, score_with_ttt
from golf.model.compile import compile_model
from golf.pipeline.identity import rung_identity
from golf.pipeline.run_directory import RunDirectory, compute_once, load_model
from golf.pipeline.stage_context import LOWER_TRAINING, LOWER_TTT, StageContext, explain_divergence
from golf.runtime.eager_optimizers import use_eager_optimizers
from golf.runtime.results import BEGUN, LADDER, SLIDING, TENSORS, TTT, RungResult, digest
from golf.runtime.tensors import prefixed, unprefixed
from golf.train.hooks import NO_HOOKS, Event, Hooks


def rungs_of(config: RunConfig) -> tuple[str, ...]:
    """Returns the rungs that a run of `config` has, from the live weights up."""
    return LADDER if config.ttt is not None else LADDER[:-1]


def measure(
    run: StageContext,
    rung: str,
    hooks: Hooks = NO_HOOKS,
    *,
    first_chunks: int | None = None,
    output: RunDirectory | None = None,
    identity: str | None = None,
) -> RungResult:
    """Scores one rung of the ladder unless its result is there.

    Args:
        run: the run, whose weights or artifact are in its directory.
        rung: one of LADDER.
        hooks: its caller's.
        first_chunks: how much of the validation stream is scored, with a result of its own; None: all of it.
        output: directory of the result; None: the run's own.
        identity: digest of what the result is computed from; None: that of the run.

    Raises: Preempted on all ranks, with what was scored saved; Diverged naming the rung and the chunk whose loss is
        not finite.
    """
    directory = output or run.directory
    identity = identity or rung_identity(run.config, run.dataset, rung)
    stage = ttt_stage if rung == TTT else score_stage

    def compute() -> RungResult:
        checkpoint = ChunkCheckpoint(directory.path, rung, identity, run.group, hooks, first_chunks)
        with explain_divergence(rung, LOWER_TTT if rung == TTT else LOWER_TRAINING):
            return stage(run, checkpoint, hooks.event)

    name, key = rung, identity
    if first_chunks is not None:
        name, key = screen_name(rung, first_chunks), digest(identity, first_chunks)
    result = compute_once(directory.file(f"{name}.json"), RungResult, key, run.group, compute, first_rank_only=False)
    if first_chunks is None and run.group.first:
        directory.file(rung + BEGUN + TENSORS).unlink(missing_ok=True)
    return result


def score_stage(run: StageContext, checkpoint: ChunkCheckpoint, event: Event) -> RungResult:
    """Scores a rung below TTT: plain windows for "live", "ema" and "quantised", the stride for "sliding".

    Args:
        run: the run.
        checkpoint: of the rung; what it holds is not scored again.
        event: receives each chunk's BPB.
    """
    config, group, rung = run.config, run.group, checkpoint.rung

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        checkpoint.add(chunk)
        if chunk.num_bytes:  # a chunk of control tokens alone has no score
            event(f"{rung}_bpb", number, Scored((chunk,)).bpb)

    scored = score(
        compile_model(load_model(run.directory, rung, config, group), config.compile, group.device),
        validation_stream(run.dataset, group),
        config.score,
        group,
        plain=rung != SLIDING,
        start=checkpoint.chunks,
        stop_after=checkpoint.first_chunks,
        after_chunk=after_chunk,
        on_chunk_boundary=lambda: checkpoint.on_chunk_boundary(dict),
    )
    return rung_result(checkpoint, scored, dict)


def ttt_stage(run: StageContext, checkpoint: ChunkCheckpoint, event: Event) -> RungResult:
    """Scores the last rung: sliding windows with score-first test-time training; arguments as of `score_stage`."""
    use_eager_optimizers()
    config, group = run.config, run.group
    if config.ttt is None:
        raise ValueError("RunConfig.ttt is None: this configuration has no test-time training")
    weights, momentum = (unprefixed(checkpoint.tensors, part) for part in ("weights", "optimizer"))
    start = TTTState(Scored(tuple(checkpoint.chunks)), weights, momentum) if checkpoint.chunks else None

    def after_chunk(number: int, chunk: ChunkScore) -> None:
        checkpoint.add(chunk)
        if any(chunk.num_bytes for chunk in checkpoint.chunks):
            event("ttt_bpb", number, Scored(tuple(checkpoint.chunks)).bpb)

    def state_tensors(state: Callable[[], TTTState]) -> dict[str, Tensor]:
        reached = state()
        return prefixed("weights", reached.weights) | prefixed("optimizer", reached.optimizer)

    model = load_model(run.directory, TTT, config, group)
    end = score_with_ttt(
        model,
        validation_stream(run.dataset, group),
        config.score,
        config.ttt,
        group,
        forward=compile_model(model, config.compile, group.device),
        start=start,
        stop_after=checkpoint.first_chunks,
        after_chunk=after_chunk,
        on_chunk_boundary=lambda state: checkpoint.on_chunk_boundary(partial(state_tensors, state)),
    )
    return rung_result(checkpoint, end.scored, lambda: state_tensors(lambda: end))


def rung_result(checkpoint: ChunkCheckpoint, scored: Scored, tensors: Callable[[], dict[str, Tensor]]) -> RungResult:
    """Returns the result of a rung whose chunks are scored; `tensors` as for `ChunkCheckpoint.finish`."""
    return RungResult(
        name=checkpoint.rung,
        bpb=scored.bpb,
        nats_per_token=scored.nats_per_token,
        seconds=checkpoint.finish(tensors),
        seconds_before=checkpoint.before,
        chunks=tuple((chunk.nll_nats, chunk.num_tokens, chunk.num_bytes) for chunk in scored.chunks),
        chunk_times=tuple(checkpoint.times),
        checkpoints=checkpoint.timer.cost,
    )
