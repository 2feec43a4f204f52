"""The check of a run or of an artifact: every point that can be shown from its files and by running it.

The cheap form takes seconds and looks at a short evaluation; the full form evaluates at the run's own sizes and again
from the artifact. Reported numbers are compared with measured ones, never the other way.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from golf.artifact.pack import read_artifact
from golf.compliance.ablations import prove_qat_in_training, prove_switches
from golf.compliance.data import check_bytes, check_identity, check_shards, check_splits
from golf.compliance.evaluator import configured_evaluator, make_probe
from golf.compliance.points import CheckResult, Evidence, PointResult, judged, not_applicable, rows_of, summary_of
from golf.compliance.proofs import compare_with_model, flip_positions, prove_causality, prove_normalised, prove_order
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
from golf.pipeline.stage_context import StageContext
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

NOT_OF_A_RUN = "not of a run in this form"
CHEAP_TOKENS, CHEAP_SHARDS = 100_000, 1
"""Validation tokens that are decoded, and training shards that are compared, in the cheap form."""
SAME_CPU, OTHER_DEVICE = 1e-6, 5e-4
"""Largest difference of a score from the reported one, in BPB: measured again on one rank of the same kind of CPU with
as many threads, or on anything else, where sums have another order and two equal runs of TTT differ by as much."""
OWN_SUMS = 1e-9
"""Largest difference of a reported BPB from the sums of its chunks."""


def silent(line: str) -> None:
    """Reports no progress."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How a run is checked."""

    cheap: bool
    """Seconds instead of minutes."""
    track: str = NON_RECORD
    """The track whose seconds count."""
    say: Callable[[str], object] = silent
    """Called with what comes next."""


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What a run says of itself."""

    rungs: Mapping[str, RungResult]
    """Results by name of the rung."""
    train: TrainResult | None = None
    """None where nothing is reported of the training."""
    pack: PackedModel | None = None
    """None where nothing is reported of packing."""


def stored_results(run: StageContext) -> Reported:
    """Returns the results in a run's directory for exactly its configuration and data."""
    config, dataset, directory = run.config, run.dataset, run.directory
    rungs = {
        name: rung
        for name in rungs_of(config)
        if (rung := read_result(directory.file(f"{name}.json"), RungResult, rung_identity(config, dataset, name)))
    }
    return Reported(
        rungs=rungs,
        train=read_result(directory.file("train.json"), TrainResult),
        pack=read_result(directory.file("pack.json"), PackedModel, pack_identity(config, dataset)),
    )


def check_run(
    run: StageContext, code_bytes: int, options: CheckOptions, reported: Reported | None = None
) -> list[PointResult]:
    """Returns the results for a run, or for an artifact alone, on every point but those of the data.

    Args:
        run: on one process.
        code_bytes: of the counted code.
        options: how to check.
        reported: what the run says of itself; by default the results in its directory.

    Raises: ValueError when the artifact is damaged.
    """
    config, group, cheap = run.config, run.group, options.cheap
    reported = reported or stored_results(run)
    results = [*_package(run, code_bytes, reported), *_budget(config, reported, options.track)]
    stream, model = validation_stream(run.dataset, group), load_model(run.directory, QUANTISED, config, group)
    results += prove_evaluation(run, stream, model, options)
    options.say("switches")
    rungs = {name: reported.rungs[name].bpb for name in (LIVE, AVERAGED) if name in reported.rungs}
    tokens = stream.tokens[: config.score.sequence_length + 1]
    results.append(prove_switches(model, config, tokens, rungs if len(rungs) == 2 else None, group, not cheap))
    if not cheap:
        options.say("warm-up passes; two short trainings")
        results.append(prove_warm_up(config, run.dataset, stream, group))
        results.append(prove_independent(prepare_of(config), run.dataset))
    options.say("scores of the artifact" + (": its first chunk" if cheap else ": all of them"))
    results.append(read_back(run, stream, reported, first_chunks=1 if cheap else None))
    return results


def cheap_check(
    config: RunConfig, dataset: Dataset, directory: RunDirectory, group: ProcessGroup, code_bytes: int
) -> CheckResult:
    """Returns the check that every run gets at its end.

    A check that breaks down does not cost a run its results: it has an `error`, and no point passed.
    """
    run = StageContext(config=config, dataset=dataset, directory=directory, group=group)
    try:
        results = [*check_run(run, code_bytes, CheckOptions(cheap=True)), *check_data(dataset, cheap=True)]
    except Exception as error:
        return summary_of(rows_of([]), error=f"{type(error).__name__}: {str(error)[:300]}")
    return summary_of(rows_of(results, NOT_OF_A_RUN))


def prove_evaluation(run: StageContext, stream: Stream, model: GEPA, options: CheckOptions) -> list[PointResult]:
    """Returns the results of `golf.compliance.proofs` for a configuration's evaluator.

    In the cheap form: a small probe, three flips, no token varied.
    """
    config, group, cheap = run.config, run.group, options.cheap
    sizes = (True,) if cheap else (False, True)
    probes = (make_probe(stream, config.score, config.ttt, group, small) for small in sizes)
    probe = next((probe for probe in probes if probe is not None), None)
    if probe is None:
        short = f"{stream.num_targets:,} targets of validation are no three chunks"
        return [not_applicable(point, short) for point in (11, 16, 17, 18, 19, 20)]
    evaluate = configured_evaluator(config, group.device, compiled=not cheap)
    options.say("coverage and order")
    results = prove_order(evaluate, model, probe)
    positions = flip_positions(probe, 0, few=cheap)
    options.say(f"{len(positions)} evaluations with later tokens changed")
    results.append(prove_causality(evaluate, model, probe, positions))
    options.say("probabilities" + ("" if cheap else f": {model.config.vocab_size} evaluations a chunk"))
    if cheap:
        return [*results, compare_with_model(evaluate, model, probe)]
    results.append(prove_normalised(evaluate, model, probe, (0, 1, 2)))
    if config.ttt is not None and config.ttt.epochs and config.ttt.lr:
        results.append(prove_qat_in_training(evaluate, model, probe))
    return results


