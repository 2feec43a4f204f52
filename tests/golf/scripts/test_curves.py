"""Points of curves in the published forms."""

import math

import pytest

from golf.scripts.curves import CurvePoints, curves_of, points_in


@pytest.mark.parametrize(
    ("line", "points"),
    [
        (
            "step:1000/20000 val_loss:2.1 val_bpb:1.25 train_time:75745ms step_avg:75.75ms",
            CurvePoints(1000, 20000, {"val_loss": 2.1, "val_bpb": 1.25}, 75.745),
        ),
        ("0/20000 val_loss: 9.0047 val_bpb: 3.4860", CurvePoints(0, 20000, {"val_loss": 9.0047, "val_bpb": 3.486})),
        ("step:10/20 train_loss:3.5", CurvePoints(10, 20, {"train_loss": 3.5})),
        ("10/20 train_loss: 3.5 train_time: 8.0m tok/s: 65", CurvePoints(10, 20, {"train_loss": 3.5}, 480.0)),
        ("1764600000.123 # step:10/20 train_loss:3.5", CurvePoints(10, 20, {"train_loss": 3.5})),
        ("[2026-04-01 10:00:00] step:10/20 train_loss:3.5", CurvePoints(10, 20, {"train_loss": 3.5})),
        ("iter 100: val_loss 3", None),
        ("iter 100: val_loss: 3e-1", CurvePoints(100, None, {"val_loss": 0.3})),
        ("final_int6_exact val_loss:2.02 val_bpb:1.2", None),
        ("sliding window 10/100 val_bpb:1.2", None),
        ("val_loss:2.0 at step:10/20", None),
        ("step:10/20 train_time:5ms", None),
        ("step:1/2 val_loss:1.2.3", None),
        ("step:1/2 val_loss:" + "1" * 3000, None),
    ],
)
def test_lines(line: str, points: CurvePoints | None) -> None:
    """Fault: a form is not read, or progress of something else passes for a curve."""
    assert points_in(line) == points


def test_a_curve_is_finite_and_has_each_step_once() -> None:
    """Fault: NaN, which no series holds; a line that console and file both have counts twice."""
    lines = ["step:1/9 train_loss:nan", "step:2/9 train_loss:2.5", "step:2/9 train_loss:2.5", "step:3/9 val_bpb:inf"]
    assert curves_of(lines) == {"train_loss": {2: (None, 2.5)}}
    found = points_in(lines[0])
    assert found is not None
    assert math.isnan(found.values["train_loss"])
