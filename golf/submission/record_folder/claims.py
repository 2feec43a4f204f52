"""What a submission.json claims: its figures, of all runs together and of each seed, and what is wrong with its form.

The names are those of the files below `records/` of openai/parameter-golf. Numbers keep the last decimal that they were
written with; sizes may be numbers of bytes or text such as "15.67MB model + 0.077MB code". Results by seed are an
object, a list, parallel lists, or fields whose names hold the seed. Damage and nonsense become causes in words, never
an exception.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeGuard

from golf.compliance.points import FAILED, REMARK, Cause
from golf.submission.record_folder.numbers import SIZE, ParsedNumber, parse_number, parse_size
from golf.submission.record_folder.text import decoded

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value of somebody's JSON."""
JsonObject = dict[str, Json]
Numbers = dict[str, ParsedNumber]
BySeed = dict[int, "Claims"]
FILE = "submission.json"
CORRECT = f"correct {FILE}, or add the right logs"
"""The remedy for a figure that no log has."""
REQUIRED = ("author", "github_id", "name", "date", "val_bpb")
"""Fields without which a submission cannot be listed."""
WANTED = (
    *("track", "val_loss", "bytes_total", "bytes_code", "bytes_model", "seeds", "seed_results", "val_bpb_std"),
    *("hardware", "versions"),
)
"""What complete submissions also have."""
ALSO_CALLED = {
    "author": ["authors", "submitter", "user", "username", "team", "contributor"],
    "github_id": ["github", "github_username", "github_user", "github_handle", "github_login", "submitter", "username"],
    "name": ["title", "run_name", "submission_name", "run_id", "submission"],
    "date": ["created_at", "timestamp", "submission_date"],
}
"""Other names of texts that are required."""
NUMBERS = {
    "val_bpb": "val_bpb mean_val_bpb val_bpb_mean bpb final_val_bpb mean_bpb bpb_mean",
    "val_loss": "val_loss mean_val_loss val_loss_mean final_val_loss",
    "val_bpb_std": "val_bpb_std std_val_bpb val_bpb_stddev bpb_std std_bpb std",
    "val_loss_std": "val_loss_std std_val_loss val_loss_stddev",
    "bytes_total": "bytes_total total_bytes submission_bytes total_submission_bytes",
    "bytes_code": "bytes_code code_bytes code_size_bytes code_size",
    "bytes_model": "bytes_model model_bytes compressed_model_bytes model_size_bytes model_ptz_bytes",
    "bytes_either": "artifact_bytes artifact_size_bytes bytes_artifact artifact_size artifact",
    "bytes_mean": "artifact_bytes_mean bytes_total_mean mean_artifact_bytes",
    "bytes_max": "artifact_bytes_max bytes_total_max max_artifact_bytes",
    "steps_mean": "train_steps_mean steps_mean mean_steps",
    "steps": "steps step_stop steps_completed training_steps train_steps num_steps step_count final_step",
    "train_seconds": "train_seconds training_time_seconds train_time_seconds wallclock_seconds train_time_s "
    "train_wallclock_s training_seconds training_wallclock_seconds train_wallclock_seconds",
    "train_ms": "train_time_ms training_time_ms train_wallclock_ms wallclock_ms train_ms stop_time_ms",
    "eval_seconds": "eval_seconds eval_time_seconds eval_time_s ttt_eval_time_s ttt_time_s total_eval_time_s",
    "eval_ms": "eval_time_ms ttt_eval_time_ms eval_ms",
    "val_tokens": "val_tokens validation_tokens target_tokens",
    "p_value": "p_value p pvalue p_val welch_p p_value_one_sided t_test_p",
}
"""A figure's names; "artifact_bytes" is the model with the code for some and without for others."""
SIZES = ("bytes_total", "bytes_code", "bytes_model", "bytes_either", "bytes_mean", "bytes_max")
BY_SEED = (
    *("seed_results", "seed_scores", "results_by_seed", "per_seed", "per_seed_results", "seed_runs", "runs", "results"),
    *("seeds", "individual_results", "seed_metrics", "seed_val_bpb", "seed_val_bpbs", "val_bpb_by_seed", "bpb_by_seed"),
    *("per_seed_val_bpb", "val_bpb_per_seed", "bpb_per_seed", "three_seed_results", "seed_bpb", "seed_bpbs"),
)
"""Fields that hold results by seed."""
_BEFORE, _AFTER = r"^(?:(?:all|seed|per_seed|individual)_)*", r"(?:_(?:per|by|all|each))?(?:_?seeds?|_values|_list)?$"
LISTS = {
    "val_bpb": re.compile(rf"{_BEFORE}(?:val_)?bpbs?{_AFTER}"),
    "val_loss": re.compile(rf"{_BEFORE}val_loss(?:es)?{_AFTER}"),
    "bytes_either": re.compile(rf"{_BEFORE}(?:artifact_)?(?:bytes|sizes?)(?:_total)?{_AFTER}"),
}
"""Lists beside a list of seeds, in its order."""
HARDWARE = (
    *("hardware", "platform", "gpu", "gpus", "device", "devices", "compute", "machine", "gpu_type", "accelerator"),
    "hw",
)
"""Fields that name the machine, the usual one first."""
OTHERS = re.compile(
    r"baseline|previous|comparison|compared|parent|base_|prior|reference|upstream|sota|merged|(?:^|_)pr_?\d|^vs_|_vs_|"
    r"versus|ablat|leaderboard|attribution|lineage",
    re.IGNORECASE,
)
"""Names of fields about other work than the claimed runs."""
_TEXT_FIELDS = ("author", "github_id", "name", "date", "track")
_AMBIGUOUS = ("artifact", "p", "std", "code_size", "artifact_size")
"""Short names, which may be something else altogether: they count only with a number."""
_SEED_IN_NAME = re.compile(r"(?:seed)?[ _-]?(\d{1,18})", re.IGNORECASE)
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Claims:
    """The figures of a submission.json, or of one seed in it."""

    file: str = FILE
    """Name of the file."""
    fields: Mapping[str, Json] = field(default_factory=dict)
    """The object as it is in the file."""
    numbers: Mapping[str, ParsedNumber] = field(default_factory=dict)
    """Figures by their names in NUMBERS."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The file's own names of the figures."""
    seeds: tuple[int, ...] = ()
    """The seeds it lists, in its order."""
    by_seed: Mapping[int, "Claims"] = field(default_factory=dict)
    """The figures of each seed."""
    causes: tuple[Cause, ...] = ()
    """What is wrong with its form."""

    def value(self, name: str) -> float | None:
        """Returns a figure; None without it."""
        return self.numbers[name].value if name in self.numbers else None

    def near(self, name: str, number: ParsedNumber | None) -> bool:
        """Returns whether a figure is known, and is `number` as far as both were written out."""
        return name in self.numbers and number is not None and self.numbers[name].near(number.value, number.unit)

    @property
    def claims_nothing(self) -> bool:
        """Whether it has no result at all, so that nothing says which runs are meant."""
        return "val_bpb" not in self.numbers and not self.seeds and not self.by_seed

    def text(self, name: str) -> str | None:
        """Returns a text field; None where it is missing or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    @property
    def hardware(self) -> dict[str, str]:
        """The fields that name the machine, as text, the most usual name first."""
        texts = {name: _flat_text(self.fields[name]) for name in HARDWARE if self.fields.get(name)}
        return {name: text for name, text in texts.items() if text}

    @property
    def missing_fields(self) -> list[str]:
        """The fields of complete submissions that it lacks, under whatever name."""
        present = {*self.fields, *self.numbers}
        present |= {"versions"} if any("version" in name for name in self.fields) else set()
        present |= {"hardware"} if self.hardware else set()
        present |= {"seed_results"} if self.by_seed else set()
        return [name for name in WANTED if name not in present]


class _WrittenFloat(float):
    """A JSON number that remembers how it was written."""

    def __init__(self, text: str) -> None:
        self.text = text


def read_claims(data: bytes, file: str = FILE) -> Claims:
    """Returns the claims in the bytes of a submission.json."""
    text, fields, wrong = decoded(data), None, "must hold an object of fields"
    causes: list[Cause] = []
    if text.encoding != "utf-8":
        causes.append(Cause(f"{file} is {text.encoding.upper()} text; JSON is UTF-8", f"save {file} as UTF-8"))
    try:
        fields = json.loads(text.text, object_pairs_hook=_once, parse_float=_WrittenFloat, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        wrong = f"is not valid JSON ({str(error)[:120]})"
    if not isinstance(fields, dict):
        return Claims(file, causes=(*causes, Cause(f"{file} {wrong}", "correct it")))
    claims = _read_figures(fields)
    by_seed, wrong_results = _results_by_seed(fields)
    seeds, wrong_seeds = _listed_seeds(fields, by_seed)
    causes += [*_required(fields, claims.numbers), *claims.causes, *wrong_results, *wrong_seeds]
    return replace(claims, file=file, seeds=seeds, by_seed=by_seed, causes=tuple(causes))


def _once(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    """Returns an object. Raises: ValueError where a field stands twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a field stands twice: {next(name for name in names if names.count(name) > 1)[:40]}")
    return fields


