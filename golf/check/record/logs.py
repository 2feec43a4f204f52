"""What the lines of a log tell of a run: scores, bytes, seconds, data, device and settings.

What a log does not tell is None or empty, never guessed. Long lines are passed over and no pattern looks far ahead, so
that a hostile log takes seconds at most. The forms are those of the logs below `records/` of openai/parameter-golf; of
several lines of one kind the last counts.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from golf.check.record.devices import Device, devices_in_log
from golf.check.record.log_code import CodeBlock
from golf.check.record.numbers import NUMBER, SIZE, Told, told, told_size, whole

LONGEST_LINE = 8000
"""Characters; a longer line tells nothing that is looked for here."""
_MOST_SETTINGS, _MOST_SCORES = 500, 200
_COUNT = r"(\d[\d,]{0,30})"
_SECONDS = r"(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds|m|min)\b"
_PLAIN_SECONDS = r" *(\d+(?:\.\d+)?) (s)"
_IS = r"\"?\s*[:=]\s*"
_CODEC = r"[^:|=\n]{0,60}"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_TELLING = _pattern(
    r"bpb|loss|seed|code|model|total|bytes|budget|artifact|submission|step|time|train |\d s$|gptq|calib|hessian|"
    r"world|device|gpu|H100|NVIDIA|tokens|shards|loader|fineweb|running p|python|batches|limited|\d+/\d+"
)
"""Only lines with one of these are looked at further."""
_BPB, _NATS = _pattern(rf"\bval_bpb{_IS}{NUMBER}"), _pattern(rf"\bval_loss{_IS}{NUMBER}")
_PROGRESS = _pattern(r"\b\d+/\d+\b")
"""Something under way."""
_CURVE = _pattern(r"\b\d+/\d+\b|(?:step|iter|epoch|chunk)[\s:=_]*\d")
_CURVE_LINE = re.compile(r"(?:step:? ?)?\d+/\d+ (?:train|val)_loss")
_LAST_OF_CURVE = 50
_TOOK = _pattern(rf"\b(?:eval_time|elapsed|t){_IS}{_SECONDS}")
_SEED = _pattern(rf"(?:^|[\s\[(,])seed{_IS}(\d{{1,18}})\b")
_SEED_OF_NAME = _pattern(r"(?:seed|(?:^|[_-])s)[_-]?(\d{1,18})(?!\d)")
_CODE = _pattern(
    rf"\b(?:code size|code bytes|code_bytes|bytes_code|code)(?:\s*\(([^)]{{0,40}})\))?{_IS}{_COUNT}"
    r"(?![\d.]) ?(?![km]i?b)"
)
_CODE_HASH = _pattern(rf"\bcode_sha256{_IS}\"?([0-9a-f]{{64}})\b")
_MODEL = _pattern(
    rf"\b(?:(?:serialized|compressed|quantized|packed) model(?: size)? {_CODEC}|"
    r"(?!raw|serialized)[\w+.-]{2,30} model|"
    rf"model_bytes|bytes_model\w{{0,20}}|compressed model(?: size)?|artifact model){_IS}{SIZE}"
)
_RAW_MODEL = _pattern(rf"\bserialized model{_IS}{_COUNT} bytes")
_TOTAL = _pattern(
    rf"\b(?:total submission(?: size)?(?: {_CODEC})?|submission(?:_| )size|total(?:_| )artifact(?: size)?|"
    r"total_bytes|bytes_total|"
    rf"artifact(?:_size|_bytes| size)?){_IS}{SIZE}(?!\w|\.)"
)
_BUDGET = _pattern(rf"\bbudget{_IS}{_COUNT}/16,?000,?000\b")
_RAW_TOTAL = _pattern(rf"\btotal submission size{_IS}{_COUNT} bytes")
_STEP = _pattern(r"\bstep\"?\s*[:=]\s*(\d{1,12})/\d|^(\d{1,12})/\d+ (?:train|val)_loss")
_TRAINED = _pattern(rf"\btrain(?:ing)?_time{_IS}{_SECONDS}|^train {_PLAIN_SECONDS}$")
_STOPPED = _pattern(rf"\bstopping_early\b.{{0,80}}\btrain_time{_IS}{_SECONDS}")
_STEP_TIME = _pattern(rf"\bstep_avg{_IS}{_SECONDS}")
_EVALUATED = _pattern(rf"\btotal_eval_time{_IS}{_SECONDS}|^\w{{1,40}} {_PLAIN_SECONDS}  [\d.]{{1,20}} BPB")
_CALIBRATED = _pattern(
    rf"\b(?:calibrat\w{{0,9}}|hessians?)\b.{{0,80}}?\b(?:in|took|done)\b:? ?{_SECONDS}|"
    rf"\bcalibration(?:_time)?\s*[:=]\s*{_SECONDS}"
)
_NOT_CALIBRATION = _pattern(r"compress|saved|serializ|quantized in|reserv")
_WORLD = _pattern(rf"\b(?:world_size{_IS}|device{_IS}\"(?=\d+ x ))(\d{{1,6}})\b")
_DATASET = _pattern(rf"\b(?:train_loader:\s*)?dataset(?:_name)?{_IS}\"?([\w.+-]{{1,80}})")
_TOKENIZER = _pattern(r"\bfineweb\w{0,20}?_((?:sp|byte)?)([1-9]\d{2,5})(?:_bpe\b|\b|_)")
_SHARDS = _pattern(rf"\btrain_shards{_IS}{_COUNT}")
_VALIDATION = _pattern(rf"(?:\bval(?:idation)?[_ ]tokens{_IS}|\bval_loader\b.{{0,300}}?\btokens{_IS}){_COUNT}")
_LIMITED = _pattern(
    r"\b(\d[\d,]* (?:eval |val )?(?:batches|sequences|documents|docs|tokens) \(?limited\)?|"
    r"(?:eval|val)\w{0,20} limited to \d[\d,]* \w+|"
    r"val_doc_fraction: 0?\.\d+)"
)
_VALIDATION_FILES = _pattern(r"\bval_loader\b.{0,200}?\bpattern=(\S{1,300})|^\s{0,8}val_files: (\S{1,300})")
_ON_VALIDATION = _pattern(r"\btrain_loader\b.{0,300}?(fineweb_val)")
_VERSION = _pattern(r"\brunning (python|pytorch) (\S{1,40})")
_PYTHON = _pattern(r"\b(?:running python|python(?:_version)?\"?\s*[:=]) ?\"?(\d+\.\d+(?:\.\d+)?)")
_SETTING = re.compile(r"([a-z_][a-z0-9_.]{0,60})[:=](\S{1,200})")
_LONE_SETTING = re.compile(r"\s{0,40}([a-z_][a-z0-9_.]{0,60}): ([^{\s].{0,200}|\{.*)")
_OF_A_RUN = _pattern(
    r"seed|time|(?<!wallclock_)seconds|_ms$|mem|^run_|uuid|hash|commit|^out|(?:^|_)(?:host|hostname|node|nodename|pid|port|ip|date|started|"
    r"rank|local_rank|device|gpu|cuda|driver)$|^(?:step|warmup_step|name|trial|cold|ranks|world_size|gptq|pergroup|is_main_process)$|"
    r"log(?:_?file|_?dir|s)?$|(?:cache|artifact|output|work|save|model|checkpoint|quantized_model|ckpt)_?(?:dir|path|root)$|^slurm|"
    r"^(?:train_shards|val_tokens|code_bytes|code_sha256|dataset)$"
)
"""Settings that differ from run to run by their nature, or that are compared under a name of their own."""


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
    bpb: Told
    nats: Told | None
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
    model_bytes: Told | None = None
    total_bytes: Told | None = None
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
    seed, seeds_of_name = _first(telling, _SEED), _SEED_OF_NAME.findall(file.rsplit("/", 1)[-1])
    return RunLog(
        file,
        part,
        seed=None if seed is None else int(seed),
        seed_of_name=int(seeds_of_name[-1]) if seeds_of_name else None,
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
        settings=_settings(short[: min(begun, _MOST_SETTINGS)]),
    )


def _without_middle(lines: Sequence[str]) -> list[str]:
    """Lines without those of the training curve but the last, which tell what all of them tell."""
    curve = [at for at, line in enumerate(lines) if _CURVE_LINE.match(line)]
    left_out = set(curve[:-_LAST_OF_CURVE])
    return [line for at, line in enumerate(lines) if at not in left_out]


def _begins(line: str) -> bool:
    """Whether the run's own lines begin: settings stand before."""
    return _PROGRESS.search(line) is not None or _BPB.search(line) is not None


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
    return tuple(found.values())


