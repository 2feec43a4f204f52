"""Metrics that a user names."""

import math
from pathlib import Path

import pytest

from golf.scripts.metrics import in_line, parse_metric, value_of

HERE = Path()


def test_the_last_match_counts() -> None:
    """Fault: the first of several values, in a log or in a line, passes for the result."""
    metric = parse_metric(r"core=core: ([\d.]+)")
    assert value_of(metric, ["core: 0.1", "core: 0.2 then core: 0.3", "nothing"], HERE) == 0.3
    assert value_of(metric, ["none"], HERE) is None


def test_alternatives_and_commas() -> None:
    """Fault: the group of the second alternative, or a number with commas, is not read."""
    metric = parse_metric(r"bytes=size ([\d,]+)|total=([\d,]+)")
    assert in_line(metric, "total=15,000,000") == 15e6
    assert in_line(metric, "size 7") == 7


def test_json_lines() -> None:
    """Fault: a key is missed in a nested object, or a line that is no object ends the reading."""
    metric = parse_metric("loss=json:eval.loss")
    lines = [
        '{"eval": {"loss": 2}}',
        'log {"eval": {"loss": "1.5"}}',
        '{"eval": 3}',
        "{broken",
        '{"eval": {"loss": true}}',
    ]
    assert value_of(metric, lines, HERE) == 1.5
    assert math.isnan(value_of(metric, ['{"eval": {"loss": NaN}}'], HERE) or 0.0)
    assert value_of(metric, ["[" * 9000], HERE) is None


def test_files(tmp_path: Path) -> None:
    """Fault: the first line of a .jsonl counts, or a file outside the working directory is read."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/m.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"b": 3}\n')
    (tmp_path / "m.json").write_text('{\n "a": {"b": 4}\n}')
    assert value_of(parse_metric("x=file:out/m.jsonl:a"), [], tmp_path) == 2
    assert value_of(parse_metric("x=file:m.json:a.b"), [], tmp_path) == 4
    assert value_of(parse_metric("x=file:gone.json:a"), [], tmp_path) is None
    for path in ("/etc/x:a", "../m.json:a", "m.json"):
        with pytest.raises(ValueError, match="below the working directory"):
            parse_metric(f"x=file:{path}")


@pytest.mark.parametrize("text", ["x", "x=", "=a(b)", "1x=(a)", "x=a", "x=(", "x=json:", "x=json:a..b", "x=file:a:"])
def test_what_is_no_metric_is_refused(text: str) -> None:
    """Fault: a metric that never has a value is taken."""
    with pytest.raises(ValueError, match="metric"):
        parse_metric(text)
