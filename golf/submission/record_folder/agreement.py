"""Whether a record folder's submission.json says what its logs say (point 6).

Every figure is compared with the logs of the runs that are claimed. A figure agrees when it is the logs' rounded to its
decimals; one that is cut off instead is a remark.
"""

import math
import statistics
from collections.abc import Iterator, Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, failed, not_applicable, weighed
from golf.config.rules import RECORD
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.claims import CORRECT, FILE, Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.numbers import ParsedNumber
from golf.submission.record_folder.size_claims import size_causes
from golf.submission.record_folder.time_claims import mean_causes, time_causes

_MEAN = "state the mean of all seeds"


def agreement(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 6."""
    scored, claims = claimed.scored, folder.claims
    if not claims.fields:
        return not_applicable(6, f"no {FILE} that can be read: nothing to compare", {"logs": len(folder.logs)})
    if not scored:
        curves = [run.curve_bpb.value for run in folder.runs if run.curve_bpb is not None]
        only = f"; only the training curve has {curves[-1]:g}" if curves else ""
        return failed(6, f"no log holds a final val_bpb{only}: add whole logs", {"logs": len(folder.logs)})
    finite = {str(result): all(math.isfinite(score.bpb.value) for score in run.scores) for result, run, _ in scored}
    broken = [name for name, is_finite in finite.items() if not is_finite]
    evidence = {"result": _names(claimed), "logs": len(scored)}
    if broken:
        return failed(6, f"val_bpb is no number in the log of {', '.join(broken)}", evidence)
    causes = [
        *_missing(claimed, claims),
        *_means(claims, claimed, track),
        *_of_seeds(claimed),
        *(time_causes(scored[0][0], claims) if len(claimed.results) == 1 else ()),
        *mean_causes(claims, claimed),
        *size_causes(folder, claimed),
        *_not_the_last(claimed),
    ]
    figures = _figures(claims, claimed) | {"disagreements": sum(cause.level == FAILED for cause in causes)}
    return weighed(6, evidence | figures, causes)


def _figures(claims: Claims, claimed: ClaimedRuns) -> Evidence:
    """Returns the claimed figures beside those of the logs, and which logs these are."""
    bpb, nats = claimed.bpb, claimed.nats
    evidence: Evidence = {"val_bpb_claimed": claims.value("val_bpb"), "val_bpb_of_logs": statistics.fmean(bpb)}
    if len(bpb) > 1:
        evidence |= {"std_claimed": claims.value("val_bpb_std"), "std_of_logs": statistics.stdev(bpb)}
    if nats:
        evidence |= {"val_loss_claimed": claims.value("val_loss"), "val_loss_of_logs": statistics.fmean(nats)}
        evidence["bytes_per_token"] = statistics.fmean(nats) / statistics.fmean(bpb) / math.log(2)
    evidence["read_from"] = {str(result.key): run.name for result, run, _ in claimed.scored}
    if claimed.others:
        evidence["other_runs"] = [_with_score(run) for run in claimed.others][:20]
    return evidence


def _names(claimed: ClaimedRuns) -> str:
    """Returns the label of the claimed score; several where the logs' differ."""
    return " | ".join(dict.fromkeys(score.name for _, _, score in claimed.scored))


def _with_score(run: RunLog) -> str:
    return f"{run.name}: {run.scores[-1].bpb.value:g} BPB" if run.scores else f"{run.name}: no result"


def _missing(claimed: ClaimedRuns, claims: Claims) -> Iterator[Cause]:
    """Yields results without a log, and a val_bpb that is missing or no number."""
    for result in claimed.results:
        if result.score is None and result.trained is not None:
            yield Cause(
                f"{result.trained.name} ends before {_names(claimed)}", "add the whole log, or run the seed again"
            )
    missing = [result.key for result in claimed.results if result.run is None]
    if missing:
        yield Cause(f"no log has a result of the seeds {missing}", "add the logs of these runs")
    if "val_bpb" not in claims.numbers:
        value = claims.fields.get("val_bpb")
        what = " has no val_bpb" if value is None else f": val_bpb is no number ({value!r:.60})"
        yield Cause(claims.file + what, CORRECT)


def _means(claims: Claims, claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """Yields figures at the top that are not the mean or deviation of the logs."""
    for name, values in (("val_bpb", claimed.bpb), ("val_loss", claimed.nats)):
        number, spread, unit = claims.numbers.get(name), claims.numbers.get(f"{name}_std"), claimed.unit(name)
        if number is not None and values:
            yield from _mean(name, number, values, unit, claimed)
        if spread is not None and len(values) > 1:
            deviations = (statistics.stdev(values), statistics.pstdev(values))
            if not any(spread.near(deviation, 2 * unit) for deviation in deviations):
                level = REMARK if any(spread.cut_from(deviation, 2 * unit) for deviation in deviations) else FAILED
                text = f"{claims.file}: {name}_std is {spread.value:g}, of the logs {deviations[0]:.6g}"
                yield Cause(text, CORRECT, level)
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
    run = claimed.results[0].run if len(claimed.results) == 1 else None
    curve = run.curve_bpb if run is not None and name == "val_bpb" else None
    if curve is not None and number.near(curve.value, curve.unit):
        text = f"{FILE}: val_bpb is the last of the training curve ({number.value:g}), before quantisation"
        yield Cause(f"{text}; the result is {mean:.8g}", CORRECT)
        return
    same = [result for (result, _, _), value in zip(claimed.scored, values, strict=True) if number.near(value, unit)]
    if len(values) > 1 and same:
        best = number.near(min(values), unit)
        whose = f"the best of {len(values)} seeds" if best else f"that of {same[0]}"
        yield Cause(f"{FILE}: {name} is {whose} ({number.value:g}), their mean is {mean:.7g}", _MEAN)
    elif number.cut_from(mean, unit):
        yield Cause(text, "round it instead of cutting it off", REMARK)
    else:
        yield Cause(text, CORRECT)


def _best_of(claims: Claims, claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """Yields a single run's figures where other seeds of the same configuration have logs too."""
    result, _, own = claimed.scored[0]
    scores = [score for run in claimed.kin if (score := run.score(own.name)) is not None]
    if not scores:
        return
    values = [score.bpb.value for score in (own, *scores)]
    best = min(values) == own.bpb.value
    whose = f"the best of {len(values)} seeds" if best else f"that of {result} alone"
    level = FAILED if best and track == RECORD else REMARK
    yield Cause(f"{claims.file}: val_bpb is {whose}, their mean is {statistics.fmean(values):.7g}", _MEAN, level)


def _of_seeds(claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields figures of a seed that its own log does not have."""
    for result, _, score in claimed.scored:
        for name, logged in (("val_bpb", score.bpb), ("val_loss", score.nats)):
            number = result.claims.numbers.get(name)
            if number is not None and logged is not None and not number.near(logged.value, logged.unit):
                level = REMARK if number.cut_from(logged.value, logged.unit) else FAILED
                yield Cause(f"{result}: {name} is {number.value:g}, in its log {logged.value:.8g}", CORRECT, level)
        yield from time_causes(result, result.claims)


def _not_the_last(claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields a claimed score after which the log has another: labels alone say little."""
    for _, run, score in claimed.scored:
        last = run.scores[-1]
        if abs(last.bpb.value - score.bpb.value) > 1e-4:
            text = f"the claimed score is {score.name}, the last in {run.name} is {last.name} ({last.bpb.value:g})"
            yield Cause(text, "say in README.md which score counts", REMARK)
            return