def _refused(text: str) -> Json:
    raise ValueError(f"{text} is not a number of JSON")


def _required(fields: Mapping[str, Json], numbers: Mapping[str, ParsedNumber]) -> Iterator[Cause]:
    """Yields the required fields that are missing, empty or have another name."""
    for name in REQUIRED:
        if fields.get(name) is not None or name in numbers:
            continue
        other = next((known for known in ALSO_CALLED.get(name, ()) if fields.get(known)), None)
        if other is not None:
            yield Cause(f"{FILE} has {name} as {other}", f"call it {name}", REMARK)
        else:
            level = REMARK if name in ("name", "date") else FAILED  # the folder's name has both
            yield Cause(f"{FILE} has no {name}", f"add {'the mean of the seeds' if name == 'val_bpb' else name}", level)
    for name in _TEXT_FIELDS:
        value = fields.get(name)
        if value is not None and not (isinstance(value, (str, list)) and _flat_text(value).strip()):
            yield Cause(f"{FILE}: {name} must be text, got {_brief(value)}", f"write {name} as text")


def _brief(value: Json) -> str:
    """Returns a value in few words; one that holds others may be too deep for more."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}" if any(isinstance(item, (dict, list)) for item in value) else repr(value)[:60]
    return repr(value)[:40]


def _flat_text(value: Json) -> str:
    """Returns a text, or the texts and numbers in a small object or list, in their order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) <= 20:
        return " ".join(f"{name} {_flat_text(part)}" for name, part in value.items() if not isinstance(part, dict))[
            :300
        ]
    if isinstance(value, list) and len(value) <= 20:
        return ", ".join(_flat_text(part) for part in value if not isinstance(part, (dict, list)))[:300]
    return str(value) if _is_number(value) else ""


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Json) -> TypeGuard[int]:
    """Returns whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _read_figures(fields: Mapping[str, Json], owner: str = "") -> Claims:
    """Returns the figures in the fields of an object, and what is wrong with their form.

    Args:
        fields: of the object.
        owner: what the fields belong to, for messages, such as "seed 42: ".
    """
    numbers: Numbers = {}
    names: dict[str, str] = {}
    causes: list[Cause] = []
    for name, usual in NUMBERS.items():
        known = _known_name(name, usual.split(), fields)
        if known is not None:
            figures, wrong = _figure(name, fields[known], f"{FILE}: {owner}{known}")
            numbers = figures | numbers
            names |= dict.fromkeys(figures, known)
            causes += wrong
    return Claims(fields=fields, numbers=numbers, names=names, causes=tuple(causes))


def _known_name(name: str, usual: Sequence[str], fields: Mapping[str, Json]) -> str | None:
    """Returns the name under which an object has a figure; None without one."""
    named = [known for known in fields if known.startswith(name)] if name == "bytes_model" else []
    for known in (*usual, *named):
        value = fields.get(known)
        if value is not None and (known not in _AMBIGUOUS or isinstance(value, (int, float))):
            return known
    return None


def _figure(name: str, value: Json, where: str) -> tuple[Numbers, list[Cause]]:
    """Returns the figures in a field, and what is wrong with their form; `where` is the field in messages."""
    is_size, number = name in SIZES, _as_number(value)
    remedy = "write the number of bytes" if is_size else f"write {where.rpartition(' ')[2]} as a number"
    no_number = Cause(f"{where} must be a number, got {_brief(value)}", remedy)
    if is_size and isinstance(value, str):
        sizes = _sizes_in_words(value, name)
        in_words = Cause(f'{where} is written in words ("{value:.60}")', remedy, REMARK)
        return sizes, [in_words if sizes else no_number]
    if number is None or not math.isfinite(number.value) or (is_size and not 0 <= number.value < 1e15):
        return {}, [no_number]
    causes = []
    rule = f"{where} must be a whole number of bytes, got {_brief(value)}"
    if isinstance(value, str):
        causes.append(Cause(f'{where} must be a number, got the text "{value:.40}"', "write it without quotes"))
    elif is_size and 0 < number.value < 100 and name != "bytes_code":
        number = ParsedNumber(number.value * 1e6, number.unit * 1e6)
        causes.append(Cause(f"{rule} (megabytes?)", remedy, REMARK))
    elif is_size and number.value % 1 and name != "bytes_mean":
        causes.append(Cause(rule, "state the largest seed's, not a mean"))
    return {name: number}, causes


def _as_number(value: Json) -> ParsedNumber | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return parse_number(value.text if isinstance(value, _WrittenFloat) else str(value)[:64])


def _sizes_in_words(text: str, name: str) -> Numbers:
    """Returns sizes such as "15.67MB model + 0.077MB code" by the words beside them; a lone one is the field's own."""
    sizes: Numbers = {}
    for match in re.finditer(rf"{SIZE}\s{{0,3}}\(?(\w{{0,20}})", text[:200], re.IGNORECASE):
        size, word = parse_size(match[1], match[2]), match[3].lower()
        if size is not None and (match[2] is not None or size.value >= 1000):
            kind = "bytes_model" if "model" in word or "weight" in word else "bytes_code" if "code" in word else name
            sizes.setdefault(kind, size)
    return sizes


