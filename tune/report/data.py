"""What the ledger holds of one sweep or seed study: its trials, their order, and the groups that belong together.

The ledger's path and a name enter, values leave; every number of a report starts here. Old entries may lack fields:
what is missing is None, never a guess. Must write nothing and needs no other file than the ledger.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf.config.config import nearest
from golf.runtime.results import LADDER
from tune.records.ledger import DamagedLine, Ledger, canonical
from tune.search.space import REPEAT, SEED
from tune.study.verdict import VERDICT
from tune.workloads.gepa.outcome import DONE, FAILED, INFEASIBLE, SCREENED

Entry = Mapping[str, Any]
STATUS_WORDS = {DONE: "finished", SCREENED: "screened out", INFEASIBLE: "over the cap", FAILED: "failed"}
"""How a trial ended, in words, in the order in which trials are listed."""
STATUSES = tuple(STATUS_WORDS)


@dataclass(frozen=True)
class Results:
    """Everything in the ledger under one name."""

    name: str
    trials: tuple[Entry, ...]
    """The last entry of each trial, in the order in which the trials came."""
    verdict: Entry | None
    """The last verdict of the seed study; None without one."""
    num_entries: int
    """Entries of this name that were read, earlier ones of the same trial included."""
    digest: str
    """SHA-256 of these entries."""

    @property
    def ranked(self) -> list[Entry]:
        """The finished trials, least BPB first."""
        done = [entry for entry in self.trials if finished_bpb(entry) is not None]
        return sorted(done, key=lambda entry: (metric(entry, "bpb"), name_of(entry), trial_of(entry)))

    @property
    def ordered(self) -> list[Entry]:
        """All trials: the finished by BPB, then by status and bytes."""
        best = self.ranked
        known = set(map(id, best))
        rest = [entry for entry in self.trials if id(entry) not in known]
        return best + sorted(rest, key=_order)

    @property
    def is_study(self) -> bool:
        """Whether nothing but the seed differs between the trials."""
        fields = {field for entry in self.trials for field in parameters(entry)}
        varying = set(varying_fields(self.trials))
        return self.verdict is not None or (SEED in fields and varying <= {SEED, REPEAT} and fields - varying != fields)

    @property
    def caps(self) -> list[int]:
        """The different byte caps, ascending."""
        caps = {entry["config"].get("cap_bytes") for entry in self.trials if isinstance(entry.get("config"), Mapping)}
        return sorted(cap for cap in caps if isinstance(cap, int))

    def count(self, status: str) -> int:
        """Trials that ended so."""
        return sum(entry.get("status") == status for entry in self.trials)


@dataclass(frozen=True)
class Group:
    """Trials that differ in their seed only: same configuration, data, code and versions."""

    name: str
    seeds: tuple[Entry, ...]
    """One a seed, finished ones only, by seed; none where only repeats are finished."""
    repeats: tuple[Entry, ...]
    """The same seeds run again: no further seeds."""
    lacking: tuple[Entry, ...]
    """Those that ended without a result: whoever looks at the seeds has to know of them."""

    @property
    def sizes(self) -> list[int]:
        """Bytes of every artifact under this configuration, those over the cap too."""
        sizes = (metric(entry, "artifact_bytes") for entry in (*self.seeds, *self.repeats, *self.lacking))
        return [int(size) for size in sizes if size is not None]


@dataclass(frozen=True)
class Subject:
    """What is looked at in detail: one trial, or all seeds of one configuration."""

    label: str
    role: str
    """What it is to the reader: "best", "runner-up", "baseline", "3 seeds"."""
    entries: tuple[Entry, ...]


class Book:
    """The ledger, read once."""

    def __init__(self, path: Path) -> None:
        """Raises: ValueError when there is no ledger; OSError when it cannot be read."""
        if not path.is_file():
            raise ValueError(f"there is no ledger at {path}; give the folder that holds ledger.jsonl by --storage")
        ledger = Ledger(path)
        self.path = path
        entries = ledger.entries()
        self.num_entries = len(entries)
        self._entries = [entry for entry in entries if entry.get("kind") in ("trial", VERDICT)]
        self.damaged: tuple[DamagedLine, ...] = tuple(ledger.damaged)

    @property
    def names(self) -> list[str]:
        """Names of all sweeps and studies."""
        return sorted({_name(entry) for entry in self._entries})

    def results(self, name: str) -> Results:
        """What is there under `name`.

        Raises: ValueError with the nearest right name where there is nothing.
        """
        own = [entry for entry in self._entries if _name(entry) == name]
        if not own:
            lost = f"; {len(self.damaged)} of its lines are damaged, see above" if self.damaged else ""
            raise ValueError(f'{self.path} holds no sweep or study "{name}"{nearest(name, self.names)}{lost}')
        last = {(trial_of(e), repr(parameters(e).get(REPEAT))): e for e in own if e["kind"] == "trial"}
        verdicts = [entry for entry in own if entry["kind"] == VERDICT]
        digest = hashlib.sha256(b"\n".join(map(canonical, own))).hexdigest()
        return Results(name, tuple(last.values()), verdicts[-1] if verdicts else None, len(own), digest)

    def baseline_of(self, results: Results, name: str | None) -> Results | None:
        """What `results` are compared with: what `name` names, else the baseline of the study's verdict, if any.

        Raises: ValueError as `find`; or where both sides ran on known data that are not the same.
        """
        if name is None:
            judged = ((results.verdict or {}).get("baseline") or {}).get("name")
            if judged not in self.names or judged == results.name or not self.results(judged).ranked:
                return None
            name = str(judged)
        found = self.find(name)
        own, other = ({entry["data"] for entry in side.ranked if entry.get("data")} for side in (results, found))
        if own and other and not own & other:
            raise ValueError(
                f'--baseline "{name}" was evaluated on other data; bits per byte of two texts do not compare'
            )
        return found

    def find(self, name: str) -> Results:
        """A sweep, a study, or the one trial whose id begins with `name`.

        Raises: ValueError where that is none or several, or where it has no finished trial.
        """
        if name in self.names:
            found = self.results(name)
        else:
            ids = {trial_of(e) for e in self._entries if e["kind"] == "trial" and name and trial_of(e).startswith(name)}
            if len(ids) != 1:
                problem = f"is the beginning of {len(ids)} trials" if ids else "is no trial, sweep or study"
                raise ValueError(f'--baseline "{name}" {problem} of {self.path}{nearest(name, self.names)}')
            own = [e for e in self._entries if e["kind"] == "trial" and trial_of(e) in ids]
            own = [entry for entry in own if finished_bpb(entry) is not None] or own
            digest = hashlib.sha256(canonical(own[-1])).hexdigest()
            found = Results(name_of(own[-1]), (own[-1],), None, 1, digest)
        if not found.ranked:
            raise ValueError(f'--baseline "{name}" has no finished trial; name one that has')
        return found


def metric(entry: Entry, name: str) -> float | None:
    """A figure of the entry; None where it has none."""
    value = (entry.get("metrics") or {}).get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return value


def finished_bpb(entry: Entry) -> float | None:
    """The BPB of a finished trial; None for every other."""
    return metric(entry, "bpb") if entry.get("status") == DONE else None


def ending_of(entry: Entry) -> str:
    """How the trial ended, in words."""
    status = str(entry.get("status"))
    return STATUS_WORDS.get(status, status)


def parameters(entry: Entry) -> Mapping[str, Any]:
    """The searched fields."""
    return entry.get("parameters") or {}


def varying_fields(entries: Sequence[Entry]) -> list[str]:
    """The searched fields that have more than one value, in the order in which they were given."""
    values: dict[str, set[str]] = {}
    for entry in entries:
        for field, value in parameters(entry).items():
            values.setdefault(field, set()).add(repr(value))
    return [field for field, known in values.items() if len(known) > 1]


def name_of(entry: Entry) -> str:
    """The trial's name, else its id."""
    return str(entry.get("name") or trial_of(entry))


