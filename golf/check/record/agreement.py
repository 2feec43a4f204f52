"""Whether a record folder's submission.json says what its logs say (point 6).

Every figure is compared with the logs of the runs that are claimed. A figure agrees when it is the logs' rounded to its
decimals; one that is cut off instead is a remark.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from golf.check.points import FAILED, NOT_APPLICABLE, REMARK, Cause, Finding, weighed
from golf.check.record.claimed import ClaimedRun, ClaimedRuns
from golf.check.record.claims import FILE, Claims
from golf.check.record.contents import RecordFolder
from golf.check.record.logs import RunLog
from golf.check.record.numbers import Told
from golf.rules import RECORD

_CORRECT = f"correct {FILE}, or add the right logs"
_MEAN = "tell the mean of all seeds"
_OFF_SECONDS = 0.1
"""By which a time in submission.json may differ from the log's beside rounding: a loop may read its clock twice."""


def agreement(folder: RecordFolder, claimed: ClaimedRuns, track: str | None) -> Finding:
    """Point 6."""
    scored = claimed.scored
    if not folder.claims.fields:
        return Finding(6, NOT_APPLICABLE, {"logs": len(folder.logs)}, f"no {FILE} that can be read: nothing to compare")
    if not scored:
        curves = [run.curve_bpb.value for run in folder.runs if run.curve_bpb is not None]
        only = f"; only the training curve has {curves[-1]:g}" if curves else ""
        return Finding(6, FAILED, {"logs": len(folder.logs)}, f"no log holds a final val_bpb{only}: add whole logs")
    evidence: dict[str, Any] = {"result": _names(scored), "logs": len(scored)}
    broken = [
        str(one)
        for one in scored
        if one.scored is not None and not all(math.isfinite(score.bpb.value) for score in one.scored.scores)
    ]
    if broken:
        return Finding(6, FAILED, evidence, f"val_bpb is no number in the log of {', '.join(broken)}")
    claims = folder.claims
    causes = [
        *_missing(claimed, claims),
        *_means(claims, claimed, track),
        *_of_seeds(claimed),
        *(_training_figures(scored[0], claims) if len(claimed.results) == 1 else ()),
        *_sizes(folder, claimed),
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
        yield Cause(what, _CORRECT)


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
                    f"{claims.file}: {name}_std is {spread.value:g}, of the logs {found[0]:.6g}", _CORRECT, level
                )
    if claimed.of_one and not claims.seeds:
        yield from _best_of(claims, claimed, track)


def _mean(name: str, number: Told, values: Sequence[float], unit: float, claimed: ClaimedRuns) -> Iterator[Cause]:
    mean = statistics.fmean(values)
    if number.near(mean, unit):
        return
    what = "mean" if len(values) > 1 else "value"
    text = f"{FILE}: {name} is {number.value:g}, the logs' {what} is {mean:.8g}"
    curve = claimed.results[0].run.curve_bpb if len(claimed.results) == 1 and claimed.results[0].run else None
    if name == "val_bpb" and curve is not None and number.near(curve.value, curve.unit):
        text = f"{FILE}: val_bpb is the last of the training curve ({number.value:g}), before quantisation"
        yield Cause(f"{text}; the result is {mean:.8g}", _CORRECT)
        return
    same = [one for one, value in zip(claimed.scored, values, strict=True) if number.near(value, unit)]
    if len(values) > 1 and same:
        best = number.near(min(values), unit)
        whose = f"the best of {len(values)} seeds" if best else f"that of {same[0]}"
        yield Cause(f"{FILE}: {name} is {whose} ({number.value:g}), their mean is {mean:.7g}", _MEAN)
    elif number.cut_from(mean, unit):
        yield Cause(text, "round it instead of cutting it off", REMARK)
    else:
        yield Cause(text, _CORRECT)


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
            yield Cause(f"{one}: {name} is {number.value:g}, in its log {logged.value:.8g}", _CORRECT, level)
        yield from _training_figures(one, one.claims)


def _training_figures(one: ClaimedRun, claims: Claims) -> Iterator[Cause]:
    """Steps, times and tokens of a seed, or of the only run."""
    run = one.trained
    figures: list[tuple[str, float | None, str]] = []
    if run is not None:
        seconds = run.train_seconds.value if run.train_seconds is not None else None
        figures += [("steps", run.steps, FAILED), ("train_seconds", seconds, FAILED)]
        figures += [("train_ms", None if seconds is None else 1000 * seconds, FAILED)]
    if one.scored is not None:
        figures += [("val_tokens", one.scored.validation_tokens, REMARK)]
    for name, logged, level in figures:
        number = claims.numbers.get(name)
        if number is None or logged is None:
            continue
        slack = {"train_seconds": _OFF_SECONDS, "train_ms": 1000 * _OFF_SECONDS}.get(name, 0.0)
        if name.startswith("train") and run is not None and run.train_seconds is not None:
            slack += run.train_seconds.unit * (1000 if name == "train_ms" else 1)
        if abs(number.value - logged) > slack + 0.5001 * max(number.unit, 1.0 if name == "train_seconds" else 0.0):
            nominal = name == "train_seconds" and number.value % 60 == 0  # the limit, not what it took
            text = f"{one}: {claims.name_of(name)} is {number.value:,.10g}, in its log {logged:,.10g}"
            yield Cause(text, _CORRECT, REMARK if nominal else level)


