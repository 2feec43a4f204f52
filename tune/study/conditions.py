"""What the runs of one study have in common: the configuration but the seed, code, data, device and versions.

`configuration_key` is the one answer to "is this the same configuration?"; it holds for any workload.
"""

import contextlib
import json
from collections.abc import Sequence
from functools import cache, lru_cache

import msgspec

from golf.config.config import RunConfig, from_plain, to_plain
from golf.config.identity import without_seed
from tune.records.entries import Config, TrialEntry, TrialState
from tune.records.text import flat

GEPA = "gepa"
"""Name of the workload whose configurations are `RunConfig`."""
_FACTS = ("code", "data", "device")
_ENVIRONMENT = "environment."


def configuration_key(config: Config, workload: str) -> str:
    """Returns all fields of a configuration but the seed as canonical JSON: equal for the runs of one seed study.

    Args: config: JSON values. For GEPA, fields that are left out get their defaults; others are taken as they are.
    """
    if workload == GEPA and not _has_fields(config, _defaults()):
        return _completed_key(msgspec.json.encode(config, order="sorted"))
    return _canonical(config)


def same_configuration_key(entry: TrialEntry) -> str:
    """Returns the `configuration_key` of a trial: equal for trials that differ in their seed only."""
    return configuration_key(entry.config, entry.workload)


def _has_fields(config: Config, defaults: Config) -> bool:
    """Returns whether a configuration, and each of its sections, has every field that the defaults have."""
    for name, default in defaults.items():
        if name not in config:
            return False
        if isinstance(default, dict) and isinstance(config[name], dict) and not _has_fields(config[name], default):
            return False
    return True


@cache
def _defaults() -> Config:
    return to_plain(RunConfig())


@lru_cache(maxsize=4096)
def _completed_key(text: bytes) -> str:
    """Returns the key of a configuration that lacks fields; decoding one takes a millisecond."""
    config = msgspec.json.decode(text)
    with contextlib.suppress(ValueError):  # a field that this version does not know: equal only to what has it too
        config = to_plain(from_plain(RunConfig, config))
    return _canonical(config)


def _canonical(config: Config) -> str:
    return msgspec.json.encode(without_seed(config), order="sorted").decode()


def facts_of(entry: TrialEntry) -> dict[str, str | None]:
    """Returns "code", "data", "device" (None: the run does not say) and "environment.<package>" of a run."""
    device = None if entry.device is None else str(entry.device)
    versions = {f"{_ENVIRONMENT}{package}": version for package, version in entry.environment.items()}
    return {"code": entry.code, "data": entry.data, "device": device, **versions}


def check_unmixed(name: str, entries: Sequence[TrialEntry], coming: TrialEntry | None = None) -> dict[str, str | None]:
    """Returns the facts that all runs of a study share; None for what no run says.

    Args: name: of the study, for the message; entries: its runs; coming: a run that this command would add, which has
        not come so far as to say its device.
    Raises: ValueError naming the first field that differs, its values and their seeds, and further fields that differ.
    """
    runs = [*entries, coming] if coming is not None else list(entries)
    fields = [facts_of(run) | flat(json.loads(same_configuration_key(run))) for run in runs]
    mixed: dict[str, dict[str, list[int | None]]] = {}
    for field in dict.fromkeys(field for values in fields for field in values):
        seeds: dict[str, list[int | None]] = {}
        for run, values in zip(runs, fields, strict=True):
            if field != "device" or values[field] is not None or not (run is coming or run.state == TrialState.FAILED):
                seeds.setdefault(_shown(values, field), []).append(None if run is coming else run.seed)
        if len(seeds) > 1:
            mixed[field] = seeds
    if mixed:
        first, *others = sorted(mixed, key=lambda field: field.count("."))  # whole sections before fields inside one
        differ = ", ".join(f"{value} ({_seeds(seeds)})" for value, seeds in mixed[first].items())
        more = f" (and in {', '.join(others[:4])})" if others else ""
        raise ValueError(
            f'the runs of "{name}" differ in {first}: {differ}{more}; one study needs one of each: '
            "another --name, or of a sweep SWEEP:TRIAL"
        )
    common: dict[str, str | None] = dict.fromkeys(_FACTS)
    for run in runs:
        common |= {field: value for field, value in facts_of(run).items() if value is not None}
    return common


def _shown(fields: Config, field: str) -> str:
    """Returns the value of a field for a message."""
    value = fields.get(field)
    if value is None and (field in _FACTS or field.startswith(_ENVIRONMENT)):
        return "unknown"
    if field not in fields:
        return "given" if any(other.startswith(f"{field}.") for other in fields) else "not there"
    return value if isinstance(value, str) else json.dumps(value)


def _seeds(seeds: Sequence[int | None]) -> str:
    """Returns seeds for a message; None stands for this command."""
    numbers = sorted({seed for seed in seeds if seed is not None})
    parts = [f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"] if numbers else []
    return " and ".join(parts + (["this command"] if None in seeds else []))
