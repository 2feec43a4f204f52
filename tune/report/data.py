"""What the ledger holds of one sweep or seed study: every number of a report starts here."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from golf.config.config import nearest
from tune.records.entries import REPEAT, SEED, Series, TrialEntry, TrialState, VerdictEntry, latest, unit_of
from tune.records.ledger import Ledger
from tune.records.lines import DamagedLine
from tune.study.conditions import same_configuration_key
from tune.study.runs import named

ReadSeries = Callable[[TrialEntry], Series]
"""Reads a trial's curves and chunk sums; empty ones where it has none."""
_ORDER = (TrialState.DONE, TrialState.SCREENED, TrialState.INFEASIBLE, TrialState.FAILED)
STATE_NAMES = {state: state.word for state in _ORDER}
"""How a trial ended, in the order in which trials are listed."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything in the ledger under one name."""

    name: str
    trials: tuple[TrialEntry, ...]
    """The last entry of each trial, in the order in which the trials came."""
    verdict: VerdictEntry | None = None
    """The last verdict of a seed study; None without one."""
    num_entries: int
    """Entries of this name, earlier ones of the same trial included."""
    digest: str
    """SHA-256 of these entries."""

    @cached_property
    def ranked(self) -> list[TrialEntry]:
        """The finished trials, the best first."""
        done = [entry for entry in self.trials if entry.done]
        return sorted(done, key=lambda entry: (loss_of(entry), name_of(entry), entry.trial))

    @cached_property
    def ordered(self) -> list[TrialEntry]:
        """All trials: the finished by their score, then the others by state and bytes."""
        states, others = list(STATE_NAMES), [entry for entry in self.trials if not entry.done]
        others.sort(key=lambda e: (states.index(e.state), e.artifact_bytes or 0, name_of(e), e.trial))
        return self.ranked + others

    @cached_property
    def is_study(self) -> bool:
        """Whether only the seed differs between the trials."""
        has_seeds = any(SEED in entry.parameters for entry in self.trials)
        varying = set(varying_fields(self.trials))
        return self.verdict is not None or (has_seeds and bool(varying) and varying <= {SEED, REPEAT})

    @cached_property
    def partial(self) -> tuple["PartialScore", ...]:
        """Scores of a first part, of the trials that were stopped by it and of those that went on.

        They are of the rung, or curve, that most trials have, so that they compare with each other.
        """
        scores = [score for entry in self.trials for score in _partial_scores(entry)]
        counts = Counter(score.name for score in scores)
        most = max(counts, key=lambda name: (counts[name], name), default=None)
        return tuple(score for score in scores if score.name == most)

    @property
    def unit(self) -> str:
        """What the scores are: "BPB", or the name of a metric."""
        return unit_of(self.trials)

    @property
    def caps(self) -> list[int]:
        """The different byte caps, ascending."""
        return sorted({entry.cap_bytes for entry in self.trials if entry.cap_bytes is not None})


@dataclass(frozen=True, kw_only=True)
class PartialScore:
    """A trial's score before its evaluation, or training, had ended: it compares with its like only."""

    entry: TrialEntry
    name: str
    """The rung, or a script's curve."""
    value: float


def _partial_scores(entry: TrialEntry) -> list[PartialScore]:
    """Returns the scores by which the trial was compared with others before it had ended."""
    scores = entry.first_scores
    if not scores and entry.state == TrialState.SCREENED:
        # A script that was stopped early has its curve's last value; the reason says at which step.
        step = re.search(r"at step \d+", entry.reason or "")
        scores = {f"{name} {step.group() if step else 'when stopped'}": value for name, value in entry.metrics.items()}
    return [PartialScore(entry=entry, name=name, value=value) for name, value in scores.items()]


