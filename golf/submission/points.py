"""The table of the rules in a README: for each point what this folder shows of it, and what running showed.

A figure that the document holds already is not repeated.
"""

import re
from collections.abc import Iterator

from golf.compliance.points import FAILED, PASSED, POINTS, CheckResult, Evidence, shown

HERE = {
    1: "the folder's name and place",
    2: "the files beside this one; `train_gpt.py` runs alone",
    3: "Seeds, Sizes; `Total submission size` in each log",
    4: "every score from `quantised` on is of the artifact read back",
    5: "`code_sha256` in each log, Sizes",
    6: "submission.json is made from the same study as the table of seeds",
    7: "settings, data, device and versions at the head of each log",
    8: "Seeds; `train_time` in each log",
    9: "Seeds; `eval_time` in each log",
    10: "the head of this document; `device` in each log",
    11: "`train_gpt.py` opens no connection but that of its own processes",
    12: "Data; `train_loader` in each log",
    13: "Data; `val_loader` in each log",
    14: "`read_shard` in `train_gpt.py` refuses other headers and sizes",
    15: "`ByteTable` in `train_gpt.py`",
    16: "`make_windows` in `train_gpt.py`",
    17: "the loss is a cross-entropy over the whole vocabulary",
    18: "attention is causal, training follows the score",
    19: "`score_with_ttt` in `train_gpt.py`: a chunk is scored, then trained on",
    20: "training and packing are not given the validation tokens",
    21: "`ready_to_train` in `train_gpt.py` passes a range of numbers",
    22: "Architecture, Training: what is on",
    23: "`final_..._exact` at the end of each log",
    24: "the gain, above; Statistics",
    25: "Statistics",
}
"""Where this folder shows each point."""
OF_ALL_SEEDS = (1, 2, 5, 6, 7, 24, 25)
"""Points that no seed shows by itself."""
TOLD_ABOVE = (3, 8, 9, 10)
"""Points whose evidence is in the table of seeds."""


def rule_rows(check: CheckResult | None, text: str) -> Iterator[tuple[int, str, str, str, str]]:
    """Yields a row for every point.

    It has the point and its title, the state that running a seed showed (empty for what no seed shows by itself), where
    this folder shows the point, in Markdown, and what was measured.

    Args:
        check: that of the first seed that has one; None where none has.
        text: the document so far.
    """
    results = {} if check is None else {result.point: result for result in check.points}
    for point, (_, title) in POINTS.items():
        result, state, measured = results.get(point), "", ""
        if point not in OF_ALL_SEEDS:
            state = "-" if result is None else result.state
        if result is not None and state == PASSED and point not in TOLD_ABOVE:
            measured = _fresh(result.evidence, text)
        elif result is not None and state not in ("", PASSED, FAILED):
            measured = result.why
        text += measured
        yield point, title, state, HERE[point], measured


def _fresh(evidence: Evidence, text: str) -> str:
    """Returns the measured values whose figures the text does not hold yet."""
    known = set(figures(text))
    values = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in evidence.items()]
    return ", ".join(value for value in values if known.isdisjoint(figures(value)))


def figures(text: str) -> list[str]:
    """Returns the numbers of a text that are long enough to identify a quantity, without commas, and hashes."""
    plain_text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.findall(r"(?<![\w.])(?:\d+\.\d{3,}|\d{4,}|[0-9a-f]{12,})(?![\w]|\.\d)", plain_text)
