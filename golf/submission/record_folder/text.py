"""Text files of a record folder: bounded reading, encodings, line ends, and what comes before the lines of a log.

Nothing is executed and no file is read beyond its limit, so that a hostile folder costs seconds at most.
"""

import codecs
import gzip
import io
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

HEAD_BYTES, TAIL_BYTES = 1 << 19, 1 << 20
"""Bytes that are read of a log that is larger than both: its head has the settings, its tail has the results."""
MOST_UNPACKED = 64 << 20
"""Most bytes that a compressed log may unpack to."""
_STAMPS = re.compile(
    r"(?:\x1b\[[0-9;]{0,20}m"  # a terminal's colours
    r"|\d{9,13}\.\d{1,9} "  # seconds since 1970
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?\]? (?:- )?"
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]? "
    r"|\[(?:rank|default)? ?\d{1,4}\]:? ?"
    r"|\[?(?:INFO|DEBUG|WARNING)\]?[: ] ?(?:- )?"
    r"|# (?=\w))"
)
"""What loggers, launchers and terminals put before a line."""


@dataclass(frozen=True)
class Text:
    """A text file."""

    text: str
    """Its content with "\\n" at the ends of lines."""
    encoding: str = "utf-8"
    """"utf-8", "utf-16" or another name."""
    compressed: bool = False
    """Whether it is a gzip file."""
    skipped_bytes: int = 0
    """Bytes in the middle that were not read."""
    size: int = 0
    """Bytes of the file."""

    def lines(self) -> list[str]:
        """Returns its lines; a progress bar's states, which end in a carriage return, are lines of their own."""
        return self.text.replace("\r", "\n").split("\n")


def read_text(path: Path) -> Text:
    """Reads a text file, without its middle where it is large.

    Raises: OSError when it cannot be read; EOFError and zlib.error when it is a damaged gzip file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            return replace(decoded(_unzipped(file)), size=size, compressed=True)
        head = file.read(HEAD_BYTES + TAIL_BYTES)
        if size <= len(head):
            return decoded(head)
        file.seek(size - TAIL_BYTES)
        tail = file.read(TAIL_BYTES)
    head, tail = head[: head.rfind(b"\n", 0, HEAD_BYTES) + 1], tail[tail.find(b"\n") + 1 :]
    return replace(decoded(head + tail), size=size, skipped_bytes=size - len(head) - len(tail))


def _unzipped(file: io.BufferedReader) -> bytes:
    head, tail, length = b"", b"", 0
    with gzip.GzipFile(fileobj=file) as unzipped:
        while length < MOST_UNPACKED and (part := unzipped.read(1 << 20)):
            length += len(part)
            if len(head) < HEAD_BYTES:
                head += part
            else:
                tail = (tail + part)[-TAIL_BYTES:]
    return head + tail


def decoded(data: bytes) -> Text:
    """Returns the bytes of a file as text; what its encoding does not allow is replaced."""
    encoding = _encoding_of(data)
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    return Text(re.sub(r"\r+\n", "\n", text), encoding, size=len(data))


def _encoding_of(data: bytes) -> str:
    """Returns the encoding that a file's first bytes show; UTF-8 where they show none."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = data[:400]
    for name, at in (("utf-16-le", 1), ("utf-16-be", 0)):  # plain letters have a zero byte there
        if len(start) >= 8 and start[at::2].count(0) > 0.8 * len(start[at::2]) and not start[1 - at :: 2].count(0):
            return name
    return "utf-8"


def plain_line(line: str) -> str:
    """Returns a line of a log without the time, rank, level or comment mark before it."""
    for _ in range(4):
        match = _STAMPS.match(line)
        if match is None:
            return line
        line = line[match.end() :]
    return line


DAMAGED = (OSError, EOFError, zlib.error)
"""What reading a text file can raise."""
