"""Whether a record folder's submission.json says what its logs say (point 6).

Every figure is compared with the logs of the runs that are claimed. A figure agrees when it is the logs' rounded to its
decimals; one that is cut off instead is a remark.
"""

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence

from golf.compliance.points import FAILED, REMARK, Cause, Evidence, PointResult, failed, not_applicable, weighed
from golf.config.rules import RECORD
from golf.submission.record_folder.claimed import ClaimedRun, ClaimedRuns
from golf.submission.record_folder.claims import CORRECT, FILE, Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.numbers import ParsedNumber

_MEAN = "state the mean of all seeds"
_OFF_SECONDS = 0.1
"""By which a time may differ from the log's beside rounding: a loop may read its clock twice."""
_OFF_EVALUATION_SECONDS = 1.0
"""By which an evaluation's may: a script may time it around the loop."""
_CLOSE = 1e-4
"""Relative: a summary of sizes that is as near was made with another count of the code."""


def agreement(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> PointResult:
    """Returns the result on point 6."""
    scored, claims = claimed.scored, folder.claims
    if not claims.fields:
        return not_applicable(6, f"no {FILE} that can be read: nothing to compare", {"logs": len(folder.logs)})
    if not scored:
        curves = [run.curve_bpb.value for run in folder.runs if run.curve_bpb is not None]
        only = f"; only the training curve has {curves[-1]:g}" if curves else ""
        return failed(6, f"no log holds a final val_bpb{only}: add whole logs", {"logs": len(folder.logs)})
    label = " | ".join(dict.fromkeys(score.name for _, _, score in scored))
    evidence: Evidence = {"result": label, "logs": len(scored)}
    broken = [str(result) for result, run, _ in scored if not all(math.isfinite(s.bpb.value) for s in run.scores)]
    if broken:
        return failed(6, f"val_bpb is no number in the log of {', '.join(broken)}", evidence)
    causes = [
        *_missing(claimed, claims, label),
        *_means(claims, claimed, track),
        *(cause for result in claimed.results for cause in _of_seed(result, result.claims)),
        *(_steps_and_times(scored[0][0], claims) if len(claimed.results) == 1 else ()),
        *_mean_steps(claims, claimed),
        *_sizes(folder, claimed),
        *_not_the_last(claimed),
    ]
    evidence |= _figures(claims, claimed)
    return weighed(6, evidence | {"disagreements": sum(cause.level == FAILED for cause in causes)}, causes)


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
        evidence["other_runs"] = [
            f"{run.name}: {run.scores[-1].bpb.value:g} BPB" if run.scores else f"{run.name}: no result"
            for run in claimed.others[:20]
        ]
    return evidence


def _missing(claimed: ClaimedRuns, claims: Claims, label: str) -> Iterator[Cause]:
    """Yields results without a log, and a val_bpb that is missing or no number."""
    for result in claimed.results:
        if result.score is None and result.trained is not None:
            yield Cause(f"{result.trained.name} ends before {label}", "add the whole log, or run the seed again")
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
        if number is not None and values and not number.near(statistics.fmean(values), unit):
            yield _not_the_mean(name, number, values, unit, claimed)
        if spread is not None and len(values) > 1:
            deviations = (statistics.stdev(values), statistics.pstdev(values))
            if not any(spread.near(deviation, 2 * unit) for deviation in deviations):
                level = REMARK if any(spread.cut_from(deviation, 2 * unit) for deviation in deviations) else FAILED
                text = f"{claims.file}: {name}_std is {spread.value:g}, of the logs {deviations[0]:.6g}"
                yield Cause(text, CORRECT, level)
    if claimed.of_one and not claims.seeds:
        yield from _best_of(claims, claimed, track)


def _not_the_mean(name: str, number: ParsedNumber, values: Sequence[float], unit: float, claimed: ClaimedRuns) -> Cause:
    """Returns what a figure is that is not the mean of the logs' values."""
    mean, several, start = statistics.fmean(values), len(values) > 1, f"{FILE}: {name} is"
    run = claimed.results[0].run if len(claimed.results) == 1 else None
    curve = run.curve_bpb if run is not None and name == "val_bpb" else None
    if curve is not None and number.near(curve.value, curve.unit):
        text = f"{start} the last of the training curve ({number.value:g}), before quantisation"
        return Cause(f"{text}; the result is {mean:.8g}", CORRECT)
    same = [result for (result, _, _), value in zip(claimed.scored, values, strict=True) if number.near(value, unit)]
    if several and same:
        whose = f"the best of {len(values)} seeds" if number.near(min(values), unit) else f"that of {same[0]}"
        return Cause(f"{start} {whose} ({number.value:g}), their mean is {mean:.7g}", _MEAN)
    text = f"{start} {number.value:g}, the logs' {'mean' if several else 'value'} is {mean:.8g}"
    if number.cut_from(mean, unit):
        return Cause(text, "round it instead of cutting it off", REMARK)
    return Cause(text, CORRECT)


def _best_of(claims: Claims, claimed: ClaimedRuns, track: str | None) -> Iterator[Cause]:
    """Yields a single run's figures where other seeds of the same configuration have logs too."""
    result, _, own = claimed.scored[0]
    values = [own.bpb.value, *(score.bpb.value for run in claimed.kin if (score := run.score(own.name)) is not None)]
    if len(values) > 1:
        best = min(values) == own.bpb.value
        whose = f"the best of {len(values)} seeds" if best else f"that of {result} alone"
        level = FAILED if best and track == RECORD else REMARK
        yield Cause(f"{claims.file}: val_bpb is {whose}, their mean is {statistics.fmean(values):.7g}", _MEAN, level)


def _of_seed(result: ClaimedRun, claims: Claims) -> Iterator[Cause]:
    """Yields figures of a seed that its own log does not have."""
    if result.score is None:
        return
    for name in ("val_bpb", "val_loss"):
        number, logged = claims.numbers.get(name), result.score.number(name)
        if number is not None and logged is not None and not number.near(logged.value, logged.unit):
            level = REMARK if number.cut_from(logged.value, logged.unit) else FAILED
            yield Cause(f"{result}: {name} is {number.value:g}, in its log {logged.value:.8g}", CORRECT, level)
    yield from _steps_and_times(result, claims)


def _steps_and_times(result: ClaimedRun, claims: Claims) -> Iterator[Cause]:
    """Yields steps, times and tokens of a seed, or of the only run, that its logs do not have."""
    run = result.trained
    steps = [] if run is None or run.steps is None else [run.steps]
    training = [] if run is None or run.train_seconds is None else [run.train_seconds.value]
    slack = _OFF_SECONDS + (run.train_seconds.unit if run is not None and run.train_seconds is not None else 0.0)
    tokens = result.scored.validation_tokens if result.scored is not None else None
    evaluations = [score.seconds for log in result.logs for score in log.scores if score.seconds is not None]
    evaluations += [sum(evaluations)] if len(evaluations) > 1 else []
    evaluations += [log.eval_seconds for log in result.logs if log.eval_seconds is not None]
    for name, logged, scale, off, units in (
        ("steps", steps, 1, 0.0, 0.5001),
        ("train_seconds", training, 1, slack, 0.5001),
        ("train_ms", training, 1000, slack, 0.5001),
        ("val_tokens", [] if tokens is None else [tokens], 1, 0.0, 0.5001),
        ("eval_seconds", evaluations, 1, _OFF_EVALUATION_SECONDS, 1.0),
        ("eval_ms", evaluations, 1000, _OFF_EVALUATION_SECONDS, 1.0),
    ):
        number = claims.numbers.get(name)
        if number is None or not logged:
            continue
        nearest = _nearest(number, [scale * value for value in logged])
        if abs(number.value - nearest) > scale * off + units * number.unit:
            nominal = name == "train_seconds" and number.value % 60 == 0  # the limit, not what it took
            own = result.score.seconds if result.score is not None and logged is evaluations else None
            shown = scale * own if own else nearest
            text = f"{result}: {claims.names[name]} is {number.value:,.10g}, in its log {shown:,.10g}"
            yield Cause(text, CORRECT, REMARK if nominal or name == "val_tokens" else FAILED)


def _nearest(number: ParsedNumber, values: Iterable[float]) -> float:
    return min(values, key=lambda value: abs(number.value - value))


def _mean_steps(claims: Claims, claimed: ClaimedRuns) -> Iterator[Cause]:
    steps = [float(run.steps) for run in claimed.runs if run.steps is not None]
    number = claims.numbers.get("steps_mean")
    if number is not None and len(steps) == len(claimed.results) > 1 and not number.near(statistics.fmean(steps), 1.0):
        text = f"{claims.file}: {claims.names['steps_mean']} is {number.value:,.10g}"
        yield Cause(f"{text}, of the logs {statistics.fmean(steps):,.10g}", CORRECT)


def _not_the_last(claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields a claimed score after which the log has another: labels alone say little."""
    for _, run, score in claimed.scored:
        last = run.scores[-1]
        if abs(last.bpb.value - score.bpb.value) > 1e-4:
            text = f"the claimed score is {score.name}, the last in {run.name} is {last.name} ({last.bpb.value:g})"
            yield Cause(text, "say in README.md which score counts", REMARK)
            return


def _sizes(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields sizes that no log has, and totals that are not those of the largest seed."""
    runs = [run for result in claimed.results for run in result.logs]
    yield from _own_sizes("", folder.claims, [*runs, *claimed.kin], folder)
    for result in claimed.results:
        yield from _own_sizes(f"{result}: ", result.claims, result.logs, folder)
    yield from _largest(folder, claimed)
    totals = [total for run in claimed.runs if (total := folder.total_of(run)) is not None]
    if len(totals) == len(claimed.results) > 1:
        models = [run.model_bytes.value for run in claimed.runs if run.model_bytes is not None] or totals
        yield from _summary("bytes_mean", folder.claims, [statistics.fmean(totals), statistics.fmean(models)])
        yield from _summary("bytes_max", folder.claims, [max(totals), max(models)])


def _summary(name: str, claims: Claims, values: Sequence[float]) -> Iterator[Cause]:
    number = claims.numbers.get(name)
    if number is not None and all(abs(number.value - value) > max(1.0, number.unit) for value in values):
        text = f"{claims.file}: {claims.names[name]} is {number.value:,.0f}, of the logs {values[0]:,.0f}"
        close = any(abs(number.value - value) < _CLOSE * value for value in values)
        yield Cause(text, CORRECT, REMARK if close else FAILED)


def _own_sizes(prefix: str, claims: Claims, runs: Sequence[RunLog], folder: RecordFolder) -> Iterator[Cause]:
    """Yields claimed sizes that none of the runs' logs has; `prefix` names the seed, or is empty for all."""
    models = {run.model_bytes.value for run in runs if run.model_bytes is not None}
    shipped = [size for size in (folder.code_bytes, len(folder.code or b"")) if size]
    codes = {float(size) for size in (*shipped, *(size for run in runs for size in run.code_bytes))}
    totals = {run.total_bytes.value for run in runs if run.total_bytes is not None}
    for run in runs:
        own_codes = {*run.code_bytes, *([folder.code_bytes] if folder.code_bytes else [])}
        totals |= {run.model_bytes.value + code for code in own_codes if run.model_bytes is not None}
    for name, sizes, confused, what in (
        ("bytes_total", totals, models, "the size of the model alone"),
        ("bytes_model", models, totals, "the total"),
        ("bytes_code", codes, (), ""),
        ("bytes_either", totals | models, (), ""),
    ):
        number = claims.numbers.get(name)
        if number is None or not sizes or any(map(number.is_size, sizes)):
            continue
        shown = "artifact_bytes" if name == "bytes_either" else name
        text = f"{prefix or claims.file + ': '}{shown} is {number.value:,.0f}"
        if not prefix and len(runs) > 1 and _is_mean(number, runs, folder):
            rule = f"{claims.file}: {shown} is the mean of the seeds; the rule is for each seed"
            yield Cause(f"{rule}, the largest has {max(sizes):,.0f}", "state the largest")
        elif any(map(number.is_size, confused)):
            yield Cause(f"{text}, {what}", CORRECT)
        else:
            yield Cause(f"{text}, in the logs {_nearest(number, sizes):,.0f}", CORRECT)


def _is_mean(number: ParsedNumber, runs: Sequence[RunLog], folder: RecordFolder) -> bool:
    """Returns whether a size is the mean of the runs' totals, or of their models."""
    totals = [total for run in runs if (total := folder.total_of(run)) is not None]
    models = [run.model_bytes.value for run in runs if run.model_bytes is not None]
    return any(
        len(set(sizes)) > 1 and abs(number.value - statistics.fmean(sizes)) <= max(1.0, number.unit)
        for sizes in (totals, models)
    )


def _largest(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields a total at the top that is that of another seed than the largest."""
    number = folder.claims.numbers.get("bytes_total") or folder.claims.numbers.get("bytes_either")
    totals = {result: total for result in claimed.results if result.run and (total := folder.total_of(result.run))}
    owner = next((result for result, total in totals.items() if number is not None and number.is_size(total)), None)
    if number is None or owner is None or len(totals) < 2 or number.is_size(largest := max(totals.values())):
        return
    words = " ".join(value for value in folder.claims.fields.values() if isinstance(value, str))
    stated = {numeral.replace(",", "") for numeral in re.findall(r"\d[\d,]{6,12}", words)}
    smallest = number.is_size(min(totals.values())) and f"{largest:.0f}" not in stated
    text = f"{folder.claims.file}: bytes_total is that of {'the smallest seed' if smallest else owner}"
    text += f" ({number.value:,.0f}), the largest has {largest:,.0f}"
    yield Cause(text, "state the largest", FAILED if smallest else REMARK)
