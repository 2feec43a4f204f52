"""What a check of the machine found."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """Runs are possible, but slower, or something of the project does not work."""
    FAILED = "failed"
    """Runs fail, or lose results."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str
    """Name of the check."""
    state: State
    found: str
    """What was found, in words with units."""
    remedy: str = ""
    """What helps; empty where nothing is wrong."""


def ok(check: str, found: str) -> Finding:
    """Returns the finding that all is well."""
    return Finding(check=check, state=State.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Returns the finding of something that hinders."""
    return Finding(check=check, state=State.WARNING, found=found, remedy=remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    """Returns the finding of something that makes runs fail."""
    return Finding(check=check, state=State.FAILED, found=found, remedy=remedy)


def size_words(num_bytes: float) -> str:
    """Returns a size in GiB, or MiB where it is smaller than one."""
    return f"{num_bytes / 2**30:,.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,.1f} MiB"


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Returns one line for each finding; at a terminal they are wrapped to its width."""
    width = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
    name_width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        head = f"{finding.state:<9}{finding.check:<{name_width}}  "
        text = printable(finding.found + (f"; {finding.remedy}" if finding.remedy else ""))
        indent = " " * len(head)
        wrapped = (
            textwrap.wrap(text, width - len(head), break_long_words=False, break_on_hyphens=False) if width else [text]
        )
        lines += [f"{head if not number else indent}{part}" for number, part in enumerate(wrapped)]
    return lines


def printable(text: str) -> str:
    """Returns text of somebody else in one line, without what would steer a terminal."""
    return re.sub(r"[^ -~\u00a0-\uffff]+", "?", " ".join(text.split()))