def _sizes(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Sizes that no log tells, and totals that are not those of the largest seed."""
    runs = [run for one in claimed.results for run in one.logs]
    yield from _own_sizes("", folder.claims, [*runs, *claimed.kin], folder)
    for one in claimed.results:
        yield from _own_sizes(f"{one}: ", one.claims, one.logs, folder)
    yield from _largest(folder, claimed)


def _own_sizes(prefix: str, claims: Claims, runs: Sequence[RunLog], folder: RecordFolder) -> Iterator[Cause]:
    models = {run.model_bytes.value for run in runs if run.model_bytes is not None}
    codes = {float(size) for run in runs for size in run.code_bytes} | (
        {float(folder.code_bytes)} if folder.code_bytes else set()
    )
    codes |= {float(len(folder.code))} if folder.code else set()
    totals = {total for run in runs for total in totals_of(run, folder)}
    kinds = {
        "bytes_total": (totals, models, "the size of the model alone"),
        "bytes_model": (models, totals, "the total"),
        "bytes_code": (codes, set[float](), ""),
        "bytes_either": (totals | models, set[float](), ""),
    }
    for name, (sizes, confused, what) in kinds.items():
        told = claims.numbers.get(name)
        if told is None or not sizes or any(told.is_size(size) for size in sizes):
            continue
        shown = "artifact_bytes" if name == "bytes_either" else name
        if not prefix and len(runs) > 1 and _is_mean(told, runs, folder):
            largest = max(sizes)
            text = f"{claims.file}: {shown} is the mean of the seeds; the rule is for each seed"
            yield Cause(f"{text}, the largest has {largest:,.0f}", "tell the largest")
        elif any(told.is_size(size) for size in confused):
            yield Cause(f"{prefix or claims.file + ': '}{shown} is {told.value:,.0f}, {what}", _CORRECT)
        else:
            nearest = min(sizes, key=lambda size: abs(size - told.value))
            yield Cause(
                f"{prefix or claims.file + ': '}{shown} is {told.value:,.0f}, in the logs {nearest:,.0f}", _CORRECT
            )


def totals_of(run: RunLog, folder: RecordFolder) -> set[float]:
    """Totals that a log tells, or that its model makes with a size of the code that it or the folder has."""
    found = set() if run.total_bytes is None else {run.total_bytes.value}
    if run.model_bytes is not None:
        codes = {*run.code_bytes, *([folder.code_bytes] if folder.code_bytes else [])}
        found |= {run.model_bytes.value + code for code in codes}
    return found


def total_of(run: RunLog, folder: RecordFolder) -> float | None:
    """The total that a log tells, or what its model makes with its code."""
    if run.total_bytes is not None:
        return run.total_bytes.value
    if run.model_bytes is None:
        return None
    code = run.packed_code_bytes or (run.code_bytes[-1] if run.code_bytes else folder.code_bytes)
    return None if code is None else run.model_bytes.value + code


def _is_mean(told: Told, runs: Sequence[RunLog], folder: RecordFolder) -> bool:
    """Whether a size is the mean of the runs' totals, or of their models."""
    measures: tuple[Callable[[RunLog], float | None], ...] = (
        lambda run: total_of(run, folder),
        lambda run: None if run.model_bytes is None else run.model_bytes.value,
    )
    for measure in measures:
        sizes = [size for run in runs if (size := measure(run)) is not None]
        if len(set(sizes)) > 1 and abs(told.value - statistics.fmean(sizes)) <= max(1.0, told.unit):
            return True
    return False


def _largest(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """A total at the top that is that of another seed than the largest."""
    told = folder.claims.numbers.get("bytes_total") or folder.claims.numbers.get("bytes_either")
    totals = {one: total for one in claimed.results if one.run is not None and (total := total_of(one.run, folder))}
    if told is None or len(totals) < 2 or not any(told.is_size(total) for total in totals.values()):
        return
    largest = max(totals.values())
    if told.is_size(largest):
        return
    smallest = told.is_size(min(totals.values()))
    whose = (
        "of the smallest seed" if smallest else f"of {next(one for one, size in totals.items() if told.is_size(size))}"
    )
    text = f"{folder.claims.file}: bytes_total is that {whose} ({told.value:,.0f}), the largest has {largest:,.0f}"
    yield Cause(text, "tell the largest", FAILED if smallest else REMARK)


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
