"""The check of a run or of an artifact: every point that can be shown from its files and by running it.

A configuration, a dataset, the folder of a run and what was reported enter; findings leave. The cheap form takes
seconds and looks at a short evaluation; the whole form evaluates at the run's own sizes and again from the artifact.
Reported numbers are compared with measured ones, never the other way.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from golf.artifact.pack import read_artifact
from golf.compliance.ablations import prove_qat_in_training, prove_switches
from golf.compliance.data import check_bytes, check_identity, check_shards, check_splits
from golf.compliance.points import CheckResult, PointResult, judged, not_applicable, rows_of, summary_of
from golf.compliance.proofs import (
    compare_with_model,
    evaluator_of,
    flip_places,
    probe_of,
    prove_causality,
    prove_normalised,
    prove_order,
)
from golf.compliance.training import prepare_of, prove_independent, prove_warm_up
from golf.config.config import RunConfig
from golf.config.rules import CAP_BYTES, NON_RECORD, TRACK_SECONDS
from golf.data.dataset import Dataset
from golf.evaluate.sliding import Scored, Stream, score, validation_stream
from golf.evaluate.ttt import score_with_ttt
from golf.model.compile import compile_model
from golf.model.gepa import GEPA
from golf.pipeline.evaluation import rungs_of
from golf.pipeline.identity import pack_identity, rung_identity
from golf.pipeline.run_directory import RunDirectory, load_model
from golf.runtime.process_group import ProcessGroup, device_name
from golf.runtime.results import (
    AVERAGED,
    LIVE,
    QUANTISED,
    SLIDING,
    TTT,
    PackedModel,
    RungResult,
    TrainResult,
    read_result,
)

Say = Callable[[str], object]
"""Takes a line of progress."""
NOT_OF_A_RUN = "not of a run in this form"
CHEAP_TOKENS, CHEAP_SHARDS = 100_000, 1
"""Of the validation that is decoded, and training shards compared, in the cheap form."""
SAME_CPU, OTHER_DEVICE = 1e-6, 5e-4
"""Largest difference of a score from the reported one, in BPB: measured again on one rank of the same kind of CPU with
as many threads, or on anything else, where sums have another order and two equal runs of TTT differ by as much."""
OWN_SUMS = 1e-9
"""Largest difference of a reported BPB from the sums of its chunks."""


def silent(line: str) -> None:
    """No progress."""


@dataclass(frozen=True)
class Reported:
    """What a run says of itself."""

    rungs: Mapping[str, RungResult]
    """Results by name of the rung."""
    train: TrainResult | None
    """None where nothing is reported of the training."""
    pack: PackedModel | None
    """None where nothing is reported of packing."""


def reported_by(folder: RunDirectory, config: RunConfig, dataset: Dataset) -> Reported:
    """The results kept in a run's folder for exactly this configuration; what is missing is not told."""
    rungs: dict[str, RungResult] = {}
    for name in rungs_of(config):
        rung = read_result(folder.file(f"{name}.json"), RungResult, rung_identity(config, dataset, name))
        if rung is not None:
            rungs[name] = rung
    train = read_result(folder.file("train.json"), TrainResult)
    return Reported(rungs, train, read_result(folder.file("pack.json"), PackedModel, pack_identity(config, dataset)))


