"""The points of a record folder that are figures: bytes, seconds and gain (3, 8, 9, 24).

Every figure is one that a log, submission.json or a file's size tells.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.compliance.points import REMARK, Cause, PointResult, failed, not_applicable, weighed
from golf.config.rules import CAP_BYTES, MARGIN_NATS, NON_RECORD, P_CLAIM, RECORD, TRACK_SECONDS
from golf.submission.record_folder.claimed import ClaimedRun, ClaimedRuns
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.size_claims import total_of
from golf.submission.record_folder.student import gain_test

CAP_READ_AS_MIB = 16 << 20
MOST_SECONDS, MOST_STEP_SECONDS = TRACK_SECONDS[RECORD] or math.inf, 10.0
GRACE_SECONDS = 0.5
"""The published loop stops after the step in which the time ran out, and then waits for the GPU's queue."""
NO_LOG = "no log of a run is here"


@dataclass(frozen=True)
class _Size:
    """Bytes of one seed, or of submission.json: as told, and as counted with the shipped code."""

    key: str
    told: float | None
    counted: float | None
    packed_code: int | None = None


def sizes(folder: RecordFolder, claimed: ClaimedRuns) -> PointResult:
    """Point 3: model and shipped code, for each seed."""
    shipped = folder.code_bytes
    found = [_size_of(one, folder) for one in claimed.results]
    total = folder.claims.numbers.get("bytes_total")
    if total is not None:
        model = folder.claims.numbers.get("bytes_model")
        alone = not any(size.counted for size in found) and model is not None and shipped is not None
        counted = model.value + shipped if alone and model is not None and shipped is not None else None
        found.append(_Size("submission.json", total.value, counted))
    evidence: dict[str, Any] = {"cap_bytes": CAP_BYTES, "code_bytes_shipped": shipped}
    evidence["bytes_told"] = {size.key: round(size.told) for size in found if size.told is not None}
    evidence["bytes_counted"] = {size.key: round(size.counted) for size in found if size.counted is not None}
    if folder.local:
        evidence["code_files"] = {folder.script: len(folder.code or b""), **folder.local}
    model = folder.claims.numbers.get("bytes_model")
    if model is not None and shipped is not None and not evidence["bytes_told"] and not evidence["bytes_counted"]:
        found.append(_Size("submission.json", None, model.value + shipped))
        evidence["bytes_counted"] = {"submission.json": round(model.value + shipped)}
    totals = [*evidence["bytes_told"].values(), *evidence["bytes_counted"].values()]
    if not totals:
        why = "neither logs nor submission.json tell the bytes of model and code: add them"
        return failed(3, why, evidence)
    evidence["margin_bytes"] = CAP_BYTES - max(totals)
    return weighed(3, evidence, list(_over(found, folder)))


def _size_of(one: ClaimedRun, folder: RecordFolder) -> _Size:
    """The bytes of a seed: its log's, else what submission.json tells of it."""
    numbers, run = one.claims.numbers, one.run
    runs = [each for each in one.logs if each.model_bytes or each.total_bytes]
    run = runs[0] if runs else run
    told = total_of(run, folder) if run is not None and run.total_bytes is not None else None
    model = _model_bytes(run)
    if told is None:
        number = numbers.get("bytes_total") or numbers.get("bytes_either")
        told = None if number is None else number.value
    if model is None and "bytes_model" in numbers:
        model = numbers["bytes_model"].value
    counted = None if model is None or folder.code_bytes is None else model + folder.code_bytes
    key = str(one.key)
    return _Size(key, told, counted, None if run is None else run.packed_code_bytes)


def _model_bytes(run: RunLog | None) -> float | None:
    """As told, or what the total is more than the code."""
    if run is None:
        return None
    if run.model_bytes is None and run.total_bytes is not None and len(run.code_bytes) == 1:
        return run.total_bytes.value - run.code_bytes[0]
    return None if run.model_bytes is None else run.model_bytes.value


