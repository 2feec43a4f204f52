"""Whether the sizes in a submission.json are those of the logs."""

import re
import statistics
from collections.abc import Iterator, Sequence

from golf.compliance.points import FAILED, REMARK, Cause
from golf.submission.record_folder.claimed import ClaimedRuns
from golf.submission.record_folder.claims import CORRECT, Claims
from golf.submission.record_folder.contents import RecordFolder
from golf.submission.record_folder.logs import RunLog
from golf.submission.record_folder.numbers import ParsedNumber

_CLOSE = 1e-4
"""Relative: a summary that is as near was made with another count of the code."""


def size_causes(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields sizes that no log has, and totals that are not those of the largest seed."""
    runs = [run for result in claimed.results for run in result.logs]
    yield from _own_sizes("", folder.claims, [*runs, *claimed.kin], folder)
    for result in claimed.results:
        yield from _own_sizes(f"{result}: ", result.claims, result.logs, folder)
    yield from _largest(folder, claimed)
    totals = [total for run in claimed.runs if (total := total_of(run, folder)) is not None]
    if len(totals) == len(claimed.results) > 1:
        models = [run.model_bytes.value for run in claimed.runs if run.model_bytes is not None] or totals
        yield from _summary("bytes_mean", folder.claims, [statistics.fmean(totals), statistics.fmean(models)])
        yield from _summary("bytes_max", folder.claims, [max(totals), max(models)])


def _summary(name: str, claims: Claims, values: Sequence[float]) -> Iterator[Cause]:
    """Yields a mean or a maximum that is none of the values."""
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
    totals = {total for run in runs for total in _totals_of(run, folder)}
    kinds = {
        "bytes_total": (totals, models, "the size of the model alone"),
        "bytes_model": (models, totals, "the total"),
        "bytes_code": (codes, set[float](), ""),
        "bytes_either": (totals | models, set[float](), ""),
    }
    for name, (sizes, confused, what) in kinds.items():
        number = claims.numbers.get(name)
        if number is None or not sizes or any(number.is_size(size) for size in sizes):
            continue
        shown = "artifact_bytes" if name == "bytes_either" else name
        text = f"{prefix or claims.file + ': '}{shown} is {number.value:,.0f}"
        if not prefix and len(runs) > 1 and _is_mean(number, runs, folder):
            rule = f"{claims.file}: {shown} is the mean of the seeds; the rule is for each seed"
            yield Cause(f"{rule}, the largest has {max(sizes):,.0f}", "state the largest")
        elif any(number.is_size(size) for size in confused):
            yield Cause(f"{text}, {what}", CORRECT)
        else:
            nearest = min(sizes, key=lambda size: abs(size - number.value))
            yield Cause(f"{text}, in the logs {nearest:,.0f}", CORRECT)


def _totals_of(run: RunLog, folder: RecordFolder) -> set[float]:
    """Returns the total in a log, and what its model makes with each size of the code that it or the folder has."""
    totals = set() if run.total_bytes is None else {run.total_bytes.value}
    if run.model_bytes is not None:
        codes = {*run.code_bytes, *([folder.code_bytes] if folder.code_bytes else [])}
        totals |= {run.model_bytes.value + code for code in codes}
    return totals


def total_of(run: RunLog, folder: RecordFolder) -> float | None:
    """Returns the total in a log, or what its model makes with its code."""
    if run.total_bytes is not None:
        return run.total_bytes.value
    if run.model_bytes is None:
        return None
    code = run.packed_code_bytes or (run.code_bytes[-1] if run.code_bytes else folder.code_bytes)
    return None if code is None else run.model_bytes.value + code


def _is_mean(number: ParsedNumber, runs: Sequence[RunLog], folder: RecordFolder) -> bool:
    """Returns whether a size is the mean of the runs' totals, or of their models."""
    totals = [total for run in runs if (total := total_of(run, folder)) is not None]
    models = [run.model_bytes.value for run in runs if run.model_bytes is not None]
    return any(
        len(set(sizes)) > 1 and abs(number.value - statistics.fmean(sizes)) <= max(1.0, number.unit)
        for sizes in (totals, models)
    )


def _numerals(claims: Claims) -> set[str]:
    """Returns every number of bytes in the texts of submission.json, as digits."""
    words = " ".join(value for value in claims.fields.values() if isinstance(value, str))
    return {match.replace(",", "") for match in re.findall(r"\d[\d,]{6,12}", words)}


def _largest(folder: RecordFolder, claimed: ClaimedRuns) -> Iterator[Cause]:
    """Yields a total at the top that is that of another seed than the largest."""
    number = folder.claims.numbers.get("bytes_total") or folder.claims.numbers.get("bytes_either")
    totals = {result: total for result in claimed.results if result.run and (total := total_of(result.run, folder))}
    if number is None or len(totals) < 2 or not any(number.is_size(total) for total in totals.values()):
        return
    largest = max(totals.values())
    if number.is_size(largest):
        return
    smallest = number.is_size(min(totals.values())) and f"{largest:.0f}" not in _numerals(folder.claims)
    owner = next(result for result, total in totals.items() if number.is_size(total))
    whose = "the smallest seed" if smallest else owner
    text = f"{folder.claims.file}: bytes_total is that of {whose} ({number.value:,.0f}), the largest has {largest:,.0f}"
    yield Cause(text, "state the largest", FAILED if smallest else REMARK)
