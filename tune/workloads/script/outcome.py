"""What became of a run of a script: its score under its constraints, or why it has none."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from signal import Signals

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
_ERROR_LINES, _MOST_LINES = 30, 5000
_RANK = r"(?:\[rank\d+\]:\s?)?"
_ERROR = re.compile(rf"{_RANK}[\w.]*(?:Error|Exception|Interrupt|Exit)\b[:(]?")
_IN_TRACEBACK = re.compile(rf"{_RANK}\s")
"""Begins the lines of a traceback."""
_TORCHRUN = re.compile(r"[WE]\d{4} .*torch/distributed/(?:elastic|run)")
"""Begins torchrun's own account of a failure."""
_ROOT_CAUSE = re.compile(r"Root Cause.*?\bexitcode\s*: (-?\d+)", re.DOTALL)
"""The exit status, negative for a signal, of the process that failed first, in that account."""
_NO_BYTES = "it does not say its bytes"


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
        return Failure(
            kind=FailureKind.ERROR, message=f"its last {name} is of {results.unfinished}, none is of the end"
        )
    if not math.isfinite(score):
        return Failure(kind=FailureKind.DIVERGED, message=f"its {name} is {score}")
    for constraint in settings.constraints:
        if constraint.given and not math.isfinite(results.metrics.get(constraint.name, math.nan)):
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
    notes = [note for note in results.notes if not note.startswith(_NO_BYTES)]
    if cap is not None and size is None:
        notes.append(f"{_NO_BYTES}: not held to {cap}")
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


def judged_again(settings: ScriptSettings, config: Config, outcome: Outcome) -> Outcome | Failure:
    """Returns a stored outcome under the objective and the constraints of now, or why it does not count under them."""
    results = ScriptResults(outcome.metrics, outcome.label, None, {}, outcome.notes)
    failure = failure_of(settings, config, Ended(0, None, 0, ()), results)
    if failure is not None:
        return failure
    kept = {name: getattr(outcome, name) for name in ("seconds", "computed", "cold", "device", "keys", "files")}
    return msgspec.structs.replace(outcome_of(settings, results), **kept)


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
    """Returns the failure of a script that did not end well: the signal that ended it, else the last error it wrote."""
    lines = [line.rstrip() for line in ended.lines[-_MOST_LINES:]]
    root = _ROOT_CAUSE.search("\n".join(lines[-200:]))
    code = int(root[1]) if root else ended.code
    error = _last_error(lines)
    failure = explain(error) if error else Failure(kind=FailureKind.ERROR, message="it wrote no error")
    how = "its end is not known" if code is None else f"exit status {code}"
    if code is not None and code < 0:
        how = f"its last words: {error}" if error else "without a word"
        kind = failure.kind if failure.kind == FailureKind.OUT_OF_MEMORY else FailureKind.KILLED
        failure = Failure(kind=kind, message=f"a process of it was ended by {_signal(-code)}", remedy=failure.remedy)
    return Failure(kind=failure.kind, message=f"{failure.message} ({how})", remedy=failure.remedy or FROM_THE_START)


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_error(lines: Sequence[str]) -> str:
    """Returns the last error that a run wrote, torchrun's own left out.

    Errors that ended a process come before those that were only told, and a cause before what its peers saw of it.
    """
    begin = next((number for number, line in enumerate(lines) if _TORCHRUN.match(line)), len(lines))
    errors = [
        (re.sub(rf"^{_RANK}", "", line).strip(), _IN_TRACEBACK.match(before) is not None)
        for before, line in itertools.pairwise(("", *lines))
        if _ERROR.match(line.strip()) and "ChildFailedError" not in line
    ]
    ending = [error for error, ends in errors if ends] or [error for error, _ in errors]
    causes = [error for error in ending[-20:] if explain(error).kind not in (FailureKind.LOST_PEER, FailureKind.KILLED)]
    if ending:
        return (causes or ending)[-1]
    said = [line.strip() for line in lines[max(0, begin - _ERROR_LINES) : begin] if line.strip()]
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
        value, asked = float(one.replace("_", "")), float(other.replace("_", ""))
    except ValueError:
        # A path may be made absolute, a list printed in another form: only plain numbers and switches contradict.
        return not (_is_plain(one) and _is_plain(other))
    decimals = re.fullmatch(r"[+-]?\d*\.(\d+)", one)  # a number may be printed rounded
    rounding = 0.5 * 10.0 ** -len(decimals[1]) if decimals and value else 0.0
    return math.isclose(value, asked, rel_tol=1e-6, abs_tol=rounding * (1 + 1e-9))


def _is_plain(text: str) -> bool:
    return text in (*_TRUE, *_FALSE) or re.fullmatch(r"[+-]?[\d_.]+(?:e[+-]?\d+)?", text) is not None
