"""Whether the sizes that a submission.json tells are those of the logs."""

import re
import statistics
from collections.abc import Callable, Iterator, Sequence

from golf.compliance.points import FAILED, REMARK, Cause
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.claims import Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.numbers import ParsedNumber
from golf.submission.record_folder.submission_json import CORRECT

_CLOSE = 1e-4
"""Relative: a summary that is as near was made with another count of the code."""


def size_causes(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Sizes that no log tells, and totals that are not those of the largest seed."""
    runs = [run for one in claimed.results for run in one.logs]
    yield from _own_sizes("", folder.claims, [*runs, *claimed.kin], folder)
    for one in claimed.results:
        yield from _own_sizes(f"{one}: ", one.claims, one.logs, folder)
    yield from _largest(folder, claimed)
    totals = [total for run in claimed.runs if (total := total_of(run, folder)) is not None]
    if len(totals) == len(claimed.results) > 1:
        models = [run.model_bytes.value for run in claimed.runs if run.model_bytes is not None] or totals
        yield from _summary("bytes_mean", folder.claims, [statistics.fmean(totals), statistics.fmean(models)])
        yield from _summary("bytes_max", folder.claims, [max(totals), max(models)])


def _summary(name: str, claims: Claims, values: Sequence[float]) -> Iterator[Cause]:
    """A mean or a maximum that is none."""
    number = claims.numbers.get(name)
    if number is not None and all(abs(number.value - value) > max(1.0, number.unit) for value in values):
        text = f"{claims.file}: {claims.name_of(name)} is {number.value:,.0f}, of the logs {values[0]:,.0f}"
        close = any(abs(number.value - value) < _CLOSE * value for value in values)
        yield Cause(text, CORRECT, REMARK if close else FAILED)


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
            yield Cause(f"{prefix or claims.file + ': '}{shown} is {told.value:,.0f}, {what}", CORRECT)
        else:
            nearest = min(sizes, key=lambda size: abs(size - told.value))
            yield Cause(
                f"{prefix or claims.file + ': '}{shown} is {told.value:,.0f}, in the logs {nearest:,.0f}", CORRECT
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


def _is_mean(told: ParsedNumber, runs: Sequence[RunLog], folder: RecordFolder) -> bool:
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


def _numerals(claims: Claims) -> set[str]:
    """Every number of bytes that the words of submission.json tell, as digits."""
    words = " ".join(value for value in claims.fields.values() if isinstance(value, str))
    return {match.replace(",", "") for match in re.findall(r"\d[\d,]{6,12}", words)}


def _largest(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """A total at the top that is that of another seed than the largest."""
    told = folder.claims.numbers.get("bytes_total") or folder.claims.numbers.get("bytes_either")
    totals = {one: total for one in claimed.results if one.run is not None and (total := total_of(one.run, folder))}
    if told is None or len(totals) < 2 or not any(told.is_size(total) for total in totals.values()):
        return
    largest = max(totals.values())
    if told.is_size(largest):
        return
    smallest = told.is_size(min(totals.values())) and f"{largest:.0f}" not in _numerals(folder.claims)
    whose = (
        "of the smallest seed" if smallest else f"of {next(one for one, size in totals.items() if told.is_size(size))}"
    )
    text = f"{folder.claims.file}: bytes_total is that {whose} ({told.value:,.0f}), the largest has {largest:,.0f}"
    yield Cause(text, "tell the largest", FAILED if smallest else REMARK)