def _over(found: Sequence[_Size], folder: RecordFolder) -> Iterator[Cause]:
    """Seeds over the cap: as they are told, or only when the shipped code is counted."""
    fewer = "use fewer bits, parameters or lines of code"
    told = {size.key: size.told for size in found if size.told is not None and size.told > CAP_BYTES}
    for key, total in told.items():
        reading = f"; it fits only {CAP_READ_AS_MIB:,} (MiB), MB are decimal" if total <= CAP_READ_AS_MIB else ""
        yield Cause(f"{_named(key)}: {total:,.0f} bytes, {total - CAP_BYTES:,.0f} over the cap{reading}", fewer)
    beside = [size for size in found if size.counted is not None and size.counted > CAP_BYTES and size.key not in told]
    packed = [size for size in beside if _counts_packed(size, folder)]
    for size in packed[:1]:
        assert size.counted is not None
        text = (
            f"the log counts packed code of {size.packed_code:,} bytes, the shipped {folder.script} has "
            f"{len(folder.code or b''):,}: {max(one.counted or 0 for one in packed):,.0f} in all"
        )
        yield Cause(text, "ship the packed file", REMARK)
    for size in beside:
        if size not in packed and size.counted is not None:
            files = " + ".join([str(folder.script), *folder.local])
            text = f"{_named(size.key)}: {size.counted:,.0f} bytes with the shipped code ({files}), "
            yield Cause(f"{text}{size.counted - CAP_BYTES:,.0f} over the cap", fewer)


def _named(key: str) -> str:
    return f"seed {key}" if key.isdigit() else key


def _counts_packed(size: _Size, folder: RecordFolder) -> bool:
    """Whether the log's total counts a packed form of the code that is shipped plain: as the board has accepted it."""
    code = len(folder.code or b"")
    return size.packed_code is not None and size.packed_code < code and not folder.source.packed and not folder.local


