"""Reads a submission.json: its claims, and what is wrong with its form.

The names are those of the files below `records/` of openai/parameter-golf. Damage and nonsense become causes in words,
never an exception.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from golf.compliance.points import FAILED, REMARK, Cause
from golf.submission.record_folder.claim_figures import WrittenFloat, listed_seeds, read_figures, results_by_seed
from golf.submission.record_folder.claims import ALSO_CALLED, FILE, Claims, Json, JsonObject, brief, flat_text
from golf.submission.record_folder.numbers import ParsedNumber
from golf.submission.record_folder.text import decoded

CORRECT = f"correct {FILE}, or add the right logs"
"""The remedy for a figure that no log has."""
REQUIRED = ("author", "github_id", "name", "date", "val_bpb")
"""Fields without which a submission cannot be listed."""
WANTED = (
    *("track", "val_loss", "bytes_total", "bytes_code", "bytes_model", "seeds", "seed_results", "val_bpb_std"),
    *("hardware", "versions"),
)
"""What complete submissions also have."""
_TEXT_FIELDS = ("author", "github_id", "name", "date", "track")


def read_claims(data: bytes, file: str = FILE) -> Claims:
    """Returns the claims in the bytes of a submission.json."""
    text = decoded(data)
    causes: list[Cause] = []
    if text.encoding != "utf-8":
        causes.append(Cause(f"{file} is {text.encoding.upper()} text; JSON is UTF-8", f"save {file} as UTF-8"))
    try:
        fields = json.loads(text.text, object_pairs_hook=_once, parse_float=WrittenFloat, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        return Claims(file, causes=(*causes, Cause(f"{file} is not valid JSON ({str(error)[:120]})", "correct it")))
    if not isinstance(fields, dict):
        return Claims(file, causes=(*causes, Cause(f"{file} must hold an object of fields", "correct it")))
    claims = read_figures(fields)
    by_seed, wrong_results = results_by_seed(fields)
    seeds, wrong_seeds = listed_seeds(fields, by_seed)
    causes += [*_required(fields, claims.numbers), *claims.causes, *wrong_results, *wrong_seeds]
    return replace(claims, file=file, seeds=seeds, by_seed=by_seed, causes=tuple(causes))


def missing_fields(claims: Claims) -> list[str]:
    """Returns the fields of complete submissions that it lacks, under whatever name."""
    present = {*claims.fields, *claims.numbers}
    present |= {"versions"} if any("version" in name for name in claims.fields) else set()
    present |= {"hardware"} if claims.hardware else set()
    present |= {"seed_results"} if claims.by_seed else set()
    return [name for name in WANTED if name not in present]


def _once(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    """Returns an object. Raises: ValueError where a field stands twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a field stands twice: {next(name for name in names if names.count(name) > 1)[:40]}")
    return fields


def _refused(text: str) -> Json:
    raise ValueError(f"{text} is not a number of JSON")


def _required(fields: Mapping[str, Json], numbers: Mapping[str, ParsedNumber]) -> list[Cause]:
    """Returns the required fields that are missing, empty or have another name."""
    causes = []
    for name in REQUIRED:
        if fields.get(name) is not None or name in numbers:
            continue
        other = next((known for known in ALSO_CALLED.get(name, ()) if fields.get(known)), None)
        if other is not None:
            causes.append(Cause(f"{FILE} has {name} as {other}", f"call it {name}", REMARK))
        elif name == "val_bpb":
            causes.append(Cause(f"{FILE} has no val_bpb", "add the mean of the seeds"))
        else:
            level = REMARK if name in ("name", "date") else FAILED  # the folder's name has both
            causes.append(Cause(f"{FILE} has no {name}", f"add {name}", level))
    for name in _TEXT_FIELDS:
        value = fields.get(name)
        is_text = isinstance(value, (str, list)) and bool(flat_text(value).strip())
        if value is not None and not is_text:
            causes.append(Cause(f"{FILE}: {name} must be text, got {brief(value)}", f"write {name} as text"))
    return causes
