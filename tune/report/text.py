"""Text that is safe to show, whatever characters users put into it."""

import re
import shlex
from pathlib import Path

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that XML cannot hold, and those that change the direction of the text around them."""


_DIGEST = re.compile(r"(?<![0-9A-Za-z])([0-9a-f]{12})(?:[0-9a-f]{28}|[0-9a-f]{52})(?![0-9A-Za-z])")
"""A digest of SHA-1 or SHA-256: the first twelve digits are enough to know it by."""


def clean(text: object, max_letters: int | None = None) -> str:
    """Returns `text` as one line without control characters, shortened in the middle to at most `max_letters`.

    Of digests it has the first twelve digits.
    """
    text = _DIGEST.sub(r"\1", str(text))
    line = " ".join(_UNPRINTABLE.sub("\ufffd", re.sub(r"[\t\r\n]+", " ", text)).split(" ")).strip()
    if max_letters is None or len(line) <= max_letters:
        return line
    tail = (max_letters - 1) // 3
    return f"{line[: max_letters - 1 - tail]}\u2026{line[len(line) - tail :]}"


def clean_lines(text: str) -> str:
    """Returns several lines without control characters; spaces inside a line are kept."""
    return "\n".join(_UNPRINTABLE.sub("\ufffd", line).rstrip() for line in text.splitlines())


def signed(value: float, digits: int = 4) -> str:
    """Returns a difference with its sign; the minus is as wide as the plus."""
    return f"{value:+,.{digits}f}".replace("-", "\u2212")


def seeds_options(sweep: str, root: Path) -> str:
    """Returns the options of run_seeds.py that run a sweep's best trial under several seeds, quoted for a shell."""
    words = [f"--from-sweep={sweep}"] if sweep.startswith("-") else ["--from-sweep", sweep]
    return shlex.join([*words, "--best", "--storage", str(root)])
