"""What the lines of a log tell of a run: scores, bytes, seconds, data, device and settings.

What a log does not tell is None or empty, never guessed. Long lines are passed over and no pattern looks far ahead, so
that a hostile log takes seconds at most. The forms are those of the logs below `records/` of openai/parameter-golf; of
several lines of one kind the last counts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from golf.submission.record_folder.devices import Device, devices_in_log
from golf.submission.record_folder.log_code import CodeBlock
from golf.submission.record_folder.log_settings import read_settings
from golf.submission.record_folder.numbers import NUMBER, SIZE, ParsedNumber, told, told_size, whole

LONGEST_LINE = 8000
"""Characters; a longer line tells nothing that is looked for here."""
_MOST_SCORES, _SMALLEST_CODE = 200, 2
_COUNT = r"(\d[\d,]{0,30})"
_SECONDS = r"(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds|m|min)\b"
_PLAIN_SECONDS = r" *(\d+(?:\.\d+)?) (s)"
_IS = r"\"?\s*[:=]\s*"
_CODEC = r"[^:|=\n]{0,60}"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_TELLING = _pattern(
    r"bpb|loss|seed|code|model|total|bytes|budget|artifact|submission|step|time|train |\d s$|gptq|calib|hessian|"
    r"val_|scor|first|world|device|gpu|nvidia|tesla|apple|\d ?[x×*] ?[a-z]|tokens|shards|loader|fineweb|running p|"
    r"python|batches|limited|\d+/\d+"
)
"""Only lines with one of these are looked at further."""
_BPB, _NATS = _pattern(rf"\bval_bpb{_IS}{NUMBER}"), _pattern(rf"\bval_loss{_IS}{NUMBER}")
_PROGRESS = _pattern(r"\b\d+/\d+\b")
"""Something under way."""
_CURVE = _pattern(r"\b\d+/\d+\b|(?:step|iter|epoch|chunk)[\s:=_]*\d")
_CURVE_LINE = re.compile(r"(?:step:? ?)?\d+/\d+ (?:train|val)_loss")
_CURVE_BPB = _pattern(rf"^(?:step:? ?)?\d+/\d+ .{{0,60}}\bval_bpb{_IS}{NUMBER}")
_LAST_OF_CURVE = 50
_TOOK = _pattern(rf"\b(?:eval_time|elapsed|t){_IS}{_SECONDS}")
_SEED = _pattern(rf"(?:^|[\s\[(,])seed{_IS}(\d{{1,18}})\b")
_SEED_OF_NAME, _S_OF_NAME = _pattern(r"seed[_-]?(\d{1,18})(?!\d)"), _pattern(r"(?:^|[_-])s[_-]?(\d{1,18})(?!\d)")
_CODE = _pattern(
    rf"\b(?:code[ _]size|code[ _]bytes|bytes_code|(?<!exit )(?<!return )(?<!status )code(?=:? \d[\d,]* bytes))"
    rf"(?:\s*\(([^)]{{0,40}})\))?{_IS}{_COUNT}(?![\d.]) ?(?![km]i?b)"
)
_CODE_HASH = _pattern(rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b")
_MODEL = _pattern(
    rf"\b(?:(?:serialized|compressed|quantized|packed)[ _]model(?:[ _]size)?[ _]{_CODEC}|"
    r"(?!raw|serialized)[\w+.-]{2,30} model|"
    rf"model_bytes|bytes_model\w{{0,20}}|compressed model(?: size)?|artifact model){_IS}{SIZE}"
)
_RAW_MODEL = _pattern(rf"\bserialized[ _]model{_IS}{_COUNT} bytes")
_TOTAL = _pattern(
    rf"\b(?:total[ _]submission(?:[ _]size)?(?:[ _]{_CODEC})?|submission[ _]size|total(?:_| )artifact(?: size)?|"
    r"total_bytes|bytes_total|"
    rf"artifact(?:_size|_bytes| size)?){_IS}{SIZE}(?!\w|\.)"
)
_BUDGET = _pattern(rf"\bbudget{_IS}{_COUNT}/16,?000,?000\b")
_RAW_TOTAL = _pattern(rf"\btotal[ _]submission[ _]size{_IS}{_COUNT} bytes")
_STEP = _pattern(r"\bstep\"?\s*[:= ]\s*(\d{1,12})/\d|^(\d{1,12})/\d+ (?:train|val)_loss")
_TRAINED = _pattern(rf"\btrain(?:ing)?_time{_IS}{_SECONDS}|^train {_PLAIN_SECONDS}$")
_STOPPED = _pattern(rf"\bstopping_early\b.{{0,80}}\btrain_time{_IS}{_SECONDS}")
_STEP_TIME = _pattern(rf"\bstep_avg{_IS}{_SECONDS}")
_EVALUATED = _pattern(rf"\btotal_eval_time{_IS}{_SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB")
_CALIBRATED = _pattern(
    rf"\b(?:calibrat\w{{0,9}}|hessians?)\b.{{0,80}}?(?:\b(?:in|took|done|complete|collection)\b:?|\() ?{_SECONDS}|"
    rf"calibration(?:_time)?\s*[:=]\s*{_SECONDS}"
)
_GENERATED = _pattern(
    rf"\bgptq:? ?generated \d[\d,]* (?:sequences|seqs|tokens).{{0,40}}?\bin {_SECONDS}|"
    rf"\bar_selfgen\w{{0,20}}={_SECONDS}"
)
"""Sequences that the model itself makes after training, for the calibration."""
_NOT_CALIBRATION = _pattern(r"compress|saved|serializ|quantized in|reserv")
_WORLD = _pattern(rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b")
_DATASET = _pattern(rf"\b(?:train_loader:\s*)?dataset(?:_name)?{_IS}\"?([\w.+-]{{1,80}})")
_TOKENIZER = _pattern(r"\bfineweb\w{0,20}?_((?:sp|byte)?)([1-9]\d{2,5})(?:_bpe\b|\b|_)")
_SHARDS = _pattern(rf"\btrain_shards{_IS}{_COUNT}")
_VALIDATION = _pattern(rf"(?:\bval(?:idation)?[_ ]tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){_COUNT}")
_LIMITED = _pattern(
    r"\b(\d[\d,]* (?:eval |val )?(?:batches|sequences|documents|docs|tokens) \(?limited\)?|"
    r"(?:eval|val)\w{0,20} limited to \d[\d,]* \w+|"
    r"(?:evaluat|scor|validat)\w{0,5}(?: on)?(?: the)? first \d[\d,]* (?:documents|docs|sequences|batches|tokens)|"
    r"val_doc_fraction: 0?\.\d+|val_max_tokens[:=] ?[1-9]\d*|ttt_eval_batches: \d[\d,]*)"
)
_VALIDATION_FILES = _pattern(r"\bval_loader\b.{0,200}?\bpattern=(\S{1,300})|^\s{0,8}val_files: (\S{1,300})")
_ON_VALIDATION = _pattern(
    r"\btrain_loader\b.{0,300}?(fineweb_val|dataset:\S{0,60}val_?only)|^\s{0,8}train_files: \S{0,300}(fineweb_val)"
)
_PYTHON = _pattern(r"\b(?:running python|python(?:_version)?\"?\s*[:=]) ?\"?(\d+\.\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Score:
    """A line with the bits per byte of a whole evaluation.

    Attributes:
        name: the words before the score, shown and never interpreted.
        bpb: bits per byte.
        nats: nats per token.
        seconds: of this evaluation.
    """

    name: str
    bpb: ParsedNumber
    nats: ParsedNumber | None
    seconds: float | None


@dataclass(frozen=True)
class CodeSize:
    """A size of the code that a log tells, and what it says of it ("uncompressed")."""

    size: int
    label: str = ""


@dataclass(frozen=True)
class Seconds:
    """A time that a log tells and the unit of its last digit, in seconds."""

    value: float
    unit: float


@dataclass(frozen=True)
class RunLog:
    """What a log tells of one run; a file may hold several.

    Attributes:
        file: its path in the folder.
        part: of several runs in the file, which; 0 where it is the only one.
        seed_of_name: the seed in the file's name.
        scores: in the order of their last lines; curves during training are not among them.
        code_sizes: every size of the code that it tells.
        source: the code itself, where it stands in the log.
        model_bytes, total_bytes: as packed, in bytes.
        step_seconds: mean of a step.
        calibration_seconds: of collecting statistics for the quantisation after training.
        eval_seconds: of all evaluations together, where it tells so.
        generation_seconds: of making sequences for the calibration after training.
        curve_bpb: the last bits per byte of the training's own validation.
        tokenizer: such as "sp1024".
        limited: words that say that only a part of the validation split was scored.
        settings: what it says before the first step, without what differs from run to run by its nature.
    """

    file: str
    part: int = 0
    seed: int | None = None
    seed_of_name: int | None = None
    scores: tuple[Score, ...] = ()
    code_sizes: tuple[CodeSize, ...] = ()
    code_sha256: str | None = None
    source: CodeBlock | None = None
    model_bytes: ParsedNumber | None = None
    total_bytes: ParsedNumber | None = None
    steps: int | None = None
    train_seconds: Seconds | None = None
    step_seconds: float | None = None
    calibration_seconds: float | None = None
    eval_seconds: float | None = None
    devices: tuple[Device, ...] = ()
    world_size: int | None = None
    dataset: str | None = None
    tokenizer: str | None = None
    train_shards: int | None = None
    validation_tokens: int | None = None
    validation_files: str | None = None
    generation_seconds: float | None = None
    curve_bpb: ParsedNumber | None = None
    limited: str | None = None
    trains_on_validation: bool = False
    python: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f"{self.file} (run {self.part})" if self.part else self.file

    @property
    def trained(self) -> bool:
        """Whether a training is told, not only an evaluation."""
        return self.steps is not None or self.train_seconds is not None

    @property
    def is_run(self) -> bool:
        """Whether it is the log of a run at all."""
        names_code = bool(self.code_sizes) or self.code_sha256 is not None
        known = self.total_bytes is not None or self.steps is not None or (self.seed is not None and names_code)
        return known or bool(self.scores)

    @property
    def code_bytes(self) -> tuple[int, ...]:
        """Every size of the code that it tells."""
        return tuple(dict.fromkeys(one.size for one in self.code_sizes))

    @property
    def packed_code_bytes(self) -> int | None:
        """The size of the code in its total, where it tells both a packed and a plain one or both sums."""
        if len(self.code_bytes) < 2:
            return None
        sums = [size for size in self.code_bytes if self._adds_up(size)]
        return (sums or sorted(self.code_bytes))[0]

    def _adds_up(self, code: int) -> bool:
        if self.model_bytes is None or self.total_bytes is None:
            return False
        return self.total_bytes.is_size(self.model_bytes.value + code)

    def score(self, name: str) -> Score | None:
        """The score of that name."""
        return next((score for score in self.scores if score.name == name), None)


def read_run(file: str, lines: Sequence[str], source: CodeBlock | None = None, part: int = 0) -> RunLog:
    """The facts in the lines of one run.

    Args: lines: without the code, without what loggers put before a line.
    """
    short = [line for line in lines if len(line) <= LONGEST_LINE]
    begun = next((at for at, line in enumerate(short) if _begins(line)), len(short))
    telling = [line for line in _without_middle(short) if _TELLING.search(line)]
    model, total = _size(telling, _MODEL), _size(telling, _BUDGET) or _size(telling, _TOTAL)
    if model is None and total is None:
        model, total = _size(telling, _RAW_MODEL), _size(telling, _RAW_TOTAL)
    seed = _first(telling, _SEED)
    return RunLog(
        file,
        part,
        seed=None if seed is None else int(seed),
        seed_of_name=_seed_of_name(file.rsplit("/", 1)[-1], seed is None),
        scores=_scores(telling),
        code_sizes=_code_sizes(telling),
        code_sha256=_last(telling, _CODE_HASH),
        source=source,
        model_bytes=model,
        total_bytes=total,
        steps=_count(telling, _STEP),
        train_seconds=_seconds(telling, _STOPPED) or _seconds(telling, _TRAINED),
        step_seconds=_value(_seconds(telling, _STEP_TIME)),
        calibration_seconds=_calibration(telling),
        generation_seconds=_value(_seconds(telling, _GENERATED)),
        curve_bpb=_curve_bpb(telling),
        eval_seconds=_value(_seconds(telling, _EVALUATED)),
        devices=devices_in_log(telling),
        world_size=_count(telling, _WORLD),
        dataset=_last(telling, _DATASET),
        tokenizer=_tokenizer(telling),
        train_shards=_count(telling, _SHARDS),
        validation_tokens=_count(telling, _VALIDATION),
        validation_files=_last(telling, _VALIDATION_FILES),
        limited=_last(telling, _LIMITED),
        trains_on_validation=_last(telling, _ON_VALIDATION) is not None,
        python=_last(telling, _PYTHON),
        settings=read_settings(short[:begun]),
    )


def _without_middle(lines: Sequence[str]) -> list[str]:
    """Lines without those of the training curve but the last, which tell what all of them tell."""
    curve = [at for at, line in enumerate(lines) if _CURVE_LINE.match(line)]
    left_out = set(curve[:-_LAST_OF_CURVE])
    return [line for at, line in enumerate(lines) if at not in left_out]


def _begins(line: str) -> bool:
    """Whether the run's own lines begin: settings stand before."""
    return _PROGRESS.search(line) is not None or _BPB.search(line) is not None


