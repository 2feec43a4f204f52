"""The outcome of a GEPA trial, from the results of its stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import log
from typing import Any

from golf.artifact.byte_breakdown import group_ledger
from golf.compliance.points import check_from_plain
from golf.pipeline.run_directory import Artifact, RunDirectory
from golf.runtime.files import read_json
from golf.runtime.results import SLIDING, TTT, RungResult, RunResults, read_result
from golf.train.train_log import CURVES_FILE
from tune.cache.cached_runner import StageRunner, UncachedStageRunner
from tune.cache.stage_graph import StageName
from tune.records.entries import ArtifactSize, Outcome, RungScore, ScreeningScore, Series, TrialState
from tune.search.successive_halving import ScreeningRank, ordinal, short_id, stopped_text
from tune.workloads.gepa.stages import CHECK_FILE, PACK, PREFIX, TRAIN, GepaStages
from tune.workloads.trial_process import CONFIG, device_of

ARTIFACT = "artifact.golf"


@dataclass(frozen=True)
class Screened:
    """How trials are screened, for the screen."""

    top: float
    """Share of the trials that continue."""
    chunk: float
    """Share of the stream that a chunk is."""

    def fraction(self, name: StageName) -> float:
        """Returns the share of the stream that a rung's first chunks are."""
        return (name.steps or 0) * self.chunk

    def reason(self, name: StageName, rank: ScreeningRank) -> str:
        """Returns why a trial was stopped after the first chunks of a rung."""
        against = short_id(rank.against)
        behind = f"{rank.difference_bpb:.4f} +- {rank.standard_error_bpb:.4f} BPB behind {against}"
        on = f"on the first {100 * self.fraction(name):.0f} % of validation{' with TTT' if name.kind == TTT else ''}"
        where = f"{ordinal(rank.rank)} of {rank.num_trials} {on}, {behind}"
        return stopped_text(where, self.top, "--no-screening")


def outcome_of(
    results: RunResults,
    directory: RunDirectory,
    stages: GepaStages,
    runner: StageRunner,
    ranks: Mapping[StageName, ScreeningRank],
    screened: Screened | None = None,
) -> tuple[Outcome, Series]:
    """Returns what became of a trial whose stages ended.

    Args:
        results: of its stages; the ladder is empty where the trial was over the cap or screened out.
        directory: the trial's.
        stages: all that it could compute.
        runner: knows what was computed for it.
        ranks: first chunks of a rung -> its rank on them.
        screened: how trials are screened; None where they are not.
    """
    train, pack, ladder = results.train, results.pack, results.ladder
    state, reason = _state_of(results, ranks, screened)
    first_chunks = {name: read_first_chunks(directory, name) for name in ranks}
    seconds = {TRAIN: train.seconds, PACK: pack.seconds}
    seconds |= {name.kind: first.seconds for name, first in first_chunks.items()}
    seconds |= {rung.name: rung.seconds for rung in ladder}
    artifact = directory.file(ARTIFACT)
    outcome = Outcome(
        state=state,
        reason=reason,
        bpb=ladder[-1].bpb if ladder else None,
        nats_per_token=ladder[-1].nats_per_token if ladder else None,
        rungs=tuple(
            RungScore(name=rung.name, bpb=rung.bpb, nats_per_token=rung.nats_per_token, seconds=rung.seconds)
            for rung in ladder
        ),
        screening=tuple(
            ScreeningScore(
                name=name.kind,
                bpb=first.bpb,
                seconds=first.seconds,
                rank=str(ranks[name]),
                fraction=screened.fraction(name) if screened else None,
            )
            for name, first in first_chunks.items()
        ),
        size=ArtifactSize(model_bytes=pack.model_bytes, code_bytes=pack.code_bytes, cap_bytes=pack.cap_bytes),
        seconds=seconds,
        computed=_computed(stages, runner),
        cold=_is_cold(stages, runner, scored=bool(ladder)),
        train_tokens=train.tokens,
        device=device_of(train.device),
        code_sha256=pack.code_sha256,
        keys=() if isinstance(runner, UncachedStageRunner) else tuple(stages.keys),
        checkpoints=train.checkpoints,
        check=check_from_plain(read_json(directory.file(CHECK_FILE))["result"]) if ladder else None,
        byte_groups=byte_groups(Artifact.of(artifact)),
        files={"artifact": str(artifact), "config": str(directory.file(CONFIG))},
    )
    return outcome, _series_of(results, directory)


def read_first_chunks(directory: RunDirectory, name: StageName) -> RungResult:
    """Returns the result of a rung's first chunks. Raises: FileNotFoundError, ValueError."""
    path = directory.file(f"{name}.json")
    result = read_result(path, RungResult)
    if result is None:
        raise FileNotFoundError(f"{path} is missing or is not the result of a rung")
    return result


def _state_of(
    results: RunResults, ranks: Mapping[StageName, ScreeningRank], screened: Screened | None
) -> tuple[TrialState, str | None]:
    if not results.pack.fits:
        return TrialState.INFEASIBLE, f"over the cap by {results.pack.over_bytes:,} bytes"
    if not results.ladder:
        assert screened is not None
        name, rank = list(ranks.items())[-1]
        return TrialState.SCREENED, screened.reason(name, rank)
    return TrialState.DONE, None


def _computed(stages: GepaStages, runner: StageRunner) -> dict[str, float]:
    """Seconds that were computed, those of states on the way with the training, those of first chunks with the rung."""
    computed: dict[str, float] = {}
    for output in stages.outputs:
        stage = TRAIN if output.name.kind == PREFIX else output.name.kind
        if str(output.name) in runner.computed:
            computed[stage] = computed.get(stage, 0.0) + runner.computed[str(output.name)]
    return computed


def _is_cold(stages: GepaStages, runner: StageRunner, scored: bool) -> bool:
    if isinstance(runner, UncachedStageRunner):
        return True
    outputs = (*stages.training, stages.pack, *(stages.rungs if scored else ()))
    return all(str(output.name) in runner.computed for output in outputs)


def _series_of(results: RunResults, directory: RunDirectory) -> Series:
    curves: dict[str, Any] = read_json(directory.file(CURVES_FILE))
    curves = {name: curves[name] for name in ("train_loss", "validation_bpb")}
    chunks = {rung.name: rung.chunks for rung in results.ladder if rung.name in (SLIDING, TTT)}
    ttt = next((rung for rung in results.ladder if rung.name == TTT), None)
    if ttt is not None:
        curves["ttt_bpb"] = running_bpb(ttt)
    return Series(curves, chunks)


def running_bpb(rung: RungResult) -> list[tuple[int, float, float]]:
    """Returns (chunk, unix seconds, BPB of the stream up to and with the chunk), from the first chunk with text."""
    nats = accumulate(chunk[0] for chunk in rung.chunks)
    sizes = accumulate(chunk[2] for chunk in rung.chunks)
    points = zip(rung.chunk_times, nats, sizes, strict=True)
    return [(n, time, total / log(2) / size) for n, (time, total, size) in enumerate(points) if size]


@lru_cache(maxsize=1024)
def byte_groups(artifact: Artifact) -> dict[str, dict[str, float]]:
    """Returns where an artifact's bytes go: group of tensors -> column -> value."""
    return group_ledger(artifact.path.read_bytes())
