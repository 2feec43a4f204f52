"""What the runs of one study have in common: the configuration but the seed, code, data, device and versions.

`configuration_key` is the one answer to "is this the same configuration?"; it holds for any workload.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import msgspec

from golf.config.config import RunConfig, from_plain, to_plain
from golf.config.identity import without_seed
from tune.records.entries import TrialEntry, TrialState
from tune.records.text import flat

GEPA = "gepa"
"""Name of the workload whose configurations are `RunConfig`."""
_FACTS = ("code", "data", "device")
_ENVIRONMENT = "environment."


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a run computes, and what it runs on."""

    configuration: str
    """Its `configuration_key`."""
    code: str
    """Digest of the code that computes the stages."""
    data: str
    """Digest of the dataset."""
    device: str | None
    """Number and name of the devices; None before the run has come so far as to say."""
    environment: Mapping[str, str]
    """Versions of the packages."""

    @property
    def facts(self) -> dict[str, str | None]:
        """ "code", "data", "device" and "environment.<package>"."""
        versions = {f"{_ENVIRONMENT}{package}": version for package, version in self.environment.items()}
        return {"code": self.code, "data": self.data, "device": self.device} | versions


def configuration_key(config: Mapping[str, Any], workload: str) -> str:
    """Returns all fields of a configuration but the seed as canonical JSON: equal for the runs of one seed study.

    Args:
        config: JSON values. For GEPA, fields that are left out get their defaults; others are taken as they are.
        workload: name of the workload.
    """
    if workload == GEPA and not _has_fields(config, _defaults()):
        return _completed_key(msgspec.json.encode(config, order="sorted"))
    return _canonical(config)


def same_configuration_key(entry: TrialEntry) -> str:
    """Returns the `configuration_key` of a trial: equal for trials that differ in their seed only."""
    return configuration_key(entry.config, entry.workload)


def _has_fields(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Returns whether a configuration, and each of its sections, has every field that the defaults have."""
    return all(
        name in config
        and not (
            isinstance(config[name], dict) and isinstance(default, dict) and not _has_fields(config[name], default)
        )
        for name, default in defaults.items()
    )


@cache
def _defaults() -> dict[str, Any]:
    return to_plain(RunConfig())


@lru_cache(maxsize=4096)
def _completed_key(text: bytes) -> str:
    """Returns the key of a configuration that lacks fields; decoding one takes a millisecond."""
    config = msgspec.json.decode(text)
    with contextlib.suppress(ValueError):  # a field that this version does not know: equal only to what has it too
        config = to_plain(from_plain(RunConfig, config))
    return _canonical(config)


def _canonical(config: Mapping[str, Any]) -> str:
    return msgspec.json.encode(without_seed(config), order="sorted").decode()


def conditions_of(entry: TrialEntry) -> Conditions:
    """Returns the conditions under which a trial ran."""
    return Conditions(
        configuration=same_configuration_key(entry),
        code=entry.code,
        data=entry.data,
        device=None if entry.device is None else str(entry.device),
        environment=entry.environment,
    )


def check_unmixed(name: str, entries: Sequence[TrialEntry], coming: Conditions | None = None) -> dict[str, str | None]:
    """Returns the facts that all runs of a study share; None for what no run says.

    Args:
        name: of the study, for the message.
        entries: its runs.
        coming: conditions of the runs that this command would add.

    Raises:
        ValueError: naming the first field that differs, its values and their seeds, and further fields that differ.
    """
    runs = [(entry.seed, entry.state == TrialState.FAILED, conditions_of(entry)) for entry in entries]
    runs += [(None, True, coming)] if coming is not None else []
    fields = [conditions.facts | flat(json.loads(conditions.configuration)) for _, _, conditions in runs]
    mixed: dict[str, dict[str, list[int | None]]] = {}
    for field in dict.fromkeys(field for run in fields for field in run):
        values: dict[str, list[int | None]] = {}
        for (seed, may_lack_device, _), run in zip(runs, fields, strict=True):
            if field != "device" or run[field] is not None or not may_lack_device:
                values.setdefault(_shown(run, field), []).append(seed)
        if len(values) > 1:
            mixed[field] = values
    if mixed:
        raise ValueError(_difference(name, mixed))
    common: dict[str, str | None] = dict.fromkeys(_FACTS)
    for _, _, conditions in runs:
        common |= {field: value for field, value in conditions.facts.items() if value is not None}
    return common


def _difference(name: str, mixed: Mapping[str, Mapping[str, Sequence[int | None]]]) -> str:
    """Returns the message on fields that differ, a field of a whole section before those inside a section."""
    first, *others = sorted(mixed, key=lambda field: field.count("."))
    values = ", ".join(f"{value} ({_seeds(seeds)})" for value, seeds in mixed[first].items())
    more = f" (and in {', '.join(others[:4])})" if others else ""
    return (
        f'the runs of "{name}" differ in {first}: {values}{more}; one study needs one of each: '
        "another --name, or of a sweep SWEEP:TRIAL"
    )


def _shown(fields: Mapping[str, Any], field: str) -> str:
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
