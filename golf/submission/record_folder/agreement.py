"""Whether a record folder's submission.json says what its logs say (point 6).

Every figure is compared with the logs of the runs that are claimed. A figure agrees when it is the logs' rounded to its
decimals; one that is cut off instead is a remark.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from golf.compliance.points import FAILED, REMARK, Cause, PointResult, failed, not_applicable, weighed
from golf.config.rules import RECORD
from golf.submission.record_folder.claimed import ClaimedRun, ClaimedRuns
from golf.submission.record_folder.claims import FILE, Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.numbers import ParsedNumber
from golf.submission.record_folder.size_claims import size_causes
from golf.submission.record_folder.submission_json import CORRECT
from golf.submission.record_folder.time_claims import mean_causes, time_causes

_MEAN = "tell the mean of all seeds"


def agreement(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Point 6."""
    scored = claimed.scored
    if not folder.claims.fields:
        return not_applicable(6, f"no {FILE} that can be read: nothing to compare", {"logs": len(folder.logs)})
    if not scored:
        curves = [run.curve_bpb.value for run in folder.runs if run.curve_bpb is not None]
        only = f"; only the training curve has {curves[-1]:g}" if curves else ""
        return failed(6, f"no log holds a final val_bpb{only}: add whole logs", {"logs": len(folder.logs)})
    evidence: dict[str, Any] = {"result": _names(scored), "logs": len(scored)}
    broken = [
        str(one)
        for one in scored
        if one.scored is not None and not all(math.isfinite(score.bpb.value) for score in one.scored.scores)
    ]
    if broken:
        return failed(6, f"val_bpb is no number in the log of {', '.join(broken)}", evidence)
    claims = folder.claims
    causes = [
        *_missing(claimed, claims),
        *_means(claims, claimed, track),
        *_of_seeds(claimed),
        *(time_causes(scored[0], claims) if len(claimed.results) == 1 else ()),
        *mean_causes(claims, claimed),
        *size_causes(folder, claimed),
        *_not_the_last(claimed),
    ]
    evidence |= {"val_bpb_told": _value(claims, "val_bpb"), "val_bpb_of_logs": statistics.fmean(claimed.bpb)}
    if len(claimed.bpb) > 1:
        evidence |= {"std_told": _value(claims, "val_bpb_std"), "std_of_logs": statistics.stdev(claimed.bpb)}
    if claimed.nats:
        evidence |= {"val_loss_told": _value(claims, "val_loss"), "val_loss_of_logs": statistics.fmean(claimed.nats)}
        evidence["bytes_per_token"] = (
            statistics.fmean(claimed.nats) / statistics.fmean(claimed.bpb or [1]) / math.log(2)
        )
    evidence |= {"read_from": {str(one.key): one.scored.name for one in scored if one.scored is not None}}
    evidence |= {"other_runs": [_told_run(run) for run in claimed.others][:20]} if claimed.others else {}
    return weighed(6, evidence | {"disagreements": sum(cause.level == FAILED for cause in causes)}, causes)


def _names(scored: Sequence[ClaimedRun]) -> str:
    """The label of the claimed score; several where the logs' differ."""
    return " | ".join(dict.fromkeys(one.score.name for one in scored if one.score is not None))


def _told_run(run: RunLog) -> str:
    return f"{run.name}: {run.scores[-1].bpb.value:g} BPB" if run.scores else f"{run.name}: no result"


def _value(claims: Claims, name: str) -> float | None:
    number = claims.numbers.get(name)
    return None if number is None else number.value


def _missing(claimed: ClaimedRuns, claims: Claims) -> Iterator[Cause]:
    label = _names(claimed.scored)
    for one in claimed.results:
        if one.score is None and one.trained is not None:
            yield Cause(f"{one.trained.name} ends before {label}", "add the whole log, or run the seed again")
    missing = [one.key for one in claimed.results if one.run is None]
    if missing:
        yield Cause(f"no log has a result of the seeds {missing}", "add the logs of these runs")
    if "val_bpb" not in claims.numbers:
        value = claims.fields.get("val_bpb")
        what = (
            f"{claims.file} tells no val_bpb"
            if value is None
            else f"{claims.file}: val_bpb is no number ({value!r:.60})"
        )
        yield Cause(what, CORRECT)


