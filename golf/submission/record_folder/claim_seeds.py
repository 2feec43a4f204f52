"""The results by seed in a submission.json: an object, a list, parallel lists, or fields whose names hold the seed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claim_figures import as_number, read_figures
from golf.submission.record_folder.claim_names import BY_SEED, LISTS, OTHERS
from golf.submission.record_folder.claims import FILE, Claims, Json, JsonObject, brief
from golf.submission.record_folder.numbers import ParsedNumber

_SEED_IN_NAME = re.compile(r"(?:seed)?[ _-]?(\d{1,18})", re.IGNORECASE)
_MOST_SEEDS = 1000
BySeed = dict[int, Claims]


def results_by_seed(fields: Mapping[str, Json]) -> tuple[BySeed, list[Cause]]:
    """Returns the results by seed, from the first field that holds some, and what is wrong with their form."""
    causes: list[Cause] = []
    for name in BY_SEED:
        value = fields.get(name)
        if value is None or (name in ("seeds", "runs", "results") and not _holds_results(value)):
            continue
        results, wrong = _results(name, value, fields)
        if results:
            return results, wrong
        causes += wrong
    return _flat_results(fields) or _parallel(fields, fields.get("seeds")) or _unnamed(fields, 2), causes


def _unnamed(fields: Mapping[str, Json], depth: int) -> BySeed:
    """Returns results in an object of any name whose keys are seeds; those of other work are left out."""
    for name, value in fields.items():
        if not isinstance(value, dict) or OTHERS.search(name):
            continue
        if len(value) > 1 and _holds_results(value):
            results, _ = _results(name, value, fields)
            if sum("val_bpb" in claims.numbers for claims in results.values()) > 1:
                return results
        inner = _unnamed(value, depth - 1) if depth > 1 else {}
        if inner:
            return inner
    return {}


def _holds_results(value: Json) -> bool:
    """Returns whether a field that has a general name holds results by seed."""
    if isinstance(value, dict):
        return bool(value) and all(_SEED_IN_NAME.fullmatch(name.strip()) for name in value)
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "seed" in item for item in value)


def _results(name: str, value: Json, fields: Mapping[str, Json]) -> tuple[BySeed, list[Cause]]:
    """Returns the results in the field `name` and what is wrong with their form."""
    if isinstance(value, dict) and (parallel := _parallel(value, value.get("seeds"))):
        return parallel, []
    if isinstance(value, list) and value and all(_is_number(item) for item in value):
        return _parallel({name: value}, fields.get("seeds")), []  # a list of scores beside the list of seeds
    results: BySeed = {}
    causes: list[Cause] = []
    for seed, entry in _pairs(value):
        if seed in results or len(results) == _MOST_SEEDS:
            causes.append(Cause(f"{FILE}: {name} must have one entry for each seed, {seed} stands twice", "correct it"))
            break
        plain: JsonObject = entry if isinstance(entry, dict) else {"val_bpb": entry}
        claims = read_figures(plain, f"seed {seed}: ")
        causes += claims.causes
        results[seed] = replace(claims, numbers={**_other_bpb(plain), **claims.numbers})
    if not results and not causes:
        what = f"{FILE}: {name} must be results by seed, got {brief(value)}"
        causes.append(Cause(what, "name each entry by its seed"))
    return results, causes


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_seed(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18


def _other_bpb(fields: JsonObject) -> dict[str, ParsedNumber]:
    """Returns the last figure whose name says bits per byte, where none has the usual name."""
    names = [name for name in fields if "bpb" in name.lower() and not re.search("pre|delta", name, re.IGNORECASE)]
    numbers = [number for name in names if (number := as_number(fields[name])) is not None]
    return {"val_bpb": numbers[-1]} if numbers else {}


def _pairs(results: Json) -> Iterator[tuple[int, Json]]:
    """Yields each seed with its entry; entries without a seed are left out."""
    if isinstance(results, dict):
        for name, entry in results.items():
            if (match := _SEED_IN_NAME.fullmatch(name.strip())) is not None:
                yield int(match[1]), entry
    elif isinstance(results, list):
        for entry in results:
            seed = entry.get("seed") if isinstance(entry, dict) else None
            if isinstance(seed, int) and not isinstance(seed, bool):
                yield seed, entry


def _parallel(fields: Mapping[str, Json], listed: Json) -> BySeed:
    """Returns the results of lists beside a list of seeds."""
    if not isinstance(listed, list) or not all(_is_seed(seed) for seed in listed):
        return {}
    seeds = [seed for seed in listed if isinstance(seed, int)]
    numbers: list[dict[str, ParsedNumber]] = [{} for _ in seeds]
    for name, values in fields.items():
        kind = next((kind for kind, pattern in LISTS.items() if pattern.match(name.lower())), None)
        kind = "val_bpb" if kind is None and name in BY_SEED and name != "seeds" else kind
        if kind is None or not isinstance(values, list) or len(values) != len(seeds):
            continue
        for of_seed, value in zip(numbers, values, strict=True):
            number = as_number(value)
            if number is not None:
                of_seed.setdefault(kind, number)
    return {seed: Claims(numbers=of_seed) for seed, of_seed in zip(seeds, numbers, strict=True) if of_seed}


def _flat_results(fields: Mapping[str, Json]) -> BySeed:
    """Returns the results of fields such as val_bpb_seed_42 and seed42_val_bpb."""
    by_seed: dict[int, JsonObject] = {}
    for name, value in fields.items():
        match = re.fullmatch(r"(?:(\w+?)_)?seed_?(\d{1,18})(?:_(\w+))?", name)
        if match is not None and (match[1] or match[3]) and not isinstance(value, (dict, list)):
            by_seed.setdefault(int(match[2]), {})[match[1] or match[3]] = value
    results = {seed: read_figures(of_seed) for seed, of_seed in by_seed.items()}
    return {seed: claims for seed, claims in results.items() if claims.numbers}


def listed_seeds(fields: Mapping[str, Json], by_seed: Mapping[int, Claims]) -> tuple[tuple[int, ...], list[Cause]]:
    """Returns the seeds that it lists, and what is wrong with the list."""
    seed = fields.get("seed")
    listed = fields.get("seeds", [seed] if _is_number(seed) and isinstance(seed, int) else list(by_seed))
    causes = []
    if by_seed and (listed is None or isinstance(listed, int) or _holds_results(listed)):
        listed = list(by_seed)  # it holds the results, or their number
    elif isinstance(listed, str):
        listed = [int(digits) for digits in re.findall(r"\d{1,18}", listed)]
    elif isinstance(listed, list) and listed:
        texts = [seed for seed in listed if isinstance(seed, str) and seed.isdigit()]
        if len(texts) == len(listed):
            listed = [int(text[:18]) for text in texts]
            causes.append(Cause(f"{FILE}: seeds are texts", "write them as whole numbers", REMARK))
    if not isinstance(listed, list) or not all(_is_seed(seed) for seed in listed):
        cause = Cause(f"{FILE}: seeds must be a list of whole numbers, got {brief(listed)}", "list the seeds")
        return tuple(by_seed), [] if listed is None or isinstance(listed, int) else [cause]
    seeds = [seed for seed in listed if isinstance(seed, int)]
    if len(set(seeds)) < len(seeds):
        causes.append(Cause(f"{FILE}: seeds lists a seed twice: {brief(listed)}", "list each seed once"))
    if by_seed and set(by_seed) != set(seeds):
        text = f"{FILE}: seeds {brief(listed)} are not those of the results by seed {brief(list(by_seed))}"
        causes.append(Cause(text, "list the seeds that have results"))
    return tuple(dict.fromkeys(seeds[:_MOST_SEEDS])), causes
