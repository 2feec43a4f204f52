"""A run's log as facts: scores, bytes, seconds, code, data and settings, as far as its lines tell them.

The bytes of a log enter, a `RunLog` leaves; what it does not tell is None or empty, never guessed. Nothing is executed,
long lines are passed over, and no pattern looks far ahead, so that a hostile log takes seconds at most. The forms of
the lines are those of the logs below `records/` of openai/parameter-golf; of several lines of one kind the last counts.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST_LINE = 8000
"""Characters; a longer line tells nothing that is looked for here."""
MOST_LINES = 200_000
LARGEST_NUMBER = 1e15
"""What is larger is no figure of a run and is taken as not a number."""
_MOST_SETTINGS, _MOST_SCORES = 500, 200
_NUMBER = r"([-+]?(?:nan|inf|\d[\d,]*(?:\.\d+)?(?:e[-+]?\d{1,3})?))"
_COUNT = r"(\d[\d,]{0,30})"
_SECONDS = r"(\d+(?:\.\d+)?)\s*(ms|s|m|min)\b"
_PLAIN_SECONDS = r" *(\d+(?:\.\d+)?) (s)"
_IS = r"\"?\s*[:=]\s*"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_BPB, _NATS = _pattern(rf"\bval_bpb{_IS}{_NUMBER}"), _pattern(rf"\bval_loss{_IS}{_NUMBER}")
_PROGRESS = _pattern(r"\b\d+/\d+\b")
"""Something under way."""
_CURVE = _pattern(r"\b\d+/\d+\b|(?:step|iter|epoch|chunk)[\s:=_]*\d")
_TOOK = _pattern(rf"\b(?:eval_time|elapsed|t){_IS}{_SECONDS}")
_SEED = _pattern(rf"(?:^|[\s\[(,])seed{_IS}(\d{{1,18}})\b")
_SEED_OF_NAME = _pattern(r"(?:seed|_s)[_-]?(\d{1,18})(?!\d)")
_CODE = _pattern(rf"\b(?:code size(?:\s*\([^)]{{0,40}}\))?|code_bytes|bytes_code){_IS}{_COUNT}(?![\d.])")
_CODE_HASH = _pattern(rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b")
_MODEL = _pattern(rf"\b(?:serialized model [^:]{{1,60}}|model_bytes|bytes_model){_IS}{_COUNT}(?![\d.])")
_RAW_MODEL = _pattern(rf"\bserialized model{_IS}{_COUNT} bytes")
_TOTAL = _pattern(rf"\b(?:total submission size [^:]{{1,60}}|total_bytes|bytes_total){_IS}{_COUNT}(?![\d.])")
_RAW_TOTAL = _pattern(rf"\btotal submission size{_IS}{_COUNT} bytes")
_STEP = _pattern(rf"\bstep{_IS}(\d{{1,12}})/\d")
_TRAINED = _pattern(rf"\btrain_time{_IS}{_SECONDS}|^train {_PLAIN_SECONDS}$")
_STEP_TIME = _pattern(rf"\bstep_avg{_IS}{_SECONDS}")
_EVALUATED = _pattern(rf"\btotal_eval_time{_IS}{_SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB")
_CALIBRATED = _pattern(
    rf"\b(?:gptq|calibrat\w{{0,9}}|hessians?)\b.{{0,80}}?\b(?:in|took) {_SECONDS}|(?:gptq|calibration)={_SECONDS}"
)
_DEVICE = _pattern(
    r"\b((?:GH200|GB200|H100|H200|B200|B300|A100|A10G?|A40|A6000|L40S?|L4|T4|V100|RTX (?:PRO |A)?\d{4}|MI\d{3}X?)\b"
    r"(?: (?:80GB|PCIe|SXM\d?|NVL|HBM\d\w?|Ti|SUPER)\b){0,3})"
)
_WORLD = _pattern(rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b")
_TOKENIZER = _pattern(r"\bfineweb\w{0,20}?_(?:sp)?(\d{3,6})(?:_bpe\b|\b)")
_SHARDS = _pattern(rf"\btrain_shards{_IS}{_COUNT}")
_VALIDATION = _pattern(rf"(?:\bval(?:idation)?_tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){_COUNT}")
_ON_VALIDATION = _pattern(r"\btrain_loader\b.{0,300}?(fineweb_val)")
_VERSION = _pattern(r"\brunning (python|pytorch) (\S{1,40})")
_SETTING = re.compile(r"(?:^|\s)([a-z_][a-z0-9_.]{0,60})[:=](\S{1,200})(?=\s|$)")
_LONE_SETTING = re.compile(r"\s{0,40}([a-z_][a-z0-9_.]{0,60}): ([^{\s].{0,200}|\{.*)")
_OF_A_RUN = _pattern(
    r"seed|time|(?<!wallclock_)seconds|_ms$|mem|^run_|^(?:host|hostname|pid|port|date|started|step|warmup_step|name|trial|cold|ranks)$"
    r"|log(?:_?file|_?dir|s)?$|uuid|_path$|_dir$|^out"
)
"""Settings that differ from run to run by their nature."""


class Told(NamedTuple):
    """A number as it was written."""

    value: float
    unit: float
    """Of its last decimal: what rounding or cutting may hide."""


@dataclass(frozen=True)
class Score:
    """A line with the bits per byte of a whole evaluation."""

    name: str
    bpb: Told
    nats: Told | None
    """Per token."""
    seconds: float | None
    """Of this evaluation."""


@dataclass(frozen=True)
class RunLog:
    """What one log tells."""

    name: str
    """Its path in the folder."""
    seed: int | None = None
    seed_of_name: int | None = None
    """The seed in the file's name."""
    scores: tuple[Score, ...] = ()
    """In the order of their last lines; curves during training are not among them."""
    code_bytes: tuple[int, ...] = ()
    """Every size of the code that it tells."""
    code_sha256: str | None = None
    source: bytes | None = None
    """The code itself, where the log begins with it."""
    model_bytes: int | None = None
    total_bytes: int | None = None
    steps: int | None = None
    train_seconds: float | None = None
    step_seconds: float | None = None
    """Mean of a step."""
    calibration_seconds: float | None = None
    eval_seconds: float | None = None
    """Of all evaluations together, where it tells so."""
    device: str | None = None
    world_size: int | None = None
    tokenizer: str | None = None
    """Such as "sp1024"."""
    train_shards: int | None = None
    validation_tokens: int | None = None
    trains_on_validation: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it says before the first step, without what differs from run to run by its nature."""

    @property
    def is_run(self) -> bool:
        """Whether it is the log of a run at all."""
        names_code = bool(self.code_bytes) or self.code_sha256 is not None
        known = self.total_bytes is not None or self.steps is not None or (self.seed is not None and names_code)
        return known or bool(self.scores)

    def score(self, name: str) -> Score | None:
        """The score of that name."""
        return next((score for score in self.scores if score.name == name), None)


def told(text: str) -> Told | None:
    """A number in text, thousands separated by commas or not; None where it is none."""
    match = re.fullmatch(_NUMBER, text.strip(), re.IGNORECASE)
    if match is None:
        return None
    plain = match[1].replace(",", "").lower()
    mantissa, _, exponent = plain.partition("e")
    decimals = len(mantissa.partition(".")[2])
    value = float(plain)
    if not abs(value) < LARGEST_NUMBER:
        return Told(math.nan, 0.0)
    return Told(value, float(f"1e{int(exponent or 0) - decimals}"))


def read_log(name: str, data: bytes) -> RunLog:
    """The facts in a log; bytes that are not UTF-8 are passed over."""
    source, rest = _without_source(data)
    text = rest.decode("utf-8", "replace").split("\n", MOST_LINES)[:MOST_LINES]
    lines = [line for line in text if len(line) <= LONGEST_LINE]
    begun = next((at for at, line in enumerate(lines) if _PROGRESS.search(line) or _BPB.search(line)), len(lines))
    tokenizer = _last(lines, _TOKENIZER)
    packed, whole = _count(lines, _MODEL), _count(lines, _TOTAL)
    if packed is None and whole is None:
        packed, whole = _count(lines, _RAW_MODEL), _count(lines, _RAW_TOTAL)
    seed, seeds_of_name = _first(lines, _SEED), _SEED_OF_NAME.findall(name)
    return RunLog(
        name,
        seed=None if seed is None else int(seed),
        seed_of_name=int(seeds_of_name[-1]) if seeds_of_name else None,
        scores=_scores(lines),
        code_bytes=tuple({_whole(match[1]): None for line in lines for match in _CODE.finditer(line)}),
        code_sha256=_last(lines, _CODE_HASH),
        source=source,
        model_bytes=packed,
        total_bytes=whole,
        steps=_count(lines, _STEP),
        train_seconds=_seconds(lines, _TRAINED),
        step_seconds=_seconds(lines, _STEP_TIME),
        calibration_seconds=_seconds(lines, _CALIBRATED),
        eval_seconds=_seconds(lines, _EVALUATED),
        device=_last(lines, _DEVICE),
        world_size=_count(lines, _WORLD),
        tokenizer=None if tokenizer is None else f"sp{tokenizer}",
        train_shards=_count(lines, _SHARDS),
        validation_tokens=_count(lines, _VALIDATION),
        trains_on_validation=_last(lines, _ON_VALIDATION) is not None,
        settings=_settings(lines[: min(begun, _MOST_SETTINGS)]),
    )


def _without_source(data: bytes) -> tuple[bytes | None, bytes]:
    """The code that a log begins with, up to a line of equals signs, and the rest; None where it has none."""
    code, bar, rest = data.partition(b"\n" + b"=" * 80)
    return (code, rest) if bar and b"import " in code and b"\ndef " in code else (None, data)


def _scores(lines: Sequence[str]) -> tuple[Score, ...]:
    found: dict[str, Score] = {}
    for line in lines:
        bpb, nats = _BPB.search(line), _NATS.search(line)
        begin = min((match.start() for match in (bpb, nats) if match), default=0)
        if bpb is None or _CURVE.search(line[:begin]) or len(found) >= _MOST_SCORES:
            continue
        name = line[:begin].strip(" \t:|-{\"'")[-80:] or "score"
        value, loss = told(bpb[1]), None if nats is None else told(nats[1])
        if value is not None:
            found.pop(name, None)
            found[name] = Score(name, value, loss, _seconds([line], _TOOK))
    return tuple(found.values())


def _settings(lines: Sequence[str]) -> dict[str, str]:
    """Names and values of lines that hold nothing else."""
    found: dict[str, str] = {}
    for line in lines:
        if _CODE.search(line) or _CODE_HASH.search(line):
            continue
        version, lone = _VERSION.search(line), _LONE_SETTING.fullmatch(line)
        pairs = [(version[1].lower(), version[2])] if version else [lone.groups()] if lone else _SETTING.findall(line)
        if lone and lone[2].startswith("{"):
            pairs = _flat(*lone.groups())
        for name, value in pairs:
            if len(found) < _MOST_SETTINGS and not _OF_A_RUN.search(name):
                found[name] = value
    return found


def _flat(name: str, text: str) -> list[tuple[str, str]]:
    """The values of an object in JSON by their dotted names; the text itself where it is none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return [(name, text)]
    found, open_parts = [], [(name, whole)]
    while open_parts:
        path, value = open_parts.pop()
        if isinstance(value, dict):
            open_parts += [(f"{path}.{key}", one) for key, one in value.items()]
        else:
            found.append((path, json.dumps(value)[:200]))
    return found


def _first(lines: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    return next((match[1] for line in lines if (match := pattern.search(line))), None)


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    return _first(lines[::-1], pattern)


def _count(lines: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    """The last number of the pattern."""
    text = _last(lines, pattern)
    return None if text is None else _whole(text)


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _seconds(lines: Sequence[str], pattern: re.Pattern[str]) -> float | None:
    """The last time of the pattern, in seconds."""
    match = next((match for line in lines[::-1] if (match := pattern.search(line))), None)
    if match is None:
        return None
    value, unit = (part for part in match.groups() if part is not None)
    times, over = {"ms": (1.0, 1000.0), "s": (1.0, 1.0)}.get(unit.lower(), (60.0, 1.0))
    return float(value) * times / over
