"""The points of a record folder about its figures: bytes, seconds and gain (3, 8, 9, 24).

Every figure is one that a log, submission.json or a file's size has.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from golf.compliance.points import REMARK, Cause, Evidence, PointResult, failed, not_applicable, weighed
from golf.config.rules import CAP_BYTES, MARGIN_NATS, NON_RECORD, P_CLAIM, RECORD, TRACK_SECONDS
from golf.submission.record_folder.claimed import ClaimedRun, ClaimedRuns
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.student import gain_test

CAP_READ_AS_MIB = 16 << 20
MOST_SECONDS, MOST_STEP_SECONDS = TRACK_SECONDS[RECORD] or math.inf, 10.0
GRACE_SECONDS = 0.5
"""The published loop stops after the step in which the time ran out, and then waits for the GPU's queue."""
NO_LOG = "no log of a run is here"
_LIMIT = f"the record track allows {MOST_SECONDS:.0f} s"


class _Size(NamedTuple):
    """Bytes of one seed, or of submission.json."""

    key: str
    stated: float | None
    """Bytes of model and code, as the log or submission.json has them."""
    counted: float | None
    """Bytes of the model and the shipped code."""
    packed_code: int | None = None
    """Bytes of the packed form of shipped plain code, where the log's total counts that, which the board accepted."""


