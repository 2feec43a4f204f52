"""What became of a run of a script: its score under its constraints, or why it has none."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from golf.scripts.results import ScriptResults
from tune.records.entries import (
    SEED,
    ArtifactSize,
    Config,
    Failure,
    FailureKind,
    Outcome,
    TrialState,
)
from tune.workloads.failures import explain
from tune.workloads.script.process import Ended
from tune.workloads.script.settings import BPB, ENV, ScriptSettings, given_settings

FROM_THE_START = "the script keeps no state, so that the same command runs it again from the start"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "none", "")
_ERROR_LINES = 30


def failure_of(settings: ScriptSettings, config: Config, ended: Ended, results: ScriptResults) -> Failure | None:
    """Returns why a run does not count; None where it does.

    Args:
        settings: of the script.
        config: of the trial.
        ended: how the process ended.
        results: what its output and its files say.
    """
    if ended.stopped is not None:
        kind = FailureKind.DIVERGED if "diverged" in ended.stopped else FailureKind.ERROR
        return Failure(
            kind=kind, message=ended.stopped, remedy=None if kind == FailureKind.DIVERGED else FROM_THE_START
        )
    if ended.code != 0:
        return _crash(ended)
    for reason in _contradictions(settings, config, results):
        return Failure(kind=FailureKind.ERROR, message=reason)
    name = settings.objective.name
    score = results.metrics.get(name)
    if score is None:
        return Failure(
            kind=FailureKind.ERROR,
            message=f"its output shows no {name}",
            remedy=f"say where it stands: --metric '{name}=REGEX' or {name}=json:KEY; or name another --objective",
        )
    if results.unfinished is not None and name in ("val_bpb", "val_loss"):
        return Failure(kind=FailureKind.ERROR, message=f"its last {name} is of {results.unfinished}, none is of the end")
    if not math.isfinite(score):
        return Failure(kind=FailureKind.DIVERGED, message=f"its {name} is {score}")
    for constraint in settings.constraints:
        if constraint.given and constraint.name not in results.metrics:
            return Failure(
                kind=FailureKind.ERROR,
                message=f"its output shows no {constraint.name}, which {constraint} bounds",
                remedy=f"say where it stands: --metric '{constraint.name}=REGEX'",
            )
    return None


def outcome_of(settings: ScriptSettings, results: ScriptResults) -> Outcome:
    """Returns the outcome of a run that counts: done, or over one of its bounds."""
    metrics = {name: value for name, value in results.metrics.items() if math.isfinite(value)}
    size, cap = _size(settings, metrics), settings.cap
    bounded = [one for one in settings.constraints if one.name in metrics and not (size is not None and one is cap)]
    violations = {str(one): excess for one in bounded if (excess := one.excess(metrics[one.name]))}
    reasons = [f"over the cap by {size.over_bytes:,} bytes"] if size is not None and size.over_bytes else []
    reasons += [f"{name} is {metrics[name]:.12g}, not {text}" for text in violations for name in [_name(text)]]
    notes = list(results.notes)
    if cap is not None and size is None:
        notes.append(f"it does not say its bytes: not held to {cap}")
    objective = None if settings.objective.name == BPB else settings.objective
    outcome = Outcome(
        state=TrialState.INFEASIBLE if reasons else TrialState.DONE,
        reason="; ".join(reasons) or None,
        objective=objective,
        label=results.label,
        notes=tuple(notes),
        size=size,
        violations=violations,
        metrics=metrics,
    )
    if reasons:
        return outcome
    return msgspec.structs.replace(outcome, bpb=metrics.get(BPB), nats_per_token=metrics.get("val_loss"))


def _name(constraint: str) -> str:
    return re.split("<=|>=", constraint)[0]


def _size(settings: ScriptSettings, metrics: Mapping[str, float]) -> ArtifactSize | None:
    """Returns the bytes of the artifact against the cap; None where there is no cap or no size."""
    total, cap = metrics.get("artifact_bytes"), settings.cap
    if total is None or cap is None:
        return None
    code = metrics.get("code_bytes", float(settings.files.script_bytes))
    if code > total:
        code = 0.0
    return ArtifactSize(model_bytes=int(total - code), code_bytes=int(code), cap_bytes=int(cap.bound))


def _crash(ended: Ended) -> Failure:
    """Returns the failure of a script that did not end well: the last error that it wrote."""
    error = _last_error(ended.lines)
    failure = explain(error) if error else Failure(kind=FailureKind.ERROR, message="it wrote no error")
    how = "its end is not known" if ended.code is None else f"exit status {ended.code}"
    if ended.code is not None and ended.code < 0:
        how = f"it was ended by signal {-ended.code}"
        if not error:
            failure = Failure(kind=FailureKind.KILLED, message="a process of it was ended from outside, or by memory")
    remedy = failure.remedy or FROM_THE_START
    return Failure(kind=failure.kind, message=f"{failure.message} ({how})", remedy=remedy)


def _last_error(lines: Sequence[str]) -> str:
    """Returns the last error that a run wrote, of the rank that failed first: torchrun's own report is left out."""
    errors = [
        line.strip()
        for line in lines
        if re.match(r"(?:\[rank\d+\]:\s*)?[\w.]*(?:Error|Exception|Interrupt|Exit)\b[:(]?", line.strip())
        and "ChildFailedError" not in line
    ]
    if errors:
        return re.sub(r"^\[rank\d+\]:\s*", "", errors[-1])
    said = [line.strip() for line in lines[-_ERROR_LINES:] if line.strip()]
    return said[-1] if said else ""


def _contradictions(settings: ScriptSettings, config: Config, results: ScriptResults) -> Iterator[str]:
    """Yields where a run says that it is another one than was asked for."""
    seed = config.get(SEED)
    if seed is not None and results.seed is not None and results.seed != seed:
        yield f"its output says seed {results.seed}, asked for was {seed}"
    said = {name.lower(): value for name, value in results.settings.items()}
    for name, value in given_settings(settings, config)[ENV].items():
        printed = said.get(name.lower())
        if printed is not None and not _same(printed, value):
            yield f"its output says {name.lower()}: {printed}, asked for was {value}"


def _same(printed: str, given: str) -> bool:
    """Whether two texts are one value: as numbers, as switches, or letter by letter."""
    one, other = (text.strip().strip("'\"").lower() for text in (printed, given))
    if one == other or (one in _TRUE and other in _TRUE) or (one in _FALSE and other in _FALSE):
        return True
    try:
        return math.isclose(float(one.replace("_", "")), float(other.replace("_", "")), rel_tol=1e-6)
    except ValueError:
        # A path may be made absolute, a list printed in another form: only plain numbers and switches contradict.
        return not (_is_plain(one) and _is_plain(other))


def _is_plain(text: str) -> bool:
    return text in (*_TRUE, *_FALSE) or re.fullmatch(r"[+-]?[\d_.]+(?:e[+-]?\d+)?", text) is not None