def check_run(
    config: RunConfig,
    dataset: Dataset,
    folder: RunDirectory,
    group: ProcessGroup,
    code: int,
    *,
    cheap: bool,
    track: str = NON_RECORD,
    reported: Reported | None = None,
    say: Say = silent,
) -> list[PointResult]:
    """What can be said of a run's folder, or of an artifact alone, on every point but those of the data.

    Args: group: one process; code: bytes of the counted code; cheap: seconds instead of minutes; track: whose seconds
        count; reported: what the run says of itself; by default what its folder holds; say: is told what comes next.
    Raises: ValueError when the artifact is damaged.
    """
    reported = reported or reported_by(folder, config, dataset)
    found = [*_package(config, folder, code, reported), *_budget(config, reported, track)]
    stream, model = validation_stream(dataset, group), load_model(folder, QUANTISED, config, group)
    found += prove_evaluation(config, stream, model, group, cheap, say=say)
    say("switches")
    rungs = {name: reported.rungs[name].bpb for name in (LIVE, AVERAGED) if name in reported.rungs}
    tokens = stream.tokens[: config.score.sequence_length + 1]
    found.append(prove_switches(model, config, tokens, rungs if len(rungs) == 2 else None, group, not cheap))
    if not cheap:
        say("warm-up passes; two short trainings")
        found.append(prove_warm_up(config, dataset, stream, group))
        found.append(prove_independent(prepare_of(config), dataset))
    say("scores of the artifact" + (": its first chunk" if cheap else ": all of them"))
    found.append(read_back(config, stream, folder, group, reported, first_chunks=1 if cheap else None))
    return found


def cheap_check(
    config: RunConfig, dataset: Dataset, folder: RunDirectory, group: ProcessGroup, code: int
) -> CheckResult:
    """Returns the check that every run gets at its end.

    A check that breaks down does not cost a run its results: it has an `error`, and no point passed.
    """
    try:
        found = check_run(config, dataset, folder, group, code, cheap=True)
        return summary_of(rows_of([*found, *check_data(dataset, cheap=True)], NOT_OF_A_RUN))
    except Exception as error:
        return summary_of(rows_of([]), error=f"{type(error).__name__}: {str(error)[:300]}")


def prove_evaluation(
    config: RunConfig, stream: Stream, model: GEPA, group: ProcessGroup, cheap: bool, seed: int = 0, say: Say = silent
) -> list[PointResult]:
    """The proofs of `golf.compliance.proofs` for a configuration's evaluator.

    Args: cheap: a small probe, three flips, no token varied.
    """
    sizes = (True,) if cheap else (False, True)
    probes = [probe_of(stream, config.score, config.ttt, group, small) for small in sizes]
    probe = next((one for one in probes if one is not None), None)
    if probe is None:
        short = f"{stream.num_targets:,} targets of validation are no three chunks"
        return [not_applicable(point, short) for point in (11, 16, 17, 18, 19, 20)]
    evaluate = evaluator_of(config, group.device, compiled=not cheap)
    say("coverage and order")
    found = prove_order(evaluate, model, probe)
    places = flip_places(probe, seed, few=cheap)
    say(f"{len(places)} evaluations with later tokens changed")
    found.append(prove_causality(evaluate, model, probe, places))
    say("probabilities" + ("" if cheap else f": {model.config.vocab_size} evaluations a chunk"))
    if cheap:
        return [*found, compare_with_model(evaluate, model, probe)]
    found.append(prove_normalised(evaluate, model, probe, (0, 1, 2)))
    if config.ttt is not None and config.ttt.epochs and config.ttt.lr:
        found.append(prove_qat_in_training(evaluate, model, probe))
    return found


def _package(config: RunConfig, folder: RunDirectory, code: int, reported: Reported) -> Iterator[PointResult]:
    """Points 3 and 4."""
    path = folder.file("artifact.golf")
    shape, weights = read_artifact(path)
    size = path.stat().st_size
    cap = min(config.cap_bytes, CAP_BYTES)
    sizes = {"model_bytes": size, "code_bytes": code, "artifact_bytes": size + code, "cap_bytes": cap}
    yield judged(3, size + code <= cap, sizes, f"over the cap by {size + code - cap:,} bytes")
    told = None if reported.pack is None else reported.pack.model_bytes
    decoded: dict[str, Any] = {
        "tensors": len(weights),
        "parameters": sum(weight.numel() for weight in weights.values()),
    }
    decoded |= {"layers": shape.num_layers, "bytes_on_disk": size, "bytes_reported": told}
    yield judged(4, told in (None, size), decoded, "the artifact on the disk is not the one that was reported")