def sizes(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Returns the result on point 3: model and shipped code, for each seed."""
    shipped = folder.code_bytes
    by_seed = [_size_of(result, folder) for result in claimed.results]
    total, model = folder.claims.value("bytes_total"), folder.claims.value("bytes_model")
    counted = None if model is None or shipped is None or any(size.counted for size in by_seed) else model + shipped
    if total is not None or (counted is not None and not any(size.stated for size in by_seed)):
        by_seed.append(_Size("submission.json", total, counted))
    evidence: Evidence = {
        "cap_bytes": CAP_BYTES,
        "code_bytes_shipped": shipped,
        "bytes_stated": {size.key: round(size.stated) for size in by_seed if size.stated is not None},
        "bytes_counted": {size.key: round(size.counted) for size in by_seed if size.counted is not None},
    }
    if folder.local:
        evidence["code_files"] = {folder.script: len(folder.code or b""), **folder.local}
    totals = [*evidence["bytes_stated"].values(), *evidence["bytes_counted"].values()]
    if not totals:
        return failed(3, "neither logs nor submission.json have the bytes of model and code: add them", evidence)
    evidence["margin_bytes"] = CAP_BYTES - max(totals)
    return weighed(3, evidence, list(_over(by_seed, folder)))


def _size_of(result: ClaimedRun, folder: RecordFolder) -> _Size:
    """Returns the bytes of a seed: its log's, else what submission.json says of it."""
    run = next((run for run in result.logs if run.model_bytes or run.total_bytes), result.run)
    total = run.total_bytes if run is not None else None
    claimed = result.claims.value("bytes_total") or result.claims.value("bytes_either")
    if run is not None and run.model_bytes is not None:
        model: float | None = run.model_bytes.value
    elif run is not None and total is not None and len(run.code_bytes) == 1:
        model = total.value - run.code_bytes[0]
    else:
        model = result.claims.value("bytes_model")
    packed, plain = None if run is None else run.packed_code_bytes, len(folder.code or b"")
    is_packed = packed is not None and packed < plain and not folder.source.packed and not folder.local
    counted = None if model is None or folder.code_bytes is None else model + folder.code_bytes
    return _Size(str(result.key), claimed if total is None else total.value, counted, packed if is_packed else None)


def _over(sizes: Sequence[_Size], folder: RecordFolder) -> Iterator[Cause]:
    """Yields seeds over the cap: as they are stated, or only when the shipped code is counted."""
    fewer = "use fewer bits, parameters or lines of code"
    files, packed = " + ".join([str(folder.script), *folder.local]), list[tuple[float, int]]()
    for key, stated, counted, packed_code in sizes:
        name = f"seed {key}" if key.isdigit() else key
        if stated is not None and stated > CAP_BYTES:
            reading = f"; it fits only {CAP_READ_AS_MIB:,} (MiB), MB are decimal" if stated <= CAP_READ_AS_MIB else ""
            yield Cause(f"{name}: {stated:,.0f} bytes, {stated - CAP_BYTES:,.0f} over the cap{reading}", fewer)
        elif counted is not None and counted > CAP_BYTES and packed_code is not None:
            packed.append((counted, packed_code))
        elif counted is not None and counted > CAP_BYTES:
            text = f"{name}: {counted:,.0f} bytes with the shipped code ({files})"
            yield Cause(f"{text}, {counted - CAP_BYTES:,.0f} over the cap", fewer)
    if packed:
        text = f"the log counts packed code of {packed[0][1]:,} bytes, the shipped {folder.script} has "
        text += f"{len(folder.code or b''):,}: {max(packed)[0]:,.0f} in all"
        yield Cause(text, "ship the packed file", REMARK)


def training_time(claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 8: seconds of training and calibration; the step at the limit may end."""
    times, allowed = dict[str, float](), None
    causes: list[Cause] = []
    for result in claimed.results:
        run = result.trained
        if run is None or run.train_seconds is None:
            continue
        step = run.step_seconds or (run.train_seconds.value / run.steps if run.steps else 0.0)
        allowed = MOST_SECONDS + min(step, MOST_STEP_SECONDS) + GRACE_SECONDS
        calibration, generation = run.calibration_seconds or 0.0, run.generation_seconds or 0.0
        total = times[str(result.key)] = run.train_seconds.value + calibration
        if total - run.train_seconds.unit / 2 > allowed:
            parts = f"{result}: {run.train_seconds.value:,.3f} s of training"
            parts += f" + {calibration:g} s of calibration = {total:,.3f} s" if calibration else ""
            causes.append(Cause(parts, _LIMIT))
        elif total + generation > allowed:
            text = f"{result}: the log also has {generation:g} s of making sequences for the calibration after training"
            causes.append(Cause(text, _LIMIT, REMARK))
    calibrations = [run.calibration_seconds for run in claimed.runs if run.calibration_seconds is not None]
    evidence: Evidence = {"train_seconds": times, "calibration_seconds": max(calibrations, default=None)}
    evidence |= {"seconds_allowed": allowed, "of_them_grace": GRACE_SECONDS}
    return _within_limit(8, "train", track, claimed, evidence, causes)


def evaluation_time(claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 9: seconds of the longest evaluation, or of all where the log has these."""
    times: dict[str, float] = {}
    causes: list[Cause] = []
    for result, run, _ in claimed.scored:
        known = [score.seconds for score in run.scores if score.seconds is not None]
        longest = run.eval_seconds if run.eval_seconds is not None else max(known, default=None)
        if longest is not None:
            times[str(result.key)] = longest
        if longest is not None and longest > MOST_SECONDS:
            causes.append(Cause(f"{result}: {longest:,.1f} s of evaluation", _LIMIT))
    return _within_limit(9, "eval", track, claimed, {"eval_seconds": times}, causes)


def _within_limit(
    point: int, kind: str, track: str | None, claimed: ClaimedRuns, evidence: Evidence, causes: list[Cause]
) -> PointResult:
    """Returns the result on a time, "train" or "eval", with what is over the limit by the logs.

    Over the limit is a failure, a log that does not have the time a remark.
    """
    if track != RECORD:
        limit = "the non-record track has no limit" if track == NON_RECORD else "the track is unknown"
        return not_applicable(point, limit, evidence)
    if not claimed.runs:
        return not_applicable(point, NO_LOG, evidence)
    times = evidence[f"{kind}_seconds"]
    silent = [result for result in claimed.ended if result.run is not None and str(result.key) not in times]
    for result in silent:
        seconds, milliseconds = result.claims.value(f"{kind}_seconds"), result.claims.value(f"{kind}_ms")
        if seconds is None and milliseconds is not None:
            seconds = milliseconds / 1000
        if seconds is not None and seconds > MOST_SECONDS + GRACE_SECONDS + MOST_STEP_SECONDS:
            causes.append(Cause(f"{result}: submission.json says {seconds:,.1f} s", _LIMIT))
    if silent:
        text = f"no {kind}_time in the log of {', '.join(map(str, silent[:10]))}"
        causes.append(Cause(text, "ship the whole log", REMARK))
    return weighed(point, evidence, causes)


def gain(
    folder: RecordFolder, claimed: ClaimedRuns, previous_nats: Sequence[float], previous_bpb: Sequence[float]
) -> PointResult:
    """Returns the result on point 24: the gain in nats per token over given previous values.

    Args:
        folder: the record folder.
        claimed: its claimed runs.
        previous_nats: previous values in nats per token.
        previous_bpb: the same in BPB where nats are not given; this folder's own ratio turns them into nats.
    """
    p_claimed = folder.claims.value("p_value")
    evidence: Evidence = {} if p_claimed is None else {"p_claimed": p_claimed}
    if p_claimed is not None and not 0.0 <= p_claimed <= 1.0:
        return failed(24, f"submission.json: a p-value of {p_claimed:g} is no probability: correct it", evidence)
    if not previous_nats and not previous_bpb:
        return not_applicable(24, "no previous best was given to compare with (--baseline)", evidence)
    nats = claimed.nats or _of_claims(folder, "val_loss")
    if not nats or not all(map(math.isfinite, nats)):
        return failed(24, "no log and no field has a val_loss of the seeds: nothing to compare", evidence)
    previous = list(previous_nats)
    if not previous:
        bpb = claimed.bpb or _of_claims(folder, "val_bpb")
        if not bpb or not all(map(math.isfinite, bpb)) or not sum(bpb):
            return failed(24, "no val_bpb of a seed to compare with the previous one", evidence)
        ratio = (sum(nats) / len(nats)) / (sum(bpb) / len(bpb))
        previous = [value * ratio for value in previous_bpb]
    test = gain_test(nats, previous, MARGIN_NATS)
    evidence |= {"nats": nats, "previous_nats": previous, "gain_nats": test.gain, "margin_nats": MARGIN_NATS}
    no_spread = "fewer than two different values show no spread"
    reason = no_spread if test.p is None else f"p = {test.p:.3g} is not < {P_CLAIM}"
    cause = Cause(f"a gain above {MARGIN_NATS} nats is not shown: {reason}", "run more seeds, or gain more")
    return weighed(24, evidence | test.evidence(), [] if test.shown else [cause])


def _of_claims(folder: RecordFolder, name: str) -> list[float]:
    values = (claims.value(name) for claims in folder.claims.by_seed.values())
    return [value for value in values if value is not None]