def _results_by_seed(fields: Mapping[str, Json]) -> tuple[BySeed, list[Cause]]:
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
    if isinstance(value, dict) and (parallel := _parallel(value, value.get("seeds"))):
        return parallel, []
    if isinstance(value, list) and value and all(map(_is_number, value)):
        return _parallel({name: value}, fields.get("seeds")), []  # a list of scores beside the list of seeds
    results: BySeed = {}
    causes: list[Cause] = []
    for seed, entry in _pairs(value):
        if seed in results or len(results) == _MOST_SEEDS:
            causes.append(Cause(f"{FILE}: {name} must have one entry for each seed, {seed} stands twice", "correct it"))
            break
        plain: JsonObject = entry if isinstance(entry, dict) else {"val_bpb": entry}
        claims = _read_figures(plain, f"seed {seed}: ")
        causes += claims.causes
        results[seed] = replace(claims, numbers={**_other_bpb(plain), **claims.numbers})
    if not results and not causes:
        what = f"{FILE}: {name} must be results by seed, got {_brief(value)}"
        causes.append(Cause(what, "name each entry by its seed"))
    return results, causes


def _other_bpb(fields: JsonObject) -> Numbers:
    """Returns the last figure whose name says bits per byte, where none has the usual name."""
    names = [name for name in fields if "bpb" in name.lower() and not re.search("pre|delta", name, re.IGNORECASE)]
    numbers = [number for name in names if (number := _as_number(fields[name])) is not None]
    return {"val_bpb": numbers[-1]} if numbers else {}


