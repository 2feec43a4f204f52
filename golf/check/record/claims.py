"""What a submission.json claims: its figures under the names that are in use, and what is wrong with its form.

The bytes of the file enter, `Claims` leave; numbers keep the last decimal they were written with. `seed_results` may be
an object by seed or a list, sizes may be numbers or text. Damage and nonsense become problems in words, never an
exception. The names are those of the files below `records/` of openai/parameter-golf.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from golf.check.record.logs import Told, told

REQUIRED = ("author", "github_id", "name", "date", "val_bpb")
"""Without these a submission cannot be listed."""
WANTED = (
    *("track", "val_loss", "bytes_total", "bytes_code", "bytes_model", "seeds", "seed_results", "val_bpb_std"),
    *("hardware", "versions"),
)
"""What complete ones also have."""
_TEXTS = ("author", "github_id", "name", "date", "track", "hardware")
_NUMBERS = {
    "val_bpb": ("val_bpb", "mean_val_bpb", "val_bpb_mean"),
    "val_loss": ("val_loss", "mean_val_loss", "val_loss_mean"),
    "val_bpb_std": ("val_bpb_std", "std_val_bpb", "val_bpb_stddev"),
    "val_loss_std": ("val_loss_std", "std_val_loss", "val_loss_stddev"),
    "bytes_total": ("bytes_total", "total_bytes"),
    "bytes_code": ("bytes_code", "code_bytes"),
    "bytes_model": ("bytes_model", "model_bytes"),
    "bytes_either": ("artifact_bytes", "artifact_size_bytes", "bytes_artifact"),
}
"""A figure's names; "artifact_bytes" is the model with the code for some and without for others."""
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """As they stand there."""
    numbers: Mapping[str, Told] = field(default_factory=dict)
    """By the first names of _NUMBERS."""
    seeds: tuple[int, ...] = ()
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Of its form, in words."""

    def count(self, name: str) -> int | None:
        """A number of bytes."""
        number = self.numbers.get(name)
        return None if number is None else int(number.value)


def read_claims(data: bytes) -> Claims:
    """The claims in the bytes of a submission.json."""
    try:
        fields = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_once, parse_float=_Written, parse_constant=_refused
        )
    except (ValueError, RecursionError) as error:
        return Claims(problems=(f"submission.json is not valid JSON ({str(error)[:120]})",))
    if not isinstance(fields, dict):
        return Claims(problems=("submission.json must hold an object of fields",))
    numbers, problems = _numbers(fields)
    problems += [
        f"submission.json has no {name}" for name in REQUIRED if fields.get(name) is None and name not in numbers
    ]
    problems += [f"{name} must be text, got {_brief(fields[name])}" for name in _TEXTS if not _is_text(fields, name)]
    by_seed, wrong = _by_seed(fields)
    seeds, wrong_seeds = _seeds(fields, by_seed)
    return Claims(fields, numbers, seeds, by_seed, (*problems, *wrong, *wrong_seeds))


def not_told(claims: Claims) -> list[str]:
    """The fields of complete ones that it lacks, under whatever name."""
    versions = any("version" in name for name in claims.fields)
    told_so = {*claims.fields, *claims.numbers, *(["versions"] if versions else [])}
    told_so |= {"bytes_model"} if any(name.startswith("bytes_model") for name in claims.fields) else set()
    return [name for name in WANTED if name not in told_so]


class _Written(float):
    """A JSON number that remembers how it was written."""

    def __new__(cls, text: str) -> "_Written":
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


def _brief(value: Any) -> str:
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


def _is_text(fields: Mapping[str, Any], name: str) -> bool:
    return fields.get(name) is None or (isinstance(fields[name], str) and bool(fields[name].strip()))


def _numbers(fields: Mapping[str, Any]) -> tuple[dict[str, Told], list[str]]:
    """The figures, and what is wrong with them."""
    found: dict[str, Told] = {}
    problems = []
    for name, names in _NUMBERS.items():
        known = next((one for one in names if fields.get(one) is not None), None)
        if known is None:
            continue
        value, whole = fields[known], name.startswith("bytes")
        number = _told(value)
        if number is None or not math.isfinite(number.value) or (whole and not 0 <= number.value < 1e15):
            problems.append(f"{known} must be a number, got {_brief(value)}")
            continue
        if isinstance(value, str):
            problems.append(f'{known} must be a number, got the text "{value:.40}"')
        if whole and (number.value % 1 or (name != "bytes_code" and 0 < number.value < 100)):
            problems.append(f"{known} must be a whole number of bytes, got {_brief(value)} (megabytes?)")
            continue
        found[name] = number
    return found, problems


def _told(value: Any) -> Told | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = value.text if isinstance(value, _Written) else str(value)[:64]
    return told(re.sub(r"\s*bytes$", "", text))


def _by_seed(fields: Mapping[str, Any]) -> tuple[dict[int, Claims], list[str]]:
    """The results by seed."""
    results = fields.get("seed_results")
    if results is None:
        return {}, []
    found: dict[int, Claims] = {}
    problems = []
    for seed, one in _pairs(results):
        if seed is None or seed in found or len(found) == _MOST_SEEDS:
            problems.append("seed_results must have one entry for each seed, with its seed")
            break
        plain = one if isinstance(one, dict) else {"val_bpb": one}
        numbers, wrong = _numbers(plain)
        problems += [f"seed {seed}: {text}" for text in wrong]
        found[seed] = Claims(plain, numbers)
    if not found and not problems:
        problems.append(f"seed_results must be results by seed, got {_brief(results)}")
    return found, problems


def _pairs(results: Any) -> Iterator[tuple[int | None, Any]]:
    if isinstance(results, dict):
        for name, one in results.items():
            match = re.fullmatch(r"(?:seed)?[ _-]?(\d{1,18})", name.strip(), re.IGNORECASE)
            yield (int(match[1]) if match else None), one
    elif isinstance(results, list):
        for one in results:
            seed = one.get("seed") if isinstance(one, dict) else None
            yield (seed if isinstance(seed, int) and not isinstance(seed, bool) else None), one


def _seeds(fields: Mapping[str, Any], by_seed: Mapping[int, Claims]) -> tuple[tuple[int, ...], list[str]]:
    """The seeds it lists, and what is wrong with the list."""
    listed = fields.get("seeds", [fields["seed"]] if type(fields.get("seed")) is int else list(by_seed))
    if not isinstance(listed, list) or not all(type(seed) is int and 0 <= seed < 10**18 for seed in listed):
        return tuple(by_seed), [f"seeds must be a list of whole numbers, got {_brief(listed)}"]
    problems = [] if len(set(listed)) == len(listed) else [f"seeds lists a seed twice: {_brief(listed)}"]
    if by_seed and set(by_seed) != set(listed):
        problems.append(f"seeds {_brief(listed)} are not those of seed_results {_brief(list(by_seed))}")
    return tuple(dict.fromkeys(listed[:_MOST_SEEDS])), problems
