"""What the lines of a log say of a run: scores, bytes, seconds, data, device and settings.

What a log does not say is None or empty, never guessed. Of several lines of one kind the last counts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from golf.submission.record_folder import log_patterns as patterns
from golf.submission.record_folder.devices import Device, devices_in_log
from golf.submission.record_folder.log_code import CodeBlock
from golf.submission.record_folder.log_settings import read_settings
from golf.submission.record_folder.numbers import ParsedNumber, parse_int, parse_number, parse_size

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


@dataclass(frozen=True)
class Seconds:
    """A time and the unit of its last digit, in seconds."""

    value: float
    unit: float


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
    source: CodeBlock | None = None
    """The code itself, where it is in the log."""
    model_bytes: ParsedNumber | None = None
    """Bytes of the packed model."""
    total_bytes: ParsedNumber | None = None
    """Bytes of the packed model and the code."""
    steps: int | None = None
    train_seconds: Seconds | None = None
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
        sums = [size for size in self.code_bytes if self._adds_up(size)]
        return (sums or sorted(self.code_bytes))[0]

    def _adds_up(self, code: int) -> bool:
        if self.model_bytes is None or self.total_bytes is None:
            return False
        return self.total_bytes.is_size(self.model_bytes.value + code)

    def score(self, name: str) -> Score | None:
        """Returns the score of that name."""
        return next((score for score in self.scores if score.name == name), None)


def read_run(file: str, lines: Sequence[str], source: CodeBlock | None = None, part: int = 0) -> RunLog:
    """Returns the facts in the lines of one run.

    Args:
        file: path of the log in its folder.
        lines: without the code, without what loggers put before a line.
        source: the code in the log.
        part: number of the run in its file, as in RunLog.
    """
    short = [line for line in lines if len(line) <= LONGEST_LINE]
    first = next((number for number, line in enumerate(short) if _begins(line)), len(short))
    telling = [line for line in _without_curve(short) if patterns.TELLING.search(line)]
    model = _size(telling, patterns.MODEL)
    total = _size(telling, patterns.BUDGET) or _size(telling, patterns.TOTAL)
    if model is None and total is None:
        model, total = _size(telling, patterns.RAW_MODEL), _size(telling, patterns.RAW_TOTAL)
    seed, curve_bpb = _first(telling, patterns.SEED), _last(telling, patterns.CURVE_BPB)
    return RunLog(
        file,
        part,
        seed=None if seed is None else int(seed),
        seed_of_name=_seed_of_name(file.rsplit("/", 1)[-1], seed is None),
        scores=_scores(telling),
        code_bytes=_code_bytes(telling),
        code_sha256=_last(telling, patterns.CODE_HASH),
        source=source,
        model_bytes=model,
        total_bytes=total,
        steps=_count(telling, patterns.STEP),
        train_seconds=_seconds(telling, patterns.STOPPED) or _seconds(telling, patterns.TRAINED),
        step_seconds=_value(_seconds(telling, patterns.STEP_TIME)),
        calibration_seconds=_calibration(telling),
        generation_seconds=_value(_seconds(telling, patterns.GENERATED)),
        eval_seconds=_value(_seconds(telling, patterns.EVALUATED)),
        curve_bpb=None if curve_bpb is None else parse_number(curve_bpb),
        devices=devices_in_log(telling),
        world_size=_count(telling, patterns.WORLD),
        dataset=_last(telling, patterns.DATASET),
        tokenizer=_tokenizer(telling),
        train_shards=_count(telling, patterns.SHARDS),
        validation_tokens=_count(telling, patterns.VALIDATION),
        validation_files=_last(telling, patterns.VALIDATION_FILES),
        limited=_last(telling, patterns.LIMITED),
        trains_on_validation=_last(telling, patterns.ON_VALIDATION) is not None,
        python=_last(telling, patterns.PYTHON),
        settings=read_settings(short[:first]),
    )


def _without_curve(lines: Sequence[str]) -> list[str]:
    """Returns lines without those of the training curve but the last ones."""
    curve = [number for number, line in enumerate(lines) if patterns.CURVE_LINE.match(line)]
    left_out = set(curve[:-_LAST_OF_CURVE])
    return [line for number, line in enumerate(lines) if number not in left_out]


def _begins(line: str) -> bool:
    """Returns whether the run's own lines begin here: settings come before."""
    return patterns.PROGRESS.search(line) is not None or patterns.BPB.search(line) is not None


