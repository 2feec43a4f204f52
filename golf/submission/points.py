"""The rules in Markdown: of each point what this folder shows of it, and what running showed.

A figure that the document has told already is not told again.
"""

import re
from collections.abc import Mapping
from typing import Any

from golf.compliance.points import FAILED, PASSED, POINTS, shown
from golf.submission.entry import Submission
from golf.submission.markdown import items, plain, table

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
    18: "attention is causal, adaptation follows the score",
    19: "`ttt` in `train_gpt.py`: a chunk is scored, then trained on",
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


def rules(submission: Submission, before: str) -> str:
    """Returns every point, its state where it was examined by running, and what this folder shows of it.

    Args:
        before: the document so far.
    """
    checks = [(run.seed, run.check) for run in submission.study.seeds if run.check is not None]
    parts = [] if checks else ["No point of the rules was examined by running: the study carries no check."]
    if checks:
        counts = [(seed, check.passed, check.remarks, check.failed, check.not_applicable) for seed, check in checks]
        rows = [[str(count) for count in row] for row in counts]
        parts.append(table(["seed", "passed", "remarks", "failed", "not applicable"], rows))
    failures = [
        f"seed {seed}, point {point.point} ({plain(point.title)}): {plain(point.why)}; {plain(shown(point.evidence))}"
        for seed, check in checks
        for point in check.points
        if point.state == FAILED
    ]
    failures += [f"seed {seed} was not checked: {plain(check.error)}" for seed, check in checks if check.error]
    parts += [items(failures)] if failures else []
    first = {point.point: point for point in checks[0][1].points} if checks else {}
    rows, text = [], "\n".join([before, *parts])
    for number, (_, title) in POINTS.items():
        point = first.get(number)
        state = "" if number in OF_ALL_SEEDS else "-" if point is None else point.state
        evidence = ""
        if point is not None and state == PASSED and number not in TOLD_ABOVE:
            evidence = _fresh(point.evidence, text)
        elif point is not None and state not in ("", PASSED, FAILED):
            evidence = point.why
        text += evidence
        rows.append([str(number), plain(title), plain(state), HERE.get(number, ""), plain(evidence)])
    whose = f"running seed {checks[0][0]}" if checks else "running"
    parts.append(table(["", "point", whose, "in this folder", "measured"], rows, (1, 2, 3, 4)))
    return "\n\n".join(parts)


def _fresh(evidence: Mapping[str, Any], text: str) -> str:
    """Returns the measured values whose figures the text does not hold yet."""
    known = set(figures(text))
    values = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in evidence.items()]
    return ", ".join(value for value in values if known.isdisjoint(figures(value)))


def figures(text: str) -> list[str]:
    """Returns the numbers of a text that are long enough to identify a quantity, without commas, and hashes."""
    plain_text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.findall(r"(?<![\w.])(?:\d+\.\d{3,}|\d{4,}|[0-9a-f]{12,})(?![\w]|\.\d)", plain_text)
