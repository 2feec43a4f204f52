"""What the lines of a log say of a run: scores, bytes, seconds, data, device and settings.

What a log does not say is None or empty, never guessed. Of several lines of one kind the last counts. The forms of the
lines are those of the logs below `records/` of openai/parameter-golf; no pattern looks far ahead, so that a hostile log
takes seconds at most.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from golf.submission.record_folder.devices import Device, devices_in_log
from golf.submission.record_folder.log_parts import runs_in
from golf.submission.record_folder.numbers import (
    COUNT,
    NUMBER,
    SECONDS,
    SIZE,
    ParsedNumber,
    parse_int,
    parse_number,
    parse_seconds,
    parse_size,
)
from golf.submission.record_folder.text import Text

LONGEST_LINE = 8000
"""Characters; a longer line is skipped."""
_MOST_SCORES, _SMALLEST_CODE = 200, 2
_LAST_OF_CURVE = 50
"""Lines of the training curve that are read: they say what all of them say."""
_MOST_SETTINGS = 500
_VERSION = re.compile(r"\brunning (python|pytorch) (\S{1,40})", re.IGNORECASE)
_SETTING = re.compile(r"([a-z_][a-z0-9_.]{0,60})[:=](\S{1,200})")
_LONE_SETTING = re.compile(r"\s{0,40}([a-z_][a-z0-9_.]{0,60}): ([^{\s].{0,200}|\{.*)")
_OF_A_RUN = re.compile(
    r"seed|time|(?<!wallclock_)seconds|_ms$|mem|^run_|uuid|hash|commit|^out|"
    r"(?:^|_)(?:host|hostname|node|nodename|pid|port|ip|date|started|rank|local_rank|device|gpu|cuda|driver)$|"
    r"^(?:step|warmup_step|name|trial|cold|ranks|world_size|gptq|pergroup|is_main_process)$|"
    r"log(?:_?file|_?dir|s)?$|"
    r"(?:cache|artifact|output|work|save|model|checkpoint|quantized_model|ckpt)_?(?:dir|path|root)$|^slurm|"
    r"^(?:train_shards|val_tokens|code_bytes|code_sha256|dataset)$|"
    r"hypothesis|(?:^|_)(?:test|exp|experiment|job|group|tags?|comment|description|notes?|label|title)(?:_id|_name)?$|^wandb|"
    r"project$",
    re.IGNORECASE,
)
"""Settings that differ from run to run by their nature, or that are compared under a name of their own."""


@dataclass(frozen=True)
class Score:
    """A line with the bits per byte of a whole evaluation."""

    name: str
    """The words before the score, shown and never interpreted."""
    bpb: ParsedNumber
    nats: ParsedNumber | None
    """Nats per token."""
    seconds: float | None
    """Seconds of this evaluation."""

    def number(self, name: str) -> ParsedNumber | None:
        """Returns its val_bpb or its val_loss."""
        return self.bpb if name == "val_bpb" else self.nats


@dataclass(frozen=True)
class RunLog:
    """What a log says of one run; a file may hold several."""

    file: str
    """Its path in the folder."""
    part: int = 0
    """Number of the run in its file; 0 where it is the only one."""
    seed: int | None = None
    seed_of_name: int | None = None
    """The seed in the file's name."""
    scores: tuple[Score, ...] = ()
    """In the order of their last lines; curves during training are not among them."""
    code_bytes: tuple[int, ...] = ()
    """Every size of the code that it names."""
    code_sha256: str | None = None
    source: bytes | None = None
    """The code itself, where it is in the log."""
    model_bytes: ParsedNumber | None = None
    """Bytes of the packed model."""
    total_bytes: ParsedNumber | None = None
    """Bytes of the packed model and the code."""
    steps: int | None = None
    train_seconds: ParsedNumber | None = None
    step_seconds: float | None = None
    """Mean seconds of a step."""
    calibration_seconds: float | None = None
    """Seconds of collecting statistics for the quantisation after training."""
    generation_seconds: float | None = None
    """Seconds of making sequences for the calibration after training."""
    eval_seconds: float | None = None
    """Seconds of all evaluations together, where it says so."""
    curve_bpb: ParsedNumber | None = None
    """The last bits per byte of the training's own validation."""
    devices: tuple[Device, ...] = ()
    world_size: int | None = None
    dataset: str | None = None
    tokenizer: str | None = None
    """Such as "sp1024"."""
    train_shards: int | None = None
    validation_tokens: int | None = None
    validation_files: str | None = None
    limited: str | None = None
    """Words that say that only a part of the validation split was scored."""
    trains_on_validation: bool = False
    python: str | None = None
    """Version of Python."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it says before the first step, without what differs from run to run by its nature."""

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f"{self.file} (run {self.part})" if self.part else self.file

    @property
    def trained(self) -> bool:
        """Whether it is the log of a training, not only of an evaluation."""
        return self.steps is not None or self.train_seconds is not None

    @property
    def any_seed(self) -> int | None:
        """The seed that it says it had, else the one in its file's name."""
        return self.seed if self.seed is not None else self.seed_of_name

    @property
    def place(self) -> tuple[bool, int, int]:
        """Ranks runs of one seed: trainings above evaluations, files at the top above others, the last in its file."""
        return self.trained, -self.file.count("/"), self.part

    @property
    def is_run(self) -> bool:
        """Whether it is the log of a run at all."""
        names_code = bool(self.code_bytes) or self.code_sha256 is not None
        known = self.total_bytes is not None or self.steps is not None or (self.seed is not None and names_code)
        return known or bool(self.scores)

    @property
    def packed_code_bytes(self) -> int | None:
        """The size of the code in its total, where it names both a packed and a plain one or both sums."""
        if len(self.code_bytes) < 2:
            return None
        model, total = self.model_bytes, self.total_bytes
        sums = [size for size in self.code_bytes if model and total and total.is_size(model.value + size)]
        return (sums or sorted(self.code_bytes))[0]

    def score(self, name: str) -> Score | None:
        """Returns the score of that name."""
        return next((score for score in self.scores if score.name == name), None)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_PLAIN_SECONDS = r" *(\d+(?:\.\d+)?) (s)"