def training_time(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Point 8: seconds of training and calibration; the step in which the time ran out may end."""
    times: dict[str, float] = {}
    causes: list[Cause] = []
    allowed = None
    for one in claimed.results:
        run = one.trained
        if run is None or run.train_seconds is None:
            continue
        step = run.step_seconds or (run.train_seconds.value / run.steps if run.steps else 0.0)
        calibration, generation = run.calibration_seconds or 0.0, run.generation_seconds or 0.0
        total, allowed = (
            run.train_seconds.value + calibration,
            MOST_SECONDS + min(step, MOST_STEP_SECONDS) + GRACE_SECONDS,
        )
        times[str(one.key)] = total
        if total - run.train_seconds.unit / 2 > allowed:
            parts = f"{run.train_seconds.value:,.3f} s of training"
            parts += f" + {calibration:g} s of calibration" if calibration else ""
            causes.append(Cause(f"{one}: {parts} = {total:,.3f} s" if calibration else f"{one}: {parts}", _limit()))
        elif total + generation > allowed:
            what = f"{one}: the log also tells {generation:g} s of making sequences for the calibration after training"
            causes.append(Cause(what, _limit(), REMARK))
    calibration_times = [run.calibration_seconds for run in claimed.runs if run.calibration_seconds is not None]
    evidence: dict[str, Any] = {"train_seconds": times, "calibration_seconds": max(calibration_times, default=None)}
    evidence |= {"seconds_allowed": allowed, "of_them_grace": GRACE_SECONDS}
    return _budget(8, track, evidence, causes, claimed, times, ("train_seconds", "train_ms"), "train_time")


def _limit() -> str:
    return f"the record track allows {MOST_SECONDS:.0f} s"


def evaluation_time(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Point 9: seconds of the longest evaluation, or of all where the log tells these."""
    times: dict[str, float] = {}
    for one in claimed.results:
        run = one.scored
        if run is None:
            continue
        known = [score.seconds for score in run.scores if score.seconds is not None]
        longest = run.eval_seconds if run.eval_seconds is not None else max(known, default=None)
        times |= {} if longest is None else {str(one.key): longest}
    over = [
        Cause(f"{_named(key)}: {time:,.1f} s of evaluation", _limit())
        for key, time in times.items()
        if time > MOST_SECONDS
    ]
    return _budget(9, track, {"eval_seconds": times}, over, claimed, times, ("eval_seconds", "eval_ms"), "eval_time")


def _budget(
    point: int,
    track: str | None,
    evidence: dict[str, Any],
    causes: list[Cause],
    claimed: ClaimedRuns,
    times: Mapping[str, float],
    names: tuple[str, str],
    field: str,
) -> PointResult:
    """The finding on a time: over the limit is a failure, and a log that does not tell it a remark."""
    if track != RECORD:
        limit = "the non-record track has no limit" if track == NON_RECORD else "the track is not told"
        return not_applicable(point, limit, evidence)
    if not claimed.runs and not claimed.scored:
        return not_applicable(point, NO_LOG, evidence)
    ended = [one for one in claimed.results if one.score is not None or not claimed.scored]  # others end before it
    silent = [one for one in ended if one.run is not None and str(one.key) not in times]
    for one in silent:
        told = next((one.claims.numbers[name] for name in names if name in one.claims.numbers), None)
        seconds = (
            None
            if told is None
            else told.value / (1000 if names[1] in one.claims.numbers and names[0] not in one.claims.numbers else 1)
        )
        if seconds is not None and seconds > MOST_SECONDS + GRACE_SECONDS + MOST_STEP_SECONDS:
            causes.append(Cause(f"{one}: submission.json tells {seconds:,.1f} s", _limit()))
    if silent:
        listed = ", ".join(str(one) for one in silent[:10])
        causes.append(Cause(f"no {field} in the log of {listed}", "ship the whole log", REMARK))
    return weighed(point, evidence, causes)


def gain(
    folder: RecordFolder, claimed: ClaimedRuns, previous_nats: Sequence[float], previous_bpb: Sequence[float]
) -> PointResult:
    """Point 24: the gain over given previous values in nats per token (those in BPB by this folder's own ratio)."""
    told = folder.claims.numbers.get("p_value")
    evidence: dict[str, Any] = {} if told is None else {"p_told": told.value}
    if told is not None and not 0.0 <= told.value <= 1.0:
        return failed(24, f"submission.json: a p-value of {told.value:g} is no probability: correct it", evidence)
    if not previous_nats and not previous_bpb:
        return not_applicable(24, "no previous best was given to compare with (--baseline)", evidence)
    values = claimed.nats or _of_claims(folder, "val_loss")
    if not values or not all(map(math.isfinite, values)):
        why = "no log and no field tells a val_loss of the seeds: nothing to compare"
        return failed(24, why, evidence)
    previous = list(previous_nats)
    if not previous:
        bpb = claimed.bpb or _of_claims(folder, "val_bpb")
        if not bpb or not all(map(math.isfinite, bpb)) or not sum(bpb):
            return failed(24, "no val_bpb of a seed to compare with the previous one", evidence)
        ratio = (sum(values) / len(values)) / (sum(bpb) / len(bpb))
        previous = [value * ratio for value in previous_bpb]
    test = gain_test(values, previous, MARGIN_NATS)
    evidence |= {"nats": values, "previous_nats": previous, "gain_nats": test.gain, "margin_nats": MARGIN_NATS}
    evidence |= test.evidence()
    reason = (
        "fewer than two different values show no spread" if test.p is None else f"p = {test.p:.3g} is not < {P_CLAIM}"
    )
    shown = Cause(f"a gain above {MARGIN_NATS} nats is not shown: {reason}", "run more seeds, or gain more")
    return weighed(24, evidence, [] if test.shown else [shown])


def _of_claims(folder: RecordFolder, name: str) -> list[float]:
    """A figure of each seed, as submission.json tells it."""
    return [one.numbers[name].value for one in folder.claims.by_seed.values() if name in one.numbers]
