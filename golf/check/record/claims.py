"""What a submission.json claims: its figures under the names that are in use, and what is wrong with its form.

Numbers keep the last decimal that they were written with. Results by seed may be an object or a list of objects under
several names, parallel lists, or fields whose names hold the seed; sizes may be numbers of bytes or text such as
"15.67MB model + 0.077MB code". Damage and nonsense become causes in words, never an exception. The names are those of
the files below `records/` of openai/parameter-golf.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from golf.check.points import FAILED, REMARK, Cause
from golf.check.record.claim_names import ALSO_CALLED, BY_SEED, HARDWARE, LISTS, NUMBERS, SIZES
from golf.check.record.numbers import SIZE, Told, told, told_size
from golf.check.record.text import decoded

FILE = "submission.json"
REQUIRED = ("author", "github_id", "name", "date", "val_bpb")
"""Without these a submission cannot be listed."""
WANTED = (
    *("track", "val_loss", "bytes_total", "bytes_code", "bytes_model", "seeds", "seed_results", "val_bpb_std"),
    *("hardware", "versions"),
)
"""What complete ones also have."""
_SEED_IN_NAME = re.compile(r"(?:seed)?[ _-]?(\d{1,18})", re.IGNORECASE)
_MOST_SEEDS = 1000
_TEXT_FIELDS = ("author", "github_id", "name", "date", "track")


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it.

    Attributes:
        file: the name of the file.
        fields: as they stand there.
        numbers: by the first names of the table of names.
        seeds: the seeds it lists, in its order.
        by_seed: the figures of each seed.
        causes: what is wrong with its form.
    """

    file: str = FILE
    fields: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Told] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()

    def text(self, name: str) -> str | None:
        """A text field."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    @property
    def hardware(self) -> dict[str, str]:
        """The fields that name the machine, flat, in the order of how usual their names are."""
        found = {name: _flat_text(self.fields[name]) for name in HARDWARE if self.fields.get(name)}
        return {name: text for name, text in found.items() if text}


def read_claims(data: bytes, file: str = FILE) -> Claims:
    """The claims in the bytes of a submission.json."""
    text = decoded(data)
    encoding: list[Cause] = []
    if text.encoding != "utf-8":
        encoding.append(Cause(f"{file} is {text.encoding.upper()} text; JSON is UTF-8", f"save {file} as UTF-8"))
    try:
        fields = json.loads(text.text, object_pairs_hook=_once, parse_float=_Written, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        return Claims(file, causes=(*encoding, Cause(f"{file} is not valid JSON ({str(error)[:120]})", "correct it")))
    if not isinstance(fields, dict):
        return Claims(file, causes=(*encoding, Cause(f"{file} must hold an object of fields", "correct it")))
    numbers, causes = _numbers(fields)
    by_seed, wrong = _by_seed(fields)
    seeds, wrong_seeds = _seeds(fields, by_seed)
    required = _required(fields, numbers)
    causes = [*encoding, *required, *causes, *wrong, *wrong_seeds]
    return Claims(file, fields, numbers, seeds, by_seed, tuple(causes))


def not_told(claims: Claims) -> list[str]:
    """The fields of complete ones that it lacks, under whatever name."""
    versions = any("version" in name for name in claims.fields)
    told_so = {*claims.fields, *claims.numbers, *(["versions"] if versions else [])}
    told_so |= {"hardware"} if claims.hardware else set()
    told_so |= {"seed_results"} if claims.by_seed else set()
    return [name for name in WANTED if name not in told_so]


class _Written(float):
    """A JSON number that remembers how it was written."""

    def __new__(cls, text: str) -> "_Written":
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


def brief(value: Any) -> str:
    """A value in few words; one that holds others may be too deep for more."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}" if any(isinstance(one, (dict, list)) for one in value) else repr(value)[:60]
    return repr(value)[:40]


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a field stands twice: {next(name for name in names if names.count(name) > 1)[:40]}")
    return found


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _flat_text(value: Any) -> str:
    """A text, or the texts and numbers in a small object or list, in their order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) <= 20:
        return " ".join(f"{name} {_flat_text(one)}" for name, one in value.items() if not isinstance(one, dict))[:300]
    if isinstance(value, list) and len(value) <= 20:
        return ", ".join(_flat_text(one) for one in value if not isinstance(one, (dict, list)))[:300]
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _required(fields: Mapping[str, Any], numbers: Mapping[str, Told]) -> list[Cause]:
    """Required fields that are missing, empty or told under another name."""
    causes = []
    for name in REQUIRED:
        if fields.get(name) is not None or name in numbers:
            continue
        other = next((one for one in ALSO_CALLED.get(name, ()) if fields.get(one)), None)
        if other is not None:
            causes.append(Cause(f"{FILE} tells {name} as {other}", f"call it {name}", REMARK))
        elif name == "val_bpb":
            causes.append(Cause(f"{FILE} has no val_bpb", "add the mean of the seeds"))
        else:
            level = REMARK if name in ("name", "date") else FAILED  # the folder's name tells both
            causes.append(Cause(f"{FILE} has no {name}", f"add {name}", level))
    for name in _TEXT_FIELDS:
        value = fields.get(name)
        is_text = isinstance(value, (str, list)) and bool(_flat_text(value).strip())
        if value is not None and not is_text:
            causes.append(Cause(f"{FILE}: {name} must be text, got {brief(value)}", f"write {name} as text"))
    return causes


def _numbers(fields: Mapping[str, Any], of: str = "") -> tuple[dict[str, Told], list[Cause]]:
    """The figures, and what is wrong with them.

    Args: of: what the fields belong to, for messages, such as "seed 42: ".
    """
    found: dict[str, Told] = {}
    causes: list[Cause] = []
    for name, names in NUMBERS.items():
        known = next((one for one in names if fields.get(one) is not None and _may_be(one, fields[one])), None)
        if known is None and name == "bytes_model":
            known = next((one for one in fields if one.startswith("bytes_model") and fields[one] is not None), None)
        if known is None:
            continue
        value = fields[known]
        if name in SIZES:
            sizes, cause = _size(name, known, value, of)
            found |= {one: size for one, size in sizes.items() if one not in found}
        else:
            number, cause = _figure(known, value, of)
            found |= {} if number is None else {name: number}
        causes += [] if cause is None else [cause]
    return found, causes


def _may_be(name: str, value: Any) -> bool:
    """Whether a field can be the figure: a short name such as "p" or "artifact" may be something else altogether."""
    return name not in ("artifact", "p", "std", "code_size", "artifact_size") or isinstance(value, (int, float))


def _figure(name: str, value: Any, of: str) -> tuple[Told | None, Cause | None]:
    number = _told(value)
    if number is None or not math.isfinite(number.value):
        return None, Cause(f"{FILE}: {of}{name} must be a number, got {brief(value)}", f"write {name} as a number")
    if isinstance(value, str):
        cause = Cause(f'{FILE}: {of}{name} must be a number, got the text "{value:.40}"', "write it without quotes")
        return number, cause
    return number, None


def _told(value: Any) -> Told | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return told(value.text if isinstance(value, _Written) else str(value)[:64])


def _size(name: str, known: str, value: Any, of: str) -> tuple[dict[str, Told], Cause | None]:
    """Sizes in a field: bytes, megabytes, or words that tell several."""
    if isinstance(value, str):
        sizes = _sizes_in_words(value, name)
        if not sizes:
            return {}, Cause(f"{FILE}: {of}{known} must be a number, got {brief(value)}", "write the number of bytes")
        return sizes, Cause(
            f'{FILE}: {of}{known} is told in words ("{value:.60}")', "write the number of bytes", REMARK
        )
    number = _told(value)
    if number is None or not math.isfinite(number.value) or not 0 <= number.value < 1e15:
        return {}, Cause(f"{FILE}: {of}{known} must be a number, got {brief(value)}", "write the number of bytes")
    if 0 < number.value < 100 and name != "bytes_code":
        text = f"{FILE}: {of}{known} must be a whole number of bytes, got {brief(value)} (megabytes?)"
        return {name: Told(number.value * 1e6, number.unit * 1e6)}, Cause(text, "write the number of bytes", REMARK)
    if number.value % 1 and name != "bytes_mean":
        text = f"{FILE}: {of}{known} must be a whole number of bytes, got {brief(value)}"
        return {name: number}, Cause(text, "tell the largest seed's, not a mean")
    return {name: number}, None


def _sizes_in_words(text: str, name: str) -> dict[str, Told]:
    """Sizes such as "15.67MB model + 0.077MB code" by what the words beside them say; a lone one is the field's own."""
    found: dict[str, Told] = {}
    for match in re.finditer(rf"{SIZE}\s{{0,3}}\(?(\w{{0,20}})", text[:200], re.IGNORECASE):
        size = told_size(match[1], match[2])
        if size is None or (match[2] is None and size.value < 1000):
            continue
        word = match[3].lower()
        kind = "bytes_model" if "model" in word or "weight" in word else "bytes_code" if "code" in word else name
        found.setdefault(kind, size)
    return found