def _seed_of_name(name: str, alone: bool) -> int | None:
    """Returns the seed in a file's name.

    Args:
        name: of the file.
        alone: whether the log itself names no seed: only then is "s42" read as one.
    """
    seeds = patterns.SEED_OF_NAME.findall(name) or (patterns.S_OF_NAME.findall(name) if alone else [])
    return int(seeds[-1]) if seeds else None


def _scores(lines: Sequence[str]) -> tuple[Score, ...]:
    scores: dict[str, Score] = {}
    for line in lines:
        bpb, nats = patterns.BPB.search(line), patterns.NATS.search(line)
        begin = min((match.start() for match in (bpb, nats) if match), default=0)
        if bpb is None or patterns.CURVE.search(line[:begin]) or len(scores) >= _MOST_SCORES:
            continue
        name = line[:begin].strip(" \t:|-{\"'")[-80:] or "score"
        value, loss = parse_number(bpb[1]), None if nats is None else parse_number(nats[1])
        if value is not None:
            scores.pop(name, None)
            scores[name] = Score(name, value, loss, _value(_seconds([line], patterns.TOOK)))
    return _without_rounded(list(scores.values()))


def _without_rounded(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Returns scores without those that occur again with more decimals; the exact ones take over their times."""
    exact: list[Score] = []
    for score in scores:
        same = next((number for number, other in enumerate(exact) if _is_rounding(score, other)), None)
        if same is not None:
            exact[same] = _with_seconds(exact[same], [score])
        else:
            rounded = [other for other in exact if _is_rounding(other, score)]
            exact = [*(other for other in exact if other not in rounded), _with_seconds(score, rounded)]
    return tuple(exact)


def _with_seconds(score: Score, others: Sequence[Score]) -> Score:
    """Returns a score with the longest time that a line of the same score has."""
    times = [same.seconds for same in (score, *others) if same.seconds is not None]
    return replace(score, seconds=max(times, default=None))


def _is_rounding(score: Score, exact: Score) -> bool:
    """Returns whether a score is another one, rounded."""
    return score.bpb.unit > 1.5 * exact.bpb.unit and abs(score.bpb.value - exact.bpb.value) <= 0.5001 * score.bpb.unit


def _code_bytes(lines: Iterable[str]) -> tuple[int, ...]:
    sizes = [parse_int(match[1]) for line in lines for match in patterns.CODE.finditer(line)]
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
    matches = [
        match
        for line in lines
        if (match := patterns.CALIBRATED.search(line)) and not patterns.NOT_CALIBRATION.search(line)
    ]
    return max((_match_seconds(match).value for match in matches), default=None)


def _tokenizer(lines: Sequence[str]) -> str | None:
    match = next((match for line in reversed(lines) if (match := patterns.TOKENIZER.search(line))), None)
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
    """Returns the last number of the pattern."""
    text = _last(lines, pattern)
    return None if text is None else parse_int(text)


def _seconds(lines: Sequence[str], pattern: re.Pattern[str]) -> Seconds | None:
    """Returns the last time of the pattern."""
    match = next((match for line in reversed(lines) if (match := pattern.search(line))), None)
    return None if match is None else _match_seconds(match)


def _match_seconds(match: re.Match[str]) -> Seconds:
    value, unit = (part for part in match.groups() if part is not None)
    times, over = {"ms": (1.0, 1000.0), "m": (60.0, 1.0), "min": (60.0, 1.0)}.get(unit.lower(), (1.0, 1.0))
    last = 10.0 ** -len(value.partition(".")[2])
    return Seconds(float(value) * times / over, last * times / over)


def _value(seconds: Seconds | None) -> float | None:
    return None if seconds is None else seconds.value
