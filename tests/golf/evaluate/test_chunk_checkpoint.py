"""Rungs that are killed or told to end: what was scored is not lost, and nothing of the bits changes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golf.config.config import ScheduleConfig
from golf.data.dataset import Dataset, open_dataset
from golf.pipeline.stages import RunFolder, measure, pack_trained, train_stage
from golf.runtime.process_group import ProcessGroup
from golf.runtime.tensors import read_stored, write_tensors
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.loop import Preempted
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[3]
CONFIG = replace(
    TINY,
    schedule=ScheduleConfig(steps=3, warmdown_start=1, momentum_steps=3, ema_decay=0.5),
    score=replace(TINY.score, chunk_tokens=64),
)
ALWAYS = CheckpointPolicy(seconds=0.0)
KILLED = """
import os, signal, sys
from pathlib import Path
from golf.data.dataset import open_dataset
from golf.runtime.process_group import Group
from golf.pipeline.stages import RunFolder, measure
from tests.golf.evaluate.test_chunk_checkpoint import ALWAYS, CONFIG

def event(curve, number, value):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

dataset, folder = open_dataset(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
for rung in ("sliding", "ttt"):
    child = os.fork()
    if not child:
        measure(CONFIG, dataset, folder, Group(), event, rung, saving=ALWAYS)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """Some hundred tokens to score."""
    return open_dataset(data)


@pytest.fixture(scope="module")
def calm(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose rungs nothing disturbed."""
    folder = RunFolder(tmp_path_factory.mktemp("calm"))
    train_stage(CONFIG, dataset, folder, ProcessGroup(), ignore)
    pack_trained(CONFIG, dataset, folder, ProcessGroup(), b"")
    for rung in ("sliding", "ttt"):
        assert len(measured(dataset, folder, rung)["chunks"]) > 6
    return folder


def ignore(curve: str, step: int, value: float) -> None:
    """Drop an event."""


def measured(dataset: Dataset, folder: RunFolder, rung: str, **more: Any) -> dict[str, Any]:
    """A rung's result as JSON has it."""
    result = measure(CONFIG, dataset, folder, ProcessGroup(), more.pop("event", ignore), rung, **more)
    return dict(json.loads(json.dumps(result)))


def copy_of(folder: RunFolder, place: Path) -> RunFolder:
    """The artifact alone, in another folder."""
    place.mkdir()
    (place / "artifact.golf").write_bytes(folder.file("artifact.golf").read_bytes())
    return RunFolder(place)


def at_call(number: int) -> Callable[[], bool]:
    """A notice that comes with the call of that number."""
    calls = iter(range(1, 10_000))
    return lambda: next(calls) >= number


def test_killed_rungs_go_on_with_the_same_bits(calm: RunFolder, dataset: Dataset, tmp_path: Path) -> None:
    """Fault: SIGKILL loses the rung, repeats a chunk that was saved, or loses momentum; the file stays for ever."""
    killed = copy_of(calm, tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, str(dataset.folder), str(killed.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for rung in ("sliding", "ttt"):
        spent = read_stored(killed.file(f"{rung}-begun.safetensors"))[1]["seconds"]
        seen: list[float] = []
        found = measured(dataset, killed, rung, event=lambda *point, seen=seen: seen.append(point[1]))
        wanted = measured(dataset, calm, rung)
        assert seen == list(range(2, len(wanted["chunks"])))
        for field in ("chunks", "bpb", "nats_per_token"):
            assert found[field] == wanted[field]
        assert found["seconds"] > spent
        assert found["seconds_before"] == 0.0
        assert not killed.file(f"{rung}-begun.safetensors").exists()


@pytest.mark.parametrize("rung", ["sliding", "ttt"])
def test_rungs_told_to_end_go_on(calm: RunFolder, dataset: Dataset, tmp_path: Path, rung: str) -> None:
    """Fault: a notice that loses the chunk, is asked for nothing, or breaks the screening's own result."""
    folder = copy_of(calm, tmp_path / "told")
    with pytest.raises(Preempted, match=r"1 chunks of .*screen\.safetensors"):
        measured(dataset, folder, rung, first_chunks=3, preemption=at_call(1))
    first = measured(dataset, folder, rung, first_chunks=3)
    assert folder.file(f"{rung}-screen.safetensors").exists()
    with pytest.raises(Preempted, match="5 chunks"):
        measured(dataset, folder, rung, preemption=at_call(2))
    found, wanted = measured(dataset, folder, rung), measured(dataset, calm, rung)
    assert found["chunks"] == wanted["chunks"]
    assert first["chunks"] == wanted["chunks"][:3]
    # What the screening told counts in both, what the notice cut short in the rung alone.
    assert first["seconds_before"] == 0.0
    assert found["seconds_before"] == first["seconds"] < found["seconds"]


def test_a_begun_rung_of_another_kind_is_not_taken(calm: RunFolder, dataset: Dataset, tmp_path: Path) -> None:
    """Fault: chunks under other settings become part of a figure; a bent file that is believed or not named."""
    folder = copy_of(calm, tmp_path / "other")
    with pytest.raises(Preempted):
        measured(dataset, folder, "sliding", preemption=at_call(3))
    other = replace(CONFIG, score=replace(CONFIG.score, stride=4))
    fresh = measure(other, dataset, copy_of(calm, tmp_path / "fresh"), ProcessGroup(), ignore, "sliding")
    path = folder.file("sliding-begun.safetensors")
    content = path.read_bytes()
    assert measure(other, dataset, folder, ProcessGroup(), ignore, "sliding")["chunks"] == fresh["chunks"]
    folder.file("sliding.json").unlink()
    path.write_bytes(content)
    tensors, plain = read_stored(path)
    for bent in ({"chunks": [[1.0, 2]]}, {"chunks": 3}, {"seconds": None}):
        write_tensors(path, tensors, plain | bent)
        with pytest.raises(ValueError, match=r"sliding-begun\.safetensors"):
            measured(dataset, folder, "sliding")