def _by_seed(fields: Mapping[str, Any]) -> tuple[dict[int, Claims], list[Cause]]:
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
    return _flat_results(fields) or _parallel(fields, fields.get("seeds")), causes


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
    if isinstance(value, list) and value and all(type(one) in (int, _Written) for one in value):
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
        numbers, wrong = _numbers(plain, f"seed {seed}: ")
        if "val_bpb" not in numbers:
            numbers |= _other_bpb(plain)
        causes += wrong
        found[seed] = Claims(fields=plain, numbers=numbers)
    if not found and not causes:
        causes.append(
            Cause(f"{FILE}: {name} must be results by seed, got {brief(value)}", "name each entry by its seed")
        )
    return found, causes


def _other_bpb(fields: Mapping[str, Any]) -> dict[str, Told]:
    """The last figure whose name says bits per byte, where none has the usual name."""
    names = [
        name for name in fields if "bpb" in name.lower() and "pre" not in name.lower() and "delta" not in name.lower()
    ]
    numbers = [number for name in names if (number := _told(fields[name])) is not None]
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
    numbers: list[dict[str, Told]] = [{} for _ in seeds]
    for name, value in fields.items():
        kind = next((kind for kind, pattern in LISTS.items() if pattern.match(name.lower())), None)
        kind = "val_bpb" if kind is None and name in BY_SEED and name != "seeds" else kind
        if kind is None or not isinstance(value, list) or len(value) != len(seeds):
            continue
        for at, one in enumerate(value):
            number = _told(one)
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
    numbers = {seed: _numbers(one)[0] for seed, one in found.items()}
    return {seed: Claims(fields=found[seed], numbers=one) for seed, one in numbers.items() if one}


