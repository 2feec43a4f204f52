"""The checklist's rows."""

import json
from itertools import permutations

from golf.compliance.points import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    POINTS,
    Finding,
    failures,
    rows_of,
    table_lines,
    to_json,
)


def test_every_point_has_one_row_and_the_worst_state_wins() -> None:
    """Fault: a failure is hidden by a later finding, or a point falls out of the table."""
    found = [
        Finding(16, PASSED, {"targets": 10}),
        Finding(16, FAILED, {"twice": 3}, "3 targets were scored twice"),
        Finding(16, NOT_APPLICABLE, {}, "nothing"),
    ]
    for order in permutations(found):
        rows = rows_of(order)
        assert [row.point for row in rows] == list(POINTS)
        assert failures(rows) == [16]
        row = rows[15]
        assert dict(row.evidence) == {"targets": 10, "twice": 3}
        assert row.why == "3 targets were scored twice"
    told = to_json(rows_of(found))
    assert (told["passed"], told["failed"], told["not_applicable"]) == (0, 1, 24)
    assert json.loads(json.dumps(told)) == told


def test_the_table_tells_every_number() -> None:
    """Fault: evidence is cut off."""
    text = "\n".join(table_lines(rows_of([Finding(3, FAILED, {"bytes": [17_000_000] * 30}, "over the cap")])))
    assert text.count("17,000,000") == 30
    assert "over the cap" in text
    assert all(len(line) <= 120 for line in text.splitlines())
