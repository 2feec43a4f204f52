"""The checklist's rows."""

import json
import math
from itertools import permutations

import pytest

from golf.compliance.points import (
    POINTS,
    check_from_plain,
    check_to_plain,
    failed,
    failures,
    not_applicable,
    passed,
    rows_of,
    summary_of,
    table_lines,
)


def test_every_point_has_one_row_and_the_worst_state_wins() -> None:
    """Fault: a failure is hidden by a later finding, or a point falls out of the table."""
    found = [
        passed(16, {"targets": 10}),
        failed(16, "3 targets were scored twice", {"twice": 3}),
        not_applicable(16, "nothing"),
    ]
    for order in permutations(found):
        rows = rows_of(order)
        assert [row.point for row in rows] == list(POINTS)
        assert failures(rows) == [16]
        row = rows[15]
        assert dict(row.evidence) == {"targets": 10, "twice": 3}
        assert row.why == "3 targets were scored twice"
    check = summary_of(rows_of(found))
    assert (check.passed, check.failed, check.not_applicable, check.failed_points) == (0, 1, 24, (16,))


def test_a_check_survives_its_json() -> None:
    """Fault: a ledger holds another check than was made, or JSON with NaN, which nothing else can read."""
    check = summary_of(rows_of([failed(16, "x", {"by seed": {42: (1, math.nan)}})]), error="broke down")
    text = json.dumps(check_to_plain(check), allow_nan=False)
    assert check_from_plain(json.loads(text)) == check
    assert check.points[15].evidence == {"by seed": {"42": [1, None]}}
    values = json.loads(text)
    values["points"][3]["state"] = 5
    with pytest.raises(ValueError, match=r"points\[3\]\.state"):
        check_from_plain(values)


def test_the_table_tells_every_number() -> None:
    """Fault: evidence is cut off."""
    text = "\n".join(table_lines(rows_of([failed(3, "over the cap", {"bytes": [17_000_000] * 30})])))
    assert text.count("17,000,000") == 30
    assert "over the cap" in text
    assert all(len(line) <= 120 for line in text.splitlines())
