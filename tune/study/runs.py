"""A seed study: the runs of one configuration under several seeds, and everything else that ran under it.

Ledger entries enter, a frozen `Study` leaves. Its runs must be one thing: code, environment, data, device and every
field of the configuration but the seed are the same, or the study is refused with the field and both values. No run is
ever left out: one without a result stays in the rows, one outside the study is listed with the reason. Nothing here
judges, reads or writes.
"""

import contextlib
import difflib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from golf.compliance.points import FAILED as POINT_FAILED
from golf.config.config import RunConfig, from_plain, nearest, to_plain
from golf.runtime.results import SLIDING, TTT
from tune.records.queries import latest, trials_of
from tune.records.text import flat
from tune.search.space import REPEAT, SEED
from tune.workloads.gepa.outcome import DONE, FAILED

Entry = Mapping[str, Any]
"""A ledger entry."""
_SHOWN_NAMES = 12
MIN_PREFIX = 4
"""Characters by which a trial may be named."""


@dataclass(frozen=True)
class Run:
    """One run of a configuration, in the figures that a verdict needs."""

    sweep: str
    trial: str
    seed: int
    repeat: int
    """0; from 1 on a run of the same seed again."""
    status: str
    """"done", "infeasible" (over the cap), "screened" or "failed"."""
    cause: str | None
    bpb: float | None
    """Of the last rung; None unless it is done."""
    nats: float | None
    """Per token, of the same rung."""
    artifact_bytes: int | None
    train_seconds: float | None
    """With those of packing where it reads training data."""
    evaluation_seconds: float | None
    """Of the last rung alone, whose figure counts; the rungs below are for information."""
    cold: bool | None
    """Whether all of it was computed for this run, nothing taken from the store; None where nothing was computed."""
    ranks: str | None = None
    """Who computed it, where nodes were lost on the way; None: all ran as asked."""
    points_failed: tuple[int, ...] | None = None
    """Points of the rules (`golf.compliance.points`) on which the run fails; None: it was not checked."""


@dataclass(frozen=True)
class Stream:
    """The scored validation stream, chunk by chunk."""

    tokens: tuple[int, ...]
    num_bytes: tuple[int, ...]

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

    run: Run
    why: str
    """Why it does not count."""
    num_configurations: int
    """Of its sweep: where there are several, the configuration may have been chosen by this very run."""


@dataclass(frozen=True)
class Study:
    """The runs of one configuration, checked to be one thing."""

    name: str
    preset: str
    configuration: str
    """All fields but the seed, as canonical JSON."""
    facts: dict[str, str | None]
    """"code", "data", "device" and "environment.<package>" of all its runs; None: the ledger does not say."""
    cap_bytes: int | None
    rows: tuple[Run, ...]
    """The last entry of each seed, whatever became of it, by seed."""
    repeats: tuple[Run, ...]
    """Runs of one seed again."""
    stream: Stream | None
    """None where no run is done."""
    others: tuple[Other, ...]
    """Everything else in the ledger under this configuration."""

    @property
    def counted(self) -> tuple[Run, ...]:
        """The rows that have a result."""
        return tuple(row for row in self.rows if row.bpb is not None)


def study_of(name: str, entries: Sequence[Entry]) -> Study:
    """The study that `name` stands for; see `named`.

    Args: entries: the whole ledger.
    Raises: ValueError when nothing has that name, or naming the first thing in which its runs differ.
    """
    return group(name, named(name, entries), trials_of(entries))


def named(name: str, entries: Sequence[Entry]) -> list[Entry]:
    """The last entries of the runs that a name stands for.

    Args: name: of a study or sweep: all its runs; SWEEP:TRIAL: all runs of that trial's configuration there; a trial's
        id or the beginning of it: that one run.
    Raises: ValueError when nothing has that name.
    """
    trials = trials_of(entries)
    sweeps = {str(entry.get("sweep")) for entry in trials}
    sweep, colon, prefix = name.rpartition(":")
    if name in sweeps:
        return latest(trials, name)
    if colon and sweep in sweeps:
        key = configuration_of(find_trial(prefix, entries, sweep))
        return latest(e for e in trials_of(trials, sweep) if configuration_of(e) == key)
    if any(len(name) >= MIN_PREFIX and str(entry.get("trial")).startswith(name) for entry in trials):
        return [find_trial(name, entries)]
    raise ValueError(f'the ledger has no study, sweep or trial "{name}"{near(name, sweeps)}')


