"""Sentences of a README about runs that were made and are not reported."""

import re

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, 1)}
_N = rf"(\d{{1,3}}|{'|'.join(_NUMBERS)})"
_RUNS = r"(?:seeds?|runs?|trainings?|trials?)"
_MADE = r"(?:ran|run|trained|made|launched|tried|executed|done|with)"
_BEST = r"(?:best|top|lowest)"
_REPORTED = r"(?:report\w*|list\w*|select\w*|submit\w*|kept|keep|used|includ\w*|chosen|chose|pick\w*|averag\w*)"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_FEWER = (
    _pattern(rf"\b(?:{_BEST}|first) {_N} (?:of|out of|from) (?:the |all )?{_N} {_RUNS}\b"),
    _pattern(rf"\b{_N} {_BEST}\b[^.;]{{0,30}}\b(?:of|out of|from) (?:the |all )?{_N} {_RUNS}\b"),
)
"""The number that is reported, then the number that was made."""
_MORE = (
    _pattern(
        rf"\b{_N} {_RUNS}\b[^.;]{{0,30}}\b{_MADE}\b[^.]{{0,30}}?[;,:] (?:and )?(?:only )?(?:the mean of )?"
        rf"(?:the )?(?:{_BEST} )?{_N}\b[^.;]{{0,40}}\b{_REPORTED}\b"
    ),
    _pattern(rf"\b{_MADE} {_N} {_RUNS}\b.{{0,60}}?\b{_BEST} {_N}\b[^.;]{{0,40}}\b{_REPORTED}\b"),
    _pattern(rf"\b{_MADE} {_N} {_RUNS}\b[^.;]{{0,40}}\b{_REPORTED} (?:the )?{_BEST} {_N}\b"),
)
"""The number that was made, then the number that is reported."""
_SELECTED = _pattern(rf"\bseeds?\b[^.;]{{0,60}}\b(?:select\w*|chosen|pick\w*) (?:out of|from) {_N} {_RUNS}\b")
_DROPPED = _pattern(
    r"\bseeds?\b(?:[^.;]|\.\d){0,80}"
    r"\b(?:dropped|excluded|discarded|omitted|left out|not reported|not included|not part of)\b"
)
_OTHER_WORK = _pattern(r"baseline|previous|prior|tun(?:e|ing)\b|search|sweep|ablat|@\w|PR ?#|hyper")


def left_out(text: str, known: set[int]) -> list[str]:
    """Returns sentences that say that more runs were made than are reported.

    Args:
        text: of the README, or of other prose.
        known: the seeds that are listed or have a log.
    """
    sentences = []
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z*`#|-])|\n\s*\n|\n(?=[-*#|])", text[:200_000]):
        plain = " ".join(sentence.split())[:600]
        if _OTHER_WORK.search(plain):
            continue
        if _reports_fewer(re.sub(r"\([^)]*\)", "", plain).replace("*", ""), len(known)) or _drops(plain, known):
            sentences.append(plain[:160])
    return sentences


def _reports_fewer(text: str, known: int) -> bool:
    """Returns whether a sentence counts more runs than are known, of which fewer are reported."""
    text = " ".join(text.split())
    pairs = [(match[1], match[2]) for pattern in _FEWER if (match := pattern.search(text))]
    pairs += [(match[2], match[1]) for pattern in _MORE if (match := pattern.search(text))]
    selected = _SELECTED.search(text)
    made = [_number(more) for fewer, more in pairs if _number(fewer) < _number(more)]
    made += [] if selected is None else [_number(selected[1])]
    return any(number > known for number in made)


def _drops(text: str, known: set[int]) -> bool:
    """Returns whether a sentence names seeds that were dropped and that are not known."""
    match = _DROPPED.search(text)
    if match is None:
        return False
    seeds = {int(number) for number in re.findall(r"(?<![\d.#-])\d{1,5}(?![\d.%-])", match[0])}
    return bool(seeds - known)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text.lower()]
