"""Rungs that are killed or preempted: what was scored is not lost, and no bit changes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from golf.config.config import ScheduleConfig
from golf.data.dataset import Dataset, open_dataset
from golf.pipeline.evaluation import measure
from golf.pipeline.pack_stage import pack_trained
from golf.pipeline.run_directory import RunDirectory
from golf.pipeline.stage_context import StageContext
from golf.pipeline.train_stage import train_stage
from golf.runtime.results import RungResult
from golf.runtime.tensors import read_stored, write_tensors
from golf.train.checkpoint_policy import CheckpointPolicy
from golf.train.hooks import Hooks
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
from golf.pipeline.evaluation import measure
from golf.train.hooks import Hooks
from tests.golf.evaluate.test_chunk_checkpoint import ALWAYS, run_in

def event(curve, number, value):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

run = run_in(Path(sys.argv[2]), open_dataset(Path(sys.argv[1])))
for rung in ("sliding", "ttt"):
    child = os.fork()
    if not child:
        measure(run, rung, Hooks(event=event, checkpoint_policy=ALWAYS))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """Some hundred tokens to score."""
    return open_dataset(data)


@pytest.fixture(scope="module")
def calm(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> StageContext:
    """A run whose rungs nothing disturbed."""
    run = run_in(tmp_path_factory.mktemp("calm"), dataset)
    train_stage(run)
    pack_trained(run, b"")
    for rung in ("sliding", "ttt"):
        assert len(measure(run, rung).chunks) > 6
    return run


def run_in(path: Path, dataset: Dataset) -> StageContext:
    """A run in a directory."""
    return StageContext(config=CONFIG, dataset=dataset, directory=RunDirectory(path))


def add_point(points: list[tuple[str, int, float]], curve: str, step: int, value: float) -> None:
    """Collects the points of the curves."""
    points.append((curve, step, value))


def scores(result: RungResult) -> tuple[object, ...]:
    """All of a result that does not depend on time."""
    return result.chunks, result.bpb, result.nats_per_token


def copy_of(run: StageContext, path: Path) -> StageContext:
    """A run with the same artifact alone in another directory."""
    path.mkdir()
    (path / "artifact.golf").write_bytes(run.directory.file("artifact.golf").read_bytes())
    return replace(run, directory=RunDirectory(path))


def at_call(number: int) -> Callable[[], bool]:
    """Returns a preemption check that is true from the call of that number on."""
    calls = iter(range(1, 10_000))
    return lambda: next(calls) >= number


@pytest.mark.long
def test_killed_rungs_go_on_with_the_same_bits(calm: StageContext, dataset: Dataset, tmp_path: Path) -> None:
    """Fault: SIGKILL loses the rung, repeats a chunk that was saved, or loses momentum; the file stays for ever."""
    killed = copy_of(calm, tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, str(dataset.folder), str(killed.directory.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for rung in ("sliding", "ttt"):
        begun = killed.directory.file(f"{rung}-begun.safetensors")
        spent = read_stored(begun)[1]["seconds"]
        seen: list[tuple[str, int, float]] = []
        result = measure(killed, rung, Hooks(event=partial(add_point, seen)))
        undisturbed = measure(calm, rung)
        assert [chunk for _, chunk, _ in seen] == list(range(2, len(undisturbed.chunks)))
        assert scores(result) == scores(undisturbed)
        assert result.seconds > spent
        assert result.seconds_before == 0.0
        assert not begun.exists()


@pytest.mark.parametrize("rung", ["sliding", "ttt"])
def test_preempted_rungs_continue(calm: StageContext, tmp_path: Path, rung: str) -> None:
    """Fault: a preemption that loses the chunk, is never asked for, or breaks the screening's own result."""
    run = copy_of(calm, tmp_path / "preempted")
    with pytest.raises(Preempted, match=r"1 chunks of .*screen\.safetensors"):
        measure(run, rung, Hooks(preemption=at_call(1)), first_chunks=3)
    first = measure(run, rung, first_chunks=3)
    assert run.directory.file(f"{rung}-3-screen.safetensors").exists()
    second = measure(run, rung, first_chunks=4)
    assert measure(run, rung, first_chunks=2).chunks == first.chunks[:2], "chunks beyond those that are asked for"
    with pytest.raises(Preempted, match="5 chunks"):
        measure(run, rung, Hooks(preemption=at_call(1)))
    result, undisturbed = measure(run, rung), measure(calm, rung)
    assert result.chunks == undisturbed.chunks
    assert (first.chunks, second.chunks) == (undisturbed.chunks[:3], undisturbed.chunks[:4])
    # The screenings' seconds count in all that follow, those before the preemption in the rung alone.
    assert first.seconds_before == 0.0
    assert second.seconds_before == first.seconds < second.seconds
    assert result.seconds_before == second.seconds < result.seconds


def test_a_begun_rung_of_another_kind_is_not_taken(calm: StageContext, tmp_path: Path) -> None:
    """Fault: chunks under other settings become part of a figure; a bent file that is believed or not named."""
    run = copy_of(calm, tmp_path / "other")
    with pytest.raises(Preempted):
        measure(run, "sliding", Hooks(preemption=at_call(3)))
    other = replace(CONFIG, score=replace(CONFIG.score, stride=4))
    fresh = measure(replace(copy_of(calm, tmp_path / "fresh"), config=other), "sliding")
    path = run.directory.file("sliding-begun.safetensors")
    content = path.read_bytes()
    assert measure(replace(run, config=other), "sliding").chunks == fresh.chunks
    run.directory.file("sliding.json").unlink()
    path.write_bytes(content)
    tensors, plain = read_stored(path)
    for bent in ({"chunks": [[1.0, 2]]}, {"chunks": 3}, {"seconds": None}):
        write_tensors(path, tensors, plain | bent)
        with pytest.raises(ValueError, match=r"sliding-begun\.safetensors"):
            measure(run, "sliding")