def group(name: str, mine: Sequence[Entry], trials: Sequence[Entry]) -> Study:
    """Entries that shall be one configuration's, as a study; `trials` are all of the ledger."""
    facts, configuration = check_unmixed(name, mine), configuration_of(mine[0])
    runs = [run_of(entry) for entry in mine]
    counted = {id(entry) for entry in mine}
    configurations: dict[Any, set[str]] = {}
    for entry in trials:
        configurations.setdefault(entry.get("sweep"), set()).add(configuration_of(entry))
    others = [
        Other(run_of(entry), _why(entry, mine, facts), len(configurations[entry.get("sweep")]))
        for entry in trials
        if id(entry) not in counted and configuration_of(entry) == configuration
    ]
    streams = [stream for entry in mine if (stream := stream_of(entry)) is not None]
    return Study(
        name=name,
        preset=str(mine[0].get("preset", "")),
        configuration=configuration,
        facts=facts,
        cap_bytes=json.loads(configuration).get("cap_bytes"),
        rows=tuple(sorted((run for run in runs if not run.repeat), key=lambda run: run.seed)),
        repeats=tuple(sorted((run for run in runs if run.repeat), key=lambda run: (run.seed, run.repeat))),
        stream=streams[0] if streams else None,
        others=tuple(others),
    )


def near(name: str, known: Collection[str]) -> str:
    """End of an error message: the nearest right name; all names where they are few."""
    if not known:
        return ": the ledger holds no trial yet"
    return nearest(
        name, sorted(known) if len(known) <= _SHOWN_NAMES else difflib.get_close_matches(name, known, 3, 0.0)
    )


def find_trial(prefix: str, entries: Sequence[Entry], sweep: str | None = None) -> Entry:
    """The last entry of the trial whose id begins with `prefix`, a finished one first.

    Raises: ValueError when there is none, or several.
    """
    trials = trials_of(entries, sweep)
    found = [entry for entry in trials if len(prefix) >= MIN_PREFIX and str(entry.get("trial")).startswith(prefix)]
    ids = {str(entry["trial"]): entry for entry in found}
    where = f' of sweep "{sweep}"' if sweep is not None else ""
    if not ids:
        raise ValueError(f'the ledger has no trial "{prefix}"{where}{near(prefix, {str(e["trial"]) for e in trials})}')
    if len(ids) > 1:
        raise ValueError(f'"{prefix}" begins several trials{where}: {", ".join(sorted(ids))}; give more characters')
    done = [entry for entry in found if entry.get("status") == DONE]
    return (done or found)[-1]


def best_trial(sweep: str, entries: Sequence[Entry]) -> Entry:
    """The entry of a sweep's best trial under the cap. Raises: ValueError when it has none."""
    trials = trials_of(entries)
    if not any(entry.get("sweep") == sweep for entry in trials):
        raise ValueError(f'the ledger has no sweep "{sweep}"{near(sweep, {str(e.get("sweep")) for e in trials})}')
    done = [entry for entry in latest(trials, sweep) if entry.get("status") == DONE]
    if not done:
        raise ValueError(f'sweep "{sweep}" has no finished trial under its cap; run it to an end first')
    return min(done, key=lambda entry: entry["metrics"]["bpb"])


def check_unmixed(name: str, entries: Sequence[Entry], coming: Entry | None = None) -> dict[str, str | None]:
    """What all runs have in common beside the configuration; see `Study.facts`.

    Args: coming: an entry as this command would add, without its result.
    Raises: ValueError naming the first field that differs, both values and their seeds, and all fields that do.
    """
    told = [(entry, _facts(entry)) for entry in (*entries, *([coming] if coming is not None else []))]
    mixed: dict[str, dict[str, list[int | None]]] = {}
    for field in dict.fromkeys(field for _, facts in told for field in facts):
        values: dict[str, list[int | None]] = {}
        for entry, facts in told:
            # A failed or coming run may not have come to say what it ran on.
            silent = entry is coming or entry.get("status") == FAILED
            if field != "device" or facts[field] is not None or not silent:
                values.setdefault(_text(facts, field), []).append(None if entry is coming else seed_of(entry))
        if len(values) > 1:
            mixed[field] = values
    if mixed:
        mixed = {field: mixed[field] for field in sorted(mixed, key=lambda field: field.count("."))}
        field, values = next(iter(mixed.items()))
        shown = ", ".join(f"{value} ({_seeds(seeds)})" for value, seeds in values.items())
        more = f" (and in {', '.join(list(mixed)[1:5])})" if len(mixed) > 1 else ""
        raise ValueError(
            f'the runs of "{name}" differ in {field}: {shown}{more}; one study needs one of each: '
            "another --name, or of a sweep SWEEP:TRIAL"
        )
    common: dict[str, str | None] = {}
    for _, facts in told:
        common |= {field: value for field, value in facts.items() if _is_fact(field) and value is not None}
    return {"code": None, "data": None, "device": None} | common


def run_of(entry: Entry) -> Run:
    """The figures of a ledger entry."""
    metrics, done = entry.get("metrics") or {}, entry.get("status") == DONE
    rung = rung_of(entry)
    return Run(
        sweep=str(entry.get("sweep", "")),
        trial=str(entry.get("trial", "")),
        seed=seed_of(entry),
        repeat=repeat_of(entry),
        status=str(entry.get("status", "")),
        cause=entry.get("cause"),
        bpb=metrics.get("bpb") if done else None,
        nats=metrics.get("nats") if done else None,
        artifact_bytes=metrics.get("artifact_bytes"),
        train_seconds=_training_seconds(entry, metrics),
        evaluation_seconds=metrics.get(f"{rung}_seconds") if rung else None,
        cold=_cold(entry),
        ranks=(entry.get("tags") or {}).get("ranks"),
        points_failed=_points_failed(entry.get("check")),
    )