def _seed_of_name(name: str, alone: bool) -> int | None:
    """The seed in a file's name; "s42" is taken for one only where nothing else tells the seed.

    Args: alone: whether the log itself tells none.
    """
    seeds = _SEED_OF_NAME.findall(name) or (_S_OF_NAME.findall(name) if alone else [])
    return int(seeds[-1]) if seeds else None


def _curve_bpb(lines: Sequence[str]) -> ParsedNumber | None:
    text = _last(lines, _CURVE_BPB)
    return None if text is None else told(text)


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
            found[name] = Score(name, value, loss, _value(_seconds([line], _TOOK)))
    return _without_rounded(list(found.values()))


def _without_rounded(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Scores without those that stand again with more decimals; the exact ones take over their times."""
    kept: list[Score] = []
    for score in scores:
        exact = next((at for at, one in enumerate(kept) if _is_rounding(score, one)), None)
        if exact is not None:
            kept[exact] = _with_seconds(kept[exact], [score])
        else:
            rounded = [one for one in kept if _is_rounding(one, score)]
            kept = [*(one for one in kept if one not in rounded), _with_seconds(score, rounded)]
    return tuple(kept)


def _with_seconds(score: Score, others: Sequence[Score]) -> Score:
    """A score with the longest time that a line of the same score tells."""
    times = [one.seconds for one in (score, *others) if one.seconds is not None]
    return replace(score, seconds=max(times, default=None))


def _is_rounding(one: Score, exact: Score) -> bool:
    """Whether a score is another one, rounded."""
    return one.bpb.unit > 1.5 * exact.bpb.unit and abs(one.bpb.value - exact.bpb.value) <= 0.5001 * one.bpb.unit


def _code_sizes(lines: Iterable[str]) -> tuple[CodeSize, ...]:
    matches = [match for line in lines for match in _CODE.finditer(line) if whole(match[2]) >= _SMALLEST_CODE]
    return tuple(dict.fromkeys(CodeSize(whole(match[2]), (match[1] or "").strip().lower()) for match in matches))


def _size(lines: Sequence[str], pattern: re.Pattern[str]) -> ParsedNumber | None:
    """The last size of the pattern."""
    for line in reversed(lines):
        for match in reversed(list(pattern.finditer(line))):
            number, *scale = match.groups()
            found = told_size(number, scale[0] if scale else None)
            if found is not None and found.value >= 1:
                return found
    return None


def _calibration(lines: Iterable[str]) -> float | None:
    """The longest calibration; lines of compressing and writing name the method too and are none."""
    times = [
        _match_seconds(match)
        for line in lines
        if (match := _CALIBRATED.search(line)) and not _NOT_CALIBRATION.search(line)
    ]
    return max((time.value for time in times), default=None)


def _tokenizer(lines: Sequence[str]) -> str | None:
    match = next((match for line in reversed(lines) if (match := _TOKENIZER.search(line))), None)
    return None if match is None else f"{match[1].lower() or 'sp'}{match[2]}"


def _first(lines: Iterable[str], pattern: re.Pattern[str]) -> str | None:
    for line in lines:
        match = pattern.search(line)
        if match is not None:
            return next(part for part in match.groups() if part is not None)
    return None


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> str | None:
    return _first(reversed(lines), pattern)


def _count(lines: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    """The last number of the pattern."""
    text = _last(lines, pattern)
    return None if text is None else whole(text)


def _seconds(lines: Sequence[str], pattern: re.Pattern[str]) -> Seconds | None:
    """The last time of the pattern."""
    match = next((match for line in reversed(lines) if (match := pattern.search(line))), None)
    return None if match is None else _match_seconds(match)


def _match_seconds(match: re.Match[str]) -> Seconds:
    value, unit = (part for part in match.groups() if part is not None)
    times, over = {"ms": (1.0, 1000.0), "m": (60.0, 1.0), "min": (60.0, 1.0)}.get(unit.lower(), (1.0, 1.0))
    last = 10.0 ** -len(value.partition(".")[2])
    return Seconds(float(value) * times / over, last * times / over)


def _value(seconds: Seconds | None) -> float | None:
    return None if seconds is None else seconds.value