def trial_of(entry: Entry) -> str:
    """The trial's id."""
    return str(entry.get("trial", ""))


def cap_of(entry: Entry) -> int | None:
    """The trial's byte cap."""
    cap = (entry.get("config") or {}).get("cap_bytes")
    return cap if isinstance(cap, int) else None


def chunks_of(entry: Entry, rung: str) -> list[list[float]]:
    """(NLL in nats, tokens, bytes) of every chunk."""
    chunks = entry.get("chunks")
    return list(chunks.get(rung) or []) if isinstance(chunks, Mapping) else []


def curve_of(entry: Entry, name: str) -> list[list[float]]:
    """(step, unix seconds, value) of every point."""
    curves = entry.get("curves")
    return list(curves.get(name) or []) if isinstance(curves, Mapping) else []


def warmdown_of(entry: Entry) -> int | None:
    """The step at which the warmdown starts."""
    start = ((entry.get("config") or {}).get("schedule") or {}).get("warmdown_start")
    return start if isinstance(start, int) else None


def ladder_of(entries: Sequence[Entry]) -> dict[str, float]:
    """BPB by rung, the mean over the entries, of the rungs that all of them have."""
    found = {}
    for rung in LADDER:
        values = [metric(entry, f"bpb_{rung}") for entry in entries]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            found[rung] = math.fsum(known) / len(known)
    return found


