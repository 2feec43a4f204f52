"""`golf-sweep status`: of a sweep that runs, that was killed, that ended."""

import time
from pathlib import Path

import msgspec
import pytest

from golf.config.presets import PRESETS
from golf.runtime.files import write_bytes, write_json
from tests.commands import tool
from tests.tune.entries import entry_of, scored
from tune.cli.progress import RunningTrial, SweepProgress
from tune.cli.status import StatusFile, read_status
from tune.cluster.sweep import only_driver
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.search.space import Trial
from tune.workloads.gepa.space import make_trial

status = tool("status")


def trial_of(seed: int) -> Trial:
    """A trial of the demo."""
    return make_trial(PRESETS["demo"], {"seed": seed}, "d")


def test_status_while_it_runs_and_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a running trial not shown, one that ended still running, a driver that was killed taken for a living one,
    or the sweep's lock held."""
    storage, words = Storage(tmp_path), ["s", "--storage", str(tmp_path)]
    Ledger(storage.ledger).append(scored(trial_of(1), 2.125))
    Ledger(storage.ledger).append(entry_of(trial_of(2), "failed", reason="out of memory"))
    for seed in (3, 4):
        write_json(storage.trial("s", trial_of(seed).trial) / "point.json", {"seed": seed})
    progress = SweepProgress(6, 1, [], lambda trial, curve, step: (f"training {step}/200", step / 200))
    file = StatusFile(storage.status("s"), progress)
    with only_driver(storage.sweep("s")), file:
        file.write()
        assert not storage.status("s").exists(), "another driver may have it"
        progress.begin(trial_of(3))
        progress.point(trial_of(3), "train_loss", 20, 3.0)
        file.write()
        assert status(words) == 0
        told = capsys.readouterr().out
        assert "s: running on" in told
        assert "2 of 6 trials ended | 1 finished | 1 failed | 1 running | best 2.1250 BPB" in told
        assert "training 20/200" in told
        assert "1 begun and not finished" in told
        assert trial_of(4).trial in told
        assert status(["--storage", str(tmp_path)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1
        left = read_status(storage.status("s"))
        assert left is not None
    assert not storage.status("s").exists()
    left.updated = time.time() - 7200
    write_bytes(storage.status("s"), msgspec.json.encode(left))
    assert status(words) == 0
    told = capsys.readouterr().out
    assert "was ended 2.0 h ago; the same command continues" in told
    assert "training" not in told
    assert "2 begun and not finished" in told
    assert "out of memory" in told


def test_what_is_left_goes_by_this_start_alone() -> None:
    """Fault: a trial that went on from a saved state seems to be done at once."""
    running = RunningTrial(name="x", started=0.0, fraction=0.6, first=(100.0, 0.5))
    assert running.seconds_left(200.0) == pytest.approx(400.0)
    assert RunningTrial(name="x", started=0.0).seconds_left(9.0) is None
    assert RunningTrial(name="x", started=0.0, fraction=0.5, first=(100.0, 0.5)).seconds_left(200.0) is None


def test_a_wrong_name_gets_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an empty table for a misspelt name."""
    assert status(["demo", "--storage", str(tmp_path)]) == 2
    assert "there is no sweep in" in capsys.readouterr().err
    Ledger(Storage(tmp_path).ledger).append(scored(trial_of(1), 2.0))
    Storage(tmp_path).sweep("demo").mkdir(parents=True)
    assert status(["dmeo", "--storage", str(tmp_path)]) == 2
    assert 'did you mean "demo"?' in capsys.readouterr().err
