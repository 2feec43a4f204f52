"""Trials that belong together: seeds of one configuration, and what a report looks at in detail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tune.records.entries import REPEAT, SEED, TrialEntry
from tune.report.data import Results, name_of, score_of
from tune.study.conditions import same_configuration_key


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
    def mean_bpb(self) -> float:
        """The mean over the seeds; over the repeats where there are no others."""
        return mean_bpb(self.seeds or self.repeats)

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
    """Returns the groups with a finished trial, least mean BPB first."""
    alike: dict[str, list[TrialEntry]] = {}
    for entry in results.trials:
        alike.setdefault(_likeness(entry), []).append(entry)
    groups = [_group(results.name, entries) for entries in alike.values() if any(entry.done for entry in entries)]
    return sorted(groups, key=lambda group: (group.mean_bpb, group.name))


def _likeness(entry: TrialEntry) -> str:
    """Returns a text that is equal for trials that differ in their seed only."""
    searched = {field: value for field, value in entry.parameters.items() if field not in (SEED, REPEAT)}
    environment = sorted(entry.environment.items())
    return repr((same_configuration_key(entry), searched, entry.data, entry.code, environment))


def _group(name: str, entries: Sequence[TrialEntry]) -> Group:
    done = [entry for entry in entries if entry.done]
    done.sort(key=lambda entry: (-1 if entry.seed is None else entry.seed, entry.repeat, entry.trial))
    first = {entry.seed: entry for entry in reversed(done) if not entry.repeat}
    identities = {entry.identity for entry in first.values()}
    return Group(
        name=_group_name(name, done[0]),
        seeds=tuple(entry for entry in done if entry.identity in identities),
        repeats=tuple(entry for entry in done if entry.identity not in identities),
        unfinished=tuple(entry for entry in entries if not entry.done),
    )


def _group_name(results_name: str, entry: TrialEntry) -> str:
    """Returns the trial's name without its seed; the study's name where nothing else is in it."""
    words = [word for word in name_of(entry).split() if not word.startswith((f"{SEED}=", f"{REPEAT}="))]
    has_only_seeds = entry.parameters and set(entry.parameters) <= {SEED, REPEAT}
    return results_name if has_only_seeds or not words else " ".join(words)


def mean_bpb(entries: Sequence[TrialEntry]) -> float:
    """Returns the mean BPB of finished trials."""
    return math.fsum(map(score_of, entries)) / len(entries)


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