def groups_of(results: Results) -> list[Group]:
    """The trials by what they have in common, where any is finished, least mean BPB first."""
    groups: dict[str, list[Entry]] = {}
    for entry in results.trials:
        groups.setdefault(_likeness(entry), []).append(entry)
    made = []
    for alike in groups.values():
        entries = [entry for entry in alike if finished_bpb(entry) is not None]
        if not entries:
            continue
        by_seed = sorted(entries, key=lambda entry: (_seed(entry), parameters(entry).get(REPEAT) or 0, trial_of(entry)))
        first = {_seed(entry): entry for entry in reversed(by_seed) if not parameters(entry).get(REPEAT)}
        seeds = tuple(first[seed] for seed in sorted(first))
        repeats = tuple(entry for entry in by_seed if entry is not first.get(_seed(entry)))
        lacking = tuple(entry for entry in alike if finished_bpb(entry) is None)
        made.append(Group(_group_name(results.name, by_seed[0]), seeds, repeats, lacking))
    return sorted(made, key=lambda group: (mean_bpb(group.seeds or group.repeats), group.name))


def mean_bpb(entries: Iterable[Entry]) -> float:
    """The mean of finished trials."""
    values = [value for value in (metric(entry, "bpb") for entry in entries) if value is not None]
    return math.fsum(values) / len(values)


def subjects_of(results: Results, baseline: Results | None) -> list[Subject]:
    """What to look at in detail: the best trial, or a study's seeds; then the baseline, or a sweep's second best.

    Two seeds of one configuration are never set against each other: the better one is better by chance.
    """
    found = [_subject(results, "best")] if results.ranked else []
    if baseline is not None:
        found.append(_subject(baseline, "baseline"))
    elif not results.is_study and len(results.ranked) > 1:
        second = results.ranked[1]
        found.append(Subject(name_of(second), "runner-up", (second,)))
    return found


def _subject(results: Results, role: str) -> Subject:
    if not results.is_study:
        best = results.ranked[0]
        return Subject(name_of(best), role, (best,))
    seeds = groups_of(results)[0].seeds or tuple(results.ranked[:1])
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return Subject(results.name, count if role == "best" else f"{role}, {count}", seeds)


def seed_of(entry: Entry) -> int | None:
    """The model's seed."""
    seed = (entry.get("config") or {}).get(SEED, parameters(entry).get(SEED))
    return seed if isinstance(seed, int) else None


def _seed(entry: Entry) -> int:
    seed = seed_of(entry)
    return -1 if seed is None else seed


def _likeness(entry: Entry) -> str:
    """Equal for trials that differ in their seed only; unknown data, code or versions count as their own kind."""
    config = {name: value for name, value in (entry.get("config") or {}).items() if name != SEED}
    if not config:
        return f"unknown configuration of {trial_of(entry)}"
    return json.dumps([config, entry.get("data"), entry.get("code"), entry.get("environment")], sort_keys=True)


def _group_name(results_name: str, entry: Entry) -> str:
    """The trial's name without its seed; the study's name where nothing else is in it."""
    words = [word for word in name_of(entry).split() if not word.startswith((f"{SEED}=", f"{REPEAT}="))]
    only_seeds = set(parameters(entry)) <= {SEED, REPEAT} and parameters(entry)
    return results_name if only_seeds or not words else " ".join(words)


def _name(entry: Entry) -> str:
    return str(entry.get("study", entry.get("sweep", "")) if entry["kind"] == VERDICT else entry.get("sweep", ""))


def _order(entry: Entry) -> tuple[int, float, str, str]:
    status = entry.get("status")
    place = STATUSES.index(status) if status in STATUSES else len(STATUSES)
    return place, metric(entry, "artifact_bytes") or 0, name_of(entry), trial_of(entry)