def _seeds(fields: Mapping[str, Any], by_seed: Mapping[int, Claims]) -> tuple[tuple[int, ...], list[Cause]]:
    """The seeds it lists, and what is wrong with the list."""
    listed = fields.get("seeds", [fields["seed"]] if type(fields.get("seed")) is int else list(by_seed))
    if by_seed and (_holds_results(listed) or listed is None):
        listed = list(by_seed)
    if isinstance(listed, str):
        listed = [int(seed) for seed in re.findall(r"\d{1,18}", listed)]
    if type(listed) is int and by_seed:  # their number
        listed = list(by_seed)
    if not isinstance(listed, list) or not all(type(seed) is int and 0 <= seed < 10**18 for seed in listed):
        cause = Cause(f"{FILE}: seeds must be a list of whole numbers, got {brief(listed)}", "list the seeds")
        return tuple(by_seed), [] if listed is None or type(listed) is int else [cause]
    causes = []
    if len(set(listed)) < len(listed):
        causes.append(Cause(f"{FILE}: seeds lists a seed twice: {brief(listed)}", "list each seed once"))
    if by_seed and set(by_seed) != set(listed):
        text = f"{FILE}: seeds {brief(listed)} are not those of the results by seed {brief(list(by_seed))}"
        causes.append(Cause(text, "list the seeds that have results"))
    return tuple(dict.fromkeys(listed[:_MOST_SEEDS])), causes
