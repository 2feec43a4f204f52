"""A log file as the runs that it holds, and the source code that many logs begin with apart from a run's lines.

Runs follow one after the other, each with its own code and settings. Published trainers write their own source into the
log: before everything, between two bars of equals signs, or after the settings; with a bar at its end or with none. Its
form identifies it; it is never parsed here, so that code which is not valid Python is seen too.
"""

import re
from collections.abc import Iterator, Sequence

from golf.submission.record_folder.text import plain_line

MOST_LINES = 400_000
MOST_RUNS = 100
"""Most runs of one file; further ones are read as part of the last."""
_HEADER = re.compile(r"(Hyperparameters:|logs/|train_loader:|seed:|Running Python|code_sha256:)")
"""Lines that occur once, at the head of a run."""
_ENDING = re.compile(
    r"stopping_early:|total submission size|total_eval_time|(?!step|\d|\W)[^\n]{0,90}\bval_bpb\s*[:=]\s*\d",
    re.IGNORECASE,
)
"""Lines that a run has at its end."""
_STEP = re.compile(r"step: ?(\d{1,12})/\d|(\d{1,12})/\d{1,12} train_loss")
_BAR = re.compile(r"={60,}\s*$")
_BEGIN = re.compile(r"(?:[rbfu]{0,2}(?:\"\"\"|''')|import \w|from [\w.]+ import\b|#!|# -\*-|# ?\w)")
"""Forms of the first line of a script."""
_IMPORT = re.compile(r"\s*(?:import \w|from [\w.]+ import\b)")
_BODY = re.compile(r"(?:async )?(?:def|class) \w|(?:\w+\.)?exec\(|if __name__\b|@\w")
_OF_THE_RUN = re.compile(
    r"(?:logs/\S+|Running (?:Python|PyTorch)\b|Hyperparameters:|(?:train|val)_loader:|val_bpb:enabled|model_params:|"
    r"world_size:|seed:\s*\d|step:\s*\d|\d+/\d+ (?:train|val)_loss|(?:train_shards|val_tokens):|warmup_step:|"
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:|[WEI]\d{4} \d\d:|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} )"
)
"""Lines that end a source without a bar; a script does not have them at the left margin."""
_IMPORT_WITHIN = 80
"""Lines at the head of a script within which it imports something."""


def runs_in(lines: Sequence[str]) -> Iterator[tuple[list[str], bytes | None]]:
    """Yields each run's lines, without what loggers put before a line, and the first source among them.

    The source is UTF-8 with one line end at its end, as a trainer that prints its source has it in its file.
    """
    lines = lines[:MOST_LINES]
    sources = list(_sources(lines))
    starts = _starts(lines, {source.start: source.stop for source in sources})
    for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        own = [source for source in sources if begin <= source.start < end]
        inside = {number for source in own for number in source}
        text = "\n".join(lines[own[0].start : own[0].stop]).rstrip() + "\n" if own else None
        outside = [plain_line(lines[number]) for number in range(begin, end) if number not in inside]
        yield outside, None if text is None else text.encode()


def _starts(lines: Sequence[str], sources: dict[int, int]) -> list[int]:
    """Returns where runs begin: at a head after the end of another run, or where the steps begin again.

    Args: sources: their first lines, and the lines after them.
    """
    starts, heads, ended, step, skip = [0], set[str](), False, 0, 0
    last_head = 0  # the first head after the last step: where a run begins that only its steps show
    for number, raw in enumerate(lines):
        if number < skip or len(starts) == MOST_RUNS:
            continue
        skip = sources.get(number, number)
        line = plain_line(raw[:300])
        header = _HEADER.match(line)
        head = "code" if skip > number else header[1] if header else ""
        steps = _STEP.match(line) if not head else None
        now = int(steps[1] or steps[2]) if steps else None
        if (head and ended and (head in heads or head == "code")) or (now is not None and now <= 10 < step):
            starts.append(number if head else last_head or number)
            heads, ended, step, last_head = set(), False, 0, 0
        heads |= {head} - {""}
        ended = ended or (not head and _ENDING.match(line) is not None)
        if now is not None:
            step, last_head = now, 0
        elif head and not last_head:
            last_head = number
    return starts


def _sources(lines: Sequence[str]) -> Iterator[range]:
    """Yields the lines of every source in a log: one at most between two bars, or after the last one."""
    bars = [number for number, line in enumerate(lines) if line.startswith("=") and _BAR.match(line)]
    for first, bar in zip([0, *(bar + 1 for bar in bars)], [*bars, len(lines)], strict=True):
        begin = first
        while (start := _first_of_code(lines, begin, bar)) is not None:
            end = next((number for number in range(start, bar) if _OF_THE_RUN.match(lines[number])), bar)
            if end == len(lines):  # no bar closes it, and no known line follows
                end = _end_of_code(lines, start, end)
            if _looks_like_code(lines[start:end]):
                yield range(start, end)
                break
            begin = max(end, start + 1)


def _first_of_code(lines: Sequence[str], begin: int, end: int) -> int | None:
    """Returns the first line that may begin code: an import is near and nothing of the run is between."""
    for number in range(begin, end):
        near = lines[number : min(number + _IMPORT_WITHIN, end)] if _BEGIN.match(lines[number]) else ()
        known = next((line for line in near if _OF_THE_RUN.match(line) or _IMPORT.match(line)), "")
        if _IMPORT.match(known):
            return number
    return None


def _looks_like_code(lines: Sequence[str]) -> bool:
    return any(_IMPORT.match(line) for line in lines) and any(_BODY.match(line.lstrip()) for line in lines)


def _end_of_code(lines: Sequence[str], start: int, end: int) -> int:
    """Returns the line after the last one of a script's form."""
    for number in range(end - 1, start, -1):
        line = lines[number]
        if line.startswith((" ", "\t", ")", "]", "}")) or _BODY.match(line) or _IMPORT.match(line):
            return number + 1
    return start + 1
