"""The results by seed in a submission.json: an object, a list, parallel lists, or fields whose names hold the seed."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claim_figures import WrittenFloat, as_number, read_figures
from golf.submission.record_folder.claim_names import BY_SEED, LISTS, OTHERS
from golf.submission.record_folder.claims import FILE, Claims, brief
from golf.submission.record_folder.numbers import ParsedNumber

_SEED_IN_NAME = re.compile(r"(?:seed)?[ _-]?(\d{1,18})", re.IGNORECASE)
_MOST_SEEDS = 1000


def results_by_seed(fields: Mapping[str, Any]) -> tuple[dict[int, Claims], list[Cause]]:
    """The results by seed, from the first field that holds some."""
    causes: list[Cause] = []
    for name in BY_SEED:
        value = fields.get(name)
        if value is None or (name in ("seeds", "runs", "results") and not _holds_results(value)):
            continue
        found, wrong = _results(name, value, fields)
        if found:
            return found, wrong
        causes += wrong
    return _flat_results(fields) or _parallel(fields, fields.get("seeds")) or _unnamed(fields, 2), causes


def _unnamed(fields: Mapping[str, Any], depth: int) -> dict[int, Claims]:
    """Results in an object of any name whose keys are seeds; those of other work than the claimed are left out."""
    for name, value in fields.items():
        if not isinstance(value, dict) or OTHERS.search(name):
            continue
        if len(value) > 1 and _holds_results(value):
            found, _ = _results(name, value, fields)
            if sum("val_bpb" in one.numbers for one in found.values()) > 1:
                return found
        inner = _unnamed(value, depth - 1) if depth > 1 else {}
        if inner:
            return inner
    return {}


def _holds_results(value: Any) -> bool:
    """Whether a field that has a general name holds results by seed."""
    if isinstance(value, dict):
        return bool(value) and all(_SEED_IN_NAME.fullmatch(name.strip()) for name in value)
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "seed" in one for one in value)


def _results(name: str, value: Any, fields: Mapping[str, Any]) -> tuple[dict[int, Claims], list[Cause]]:
    if isinstance(value, dict) and isinstance(value.get("seeds"), list):
        parallel = _parallel(value, value["seeds"])
        if parallel:
            return parallel, []
    if isinstance(value, list) and value and all(type(one) in (int, WrittenFloat) for one in value):
        return _parallel({name: value}, fields.get("seeds")), []  # a list of scores beside the list of seeds
    found: dict[int, Claims] = {}
    causes: list[Cause] = []
    for seed, one in _pairs(value):
        if seed is None:
            continue
        if seed in found or len(found) == _MOST_SEEDS:
            causes.append(Cause(f"{FILE}: {name} must have one entry for each seed, {seed} stands twice", "correct it"))
            break
        plain = one if isinstance(one, dict) else {"val_bpb": one}
        figures = read_figures(plain, f"seed {seed}: ")
        numbers = figures.numbers if "val_bpb" in figures.numbers else {**figures.numbers, **_other_bpb(plain)}
        causes += figures.causes
        found[seed] = Claims(fields=plain, numbers=numbers, names=figures.names)
    if not found and not causes:
        causes.append(
            Cause(f"{FILE}: {name} must be results by seed, got {brief(value)}", "name each entry by its seed")
        )
    return found, causes


def _other_bpb(fields: Mapping[str, Any]) -> dict[str, ParsedNumber]:
    """The last figure whose name says bits per byte, where none has the usual name."""
    names = [
        name for name in fields if "bpb" in name.lower() and "pre" not in name.lower() and "delta" not in name.lower()
    ]
    numbers = [number for name in names if (number := as_number(fields[name])) is not None]
    return {"val_bpb": numbers[-1]} if numbers else {}


def _pairs(results: Any) -> Iterator[tuple[int | None, Any]]:
    if isinstance(results, dict):
        for name, one in results.items():
            match = _SEED_IN_NAME.fullmatch(name.strip())
            yield (int(match[1]) if match else None), one
    elif isinstance(results, list):
        for one in results:
            seed = one.get("seed") if isinstance(one, dict) else None
            yield (seed if isinstance(seed, int) and not isinstance(seed, bool) else None), one


def _parallel(fields: Mapping[str, Any], seeds: Any) -> dict[int, Claims]:
    """Results of lists that stand beside a list of seeds."""
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        return {}
    numbers: list[dict[str, ParsedNumber]] = [{} for _ in seeds]
    for name, value in fields.items():
        kind = next((kind for kind, pattern in LISTS.items() if pattern.match(name.lower())), None)
        kind = "val_bpb" if kind is None and name in BY_SEED and name != "seeds" else kind
        if kind is None or not isinstance(value, list) or len(value) != len(seeds):
            continue
        for at, one in enumerate(value):
            number = as_number(one)
            if number is not None:
                numbers[at].setdefault(kind, number)
    return {seed: Claims(numbers=one) for seed, one in zip(seeds, numbers, strict=True) if one}


def _flat_results(fields: Mapping[str, Any]) -> dict[int, Claims]:
    """Results of fields such as val_bpb_seed_42 and seed42_val_bpb."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in fields.items():
        match = re.fullmatch(r"(?:(\w+?)_)?seed_?(\d{1,18})(?:_(\w+))?", name)
        if match is not None and (match[1] or match[3]) and not isinstance(value, (dict, list)):
            found.setdefault(int(match[2]), {})[match[1] or match[3]] = value
    figures = {seed: read_figures(one) for seed, one in found.items()}
    return {
        seed: Claims(fields=found[seed], numbers=one.numbers, names=one.names)
        for seed, one in figures.items()
        if one.numbers
    }


def listed_seeds(fields: Mapping[str, Any], by_seed: Mapping[int, Claims]) -> tuple[tuple[int, ...], list[Cause]]:
    """The seeds it lists, and what is wrong with the list."""
    listed = fields.get("seeds", [fields["seed"]] if type(fields.get("seed")) is int else list(by_seed))
    if by_seed and (_holds_results(listed) or listed is None):
        listed = list(by_seed)
    if isinstance(listed, str):
        listed = [int(seed) for seed in re.findall(r"\d{1,18}", listed)]
    causes = []
    if isinstance(listed, list) and listed and all(isinstance(seed, str) and seed.isdigit() for seed in listed):
        listed = [int(seed[:18]) for seed in listed]
        causes.append(Cause(f"{FILE}: seeds are texts", "write them as whole numbers", REMARK))
    if type(listed) is int and by_seed:  # their number
        listed = list(by_seed)
    if not isinstance(listed, list) or not all(type(seed) is int and 0 <= seed < 10**18 for seed in listed):
        cause = Cause(f"{FILE}: seeds must be a list of whole numbers, got {brief(listed)}", "list the seeds")
        return tuple(by_seed), [] if listed is None or type(listed) is int else [cause]
    if len(set(listed)) < len(listed):
        causes.append(Cause(f"{FILE}: seeds lists a seed twice: {brief(listed)}", "list each seed once"))
    if by_seed and set(by_seed) != set(listed):
        text = f"{FILE}: seeds {brief(listed)} are not those of the results by seed {brief(list(by_seed))}"
        causes.append(Cause(text, "list the seeds that have results"))
    return tuple(dict.fromkeys(listed[:_MOST_SEEDS])), causes
