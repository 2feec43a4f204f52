"""A sweep as the values of the parent run of its trials in MLflow."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from tune.records.entries import Objective, TrialEntry, TrialState
from tune.tracking.metric_names import SCORE, metric_name
from tune.tracking.run_fields import BREAK, NOTE, SWEEP, digest_of, origin_of, word_of


def best_of(trials: Sequence[TrialEntry]) -> TrialEntry | None:
    """Returns the trial with the best score; None where none has one."""
    return min((trial for trial in trials if trial.done), key=lambda trial: (trial.loss, trial.trial), default=None)


def digest_of_sweep(trials: Sequence[TrialEntry]) -> str:
    """Returns a digest of the entries of all trials, in whatever order."""
    return hashlib.sha256("".join(sorted(map(digest_of, trials))).encode()).hexdigest()[:16]


def best_key(objective: Objective | None) -> str:
    """Returns the name of the metric that holds the best score."""
    return f"{SCORE}/best" if objective is None else f"{metric_name(objective.name)}_best"


def sweep_metrics(trials: Sequence[TrialEntry], best: TrialEntry | None) -> dict[str, float]:
    """Returns the best score, the trials counted by how they ended, and the seconds of all."""
    counts = Counter(trial.state for trial in trials)
    values = {} if best is None or best.score is None else {best_key(best.objective): best.score}
    values |= {f"trials/{state.word.replace(' ', '_')}": float(counts[state]) for state in TrialState}
    seconds = {"total": sum(t.total_seconds for t in trials), "computed": sum(t.computed_seconds for t in trials)}
    return values | {f"seconds/{name}": value for name, value in seconds.items()}


def sweep_tags(trials: Sequence[TrialEntry], best: TrialEntry | None, model: str | None, report: str) -> dict[str, str]:
    """Returns the tags of a sweep's run, its description among them.

    Args: trials: all of them; best: of them; model: the name in the model registry of the best trial's artifact;
        report: address of the page of the sweep's report on the same server.
    """
    last = max(trials, key=lambda trial: trial.ended)
    all_failed = all(trial.state == TrialState.FAILED for trial in trials)
    counts = Counter(map(word_of, trials))
    plural = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
    lines = [f"Sweep of {plural}: {', '.join(f'{count} {word}' for word, count in counts.items())}"]
    if best is not None:
        link = "" if model is None else f"; its artifact is the model [{model}](#/models/{quote(model, safe='')})"
        lines.append(f"The best: **{best.score:.4f} {best.unit}**, {best.name}{link}")
    tags = {
        **origin_of(last.tags),
        "kind": SWEEP,
        "sweep": last.sweep,
        "state": (TrialState.FAILED if all_failed else TrialState.DONE).word,
        "preset": last.preset,
        "workload": last.workload,
        "searched": ", ".join(dict.fromkeys(name for trial in trials for name in trial.parameters)),
        NOTE: BREAK.join([*lines, f"[Its report]({report})"]),
    }
    return tags if best is None else tags | {"best": best.trial}