def _code_sizes(lines: Iterable[str]) -> tuple[CodeSize, ...]:
    matches = (match for line in lines for match in _CODE.finditer(line))
    return tuple(dict.fromkeys(CodeSize(whole(match[2]), (match[1] or "").strip().lower()) for match in matches))


def _size(lines: Sequence[str], pattern: re.Pattern[str]) -> Told | None:
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


def _settings(lines: Sequence[str]) -> dict[str, str]:
    """Names and values of lines that hold nothing else."""
    found: dict[str, str] = {}
    for line in lines:
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
            if len(found) < _MOST_SETTINGS and not _OF_A_RUN.search(name):
                found[name] = _without_folder(value)
    return found


def _without_folder(value: str) -> str:
    """The last part of a path: where data lie differs between machines."""
    return value.rstrip("/").rsplit("/", 1)[-1] if re.match(r"[\w.~$-]*/", value) else value


def _flat(name: str, text: str) -> list[tuple[str, str]]:
    """The values of an object in JSON by their dotted names; the text itself where it is none."""
    try:
        top = json.loads(text)
    except (ValueError, RecursionError):
        return [(name, text)]
    found, open_parts = [], [(name, top)]
    while open_parts:
        path, value = open_parts.pop()
        if isinstance(value, dict):
            open_parts += [(f"{path}.{key}", one) for key, one in value.items()]
        else:
            found.append((path, json.dumps(value)[:200]))
    return found


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
