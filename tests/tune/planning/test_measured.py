"""Seconds measured on this machine, what trials they are for, and the command that measures."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import RunConfig, override_all, to_plain
from golf.data.dataset import open_dataset
from golf.pipeline.machine_seconds import MachineSeconds, measure_machine
from golf.pipeline.step_budget import StepSeconds
from golf.runtime.files import write_json
from golf.runtime.process_group import ProcessGroup
from tests.conftest import TINY
from tune.cli.main import sweep as main
from tune.planning.measured import MeasuredTimings
from tune.records.entries import WorldShape
from tune.workloads.gepa.workload import GepaWorkload

BASE = replace(
    TINY, schedule=replace(TINY.schedule, steps=100, warmdown_start=50, warmdown_shape="linear", qat_threshold=0.2)
)
MEASURED = MachineSeconds(
    device="2 x device",
    steps=(StepSeconds(qat=False, looped=True, seconds=1.0), StepSeconds(qat=True, looped=True, seconds=2.0)),
    plain_seconds=3.0,
    sliding_seconds=10.0,
    ttt_seconds=14.0,
)
TIMINGS = MeasuredTimings(
    workload=GepaWorkload(
        base=BASE,
        preset="tiny",
        data_directory=Path("nowhere"),
        data="ab" * 32,
        num_targets=1000,
        world=WorldShape(ranks=2, cpus=1.0, device="cpu", threads=1),
    ),
    measured=MEASURED,
)


def seconds(stage: str, **changes: Any) -> float | None:
    """What is known of a changed configuration."""
    return TIMINGS.seconds(
        to_plain(override_all(BASE, {name.replace("__", "."): v for name, v in changes.items()})), stage
    )


def test_what_was_measured_and_what_follows() -> None:
    """Fault: a schedule without QAT as slow as one with it; TTT with three epochs as fast as with one."""
    num_qat = 9  # the scale falls from 1 at step 50 to below 0.2 at step 91
    assert seconds("train") == pytest.approx(100 + num_qat)
    assert seconds("train", schedule__qat_threshold=None) == 100
    assert seconds("train", schedule__steps=60, schedule__qat_threshold=None) == 60
    assert (seconds("live"), seconds("quantised"), seconds("sliding"), seconds("ttt")) == (3, 3, 10, 14)
    assert (seconds("ttt", ttt__epochs=3), seconds("ttt", ttt__lr=0.1)) == (22, 14)
    assert seconds("pack") is None
    assert seconds("train", model__num_layers=3) is seconds("ttt", score__stride=4) is None
    assert "--step-seconds 1.09 --stage-seconds live=3 ema=3 quantised=3 sliding=10 ttt=14" in TIMINGS.text()


def test_a_machine_is_measured(tiny: RunConfig, data: Path) -> None:
    """Fault: a kind of step or a way of scoring is not measured."""
    config = replace(tiny, schedule=replace(tiny.schedule, qat_threshold=0.5))
    measured = measure_machine(config, open_dataset(data), ProcessGroup())
    assert {step.qat for step in measured.steps} == {False, True}
    assert measured.ttt_seconds is not None
    assert (
        min(
            measured.plain_seconds,
            measured.sliding_seconds,
            measured.ttt_seconds,
            *(step.seconds for step in measured.steps),
        )
        > 0
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--address", "auto"], "without --address"),
        (["--dollars-per-gpu-hour", "3"], "needs a GPU for each"),
    ],
)
def test_what_cannot_be_measured(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Fault: the seconds of this CPU, with a price for GPUs or for a cluster's machines."""
    assert main([*command(tiny, data, tmp_path), *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_starts_no_sweep(
    tiny: RunConfig, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    """Fault: --calibrate runs trials, or its seconds are not those of the forecast."""
    assert main([*command(tiny, data, tmp_path), "--workers", workers]) == 0
    told = capsys.readouterr().out
    assert f"measured on {workers} x " in told
    found = re.search(r"--step-seconds (\S+)", told)
    trains = re.search(r"(?m)^training, CPU-hours +(\S+)", told)
    assert found
    assert trains
    assert float(trains[1]) == pytest.approx(12 * float(found[1]) * int(workers) / 3600, rel=0.02)
    assert not (tmp_path / "s" / "ledger.jsonl").exists()


def command(tiny: RunConfig, data: Path, folder: Path) -> list[str]:
    """Two trials of six steps."""
    write_json(folder / "tiny.json", to_plain(tiny))
    words = [str(folder / "tiny.json"), "--data", str(data), "--storage", str(folder / "s"), "--calibrate"]
    return [*words, "--search", "grid", "--space", "seed=1,2", "--no-screening"]