class ReportData:
    """The ledger, read once."""

    def __init__(self, path: Path) -> None:
        """Reads the ledger at `path`.

        Raises: ValueError when there is no ledger; OSError when it cannot be read.
        """
        if not path.is_file():
            raise ValueError(f"there is no ledger at {path}; give the folder that holds ledger.jsonl by --storage")
        self.path = path
        self._ledger = Ledger(path)
        records = self._ledger.records()
        self.num_entries = len(records)
        self._trials = [record for record in records if isinstance(record, TrialEntry)]
        self._verdicts = [record for record in records if isinstance(record, VerdictEntry)]
        self.damaged: Sequence[DamagedLine] = self._ledger.damaged
        self.unread_series: dict[tuple[str, str], str] = {}
        """Trials whose curves and chunk sums were asked for and could not be read, with the reason."""

    @property
    def names(self) -> list[str]:
        """Names of all sweeps and studies."""
        return sorted({entry.sweep for entry in self._trials} | {entry.study for entry in self._verdicts})

    def series(self, entry: TrialEntry) -> Series:
        """Returns a trial's curves and chunk sums; an empty one where it has none or where they cannot be read."""
        try:
            return self._ledger.series(entry)
        except (OSError, ValueError) as error:
            self.unread_series[entry.identity] = str(error)
            return Series()

    def results(self, name: str) -> Results:
        """Returns what the ledger holds under `name`.

        Raises: ValueError with the nearest right name where it holds nothing.
        """
        trials = [entry for entry in self._trials if entry.sweep == name]
        verdicts = [entry for entry in self._verdicts if entry.study == name]
        if not trials and not verdicts:
            damage = f"; {len(self.damaged)} of its lines are damaged, see above" if self.damaged else ""
            raise ValueError(f'{self.path} holds no sweep or study "{name}"{nearest(name, self.names)}{damage}')
        return Results(
            name=name,
            trials=tuple(latest(trials)),
            verdict=verdicts[-1] if verdicts else None,
            num_entries=len(trials) + len(verdicts),
            digest=_digest([*trials, *verdicts]),
        )

    def studies_of(self, entry: TrialEntry) -> list[Results]:
        """Returns the seed studies of a trial's configuration on the same data by the same code, most runs first."""
        key = same_configuration_key(entry)
        alike = {
            other.sweep
            for other in self._trials
            if (other.data, other.code) == (entry.data, entry.code) and same_configuration_key(other) == key
        }
        studies = [
            study for study in map(self.results, sorted(alike - {entry.sweep})) if study.is_study and study.ranked
        ]
        return sorted(studies, key=lambda study: (-len(study.ranked), study.name))

    def baseline_of(self, results: Results, name: str | None) -> Results | None:
        """Returns what `results` are compared with: what `name` names, else the baseline of a study's verdict.

        Args: name: a sweep, a study, SWEEP:TRIAL, or a trial by its first digits.
        Raises: ValueError where that is nothing or several, has no finished trial, or ran on different data.
        """
        if name is None:
            comparison = None if results.verdict is None else results.verdict.verdict.comparison
            name = "" if comparison is None else comparison.baseline
            if name not in self.names or name == results.name or not self.results(name).ranked:
                return None
        if name in self.names:
            baseline = self.results(name)
        else:
            trials = tuple(named(name, self._trials))
            baseline = Results(name=name_of(trials[0]), trials=trials, num_entries=len(trials), digest=_digest(trials))
        if not baseline.ranked:
            raise ValueError(f'--baseline "{name}" has no finished trial; name one that has')
        own, other = ({entry.data for entry in side.ranked} for side in (results, baseline))
        if own and not own & other:
            raise ValueError(
                f'--baseline "{name}" was evaluated on other data; bits per byte of two texts do not compare'
            )
        return baseline


def score_of(entry: TrialEntry) -> float:
    """Returns the score of a finished trial."""
    assert entry.score is not None, f"trial {entry.trial} is {entry.state} without a score"
    return entry.score


def loss_of(entry: TrialEntry) -> float:
    """Returns the score of a finished trial, its sign turned where larger is better."""
    assert entry.loss is not None, f"trial {entry.trial} is {entry.state} without a score"
    return entry.loss


def score_label(entries: Sequence[TrialEntry]) -> str:
    """Returns the label of an axis with the trials' scores."""
    unit, maximize = unit_of(entries), any(entry.objective and entry.objective.maximize for entry in entries)
    return f"{'BPB (bits per byte)' if unit == 'BPB' else unit}, {'higher' if maximize else 'lower'} is better"


def name_of(entry: TrialEntry) -> str:
    """Returns the trial's name, else its id."""
    return entry.name or entry.trial


def searched_fields(entries: Sequence[TrialEntry]) -> list[str]:
    """Returns the searched fields, in the order in which they were given."""
    return list(dict.fromkeys(field for entry in entries for field in entry.parameters))


def varying_fields(entries: Sequence[TrialEntry]) -> list[str]:
    """Returns the searched fields that have more than one value, in the order in which they were given."""
    values: dict[str, set[str]] = {}
    for entry in entries:
        for field, value in entry.parameters.items():
            values.setdefault(field, set()).add(repr(value))
    return [field for field, different in values.items() if len(different) > 1]