def _budget(config: RunConfig, reported: Reported, track: str) -> Iterator[PointResult]:
    """Points 8, 9 and 10."""
    train, last = reported.train, rungs_of(config)[-1]
    untold = "nothing is told of this "
    if train is None:
        yield from (not_applicable(point, untold + "artifact's training") for point in (8, 10))
    else:
        seconds = train.seconds
        if config.quant.calibrated and reported.pack is not None:
            seconds += reported.pack.seconds
        yield _within(8, {"training_seconds": seconds}, seconds, track)
        yield judged(10, bool(train.device), {"device": train.device}, "the run names no device")
    if last in reported.rungs:
        seconds = reported.rungs[last].seconds
        yield _within(9, {"evaluation_seconds": seconds}, seconds, track)
    else:
        yield not_applicable(9, untold + "configuration's evaluation")


def _within(point: int, evidence: dict[str, Any], seconds: float, track: str) -> PointResult:
    limit = TRACK_SECONDS[track]
    if limit is None:
        return not_applicable(point, f"the {track} track has no limit of seconds", evidence)
    return judged(point, seconds <= limit, evidence, f"the {track} track allows {limit:g} s")


def check_data(dataset: Dataset, cheap: bool) -> list[PointResult]:
    """Points 12 to 15."""
    return [
        check_splits(dataset, CHEAP_SHARDS if cheap else None),
        check_identity(dataset),
        check_shards(dataset, hashed=not cheap),
        check_bytes(dataset, first_tokens=CHEAP_TOKENS if cheap else None),
    ]


def read_back(
    config: RunConfig,
    stream: Stream,
    folder: RunDirectory,
    group: ProcessGroup,
    reported: Reported,
    first_chunks: Literal[1] | None,
) -> PointResult:
    """The scores of the artifact, read from the disk now, are those that were reported (point 23).

    Args: first_chunks: how much of the stream is scored again, by the cheapest rung, before anything is trained; None:
        all of it, by every rung.
    """
    told = {name: reported.rungs[name] for name in (QUANTISED, SLIDING, TTT) if name in reported.rungs}
    whole = {name: one for name, one in told.items() if one.chunks}
    own = {name: abs(one.bpb - Scored.of(one.chunks).bpb) for name, one in whole.items()}
    if not own:
        return not_applicable(23, "no score was reported for this artifact and configuration")
    differences, choice = dict[str, float](), config.compile if first_chunks is None else False
    for name in whole if first_chunks is None else list(whole)[:1]:
        model = load_model(folder, name, config, group)
        forward = compile_model(model, choice, group.device)
        if name == TTT and config.ttt is not None and first_chunks is None:
            measured = score_with_ttt(model, stream, config.score, config.ttt, group, forward=forward).scored
        else:
            measured = score(forward, stream, config.score, group, plain=name == QUANTISED, stop_after=first_chunks)
        differences[name] = measured.bpb - Scored.of(whole[name].chunks[:first_chunks]).bpb
    device = None if reported.train is None else reported.train.device
    exact = device == f"1 x {device_name(group.device)}" and group.device.type == "cpu"
    tolerance = SAME_CPU if exact else OTHER_DEVICE
    evidence: dict[str, Any] = {"chunks_scored_again": first_chunks or "all", "bpb_differs_by": differences}
    evidence |= {"tolerance": tolerance, "reported_bpb_differs_from_its_chunks": max(own.values())}
    right = max(map(abs, differences.values())) <= tolerance and max(own.values()) <= OWN_SUMS
    if SLIDING in whole and TTT in whole:  # the first chunk is scored before anything is trained
        first, again = (Scored.of(whole[name].chunks[:1]).bpb for name in (SLIDING, TTT))
        evidence["first_chunk_with_training_differs_by"] = again - first
        right &= abs(again - first) <= tolerance
    return judged(23, right, evidence, "the reported BPB is not the artifact's")