def _package(run: StageContext, code_bytes: int, reported: Reported) -> Iterator[PointResult]:
    """Yields the results on points 3 and 4."""
    path = run.directory.file("artifact.golf")
    shape, weights = read_artifact(path)
    size = path.stat().st_size
    total, cap = size + code_bytes, min(run.config.cap_bytes, CAP_BYTES)
    sizes = {"model_bytes": size, "code_bytes": code_bytes, "artifact_bytes": total, "cap_bytes": cap}
    yield judged(3, total <= cap, sizes, f"over the cap by {total - cap:,} bytes")
    reported_size = None if reported.pack is None else reported.pack.model_bytes
    decoded = {
        "tensors": len(weights),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "layers": shape.num_layers,
        "bytes_on_disk": size,
        "bytes_reported": reported_size,
    }
    same = reported_size in (None, size)
    yield judged(4, same, decoded, "the artifact on the disk is not the one that was reported")


def _budget(config: RunConfig, reported: Reported, track: str) -> Iterator[PointResult]:
    """Yields the results on points 8, 9 and 10."""
    train, last = reported.train, reported.rungs.get(rungs_of(config)[-1])
    if train is None:
        yield from (not_applicable(point, "nothing is known of this artifact's training") for point in (8, 10))
    else:
        calibration = reported.pack.seconds if config.quant.calibrated and reported.pack is not None else 0.0
        yield _within(8, "training_seconds", train.seconds + calibration, track)
        yield judged(10, bool(train.device), {"device": train.device}, "the run names no device")
    if last is None:
        yield not_applicable(9, "nothing is known of this configuration's evaluation")
    else:
        yield _within(9, "evaluation_seconds", last.seconds, track)


def _within(point: int, name: str, seconds: float, track: str) -> PointResult:
    limit = TRACK_SECONDS[track]
    if limit is None:
        return not_applicable(point, f"the {track} track has no limit of seconds", {name: seconds})
    return judged(point, seconds <= limit, {name: seconds}, f"the {track} track allows {limit:g} s")


def check_data(dataset: Dataset, cheap: bool) -> list[PointResult]:
    """Returns the results on points 12 to 15."""
    return [
        check_splits(dataset, CHEAP_SHARDS if cheap else None),
        check_identity(dataset),
        check_shards(dataset, hashed=not cheap),
        check_bytes(dataset, first_tokens=CHEAP_TOKENS if cheap else None),
    ]


def read_back(run: StageContext, stream: Stream, reported: Reported, first_chunks: Literal[1] | None) -> PointResult:
    """Shows that the scores of the artifact, read from the disk now, are the reported ones (point 23).

    Args:
        run: on one process.
        stream: of validation.
        reported: what the run says of itself.
        first_chunks: how much of the stream is scored again, by the cheapest rung, before anything is trained; None:
            all of it, by every rung.
    """
    config, group = run.config, run.group
    known = [reported.rungs[name] for name in (QUANTISED, SLIDING, TTT) if name in reported.rungs]
    rungs = {rung.name: rung for rung in known if rung.chunks}
    if not rungs:
        return not_applicable(23, "no score was reported for this artifact and configuration")
    own = max(abs(rung.bpb - Scored.of(rung.chunks).bpb) for rung in rungs.values())
    differences, choice = dict[str, float](), config.compile if first_chunks is None else False
    for name in rungs if first_chunks is None else list(rungs)[:1]:
        model = load_model(run.directory, name, config, group)
        forward = compile_model(model, choice, group.device)
        if name == TTT and config.ttt is not None and first_chunks is None:
            measured = score_with_ttt(model, stream, config.score, config.ttt, group, forward=forward).scored
        else:
            measured = score(forward, stream, config.score, group, plain=name == QUANTISED, stop_after=first_chunks)
        differences[name] = measured.bpb - Scored.of(rungs[name].chunks[:first_chunks]).bpb
    device = None if reported.train is None else reported.train.device
    exact = device == f"1 x {device_name(group.device)}" and group.device.type == "cpu"
    tolerance = SAME_CPU if exact else OTHER_DEVICE
    evidence: Evidence = {"chunks_scored_again": first_chunks or "all", "bpb_differs_by": differences}
    evidence |= {"tolerance": tolerance, "reported_bpb_differs_from_its_chunks": own}
    right = max(map(abs, differences.values())) <= tolerance and own <= OWN_SUMS
    if SLIDING in rungs and TTT in rungs:  # the first chunk is scored before anything is trained
        first, again = (Scored.of(rungs[name].chunks[:1]).bpb for name in (SLIDING, TTT))
        evidence["first_chunk_with_training_differs_by"] = again - first
        right &= abs(again - first) <= tolerance
    return judged(23, right, evidence, "the reported BPB is not the artifact's")