def _points_failed(check: Mapping[str, Any] | None) -> tuple[int, ...] | None:
    """The failed points of a run's check; None where there is none, or where it broke down."""
    if not check or "error" in check:
        return None
    return tuple(int(row["point"]) for row in check["points"] if row["state"] == POINT_FAILED)


def _training_seconds(entry: Entry, metrics: Mapping[str, Any]) -> float | None:
    """Seconds of training; where packing reads training data, it is part of it by the competition's rules."""
    quant, seconds = (entry.get("config") or {}).get("quant") or {}, metrics.get("train_seconds")
    calibrated = any(isinstance(group, Mapping) and group.get("method") == "gptq" for group in quant.values())
    return seconds + metrics.get("pack_seconds", 0.0) if calibrated and seconds is not None else seconds


def seed_of(entry: Entry) -> int:
    """The model's seed."""
    parameters, config = entry.get("parameters") or {}, entry.get("config") or {}
    return int(parameters.get(SEED, config.get(SEED, RunConfig().seed)))


def repeat_of(entry: Entry) -> int:
    """0, or the number of the run of the same seed again."""
    return int((entry.get("parameters") or {}).get(REPEAT, 0))


def rung_of(entry: Entry) -> str | None:
    """The rung whose figure counts, None where none was scored."""
    chunks = entry.get("chunks") or {}
    return next((rung for rung in (TTT, SLIDING) if rung in chunks), None)


def stream_of(entry: Entry) -> Stream | None:
    """The stream that a finished run was scored on; None for another one."""
    rung = rung_of(entry)
    if rung is None or entry.get("status") != DONE:
        return None
    chunks = entry["chunks"][rung]
    return Stream(tuple(int(chunk[1]) for chunk in chunks), tuple(int(chunk[2]) for chunk in chunks))


def configuration_of(entry: Entry) -> str:
    """All fields of the configuration but the seed, defaults filled in, as canonical JSON."""
    return _normalised(json.dumps(entry.get("config") or {}, sort_keys=True))


def config_key(config: RunConfig) -> str:
    """The same for a configuration itself."""
    return _normalised(json.dumps(to_plain(config), sort_keys=True))


@lru_cache(maxsize=4096)
def _normalised(text: str) -> str:
    plain = json.loads(text)
    with contextlib.suppress(ValueError):  # a field that this version does not know: equal only to what has it too
        plain = to_plain(replace(from_plain(RunConfig, plain), seed=RunConfig().seed))
    return json.dumps({name: value for name, value in plain.items() if name != SEED}, sort_keys=True)


def _facts(entry: Entry) -> dict[str, Any]:
    """What must be the same for all runs of a study, by the name that an error shows."""
    facts = {name: entry.get(name) for name in ("code", "data")}
    facts["device"] = (entry.get("tags") or {}).get("device")
    facts |= {f"environment.{package}": version for package, version in (entry.get("environment") or {}).items()}
    return facts | flat(json.loads(configuration_of(entry)))


def _is_fact(field: str) -> bool:
    return field in ("code", "data", "device") or field.startswith("environment.")


def _text(facts: Mapping[str, Any], field: str) -> str:
    value = facts.get(field)
    if value is None and _is_fact(field):
        return "unknown"
    if field not in facts:
        return "given" if any(other.startswith(f"{field}.") for other in facts) else "not there"
    return value if isinstance(value, str) else json.dumps(value)


def _seeds(seeds: Sequence[int | None]) -> str:
    """Seeds in words; None is the command's own."""
    some = sorted({seed for seed in seeds if seed is not None})
    words = [f"seed{'s' if len(some) > 1 else ''} {', '.join(map(str, some))}"] if some else []
    return " and ".join(words + (["this command"] if None in seeds else []))


def _cold(entry: Entry) -> bool | None:
    metrics = entry.get("metrics") or {}
    if not metrics:
        return None
    now, alone = metrics.get("seconds_now"), metrics.get("seconds")
    return not entry.get("keys") or now is None or alone is None or math.isclose(now, alone, rel_tol=1e-6, abs_tol=1e-6)


def _why(entry: Entry, mine: Sequence[Entry], facts: Mapping[str, str | None]) -> str:
    """Why an entry of the study's configuration is not in the study."""
    if any((entry.get("sweep"), entry.get("trial")) == (own.get("sweep"), own.get("trial")) for own in mine):
        return "an earlier attempt, run again since"
    theirs = _facts(entry)
    differ = [field for field in facts if theirs.get(field) not in (None, facts[field])]
    return f'of "{entry.get("sweep")}"' + (f"; other {', '.join(differ)}" if differ else "")