_IS = r"\"?\s*[:=]\s*"
_CODEC = r"[^:|=\n]{0,60}"
_TELLING = _pattern(
    r"bpb|loss|seed|code|model|total|bytes|budget|artifact|submission|step|time|train |\d s$|gptq|calib|hessian|"
    r"val_|scor|first|world|device|gpu|nvidia|tesla|apple|\d ?[x×*] ?[a-z]|tokens|shards|loader|fineweb|running p|"
    r"python|batches|limited|\d+/\d+"
)
"""Only lines with one of these are looked at further."""
_BPB, _NATS = _pattern(rf"\bval_bpb{_IS}{NUMBER}"), _pattern(rf"\bval_loss{_IS}{NUMBER}")
_PROGRESS = _pattern(r"\b\d+/\d+\b")
"""Progress of something."""
_CURVE = _pattern(r"\b\d+/\d+\b|(?:step|iter|epoch|chunk)[\s:=_]*\d")
_CURVE_LINE = re.compile(r"(?:step:? ?)?\d+/\d+ (?:train|val)_loss")
_TOOK = _pattern(rf"\b(?:eval_time|elapsed|t){_IS}{SECONDS}")
_SEED = _pattern(rf"(?:^|[\s\[(,])seed{_IS}(\d{{1,18}})\b")
_SEED_OF_NAME, _S_OF_NAME = _pattern(r"seed[_-]?(\d{1,18})(?!\d)"), _pattern(r"(?:^|[_-])s[_-]?(\d{1,18})(?!\d)")
_CODE = _pattern(
    rf"\b(?:code[ _]size|code[ _]bytes|bytes_code|(?<!exit )(?<!return )(?<!status )code(?=:? \d[\d,]* bytes))"
    rf"(?:\s*\([^)]{{0,40}}\))?{_IS}{COUNT}(?![\d.]) ?(?![km]i?b)"
)
_MODEL = _pattern(
    rf"\b(?:(?:serialized|compressed|quantized|packed)[ _]model(?:[ _]size)?[ _]{_CODEC}|"
    r"(?!raw|serialized)[\w+.-]{2,30} model|"
    rf"model_bytes|bytes_model\w{{0,20}}|compressed model(?: size)?|artifact model){_IS}{SIZE}"
)
_RAW_MODEL = _pattern(rf"\bserialized[ _]model{_IS}{COUNT} bytes")
_TOTAL = _pattern(
    rf"\b(?:total[ _]submission(?:[ _]size)?(?:[ _]{_CODEC})?|submission[ _]size|total(?:_| )artifact(?: size)?|"
    r"total_bytes|bytes_total|"
    rf"artifact(?:_size|_bytes| size)?){_IS}{SIZE}(?!\w|\.)"
)
_BUDGET = _pattern(rf"\bbudget{_IS}{COUNT}/16,?000,?000\b")
_RAW_TOTAL = _pattern(rf"\btotal[ _]submission[ _]size{_IS}{COUNT} bytes")
_TRAINED = _pattern(rf"\btrain(?:ing)?_time{_IS}{SECONDS}|^train {_PLAIN_SECONDS}$")
_STOPPED = _pattern(rf"\bstopping_early\b.{{0,80}}\btrain_time{_IS}{SECONDS}")
_CALIBRATED = _pattern(
    rf"\b(?:calibrat\w{{0,9}}|hessians?)\b.{{0,80}}?(?:\b(?:in|took|done|complete|collection)\b:?|\() ?{SECONDS}|"
    rf"calibration(?:_time)?\s*[:=]\s*{SECONDS}"
)
_NOT_CALIBRATION = _pattern(r"compress|saved|serializ|quantized in|reserv")


