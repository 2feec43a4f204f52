"""What the ledger holds of one sweep or seed study: every number of a report starts here."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from golf.config.config import nearest
from tune.records.entries import REPEAT, SEED, Series, TrialEntry, TrialState, VerdictEntry, latest
from tune.records.ledger import Ledger
from tune.records.lines import DamagedLine
from tune.study.runs import named

STATE_NAMES = {
    TrialState.DONE: "finished",
    TrialState.SCREENED: "screened out",
    TrialState.INFEASIBLE: "over the cap",
    TrialState.FAILED: "failed",
}
"""How a trial ended, in the order in which trials are listed."""
_STATES = list(STATE_NAMES)


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
        """The finished trials, least BPB first."""
        done = [entry for entry in self.trials if entry.done]
        return sorted(done, key=lambda entry: (score_of(entry), name_of(entry), entry.trial))

    @cached_property
    def ordered(self) -> list[TrialEntry]:
        """All trials: the finished by BPB, then the others by state and bytes."""
        others = [entry for entry in self.trials if not entry.done]
        return self.ranked + sorted(others, key=_order)

    @cached_property
    def is_study(self) -> bool:
        """Whether only the seed differs between the trials."""
        has_seeds = any(SEED in entry.parameters for entry in self.trials)
        varying = set(varying_fields(self.trials))
        return self.verdict is not None or (has_seeds and bool(varying) and varying <= {SEED, REPEAT})

    @property
    def caps(self) -> list[int]:
        """The different byte caps, ascending."""
        return sorted({entry.cap_bytes for entry in self.trials if entry.cap_bytes is not None})


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

    def baseline_of(self, results: Results, name: str | None) -> Results | None:
        """Returns what `results` are compared with: what `name` names, else the baseline of a study's verdict.

        Raises: ValueError as `find` does, or where the two sides ran on different data.
        """
        if name is None:
            comparison = None if results.verdict is None else results.verdict.verdict.comparison
            name = "" if comparison is None else comparison.baseline
            if name not in self.names or name == results.name or not self.results(name).ranked:
                return None
        baseline = self.find(name)
        own, other = ({entry.data for entry in side.ranked} for side in (results, baseline))
        if own and not own & other:
            raise ValueError(
                f'--baseline "{name}" was evaluated on other data; bits per byte of two texts do not compare'
            )
        return baseline

    def find(self, name: str) -> Results:
        """Returns what a baseline's name refers to: a sweep, a study, SWEEP:TRIAL, or a trial by its first digits.

        Raises: ValueError where that is nothing or several, or where it has no finished trial.
        """
        if name in self.names:
            results = self.results(name)
        else:
            trials = tuple(named(name, self._trials))
            results = Results(name=name_of(trials[0]), trials=trials, num_entries=len(trials), digest=_digest(trials))
        if not results.ranked:
            raise ValueError(f'--baseline "{name}" has no finished trial; name one that has')
        return results


def score_of(entry: TrialEntry) -> float:
    """Returns the BPB of a finished trial."""
    assert entry.bpb is not None, f"trial {entry.trial} is {entry.state} without a score"
    return entry.bpb


def name_of(entry: TrialEntry) -> str:
    """Returns the trial's name, else its id."""
    return entry.name or entry.trial


def varying_fields(entries: Sequence[TrialEntry]) -> list[str]:
    """Returns the searched fields that have more than one value, in the order in which they were given."""
    values: dict[str, set[str]] = {}
    for entry in entries:
        for field, value in entry.parameters.items():
            values.setdefault(field, set()).add(repr(value))
    return [field for field, different in values.items() if len(different) > 1]


def _digest(entries: Sequence[TrialEntry | VerdictEntry]) -> str:
    return hashlib.sha256(b"\n".join(map(msgspec.json.encode, entries))).hexdigest()


def _order(entry: TrialEntry) -> tuple[int, int, str, str]:
    return _STATES.index(entry.state), entry.artifact_bytes or 0, name_of(entry), entry.trial