def _pairs(results: Json) -> Iterator[tuple[int, Json]]:
    """Yields each seed with its entry; entries without a seed are left out."""
    if isinstance(results, dict):
        for name, entry in results.items():
            if (match := _SEED_IN_NAME.fullmatch(name.strip())) is not None:
                yield int(match[1]), entry
    for entry in results if isinstance(results, list) else ():
        if isinstance(entry, dict) and is_whole(seed := entry.get("seed")):
            yield seed, entry


def _parallel(fields: Mapping[str, Json], listed: Json) -> BySeed:
    """Returns the results of lists beside a list of seeds."""
    seeds = _seeds_in(listed) or []
    numbers: list[Numbers] = [{} for _ in seeds]
    for name, values in fields.items():
        kind = next((kind for kind, pattern in LISTS.items() if pattern.match(name.lower())), None)
        kind = "val_bpb" if kind is None and name in BY_SEED and name != "seeds" else kind
        if kind is not None and isinstance(values, list) and len(values) == len(seeds):
            for of_seed, value in zip(numbers, values, strict=True):
                if (number := _as_number(value)) is not None:
                    of_seed.setdefault(kind, number)
    return {seed: Claims(numbers=of_seed) for seed, of_seed in zip(seeds, numbers, strict=True) if of_seed}


