"""Seconds of published records: whose work they are for, and what comes before them."""

from pathlib import Path
from typing import Any

import pytest

from golf.config.config import override_all, to_plain
from golf.config.presets import PRESETS
from tests.tune.entries import entry_of
from tune.planning.forecast import forecast
from tune.planning.published import PUBLISHED, PublishedTimings
from tune.planning.stage_timings import StageTimings
from tune.planning.text import format_forecast
from tune.records.entries import Device, WorldShape
from tune.workloads.gepa.workload import GepaWorkload


def workload_of(preset: str, ranks: int = 8, device: Any = "cuda", num_targets: int | None = None) -> GepaWorkload:
    """The workload of a preset on its record's stream."""
    targets = next((run.num_targets for run in PUBLISHED if run.preset == preset), 1000)
    return GepaWorkload(
        base=PRESETS[preset],
        preset=preset,
        data_directory=Path("nowhere"),
        data="ab" * 32,
        num_targets=num_targets or targets,
        world=WorldShape(ranks=ranks, cpus=1.0, device=device, threads=1),
    )


def seconds(preset: str, stage: str, changes: dict[str, Any] | None = None, **machines: Any) -> float | None:
    """What is published for a changed preset."""
    config = override_all(PRESETS[preset], changes or {})
    return PublishedTimings(workload_of(preset, **machines)).seconds(to_plain(config), stage)


def test_the_records_are_met() -> None:
    """Fault: a step's seconds multiplied by the wrong number, the loop's steps taken for plain ones."""
    assert seconds("pr598", "train", ranks=4) == pytest.approx(3490, rel=1e-3)
    assert seconds("pr598", "ttt", ranks=4) == 2194
    assert seconds("pr1493", "train") == pytest.approx(1593 * 0.096 + 2957 * 0.141)
    assert seconds("pr1493", "train", {"schedule.loop_start": 0.0}) == pytest.approx(4550 * 0.141)
    assert seconds("pr1493", "sliding") == 121


def test_scaling() -> None:
    """Fault: the price of one GPU for the seconds of eight; a short stream as dear as the record's."""
    assert seconds("pr1493", "ttt", ranks=1) == 8 * 367
    assert seconds("pr1493", "ttt", num_targets=4_054_016) == pytest.approx(36.7)
    steps = {"schedule.steps": 700, "schedule.warmdown_start": 350}
    assert seconds("pr598", "train", steps, ranks=4) == pytest.approx(349, rel=1e-3)


@pytest.mark.parametrize(
    ("preset", "stage", "changes"),
    [
        ("pr598", "train", {"model.num_layers": 12}),
        ("pr598", "train", {"batch.tokens_per_step": 393_216}),
        ("pr598", "ttt", {"score.stride": 32}),
        ("pr598", "ttt", {"ttt.epochs": 11}),
        ("pr1493", "ttt", {"ttt": None}),
        ("pr598", "sliding", {}),
        ("pr1493", "pack", {}),
        ("pr1394", "train", {}),
        ("demo", "train", {}),
    ],
)
def test_other_work_is_unknown(preset: str, stage: str, changes: dict[str, Any]) -> None:
    """Fault: seconds of another model, batch or scoring are passed off as this one's."""
    assert seconds(preset, stage, changes) is None


def test_a_search_over_rates_and_epochs_is_known() -> None:
    """Fault: the preset's own search has no forecast, as its trials are not the record's to the last digit."""
    assert seconds("pr598", "ttt", {"ttt.lr": 0.004, "ttt.epochs": 3}, ranks=4) == 2194
    assert seconds("pr598", "train", {"schedule.warmdown_shape": "linear", "seed": 7}, ranks=4) == pytest.approx(
        3490, rel=1e-3
    )
    assert seconds("pr598", "train", device="cpu") is None


def test_own_seconds_come_first() -> None:
    """Fault: a record's seconds stand in where finished trials, or the user, say otherwise."""
    workload, config = workload_of("pr598"), to_plain(PRESETS["pr598"])
    published = PublishedTimings(workload)
    device = Device(count=8, name="NVIDIA H100", kind="cuda")
    entry = entry_of(workload.trial({}), seconds={"train": 700.0}, device=device, workload="gepa", data="ab" * 32)
    timings = StageTimings(workload, [entry], {}, published.seconds)
    assert timings.seconds(config, "train") == pytest.approx(700)
    assert timings.seconds(config, "ttt") == 2194 / 2
    assert (timings.is_own(config, "train"), timings.is_own(config, "ttt")) == (True, False)
    assert StageTimings(workload, [entry], {"train": 1.0}, published.seconds).seconds(config, "train") == 7000


def test_what_is_shown() -> None:
    """Fault: a price without its source, or none at all because one small stage is unknown."""
    workload = workload_of("pr598")
    trial = workload.trial({})
    timings = StageTimings(workload, [], {}, PublishedTimings(workload).seconds)
    planned = forecast(workload, [trial], timings, lambda key: False)
    text = format_forecast(planned, 1, 3.0)
    [known] = [line for line in text.splitlines() if line.startswith("stages that are known")]
    assert known.split()[-5:][0] == "6.32"  # (3,490 + 2,194) s on 4 GPUs
    [note] = PublishedTimings(workload).notes(dict.fromkeys(("train", "ttt", "pack"), trial.config))
    assert note.startswith("seconds of train, ttt: published for 4 x A100 40GB (openai/parameter-golf PR #598)")
