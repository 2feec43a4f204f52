"""A seed study: the runs of one configuration under several seeds, and everything else that ran under it.

Its runs share code, environment, data, device and every field of the configuration but the seed, or the study is
refused with the field and both values. No run is ever left out: one without a result stays in the rows, one outside the
study is listed with the reason.
"""

import difflib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from golf.config.config import nearest
from tune.records.entries import Series, TrialEntry, latest, trials_of, unit_of
from tune.records.ledger import Ledger
from tune.study.conditions import check_unmixed, facts_of, same_configuration_key

_SHOWN_NAMES = 12
MIN_PREFIX = 4
"""Characters by which a trial may be named."""


@dataclass(frozen=True)
class Stream:
    """The scored validation stream, chunk by chunk."""

    tokens: tuple[int, ...]
    """Tokens of each chunk."""
    num_bytes: tuple[int, ...]
    """Bytes of each chunk's text."""

    @property
    def size(self) -> tuple[int, int]:
        """All tokens and bytes, whatever the chunks."""
        return sum(self.tokens), sum(self.num_bytes)

    @property
    def nats_per_bpb(self) -> float:
        """Nats per token that are 1 BPB: ln 2 * bytes per token."""
        return math.log(2) * self.size[1] / self.size[0]


@dataclass(frozen=True)
class Other:
    """A run under the study's configuration that is not in the study."""

    entry: TrialEntry
    why: str
    """Why it does not count."""
    num_configurations: int
    """Configurations of its sweep: where there are several, one may have been chosen by this very run."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The runs of one configuration, checked to differ in their seed only."""

    name: str
    facts: Mapping[str, str | None]
    """"code", "data", "device" and "environment.<package>" of all its runs; None: no run says."""
    rows: tuple[TrialEntry, ...]
    """The last entry of each seed, whatever became of it, by seed."""
    repeats: tuple[TrialEntry, ...]
    """Further runs of one seed."""
    stream: Stream | None
    """None where no run is done, or where chunk sums were not kept."""
    others: tuple[Other, ...]
    """Everything else in the ledger under this configuration."""

    @property
    def entries(self) -> tuple[TrialEntry, ...]:
        """All its runs."""
        return self.rows + self.repeats

    @property
    def preset(self) -> str:
        """The preset of its runs."""
        return self.entries[0].preset

    @property
    def cap_bytes(self) -> int | None:
        """The byte cap of its runs."""
        return self.entries[0].cap_bytes

    @property
    def counted(self) -> tuple[TrialEntry, ...]:
        """The rows that have a result."""
        return tuple(row for row in self.rows if row.done)

    @property
    def values(self) -> dict[int, float]:
        """Score of each seed that has a result, in `unit`."""
        return {row.seed: row.score for row in self.counted if row.seed is not None and row.score is not None}

    @property
    def unit(self) -> str:
        """What the scores are: "BPB", or the name of a metric."""
        return unit_of(self.entries)

    @property
    def sign(self) -> float:
        """-1 where larger scores are better, else 1: the tests take less for better."""
        return -1.0 if any(row.objective is not None and row.objective.maximize for row in self.entries) else 1.0

    @property
    def nats_per_bpb(self) -> float | None:
        """Nats per token that are 1 BPB on the validation stream; None where no run says.

        1 where another metric counts: margins are in its own unit then.
        """
        if self.unit != "BPB":
            return 1.0
        factors = (nats_per_bpb(entry) for entry in self.entries)
        return next((factor for factor in factors if factor is not None), None)


def study_of(name: str, ledger: Ledger) -> Study:
    """Returns the study that a name refers to; see `named`.

    Raises: ValueError when nothing has that name, naming the first field in which its runs differ, or for a workload
        without seeds; OSError when chunk sums of a run cannot be read.
    """
    trials = ledger.trials()
    entries = named(name, trials)
    if any(entry.seed is None for entry in entries):
        raise ValueError(f'the runs of "{name}" have no seed: workload {entries[0].workload} has no seed studies')
    facts = check_unmixed(name, entries)
    streams = (stream_of(entry, ledger.series(entry)) for entry in entries if entry.done)
    by_seed = sorted(entries, key=lambda entry: (entry.seed or 0, entry.repeat))
    return Study(
        name=name,
        facts=facts,
        rows=tuple(entry for entry in by_seed if not entry.repeat),
        repeats=tuple(entry for entry in by_seed if entry.repeat),
        stream=next((stream for stream in streams if stream is not None), None),
        others=_others(entries, trials, facts),
    )


def named(name: str, trials: Sequence[TrialEntry]) -> list[TrialEntry]:
    """Returns the last entries of the runs that a name refers to.

    Args: name: of a study or sweep: all its runs; SWEEP:TRIAL: all runs of that trial's configuration there; a trial's
        id or the beginning of it: that one run; trials: all trials of the ledger.
    Raises: ValueError when nothing has that name.
    """
    sweeps = {entry.sweep for entry in trials}
    sweep, colon, prefix = name.rpartition(":")
    if name in sweeps:
        return latest(trials, name)
    if colon and sweep in sweeps:
        key = same_configuration_key(find_trial(prefix, trials, sweep))
        return [entry for entry in latest(trials, sweep) if same_configuration_key(entry) == key]
    if any(len(name) >= MIN_PREFIX and entry.trial.startswith(name) for entry in trials):
        return [find_trial(name, trials)]
    raise ValueError(f'the ledger has no study, sweep or trial "{name}"{near(name, sweeps)}')