def _flat_results(fields: Mapping[str, Json]) -> BySeed:
    """Returns the results of fields such as val_bpb_seed_42 and seed42_val_bpb."""
    by_seed: dict[int, JsonObject] = {}
    for name, value in fields.items():
        match = re.fullmatch(r"(?:(\w+?)_)?seed_?(\d{1,18})(?:_(\w+))?", name)
        if match is not None and (match[1] or match[3]) and not isinstance(value, (dict, list)):
            by_seed.setdefault(int(match[2]), {})[match[1] or match[3]] = value
    results = {seed: _read_figures(of_seed) for seed, of_seed in by_seed.items()}
    return {seed: claims for seed, claims in results.items() if claims.numbers}


def _seeds_in(value: Json) -> list[int] | None:
    if isinstance(value, list) and all(is_whole(item) and 0 <= item < 10**18 for item in value):
        return [item for item in value if is_whole(item)]
    return None


def _listed_seeds(fields: Mapping[str, Json], by_seed: BySeed) -> tuple[tuple[int, ...], list[Cause]]:
    seed = fields.get("seed")
    listed = fields.get("seeds", [seed] if is_whole(seed) else list(by_seed))
    causes = []
    if by_seed and (listed is None or isinstance(listed, int) or _holds_results(listed)):
        listed = list(by_seed)  # it holds the results, or their number
    elif isinstance(listed, str):
        listed = [int(digits) for digits in re.findall(r"\d{1,18}", listed)]
    elif isinstance(listed, list) and listed and all(isinstance(item, str) and item.isdigit() for item in listed):
        listed = [int(str(item)[:18]) for item in listed]
        causes.append(Cause(f"{FILE}: seeds are texts", "write them as whole numbers", REMARK))
    seeds = _seeds_in(listed)
    if seeds is None:
        cause = Cause(f"{FILE}: seeds must be a list of whole numbers, got {_brief(listed)}", "list the seeds")
        return tuple(by_seed), [] if listed is None or isinstance(listed, int) else [cause]
    if len(set(seeds)) < len(seeds):
        causes.append(Cause(f"{FILE}: seeds lists a seed twice: {_brief(listed)}", "list each seed once"))
    if by_seed and set(by_seed) != set(seeds):
        text = f"{FILE}: seeds {_brief(listed)} are not those of the results by seed {_brief(list(by_seed))}"
        causes.append(Cause(text, "list the seeds that have results"))
    return tuple(dict.fromkeys(seeds[:_MOST_SEEDS])), causes
