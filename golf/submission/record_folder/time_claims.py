"""Whether the steps, times and tokens in a submission.json are those of the logs."""

import statistics
from collections.abc import Iterator

from golf.compliance.points import FAILED, REMARK, Cause
from golf.submission.record_folder.claimed import ClaimedRun, ClaimedRuns
from golf.submission.record_folder.claims import CORRECT, Claims

_OFF_SECONDS = 0.1
"""By which a time may differ from the log's beside rounding: a loop may read its clock twice."""
_OFF_EVALUATION_SECONDS = 1.0
"""By which an evaluation's may: a script may time it around the loop."""


def time_causes(result: ClaimedRun, claims: Claims) -> Iterator[Cause]:
    """Yields steps, times and tokens of a seed, or of the only run, that its logs do not have."""
    yield from _training(result, claims)
    times = _evaluation_times(result)
    for name, scale in (("eval_seconds", 1.0), ("eval_ms", 1000.0)):
        number = claims.numbers.get(name)
        if number is None or not times:
            continue
        slack = _OFF_EVALUATION_SECONDS * scale + number.unit
        if all(abs(number.value - scale * seconds) > slack for seconds in times):
            own = result.score.seconds if result.score is not None else None
            nearest = own or min(times, key=lambda seconds: abs(number.value - scale * seconds))
            text = f"{result}: {claims.names[name]} is {number.value:,.10g}, in its log {scale * nearest:,.10g}"
            yield Cause(text, CORRECT)


def _evaluation_times(result: ClaimedRun) -> list[float]:
    """Returns every time of an evaluation in the logs of a result, and their sum."""
    times = [score.seconds for run in result.logs for score in run.scores if score.seconds is not None]
    totals = [run.eval_seconds for run in result.logs if run.eval_seconds is not None]
    return [*times, *totals, *([sum(times)] if len(times) > 1 else [])]


def _training(result: ClaimedRun, claims: Claims) -> Iterator[Cause]:
    """Yields steps and seconds of the training, and tokens of the validation, that the log does not have."""
    run = result.trained
    seconds = run.train_seconds if run is not None else None
    slack = _OFF_SECONDS + (0.0 if seconds is None else seconds.unit)
    figures = [
        ("steps", None if run is None else run.steps, 0.0, FAILED),
        ("train_seconds", None if seconds is None else seconds.value, slack, FAILED),
        ("train_ms", None if seconds is None else 1000 * seconds.value, 1000 * slack, FAILED),
        ("val_tokens", None if result.scored is None else result.scored.validation_tokens, 0.0, REMARK),
    ]
    for name, logged, tolerance, level in figures:
        number = claims.numbers.get(name)
        if number is None or logged is None or abs(number.value - logged) <= tolerance + 0.5001 * number.unit:
            continue
        nominal = name == "train_seconds" and number.value % 60 == 0  # the limit, not what it took
        text = f"{result}: {claims.names[name]} is {number.value:,.10g}, in its log {logged:,.10g}"
        yield Cause(text, CORRECT, REMARK if nominal else level)


def mean_causes(claims: Claims, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields a mean of the steps that is not the logs'."""
    steps = [float(run.steps) for run in claimed.runs if run.steps is not None]
    number = claims.numbers.get("steps_mean")
    if number is not None and len(steps) == len(claimed.results) > 1 and not number.near(statistics.fmean(steps), 1.0):
        text = f"{claims.file}: {claims.names['steps_mean']} is {number.value:,.10g}"
        yield Cause(f"{text}, of the logs {statistics.fmean(steps):,.10g}", CORRECT)
