"""The plan against closed forms, the record's log and a simulation of the averages."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from golf.config.config import ScheduleConfig
from golf.config.presets import find_preset
from golf.config.schedule import Row, fit_to_seconds, lr_scale, make_plan, rows_digest, swa_snapshots


@st.composite
def schedules(draw: st.DrawFn) -> ScheduleConfig:
    """Schedules of up to 120 steps."""
    steps = draw(st.integers(1, 120))
    return ScheduleConfig(
        steps=steps,
        warmdown_start=draw(st.integers(0, steps - 1)),
        warmdown_shape=draw(st.sampled_from(["cosine", "linear"])),
        momentum_start=draw(st.floats(0, 0.99)),
        momentum_end=draw(st.floats(0, 0.99)),
        momentum_steps=draw(st.integers(1, 150)),
        qat_threshold=draw(st.none() | st.floats(0.001, 1)),
        averaging=draw(st.sampled_from(["ema", "swa", "none"])),
        ema_decay=draw(st.floats(0, 0.999)),
        swa_every=draw(st.integers(1, 60)),
    )


def test_the_records_log() -> None:
    """Catches a linear warmdown that is off by a step: the log says 0.1497 at step 6476 of 7000, QAT on there."""
    rows = make_plan(find_preset("pr598-log").schedule)
    assert round(rows[6476].lr_scale, 4) == 0.1497
    assert [rows[step].qat for step in (6475, 6476, 6999)] == [False, True, True]
    assert [rows[step].muon_momentum for step in (0, 750, 1500, 6999)] == pytest.approx([0.92, 0.955, 0.99, 0.99])


@given(schedule=schedules())
def test_linear_against_fractions(schedule: ScheduleConfig) -> None:
    """Catches a warmdown that starts or ends a step too soon, or is not a straight line."""
    steps, start = schedule.steps, schedule.warmdown_start
    linear = replace(schedule, warmdown_shape="linear")
    for step in range(steps):
        exact = min(Fraction(1), 1 - Fraction(step - start, steps - start))
        assert lr_scale(linear, step) == pytest.approx(float(exact), abs=1e-15)


@given(schedule=schedules())
def test_cosine_against_another_form(schedule: ScheduleConfig) -> None:
    """Catches a wrong phase or amplitude: 0.5 (1 + cos a) is cos^2(a / 2), here by a recurrence without cosines."""
    steps, start = schedule.steps, schedule.warmdown_start
    cosine = replace(schedule, warmdown_shape="cosine")
    turn = complex(math.cos(math.pi / (steps - start)), math.sin(math.pi / (steps - start)))
    point = 1 + 0j
    for step in range(steps):
        assert lr_scale(cosine, step) == pytest.approx(0.5 * (1 + point.real), abs=1e-12)
        if step >= start:
            point *= turn


@given(schedule=schedules())
def test_bounds_of_a_plan(schedule: ScheduleConfig) -> None:
    """Catches a rate above its peak or below zero, one that rises, a momentum outside its ends, QAT that goes off."""
    rows = make_plan(schedule)
    assert len(rows) == schedule.steps
    scales = [row.lr_scale for row in rows]
    assert all(0 < scale <= 1 for scale in scales)
    assert scales == sorted(scales, reverse=True)
    assert scales[: schedule.warmdown_start + 1] == [1.0] * (schedule.warmdown_start + 1)
    ends = sorted([schedule.momentum_start, schedule.momentum_end])
    assert all(ends[0] - 1e-15 <= row.muon_momentum <= ends[1] + 1e-15 for row in rows)
    assert all(0 <= row.average_weight <= 1 for row in rows)
    threshold = schedule.qat_threshold
    assert [row.qat for row in rows] == [threshold is not None and scale < threshold for scale in scales]


@given(
    steps=st.integers(1, 400),
    fraction=st.fractions(Fraction(1, 100), 1),
    least=st.fractions(0, 1),
    on=st.fractions(0, 1),
)
def test_fractions_of_the_steps(steps: int, fraction: Fraction, least: Fraction, on: Fraction) -> None:
    """Catches a warmdown that begins at another share, a floor that is added, a loop that is on too early or late."""
    schedule = ScheduleConfig(
        steps=steps,
        warmdown_fraction=float(fraction),
        warmdown_shape="linear",
        least_lr_scale=float(least),
        loop_start=float(on),
    )
    for step, row in enumerate(make_plan(schedule)):
        left = (1 - Fraction(step, steps)) / fraction
        assert row.lr_scale == pytest.approx(float(max(min(left, Fraction(1)), least)), abs=1e-12)
        if abs(Fraction(step, steps) - on) > Fraction(1, 10**9):
            assert row.looped == (Fraction(step, steps) > on)
        assert (row.lr_scale < 1) <= (step >= schedule.first_falling_step)


@given(steps=st.integers(1, 300), start=st.fractions(0, Fraction(99, 100)), end=st.fractions(0, 3))
def test_the_taper_of_the_decay(steps: int, start: Fraction, end: Fraction) -> None:
    """Catches a taper that jumps at its start, ends elsewhere, or gives an untapered plan another digest."""
    schedule = ScheduleConfig(steps=steps, warmdown_start=0, decay_taper_start=float(start), decay_taper_end=float(end))
    rows = make_plan(schedule)
    for step, row in enumerate(rows):
        along = max(Fraction(0), (Fraction(step, steps) - start) / (1 - start))
        assert row.decay_scale == pytest.approx(float(1 + (end - 1) * along), abs=1e-9)
    plain = make_plan(replace(schedule, decay_taper_start=None))
    assert (rows_digest(rows) == rows_digest(plain)) == all(row.decay_scale == 1 for row in rows)


def test_the_loop_of_the_record_begins_where_it_did() -> None:
    """Catches a rounding of 35 % of 4,550 steps to the wrong side; its rate is half at 64 % of them."""
    rows = make_plan(find_preset("pr1493").schedule)
    assert [row.looped for row in rows].index(True) == 1593
    assert rows[2912].lr_scale == pytest.approx(0.5)
    assert rows[0].looped is False


@given(schedule=schedules())
def test_momentum_rises_on_a_line(schedule: ScheduleConfig) -> None:
    """Catches a momentum that is late by a step or does not stay at its end."""
    for step, row in enumerate(make_plan(schedule)):
        start, end = Fraction(schedule.momentum_start), Fraction(schedule.momentum_end)
        exact = start + (end - start) * min(Fraction(1), Fraction(step, schedule.momentum_steps))
        assert row.muon_momentum == pytest.approx(float(exact), abs=1e-14)


def averaged(rows: tuple[Row, ...], weights: list[float], initial: float) -> float:
    """What the training loop makes of `weights` (after each step): it only knows the rows."""
    average = initial
    for row, weight in zip(rows, weights, strict=True):
        average += row.average_weight * (weight - average)
    return average


@given(schedule=schedules(), data=st.data())
def test_ema_is_the_moving_average(schedule: ScheduleConfig, data: st.DataObject) -> None:
    """Catches a decay applied the wrong way round, or an average that forgets the initial weights."""
    rows = make_plan(replace(schedule, averaging="ema"))
    weights = data.draw(st.lists(st.floats(-1, 1), min_size=len(rows), max_size=len(rows)))
    decay, count = schedule.ema_decay, len(rows)
    direct = decay**count * 0.7 + sum((1 - decay) * decay ** (count - 1 - s) * w for s, w in enumerate(weights))
    assert averaged(rows, weights, 0.7) == pytest.approx(direct, abs=1e-12)


@given(schedule=schedules(), data=st.data())
def test_swa_is_the_mean_of_its_snapshots(schedule: ScheduleConfig, data: st.DataObject) -> None:
    """Catches a snapshot that counts twice or not at all, one of the first half, or a trace of the initial weights."""
    schedule = replace(schedule, averaging="swa")
    rows, last = make_plan(schedule), schedule.steps - 1
    weights = data.draw(st.lists(st.floats(-1, 1), min_size=len(rows), max_size=len(rows)))
    taken = [s for s in range(len(rows)) if s >= schedule.steps // 2 and (last - s) % schedule.swa_every == 0]
    assert list(swa_snapshots(schedule)) == taken
    mean = sum(weights[step] for step in taken) / len(taken)
    assert averaged(rows, weights, 1e6) == pytest.approx(mean, abs=1e-8)


@given(schedule=schedules(), data=st.data())
def test_without_averaging_the_last_weights_are_it(schedule: ScheduleConfig, data: st.DataObject) -> None:
    """Catches an average that still moves where it is off."""
    rows = make_plan(replace(schedule, averaging="none"))
    weights = data.draw(st.lists(st.floats(-1, 1), min_size=len(rows), max_size=len(rows)))
    assert averaged(rows, weights, 0.7) == pytest.approx(weights[-1], abs=1e-15)


@given(schedule=schedules(), other=schedules(), averaging=st.sampled_from(["ema", "none"]))
def test_schedules_share_their_prefix(
    schedule: ScheduleConfig, other: ScheduleConfig, averaging: Literal["ema", "none"]
) -> None:
    """Catches a row that depends on what comes later: a sweep over warmdowns could not share the trained prefix."""
    other = replace(
        schedule,
        steps=other.steps,
        warmdown_start=other.warmdown_start,
        warmdown_shape=other.warmdown_shape,
        qat_threshold=other.qat_threshold,
    )
    first, second = (make_plan(replace(one, averaging=averaging)) for one in (schedule, other))
    shared = min(schedule.warmdown_start, other.warmdown_start)
    assert first[:shared] == second[:shared]


@given(schedule=schedules())
def test_swa_changes_nothing_but_the_average(schedule: ScheduleConfig) -> None:
    """Catches an averaging that reaches into the training: the live weights must be the same with each."""
    rows = [make_plan(replace(schedule, averaging=name)) for name in ("ema", "swa", "none")]
    for ema, swa, none in zip(*rows, strict=True):
        assert replace(ema, average_weight=0) == replace(swa, average_weight=0) == replace(none, average_weight=0)


@given(schedule=schedules(), seconds=st.floats(0.01, 1e5), step_seconds=st.floats(0.001, 10))
def test_as_many_steps_as_the_time_allows(schedule: ScheduleConfig, seconds: float, step_seconds: float) -> None:
    """Catches a run that is over its time or leaves a step unused, and a warmdown of another length."""
    assume(1 <= seconds / step_seconds < 10**6)
    fitted = fit_to_seconds(schedule, seconds, step_seconds)
    assert fitted.steps * step_seconds <= seconds * (1 + 1e-12)
    assert (fitted.steps + 1) * step_seconds >= seconds * (1 - 1e-12)
    warmdown = fitted.steps - fitted.warmdown_start
    assert warmdown == min(schedule.steps - schedule.warmdown_start, fitted.steps)
    assert replace(fitted, steps=schedule.steps, warmdown_start=schedule.warmdown_start) == schedule


@pytest.mark.parametrize(("seconds", "step_seconds"), [(0.1, 0.2), (0.0, 1.0), (-5.0, 1.0), (10.0, 0.0), (10.0, -1.0)])
def test_no_step_fits(seconds: float, step_seconds: float) -> None:
    """Catches a schedule of no steps, or an arithmetic error that says nothing."""
    with pytest.raises(ValueError, match="seconds"):
        fit_to_seconds(ScheduleConfig(), seconds, step_seconds)