def _others(
    entries: Sequence[TrialEntry], trials: Sequence[TrialEntry], facts: Mapping[str, str | None]
) -> tuple[Other, ...]:
    """Returns all further entries under the configuration of `entries`, earlier attempts of its trials included."""
    keys = [same_configuration_key(entry) for entry in trials]
    num_configurations = Counter(sweep for sweep, _ in {(e.sweep, key) for e, key in zip(trials, keys, strict=True)})
    own = same_configuration_key(entries[0])
    identities = {entry.identity for entry in entries}
    return tuple(
        Other(entry, _why(entry, entry.identity in identities, facts), num_configurations[entry.sweep])
        for entry, key in zip(trials, keys, strict=True)
        if key == own and entry not in entries
    )


def _why(entry: TrialEntry, is_in_study: bool, facts: Mapping[str, str | None]) -> str:
    """Returns why an entry of the study's configuration does not count."""
    if is_in_study:
        return "an earlier attempt, run again since"
    other_facts = facts_of(entry)
    differ = [field for field in facts if other_facts.get(field) not in (None, facts[field])]
    return f'of "{entry.sweep}"' + (f"; other {', '.join(differ)}" if differ else "")


def near(name: str, known: Collection[str]) -> str:
    """Returns the end of an error message: the nearest right name, or all names where they are few."""
    if not known:
        return ": the ledger holds no trial yet"
    return nearest(
        name, sorted(known) if len(known) <= _SHOWN_NAMES else difflib.get_close_matches(name, known, 3, 0.0)
    )


def find_trial(prefix: str, trials: Sequence[TrialEntry], sweep: str | None = None) -> TrialEntry:
    """Returns the last entry of the trial whose id begins with `prefix`, a finished one first.

    Raises: ValueError when there is none, or several.
    """
    trials = trials_of(trials, sweep)
    matches = [entry for entry in trials if len(prefix) >= MIN_PREFIX and entry.trial.startswith(prefix)]
    ids = {entry.trial for entry in matches}
    where = f' of sweep "{sweep}"' if sweep is not None else ""
    if not ids:
        raise ValueError(f'the ledger has no trial "{prefix}"{where}{near(prefix, {entry.trial for entry in trials})}')
    if len(ids) > 1:
        raise ValueError(f'"{prefix}" begins several trials{where}: {", ".join(sorted(ids))}; give more characters')
    return ([entry for entry in matches if entry.done] or matches)[-1]


def best_trial(sweep: str, trials: Sequence[TrialEntry]) -> TrialEntry:
    """Returns the entry of a sweep's best trial under the cap. Raises: ValueError when it has none."""
    sweeps = {entry.sweep for entry in trials}
    if sweep not in sweeps:
        raise ValueError(f'the ledger has no sweep "{sweep}"{near(sweep, sweeps)}')
    done = [(entry.loss, entry) for entry in latest(trials, sweep) if entry.loss is not None]
    if not done:
        raise ValueError(f'sweep "{sweep}" has no finished trial under its cap; run it to an end first')
    return min(done, key=lambda pair: pair[0])[1]


def nats_per_bpb(entry: TrialEntry) -> float | None:
    """Returns the nats per token that are 1 BPB on the stream of a finished run; None for another one."""
    if not entry.done or not entry.bpb or entry.nats_per_token is None:
        return None
    return entry.nats_per_token / entry.bpb


def counted_rung(entry: TrialEntry) -> str | None:
    """Returns the rung whose score counts; None where none was scored."""
    return entry.rungs[-1].name if entry.rungs else None


def stream_of(entry: TrialEntry, series: Series) -> Stream | None:
    """Returns the stream that a run was scored on; None where its chunk sums were not kept."""
    chunks = series.chunks.get(counted_rung(entry) or "")
    if chunks is None:
        return None
    return Stream(tuple(chunks[:, 1].astype(int).tolist()), tuple(chunks[:, 2].astype(int).tolist()))


def training_seconds(entry: TrialEntry) -> float | None:
    """Returns the seconds of training; by the competition's rules with packing where that reads training data."""
    seconds = entry.seconds.get("train", entry.metrics.get("train_seconds"))
    groups = (entry.config.get("quant") or {}).values()
    calibrated = any(isinstance(group, Mapping) and group.get("method") == "gptq" for group in groups)
    return seconds + entry.seconds.get("pack", 0.0) if calibrated and seconds is not None else seconds


def evaluation_seconds(entry: TrialEntry) -> float | None:
    """Returns the seconds of the rung whose score counts; the rungs below are for information."""
    return entry.rungs[-1].seconds if entry.rungs else entry.metrics.get("eval_seconds")


def failed_points(entry: TrialEntry) -> tuple[int, ...] | None:
    """Returns the points of the rules on which a run fails; None where it was not checked, or not to the end."""
    return None if entry.check is None or entry.check.error is not None else entry.check.failed_points
