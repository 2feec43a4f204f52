"""The source code that many logs begin with, as separate from the lines of the run.

Published trainers write their own source into the log: before everything, between two bars of equals signs, or after
the settings; with a bar at its end or with none. Its form identifies it; it is never parsed here, so that code which is
not valid Python is seen too.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class CodeBlock:
    """Source code between the lines `start` (its first) and `end` (the first after it) of a log."""

    start: int
    end: int
    text: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the code."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def data(self) -> bytes:
        """The code in UTF-8, with one line end at its end, as a trainer that prints its source has it in its file."""
        return self.text.rstrip().encode() + b"\n"


def find_code(lines: Sequence[str]) -> list[CodeBlock]:
    """Returns every source in a log, from the lines of its file."""
    bars = [number for number, line in enumerate(lines) if line.startswith("=") and _BAR.match(line)]
    begins = [0, *(bar + 1 for bar in bars)]
    blocks = [
        _in_block(lines, begin, bar, closed=bar < len(lines))
        for begin, bar in zip(begins, [*bars, len(lines)], strict=True)
    ]
    return [block for block in blocks if block is not None]


def _in_block(lines: Sequence[str], begin: int, bar: int, closed: bool) -> CodeBlock | None:
    """Returns the source in the lines between two bars, or after the last one."""
    while (start := _start(lines, begin, bar)) is not None:
        end = next((number for number in range(start, bar) if _OF_THE_RUN.match(lines[number])), bar)
        if end == bar and not closed:
            end = _end_of_code(lines, start, bar)
        if _looks_like_code(lines[start:end]):
            return CodeBlock(start, end, "\n".join(lines[start:end]))
        begin = max(end, start + 1)
    return None


def _start(lines: Sequence[str], begin: int, end: int) -> int | None:
    """Returns the first line that may begin code: an import is near and nothing of the run is between."""
    for number in range(begin, end):
        if _BEGIN.match(lines[number]):
            for near in range(number, min(number + _IMPORT_WITHIN, end)):
                if _OF_THE_RUN.match(lines[near]):
                    break
                if _IMPORT.match(lines[near]):
                    return number
    return None


def _looks_like_code(lines: Sequence[str]) -> bool:
    return any(_IMPORT.match(line) for line in lines) and any(_BODY.match(line.lstrip()) for line in lines)


def _end_of_code(lines: Sequence[str], start: int, end: int) -> int:
    """Returns where code ends that no bar closes and no known line follows: after its last line of a script's form."""
    last = start
    for number in range(start, end):
        line = lines[number]
        if line.startswith((" ", "\t", ")", "]", "}")) or _BODY.match(line) or _IMPORT.match(line):
            last = number
    return last + 1
