"""What the lines of a log say of a run: scores, bytes, seconds, data, device and settings.

What a log does not say is None or empty, never guessed. Of several lines of one kind the last counts. The forms of the
lines are those of the logs below `records/` of openai/parameter-golf; no pattern looks far ahead, so that a hostile log
takes seconds at most.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from golf.submission.record_folder.devices import Device, devices_in_log
from golf.submission.record_folder.log_parts import runs_in
from golf.submission.record_folder.log_settings import read_settings
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
_CURVE_BPB = _pattern(rf"^(?:step:? ?)?\d+/\d+ .{{0,60}}\bval_bpb{_IS}{NUMBER}")
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
_TOKENIZER = _pattern(r"\bfineweb\w{0,20}?_((?:sp|byte)?)([1-9]\d{2,5})(?:_bpe\b|\b|_)")
_ON_VALIDATION = _pattern(
    r"\btrain_loader\b.{0,300}?(fineweb_val|dataset:\S{0,60}val_?only)|^\s{0,8}train_files: \S{0,300}(fineweb_val)"
)
_TEXTS = {
    "code_sha256": _pattern(rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b"),
    "dataset": _pattern(rf"\b(?:train_loader:\s*)?dataset(?:_name)?{_IS}\"?([\w.+-]{{1,80}})"),
    "validation_files": _pattern(r"\bval_loader\b.{0,200}?\bpattern=(\S{1,300})|^\s{0,8}val_files: (\S{1,300})"),
    "limited": _pattern(
        r"\b(\d[\d,]* (?:eval |val )?(?:batches|sequences|documents|docs|tokens) \(?limited\)?|"
        r"(?:eval|val)\w{0,20} limited to \d[\d,]* \w+|"
        r"(?:evaluat|scor|validat)\w{0,5}(?: on)?(?: the)? first \d[\d,]* (?:documents|docs|sequences|batches|tokens)|"
        r"val_doc_fraction: 0?\.\d+|val_max_tokens[:=] ?[1-9]\d*|ttt_eval_batches: \d[\d,]*)"
    ),
    "python": _pattern(r"\b(?:running python|python(?:_version)?\"?\s*[:=]) ?\"?(\d+\.\d+(?:\.\d+)?)"),
}
"""Fields of a run that are texts, of which the last counts, as in the tables below."""
_COUNTS = {
    "steps": _pattern(r"\bstep\"?\s*[:= ]\s*(\d{1,12})/\d|^(\d{1,12})/\d+ (?:train|val)_loss"),
    "world_size": _pattern(rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b"),
    "train_shards": _pattern(rf"\btrain_shards{_IS}{COUNT}"),
    "validation_tokens": _pattern(
        rf"(?:\bval(?:idation)?[_ ]tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){COUNT}"
    ),
}
"""Fields that are whole numbers."""
_TIMES = {
    "step_seconds": _pattern(rf"\bstep_avg{_IS}{SECONDS}"),
    "generation_seconds": _pattern(
        rf"\bgptq:? ?generated \d[\d,]* (?:sequences|seqs|tokens).{{0,40}}?\bin {SECONDS}|"
        rf"\bar_selfgen\w{{0,20}}={SECONDS}"
    ),
    "eval_seconds": _pattern(rf"\btotal_eval_time{_IS}{SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB"),
}
"""Fields that are seconds."""


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
    facts: dict[str, Any] = {name: _last(telling, pattern) for name, pattern in _TEXTS.items()}
    facts |= {name: _count(telling, pattern) for name, pattern in _COUNTS.items()}
    facts |= {name: time and time.value for name, pattern in _TIMES.items() for time in [_seconds(telling, pattern)]}
    model, total = _size(telling, _MODEL), _size(telling, _BUDGET) or _size(telling, _TOTAL)
    if model is None and total is None:
        model, total = _size(telling, _RAW_MODEL), _size(telling, _RAW_TOTAL)
    seed, curve_bpb = _first(telling, _SEED), _last(telling, _CURVE_BPB)
    tokenizer = _match(reversed(telling), _TOKENIZER)
    return RunLog(
        file,
        seed=None if seed is None else int(seed),
        seed_of_name=_seed_of_name(file.rsplit("/", 1)[-1], seed is None),
        scores=_scores(telling),
        code_bytes=_code_bytes(telling),
        source=source,
        model_bytes=model,
        total_bytes=total,
        train_seconds=_seconds(telling, _STOPPED) or _seconds(telling, _TRAINED),
        calibration_seconds=_calibration(telling),
        curve_bpb=None if curve_bpb is None else parse_number(curve_bpb),
        devices=devices_in_log(telling),
        tokenizer=None if tokenizer is None else f"{tokenizer[1].lower() or 'sp'}{tokenizer[2]}",
        trains_on_validation=_last(telling, _ON_VALIDATION) is not None,
        settings=read_settings(short[:first]),
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
        value, loss, took = parse_number(bpb[1]), nats and parse_number(nats[1]), _seconds([line], _TOOK)
        if value is not None:
            scores.pop(name, None)
            scores[name] = Score(name, value, loss, took and took.value)
    return _without_rounded(scores.values())


def _without_rounded(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Returns scores without those that occur again with more decimals, whose longest time the exact ones take over."""
    exact: list[Score] = []
    for score in scores:
        same = next((number for number, other in enumerate(exact) if score.bpb.rounds(other.bpb)), None)
        if same is not None:
            exact[same] = _with_longest(exact[same], [score])
        else:
            rounded = [other for other in exact if other.bpb.rounds(score.bpb)]
            exact = [*(other for other in exact if other not in rounded), _with_longest(score, rounded)]
    return tuple(exact)


def _with_longest(score: Score, others: Sequence[Score]) -> Score:
    times = [same.seconds for same in (score, *others) if same.seconds is not None]
    return replace(score, seconds=max(times, default=None))


def _code_bytes(lines: Iterable[str]) -> tuple[int, ...]:
    sizes = [parse_int(match[1]) for line in lines for match in _CODE.finditer(line)]
    return tuple(dict.fromkeys(size for size in sizes if size >= _SMALLEST_CODE))


def _size(lines: Sequence[str], pattern: re.Pattern[str]) -> ParsedNumber | None:
    """Returns the last size of the pattern."""
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


def _match(lines: Iterable[str], pattern: re.Pattern[str]) -> re.Match[str] | None:
    return next((match for line in lines if (match := pattern.search(line))), None)


def _first(lines: Iterable[str], pattern: re.Pattern[str]) -> str | None:
    match = _match(lines, pattern)
    return None if match is None else next(part for part in match.groups() if part is not None)


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    return _first(reversed(lines), pattern)


def _count(lines: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    text = _last(lines, pattern)
    return None if text is None else parse_int(text)


def _seconds(lines: Sequence[str], pattern: re.Pattern[str]) -> ParsedNumber | None:
    """Returns the last time of the pattern."""
    match = _match(reversed(lines), pattern)
    return None if match is None else parse_seconds(match)
