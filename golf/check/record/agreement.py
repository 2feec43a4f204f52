"""Whether a record folder's submission.json says what its logs say (point 6), and which result it is that it claims.

A `RecordFolder` enters, numbers and disagreements leave. A log holds several results (rungs of the ladder); the claimed
one is the last that all logs of the listed seeds have and that submission.json agrees with, else the last of all. A
number agrees when it is the logs' rounded to its decimals: one that is cut off instead says more than was reached.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golf.check.points import FAILED, Finding, judged
from golf.check.record.claims import Claims
from golf.check.record.contents import RecordFolder
from golf.check.record.logs import RunLog, Score, Told
from golf.rules import SP1024_BYTES, SP1024_TOKENS

COARSEST = 1e-3
"""A figure with fewer decimals must agree to this: JSON writers leave out zeros at the end."""
RATIO_SLACK = 1e-4
"""Relative: logs leave out the last tokens that fill no sequence."""


@dataclass(frozen=True)
class Result:
    """The claimed result, by seed (by the log's name where it tells no seed)."""

    name: str
    scores: Mapping[int | str, Score]

    @property
    def bpb(self) -> list[float]:
        """Bits per byte."""
        return [score.bpb.value for score in self.scores.values()]

    @property
    def nats(self) -> list[float]:
        """Nats per token; empty where a log does not tell them."""
        found = [score.nats.value for score in self.scores.values() if score.nats and math.isfinite(score.nats.value)]
        return found if len(found) == len(self.scores) else []

    def unit(self, name: str) -> float:
        """Of the last decimal of the logs' val_bpb or val_loss."""
        pairs = ((score.bpb if name == "val_bpb" else score.nats) for score in self.scores.values())
        return max((number.unit for number in pairs if number is not None), default=0.0)


def key_of(log: RunLog) -> int | str:
    """What a log is called in evidence."""
    return log.name if log.seed is None else log.seed


def claimed_result(folder: RecordFolder) -> Result | None:
    """The result that submission.json claims; None where no log has one."""
    scored = [log for log in folder.runs if log.scores]
    logs = [log for log in scored if log.seed in folder.claims.seeds] or scored
    if not logs:
        return None
    common = [score.name for score in logs[-1].scores if all(log.score(score.name) for log in logs)]
    results = [Result(name, _scores(logs, name)) for name in reversed(common) if f"{name}_exact" not in common]
    last = Result("the last of each log", {key_of(log): log.scores[-1] for log in logs})
    bpb = folder.claims.numbers.get("val_bpb")
    agreeing = (one for one in results if bpb is not None and _is_claimed(bpb, one, folder.claims))
    return next(agreeing, results[0] if results else last)


def _scores(logs: Sequence[RunLog], name: str) -> dict[int | str, Score]:
    return {key_of(log): score for log in logs if (score := log.score(name)) is not None}


def _is_claimed(bpb: Told, result: Result, claims: Claims) -> bool:
    values, unit = result.bpb, result.unit("val_bpb")
    of_one = not claims.seeds and any(near(bpb, value, unit) for value in values)
    return of_one or near(bpb, statistics.fmean(values), unit)


def near(number: Told, value: float, unit: float = 0.0) -> bool:
    """Whether a number is `value` rounded to its decimals, where `value` itself was rounded to a `unit`."""
    return abs(number.value - value) <= 0.5001 * (min(number.unit, COARSEST) + unit) + 1e-9


def agreement(folder: RecordFolder, result: Result | None) -> Finding:
    """Point 6."""
    if result is None:
        return Finding(6, FAILED, {"logs": len(folder.logs)}, "no log holds a final val_bpb: add the logs of the runs")
    broken = [str(key) for key, score in result.scores.items() if not math.isfinite(score.bpb.value)]
    if broken:
        return Finding(6, FAILED, {"result": result.name}, f"val_bpb is no number in the log of {', '.join(broken)}")
    claims = folder.claims
    problems = [*_figures(claims, result), *_seeds(folder, result), *_bytes(folder), *_ratios(folder, result)]
    evidence: dict[str, Any] = {"result": result.name, "logs": len(result.scores)}
    evidence |= {"val_bpb_told": _value(claims, "val_bpb"), "val_bpb_of_logs": statistics.fmean(result.bpb)}
    if len(result.bpb) > 1:
        evidence |= {"std_told": _value(claims, "val_bpb_std"), "std_of_logs": statistics.stdev(result.bpb)}
    if result.nats:
        evidence |= {"val_loss_told": _value(claims, "val_loss"), "val_loss_of_logs": statistics.fmean(result.nats)}
        evidence["bytes_per_token"] = statistics.fmean(map(_bytes_per_token, result.scores.values()))
    more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
    why = "; ".join(problems[:6]) + more + ": correct submission.json, or add the right logs"
    return judged(6, not problems, evidence | {"disagreements": len(problems)}, why)


def _value(claims: Claims, name: str) -> float | None:
    number = claims.numbers.get(name)
    return None if number is None else number.value


def _figures(claims: Claims, result: Result) -> Iterator[str]:
    """Means, deviations and the figures of each seed."""
    for name, values in (("val_bpb", result.bpb), ("val_loss", result.nats)):
        number, spread = claims.numbers.get(name), claims.numbers.get(f"{name}_std")
        unit = result.unit(name)
        if number is not None and values:
            of_one = not claims.seeds and any(near(number, value, unit) for value in values)
            if not of_one and not near(number, statistics.fmean(values), unit):
                what = "mean" if len(values) > 1 else "value"
                yield f"{name} is {number.value:g}, the logs' {what} is {statistics.fmean(values):.8g}"
        if spread is not None and len(values) > 1:
            found = (statistics.stdev(values), statistics.pstdev(values))
            if not any(near(spread, one, 2 * unit) for one in found):
                yield f"{name}_std is {spread.value:g}, of the logs {found[0]:.6g}"
    for seed, one in claims.by_seed.items():
        score = result.scores.get(seed)
        pairs = () if score is None else (("val_bpb", score.bpb), ("val_loss", score.nats))
        for name, logged in pairs:
            number = one.numbers.get(name)
            if number is not None and logged is not None and not near(number, logged.value, logged.unit):
                yield f"seed {seed}: {name} is {number.value:g}, in its log {logged.value:.8g}"
    if "val_bpb" not in claims.numbers:
        yield "submission.json tells no val_bpb"


def _seeds(folder: RecordFolder, result: Result) -> Iterator[str]:
    missing = sorted(set(folder.claims.seeds) - set(result.scores))
    if missing:
        yield f"no log has a result of the seeds {missing}"


def _bytes(folder: RecordFolder) -> Iterator[str]:
    """Sizes of submission.json that no log tells."""
    yield from _sizes("", folder.claims, folder.runs, folder)
    for seed, one in folder.claims.by_seed.items():
        yield from _sizes(f"seed {seed}: ", one, [log for log in folder.runs if log.seed == seed], folder)


def _sizes(prefix: str, claims: Claims, logs: Sequence[RunLog], folder: RecordFolder) -> Iterator[str]:
    codes = {size for log in logs for size in log.code_bytes} | {size for size in (folder.code_bytes,) if size}
    models = {log.model_bytes for log in logs if log.model_bytes is not None}
    totals = {log.total_bytes for log in logs if log.total_bytes is not None}
    totals |= {model + code for model in models for code in codes}
    wanted = {"bytes_total": totals, "bytes_model": models, "bytes_code": codes, "bytes_either": totals | models}
    for name, sizes in wanted.items():
        told = claims.count(name)
        if told is not None and sizes and told not in sizes:
            nearest = min(sizes, key=lambda size: abs(size - told))
            shown = "artifact_bytes" if name == "bytes_either" else name
            yield f"{prefix}{shown} is {told:,}, in the logs {nearest:,}"


def _bytes_per_token(score: Score) -> float:
    assert score.nats is not None
    return score.nats.value / score.bpb.value / math.log(2) if score.bpb.value else math.nan


def _ratios(folder: RecordFolder, result: Result) -> Iterator[str]:
    """val_loss / val_bpb is fixed by the validation split's tokens and bytes: one ratio for every run of it."""
    pairs: dict[str, Score] = {}
    for key, score in result.scores.items():
        pairs[f"seed {key}" if isinstance(key, int) else key] = score
    for prefix, claims in [("", folder.claims), *((f" seed {s}", one) for s, one in folder.claims.by_seed.items())]:
        bpb, nats = claims.numbers.get("val_bpb"), claims.numbers.get("val_loss")
        if bpb is not None:
            pairs[f"submission.json{prefix}"] = Score("", bpb, nats, None)
    whole = {name: score for name, score in pairs.items() if score.nats is not None}
    known = SP1024_BYTES / SP1024_TOKENS if {log.tokenizer for log in folder.runs} == {"sp1024"} else None
    if not whole:
        return
    wanted = known or statistics.median(map(_bytes_per_token, whole.values()))
    for name, score in whole.items():
        assert score.nats is not None
        found = _bytes_per_token(score)
        rounding = score.nats.unit / abs(score.nats.value or 1) + score.bpb.unit / abs(score.bpb.value or 1)
        if not abs(found - wanted) <= (rounding + RATIO_SLACK) * wanted:
            of = f"sp1024's validation split has {wanted:.5f}" if known else f"the others have {wanted:.5f}"
            yield f"{name}: val_loss / val_bpb means {found:.5f} bytes per token, {of}"