def _text(match: re.Match[str]) -> str:
    return next(part for part in match.groups() if part is not None)


def _count(match: re.Match[str]) -> int:
    return parse_int(_text(match))


def _seconds(match: re.Match[str]) -> float:
    return parse_seconds(match).value


def _number(match: re.Match[str]) -> ParsedNumber | None:
    return parse_number(match[1])


def _tokenizer(match: re.Match[str]) -> str:
    return f"{match[1].lower() or 'sp'}{match[2]}"


_FIELDS: dict[str, tuple[Callable[[re.Match[str]], Any], str]] = {
    "code_sha256": (_text, rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b"),
    "dataset": (_text, rf"\b(?:train_loader:\s*)?dataset(?:_name)?{_IS}\"?([\w.+-]{{1,80}})"),
    "validation_files": (_text, r"\bval_loader\b.{0,200}?\bpattern=(\S{1,300})|^\s{0,8}val_files: (\S{1,300})"),
    "limited": (
        _text,
        r"\b(\d[\d,]* (?:eval |val )?(?:batches|sequences|documents|docs|tokens) \(?limited\)?|"
        r"(?:eval|val)\w{0,20} limited to \d[\d,]* \w+|"
        r"(?:evaluat|scor|validat)\w{0,5}(?: on)?(?: the)? first \d[\d,]* (?:documents|docs|sequences|batches|tokens)|"
        r"val_doc_fraction: 0?\.\d+|val_max_tokens[:=] ?[1-9]\d*|ttt_eval_batches: \d[\d,]*)",
    ),
    "python": (_text, r"\b(?:running python|python(?:_version)?\"?\s*[:=]) ?\"?(\d+\.\d+(?:\.\d+)?)"),
    "steps": (_count, r"\bstep\"?\s*[:= ]\s*(\d{1,12})/\d|^(\d{1,12})/\d+ (?:train|val)_loss"),
    "world_size": (_count, rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b"),
    "train_shards": (_count, rf"\btrain_shards{_IS}{COUNT}"),
    "validation_tokens": (
        _count,
        rf"(?:\bval(?:idation)?[_ ]tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){COUNT}",
    ),
    "step_seconds": (_seconds, rf"\bstep_avg{_IS}{SECONDS}"),
    "generation_seconds": (
        _seconds,
        rf"\bgptq:? ?generated \d[\d,]* (?:sequences|seqs|tokens).{{0,40}}?\bin {SECONDS}|"
        rf"\bar_selfgen\w{{0,20}}={SECONDS}",
    ),
    "eval_seconds": (_seconds, rf"\btotal_eval_time{_IS}{SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB"),
    "curve_bpb": (_number, rf"^(?:step:? ?)?\d+/\d+ .{{0,60}}\bval_bpb{_IS}{NUMBER}"),
    "tokenizer": (_tokenizer, r"\bfineweb\w{0,20}?_((?:sp|byte)?)([1-9]\d{2,5})(?:_bpe\b|\b|_)"),
    "trains_on_validation": (
        bool,
        r"\btrain_loader\b.{0,300}?(fineweb_val|dataset:\S{0,60}val_?only)|"
        r"^\s{0,8}train_files: \S{0,300}(fineweb_val)",
    ),
}
"""What is read of the last line of a kind: how, and the line's pattern."""
_PATTERNS = {name: _pattern(text) for name, (_, text) in _FIELDS.items()}


def read_log(file: str, text: Text) -> list[RunLog]:
    """Returns the runs in a log, in their order; parts that say nothing of a run are left out."""
    runs = [run for lines, source in runs_in(text.lines()) if (run := read_run(file, lines, source)).is_run]
    return runs if len(runs) < 2 else [replace(run, part=part) for part, run in enumerate(runs, 1)]


def read_run(file: str, lines: Sequence[str], source: bytes | None = None) -> RunLog:
    """Returns the facts in the lines of one run.

    Args:
        file: path of the log in its folder.
        lines: without the code, without what loggers put before a line.
        source: the code in the log.
    """
    short = [line for line in lines if len(line) <= LONGEST_LINE]
    begins = (number for number, line in enumerate(short) if _PROGRESS.search(line) or _BPB.search(line))
    first = next(begins, len(short))  # settings come before
    telling = [line for line in _without_curve(short) if _TELLING.search(line)]
    found = {name: _last(telling, pattern) for name, pattern in _PATTERNS.items()}
    facts: dict[str, Any] = {name: _FIELDS[name][0](match) for name, match in found.items() if match is not None}
    model, total = _size(telling, _MODEL), _size(telling, _BUDGET) or _size(telling, _TOTAL)
    if model is None and total is None:
        model, total = _size(telling, _RAW_MODEL), _size(telling, _RAW_TOTAL)
    sizes = [parse_int(match[1]) for line in telling for match in _CODE.finditer(line)]
    seed, trained = _last(telling[::-1], _SEED), _last(telling, _STOPPED) or _last(telling, _TRAINED)
    return RunLog(
        file,
        seed=None if seed is None else int(seed[1]),
        seed_of_name=_seed_of_name(file.rsplit("/", 1)[-1], seed is None),
        scores=_scores(telling),
        code_bytes=tuple(dict.fromkeys(size for size in sizes if size >= _SMALLEST_CODE)),
        source=source,
        model_bytes=model,
        total_bytes=total,
        train_seconds=None if trained is None else parse_seconds(trained),
        calibration_seconds=_calibration(telling),
        devices=devices_in_log(telling),
        settings=_read_settings(short[:first]),
        **facts,
    )


def _without_curve(lines: Sequence[str]) -> list[str]:
    """Returns lines without those of the training curve but the last ones."""
    curve = [number for number, line in enumerate(lines) if _CURVE_LINE.match(line)]
    left_out = set(curve[:-_LAST_OF_CURVE])
    return [line for number, line in enumerate(lines) if number not in left_out]


def _seed_of_name(name: str, alone: bool) -> int | None:
    """Returns the seed in a file's name; "s42" is read as one only where the log itself names none (`alone`)."""
    seeds = _SEED_OF_NAME.findall(name) or (_S_OF_NAME.findall(name) if alone else [])
    return int(seeds[-1]) if seeds else None


def _scores(lines: Sequence[str]) -> tuple[Score, ...]:
    scores: dict[str, Score] = {}
    for line in lines:
        bpb, nats = _BPB.search(line), _NATS.search(line)
        begin = min((match.start() for match in (bpb, nats) if match), default=0)
        if bpb is None or _CURVE.search(line[:begin]) or len(scores) >= _MOST_SCORES:
            continue
        name = line[:begin].strip(" \t:|-{\"'")[-80:] or "score"
        value, took = parse_number(bpb[1]), _TOOK.search(line)
        if value is not None:
            scores.pop(name, None)
            scores[name] = Score(name, value, nats and parse_number(nats[1]), took and parse_seconds(took).value)
    return _without_rounded(scores.values())


def _without_rounded(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Returns scores without those that occur again with more decimals, whose longest time the exact ones take over."""
    exact: list[Score] = []
    for score in scores:
        same = next((other for other in exact if score.bpb.rounds(other.bpb)), None)
        rounded = [score] if same is not None else [other for other in exact if other.bpb.rounds(score.bpb)]
        kept = same or score
        times = [other.seconds for other in (kept, *rounded) if other.seconds is not None]
        kept = replace(kept, seconds=max(times, default=None))
        if same is not None:
            exact[exact.index(same)] = kept
        else:
            exact = [*(other for other in exact if other not in rounded), kept]
    return tuple(exact)


def _size(lines: Sequence[str], pattern: re.Pattern[str]) -> ParsedNumber | None:
    for line in reversed(lines):
        for match in reversed(list(pattern.finditer(line))):
            number, *scale = match.groups()
            size = parse_size(number, scale[0] if scale else None)
            if size is not None and size.value >= 1:
                return size
    return None


def _calibration(lines: Iterable[str]) -> float | None:
    """Returns the longest calibration; lines of compressing and writing name the method too and are none."""
    matches = [_CALIBRATED.search(line) for line in lines if not _NOT_CALIBRATION.search(line)]
    return max((parse_seconds(match).value for match in matches if match is not None), default=None)


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> re.Match[str] | None:
    return next((match for line in reversed(lines) if (match := pattern.search(line))), None)


def _read_settings(lines: Sequence[str]) -> dict[str, str]:
    """Returns the names and values of lines that hold nothing else."""
    settings: dict[str, str] = {}
    for line in lines[:_MOST_SETTINGS]:
        version, lone = _VERSION.search(line), _LONE_SETTING.fullmatch(line)
        pairs: list[tuple[str, str]] = []
        if version:
            pairs = [(version[1].lower(), version[2])]
        elif lone and lone[2].startswith("{"):
            pairs = _flat(lone[1], lone[2])
        elif lone:
            pairs = [(lone[1], lone[2].strip())]
        else:
            words = [_SETTING.fullmatch(word) for word in line.split()]
            if words and all(words):
                pairs = [(word[1], word[2]) for word in words if word is not None]
        for name, value in pairs:
            if len(settings) < _MOST_SETTINGS and not _OF_A_RUN.search(name):
                settings[name] = _without_folder(value)
    return settings


def _without_folder(value: str) -> str:
    """Returns the last part of a path: the folders of data differ between machines."""
    return value.rstrip("/").rsplit("/", 1)[-1] if re.match(r"[\w.~$-]*/", value) else value


def _flat(name: str, text: str) -> list[tuple[str, str]]:
    """Returns the values of an object in JSON by their dotted names; the text itself where it is none."""
    try:
        top = json.loads(text)
    except (ValueError, RecursionError):
        return [(name, text)]
    values, open_parts = [], [(name, top)]
    while open_parts:
        path, value = open_parts.pop()
        if isinstance(value, dict):
            open_parts += [(f"{path}.{key}", part) for key, part in value.items()]
        else:
            values.append((path, json.dumps(value)[:200]))
    return values
