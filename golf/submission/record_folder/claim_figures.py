"""The figures in a submission.json, of all runs and by seed, under the names that are in use.

Numbers keep the last decimal that they were written with; sizes may be numbers of bytes or text such as "15.67MB model
+ 0.077MB code". Results by seed are an object, a list, parallel lists, or fields whose names hold the seed. Damage and
nonsense become causes in words, never an exception.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeGuard

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claims import (
    BY_SEED,
    FILE,
    LISTS,
    NUMBERS,
    OTHERS,
    SIZES,
    Claims,
    Json,
    JsonObject,
    brief,
)
from golf.submission.record_folder.numbers import SIZE, ParsedNumber, parse_number, parse_size

_AMBIGUOUS = ("artifact", "p", "std", "code_size", "artifact_size")
"""Short names, which may be something else altogether: they count only with a number."""
_SEED_IN_NAME = re.compile(r"(?:seed)?[ _-]?(\d{1,18})", re.IGNORECASE)
_MOST_SEEDS = 1000
Numbers = dict[str, ParsedNumber]
BySeed = dict[int, Claims]


class WrittenFloat(float):
    """A JSON number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        self = super().__new__(cls, text)
        self.text = text
        return self


def read_figures(fields: Mapping[str, Json], owner: str = "") -> Claims:
    """Returns the figures in the fields of an object, and what is wrong with their form.

    Args:
        fields: of the object.
        owner: what the fields belong to, for messages, such as "seed 42: ".
    """
    numbers: Numbers = {}
    names: dict[str, str] = {}
    causes: list[Cause] = []
    for name, usual in NUMBERS.items():
        known = _known_name(name, usual, fields)
        if known is not None:
            read = _size if name in SIZES else _figure
            figures, wrong = read(name, fields[known], f"{FILE}: {owner}{known}")
            numbers = figures | numbers
            names |= dict.fromkeys(figures, known)
            causes += wrong
    return Claims(fields=fields, numbers=numbers, names=names, causes=tuple(causes))


def _known_name(name: str, usual: tuple[str, ...], fields: Mapping[str, Json]) -> str | None:
    """Returns the name under which an object has a figure; None without one."""
    for known in usual:
        value = fields.get(known)
        if value is not None and (known not in _AMBIGUOUS or isinstance(value, (int, float))):
            return known
    if name != "bytes_model":
        return None
    return next((known for known in fields if known.startswith(name) and fields[known] is not None), None)


def _figure(name: str, value: Json, where: str) -> tuple[Numbers, list[Cause]]:
    """Returns a number under its first name, and what is wrong with its form; `where` is the field in messages."""
    number = as_number(value)
    if number is None or not math.isfinite(number.value):
        remedy = f"write {where.rpartition(' ')[2]} as a number"
        return {}, [Cause(f"{where} must be a number, got {brief(value)}", remedy)]
    if isinstance(value, str):
        cause = Cause(f'{where} must be a number, got the text "{value:.40}"', "write it without quotes")
        return {name: number}, [cause]
    return {name: number}, []


def as_number(value: Json) -> ParsedNumber | None:
    """Returns a number, or a text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return parse_number(value.text if isinstance(value, WrittenFloat) else str(value)[:64])


def _size(name: str, value: Json, where: str) -> tuple[Numbers, list[Cause]]:
    """Returns the sizes in a field as `_figure` does: bytes, megabytes, or words that name several."""
    remedy = "write the number of bytes"
    no_number = [Cause(f"{where} must be a number, got {brief(value)}", remedy)]
    if isinstance(value, str):
        sizes = _sizes_in_words(value, name)
        in_words = [Cause(f'{where} is written in words ("{value:.60}")', remedy, REMARK)]
        return sizes, in_words if sizes else no_number
    number = as_number(value)
    if number is None or not math.isfinite(number.value) or not 0 <= number.value < 1e15:
        return {}, no_number
    rule = f"{where} must be a whole number of bytes, got {brief(value)}"
    if 0 < number.value < 100 and name != "bytes_code":
        size = ParsedNumber(number.value * 1e6, number.unit * 1e6)
        return {name: size}, [Cause(f"{rule} (megabytes?)", remedy, REMARK)]
    if number.value % 1 and name != "bytes_mean":
        return {name: number}, [Cause(rule, "state the largest seed's, not a mean")]
    return {name: number}, []


def _sizes_in_words(text: str, name: str) -> Numbers:
    """Returns sizes such as "15.67MB model + 0.077MB code" by the words beside them; a lone one is the field's own."""
    sizes: Numbers = {}
    for match in re.finditer(rf"{SIZE}\s{{0,3}}\(?(\w{{0,20}})", text[:200], re.IGNORECASE):
        size = parse_size(match[1], match[2])
        if size is None or (match[2] is None and size.value < 1000):
            continue
        word = match[3].lower()
        kind = "bytes_model" if "model" in word or "weight" in word else "bytes_code" if "code" in word else name
        sizes.setdefault(kind, size)
    return sizes


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


def _is_whole(value: Json) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _seeds_in(value: Json) -> list[int] | None:
    """Returns a list of seeds; None for anything else."""
    if not isinstance(value, list):
        return None
    seeds = [item for item in value if _is_whole(item) and 0 <= item < 10**18]
    return seeds if len(seeds) == len(value) else None


def _other_bpb(fields: JsonObject) -> Numbers:
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
            if _is_whole(seed):
                yield seed, entry


def _parallel(fields: Mapping[str, Json], listed: Json) -> BySeed:
    """Returns the results of lists beside a list of seeds."""
    seeds = _seeds_in(listed) or []
    numbers: list[Numbers] = [{} for _ in seeds]
    for name, values in fields.items():
        kind = next((kind for kind, pattern in LISTS.items() if pattern.match(name.lower())), None)
        kind = "val_bpb" if kind is None and name in BY_SEED and name != "seeds" else kind
        if kind is None or not isinstance(values, list) or len(values) != len(seeds):
            continue
        for of_seed, value in zip(numbers, values, strict=True):
            if (number := as_number(value)) is not None:
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
    listed = fields.get("seeds", [seed] if _is_whole(seed) else list(by_seed))
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
    seeds = _seeds_in(listed)
    if seeds is None:
        cause = Cause(f"{FILE}: seeds must be a list of whole numbers, got {brief(listed)}", "list the seeds")
        return tuple(by_seed), [] if listed is None or isinstance(listed, int) else [cause]
    if len(set(seeds)) < len(seeds):
        causes.append(Cause(f"{FILE}: seeds lists a seed twice: {brief(listed)}", "list each seed once"))
    if by_seed and set(by_seed) != set(seeds):
        text = f"{FILE}: seeds {brief(listed)} are not those of the results by seed {brief(list(by_seed))}"
        causes.append(Cause(text, "list the seeds that have results"))
    return tuple(dict.fromkeys(seeds[:_MOST_SEEDS])), causes
