"""The points of a record folder that are figures: bytes, code, sameness of runs, seconds, gain (3, 5, 7 to 9, 24).

A `RecordFolder` enters, findings leave. Every figure is one that a log, submission.json or a file's size tells; what
none of them tells fails where the rules ask for it.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from golf.check.points import FAILED, NOT_APPLICABLE, Finding, judged
from golf.check.record.agreement import Result, key_of
from golf.check.record.contents import CODE, RecordFolder
from golf.check.record.logs import RunLog
from golf.check.record.student import gain_test
from golf.rules import CAP_BYTES, MARGIN_NATS, MIN_SEEDS, NON_RECORD, P_CLAIM, RECORD, TRACK_SECONDS

CAP_READ_AS_MIB = 16 << 20
MOST_SECONDS, MOST_STEP_SECONDS = TRACK_SECONDS[RECORD] or math.inf, 10.0


def sizes(folder: RecordFolder) -> Finding:
    """Point 3: model and shipped code, for each seed."""
    shipped, claims = folder.code_bytes, folder.claims
    models: dict[int | str, int] = {}
    told: dict[int | str, int] = {}
    for log in folder.runs:
        model = _model_bytes(log)
        models |= {} if model is None else {key_of(log): model}
        told |= {} if log.total_bytes is None else {key_of(log): log.total_bytes}
    for seed, one in claims.by_seed.items():
        model, total = one.count("bytes_model"), one.count("bytes_total") or one.count("bytes_either")
        models |= {} if model is None or seed in models else {seed: model}
        told |= {} if total is None or seed in told else {seed: total}
    total = claims.count("bytes_total")
    told |= {} if total is None else {"submission.json": total}
    counted = {} if shipped is None else {key: model + shipped for key, model in models.items()}
    evidence: dict[str, Any] = {"cap_bytes": CAP_BYTES, "code_bytes_shipped": shipped, "bytes_told": told}
    evidence["bytes_counted"] = counted
    totals = [*told.values(), *counted.values()]
    if not totals:
        return Finding(3, FAILED, evidence, "neither logs nor submission.json tell the bytes of model and code")
    evidence["margin_bytes"] = CAP_BYTES - max(totals)
    largest = {key: max(told.get(key, 0), counted.get(key, 0)) for key in {**told, **counted}}
    problems = list(_over(largest))
    return judged(3, not problems, evidence, "; ".join(problems) + ": use fewer bits, parameters or lines of code")


def _model_bytes(log: RunLog) -> int | None:
    """As told, or what the total is more than the code."""
    if log.model_bytes is None and log.total_bytes is not None and len(log.code_bytes) == 1:
        return log.total_bytes - log.code_bytes[0]
    return log.model_bytes


def _over(totals: Mapping[int | str, int]) -> Iterator[str]:
    for key, total in totals.items():
        if total > CAP_BYTES:
            reading = f"; it fits only {CAP_READ_AS_MIB:,} (MiB), MB are decimal" if total <= CAP_READ_AS_MIB else ""
            name = f"seed {key}" if isinstance(key, int) else key
            yield f"{name}: {total:,} bytes, {total - CAP_BYTES:,} over the cap{reading}"


def code(folder: RecordFolder) -> Finding:
    """Point 5: size and hash of the code in each log, against the shipped file."""
    if folder.code is None:
        return Finding(5, FAILED, {"logs": len(folder.runs)}, f"there is no {CODE} to compare with")
    if not folder.runs:
        return Finding(5, FAILED, {"code_bytes_shipped": len(folder.code)}, "no log of a run is here")
    shipped, digest = {len(folder.code), folder.code_bytes}, hashlib.sha256(folder.code).hexdigest()
    problems, hashed = [], 0
    for log in folder.runs:
        logged, name = set(log.code_bytes), key_of(log)
        source = log.source if log.source is None or not folder.source.packed else None
        hashed += log.code_sha256 is not None or source is not None
        if log.code_sha256 not in (None, digest):
            problems.append(f"{name}: another code ran (sha256 {str(log.code_sha256)[:12]}, shipped {digest[:12]})")
        elif source is not None and source.rstrip() != folder.code.rstrip():
            problems.append(f"{name}: the code in its log is another ({len(source):,} bytes)")
        elif logged and not logged & shipped:
            listed = " and ".join(f"{size:,}" for size in sorted(logged))
            problems.append(f"{name}: its log has {listed} bytes of code, shipped are {len(folder.code):,}")
        elif not logged and log.code_sha256 is None and source is None:
            problems.append(f"{name}: its log tells neither size nor hash of the code")
    evidence = {
        "code_bytes_shipped": len(folder.code),
        "code_bytes_logged": {key_of(log): list(log.code_bytes) for log in folder.runs},
        "logs_with_hash_or_code": hashed,
        "logs": len(folder.runs),
    }
    return judged(5, not problems, evidence, "; ".join(problems) + ": ship the code that ran, or run what is shipped")


def sameness(folder: RecordFolder) -> Finding:
    """Point 7: number of seeds; one code, configuration, environment and data in all logs."""
    logs = folder.runs
    differing = {name: values for name, values in _settings(logs).items() if len(values) > 1}
    problems = []
    if len(logs) < MIN_SEEDS:
        problems.append(f"{MIN_SEEDS} seeds are needed, {len(logs)} have a log")
    if differing:
        shown = (f"{name} ({' | '.join(sorted(values)[:3])})" for name, values in sorted(differing.items())[:5])
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        problems.append(f"the logs differ in {', '.join(shown)}{more}")
    for log in folder.logs:
        if None not in (log.seed, log.seed_of_name) and log.seed != log.seed_of_name:
            problems.append(f"{log.name} says seed {log.seed}")
    evidence = {
        "seeds": [log.seed for log in logs if log.seed is not None],
        "logs": len(logs),
        "settings_compared": sum(len(logs) > 1 for _ in _settings(logs)),
        "settings_differing": sorted(differing)[:20] or 0,
    }
    return judged(7, not problems, evidence, "; ".join(problems) + ": run all seeds with the same code and settings")


def _settings(logs: Sequence[RunLog]) -> dict[str, set[str]]:
    """Values of every setting that two logs or more tell."""
    found: dict[str, list[str]] = {}
    for log in logs:
        own = {
            "code bytes": log.code_bytes[-1] if log.code_bytes else None,
            "code sha256": log.code_sha256 or (log.source and hashlib.sha256(log.source).hexdigest()),
            "training shards": log.train_shards,
            "validation tokens": log.validation_tokens,
            "tokenizer": log.tokenizer,
            "device": log.device,
            "world size": log.world_size,
        }
        for name, value in {**log.settings, **{name: one for name, one in own.items() if one is not None}}.items():
            found.setdefault(name, []).append(str(value))
    return {name: set(values) for name, values in found.items() if len(values) > 1}


def training_time(folder: RecordFolder, track: str | None) -> Finding:
    """Point 8: seconds of training and calibration; the step in which the time ran out may end."""
    times: dict[int | str, float] = {}
    allowed: dict[int | str, float] = {}
    for log in folder.runs:
        if log.train_seconds is not None:
            step = log.step_seconds or log.train_seconds / (log.steps or math.inf)
            times[key_of(log)] = log.train_seconds + (log.calibration_seconds or 0.0)
            allowed[key_of(log)] = MOST_SECONDS + min(step, MOST_STEP_SECONDS)
    calibration = [log.calibration_seconds for log in folder.runs if log.calibration_seconds is not None]
    evidence: dict[str, Any] = {"train_seconds": times, "calibration_seconds": max(calibration, default=None)}
    evidence["seconds_allowed"] = max(allowed.values(), default=None)
    over = [f"{key}: {time:,.3f} s" for key, time in times.items() if time > allowed[key]]
    silent = [key_of(log) for log in folder.runs if key_of(log) not in times]
    return _budget(8, track, evidence, over, silent, "train_time")


def evaluation_time(folder: RecordFolder, track: str | None) -> Finding:
    """Point 9: seconds of the longest evaluation, or of all where the log tells these."""
    times: dict[int | str, float] = {}
    for log in folder.runs:
        known = [score.seconds for score in log.scores if score.seconds is not None]
        longest = log.eval_seconds if log.eval_seconds is not None else max(known, default=None)
        times |= {} if longest is None else {key_of(log): longest}
    over = [f"{key}: {time:,.1f} s" for key, time in times.items() if time > MOST_SECONDS]
    silent = [key_of(log) for log in folder.runs if key_of(log) not in times]
    return _budget(9, track, {"eval_seconds": times}, over, silent, "eval_time")


def _budget(
    point: int, track: str | None, evidence: dict[str, Any], over: list[str], silent: list[int | str], field: str
) -> Finding:
    if track != RECORD:
        limit = "the non-record track has no limit" if track == NON_RECORD else "the track is not told"
        return Finding(point, NOT_APPLICABLE, evidence, limit)
    problems = [f"more than {MOST_SECONDS:.0f} s in {', '.join(over)}"] if over else []
    if silent or not evidence:
        problems.append(f"no {field} in the log of {', '.join(map(str, silent))}")
    why = "; ".join(problems) + ": the record track allows 10 minutes"
    return judged(point, not problems and bool(next(iter(evidence.values()))), evidence, why)


def gain(
    folder: RecordFolder, result: Result | None, previous_nats: Sequence[float], previous_bpb: Sequence[float]
) -> Finding:
    """Point 24: the gain over given previous values in nats per token (those in BPB by this folder's own ratio)."""
    if not previous_nats and not previous_bpb:
        return Finding(24, NOT_APPLICABLE, {}, "no previous best was given to compare with")
    values = result.nats if result is not None else []
    values = values or [
        one.numbers["val_loss"].value for one in folder.claims.by_seed.values() if "val_loss" in one.numbers
    ]
    if not values or not all(map(math.isfinite, values)):
        return Finding(24, FAILED, {}, "no log and no field tells a val_loss of the seeds: nothing to compare")
    previous = list(previous_nats)
    if not previous:
        bpb = result.bpb if result is not None else []
        bpb = bpb or [
            one.numbers["val_bpb"].value for one in folder.claims.by_seed.values() if "val_bpb" in one.numbers
        ]
        if not bpb or not all(map(math.isfinite, bpb)) or not sum(bpb):
            return Finding(24, FAILED, {}, "no val_bpb of a seed to compare with the previous one")
        ratio = (sum(values) / len(values)) / (sum(bpb) / len(bpb))
        previous = [value * ratio for value in previous_bpb]
    test = gain_test(values, previous, MARGIN_NATS)
    evidence = {"nats": values, "previous_nats": previous, "gain_nats": test.gain, "margin_nats": MARGIN_NATS}
    evidence |= test.evidence()
    reason = (
        "fewer than two different values show no spread" if test.p is None else f"p = {test.p:.3g} is not < {P_CLAIM}"
    )
    why = f"a gain above {MARGIN_NATS} nats is not shown: {reason}; run more seeds, or gain more"
    return judged(24, test.shown, evidence, why)
