"""Ways to spoil bytes and JSON values, as an enemy or a bad disk would.

The same random source spoils the same bytes in the same way. Nothing here knows a file format: checksums are sealed
again in `benchmarks.readers`.
"""

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**20, 2**28, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
"""Values of a length or a number that readers get wrong."""
HUGE = (2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**400)
STRANGE: tuple[Any, ...] = (
    *EXTREMES,
    *(-value for value in EXTREMES),
    *HUGE,
    *(None, True, False, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "a\\b",
        "a\0b",
        "\ud800",
        "é\n\x1b[2J",
        "x" * 5000,
    ),
    *([], {}, [[]], [{}], {"": None}, [1] * 1000, {"__class__": "os.system", "py/reduce": ["os.system", "id"]}),
)
"""JSON values of every kind, at their limits."""
_TOKENS: tuple[bytes, ...] = (
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"NaN",
)
_TOKENS += (b"-Infinity", b"1e999", b"9" * 5000, b"0x10", b"\\ud800", b"null", b"true", b"'", b"/*", b"\n", b"\r")


def spoil_bytes(source: random.Random, data: bytes) -> bytes:
    """`data` after one to four flips, insertions, deletions, cuts, copies and extreme numbers."""
    spoiled = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        source.choice(_CHANGES)(source, spoiled)
    return bytes(spoiled)


def _flip(source: random.Random, data: bytearray) -> None:
    if data:
        data[_place(source, data)] ^= 1 << source.randrange(8)


def _replace(source: random.Random, data: bytearray) -> None:
    if data:
        data[_place(source, data)] = source.randrange(256)


def _insert(source: random.Random, data: bytearray) -> None:
    at = _place(source, data)
    data[at:at] = source.choice((source.randbytes(source.randint(1, 9)), source.choice(_TOKENS)))


def _delete(source: random.Random, data: bytearray) -> None:
    at = _place(source, data)
    del data[at : at + source.choice((1, 2, 4, 8, 60, 1000))]


def _truncate(source: random.Random, data: bytearray) -> None:
    del data[_place(source, data) :]


def _duplicate(source: random.Random, data: bytearray) -> None:
    at = _place(source, data)
    data[at:at] = data[at : at + source.choice((1, 4, 64, 1000))] * source.choice((1, 1, 20))


def _splice(source: random.Random, data: bytearray) -> None:
    """Copy one part over another."""
    at, other, length = _place(source, data), _place(source, data), source.choice((2, 8, 64, 500))
    data[at : at + length] = data[other : other + length]


def _swap(source: random.Random, data: bytearray) -> None:
    """The two parts on both sides of a place change theirs."""
    at = _place(source, data)
    data[:] = data[at:] + data[:at]


def _number(source: random.Random, data: bytearray) -> None:
    """Write an extreme integer of 1, 2, 4 or 8 bytes."""
    code = source.choice(("<B", "<H", "<I", "<I", "<Q", ">I"))
    value = source.choice((*EXTREMES, *HUGE[:5], 2**64 - 1 - source.choice(EXTREMES)))
    at, packed = _place(source, data), struct.pack(code, value % 2 ** (8 * struct.calcsize(code)))
    data[at : at + len(packed)] = packed


_CHANGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_flip, _flip, _replace, _insert, _delete, _truncate, _duplicate, _splice, _swap, _number),
)


def _place(source: random.Random, data: bytearray) -> int:
    """A place in `data`; its start, where headers are, as often as all the rest."""
    limit = len(data) if source.random() < 0.5 else min(len(data), 80)
    return source.randrange(limit) if limit else 0


def spoil_json(source: random.Random, value: Any) -> bytes:
    """The JSON text of `value` after changes of its fields, and now and then of its letters."""
    try:
        spoiled = copy.deepcopy(value)
        for _ in range(source.choice((0, 1, 1, 1, 2, 3))):
            spoiled = spoil_value(source, spoiled)
        text = json.dumps(spoiled, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        text = b"[" * 20_000
    if source.random() < 0.1:
        text = _repeat_key(source, text)
    if source.random() < 0.05:
        text = text.decode().encode(source.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))
    return spoil_bytes(source, text) if source.random() < 0.25 else text


def spoil_value(source: random.Random, value: Any) -> Any:
    """`value` with one change at some place: another value, one less, one more, two swapped, or a deep nest."""
    places = list(_containers(value))
    if not places or source.random() < 0.02:
        return _strange(source)
    holder = source.choice(places)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return value
    key, act = source.choice(keys), source.randrange(7)
    if act == 0:
        del holder[key]
    elif act == 1:
        other = source.choice(keys)
        holder[key], holder[other] = holder[other], holder[key]
    elif act == 2 and isinstance(holder, dict):
        holder[source.choice(("", "\ud800", "../x", "/x", f"{key} ", "k" * 3000))] = holder[key]
    elif act == 3 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif act == 4:
        holder[key] = copy.deepcopy(source.choice(places))
    else:
        holder[key] = _strange(source)
    return value


def _strange(source: random.Random) -> Any:
    if source.random() < 0.15:
        return _nest(source.choice((5, 50, 200, 300, 320, 400, 480, 900, 5000)), source.random() < 0.5)
    return copy.deepcopy(source.choice(STRANGE))


def _nest(depth: int, as_list: bool) -> Any:
    nested: Any = 1
    for _ in range(depth):
        nested = [nested] if as_list else {"a": nested}
    return nested


def _containers(value: Any) -> list[Any]:
    """Every list and object in `value`, itself too."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (dict, list)):
            found.append(item)
            waiting += item.values() if isinstance(item, dict) else item
    return found


def _repeat_key(source: random.Random, text: bytes) -> bytes:
    """The text with a key of one of its objects there twice."""
    places = [place for place, byte in enumerate(text[:100_000]) if byte == ord("{")]
    if not places:
        return text
    at = source.choice(places) + 1
    end = text.find(b":", at)
    return text if end < 0 else text[:at] + text[at:end] + b":0," + text[at:]
