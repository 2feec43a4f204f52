"""A ledger's bytes as entries, also after an editor, git or a copying tool has changed their form but no value.

What is mended on reading: other line ends, a byte order mark, spaces around a line, a missing last newline, lines that
were re-indented, the same line twice. What a checksum does not fit is no entry; it is told with its likely cause.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune.records.lines import SHOWN_CHARACTERS, DamagedLine, decode
from tune.records.queries import TRIAL

_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors put before UTF-8."""
_BLANK = b" \t"
_CONFLICT = re.compile(rb"(?:<{7}|={7}|>{7}|\|{7})(?: |$)")
_SPACES = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
"""A JSON string, or white space outside of one."""
_MOST_RANGES = 12


@dataclass
class Reading:
    """What the bytes of a ledger hold."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    """The intact ones, in file order."""
    lines: list[bytes] = field(default_factory=list)
    """All lines as the ledger writes them; damaged ones as they stand."""
    damaged: list[DamagedLine] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
    """Numbers of lines, from 1 on, that stand there in another form than they were written in, or twice."""
    num_lines: int = 0
    """Lines that are not empty."""


def read_lines(data: bytes) -> Reading:
    """Read the bytes of a ledger; damage is never an error."""
    found, seen = Reading(), set()
    if data.startswith(_MARK):
        data = data[len(_MARK) :]
        found.mended.append(1)
    for number, line, as_written in _joined(data.splitlines(keepends=True)):
        found.num_lines += 1
        try:
            written, entry = _parsed(line)
        except ValueError as error:
            found.damaged.append(_damaged(number, line, as_written, error))
            found.lines.append(line)
            continue
        twice = written in seen and entry.get("kind") == TRIAL
        if (twice or as_written not in (written, written + b"\n")) and number not in found.mended[-1:]:
            found.mended.append(number)
        if not twice:
            seen.add(written)
            found.entries.append(entry)
            found.lines.append(written)
    return found


def _parsed(line: bytes) -> tuple[bytes, dict[str, Any]]:
    """A line as the ledger writes it, and its entry. Raises: ValueError as `decode`."""
    try:
        return line, decode(line)
    except ValueError:
        with contextlib.suppress(ValueError):
            written = _compact(line)
            return written, decode(written)
        raise


def _joined(parts: Sequence[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, line, bytes that stand there) of every line that is not empty; one that was re-indented is one line."""
    number, open_for_ever = 0, set()
    while number < len(parts):
        begin, bare = number, parts[number].strip(b" \t\r\n")
        number += 1
        indent = parts[begin][: len(parts[begin]) - len(parts[begin].lstrip(_BLANK))]
        if bare == b"{" and indent not in open_for_ever:
            ends = (indent + b"}", indent + b"},")
            close = next((n for n in range(number, len(parts)) if parts[n].rstrip(b" \t\r\n") in ends), None)
            if close is None:
                open_for_ever.add(indent)
            else:
                number = close + 1
                bare = b"".join(parts[begin:number]).strip(b" \t\r\n").rstrip(b",")
        if bare not in (b"", b"[", b"]"):  # an array around all of them holds nothing of its own
            yield begin + 1, bare, b"".join(parts[begin:number])


def _compact(line: bytes) -> bytes:
    """JSON without white space between its values, and with ASCII only, as the ledger writes it."""
    text = _SPACES.sub(lambda part: part[1] or "", line.decode())
    return re.sub(r"[^\x00-\x7f]", lambda letter: json.dumps(letter[0])[1:-1], text).encode()


def _damaged(number: int, line: bytes, as_written: bytes, error: ValueError) -> DamagedLine:
    text = line.decode(errors="replace")[:SHOWN_CHARACTERS]
    reason = str(error)[:SHOWN_CHARACTERS]  # which may quote the line
    if _CONFLICT.match(line):
        return DamagedLine(number, text, "a conflict marker of a git merge, whose two sides are both read")
    if b"\0" in line:
        return DamagedLine(number, text, "zero bytes, as after a power cut or where an editor saved it as UTF-16")
    if reason == "not a whole JSON value":
        ended = as_written.endswith((b"\n", b"\r"))
        reason += ": cut short or changed" if ended else ": cut short, as by a kill or a full disk"
    elif reason.startswith("its checksum"):
        reason += ", as by an editor, a script or git"
    return DamagedLine(number, text, reason)


def damage_told(path: object, found: Reading) -> list[str]:
    """What a person should know of a ledger's damage, in a line or two; nothing where there is none."""
    told = []
    if found.mended:
        form = "are not as they were written (line ends, spaces, twice), as by an editor or git; their values are whole"
        told.append(f"note: {path}, lines {ranges(found.mended)} {form}")
    if found.damaged:
        reasons = dict.fromkeys(line.reason for line in found.damaged)
        parts = [f"{ranges([n.line_number for n in found.damaged if n.reason == why])} ({why})" for why in reasons]
        told.append(
            f"warning: {path}: {len(found.damaged)} of {found.num_lines} lines are damaged and left out: lines "
            f"{'; '.join(parts)}. What they held counts as not run. Nothing is overwritten: mend them from a copy "
            "(python -m tune mirror fetch, a backup, git), or delete them"
        )
    return told


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words, as "1-3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in parts[:_MOST_RANGES]]
    return ", ".join(shown) + (", ..." if len(parts) > _MOST_RANGES else "")