def _digest(entries: Sequence[TrialEntry | VerdictEntry]) -> str:
    return hashlib.sha256(b"\n".join(map(msgspec.json.encode, entries))).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that differ in their seed only: same configuration, data, code and versions."""

    name: str
    seeds: tuple[TrialEntry, ...]
    """The finished trials, one for every seed, by seed; none where only repeats are finished."""
    repeats: tuple[TrialEntry, ...]
    """Finished runs of the same seeds again: they are no further seeds."""
    unfinished: tuple[TrialEntry, ...]
    """Trials without a result, which a reader of the seeds has to know of."""

    @property
    def mean_score(self) -> float:
        """The mean over the seeds; over the repeats where there are no others."""
        return math.fsum(map(score_of, self.seeds or self.repeats)) / len(self.seeds or self.repeats)

    @property
    def mean_loss(self) -> float:
        """The mean, its sign turned where larger is better."""
        return math.fsum(map(loss_of, self.seeds or self.repeats)) / len(self.seeds or self.repeats)

    @property
    def sizes(self) -> list[int]:
        """Bytes of every artifact under this configuration, those over the cap too."""
        entries = (*self.seeds, *self.repeats, *self.unfinished)
        return [entry.artifact_bytes for entry in entries if entry.artifact_bytes is not None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a report looks at in detail: one trial, or all seeds of one configuration."""

    label: str
    role: str
    """What it is in the report: "best", "runner-up", "baseline" or "3 seeds"."""
    entries: tuple[TrialEntry, ...]


def groups_of(results: Results) -> list[Group]:
    """Returns the groups with a finished trial, the best mean first."""
    alike: dict[str, list[TrialEntry]] = {}
    for entry in results.trials:
        searched = {field: value for field, value in entry.parameters.items() if field not in (SEED, REPEAT)}
        environment = sorted(entry.environment.items())
        likeness = repr((same_configuration_key(entry), searched, entry.data, entry.code, environment))
        alike.setdefault(likeness, []).append(entry)
    groups = [_group(results.name, entries) for entries in alike.values() if any(entry.done for entry in entries)]
    return sorted(groups, key=lambda group: (group.mean_loss, group.name))


def _group(name: str, entries: Sequence[TrialEntry]) -> Group:
    """Returns the group under the trial's name without its seed; under the study's where nothing else is in it."""
    done = [entry for entry in entries if entry.done]
    done.sort(key=lambda entry: (-1 if entry.seed is None else entry.seed, entry.repeat, entry.trial))
    first = {entry.seed: entry for entry in reversed(done) if not entry.repeat}
    identities = {entry.identity for entry in first.values()}
    words = [word for word in name_of(done[0]).split() if not word.startswith((f"{SEED}=", f"{REPEAT}="))]
    has_only_seeds = done[0].parameters and set(done[0].parameters) <= {SEED, REPEAT}
    return Group(
        name=name if has_only_seeds or not words else " ".join(words),
        seeds=tuple(entry for entry in done if entry.identity in identities),
        repeats=tuple(entry for entry in done if entry.identity not in identities),
        unfinished=tuple(entry for entry in entries if not entry.done),
    )


def ladder_of(entries: Sequence[TrialEntry]) -> dict[str, float]:
    """Returns BPB by rung, the mean over the entries, for the rungs that all of them have."""
    rungs = [{rung.name: rung.bpb for rung in entry.rungs} for entry in entries]
    shared = [name for name in rungs[0] if all(name in scores for scores in rungs)]
    return {name: math.fsum(scores[name] for scores in rungs) / len(rungs) for name in shared}


def subjects_of(results: Results, baseline: Results | None) -> list[Subject]:
    """Returns what to look at in detail: the best trial or a study's seeds; then the baseline or a sweep's second best.

    Two seeds of one configuration are never compared with each other: the better one is better by chance.
    """
    subjects = [_subject(results, "best")] if results.ranked else []
    if baseline is not None:
        subjects.append(_subject(baseline, "baseline"))
    elif not results.is_study and len(results.ranked) > 1:
        second = results.ranked[1]
        subjects.append(Subject(label=name_of(second), role="runner-up", entries=(second,)))
    return subjects


def _subject(results: Results, role: str) -> Subject:
    if not results.is_study:
        best = results.ranked[0]
        return Subject(label=name_of(best), role=role, entries=(best,))
    seeds = groups_of(results)[0].seeds or tuple(results.ranked[:1])
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return Subject(label=results.name, role=count if role == "best" else f"{role}, {count}", entries=seeds)


def paired_entries(subjects: Sequence[Subject]) -> list[TrialEntry]:
    """Returns the runs to compare, one of every subject: of one seed where both sides have one."""
    if len(subjects) < 2:
        return [subject.entries[0] for subject in subjects]
    by_seed = {entry.seed: entry for entry in reversed(subjects[1].entries)}
    own = next((entry for entry in subjects[0].entries if entry.seed in by_seed), subjects[0].entries[0])
    return [own, by_seed.get(own.seed, subjects[1].entries[0])]
