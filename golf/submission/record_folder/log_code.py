"""The source code that many logs begin with, told apart from the lines of the run.

Published trainers write their own source into the log: before everything, between two bars of equals signs, or after
the settings; with a bar at its end or with none. It is found by its form and never parsed here, so that code which is
not valid Python is found too.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

_BAR = re.compile(r"={60,}\s*$")
_BEGIN = re.compile(r"(?:[rbfu]{0,2}(?:\"\"\"|''')|import \w|from [\w.]+ import\b|#!|# -\*-|# ?\w)")
"""What the first line of a script is like."""
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
        """Of the code, so that two are compared."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def data(self) -> bytes:
        """UTF-8, with one line end at its end, as a trainer that prints its source has it in its file."""
        return self.text.rstrip().encode() + b"\n"


def find_code(lines: Sequence[str]) -> list[CodeBlock]:
    """Every source that stands in a log.

    Args: lines: as they stand in the file.
    """
    bars = [at for at, line in enumerate(lines) if line.startswith("=") and _BAR.match(line)]
    found: list[CodeBlock] = []
    begin = 0
    for bar in [*bars, len(lines)]:
        block = _in_block(lines, begin, bar, closed=bar < len(lines))
        if block is not None:
            found.append(block)
        begin = bar + 1
    return found


def _in_block(lines: Sequence[str], begin: int, bar: int, closed: bool) -> CodeBlock | None:
    """The source in the lines between two bars, or after the last one."""
    at = begin
    while (start := _start(lines, at, bar)) is not None:
        end = next((place for place in range(start, bar) if _OF_THE_RUN.match(lines[place])), bar)
        if end == bar and not closed:
            end = _end_of_code(lines, start, bar)
        text = "\n".join(lines[start:end])
        if _looks_like_code(lines[start:end]):
            return CodeBlock(start, end, text)
        at = max(end, start + 1)
    return None


def _start(lines: Sequence[str], begin: int, end: int) -> int | None:
    """The first line from which on code may stand: an import is near and nothing of the run lies between."""
    for at in range(begin, end):
        if _BEGIN.match(lines[at]):
            for near in range(at, min(at + _IMPORT_WITHIN, end)):
                if _OF_THE_RUN.match(lines[near]):
                    break
                if _IMPORT.match(lines[near]):
                    return at
    return None


def _looks_like_code(lines: Sequence[str]) -> bool:
    return any(_IMPORT.match(line) for line in lines) and any(_BODY.match(line.lstrip()) for line in lines)


def _end_of_code(lines: Sequence[str], start: int, end: int) -> int:
    """Where code ends that no bar closes and no known line follows: after its last line of a script's form."""
    last = start
    for at in range(start, end):
        line = lines[at]
        if line.startswith((" ", "\t", ")", "]", "}")) or _BODY.match(line) or _IMPORT.match(line):
            last = at
    return last + 1