def _means(claims: Claims, claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """The figures at the top against the logs of all seeds."""
    for name, values in (("val_bpb", claimed.bpb), ("val_loss", claimed.nats)):
        number, spread, unit = claims.numbers.get(name), claims.numbers.get(f"{name}_std"), claimed.unit(name)
        if number is not None and values:
            yield from _mean(name, number, values, unit, claimed)
        if spread is not None and len(values) > 1:
            found = (statistics.stdev(values), statistics.pstdev(values))
            if not any(spread.near(one, 2 * unit) for one in found):
                level = REMARK if any(spread.cut_from(one, 2 * unit) for one in found) else FAILED
                yield Cause(
                    f"{claims.file}: {name}_std is {spread.value:g}, of the logs {found[0]:.6g}", CORRECT, level
                )
    if claimed.of_one and not claims.seeds:
        yield from _best_of(claims, claimed, track)


def _mean(
    name: str, number: ParsedNumber, values: Sequence[float], unit: float, claimed: ClaimedRuns
) -> Iterator[Cause]:
    mean = statistics.fmean(values)
    if number.near(mean, unit):
        return
    what = "mean" if len(values) > 1 else "value"
    text = f"{FILE}: {name} is {number.value:g}, the logs' {what} is {mean:.8g}"
    curve = claimed.results[0].run.curve_bpb if len(claimed.results) == 1 and claimed.results[0].run else None
    if name == "val_bpb" and curve is not None and number.near(curve.value, curve.unit):
        text = f"{FILE}: val_bpb is the last of the training curve ({number.value:g}), before quantisation"
        yield Cause(f"{text}; the result is {mean:.8g}", CORRECT)
        return
    same = [one for one, value in zip(claimed.scored, values, strict=True) if number.near(value, unit)]
    if len(values) > 1 and same:
        best = number.near(min(values), unit)
        whose = f"the best of {len(values)} seeds" if best else f"that of {same[0]}"
        yield Cause(f"{FILE}: {name} is {whose} ({number.value:g}), their mean is {mean:.7g}", _MEAN)
    elif number.cut_from(mean, unit):
        yield Cause(text, "round it instead of cutting it off", REMARK)
    else:
        yield Cause(text, CORRECT)


def _best_of(claims: Claims, claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """A single run's figures where other seeds of the same configuration have logs too."""
    one = claimed.results[0]
    assert one.score is not None, "a result of one run has its score"
    scores = [score for run in claimed.kin if (score := run.score(one.score.name)) is not None]
    if not scores:
        return
    values = [one.score.bpb.value, *(score.bpb.value for score in scores)]
    best = min(values) == one.score.bpb.value
    whose = f"the best of {len(values)} seeds" if best else f"that of {one} alone"
    level = FAILED if best and track == RECORD else REMARK
    yield Cause(f"{claims.file}: val_bpb is {whose}, their mean is {statistics.fmean(values):.7g}", _MEAN, level)


def _of_seeds(claimed: ClaimedRuns) -> Iterator[Cause]:
    """The figures of each seed against its own log."""
    for one in claimed.results:
        if one.score is None:
            continue
        for name, logged in (("val_bpb", one.score.bpb), ("val_loss", one.score.nats)):
            number = one.claims.numbers.get(name)
            if number is None or logged is None or number.near(logged.value, logged.unit):
                continue
            level = REMARK if number.cut_from(logged.value, logged.unit) else FAILED
            yield Cause(f"{one}: {name} is {number.value:g}, in its log {logged.value:.8g}", CORRECT, level)
        yield from time_causes(one, one.claims)


def _not_the_last(claimed: ClaimedRuns) -> Iterator[Cause]:
    """A claimed score after which the log has another: told, for labels say little."""
    later = [
        one
        for one in claimed.scored
        if one.scored is not None
        and one.score is not None
        and abs(one.scored.scores[-1].bpb.value - one.score.bpb.value) > 1e-4
    ]
    if later and later[0].scored is not None and later[0].score is not None:
        log, last = later[0].scored.name, later[0].scored.scores[-1]
        text = f"the claimed score is {later[0].score.name}, the last in {log} is {last.name} ({last.bpb.value:g})"
        yield Cause(text, "say in README.md which score counts", REMARK)
