"""A log file as the runs that it holds: one, or several one after the other, each with its own code and settings."""

import re
from collections.abc import Sequence
from dataclasses import replace

from golf.submission.record_folder.log_code import CodeBlock, find_code
from golf.submission.record_folder.logs import RunLog, read_run
from golf.submission.record_folder.text import Text, plain_line

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


def read_log(file: str, text: Text) -> list[RunLog]:
    """Returns the runs in a log, in their order; parts that say nothing of a run are left out.

    Args:
        file: its path in the folder.
        text: of the log.
    """
    lines = text.lines()[:MOST_LINES]
    blocks = find_code(lines)
    starts = _starts(lines, blocks)
    runs = [_run(file, lines, blocks, begin, end) for begin, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    runs = [run for run in runs if run.is_run]
    return runs if len(runs) < 2 else [replace(run, part=part) for part, run in enumerate(runs, 1)]


def _run(file: str, lines: Sequence[str], blocks: Sequence[CodeBlock], begin: int, end: int) -> RunLog:
    own = [block for block in blocks if begin <= block.start < end]
    outside = list(lines[begin:end])
    for block in reversed(own):
        del outside[block.start - begin : block.end - begin]
    return read_run(file, [plain_line(line) for line in outside], own[0] if own else None)


def _starts(lines: Sequence[str], blocks: Sequence[CodeBlock]) -> list[int]:
    """Returns where runs begin: at a head after the end of another run, or where the steps begin again."""
    ends = {block.start: block.end for block in blocks}
    starts, heads, ended, step, skip = [0], set[str](), False, 0, 0
    last_head = 0  # the first head after the last step: where a run begins that only its steps show
    for number, raw in enumerate(lines):
        if number < skip or len(starts) == MOST_RUNS:
            continue
        skip = ends.get(number, number)
        line = plain_line(raw[:300])
        header = _HEADER.match(line)
        head = "code" if skip > number else header[1] if header else ""
        now = _step_of(line) if not head else None
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


def _step_of(line: str) -> int | None:
    """Returns the step of a line of the training curve; None for another line."""
    match = _STEP.match(line)
    return None if match is None else int(match[1] or match[2])
